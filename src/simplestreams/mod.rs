//! Static trees: directories in simplestreams layout that any web server turns into an image server for `lxc`, `incus` and the
//! tools of simplestreams.
//!
//! A [`Tree`] reads a directory; a [`TreeWriter`], of which there is one at a time, changes it: [`add`](TreeWriter::add),
//! [`remove`](TreeWriter::remove), [`prune`](TreeWriter::prune), [`build`](TreeWriter::build). [`Tree::verify`] reads every file and reports what is wrong.
//!
//! The web server knows nothing of this code, so every intermediate state must be a valid tree for readers that hold an old list:
//!
//! 1. Files of images are staged, hashed, and renamed to their digests. They never change after that.
//! 2. The index is written with the products of the old and the new list.
//! 3. The list is replaced by one rename. That publishes, and withdraws.
//! 4. The index is written with the products of the new list.
//! 5. Files that the list no longer names stay for an hour (prune), for readers that fetched the list before.
//!
//! A process that is killed in between leaves files that no list names, which the next prune removes, or an index that names a
//! product too many, which readers skip. Each document is durable before the next step.
//!
//! Other tools may write into the same tree: fields and entries that are not known here are kept as they are.
//!
//! ```
//! use lxd_image::Monitor;
//! use lxd_image::simplestreams::Tree;
//!
//! # let directory = std::env::temp_dir().join(format!("lxd-image-doc-streams-{}", std::process::id()));
//! let tree = Tree::create(&directory)?;
//! assert!(tree.listing()?.images().is_empty());
//! assert!(tree.verify(&Default::default(), &Monitor::none())?.is_clean());
//! # std::fs::remove_dir_all(&directory).unwrap();
//! # Ok::<(), lxd_image::Error>(())
//! ```
//!
//! | path | what |
//! |---|---|
//! | `streams/v1/index.json` | names the list and the products in it; during a change those of the old and the new list |
//! | `streams/v1/images.json` | the list of products; replacing it publishes and withdraws images |
//! | `streams/v1/*.sjson`, `*.json.gpg`, `*.json.minisig` | signed forms of both, if the tree is signed ([`TreeOptions::sign_with`]) |
//! | `images/SHA256.SUFFIX` | files of images, each named by its own digest |
//! | `images/DISTRO/RELEASE/ARCH/VARIANT/VERSION/` | files of images that others put there, listed by [`build`](TreeWriter::build) |
//! | any other path | files of a list that a mirror keeps with the signatures of its owner (`foreign.rs`) |
//! | `streams/v1/*.json.gz` | the same documents, packed, in a tree that was built |
//! | `.lxd-image/` | private: the lock of the writer, staged files, and which files were withdrawn when |

mod add;
mod build;
mod deltas;
mod document;
mod files;
#[cfg(feature = "remote")]
mod foreign;
mod packed;
mod prune;
mod signing;
mod tree;
mod verify;

pub use add::{AddOptions, Added};
pub use build::{BuildOptions, BuiltTree};
pub use deltas::AddedDelta;
#[cfg(feature = "remote")]
pub(crate) use foreign::{ForeignFile, files as foreign_files};
pub use prune::{PruneOptions, PrunedTree};
pub use tree::{Tree, TreeOptions, TreeWriter};
pub use verify::{TreeReport, TreeVerifyOptions};
