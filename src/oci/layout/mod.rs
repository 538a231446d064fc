//! [`Layout`]: an OCI image layout, in a directory or a tar. A bundle is one, and `skopeo` reads and writes it.

mod archive;
mod writer;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Read;
use std::path::Path;
use std::sync::OnceLock;

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use self::archive::Place;
pub use self::writer::LayoutWriter;
use super::digest::Digest;
use super::document::{Descriptor, Document, Index, parse, shorten};
use super::image::fetch;
use super::media_type;
use super::referrers::{fallback_tag, is_fallback_tag, is_or_may_be, referrer_entry};
use super::source::{BlobSource, RawDocument, Reference};
use crate::error::{Error, ErrorKind, Result};
use crate::format::Input;
use crate::io::{Blob, ReadAt};
use crate::limits::Limits;
use crate::progress::Monitor;
use crate::rooted::{Dir, is};

/// The name of an image in the index of a layout.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The name that containerd and `docker save` give, with the registry.
const CONTAINERD_NAME: &str = "io.containerd.image.name";
/// The file that marks a layout.
const MARKER: &str = "oci-layout";
/// The file that lists the images.
const INDEX: &str = "index.json";

/// The content of `oci-layout`.
#[derive(Serialize, Deserialize)]
struct Marker {
    #[serde(rename = "imageLayoutVersion")]
    version: String,
}

/// An OCI image layout to read from.
///
/// Blobs are verified as they are read, so a layout may come from anybody. Links in a directory are not followed.
///
/// ```no_run
/// use lxd_image::oci::Layout;
/// use lxd_image::{Limits, Monitor};
///
/// let layout = Layout::open("bundle.tar", &Limits::default(), &Monitor::none())?;
/// for entry in layout.entries() {
///     println!("{:?} {}", Layout::name_of(entry), entry.digest);
/// }
/// # Ok::<(), lxd_image::Error>(())
/// ```
#[derive(Debug)]
pub struct Layout {
    blobs: Blobs,
    index: Index,
    /// Manifests that say something about another one, by the fallback tag of that, once they were looked for.
    referrers: OnceLock<BTreeMap<String, Vec<Descriptor>>>,
}

/// Where the blobs are.
#[derive(Debug)]
enum Blobs {
    Directory(Dir),
    Tar { file: Blob, places: HashMap<Digest, Place> },
}

impl Layout {
    /// Opens a layout: a directory, or a tar that is not compressed.
    ///
    /// # Errors
    /// `NotFound`; `Malformed` for what is no layout; `Unsupported` for one of another version and for archives of
    /// `docker save` without an index; `LimitExceeded`; `Io`.
    pub fn open(path: impl AsRef<Path>, limits: &Limits, monitor: &Monitor) -> Result<Self> {
        let path = path.as_ref();
        let open = || {
            if path.is_dir() {
                let dir = Dir::open(path).map_err(|error| Error::io("the layout cannot be opened", error))?;
                return Self::directory(dir, limits);
            }
            let input = Input::open(path)?;
            let blob = input.as_blob().ok_or_else(|| {
                Error::invalid("a layout is a directory or a tar at rest, and this is a stream")
                    .with_hint("save it to a file first")
            })?;
            Self::tar(blob.clone(), limits, monitor)
        };
        open().map_err(|error| error.in_file(path))
    }

    /// Whether a path looks like a layout: a directory, or a tar, with a file `oci-layout`. Looks at the first members
    /// of a tar only.
    #[must_use]
    pub fn is_at(path: impl AsRef<Path>) -> bool {
        let path = path.as_ref();
        if path.is_dir() {
            return path.join(MARKER).is_file() && path.join(INDEX).is_file();
        }
        // Looked at before it is opened: opening a pipe may wait for its writer, and takes a reader away from it.
        path.is_file() && Input::open(path).is_ok_and(|input| input.as_blob().is_some_and(archive::looks_like_layout))
    }

    fn directory(dir: Dir, limits: &Limits) -> Result<Self> {
        let small = |name: &str| {
            let file = dir.open_file(name.as_bytes()).map_err(|error| {
                if is(&error, Errno::NOENT) {
                    Error::malformed(format!("this is no OCI layout: there is no `{name}`"))
                } else {
                    Error::io(format!("the layout's `{name}` cannot be opened"), error)
                }
            })?;
            read_small(file, name, limits)
        };
        check_marker(&small(MARKER)?, limits)?;
        let index = parse_index(&small(INDEX)?, limits)?;
        Ok(Self { blobs: Blobs::Directory(dir), index, referrers: OnceLock::new() })
    }

    /// Takes a tar that is at rest.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn tar(file: Blob, limits: &Limits, monitor: &Monitor) -> Result<Self> {
        let found = archive::scan(&file, limits, monitor)?;
        let small = |place: Option<Place>, name: &str| {
            let place = place.ok_or_else(|| {
                let error = Error::malformed(format!("this is no OCI layout: there is no `{name}`"));
                if found.docker {
                    error.with_hint(
                        "it is an archive of Docker: `skopeo copy docker-archive:FILE oci-archive:NEW` makes a layout of it",
                    )
                } else {
                    error
                }
            })?;
            read_small(file.reader_from(place.offset, place.size), name, limits)
        };
        check_marker(&small(found.marker, MARKER)?, limits)?;
        let index = parse_index(&small(found.index, INDEX)?, limits)?;
        Ok(Self { blobs: Blobs::Tar { file, places: found.blobs }, index, referrers: OnceLock::new() })
    }

    /// The entries of the layout's index: images, or indexes of images for several machines.
    #[must_use]
    pub fn entries(&self) -> &[Descriptor] {
        &self.index.manifests
    }

    /// The name that an entry has in the index, if any.
    #[must_use]
    pub fn name_of(entry: &Descriptor) -> Option<&str> {
        entry.annotation(REF_NAME).or_else(|| entry.annotation(CONTAINERD_NAME))
    }

    /// Whether an entry is no image, but an index of what says something about one.
    #[must_use]
    pub fn lists_referrers(entry: &Descriptor) -> bool {
        Self::name_of(entry).is_some_and(is_fallback_tag)
    }

    /// What says something about a manifest: the descriptors of the manifests whose subject it is, of one artifact type or
    /// of all. They are claims until they are read; those that don't say their type are among them.
    ///
    /// # Errors
    /// `Malformed`; `Mismatch` for a damaged layout; `LimitExceeded` for `oci_manifests`.
    pub fn referrers(
        &self,
        digest: &Digest,
        artifact_type: Option<&str>,
        limits: &Limits,
        monitor: &Monitor,
    ) -> Result<Vec<Descriptor>> {
        let all = self.all_referrers(limits, monitor)?.get(fallback_tag(digest)?.as_str());
        let wanted = |entry: &&Descriptor| artifact_type.is_none_or(|wanted| is_or_may_be(entry, wanted));
        Ok(all.into_iter().flatten().filter(wanted).cloned().collect())
    }

    /// What says something about manifests that are none of these: the fallback tag of each such manifest.
    ///
    /// # Errors
    /// As [`referrers`](Self::referrers).
    pub fn referrers_of_others(&self, images: &[Digest], limits: &Limits, monitor: &Monitor) -> Result<Vec<String>> {
        let known =
            images.iter().map(|digest| Ok(fallback_tag(digest)?.to_string())).collect::<Result<HashSet<_>>>()?;
        let all = self.all_referrers(limits, monitor)?;
        Ok(all.keys().filter(|tag| !known.contains(*tag)).cloned().collect())
    }

    /// All referrers: those that indexes under fallback tags list, and entries of the layout's own index that have a
    /// subject, as other tools write them.
    fn all_referrers(&self, limits: &Limits, monitor: &Monitor) -> Result<&BTreeMap<String, Vec<Descriptor>>> {
        if let Some(all) = self.referrers.get() {
            return Ok(all);
        }
        let (mut all, mut count) = (BTreeMap::<String, Vec<Descriptor>>::new(), 0_u64);
        for entry in self.entries() {
            monitor.check()?;
            let lists = Self::name_of(entry).filter(|_| Self::lists_referrers(entry));
            if lists.is_none() && entry.media_type != media_type::IMAGE_MANIFEST {
                continue;
            }
            let raw = fetch(self, entry, limits, monitor)?;
            let (tag, found) = match (lists, raw.document(limits)?) {
                (Some(tag), Document::Index(index)) => (tag.to_owned(), index.manifests),
                // An image whose name looks like such a tag is no list.
                (Some(_), Document::Manifest(_)) => continue,
                (None, Document::Manifest(manifest)) => match &manifest.subject {
                    Some(subject) => {
                        (fallback_tag(&subject.digest)?.to_string(), vec![referrer_entry(&raw.descriptor, &manifest)])
                    }
                    None => continue,
                },
                (None, Document::Index(_)) => continue,
            };
            count = count.saturating_add(found.len() as u64);
            if count > limits.oci_manifests {
                return Err(Error::limit("oci_manifests", limits.oci_manifests, "the number of referrers in a layout"));
            }
            let listed = all.entry(tag).or_default();
            listed.extend(found);
        }
        for listed in all.values_mut() {
            // One that is listed in both ways is one.
            let mut seen = HashSet::new();
            listed.retain(|entry| seen.insert(entry.digest));
        }
        Ok(self.referrers.get_or_init(|| all))
    }

    /// The entry of a name; without one, the only image.
    ///
    /// # Errors
    /// `NotFound`, with the names that are there; `Ambiguous` without a name where there are several entries, and for a
    /// name that several entries have.
    pub fn find(&self, name: Option<&str>) -> Result<&Descriptor> {
        let is_named = |entry: &&Descriptor| {
            let named = |key| entry.annotation(key) == name;
            match name {
                None => !Self::lists_referrers(entry),
                Some(_) => named(REF_NAME) || named(CONTAINERD_NAME),
            }
        };
        let names = || {
            let images = self.entries().iter().filter(|entry| !Self::lists_referrers(entry));
            let known: Vec<String> = images.filter_map(Self::name_of).take(32).map(shorten).collect();
            if known.is_empty() { "its images have no names".into() } else { format!("it has {}", known.join(", ")) }
        };
        let mut found = self.entries().iter().filter(is_named);
        let Some(first) = found.next() else {
            let wanted = name.map_or_else(|| "an image".into(), |name| format!("`{}`", shorten(name)));
            return Err(
                Error::new(ErrorKind::NotFound, format!("the layout does not have {wanted}")).with_hint(names())
            );
        };
        // Two names of one image are no ambiguity.
        if found.any(|other| other.digest != first.digest) {
            return Err(Error::new(ErrorKind::Ambiguous, "the layout has several images").with_hint(names()));
        }
        Ok(first)
    }
}

impl BlobSource for Layout {
    fn document(&self, reference: &Reference, limits: &Limits, monitor: &Monitor) -> Result<RawDocument> {
        let (digest, media_type) = match reference {
            Reference::Tag(tag) => {
                let entry = self.find(Some(tag.as_str()))?;
                (entry.digest, Some(entry.media_type.as_str()))
            }
            Reference::Digest(digest) => (*digest, None),
        };
        let unsized_descriptor = Descriptor::new(String::new(), digest, 0);
        let reader = self.blob(&unsized_descriptor, monitor)?;
        let bytes = read_small(reader, "the manifest", limits)?;
        RawDocument::verified(bytes, &Reference::Digest(digest), media_type, limits)
    }

    fn blob(&self, descriptor: &Descriptor, monitor: &Monitor) -> Result<Box<dyn Read + Send>> {
        monitor.check()?;
        let digest = descriptor.digest;
        let missing = || Error::new(ErrorKind::NotFound, format!("the layout does not have the blob {digest}"));
        match &self.blobs {
            Blobs::Directory(dir) => {
                let open = || {
                    let blobs = dir.child(b"blobs")?.child(digest.algorithm().as_bytes())?;
                    blobs.open_file(digest.hex().as_bytes())
                };
                let file = open().map_err(|error| {
                    if is(&error, Errno::NOENT) {
                        missing()
                    } else {
                        Error::io(format!("the blob {digest} of the layout cannot be opened"), error)
                    }
                })?;
                Ok(Box::new(file))
            }
            Blobs::Tar { file, places } => {
                let place = places.get(&digest).ok_or_else(missing)?;
                Ok(Box::new(file.reader_from(place.offset, place.size)))
            }
        }
    }
}

/// Reads a small file of the layout.
fn read_small(reader: impl Read, name: &str, limits: &Limits) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let most = limits.oci_document.saturating_add(1);
    reader.take(most).read_to_end(&mut bytes).map_err(|error| Error::io(format!("`{name}` cannot be read"), error))?;
    if bytes.len() as u64 > limits.oci_document {
        return Err(Error::limit("oci_document", limits.oci_document, format_args!("the size of `{name}` in bytes")));
    }
    Ok(bytes)
}

fn check_marker(bytes: &[u8], limits: &Limits) -> Result<()> {
    let marker: Marker = parse(bytes, "`oci-layout`", limits)?;
    if marker.version != "1.0.0" {
        let version = shorten(&marker.version);
        return Err(Error::unsupported(format!(
            "the layout has the version `{version}`, and only 1.0.0 is known here"
        )));
    }
    Ok(())
}

fn parse_index(bytes: &[u8], limits: &Limits) -> Result<Index> {
    match Document::parse(bytes, Some(media_type::IMAGE_INDEX), limits)? {
        Document::Index(index) => Ok(index),
        Document::Manifest(_) => Err(Error::malformed("`index.json` is a manifest, and no index")),
    }
}

/// Whether there are bytes at all where a tar says that a file is.
fn is_within(file: &Blob, place: &Place) -> bool {
    place.offset.checked_add(place.size).is_some_and(|end| end <= file.len())
}
