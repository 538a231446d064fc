//! Read, verify, unpack, template and pack LXD and Incus images.
#![forbid(unsafe_code)]

mod error;
mod fingerprint;
pub mod format;
mod limits;
pub mod metadata;
mod progress;
mod rooted;
#[cfg(feature = "store")]
pub mod store;
pub mod templates;

pub use error::{Error, ErrorKind, Result, Shown, TemplatePlace, TemplateStage};
pub use fingerprint::{Fingerprint, Hasher, Prefix, VerifyingReader};
pub use limits::Limits;
pub use metadata::{Architecture, Metadata, Properties, TemplateRule};
pub use progress::{Cancel, Monitor, Phase, Progress, Update};
