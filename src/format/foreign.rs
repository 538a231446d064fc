//! Names files that are no image by their bytes, with the command that makes one of them.
//!
//! People hand over disks of other hypervisors, compressed disks, packages and web pages. Each gets
//! an error that says what it is and a hint with a command that can be pasted into a shell. Nothing
//! of this decides what is accepted; it only words refusals.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::codec::{self, Codec};
use super::detect::{SQUASHFS_MAGIC, read_up_to};
use super::input::Input;
use super::qcow2;
use super::tar::{BLOCK, Header};
use crate::error::Error;
use crate::io::ReadAt;
use crate::limits::Limits;

/// Bytes of a file's start that are looked at: btrfs has its magic number behind 64 KiB.
pub(crate) const HEAD_BYTES: usize = 66 << 10;
/// Bytes of a file's end that are looked at: the footer of a VHD or DMG.
const TAIL_BYTES: usize = 512;

/// A format that people take for an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ForeignFormat {
    /// With its article, to stand behind "this is".
    name: &'static str,
    /// What to do with it.
    remedy: Remedy,
}

/// What can be done to make an image of such a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Remedy {
    /// `qemu-img` makes a qcow2 of it, under this name of its format.
    Convert(&'static str),
    /// It holds a root file system, which can be mounted and packed; as a disk it is raw.
    Mount,
    /// This command with the file's name behind it unpacks it.
    Unpack(&'static str),
    /// This command with the file's name behind it writes what is compressed in it.
    Decompress(&'static str),
    /// This sentence.
    Say(&'static str),
    /// Nothing but taking it out of its compression.
    None,
}

/// Shorthand for the rows of the table.
const fn foreign(name: &'static str, remedy: Remedy) -> ForeignFormat {
    ForeignFormat { name, remedy }
}

/// Magic numbers by their place in the file. The first that is there counts, so what may hold another comes first.
const MAGICS: &[(usize, &[u8], ForeignFormat)] = &[
    (0, b"\x1f\x9d", foreign("a file compressed with `compress`", Remedy::Decompress("gzip -dc"))),
    (0, b"\x89LZO\0\r\n\x1a\n", foreign("a file compressed with lzop", Remedy::Decompress("lzop -dc"))),
    (0, b"LZIP", foreign("a file compressed with lzip", Remedy::Decompress("lzip -dc"))),
    (0, b"LRZI", foreign("a file compressed with lrzip", Remedy::Decompress("lrzip -dqo -"))),
    (0, b"begin ", foreign("a uuencoded file", Remedy::Decompress("uudecode -o /dev/stdout"))),
    (0, b"begin-base64 ", foreign("a file in base64", Remedy::Decompress("uudecode -o /dev/stdout"))),
    (0, b"-----BEGIN PGP", foreign("an OpenPGP message or signature", Remedy::Decompress("gpg --decrypt"))),
    (0, b"xar!", foreign("a xar archive", Remedy::Unpack("bsdtar -xf"))),
    (0, b"#!", foreign("a script", Remedy::None)),
    (0, b"KDMV", foreign("a VMDK disk", Remedy::Convert("vmdk"))),
    (0, b"COWD", foreign("a VMDK disk", Remedy::Convert("vmdk"))),
    (0, b"# Disk DescriptorFile", foreign("the descriptor of a VMDK disk", Remedy::Convert("vmdk"))),
    (64, b"\x7f\x10\xda\xbe", foreign("a VDI disk", Remedy::Convert("vdi"))),
    (0, b"<<< ", foreign("a VDI disk", Remedy::Convert("vdi"))),
    (0, b"vhdxfile", foreign("a VHDX disk", Remedy::Convert("vhdx"))),
    (0, b"conectix", foreign("a VHD disk", Remedy::Convert("vpc"))),
    (0, b"QED\0", foreign("a QED disk", Remedy::Convert("qed"))),
    (0, b"WithoutFreeSpace", foreign("a Parallels disk", Remedy::Convert("parallels"))),
    (0, b"WithouFreSpacExt", foreign("a Parallels disk", Remedy::Convert("parallels"))),
    (0, b"PK\x03\x04", foreign("a zip archive", Remedy::Unpack("unzip"))),
    (0, b"PK\x05\x06", foreign("a zip archive", Remedy::Unpack("unzip"))),
    (0, b"7z\xbc\xaf\x27\x1c", foreign("a 7z archive", Remedy::Unpack("7z x"))),
    (0, b"Rar!", foreign("a rar archive", Remedy::Unpack("unrar x"))),
    (0, b"070701", foreign("a cpio archive", Remedy::Unpack("cpio -idF"))),
    (0, b"070702", foreign("a cpio archive", Remedy::Unpack("cpio -idF"))),
    (0, b"070707", foreign("a cpio archive", Remedy::Unpack("cpio -idF"))),
    (0, b"!<arch>\n", foreign("an ar archive or a Debian package", Remedy::Unpack("ar x"))),
    (0, b"\xed\xab\xee\xdb", foreign("an RPM package", Remedy::Unpack("rpm2archive"))),
    (0, b"MSCF", foreign("a cabinet archive", Remedy::None)),
    (0, b"\x7fELF", foreign("a program", Remedy::None)),
    (
        0,
        b"version https://git-lfs",
        foreign("a Git LFS pointer", Remedy::Say("fetch the file itself with `git lfs pull`")),
    ),
    (
        0,
        b"sqsh",
        foreign(
            "a big-endian SquashFS",
            Remedy::Say("unpack it with an `unsquashfs` that reads it, and make it again with `mksquashfs`"),
        ),
    ),
    (
        0,
        b"shsq",
        foreign(
            "a SquashFS with a vendor's lzma",
            Remedy::Say("unpack it with the vendor's `unsquashfs`, and make it again with `mksquashfs`"),
        ),
    ),
    (
        0,
        b"qshs",
        foreign(
            "a SquashFS with a vendor's lzma",
            Remedy::Say("unpack it with the vendor's `unsquashfs`, and make it again with `mksquashfs`"),
        ),
    ),
    (
        0,
        b"LUKS\xba\xbe",
        foreign("a LUKS encrypted disk", Remedy::Say("open it with `cryptsetup open`, and convert what is in it")),
    ),
    (32_769, b"CD001", foreign("an ISO image", Remedy::Convert("raw"))),
    (32_769, b"BEA01", foreign("a UDF image", Remedy::Convert("raw"))),
    (512, b"EFI PART", foreign("a raw disk", Remedy::Convert("raw"))),
    (4096, b"EFI PART", foreign("a raw disk", Remedy::Convert("raw"))),
    (3, b"NTFS    ", foreign("an NTFS file system", Remedy::Convert("raw"))),
    (1080, b"\x53\xef", foreign("an ext4 file system", Remedy::Mount)),
    (0, b"XFSB", foreign("an XFS file system", Remedy::Mount)),
    (65_600, b"_BHRfS_M", foreign("a btrfs file system", Remedy::Mount)),
    (1024, b"\xe2\xe1\xf5\xe0", foreign("an EROFS file system", Remedy::Mount)),
    (0, b"\x45\x3d\xcd\x28", foreign("a cramfs file system", Remedy::Mount)),
    (536, b"LVM2 001", foreign("an LVM volume", Remedy::Convert("raw"))),
    (510, b"\x55\xaa", foreign("a raw disk", Remedy::Convert("raw"))),
    (
        0,
        b"architecture:",
        foreign(
            "a text such as `metadata.yaml`",
            Remedy::Say("put it into an archive: `tar -cf metadata.tar metadata.yaml`"),
        ),
    ),
];

/// The remedy for documents that a web server returned in place of a file.
const DOWNLOAD: Remedy = Remedy::Say("the address may be that of a page, or ask for a login: look at it in a browser");

/// The format by the first and the last bytes of a file, `None` for an unknown one.
///
/// Only the bytes count, never the name of the file. Text formats are recognised last and without
/// regard to case, since their beginning is the least certain sign.
fn of(head: &[u8], tail: &[u8]) -> Option<ForeignFormat> {
    let found = MAGICS.iter().find(|(place, magic, _)| head.get(*place..).is_some_and(|rest| rest.starts_with(magic)));
    if let Some((_, _, found)) = found {
        return Some(*found);
    }
    if tail.starts_with(b"conectix") {
        return Some(foreign("a VHD disk", Remedy::Convert("vpc")));
    }
    if tail.starts_with(b"koly") {
        return Some(foreign("an Apple disk image (DMG)", Remedy::Convert("dmg")));
    }
    let start: Vec<u8> = head.trim_ascii_start().iter().take(16).map(u8::to_ascii_lowercase).collect();
    if start.starts_with(b"<!doctype html") || start.starts_with(b"<html") {
        return Some(foreign("a web page", DOWNLOAD));
    }
    if start.starts_with(b"<?xml") {
        return Some(foreign("an XML document", DOWNLOAD));
    }
    (start.starts_with(b"{") || start.starts_with(b"[")).then(|| foreign("a JSON document", DOWNLOAD))
}

/// Whether a file that begins with `head` has a name here, or is compressed.
///
/// Used to decide whether unknown bytes are worth a guess at all.
pub(super) fn is_known(head: &[u8]) -> bool {
    of(head, &[]).is_some()
        || Codec::detect(head).is_some()
        || head.starts_with(qcow2::MAGIC)
        || head.starts_with(SQUASHFS_MAGIC)
}

/// The refusal of a file that begins with `head`, [`HEAD_BYTES`] bytes of it where it has them.
///
/// A file of zeros is said to be empty, as people make such files by mistake. A raw disk is never
/// guessed: any bytes at all can be one.
pub(super) fn refusal(input: &Input, head: &[u8]) -> Error {
    let place = FileLocation::of(input);
    match of(head, &tail(input)) {
        Some(found) => {
            let error = Error::unsupported(format!("this is {}, which is no image format", found.name));
            with_hint(error, found.remedy(place.file, ""))
        }
        None if head.iter().all(|&byte| byte == 0) => Error::malformed("the archive has no members, only zeros"),
        None => Error::unsupported("the file is neither a tar archive, nor a SquashFS, nor a qcow2 disk")
            .with_hint(format!("a raw disk is never guessed: convert it with {}", convert("raw", place.file))),
    }
}

/// The refusal of a file that is compressed with `codec` and then begins with `head`.
///
/// The hint first decompresses and then goes on with what was inside.
pub(super) fn compressed_refusal(input: &Input, codec: Codec, head: &[u8]) -> Error {
    let what = if head.starts_with(qcow2::MAGIC) {
        foreign("a qcow2 disk", Remedy::None)
    } else if head.starts_with(SQUASHFS_MAGIC) {
        foreign("a SquashFS", Remedy::None)
    } else if let Some(found) = of(head, &[]) {
        found
    } else if head.iter().all(|&byte| byte == 0) {
        return Error::malformed("the archive has no members, only zeros");
    } else if let Some(inner) = Codec::detect(head) {
        let error = Error::unsupported(format!("the file is compressed twice, with {codec} over {inner}"));
        return error.with_hint(decompress(codec, FileLocation::of(input), inner.extension()).0);
    } else {
        foreign(
            "something that is neither a tar archive, nor a SquashFS, nor a qcow2 disk, and",
            Remedy::Convert("raw"),
        )
    };
    let extension = match what.name {
        "a qcow2 disk" => "qcow2",
        "a SquashFS" => "squashfs",
        _ => "img",
    };
    let (hint, plain) = decompress(codec, FileLocation::of(input), extension);
    let error = Error::unsupported(format!("this is {} that is compressed with {codec}", what.name));
    error.with_hint(format!("{hint}{}", what.remedy(Some(plain.as_ref()), ", then ").unwrap_or_default()))
}

/// The refusal of a disk that begins with `head` and is no qcow2; `file` is where it lies.
pub(super) fn disk_refusal(head: &[u8], file: Option<&Path>) -> Error {
    if head.starts_with(SQUASHFS_MAGIC) {
        return Error::unsupported("this is a SquashFS, and a disk is a qcow2 file").with_hint(format!(
            "unpack it with `unsquashfs {}` and pack the directory, or name its metadata file too: a split image needs no packing",
            shell(file.unwrap_or(Path::new("FILE")))
        ));
    }
    if Header::looks_like_one(head) {
        return Error::unsupported("this is a tar archive, and a disk is a qcow2 file").with_hint(unpack_tar(file));
    }
    if let Some(codec) = Codec::detect(head) {
        let (hint, _) = decompress(codec, FileLocation { file, stream: false }, "qcow2");
        return Error::unsupported(format!("the disk is compressed with {codec}: only qcow2 itself is taken"))
            .with_hint(hint);
    }
    let found = of(head, &[]).unwrap_or(foreign("a disk that is no qcow2, or a raw one", Remedy::Convert("raw")));
    let error = Error::unsupported(format!("{}: only qcow2 is taken, and a format is never guessed", found.name));
    let remedy = if found.remedy == Remedy::Mount { Remedy::Convert("raw") } else { found.remedy };
    with_hint(error, ForeignFormat { remedy, ..found }.remedy(file, ""))
}

/// The refusal of a disk without a magic number of a format that is read, by its first bytes.
pub(crate) fn unknown_disk(head: &[u8]) -> Error {
    if let Some(codec) = Codec::detect(head) {
        return Error::unsupported(format!("the disk is compressed with {codec}"));
    }
    match of(head, &[]).filter(|found| !matches!(found.remedy, Remedy::Mount)) {
        Some(found) if found.remedy != Remedy::Convert("raw") => {
            let error = Error::unsupported(format!("{} is not a disk format that is read", found.name));
            with_hint(error, found.remedy(None, ""))
        }
        _ => Error::unsupported("the disk is in no known format, and a raw disk is never guessed").with_hint(SAY_RAW),
    }
}

/// What makes a raw disk one.
const SAY_RAW: &str = "if it is a raw disk, say so: `--disk-input raw`, or `DiskFormat::Raw` in a program";

/// As [`disk_refusal`], for a disk that is an input.
pub(super) fn input_disk_refusal(input: &Input, head: &[u8]) -> Error {
    let place = FileLocation::of(input);
    if let Some(codec) = Codec::detect(head).filter(|codec| holds_tar(input, *codec)) {
        return Error::unsupported(format!(
            "this is a tar archive compressed with {codec}, and a disk is a qcow2 file"
        ))
        .with_hint(unpack_tar(place.file));
    }
    match of(head, &tail(input)) {
        Some(found) if Codec::detect(head).is_none() => match found.remedy {
            Remedy::Convert("raw") | Remedy::Mount => {
                let sentence = format!("this looks like {}, and a raw disk is never guessed", found.name);
                Error::unsupported(sentence).with_hint(SAY_RAW)
            }
            remedy => {
                let sentence = format!("this is {}, which is no disk format that is packed", found.name);
                with_hint(Error::unsupported(sentence), ForeignFormat { remedy, ..found }.remedy(place.file, ""))
            }
        },
        None if Codec::detect(head).is_none() && !head.starts_with(SQUASHFS_MAGIC) && !Header::looks_like_one(head) => {
            Error::unsupported("the disk is in no known format, and a raw disk is never guessed").with_hint(SAY_RAW)
        }
        _ => disk_refusal(head, place.file),
    }
}

/// As [`input_disk_refusal`], for one that is compressed with `codec` and then begins with `head`.
pub(super) fn decoded_disk_refusal(input: &Input, codec: Codec, head: &[u8]) -> Error {
    match of(head, &[]) {
        Some(found) if matches!(found.remedy, Remedy::Convert("raw") | Remedy::Mount) => {
            let name = found.name;
            let sentence =
                format!("this looks like {name} that is compressed with {codec}, and a raw disk is never guessed");
            Error::unsupported(sentence).with_hint(SAY_RAW)
        }
        Some(_) => compressed_refusal(input, codec, head),
        None if head.starts_with(SQUASHFS_MAGIC) || Header::looks_like_one(head) || Codec::detect(head).is_some() => {
            compressed_refusal(input, codec, head)
        }
        None => {
            let sentence = format!(
                "the disk that is compressed with {codec} is in no known format, and a raw disk is never guessed"
            );
            Error::unsupported(sentence).with_hint(SAY_RAW)
        }
    }
}

/// Whether a file that begins with `head` is a compressed tar archive.
pub(super) fn is_compressed_tar(input: &Input, head: &[u8]) -> bool {
    Codec::detect(head).is_some_and(|codec| holds_tar(input, codec))
}

/// Whether a compressed file is a tar archive; what can't be decoded is none.
///
/// Only the first block is decoded, with the default limits.
fn holds_tar(input: &Input, codec: Codec) -> bool {
    let decoded = input.peek(|reader| {
        let mut decoder = codec::decoder(codec, reader, &Limits::default(), 1, input.cancel())?;
        read_up_to(&mut decoder, BLOCK)
    });
    decoded.is_ok_and(|head| Header::looks_like_one(&head))
}

/// The hint for a tar archive in place of a disk.
fn unpack_tar(file: Option<&Path>) -> String {
    format!("unpack it with `tar -xf {}` and pack the directory", shell(file.unwrap_or(Path::new("FILE"))))
}

/// Adds a hint, unless it is empty.
fn with_hint(error: Error, hint: Option<String>) -> Error {
    match hint.filter(|hint| !hint.is_empty()) {
        Some(hint) => error.with_hint(hint),
        None => error,
    }
}

impl ForeignFormat {
    /// The remedy as a sentence with a command for this file; `before` joins it to an earlier
    /// command.
    fn remedy(self, file: Option<&Path>, before: &str) -> Option<String> {
        let text = match self.remedy {
            Remedy::Convert(format) => format!("convert it with {}", convert(format, file)),
            Remedy::Mount => format!(
                "for a container mount it and `pack` its directory, for a virtual machine convert it with {}",
                convert("raw", file)
            ),
            Remedy::Unpack(command) => {
                format!(
                    "unpack it with `{command} {}` and look for the image in it",
                    shell(file.unwrap_or(Path::new("FILE")))
                )
            }
            Remedy::Decompress(command) => {
                let file = file.unwrap_or(Path::new("FILE"));
                let mut out = file.with_extension("");
                if out == file || out.as_os_str().is_empty() {
                    out = file.with_extension("plain");
                }
                format!("decompress it first: `{command} {} > {}`", shell(file), shell(&out))
            }
            Remedy::Say(text) => text.to_owned(),
            Remedy::None => return None,
        };
        Some(format!("{before}{text}"))
    }
}

/// How a command can refer to the file: by its path, as standard input, or by a placeholder.
#[derive(Clone, Copy)]
struct FileLocation<'a> {
    /// Its path, where it has one.
    file: Option<&'a Path>,
    /// Whether it comes through a pipe, so that a command reads standard input.
    stream: bool,
}

impl<'a> FileLocation<'a> {
    /// Where an input lies.
    fn of(input: &'a Input) -> Self {
        let stream = input.as_blob().is_none();
        Self { file: input.name().filter(|_| !stream), stream }
    }
}

/// The command that makes a qcow2 of a disk in `format`.
///
/// The format is always named: `qemu-img` would guess it otherwise, and a guest that writes to a
/// raw disk can make it look like another format.
fn convert(format: &str, file: Option<&Path>) -> String {
    let file = file.unwrap_or(Path::new("disk.img"));
    let mut out = file.with_extension("qcow2");
    if out == file {
        out = file.with_extension("new.qcow2");
    }
    format!("`qemu-img convert -f {format} -O qcow2 {} {}`", shell(file), shell(&out))
}

/// The command that decompresses a file, and the file that this makes.
fn decompress(codec: Codec, place: FileLocation<'_>, extension: &str) -> (String, std::path::PathBuf) {
    let program = match codec {
        Codec::Lzma => "xz --format=lzma -dc",
        Codec::Zstd => "zstd -dc --long=31",
        other => return decompress_with(&format!("{} -dc", other.name()), codec, place, extension),
    };
    decompress_with(program, codec, place, extension)
}

/// As [`decompress`], with the program to call.
fn decompress_with(
    program: &str,
    codec: Codec,
    place: FileLocation<'_>,
    extension: &str,
) -> (String, std::path::PathBuf) {
    let file = place.file.unwrap_or(Path::new("disk"));
    let named = file.extension().is_some_and(|found| found == OsStr::new(codec.extension()));
    let mut out = if named { file.with_extension("") } else { file.with_extension(extension) };
    if out == file || (place.file.is_none() && !named) {
        out = file.with_extension(extension);
    }
    if out == file {
        out.as_mut_os_string().push(".plain");
    }
    let source = match place.file {
        Some(file) => format!("{} ", shell(file)),
        None if place.stream => String::new(),
        None => "FILE ".to_owned(),
    };
    (format!("decompress it first: `{program} {source}> {}`", shell(&out)), out)
}

/// A path as one word for a POSIX shell, quoted where needed; a leading dash is protected as `./-`.
///
/// Hints are pasted, and names of files come from others.
fn shell(path: &Path) -> String {
    let bytes = path.as_os_str().as_bytes();
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-+=:@%,".contains(byte);
    let text = path.to_string_lossy();
    let text = if bytes.starts_with(b"-") { format!("./{text}") } else { text.into_owned() };
    if !bytes.is_empty() && bytes.iter().all(plain) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

/// The last bytes of a file; empty for a stream and for a shorter file.
fn tail(input: &Input) -> Vec<u8> {
    let Some(blob) = input.as_blob() else { return Vec::new() };
    let mut bytes = vec![0; TAIL_BYTES];
    let place = blob.len().checked_sub(TAIL_BYTES as u64);
    match place.map(|place| blob.read_exact_at(&mut bytes, place)) {
        Some(Ok(())) => bytes,
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remedy_names_the_file_as_a_shell_takes_it() {
        assert_eq!(
            convert("vmdk", Some(Path::new("a/my disk.vmdk"))),
            "`qemu-img convert -f vmdk -O qcow2 'a/my disk.vmdk' 'a/my disk.qcow2'`"
        );
        assert_eq!(convert("raw", Some(Path::new("-x"))), "`qemu-img convert -f raw -O qcow2 ./-x ./-x.qcow2`");
        let place = |name| FileLocation { file: Some(Path::new(name)), stream: false };
        let told = |codec, name| decompress(codec, place(name), "qcow2").0;
        assert_eq!(told(Codec::Xz, "d.qcow2.xz"), "decompress it first: `xz -dc d.qcow2.xz > d.qcow2`");
        assert_eq!(told(Codec::Gzip, "it's"), "decompress it first: `gzip -dc 'it'\\''s' > 'it'\\''s.qcow2'`");
        assert_eq!(told(Codec::Gzip, "d.qcow2"), "decompress it first: `gzip -dc d.qcow2 > d.qcow2.plain`");
    }

    #[test]
    fn unsupported_compression_is_named_with_its_command() {
        let told = |head: &[u8], name| of(head, &[]).and_then(|kind| kind.remedy(Some(Path::new(name)), ""));
        let decompress = |command: &str| Some(format!("decompress it first: `{command}`"));
        assert_eq!(told(b"\x1f\x9d\x90", "a.tar.Z"), decompress("gzip -dc a.tar.Z > a.tar"));
        assert_eq!(told(b"\x89LZO\0\r\n\x1a\n", "a"), decompress("lzop -dc a > a.plain"));
        assert_eq!(told(b"LZIP\x01", "a.tar.lz"), decompress("lzip -dc a.tar.lz > a.tar"));
    }
}
