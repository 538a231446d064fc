//! [`Architecture`]: machine architectures, with the kernel's names and the aliases of
//! distributions.
//!
//! The table is the one of `shared/osarch/architectures.go`, which LXD and Incus share. A name
//! outside of it parses to an error here, but is kept as text in [`Metadata`](super::Metadata): an
//! image for an unknown machine can still be stored and copied.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use crate::error::{Error, Result};

macro_rules! architectures {
    ($($(#[$doc:meta])* $variant:ident = $kernel:literal, $debian:literal, [$($alias:literal),*];)*) => {
        /// A machine that an image can be for.
        ///
        /// Different names of one machine are equal:
        ///
        /// ```
        /// use lxd_image::Architecture;
        ///
        /// let image: Architecture = "amd64".parse()?;
        /// assert_eq!(image, "x86_64".parse()?);
        /// assert_eq!(image.kernel_name(), "x86_64");
        /// assert_eq!(image.debian_name(), "amd64");
        /// # Ok::<(), lxd_image::Error>(())
        /// ```
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Architecture {
            $($(#[$doc])* $variant,)*
        }

        impl Architecture {
            /// All architectures, in the order of LXD's table.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The kernel's name, which LXD's REST objects use: `x86_64`.
            #[must_use]
            pub const fn kernel_name(self) -> &'static str {
                match self {
                    $(Self::$variant => $kernel,)*
                }
            }

            /// Debian's name, which simplestreams and image properties use: `amd64`.
            ///
            /// Debian has a port for each byte order of MIPS where the kernel has one name; the
            /// result is the little-endian port. `armv7l` and `armv8l` share `armhf`, so this name
            /// does not always parse back to the same architecture.
            #[must_use]
            pub const fn debian_name(self) -> &'static str {
                match self {
                    $(Self::$variant => $debian,)*
                }
            }

            /// The other names that parse to this architecture, without the kernel's own.
            #[must_use]
            pub const fn aliases(self) -> &'static [&'static str] {
                match self {
                    $(Self::$variant => &[$($alias),*],)*
                }
            }

            /// Looks a name up, in exact case.
            fn find(name: &str) -> Option<Self> {
                match name {
                    $($kernel $(| $alias)* => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

architectures! {
    /// 32-bit x86.
    I686 = "i686", "i386", ["i386", "i586", "386", "x86", "generic_32"];
    /// 64-bit x86.
    X86_64 = "x86_64", "amd64", ["amd64", "amd64v3", "generic_64", "x86_64_v1", "x86_64_v2", "x86_64_v3", "x86_64_v4"];
    /// 32-bit ARM without hardware floating point.
    Armv6l = "armv6l", "armel", ["armel", "arm"];
    /// 32-bit ARM with hardware floating point.
    Armv7l = "armv7l", "armhf", ["armhf", "armhfp", "armv7", "armv7a_hardfp", "armv7a_vfpv3_hardfp"];
    /// 32-bit programs on a 64-bit ARM.
    Armv8l = "armv8l", "armhf", [];
    /// 64-bit ARM.
    Aarch64 = "aarch64", "arm64", ["arm64", "arm64_generic"];
    /// 32-bit PowerPC.
    Ppc = "ppc", "powerpc", ["powerpc"];
    /// 64-bit PowerPC, big-endian.
    Ppc64 = "ppc64", "ppc64", ["powerpc64"];
    /// 64-bit PowerPC, little-endian.
    Ppc64le = "ppc64le", "ppc64el", ["ppc64el"];
    /// 64-bit IBM Z.
    S390x = "s390x", "s390x", [];
    /// 32-bit MIPS.
    Mips = "mips", "mipsel", ["mipsel", "mipsle"];
    /// 64-bit MIPS.
    Mips64 = "mips64", "mips64el", ["mips64el", "mips64le"];
    /// 32-bit RISC-V.
    Riscv32 = "riscv32", "riscv32", [];
    /// 64-bit RISC-V.
    Riscv64 = "riscv64", "riscv64", [];
    /// 64-bit LoongArch.
    Loongarch64 = "loongarch64", "loong64", ["loong64"];
}

impl Architecture {
    /// The architecture of a running machine, from the `machine` field of `uname(2)`; `None` if
    /// unknown.
    ///
    /// Accepts every name that [`FromStr`] does, and `i486`, which only old kernels report.
    ///
    /// ```
    /// use lxd_image::Architecture;
    ///
    /// assert_eq!(Architecture::from_uname("i486"), Some(Architecture::I686));
    /// assert_eq!(Architecture::from_uname("vax"), None);
    /// ```
    #[must_use]
    pub fn from_uname(machine: &str) -> Option<Self> {
        match machine {
            "i486" => Some(Self::I686),
            other => Self::find(other),
        }
    }

    /// The architecture of the machine that runs this program; `None` if images have no name for
    /// it.
    ///
    /// It is the kernel's view: a 32-bit program on a 64-bit kernel gets the 64-bit architecture,
    /// unless `personality(2)` was set, as `linux32` does.
    #[must_use]
    pub fn of_this_machine() -> Option<Self> {
        Self::from_uname(&rustix::system::uname().machine().to_string_lossy())
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.kernel_name())
    }
}

impl FromStr for Architecture {
    type Err = Error;

    /// Parses the kernel's name or an alias, in lower case as LXD and Incus do.
    fn from_str(name: &str) -> Result<Self> {
        Self::find(name).ok_or_else(|| {
            let known: Vec<_> = Self::ALL.iter().map(|known| known.kernel_name()).collect();
            // Untrusted text may be long. Its beginning is enough to recognise it.
            let shown: String = name.chars().take(64).collect();
            Error::invalid(format!("`{shown}` is no architecture that is known here"))
                .with_hint(format!("the architectures are {}, and their aliases", known.join(", ")))
        })
    }
}

impl Serialize for Architecture {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.kernel_name())
    }
}
