//! [`Platform`]: the machine that a manifest is for, and the choice of one from an index.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::document::{Descriptor, Index};
use crate::error::{Error, ErrorKind, Result};
use crate::metadata::Architecture;
use crate::protocol::nullable;

/// The machine that a manifest is for, in Go's names.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Platform {
    /// The architecture, such as `amd64`.
    #[serde(default, deserialize_with = "nullable")]
    pub architecture: String,
    /// The operating system, such as `linux`.
    #[serde(default, deserialize_with = "nullable")]
    pub os: String,
    /// The variant of the architecture, such as `v7`.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// All other fields, such as `os.version`.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Platform {
    /// Linux on an architecture.
    #[must_use]
    pub fn linux(architecture: Architecture) -> Self {
        let (name, variants) = go_name(architecture);
        Self {
            architecture: name.to_owned(),
            os: "linux".to_owned(),
            // Where Go's name alone would not tell which.
            variant: (name == "arm").then(|| variants.first().map(|variant| (*variant).to_owned())).flatten(),
            extra: Map::new(),
        }
    }

    /// The architecture; `None` for one that is not known here.
    #[must_use]
    pub fn architecture(&self) -> Option<Architecture> {
        let variant = self.variant.as_deref().unwrap_or_default();
        Some(match (self.architecture.as_str(), variant) {
            ("386", _) => Architecture::I686,
            ("amd64" | "x86_64", _) => Architecture::X86_64,
            ("arm", "v5" | "v6") => Architecture::Armv6l,
            // Go's default for ARM without a variant is the seventh.
            ("arm", "v7" | "") => Architecture::Armv7l,
            ("arm", "v8") => Architecture::Armv8l,
            ("arm64" | "aarch64", _) => Architecture::Aarch64,
            ("ppc", _) => Architecture::Ppc,
            ("ppc64", _) => Architecture::Ppc64,
            ("ppc64le", _) => Architecture::Ppc64le,
            ("s390x", _) => Architecture::S390x,
            ("mips" | "mipsle", _) => Architecture::Mips,
            ("mips64" | "mips64le", _) => Architecture::Mips64,
            ("riscv", _) => Architecture::Riscv32,
            ("riscv64", _) => Architecture::Riscv64,
            ("loong64", _) => Architecture::Loongarch64,
            _ => return None,
        })
    }

    /// How well it suits a machine: the smaller, the better. `None` where it doesn't run there.
    fn rank(&self, architecture: Architecture) -> Option<usize> {
        let (name, variants) = go_name(architecture);
        if self.os != "linux" || self.architecture != name {
            return None;
        }
        match self.variant.as_deref().filter(|variant| !variant.is_empty()) {
            None => Some(usize::from(name == "arm") * variants.len()),
            Some(variant) => variants.iter().position(|known| *known == variant),
        }
    }

    /// As people write it: `linux/arm/v7`.
    fn shown(&self) -> String {
        let mut shown = format!("{}/{}", self.os, self.architecture);
        if let Some(variant) = &self.variant {
            shown.push('/');
            shown.push_str(variant);
        }
        super::document::shorten(&shown)
    }
}

/// Go's name of an architecture, and the variants of it that such a machine runs, the best first.
///
/// A newer x86-64 than the first is not known from the name of the machine, so it is never taken unasked.
fn go_name(architecture: Architecture) -> (&'static str, &'static [&'static str]) {
    match architecture {
        Architecture::I686 => ("386", &[]),
        Architecture::X86_64 => ("amd64", &["v1"]),
        Architecture::Armv6l => ("arm", &["v6", "v5"]),
        Architecture::Armv7l => ("arm", &["v7", "v6", "v5"]),
        Architecture::Armv8l => ("arm", &["v8", "v7", "v6", "v5"]),
        Architecture::Aarch64 => ("arm64", &["v8"]),
        Architecture::Ppc => ("ppc", &[]),
        Architecture::Ppc64 => ("ppc64", &[]),
        Architecture::Ppc64le => ("ppc64le", &["power8"]),
        Architecture::S390x => ("s390x", &[]),
        Architecture::Mips => ("mipsle", &[]),
        Architecture::Mips64 => ("mips64le", &[]),
        Architecture::Riscv32 => ("riscv", &[]),
        Architecture::Riscv64 => ("riscv64", &["rva20u64"]),
        Architecture::Loongarch64 => ("loong64", &[]),
    }
}

impl Index {
    /// The manifest for a machine. Entries without a platform count where there is no better one; statements about
    /// other manifests (platform `unknown`) never do.
    ///
    /// # Errors
    /// `NotFound`, with the platforms that are there; `Ambiguous` where several entries don't say what they are for.
    pub fn for_architecture(&self, architecture: Architecture) -> Result<&Descriptor> {
        let ranked =
            self.manifests.iter().filter_map(|entry| Some((entry.platform.as_ref()?.rank(architecture)?, entry)));
        // Of equals the first, as all readers of an index do.
        if let Some((_, best)) = ranked.min_by_key(|(rank, _)| *rank) {
            return Ok(best);
        }
        let mut unnamed = self.manifests.iter().filter(|entry| entry.platform.is_none());
        match (unnamed.next(), unnamed.next()) {
            (Some(only), None) => Ok(only),
            (Some(_), Some(_)) => Err(Error::new(
                ErrorKind::Ambiguous,
                "several manifests of the index don't say which architecture they are for",
            )),
            (None, _) => {
                let there: Vec<String> = self
                    .manifests
                    .iter()
                    .filter_map(|entry| entry.platform.as_ref())
                    .filter(|platform| platform.os != "unknown")
                    .map(Platform::shown)
                    .take(32)
                    .collect();
                Err(Error::new(ErrorKind::NotFound, format!("the image is not there for {architecture} on Linux"))
                    .with_hint(format!(
                        "it is there for {}",
                        if there.is_empty() { "nothing".into() } else { there.join(", ") }
                    )))
            }
        }
    }
}
