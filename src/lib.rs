//! Read, verify, unpack, template and pack LXD and Incus images.
//!
//! What a container manager needs of it: [`format::Image`] opens, verifies and unpacks,
//! [`templates::apply`] writes the files that an image makes anew for each instance.
#![forbid(unsafe_code)]

mod error;
mod fingerprint;
pub mod format;
mod limits;
pub mod metadata;
mod progress;
mod rooted;
pub mod templates;

pub use error::{Error, ErrorKind, Result, Shown, TemplatePlace, TemplateStage};
pub use fingerprint::{Fingerprint, Hasher, Prefix, VerifyingReader};
pub use limits::Limits;
pub use metadata::{Architecture, Metadata, TemplateRule};
pub use progress::{Cancel, Monitor, Phase, Progress, Update};
