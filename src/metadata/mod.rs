//! `metadata.yaml`, the description inside every LXD and Incus image: read, edited, written.
//! The file comes from strangers, so reading is bounded in size, depth, nodes and aliases.
//!
//! The YAML is read with the event parser `granit-parser` and our own small tree (`yaml`), not
//! with serde: LXD keeps the text of a scalar (`release: 12.04` is `12.04`), takes numbers and
//! booleans by the rules of YAML 1.1, and only where they are not quoted. That takes the text,
//! the quoting, the tag and the location of each scalar, and so does writing unknown keys back.

mod architecture;
mod document;
#[cfg(feature = "store")]
mod flat_map;
mod image_type;
mod properties;
mod read;
mod rule;
mod serialize;
mod write;
mod yaml;

pub use architecture::Architecture;
pub use document::Metadata;
#[cfg(feature = "store")]
pub(crate) use flat_map::{FlatValue, parse_flat_map};
pub use image_type::ImageType;
pub use properties::Properties;
pub use rule::TemplateRule;
pub(crate) use yaml::decode_base64;
