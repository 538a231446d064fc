//! Uploads an image of a store to a server.
//!
//! Order: check trust, check all aliases, look whether the image is there, send it, point the aliases, delete images that lost
//! their last alias. Everything that can be refused is checked before the first byte is sent. The body is streamed from the
//! store; the server computes the digest itself, and its result is compared with the fingerprint.

use std::io::{self, Read};

use serde_json::json;

use super::Lxd;
use super::parts::Sent;
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::{Fingerprint, Hasher};
use crate::format::ImageType;
use crate::io::{Blob, ReadAt};
use crate::metadata::Properties;
use crate::omissions::Omitted;
use crate::progress::{Monitor, Phase};
use crate::protocol::escape::{query, segment};
use crate::protocol::multipart::Form;
use crate::protocol::rest::{self, Operation, upload};
use crate::remote::http::{Method, Request};
use crate::store::{Alias, Edit, OpenedImage, StoredImage};
use crate::trust::Envelope;

/// Uploads from this size on, in bytes, are in parts from the beginning. Smaller ones are only after a first try broke:
/// a server copies the bytes of parts once more.
const PARTS_FROM: u64 = 256 << 20;

/// Options of [`Lxd::upload`].
///
/// ```
/// use lxd_image::remote::UploadOptions;
/// use lxd_image::store::Alias;
///
/// let options = UploadOptions::new().alias(Alias::new("web/base")?).reuse_aliases(true).public(true);
/// # let _ = options;
/// # Ok::<(), lxd_image::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct UploadOptions {
    aliases: Vec<Alias>,
    copy_aliases: bool,
    reuse_aliases: bool,
    replace_images: bool,
    public: bool,
    properties: Properties,
    statements: Vec<Envelope>,
}

impl UploadOptions {
    /// A private copy without an alias.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an alias on the server.
    #[must_use]
    pub fn alias(mut self, alias: Alias) -> Self {
        self.aliases.push(alias);
        self
    }

    /// Whether it also gets the aliases that it has in the store.
    #[must_use]
    pub fn copy_aliases(mut self, yes: bool) -> Self {
        self.copy_aliases = yes;
        self
    }

    /// Whether aliases that are taken on the server move to it, instead of failing as `AlreadyExists`.
    #[must_use]
    pub fn reuse_aliases(mut self, yes: bool) -> Self {
        self.reuse_aliases = yes;
        self
    }

    /// Whether an image that loses its last alias to this one is deleted on the server.
    #[must_use]
    pub fn replace_images(mut self, yes: bool) -> Self {
        self.replace_images = yes;
        self
    }

    /// Sets a property, which takes precedence over that of the store.
    ///
    /// # Errors
    /// `InvalidInput` for a NUL in either text.
    pub fn property(mut self, key: impl Into<String>, value: impl Into<String>) -> Result<Self> {
        self.properties.set(key, value)?;
        Ok(self)
    }

    /// Sets the signed statements about the image, as [`Store::statements`](crate::store::Store::statements) has them, to be sent along.
    /// A server of this library keeps them, and its policy sees them; where the server is another one, that they are left out
    /// is recorded.
    #[must_use]
    pub fn statements(mut self, statements: Vec<Envelope>) -> Self {
        self.statements = statements;
        self
    }

    /// Whether untrusted clients may read it on the server.
    #[must_use]
    pub fn public(mut self, yes: bool) -> Self {
        self.public = yes;
        self
    }

    /// The aliases that the image gets on the server, each once.
    fn all_aliases(&self, image: &StoredImage) -> Vec<Alias> {
        let mut all = self.aliases.clone();
        for alias in image.aliases.iter().filter(|_| self.copy_aliases) {
            if !all.iter().any(|there| there.name == alias.name) {
                all.push(alias.clone());
            }
        }
        all
    }
}

impl Lxd {
    /// Copies an image of a store, with its properties, to this server, which must trust this client.
    ///
    /// An image that the server has already gets what the options ask for, and its bytes are not sent. A server of this
    /// library keeps what arrived of an upload that breaks: it goes on from there, also in a later call.
    ///
    /// # Errors
    /// `Remote` where the server does not trust this client, or refuses; `AlreadyExists` for an alias that is taken; `Mismatch` when another digest arrived;
    /// those of [`server`](Self::server); `Cancelled`.
    pub fn upload(&self, image: &OpenedImage, options: &UploadOptions, monitor: &Monitor) -> Result<()> {
        let about = image.image();
        let server = self.trusting_server(monitor)?;
        let has = |extension: &str| server.api_extensions.iter().any(|name| name == extension);
        let takes_parts = has(upload::PARTS_EXTENSION);
        let takes_statements = takes_parts && has(upload::STATEMENTS_EXTENSION);
        if !takes_statements && !options.statements.is_empty() {
            let part = format!("{} statements", options.statements.len());
            let what = Omitted::Dropped { part: part.into(), reason: "the server keeps none".into() };
            monitor.omit(about.fingerprint.to_string(), what);
        }
        let aliases = options.all_aliases(about);
        let mut taken = Vec::new();
        for alias in &aliases {
            let there = self.alias(&alias.name, monitor)?;
            let here = there.as_ref().is_some_and(|there| there.target == about.fingerprint.to_string());
            if let Some(there) = there.as_ref().filter(|_| !here && !options.reuse_aliases) {
                let target: String = there.target.chars().take(12).collect();
                let sentence = format!("the alias `{}` is taken on {}: it points to {target}", alias.name, self.base);
                return Err(Error::new(ErrorKind::AlreadyExists, sentence).with_hint("`--reuse` moves it"));
            }
            taken.push(there);
        }
        match self.image(&about.fingerprint.to_string(), monitor) {
            Ok(there) if there.fingerprint != about.fingerprint => {
                return Err(self.wrong_image(&about.fingerprint.to_string(), &there.fingerprint));
            }
            Ok(there) => {
                if takes_statements {
                    self.post_statements(&about.fingerprint, &options.statements, monitor)?;
                }
                self.update_existing(&self.stored(&there, monitor)?, options, monitor)?;
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let ahead = if takes_statements { self.send_statements(&options.statements, monitor)? } else { None };
                self.send_image(image, options, takes_parts, ahead.as_ref(), monitor)?;
                about.omit_other(monitor, "an upload has no place for it");
                self.send_expiry(about, monitor);
            }
            Err(error) => return Err(error),
        }
        for (alias, taken) in aliases.iter().zip(&taken) {
            self.point_alias(alias, about, taken.is_some(), monitor)?;
        }
        if options.replace_images {
            for there in taken.iter().flatten() {
                self.remove_unaliased(there, about, monitor)?;
            }
        }
        Ok(())
    }

    /// Sets the expiry date of an image that was just uploaded, for which uploads have no header. The image is there by then, so
    /// a refusal is recorded as an omission and not an error.
    fn send_expiry(&self, image: &StoredImage, monitor: &Monitor) {
        let Some(seconds) = image.expires_at else { return };
        if let Err(error) = self.edit_image(image, &Edit::new().expires_at(Some(seconds)), monitor) {
            let part = format!("expiry date {}", crate::time::rfc3339(Some(seconds)));
            let what = Omitted::Dropped { part: part.into(), reason: error.message().to_owned().into() };
            monitor.omit(image.fingerprint.to_string(), what);
        }
    }

    /// Applies the options to an image that the server has already.
    fn update_existing(&self, there: &StoredImage, options: &UploadOptions, monitor: &Monitor) -> Result<()> {
        let mut edit = Edit::new();
        if options.public {
            edit = edit.public(true);
        }
        for (key, value) in options.properties.iter() {
            edit = edit.property(key, value)?;
        }
        let missing = options.properties.iter().any(|(key, value)| there.properties.get(key) != Some(value));
        if missing || options.public && !there.public { self.edit_image(there, &edit, monitor) } else { Ok(()) }
    }

    /// Deletes the image that an alias pointed to before, if it has no other one and is not to be kept.
    pub(super) fn remove_unaliased(&self, before: &rest::Alias, image: &StoredImage, monitor: &Monitor) -> Result<()> {
        if before.target == image.fingerprint.to_string() {
            return Ok(());
        }
        let loser = match self.image(&before.target, monitor) {
            Ok(loser) => self.stored(&loser, monitor)?,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        if !loser.aliases.is_empty() || loser.is_kept() {
            return Ok(());
        }
        self.delete_image(&loser, monitor)?;
        let reason = format!("its last alias on {} moved to another image", self.base);
        monitor.omit(loser.fingerprint.to_string(), Omitted::Removed { reason: reason.into() });
        Ok(())
    }

    /// Sends an image of a store to a server that need not trust this client: a client that it trusts prepared the upload and
    /// passed on its [`secret`](Self::secret) (mode `push` of `POST /1.0/images`).
    ///
    /// # Errors
    /// `InvalidInput` without a secret; `Remote` where the server refuses; `AlreadyExists`; `Mismatch` when another
    /// digest arrived; `Cancelled`.
    pub fn push(&self, image: &OpenedImage, monitor: &Monitor) -> Result<()> {
        if self.secret.is_none() {
            return Err(Error::invalid(format!("an image is sent to {} with a secret of its owner", self.base)));
        }
        self.send_image(image, &UploadOptions::new(), false, None, monitor)?;
        image.image().omit_other(monitor, "an upload has no place for it");
        Ok(())
    }

    /// Creates an alias, or moves one that exists.
    pub(super) fn point_alias(&self, alias: &Alias, image: &StoredImage, taken: bool, monitor: &Monitor) -> Result<()> {
        let target = image.fingerprint.to_string();
        let request = if taken {
            let url = self.base.join(&format!("1.0/images/aliases/{}", segment(&alias.name)))?;
            Request::new(Method::Put, &url).json(&json!({ "description": alias.description, "target": target }))
        } else {
            let kind = image.image_type.name();
            Request::new(Method::Post, &self.base.join("1.0/images/aliases")?)
                .json(&json!({ "name": alias.name, "description": alias.description, "target": target, "type": kind }))
        };
        self.send(request.monitor(monitor), "alias").map(|_| ())
    }

    /// Sends the bytes, as one file or as a form of two, and waits until the server has published the image.
    ///
    /// To a server that takes parts, large images are sent in parts, and smaller ones after the first try broke. `statements` is
    /// the name of an upload in parts that holds those about the image.
    fn send_image(
        &self,
        image: &OpenedImage,
        options: &UploadOptions,
        takes_parts: bool,
        statements: Option<&Fingerprint>,
        monitor: &Monitor,
    ) -> Result<()> {
        let about = image.image();
        let name = about.file_name.clone().unwrap_or_else(|| about.fingerprint.to_string());
        let body = UploadBody::of(image, &name);
        let mut headers = self.describe(about, &name, options)?;
        if let Some(statements) = statements {
            headers.extend(upload::header(upload::STATEMENTS).map(|header| (header, statements.to_string())));
        }
        let url = self.base.join("1.0/images")?;
        let request = || {
            let request = Request::new(Method::Post, &url);
            headers.iter().fold(request, |request, (name, value)| request.header(name, value))
        };
        let send_whole = || {
            let reader = ProgressReader::new(body.reader(0, body.len()), 0, body.len(), monitor);
            let whole = request().monitor(monitor).stream(body.content_type(), Some(body.len()), reader);
            let began = self.send(whole, "image")?;
            self.check_uploaded(&self.wait_for_operation(began, "image", monitor)?, &about.fingerprint)
        };
        if !(takes_parts && body.is_large()) {
            match send_whole() {
                Err(error) if takes_parts && error.is_transient() => {}
                done => return done,
            }
        }
        match self.send_in_parts(&about.fingerprint, &body, &request, monitor)? {
            Sent::Imported(done) => self.check_uploaded(&done, &about.fingerprint),
            Sent::Present(there) => {
                if statements.is_some() {
                    self.post_statements(&about.fingerprint, &options.statements, monitor)?;
                }
                self.update_existing(&self.stored(&there, monitor)?, options, monitor)
            }
            Sent::Unavailable => send_whole(),
        }
    }

    /// The headers that describe an image to be uploaded.
    fn describe(&self, about: &StoredImage, name: &str, options: &UploadOptions) -> Result<Vec<(String, String)>> {
        let mut all = about.properties.clone();
        for (key, value) in options.properties.iter() {
            all.set(key, value)?;
        }
        let properties = query(all.iter());
        let mut fields = vec![
            (upload::FINGERPRINT, about.fingerprint.to_string()),
            (upload::FILE_NAME, name.to_owned()),
            (upload::PUBLIC, options.public.to_string()),
            (upload::TYPE, about.image_type.name().to_owned()),
        ];
        if !properties.is_empty() {
            fields.push((upload::PROPERTIES, properties));
        }
        if let Some(secret) = &self.secret {
            fields.push((upload::SECRET, secret.clone()));
        }
        let spelled = |(field, value): (&str, String)| upload::header(field).map(|header| (header, value.clone()));
        Ok(fields.into_iter().flat_map(spelled).collect())
    }

    /// Compares the fingerprint that the server computed with the one that was sent.
    fn check_uploaded(&self, done: &Operation, sent: &Fingerprint) -> Result<()> {
        match done.metadata.get("fingerprint").and_then(serde_json::Value::as_str) {
            Some(found) if found != sent.to_string() => {
                let found: String = found.chars().take(64).collect();
                Err(Error::mismatch(&format!("the image that arrived on {}", self.base), sent.to_string(), found))
            }
            _ => Ok(()),
        }
    }
}

/// The body of an upload, of which any part can be read.
pub(super) struct UploadBody {
    content_type: String,
    pieces: Vec<Piece>,
}

enum Piece {
    /// What stands around the files of a form.
    Text(Vec<u8>),
    File(Blob),
}

impl Piece {
    fn len(&self) -> u64 {
        match self {
            Self::Text(text) => text.len() as u64,
            Self::File(file) => file.len(),
        }
    }
}

impl UploadBody {
    /// The file of a unified image, or a form with the two of a split one. `name` is that of the first file.
    fn of(image: &OpenedImage, name: &str) -> Self {
        let about = image.image();
        let (first, second) = image.files();
        let Some(second) = second else {
            return Self {
                content_type: "application/octet-stream".to_owned(),
                pieces: vec![Piece::File(first.clone())],
            };
        };
        // A boundary must not occur in the files. The digest of the fingerprint of the files can't be in them but by chance.
        let form = Form::new(Fingerprint::of(about.fingerprint.as_bytes()).to_string());
        let rootfs = if about.image_type == ImageType::VirtualMachine { "rootfs.img" } else { "rootfs" };
        let rootfs_name = about.rootfs_name.clone().unwrap_or_else(|| format!("{}.root", about.fingerprint));
        let pieces = vec![
            Piece::Text(form.head(true, "metadata", name)),
            Piece::File(first.clone()),
            Piece::Text(form.head(false, rootfs, &rootfs_name)),
            Piece::File(second.clone()),
            Piece::Text(form.tail()),
        ];
        Self { content_type: form.content_type(), pieces }
    }

    /// A text.
    pub(super) fn text(text: String) -> Self {
        Self { content_type: "application/json".to_owned(), pieces: vec![Piece::Text(text.into_bytes())] }
    }

    /// Whether it is worth being sent in parts at once.
    fn is_large(&self) -> bool {
        self.len() >= PARTS_FROM
    }

    /// A digest that is the same for the same bytes, so that another run of this program finds its upload. `image` stands
    /// for those of the files.
    pub(super) fn digest(&self, image: &Fingerprint) -> Fingerprint {
        let mut hasher = Hasher::new();
        hasher.update(image.as_bytes());
        for piece in &self.pieces {
            hasher.update(&piece.len().to_be_bytes());
            if let Piece::Text(text) = piece {
                hasher.update(text);
            }
        }
        hasher.finish()
    }

    pub(super) fn content_type(&self) -> &str {
        &self.content_type
    }

    /// The number of bytes.
    pub(super) fn len(&self) -> u64 {
        self.pieces.iter().fold(0, |sum, piece| sum.saturating_add(piece.len()))
    }

    /// Reads `length` bytes from `offset` on.
    pub(super) fn reader(&self, offset: u64, length: u64) -> Box<dyn Read + Send + '_> {
        let (mut skip, mut left) = (offset, length);
        let mut all: Box<dyn Read + Send + '_> = Box::new(io::empty());
        for piece in &self.pieces {
            let here = piece.len().saturating_sub(skip).min(left);
            if here > 0 {
                all = match piece {
                    Piece::Text(text) => Box::new(all.chain(text_from(text, skip, here))),
                    Piece::File(file) => Box::new(all.chain(file.reader_from(skip, here))),
                };
            }
            skip = skip.saturating_sub(piece.len());
            left -= here;
        }
        all
    }
}

/// A part of a text as a reader.
fn text_from(text: &[u8], start: u64, length: u64) -> &[u8] {
    let at = |place: u64| usize::try_from(place).map_or(text.len(), |place| place.min(text.len()));
    text.get(at(start)..at(start.saturating_add(length))).unwrap_or_default()
}

/// A reader that reports how much of a body was sent.
pub(super) struct ProgressReader<'a, R> {
    inner: R,
    done: u64,
    total: u64,
    monitor: &'a Monitor,
}

impl<'a, R: Read> ProgressReader<'a, R> {
    /// A reader that reports to the monitor; `done` bytes of `total` were sent before.
    pub(super) fn new(inner: R, done: u64, total: u64, monitor: &'a Monitor) -> Self {
        Self { inner, done, total, monitor }
    }
}

impl<R: Read> Read for ProgressReader<'_, R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(out)?;
        self.done = self.done.saturating_add(count as u64);
        self.monitor.report(Phase::Upload, self.done, Some(self.total))?;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn body_is_read_from_any_offset() {
        let text = |text: &str| Piece::Text(text.as_bytes().to_vec());
        let file = |text: &str| Piece::File(Blob::from(text.as_bytes().to_vec()));
        let pieces = vec![text("head"), file("metadata"), text(""), file("rootfs"), text("tail")];
        let body = UploadBody { content_type: String::new(), pieces };
        let whole = "headmetadatarootfstail";
        assert_eq!(body.len(), whole.len() as u64);
        for start in 0..whole.len() {
            for end in start..=whole.len() {
                let mut found = String::new();
                body.reader(start as u64, (end - start) as u64).read_to_string(&mut found).unwrap();
                assert_eq!(found, &whole[start..end]);
            }
        }
    }
}
