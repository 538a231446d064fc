//! The local image store: what LXD keeps inside its daemon, as files and a catalog that any number of
//! processes share. `LAYOUT.md` tells what is on the disk, and in which order it gets there.

mod adopt;
mod alias;
mod blobs;
mod catalog;
mod check;
mod column;
pub mod conformance;
mod edit;
mod examine;
mod export;
mod filter;
mod image;
mod import;
mod layout;
mod lock;
mod open;
mod prune;
mod publish;
mod rebuild;
mod refresh;
mod repair;
mod reread;
mod resolve;
mod settle;
mod sidecar;
mod stage;

pub use blobs::{Area, Blobs, DirectoryBlobs, StagedFile};
pub use catalog::{Catalog, SqliteCatalog, Transaction};
pub use check::{CheckOptions, CheckReport, Finding, Unrepaired};
pub use column::{Column, size_text, time_text};
pub use edit::Edit;
pub use export::{ExportOptions, Exported};
pub use filter::{Filter, NearMiss};
pub use image::{Alias, ETag, StoredImage, UpdateSource};
pub use import::ImportOptions;
pub use open::{OpenedImage, Store, StoreOptions};
pub use prune::{PrunePolicy, Pruned, Removed};
pub use refresh::{Newest, RefreshOptions, Refreshed, Upstream};
#[cfg(feature = "remote")]
pub(crate) use resolve::steps;
