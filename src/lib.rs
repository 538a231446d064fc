//! Read, verify, unpack, template and pack LXD and Incus images: no daemon, no helper programs.
//!
//! An *image* is a root file system with `metadata.yaml` and optional templates, in one archive
//! (*unified*) or two files (*split*), named by the sha256 of its bytes as stored: its *fingerprint*.
//!
//! ```
//! use lxd_image::format::{Image, PackOptions, Rootfs, ImageSource, UnpackOptions, VerifyOptions, pack};
//! use lxd_image::Metadata;
//!
//! # let dir = std::env::temp_dir().join(format!("lxd-image-doc-{}", std::process::id()));
//! # std::fs::create_dir_all(dir.join("root/etc"))?;
//! # std::fs::write(dir.join("root/etc/hostname"), "box\n")?;
//! // A tree becomes an image. The same tree gives the same bytes.
//! let metadata = Metadata::new("x86_64", 1_700_000_000)?;
//! let written = pack(&Rootfs::open(dir.join("root"))?, dir.join("box.tar.zst"), &PackOptions::new(metadata))?;
//!
//! // Opening looks at a few KiB; the metadata is read without unpacking anything.
//! let image = Image::open(ImageSource::open(dir.join("box.tar.zst"), None)?)?;
//! assert_eq!(image.metadata()?.architecture(), "x86_64");
//!
//! // One pass: hashed, decoded, checked and written. Nothing is visible unless the fingerprint matches.
//! let unpacked = image.unpack_verified(dir.join("c1"), &written.fingerprint, &UnpackOptions::new())?;
//! assert_eq!(std::fs::read_to_string(unpacked.path.join("rootfs/etc/hostname"))?, "box\n");
//!
//! // Or only look: what it holds, and every rule that it breaks.
//! assert!(image.verify(&VerifyOptions::new())?.findings.is_empty());
//! # std::fs::remove_dir_all(&dir)?;
//! # Ok::<(), lxd_image::Error>(())
//! ```
//!
//! Input is hostile by definition: anyone can publish an image, and most hosts unpack them as
//! root. `SECURITY.md` says what is promised; [`Limits`] holds every bound.
//!
//! | module | for |
//! |---|---|
//! | [`mod@format`] | images as files: open, verify, unpack, pack, convert |
//! | [`io`] | bytes at rest, whatever engine holds them: what a storage backend implements |
//! | [`metadata`] | `metadata.yaml`, in and out |
//! | `store` | images kept in a directory, with aliases and properties (feature `store`) |
//! | `remote` | images on servers: lists, aliases, downloads (feature `remote`) |
//! | `server` | a store served to LXD, Incus, other tools and people (feature `server`) |
//! | `simplestreams` | trees of static files that a web server makes an image server of (feature `simplestreams`) |
//! | [`templates`] | the template language in both dialects; [`templates::apply`] writes what an image makes anew for each instance |
//!
//! Codecs are features (`gzip`, `xz`, `zstd` by default; `bzip2`, `lz4`); one that is compiled out
//! gives [`ErrorKind::FeatureDisabled`], and the calls stay the same.
#![forbid(unsafe_code)]

mod atomic;
mod error;
mod fingerprint;
pub mod format;
pub mod io;
mod leftovers;
mod limits;
pub mod metadata;
mod omissions;
mod progress;
#[cfg(feature = "protocol")]
pub mod protocol;
mod redact;
#[cfg(feature = "remote")]
pub mod remote;
mod rooted;
#[cfg(any(feature = "remote", feature = "server"))]
mod self_signed;
#[cfg(feature = "server")]
pub mod server;
#[cfg(feature = "simplestreams")]
pub mod simplestreams;
#[cfg(any(feature = "store", feature = "protocol"))]
mod source_protocol;
#[cfg(any(feature = "store", feature = "simplestreams"))]
mod sparse;
#[cfg(feature = "store")]
pub mod store;
pub mod templates;
#[cfg(any(feature = "store", feature = "protocol"))]
mod time;

pub use error::{Error, ErrorKind, Escaped, Result, TemplatePlace, TemplateStage};
pub use fingerprint::{Fingerprint, Hasher, Prefix, VerifyingReader};
pub use limits::Limits;
pub use metadata::{Architecture, ImageType, Metadata, Properties, TemplateRule};
pub use omissions::{Omission, Omissions, Omitted};
pub use progress::{Cancel, Monitor, Phase, Progress, Update};
#[cfg(any(feature = "store", feature = "protocol"))]
pub use time::{parse_duration, parse_time};
