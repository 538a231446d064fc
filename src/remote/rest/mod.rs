//! `Lxd`: an LXD or Incus server as a remote, by its REST API.
//!
//! | file | holds |
//! |---|---|
//! | `mod.rs` | resolving and describing images; [`Remote`] |
//! | `calls.rs` | requests, envelopes, errors, operations that are waited for |
//! | `image_entry.rs` | one image in a response, read leniently |
//! | `split_export.rs` | downloads of an image in two files |
//! | `edit.rs`, `upload.rs`, `trust.rs` | changes, for which the server must trust this client |
//! | `parts.rs` | uploads that go on where they broke |
//!
//! The types of the wire are in [`protocol::rest`](crate::protocol::rest). Requests that only read are retried; requests that
//! change something are sent once, since a lost response doesn't tell whether they took effect; parts of an upload are the exception.

mod calls;
mod edit;
mod image_entry;
mod parts;
mod split_export;
#[cfg(feature = "trust")]
mod statements;
mod trust;
mod upload;

use std::collections::BTreeSet;
use std::fmt;

use serde_json::{Map, Value};

use super::http::{Client, ClientOptions, Request, Url};
use super::similar::is_similar;
use super::{Download, Protocol, Remote, Resolution, Wanted};
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::Fingerprint;
use crate::format::{ImageSource, ImageType};
use crate::metadata::{Architecture, Properties};
use crate::omissions::Omitted;
use crate::progress::{Cancel, Monitor};
use crate::protocol::escape::{query, segment};
use crate::protocol::{multipart, rest};
use crate::store::{Alias, StoredImage, UpdateSource};

pub use upload::UploadOptions;

/// Fields of an image that say something of the server, and mean nothing elsewhere: the project, and our servers' count of the
/// statements that they keep.
const OF_THE_SERVER: [&str; 2] = ["project", "statements"];
/// How many names the hint of an error lists.
const MAX_SUGGESTIONS: usize = 10;

/// An LXD or Incus server. Cheap to clone.
///
/// What it shows depends on the client: public images to everyone, all images to clients whose certificate
/// ([`ClientOptions::identity`]) it trusts, and one private image to a client with its [`secret`](Self::secret). A server with a
/// self-signed certificate is pinned by [`Trust::Pinned`](super::Trust::Pinned); if it shows another one later, requests fail as
/// `Remote`.
///
/// ```no_run
/// use lxd_image::Monitor;
/// use lxd_image::remote::{ClientOptions, Lxd, Remote, Wanted};
///
/// let server = Lxd::new(ClientOptions::new(), &"https://lxd.example:8443".parse()?)?;
/// println!("{}", server.resolve(&Wanted::new("debian/12"), &Monitor::none())?.fingerprint);
/// # Ok::<(), lxd_image::Error>(())
/// ```
#[derive(Clone)]
pub struct Lxd {
    client: Client,
    /// With a slash at its end, so that paths can be joined.
    base: Url,
    /// In PEM, to be recorded with images; empty for none.
    certificate: String,
    /// To be recorded with images.
    protocol: Protocol,
    /// Of a private image.
    secret: Option<String>,
    /// Which images the server has statements about, as far as it said so. Shared by clones.
    #[cfg(feature = "trust")]
    stated: std::sync::Arc<std::sync::Mutex<std::collections::BTreeMap<Fingerprint, bool>>>,
}

impl fmt::Debug for Lxd {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secret = self.secret.as_ref().map(|_| "***");
        f.debug_struct("Lxd").field("base", &self.base).field("secret", &secret).finish_non_exhaustive()
    }
}

impl Lxd {
    /// The server at a URL like `https://host:8443`. Nothing is sent yet.
    ///
    /// # Errors
    /// Those of [`Client::new`]; `InvalidInput` for a file.
    pub fn new(options: ClientOptions, base: &Url) -> Result<Self> {
        if base.host().is_empty() {
            return Err(Error::invalid(format!("{base} is a file, which no server stands behind")));
        }
        let (client, base) = (Client::new(options)?, base.directory());
        Ok(Self {
            client,
            base,
            certificate: String::new(),
            protocol: Protocol::Lxd,
            secret: None,
            #[cfg(feature = "trust")]
            stated: std::sync::Arc::default(),
        })
    }

    /// The server's certificate in PEM, to be recorded with images that come from here.
    #[must_use]
    pub fn certificate(mut self, pem: impl Into<String>) -> Self {
        self.certificate = pem.into();
        self
    }

    /// The protocol that is recorded with images from here: [`Protocol::Lxd`] unless it is set. Requests are the same for
    /// both.
    #[must_use]
    pub fn protocol(mut self, protocol: Protocol) -> Self {
        self.protocol = protocol;
        self
    }

    /// The secret of a private image, which its owner got from the server (`POST /1.0/images/FINGERPRINT/secret`). It is sent with
    /// every request for an image. On some servers it can be used only once.
    #[must_use]
    pub fn secret(mut self, text: impl Into<String>) -> Self {
        self.secret = Some(text.into());
        self
    }

    /// The URL of the server, with a slash at its end.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.base
    }

    /// The URL of an image, or of something below it, with the secret.
    fn image_url(&self, name: &str, below: &str) -> Result<Url> {
        let url = self.base.join(&format!("1.0/images/{}{below}", segment(name)))?;
        Ok(match &self.secret {
            Some(secret) => url.with_query(&query([("secret", &**secret)])),
            None => url,
        })
    }

    /// The description of an image by its fingerprint or a prefix.
    fn image(&self, name: &str, monitor: &Monitor) -> Result<rest::Image> {
        let found: serde_json::Value = self.object(&self.image_url(name, "")?, "image", monitor)?;
        let shown = image_entry::name(&found, 0);
        #[cfg(feature = "trust")]
        let is_stated = found["statements"].as_u64().is_some_and(|count| count > 0);
        let image = image_entry::image(found, &shown, monitor)
            .map_err(|error| error.context(format_args!("image {shown} of {}", self.base)))?;
        #[cfg(feature = "trust")]
        self.note_stated(image.fingerprint, is_stated);
        Ok(image)
    }

    /// The target of an alias; `None` if there is none that this client may see.
    fn alias(&self, name: &str, monitor: &Monitor) -> Result<Option<rest::Alias>> {
        // These can't be encoded: clients and proxies resolve `.` and `..` segments even if they are percent-encoded.
        if matches!(name, "" | "." | "..") {
            return Ok(None);
        }
        let url = self.base.join(&format!("1.0/images/aliases/{}", segment(name)))?;
        match self.object(&url, "alias", monitor) {
            Ok(alias) => Ok(Some(alias)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Describes an image of the server as a store does. Properties that a store refuses are left out and recorded.
    ///
    /// # Errors
    /// `Unsupported` for an unknown architecture or type.
    fn stored(&self, image: &rest::Image, monitor: &Monitor) -> Result<StoredImage> {
        let architecture: Architecture = image.architecture.parse().map_err(|error| {
            Error::unsupported(format!("the image {} is for a machine that is not known here", image.fingerprint))
                .with_source(error)
        })?;
        let known = ["", ImageType::Container.name(), ImageType::VirtualMachine.name()];
        if !known.contains(&&*image.image_type) {
            let shown: String = image.image_type.chars().take(128).collect();
            return Err(Error::unsupported(format!("its type, `{shown}`, is not known here")));
        }
        let mut stored = StoredImage::new(image.fingerprint, type_named(&image.image_type), architecture);
        stored.size = image.size;
        stored.created_at = image.created_at.unwrap_or(0);
        stored.uploaded_at = image.uploaded_at.unwrap_or(0);
        stored.last_used_at = image.last_used_at;
        stored.expires_at = image.expires_at;
        stored.public = image.public;
        stored.cached = image.cached;
        stored.auto_update = image.auto_update;
        stored.file_name = Some(image.filename.clone()).filter(|name| !name.is_empty());
        let mut properties = Properties::new();
        for (key, value) in &image.properties {
            if let Err(error) = properties.set(&**key, &**value) {
                let shown: String = key.chars().take(128).collect();
                let reason = error.message().to_owned();
                let what = Omitted::Dropped { part: format!("property `{shown}`").into(), reason: reason.into() };
                monitor.omit(image.fingerprint.to_string(), what);
            }
        }
        // LXD has fields for them since 6.8; in a store they are properties, as in an image's own metadata.
        for (key, value) in [("release_codename", &image.release_codename), ("release_title", &image.release_title)] {
            if !value.is_empty() && properties.get(key).is_none() && properties.set(key, &**value).is_err() {
                let what = Omitted::Dropped { part: format!("`{key}`").into(), reason: "it holds a NUL".into() };
                monitor.omit(image.fingerprint.to_string(), what);
            }
        }
        stored.original_properties = properties.clone();
        stored.properties = properties;
        stored.aliases =
            image.aliases.iter().map(|alias| Alias::told(alias.name.clone()).described(&*alias.description)).collect();
        stored.other = self.unknown_fields(image, monitor);
        if let Some(source) = &image.update_source {
            let from = UpdateSource::new(&*source.server, &*source.protocol, &*source.alias);
            stored.source = Some(from.certificate(&*source.certificate).image_type(type_named(&source.image_type)));
        }
        Ok(stored)
    }

    /// The fields of an image that are not known here and belong to it wherever it is. What is too large to keep is recorded.
    fn unknown_fields(&self, image: &rest::Image, monitor: &Monitor) -> Map<String, Value> {
        let belongs = |(key, value): &(&String, &Value)| !OF_THE_SERVER.contains(&key.as_str()) && !value.is_null();
        let fields: Map<String, Value> =
            image.other.iter().filter(belongs).map(|(key, value)| (key.clone(), value.clone())).collect();
        let most = self.client.limits().metadata;
        // A catalog keeps them with the row of the image, and every list shows them.
        if fields.is_empty() || Value::from(fields.clone()).to_string().len() as u64 <= most {
            return fields;
        }
        let what = Omitted::Dropped {
            part: "fields that are not known here".into(),
            reason: format!("they have more than the {most} bytes of the limit `metadata`").into(),
        };
        monitor.omit(image.fingerprint.to_string(), what);
        Map::new()
    }

    /// The image that an alias means, if type and architecture are the requested ones; else the image of `ALIAS/ARCHITECTURE`.
    fn for_architecture(&self, found: StoredImage, wanted: &Wanted, monitor: &Monitor) -> Result<StoredImage> {
        let right_type = found.image_type == wanted.image_type;
        if right_type && (wanted.architectures.is_empty() || wanted.architectures.contains(&found.architecture)) {
            return Ok(found);
        }
        // On servers with images for several architectures, these are the customary aliases of the others.
        for architecture in wanted.architectures.iter().filter(|_| right_type) {
            for name in [architecture.kernel_name(), architecture.debian_name()] {
                let name = format!("{}/{name}", wanted.reference);
                if let Some(alias) = self.alias(&name, monitor)? {
                    let other = self.stored(&self.image(&alias.target, monitor)?, monitor)?;
                    if other.architecture == *architecture && other.image_type == wanted.image_type {
                        return Ok(other);
                    }
                }
            }
        }
        let machines: Vec<_> = wanted.architectures.iter().map(ToString::to_string).collect();
        let shown: String = wanted.reference.chars().take(64).collect();
        let kind = wanted.image_type.name();
        let sentence = format!("{} has no image `{shown}` for {} ({kind})", self.base, machines.join(" or "));
        Err(Error::new(ErrorKind::NotFound, sentence).with_hint(format!(
            "it is there for {} ({})",
            found.architecture,
            found.image_type.name()
        )))
    }

    /// The image that an alias, a fingerprint or a prefix of one means on this server.
    fn find_image(&self, wanted: &Wanted, monitor: &Monitor) -> Result<StoredImage> {
        if wanted.fingerprint().is_none()
            && let Some(alias) = self.alias(&wanted.reference, monitor)?
        {
            let target: Fingerprint = alias.target.parse().map_err(|error| {
                let sentence = format!("{} says that an alias points to what is no image", self.base);
                Error::malformed(sentence).with_source(error)
            })?;
            let found = self.image(&target.to_string(), monitor)?;
            if found.fingerprint != target {
                return Err(self.wrong_image(&target.to_string(), &found.fingerprint));
            }
            return self.for_architecture(self.stored(&found, monitor)?, wanted, monitor);
        }
        let Some(prefix) = wanted.prefix() else { return Err(self.not_found(wanted, monitor)) };
        match self.image(prefix.as_str(), monitor) {
            Ok(found) if prefix.matches(&found.fingerprint) => self.stored(&found, monitor),
            Ok(found) => Err(self.wrong_image(prefix.as_str(), &found.fingerprint)),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(self.not_found(wanted, monitor)),
            Err(error) => Err(error),
        }
    }

    /// The error for a reference that means nothing here, with similar aliases as a hint.
    fn not_found(&self, wanted: &Wanted, monitor: &Monitor) -> Error {
        let shown: String = wanted.reference.chars().take(64).collect();
        let error = Error::new(ErrorKind::NotFound, format!("{} has no image `{shown}`", self.base));
        if !wanted.suggest {
            return error;
        }
        // Suggestions are best effort.
        let near: BTreeSet<String> = self
            .list(&Monitor::none().with_cancel(monitor.cancel().clone()))
            .unwrap_or_default()
            .into_iter()
            .flat_map(|image| image.aliases)
            .map(|alias| alias.name)
            .filter(|name| is_similar(name, &wanted.reference))
            .map(|name| name.chars().take(64).collect())
            .collect();
        if near.is_empty() {
            return error.with_hint("a private image is only seen by those whom the server trusts");
        }
        let near: Vec<_> = near.into_iter().take(MAX_SUGGESTIONS).collect();
        error.with_hint(format!("similar names: {}", near.join(", ")))
    }
}

/// The type of an image; servers that know only containers leave it empty.
fn type_named(name: &str) -> ImageType {
    if name == ImageType::VirtualMachine.name() { ImageType::VirtualMachine } else { ImageType::Container }
}

impl Remote for Lxd {
    fn source(&self) -> UpdateSource {
        let server = self.base.to_wire();
        UpdateSource::new(server.trim_end_matches('/'), self.protocol, "").certificate(&*self.certificate)
    }

    /// All images that this client may see. Those with an unknown architecture or an unusable description are left out and
    /// recorded by their fingerprints.
    fn list(&self, monitor: &Monitor) -> Result<Vec<StoredImage>> {
        let url = self.base.join("1.0/images")?.with_query("recursion=1");
        let entries: Option<Vec<serde_json::Value>> = self.object(&url, "list of images", monitor)?;
        let (mut images, mut seen) = (Vec::new(), BTreeSet::new());
        for (place, entry) in entries.unwrap_or_default().into_iter().enumerate() {
            let name = image_entry::name(&entry, place);
            let read = image_entry::image(entry, &name, monitor).and_then(|image| self.stored(&image, monitor));
            let reason = match read {
                Ok(image) if seen.insert(image.fingerprint) => {
                    images.push(image);
                    continue;
                }
                Ok(_) => "it is listed twice".to_owned(),
                Err(error) => error.message().to_owned(),
            };
            monitor.omit(name, Omitted::Skipped { reason: reason.into() });
        }
        Ok(images)
    }

    fn locate(&self, wanted: &Wanted, monitor: &Monitor) -> Result<Resolution> {
        self.find_image(wanted, monitor).map(Resolution::named)
    }

    #[cfg(feature = "trust")]
    fn evidence(&self, image: &StoredImage, monitor: &Monitor) -> Result<crate::trust::Evidence> {
        self.statements(&image.fingerprint, monitor)
    }

    fn open(&self, image: &StoredImage, monitor: &Monitor) -> Result<ImageSource> {
        let url = self.image_url(&image.fingerprint.to_string(), "/export")?;
        let answer = self.client.options().retry.run(monitor, || {
            let request = Request::get(&url).header("accept-encoding", "identity").monitor(monitor);
            self.checked(self.client.send(request)?, "image")
        })?;
        let stop = Cancel::new();
        match answer.header("content-type").filter(|kind| multipart::is_multipart(kind)).map(str::to_owned) {
            Some(kind) => split_export::open(answer, &kind, image.size, stop, monitor),
            None => {
                let mut download = Download::new(&self.client, &url).digest(image.fingerprint).monitor(monitor);
                if image.size > 0 {
                    download = download.max_size(image.size);
                }
                Ok(ImageSource::unified(download.open_response(answer, &stop)))
            }
        }
    }
}
