//! simplestreams: an index, lists of products, and what LXD and Incus make images of in them.
//! Documents of strangers in, images out; and documents for any web server.

mod choice;
mod document;

pub use choice::{File, Listing, StreamImage};
pub use document::{Index, IndexEntry, Item, Product, Products, Version};
