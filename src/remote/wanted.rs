//! `Wanted`: the request for an image: reference, type and architectures.

use crate::fingerprint::{Fingerprint, FingerprintPrefix};
use crate::format::ImageType;
use crate::metadata::Architecture;

/// The request for an image: an alias, a fingerprint or a prefix of one, with the type and the architectures that are accepted.
///
/// ```
/// use lxd_image::remote::Wanted;
/// use lxd_image::{Architecture, ImageType};
///
/// let wanted = Wanted::new("debian/12").image_type(ImageType::VirtualMachine).architectures([Architecture::Aarch64]);
/// assert_eq!(wanted.fingerprint(), None);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Wanted {
    /// The alias, fingerprint or prefix, as the user wrote it.
    pub reference: String,
    /// The type that an alias must have; containers by default. A fingerprint is taken whatever its type.
    pub image_type: ImageType,
    /// The architectures that an alias may mean, best first; all if there are none. A fingerprint is taken whatever its
    /// architecture.
    pub architectures: Vec<Architecture>,
    /// Whether a `NotFound` error names similar aliases. That may cost a request for the whole list, which a program that tries
    /// many names can spare the server.
    pub suggest: bool,
    /// Whether a container image of a registry becomes an image for system containers, which boot its init, instead of one whose
    /// entry point runs.
    pub system: bool,
}

impl Wanted {
    /// A request for a container image for this machine.
    #[must_use]
    pub fn new(reference: impl Into<String>) -> Self {
        Self {
            reference: reference.into(),
            image_type: ImageType::Container,
            architectures: native(),
            suggest: true,
            system: false,
        }
    }

    /// Sets the type that an alias must have.
    #[must_use]
    pub fn image_type(mut self, image_type: ImageType) -> Self {
        self.image_type = image_type;
        self
    }

    /// Sets the architectures that an alias may mean, best first.
    #[must_use]
    pub fn architectures(mut self, architectures: impl IntoIterator<Item = Architecture>) -> Self {
        self.architectures = architectures.into_iter().collect();
        self
    }

    /// Sets whether a container image of a registry becomes an image for system containers.
    #[must_use]
    pub fn system(mut self, system: bool) -> Self {
        self.system = system;
        self
    }

    /// Sets whether a `NotFound` error names similar aliases.
    #[must_use]
    pub fn suggest(mut self, suggest: bool) -> Self {
        self.suggest = suggest;
        self
    }

    /// The fingerprint, if the reference is a whole one (64 hexadecimal digits).
    #[must_use]
    pub fn fingerprint(&self) -> Option<Fingerprint> {
        self.reference.parse().ok()
    }

    /// The prefix of a fingerprint, if the reference may be one. It may be an alias all the same: `beef` is both.
    #[must_use]
    pub fn prefix(&self) -> Option<FingerprintPrefix> {
        self.reference.parse().ok()
    }
}

/// The architectures that this machine runs, best first: its own and, on 64-bit machines, the 32-bit one of the same family.
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
