//! Trees of static files that any web server turns into an image server: simplestreams, as `lxc`, `incus` and others
//! read it. Files come first and the list last, so that whoever reads it finds all that it names.
//!
//! ```
//! use lxd_image::simplestreams::Tree;
//!
//! # let directory = std::env::temp_dir().join(format!("lxd-image-doc-streams-{}", std::process::id()));
//! let tree = Tree::create(&directory)?;
//! assert!(tree.listing()?.images().is_empty());
//! assert!(tree.verify(&Default::default())?.is_clean());
//! # std::fs::remove_dir_all(&directory).unwrap();
//! # Ok::<(), lxd_image::Error>(())
//! ```
//!
//! | path | what |
//! |---|---|
//! | `streams/v1/index.json` | names the list, and every product that is in it; while it changes perhaps one more |
//! | `streams/v1/images.json` | the list: replacing it in one step is what publishes and withdraws |
//! | `images/SHA256.ENDING` | files of images, each named by its own digest |
//! | `.lxd-image/` | private: a lock against a second writer, files on their way in, what was withdrawn and when |

mod add;
mod document;
mod files;
mod prune;
mod tree;
mod verify;

pub use add::{AddOptions, Added};
pub use prune::{PruneOptions, PrunedTree};
pub use tree::{Tree, TreeOptions, TreeWriter};
pub use verify::{TreeReport, TreeVerifyOptions};
