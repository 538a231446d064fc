//! Adds images to a tree: verified and published ([`TreeWriter::add`]), or as another list describes them
//! ([`TreeWriter::adopt`], for mirrors).

use super::deltas::AddedDelta;
use super::files::{Counted, Part, Staged};
use super::tree::TreeWriter;
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::{Fingerprint, Hasher};
use crate::format::{Container, Image, ImageSource, Input, VerifyOptions, VerifyReport};
use crate::metadata::{Architecture, Properties};
use crate::omissions::Omitted;
use crate::progress::Monitor;
use crate::protocol::simplestreams::{Publication, PublishedFile, RootKind, StreamImage};

/// Options of [`TreeWriter::add`].
///
/// ```no_run
/// use lxd_image::Monitor;
/// use lxd_image::format::ImageSource;
/// use lxd_image::simplestreams::{AddOptions, Tree};
///
/// let tree = Tree::create("/srv/www")?;
/// let options = AddOptions::new().alias("box")?.property("os", "Box")?.property("release", "1")?;
/// let added = tree.lock()?.add(ImageSource::open("box.tar.xz", None)?, &options, &Monitor::none())?;
/// println!("{} as {}", added.fingerprint, added.product);
/// # Ok::<(), lxd_image::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct AddOptions {
    aliases: Vec<String>,
    /// Negated, so that the derived default is right.
    no_default_alias: bool,
    properties: Properties,
    /// The key of the product, in place of the one made of the properties.
    product: Option<String>,
    expected: Option<Fingerprint>,
    delta_from: usize,
    statements: Vec<u8>,
}

impl AddOptions {
    /// An image with the alias `os/release/variant`, described by its own metadata.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an alias to the product of the image. Aliases belong to products, and mean their newest version.
    ///
    /// # Errors
    /// `InvalidInput` for an alias that is empty, holds a comma, a colon or a control character, or begins or ends with a space.
    pub fn alias(mut self, name: impl Into<String>) -> Result<Self> {
        let name = name.into();
        if name.is_empty() || name.trim() != name || name.contains([',', ':']) || name.chars().any(char::is_control) {
            let shown: String = name.chars().take(64).collect();
            return Err(Error::invalid(format!(
                "`{shown}` can't be an alias in a list: it is empty, or holds a comma, a colon, a control character or a blank at an end"
            )));
        }
        self.aliases.push(name);
        Ok(self)
    }

    /// Whether the product gets the alias `os/release/variant`; on by default.
    #[must_use]
    pub fn default_alias(mut self, yes: bool) -> Self {
        self.no_default_alias = !yes;
        self
    }

    /// Sets a property, which takes precedence over that of the image. `os` and `release` are required, `variant` is `default`
    /// unless it is set; a list has a place for a few others.
    ///
    /// # Errors
    /// `InvalidInput` for a NUL in either text.
    pub fn property(mut self, key: impl Into<String>, value: impl Into<String>) -> Result<Self> {
        self.properties.set(key, value)?;
        Ok(self)
    }

    /// Sets the key of its product, which is `OS:RELEASE:VARIANT:ARCHITECTURE` otherwise.
    ///
    /// # Errors
    /// `InvalidInput` for an empty key and one with a control character.
    pub fn product_name(mut self, key: impl Into<String>) -> Result<Self> {
        let key = key.into();
        if key.trim().is_empty() || key.chars().any(char::is_control) {
            return Err(Error::invalid("the name of a product can't be empty, and has no control characters"));
        }
        self.product = Some(key);
        Ok(self)
    }

    /// The fingerprint that the image must have; another one fails as `Mismatch`.
    #[must_use]
    pub fn expected_fingerprint(mut self, fingerprint: Fingerprint) -> Self {
        self.expected = Some(fingerprint);
        self
    }

    /// From how many older versions of its product deltas of the rootfs are made, the newest ones; none unless it is set. Clients
    /// that have such a version download the delta instead of the rootfs. SquashFS and qcow2 (`disk-kvm.img`) can have deltas.
    #[must_use]
    pub fn delta_from(mut self, versions: usize) -> Self {
        self.delta_from = versions;
        self
    }

    /// Sets the signed statements about the image, as a bundle of in-toto: JSON lines. They are published with it, in an
    /// item that other readers ignore. Whether they are about this image is for the caller to check.
    #[must_use]
    pub fn statements(mut self, bundle: impl Into<Vec<u8>>) -> Self {
        self.statements = bundle.into();
        self
    }

    /// From how many versions deltas are made.
    pub(super) fn delta_versions(&self) -> usize {
        self.delta_from
    }
}

/// The result of [`TreeWriter::add`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Added {
    /// The fingerprint of the image.
    pub fingerprint: Fingerprint,
    /// The key of its product, `OS:RELEASE:VARIANT:ARCHITECTURE`.
    pub product: String,
    /// The size of all its files in bytes, without deltas.
    pub size: u64,
    /// The deltas that were made of its rootfs.
    pub deltas: Vec<AddedDelta>,
}

impl TreeWriter {
    /// Verifies an image, stores its files under their digests, and adds it to the list. The two files of a split image may come in
    /// either order.
    ///
    /// # Errors
    /// `AlreadyExists` when it is listed; `InvalidInput` when it has no `os` or no `release`, and for a signed tree without a key
    /// ([`TreeOptions::sign_with`](super::TreeOptions::sign_with)); what
    /// [`Image::verify`] finds; `Mismatch`; `Cancelled`; `Io`. Nothing of it is listed then.
    pub fn add(&mut self, source: ImageSource, options: &AddOptions, monitor: &Monitor) -> Result<Added> {
        self.check_renewable()?;
        let limits = self.tree.options.limits.clone();
        let ImageSource { first, second } = source;
        let lengths = std::iter::once(&first).chain(&second).map(|input| input.probable_len());
        let total = lengths.reduce(|sum, length| sum.zip(length).map(|(a, b)| a.saturating_add(b))).flatten();
        let mut counted = Counted { whole: Hasher::new(), total, monitor };
        let one = self.stage("first", &first, &mut counted)?;
        let other = second.as_ref().map(|input| self.stage("second", input, &mut counted)).transpose()?;
        let opened = match (&other, &second) {
            (Some(staged), Some(input)) => ImageSource::split(one.input(&first)?, staged.input(input)?),
            _ => ImageSource::unified(one.input(&first)?),
        };
        let image = Image::open_with(opened, &limits)?;
        let found = self.verified(&image, options, monitor)?;
        // Opening found out which file is the metadata. If hashing in the given order gives another fingerprint, they came swapped.
        let in_order = other.is_none() || counted.whole.finish() == found.fingerprint;
        let container = image.containers().nth(1);
        drop(image);
        let (one, other) = match other {
            Some(other) if !in_order => (other, Some(one)),
            other => (one, other),
        };
        let metadata = found.metadata.ok_or_else(|| Error::malformed("the image has no metadata"))?;
        let architecture: Architecture = metadata.architecture().parse()?;
        let properties = properties(metadata.properties(), options, architecture)?;
        self.not_listed(&found.fingerprint)?;
        for (key, value) in options.properties.iter() {
            // Properties of the image itself are in its metadata file, so nothing is lost.
            if !is_listed(key) && metadata.properties().get(key) != Some(value) {
                let (part, reason) = (format!("property `{key}`"), "a list of products has no place for it");
                let what = Omitted::Dropped { part: part.into(), reason: reason.into() };
                monitor.omit(found.fingerprint.to_string(), what);
            }
        }
        let kind = container.map(kind_of);
        let (first, rootfs) = self.place_all(one, kind.zip(other), monitor)?;
        let mut publication = Publication::new(
            found.fingerprint,
            found.image_type,
            architecture,
            metadata.creation_date(),
            properties,
            first,
            rootfs,
        );
        if let Some(key) = &options.product {
            publication.product.clone_from(key);
        }
        if !options.no_default_alias {
            publication.aliases.push(default_alias(&publication.properties));
        }
        publication.aliases.extend(options.aliases.iter().cloned());
        if !options.statements.is_empty() {
            let input = Input::stream(std::io::Cursor::new(options.statements.clone()));
            let mut counted = Counted { whole: Hasher::new(), total: None, monitor };
            let staged = self.stage("statements", &input, &mut counted)?;
            publication.statements = Some(self.place(staged, Part::Statements, monitor)?);
        }
        let mut deltas = self.make_deltas(&publication, options, monitor)?;
        self.commit(|products| {
            products.publish(&publication)?;
            // In the same change, so that no client sees the image without them. A base may have been removed meanwhile.
            deltas.retain(|(base, file)| {
                products.publish_delta(&publication.product, &publication.fingerprint, base, file)
            });
            Ok(())
        })?;
        let deltas = deltas.into_iter().map(|(base_version, file)| AddedDelta { base_version, size: file.size });
        let deltas = deltas.collect();
        Ok(Added { fingerprint: found.fingerprint, product: publication.product, size: found.size, deltas })
    }

    /// Adds an image of another list as that list describes it: same product, version and aliases. `open` is called only if a file
    /// is missing here. Digests are checked; the image is not decoded, so that a mirror costs no more than the transfer.
    ///
    /// # Errors
    /// `Mismatch` when the bytes are not those of the fingerprint; those of `open`; `Cancelled`; `Io`. Nothing of it
    /// is listed then.
    pub fn adopt(
        &mut self,
        image: &StreamImage,
        monitor: &Monitor,
        open: impl FnOnce() -> Result<ImageSource>,
    ) -> Result<()> {
        let (first, rootfs) = match self.left_behind(image, monitor)? {
            Some(files) => files,
            None => {
                let source = open()?;
                let mut counted =
                    Counted { whole: Hasher::new(), total: Some(image.size()).filter(|size| *size > 0), monitor };
                let one = self.stage("first", &source.first, &mut counted)?;
                let other =
                    source.second.as_ref().map(|input| self.stage("second", input, &mut counted)).transpose()?;
                let found = counted.whole.finish();
                if found != image.fingerprint {
                    return Err(Error::mismatch("the fingerprint", image.fingerprint.to_string(), found.to_string()));
                }
                if other.is_some() != image.root_kind.is_some() {
                    return Err(Error::invalid("the list and the server differ on how many files the image has"));
                }
                self.place_all(one, image.root_kind.zip(other), monitor)?
            }
        };
        let publication = Publication::like(image, first, rootfs);
        self.commit(|products| products.publish(&publication))
    }

    /// Adds the statements about an image of another list, if the image is here and they are not. `open` is called only if their
    /// file is missing here. Returns whether they were added. They are not verified: whoever uses them does that.
    ///
    /// # Errors
    /// As [`adopt`](Self::adopt).
    pub fn adopt_statements(
        &mut self,
        image: &StreamImage,
        monitor: &Monitor,
        open: impl FnOnce() -> Result<Input>,
    ) -> Result<bool> {
        let Some(statements) = &image.statements else { return Ok(false) };
        let listing = self.tree.listing()?;
        let here = listing.images().iter().find(|here| here.fingerprint == image.fingerprint);
        let Some(here) = here else { return Ok(false) };
        let there = here.statements.as_ref().and_then(|there| there.sha256);
        if there.is_some() && there == statements.sha256 {
            return Ok(false);
        }
        let most = self.tree.options.limits.statements;
        if statements.size.is_some_and(|size| size > most) {
            return Err(Error::limit("statements", most, "a bundle of statements"));
        }
        let mut counted = Counted { whole: Hasher::new(), total: statements.size, monitor };
        let staged = self.stage("statements", &open()?, &mut counted)?;
        if let Some(expected) = statements.sha256.filter(|expected| *expected != staged.sha256) {
            let what = "the sha256 of the statements";
            return Err(Error::mismatch(what, expected.to_string(), staged.sha256.to_string()));
        }
        let file = self.place(staged, Part::Statements, monitor)?;
        let product = here.product.clone();
        self.commit(|products| Ok(products.publish_statements(&product, &image.fingerprint, &file)))
    }

    /// The files of an image, if all are here with the right bytes: left by an interrupted run, or shared with another image.
    fn left_behind(&self, image: &StreamImage, monitor: &Monitor) -> Result<Option<Placed>> {
        let part = if image.rootfs.is_some() { Part::Metadata } else { Part::Unified };
        let mut files = vec![(part, &image.first)];
        if let (Some(kind), Some(rootfs)) = (image.root_kind, &image.rootfs) {
            files.push((Part::Rootfs(kind), rootfs));
        }
        let mut found = Vec::new();
        let mut whole = Hasher::new();
        for (part, file) in files {
            let Some(sha256) = file.sha256 else { return Ok(None) };
            let path = part.path(&self.tree, &sha256)?;
            let there = || std::fs::metadata(self.tree.root.join(path.as_str())).ok().map(|about| about.len());
            let Some(size) = file.size.or_else(there) else { return Ok(None) };
            let published = PublishedFile::new(path, size, sha256);
            if !self.has(&published, monitor)? {
                return Ok(None);
            }
            let path = self.tree.root.join(published.path.as_str());
            super::files::read_whole(&path, &mut [&mut whole], monitor)?;
            found.push(published);
        }
        if whole.finish() != image.fingerprint {
            return Ok(None);
        }
        let mut found = found.into_iter();
        Ok(match (found.next(), image.root_kind.zip(found.next())) {
            (Some(first), rootfs) => Some((first, rootfs)),
            (None, _) => None,
        })
    }

    /// Verifies an image as strictly as a store does.
    fn verified(&self, image: &Image, options: &AddOptions, monitor: &Monitor) -> Result<VerifyReport> {
        let mut verify = VerifyOptions::new();
        if let Some(threads) = self.tree.options.threads {
            verify = verify.threads(threads);
        }
        let mut found = image.verify(&verify, monitor)?;
        if let Some(expected) = options.expected.filter(|expected| *expected != found.fingerprint) {
            return Err(Error::mismatch("the fingerprint", expected.to_string(), found.fingerprint.to_string()));
        }
        // As in a store: a missing template only matters when an instance is created.
        match found.findings.iter().position(|finding| finding.kind() != ErrorKind::NotFound) {
            Some(place) => Err(found.findings.swap_remove(place)),
            None => Ok(found),
        }
    }

    /// Fails if the tree lists this image already.
    fn not_listed(&self, fingerprint: &Fingerprint) -> Result<()> {
        let listing = self.tree.listing()?;
        if listing.images().iter().any(|image| image.fingerprint == *fingerprint) {
            return Err(Error::new(
                ErrorKind::AlreadyExists,
                format!("the tree lists the image {fingerprint} already"),
            ));
        }
        Ok(())
    }

    /// Moves all staged files of an image to their names.
    fn place_all(&self, first: Staged, rootfs: Option<(RootKind, Staged)>, monitor: &Monitor) -> Result<Placed> {
        let part = if rootfs.is_some() { Part::Metadata } else { Part::Unified };
        let first = self.place(first, part, monitor)?;
        let rootfs = match rootfs {
            Some((kind, staged)) => Some((kind, self.place(staged, Part::Rootfs(kind), monitor)?)),
            None => None,
        };
        Ok((first, rootfs))
    }
}

/// The files of an image at their names: the first, and the rootfs of a split image.
type Placed = (PublishedFile, Option<(RootKind, PublishedFile)>);

/// The kind of rootfs that a container format is in a list.
fn kind_of(container: Container) -> RootKind {
    match container {
        Container::SquashFs => RootKind::Squashfs,
        Container::Tar(_) => RootKind::Tar,
        Container::Qcow2 => RootKind::DiskKvm,
    }
}

/// Whether a list has a field for a property, or readers derive it from one.
fn is_listed(key: &str) -> bool {
    let listed = ["os", "release", "release_title", "release_codename", "variant", "version", "architecture", "label"];
    // LXD's client derives these from other fields.
    let made = ["serial", "type", "description"];
    listed.contains(&key) || made.contains(&key) || key.starts_with("requirements.")
}

/// The alias `os/release/variant`, without characters that a list can't hold.
fn default_alias(properties: &Properties) -> String {
    let part = |key: &str| properties.get(key).unwrap_or("default").replace([',', ':'], "_");
    format!("{}/{}/{}", part("os"), part("release"), part("variant"))
}

/// The properties of image and caller, completed with what every reader needs.
///
/// # Errors
/// `InvalidInput` without `os` or `release`: lists sort images by them, and no default would be right.
fn properties(own: &Properties, options: &AddOptions, architecture: Architecture) -> Result<Properties> {
    let mut all = own.clone();
    for (key, value) in options.properties.iter() {
        all.set(key, value)?;
    }
    for key in ["os", "release"] {
        if all.get(key).is_none_or(|value| value.trim().is_empty()) {
            return Err(Error::invalid(format!("the image has no property `{key}`, by which lists sort images"))
                .with_hint(format!("give one: --property {key}=NAME")));
        }
    }
    if all.get("variant").is_none_or(str::is_empty) {
        all.set("variant", "default")?;
    }
    if all.get("architecture").is_none_or(|name| name.parse().ok() != Some(architecture)) {
        all.set("architecture", architecture.debian_name())?;
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn aliases_are_names_that_a_list_can_hold() {
        for name in ["", " x", "a,b", "a:b", "a\nb"] {
            assert!(AddOptions::new().alias(name).is_err(), "{name:?}");
        }
        assert!(AddOptions::new().alias("debian/12").is_ok());
    }
}
