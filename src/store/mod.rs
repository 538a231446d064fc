//! The image store: what LXD keeps inside its daemon, as objects and a catalog that any number of processes share. `LAYOUT.md`
//! tells what a directory store is on disk, and in which order it gets there.
//!
//! A [`Store`] keeps the rules. It stands on three parts, which [`StoreOptions::open_parts`] composes: a [`BlobStore`] for bytes,
//! a [`Catalog`] for rows, and a local [`Scratch`] for what is on its way in. The module `conformance` (a feature of that name) has the
//! suites that every implementation of the first two passes.

mod adopt;
mod alias;
mod blobs;
mod catalog;
mod check;
mod column;
#[cfg(feature = "conformance")]
pub mod conformance;
mod edit;
mod examine;
mod export;
mod filter;
mod image;
mod import;
mod layout;
mod list;
mod lock;
mod objects;
mod open;
mod prune;
mod publish;
mod rebuild;
mod reconcile;
mod refresh;
mod repair;
mod reread;
mod resolve;
mod scratch;
mod sidecar;
mod stage;
mod upload;

pub use crate::source_protocol::Protocol;
pub use blobs::{
    Area, BlobKey, BlobStore, DirectoryBlobs, DirectoryFiles, Files, MemoryBlobs, MemoryFiles, NewFile, ObjectPart,
};
pub use catalog::{
    AliasPage, AliasQuery, Catalog, ImagePage, ImageQuery, MemoryCatalog, Object, ObjectState, Order, Position,
    SqliteCatalog, Totals, Transaction,
};
pub use check::{CheckOptions, CheckReport, Finding, Unrepaired};
pub use column::{Column, size_text, time_text};
pub use edit::Edit;
pub use export::{ExportOptions, Exported};
pub use filter::{Filter, NearMiss};
pub use image::{Alias, AliasTarget, ETag, ImageObjects, StoredImage, UpdateSource};
pub use import::ImportOptions;
pub use open::{OpenedImage, Store, StoreOptions};
pub use prune::{PruneOptions, Pruned, Removed};
pub use refresh::{Newest, RefreshOptions, RefreshSource, Refreshed};
#[cfg(feature = "remote")]
pub(crate) use resolve::edit_distance;
pub use scratch::{Scratch, StagedFile};
