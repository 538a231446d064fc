//! What the extension of an output's name promises: the codec, where none was asked for, and an
//! omission where the two differ.
//!
//! A file called `box.tar.gz` that holds zstd is opened wrongly by every program that believes the
//! name.

use std::ffi::OsStr;
use std::path::Path;

use crate::error::{Error, Result};
use crate::format::codec::{Codec, Compression};
use crate::omissions::Omitted;
use crate::progress::Monitor;

/// The codec of an archive that is written to `out`: the one `asked` for, else the one that the
/// name ends with, else `usual`.
///
/// # Errors
/// `InvalidInput` for a name of something else than an archive; `FeatureDisabled` for a codec that
/// was compiled out.
pub(in crate::format) fn compression(
    out: &Path,
    asked: Option<Compression>,
    usual: Compression,
    monitor: &Monitor,
) -> Result<Compression> {
    if let Some(ending) = other_format(out) {
        let error =
            Error::invalid(format!("the output is a tar archive, and the ending `.{ending}` says something else"));
        let hint = match ending.as_str() {
            "squashfs" | "sqfs" | "sfs" => {
                "a split image with a SquashFS is OUT, a tar archive with the metadata, and OUT.root: name OUT `box.tar.xz`"
            }
            "qcow2" => {
                "a split image is OUT, a tar archive with the metadata, and OUT.root, the disk: name OUT `box.tar.xz`"
            }
            _ => "name it for example `box.tar.zst`",
        };
        return Err(error.with_hint(hint).in_file(out));
    }
    let promised = Codec::from_path(out);
    match (promised, asked) {
        (Some(promised), Some(asked)) if promised != asked.codec() => {
            let name = out.file_name().unwrap_or_default();
            let option = format!("the ending `.{}`", name.to_string_lossy().rsplit('.').next().unwrap_or_default());
            let reason = format!("the compression `{}` was asked for", asked.codec());
            let what = Omitted::NotHonoured { option: option.into(), reason: reason.into() };
            monitor.omit(name.as_encoded_bytes(), what);
            Ok(asked)
        }
        (_, Some(asked)) => Ok(asked),
        (Some(promised), None) if !promised.is_enabled() => Err(promised.disabled()),
        (Some(promised), None) => Ok(Compression::new(promised)),
        (None, None) => Ok(usual),
    }
}

/// The compression inside a SquashFS that is written beside an archive of that name: as for the
/// archive, where SquashFS has the codec, else `usual`.
pub(in crate::format) fn squashfs_compression(
    out: &Path,
    asked: Option<Compression>,
    usual: Compression,
) -> Compression {
    asked.unwrap_or_else(|| match Codec::from_path(out) {
        Some(codec @ (Codec::Gzip | Codec::Xz | Codec::Zstd | Codec::Lz4)) if codec.is_enabled() => codec.into(),
        _ => usual,
    })
}

/// The extension of a name that promises another format than an archive.
fn other_format(out: &Path) -> Option<String> {
    /// Extensions of formats that people confuse with images, and of compressions that are not
    /// written.
    const OTHERS: &[&str] = &[
        "squashfs", "sqfs", "sfs", "qcow2", "vmdk", "vdi", "vhd", "vhdx", "ova", "iso", "zip", "7z", "rar", "deb",
        "rpm", "cpio", "z", "lzo", "lz", "lrz", "br", "asc", "gpg",
    ];
    let ending = out.extension().and_then(OsStr::to_str)?.to_ascii_lowercase();
    OTHERS.contains(&ending.as_str()).then_some(ending)
}
