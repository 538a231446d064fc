//! `metadata.yaml`, the description inside every LXD and Incus image: read, edited, written.
//!
//! | type | what it is |
//! |---|---|
//! | [`Metadata`] | the whole file; start here |
//! | [`Properties`] | its ordered texts: `os`, `release`, `description`, `requirements.*` |
//! | [`Requirement`] | a property `requirements.*`, and what an instance needs by it |
//! | [`TemplateRule`] | an entry of `templates`: which file of an instance is written, when, from which template |
//! | [`Architecture`], [`ImageType`] | values with the names that LXD's API, simplestreams and the kernel use |
//!
//! The data flows bytes → YAML tree (`yaml`) → [`Metadata`] (`read`) and back (`write`). The tree
//! is dropped after reading; of unknown keys the subtree is kept, so a file that is read and
//! written loses no key and keeps its order.
//!
//! # Untrusted input
//!
//! The file comes from whoever built the image. Reading is bounded in size, depth, number of nodes
//! and alias expansions ([`Limits`](crate::Limits)), so that "billion laughs" files fail quickly. A
//! NUL in any text is refused: LXD's database and C callers would cut the text there. Paths and
//! template names are kept as they are written and may try to leave their directory; they are
//! checked where files are opened (`format`, [`templates`](crate::templates)).
//!
//! # Why not serde
//!
//! The YAML is read with the event parser `granit-parser` and a small tree of its own, not with
//! serde: LXD keeps the text of a scalar (`release: 12.10` is `12.10`, not `12.1`), reads numbers
//! and booleans by the rules of YAML 1.1, and only where they are not quoted. This needs the text,
//! the quoting, the tag and the location of each scalar, and so does writing unknown keys back.

mod architecture;
mod document;
#[cfg(feature = "store")]
mod flat_map;
mod image_type;
mod properties;
mod read;
mod requirements;
mod rule;
mod serialize;
#[cfg(feature = "simplestreams")]
mod stream_config;
mod write;
mod yaml;

pub use architecture::Architecture;
pub use document::Metadata;
#[cfg(feature = "store")]
pub(crate) use flat_map::{FlatValue, parse_flat_map};
pub use image_type::ImageType;
pub use properties::Properties;
pub use requirements::Requirement;
pub use rule::TemplateRule;
#[cfg(feature = "simplestreams")]
pub(crate) use stream_config::StreamConfig;
pub(crate) use yaml::decode_base64;
