//! `Wanted`: which image of a remote is meant, and by what.

use crate::fingerprint::{Fingerprint, Prefix};
use crate::format::ImageType;
use crate::metadata::Architecture;

/// An image that is wanted: an alias, a fingerprint or the beginning of one, and for which machine.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Wanted {
    /// What was written.
    pub reference: String,
    /// For a container unless it was said otherwise. Only asked of aliases.
    pub image_type: ImageType,
    /// The architectures that will do, best first. Only asked of aliases.
    pub architectures: Vec<Architecture>,
    /// Whether the error for what is not there names what is near it. Some servers must be asked for all their images
    /// for that, which a program that tries many names for nobody to read can spare them.
    pub suggest: bool,
}

impl Wanted {
    /// A container's image for this machine.
    #[must_use]
    pub fn new(reference: impl Into<String>) -> Self {
        Self { reference: reference.into(), image_type: ImageType::Container, architectures: native(), suggest: true }
    }

    /// Whether a container's or a virtual machine's image is wanted.
    #[must_use]
    pub fn image_type(mut self, image_type: ImageType) -> Self {
        self.image_type = image_type;
        self
    }

    /// The architectures that will do, best first.
    #[must_use]
    pub fn architectures(mut self, architectures: impl IntoIterator<Item = Architecture>) -> Self {
        self.architectures = architectures.into_iter().collect();
        self
    }

    /// Whether the error for what is not there names what is near it.
    #[must_use]
    pub fn suggest(mut self, suggest: bool) -> Self {
        self.suggest = suggest;
        self
    }

    /// The fingerprint, where the reference is a whole one.
    #[must_use]
    pub fn fingerprint(&self) -> Option<Fingerprint> {
        self.reference.parse().ok()
    }

    /// The beginning of a fingerprint, where the reference may be one.
    #[must_use]
    pub fn prefix(&self) -> Option<Prefix> {
        self.reference.parse().ok()
    }
}

/// What this machine runs, best first: itself, and on 64-bit machines their 32-bit selves.
pub(super) fn native() -> Vec<Architecture> {
    let own = Architecture::of_this_machine();
    let smaller = match own {
        Some(Architecture::X86_64) => "i686",
        Some(Architecture::Aarch64) => "armv7l",
        Some(Architecture::Ppc64) => "ppc",
        _ => "",
    };
    own.into_iter().chain(smaller.parse().ok()).collect()
}
