//! simplestreams: an index, lists of products, and the images that LXD and Incus see in them.
//!
//! ```text
//! index.json ──▶ Index ──▶ images.json ──▶ Products ──▶ Listing ──▶ StreamImage      reading
//!                          images.json ◀── Products ◀── Publication                  publishing
//! ```
//!
//! | file | holds |
//! |---|---|
//! | `document.rs`, `entries.rs` | the documents, with every field that is not known kept, and bad entries apart |
//! | `item.rs` | names of files, kinds of rootfs, paths that stay on the server |
//! | `choice.rs` | which items make an image, and which image an alias means, as LXD and Incus choose |
//! | `publish.rs` | how an image becomes entries that both find |
//! | `unusable.rs` | entries that no image is made of, and why |
//!
//! LXD reads items named `lxd.*`, Incus those named `incus.*`. Both are read here, and both are written.

mod choice;
mod document;
mod entries;
mod item;
mod publish;
mod unusable;

pub use choice::{File, Listing, StreamDelta, StreamImage};
pub use document::{Index, IndexEntry, Item, Product, Products, Version};
pub use entries::{Entries, OddEntry};
pub use item::{ItemPath, METADATA_NAMES, RootKind, STATEMENTS_TYPE, UNIFIED_NAMES, statements_key};
pub use publish::{Publication, PublishedFile, product_key, serial};

#[cfg(feature = "simplestreams")]
pub(crate) use choice::by_number;
#[cfg(feature = "remote")]
pub(crate) use unusable::{UnusableEntries, UnusableEntry};
