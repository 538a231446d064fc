//! The image store: what LXD keeps inside its daemon, as a library that any number of processes share.
//!
//! # Model
//!
//! A store holds *images*: immutable bytes named by their [`Fingerprint`](crate::Fingerprint), in
//! one file (unified) or two (split). Around the bytes it keeps a row: properties, visibility, an
//! expiry date, the source that newer versions come from. *Aliases* are names that point to an
//! image; a container's and a virtual machine's image may share one. Every change increases the
//! row's `revision`, and an [`ETag`] or a revision makes an edit conditional.
//!
//! ```
//! use lxd_image::Monitor;
//! use lxd_image::format::{ImageSource, Input};
//! use lxd_image::store::{Alias, Edit, ImportOptions, Store};
//! # use lxd_image::format::{PackOptions, Rootfs, pack};
//! # let dir = std::env::temp_dir().join(format!("lxd-image-store-front-{}", std::process::id()));
//! # std::fs::create_dir_all(dir.join("root/etc"))?;
//! # let metadata = lxd_image::Metadata::new("x86_64", 1_700_000_000)?;
//! # let archive = dir.join("box.tar.zst");
//! # pack(&Rootfs::open(dir.join("root"))?, &archive, &PackOptions::new(metadata), &Monitor::none())?;
//!
//! let store = Store::in_memory()?;
//! // Copied, hashed, verified, then visible: with its alias, in one step.
//! let options = ImportOptions::new().alias(Alias::new("debian/12")?).public(true);
//! let image = store.import(ImageSource::unified(Input::open(&archive)?), &options, &Monitor::none())?;
//!
//! // An edit may be conditional on what was read before.
//! let edited = store.edit(&image.fingerprint, &Edit::new().public(false), Some(&image.etag()))?;
//! assert_eq!(edited.revision, image.revision + 1);
//!
//! // Readers keep their bytes, even when the image is deleted meanwhile.
//! let opened = store.open_image(&store.resolve("debian/12")?.fingerprint)?;
//! store.delete(&image.fingerprint)?;
//! assert_eq!(opened.open(&lxd_image::Limits::default())?.metadata()?.architecture(), "x86_64");
//! # std::fs::remove_dir_all(&dir)?;
//! # Ok::<(), lxd_image::Error>(())
//! ```
//!
//! # Parts
//!
//! A [`Store`] contains the rules and stands on three parts, which [`StoreOptions::open_parts`] composes:
//!
//! - a [`BlobStore`] for the bytes, written once under keys that are never used again
//!   ([`DirectoryBlobs`], [`MemoryBlobs`]);
//! - a [`Catalog`] for the rows, changed in transactions that do database work only
//!   ([`SqliteCatalog`], [`MemoryCatalog`]);
//! - a local [`Scratch`] for uploads: bytes are hashed and verified there before any of them can be seen.
//!
//! [`StoreOptions::open`] composes the parts of a directory store; `LAYOUT.md` describes its files.
//! The module `conformance` (a feature of that name) has a suite of tests that every implementation
//! of a blob store or a catalog must pass.
//!
//! # Data flow
//!
//! 1. *Stage* (`stage`): copy into scratch, hash, verify as an image. Nothing is visible.
//! 2. *Upload* (`upload`): note the objects in the catalog, create them as blobs, insert the row.
//!    The row alone makes an image visible: an object without a row does not exist for readers.
//! 3. *Reconcile* (`reconcile`): delete objects that no row names any more, and write sidecars.
//!    Runs after each change, when a store is opened, and may be interrupted at any point.
//!
//! # Invariants
//!
//! - A row never names an object that is missing. So objects are created before their row, and deleted after it.
//! - Every object is named by a row or by a note in the catalog, before it is created. So a crash
//!   leaves nothing that cannot be found without listing the blobs.
//! - A key is used once. So deleting an old object late can never destroy a newer upload of the same image.
//! - No lock and no transaction is held while bytes are read, hashed or copied.
//! - The catalog can be rebuilt: each image has a sidecar object with what its row says ([`Store::repair`]).

mod admission;
mod adopt;
mod alias;
mod blobs;
mod catalog;
mod check;
mod column;
#[cfg(feature = "conformance")]
pub mod conformance;
mod description;
mod edit;
mod examine;
mod export;
mod filter;
mod image;
mod import;
mod layers;
mod layout;
mod list;
mod lock;
mod migrate;
mod objects;
#[cfg(feature = "server")]
mod observed;
mod open;
mod owner;
#[cfg(feature = "server")]
mod parts;
mod prune;
mod publish;
mod random;
mod rebuild;
mod reconcile;
mod refresh;
mod repair;
mod reread;
mod resolve;
mod scratch;
#[cfg(any(feature = "object-store", feature = "postgres"))]
mod shared_runtime;
mod sidecar;
mod stage;
#[cfg(feature = "trust")]
mod statements;
mod upload;

pub use crate::source_protocol::Protocol;
pub use blobs::{
    Area, BlobKey, BlobStore, DirectoryBlobs, DirectoryFiles, Files, MemoryBlobs, MemoryFiles, NewFile, ObjectPart,
};
#[cfg(feature = "object-store")]
pub use blobs::{ObjectBlobs, ObjectOptions};
pub use catalog::{
    AliasPage, AliasQuery, Attachment, Catalog, Expected, ImagePage, ImageQuery, MAX_RECORD_BYTES, MemoryCatalog,
    Object, ObjectState, Order, Position, SharedRecord, SharedRecords, SqliteCatalog, Totals, Transaction,
};
#[cfg(feature = "postgres")]
pub use catalog::{PostgresCatalog, PostgresOptions};
pub use check::{CheckOptions, CheckReport, Finding, Unrepaired};
pub use column::{Column, size_text, time_text};
pub use description::StoreDescription;
pub use edit::Edit;
#[cfg(feature = "remote")]
pub(crate) use edit::SET_BY_SERVER;
pub use export::Exported;
pub use filter::{Filter, NearMiss};
pub use image::{Alias, AliasTarget, ETag, ImageObjects, StoredImage, UpdateSource};
pub use import::ImportOptions;
pub use layers::LayerTotals;
pub use migrate::MigrateReport;
#[cfg(feature = "server")]
pub(crate) use observed::{BackendMetrics, StoreMetrics};
pub use open::{OpenedImage, Store, StoreOptions};
#[cfg(feature = "server")]
pub(crate) use parts::{Appended, PartialUpload};
pub use prune::{PruneOptions, Pruned, Removed};
pub use publish::ImportSink;
pub use refresh::{Newest, RefreshOptions, RefreshSource, Refreshed};
#[cfg(feature = "remote")]
pub(crate) use resolve::edit_distance;
pub use scratch::{Scratch, StagedFile};
#[cfg(feature = "trust")]
pub use statements::Vouched;
