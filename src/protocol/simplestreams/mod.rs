//! simplestreams: an index, lists of products, and what LXD and Incus make images of in them.
//! Documents of strangers in, images out; and documents for any web server.

mod choice;
mod document;
mod entries;
mod item;
mod publish;
mod unusable;

pub use choice::{File, Listing, StreamImage};
pub use document::{Index, IndexEntry, Item, Product, Products, Version};
pub use entries::{Entries, OddEntry};
pub use item::{ItemPath, METADATA_NAMES, RootKind, UNIFIED_NAMES};
pub use publish::{Publication, PublishedFile, product_key, serial};

#[cfg(feature = "simplestreams")]
pub(crate) use choice::by_number;
#[cfg(feature = "remote")]
pub(crate) use unusable::{AllUnusable, Unusable};
