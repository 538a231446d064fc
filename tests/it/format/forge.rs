//! Archives written by hand, byte by byte: every field can be set to nonsense, because that is the point.
//! Also streams, disks and the small good image that most cases start from.

use std::io::Write;

use lxd_image::format::{Codec, Compression, encode};

/// The two blocks that end an archive.
pub(crate) const END: &[u8] = &[0; 1024];

/// The time of every member that does not say another.
pub(crate) const TIME: i64 = 1_700_000_000;

pub(crate) const METADATA: &str =
    "architecture: x86_64\ncreation_date: 1700000000\nproperties:\n  os: Debian\n  release: \"12\"\n";

/// One member: a header block whose fields can be overwritten, and its data.
#[derive(Clone)]
pub(crate) struct Member {
    block: [u8; 512],
    data: Vec<u8>,
    sum: Sum,
}

#[derive(Clone, Copy)]
enum Sum {
    Unsigned,
    Signed,
    Wrong,
}

impl Member {
    pub(crate) fn new(kind: u8, name: impl AsRef<[u8]>) -> Self {
        let mut member = Self { block: [0; 512], data: Vec::new(), sum: Sum::Unsigned };
        member.block[156] = kind;
        let name = name.as_ref();
        member.put(0, &name[..name.len().min(100)]);
        member.put(257, b"ustar\x0000");
        member.mode(if kind == b'5' { 0o755 } else { 0o644 }).uid(0).gid(0).size(0).mtime(TIME)
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.block[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// Overwrites bytes of the header.
    pub(crate) fn raw(mut self, at: usize, bytes: &[u8]) -> Self {
        self.put(at, bytes);
        self
    }

    /// Octal, or base 256 where it does not fit.
    fn number(self, at: usize, len: usize, value: i128) -> Self {
        self.raw(at, &number(len, value))
    }

    pub(crate) fn mode(self, mode: u32) -> Self {
        self.number(100, 8, mode.into())
    }

    pub(crate) fn uid(self, uid: i128) -> Self {
        self.number(108, 8, uid)
    }

    pub(crate) fn gid(self, gid: i128) -> Self {
        self.number(116, 8, gid)
    }

    /// The size that the header states, whatever the data.
    pub(crate) fn size(self, size: i128) -> Self {
        self.number(124, 12, size)
    }

    pub(crate) fn mtime(self, mtime: i64) -> Self {
        self.number(136, 12, mtime.into())
    }

    pub(crate) fn link(self, target: impl AsRef<[u8]>) -> Self {
        self.raw(157, target.as_ref())
    }

    /// The magic and version of a dialect: 8 bytes.
    pub(crate) fn magic(self, magic: &[u8; 8]) -> Self {
        self.raw(257, magic)
    }

    pub(crate) fn device(self, major: i128, minor: i128) -> Self {
        self.number(329, 8, major).number(337, 8, minor)
    }

    pub(crate) fn prefix(self, prefix: &str) -> Self {
        self.raw(345, prefix.as_bytes())
    }

    /// The data, with the size that it has.
    pub(crate) fn data(mut self, data: impl AsRef<[u8]>) -> Self {
        self.data = data.as_ref().to_vec();
        let size = self.data.len() as i128;
        self.size(size)
    }

    /// The checksum of bytes taken as signed, as old Sun and BSD tars wrote it.
    pub(crate) fn signed_sum(mut self) -> Self {
        self.sum = Sum::Signed;
        self
    }

    pub(crate) fn wrong_sum(mut self) -> Self {
        self.sum = Sum::Wrong;
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut block = self.block;
        block[148..156].fill(b' ');
        let sum = match self.sum {
            Sum::Unsigned => block.iter().map(|&byte| i64::from(byte)).sum(),
            Sum::Signed => block.iter().map(|&byte| i64::from(byte.cast_signed())).sum::<i64>() & 0o777_777,
            Sum::Wrong => 0o1234,
        };
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        [&block[..], &padded(&self.data)].concat()
    }
}

pub(crate) fn number(len: usize, value: i128) -> Vec<u8> {
    let text = format!("{value:0width$o}\0", width = len - 1);
    if value >= 0 && text.len() == len {
        return text.into_bytes();
    }
    let mut bytes = value.to_be_bytes()[16 - len..].to_vec();
    bytes[0] |= 0x80;
    bytes
}

pub(crate) fn padded(data: &[u8]) -> Vec<u8> {
    let mut data = data.to_vec();
    data.resize(data.len().next_multiple_of(512), 0);
    data
}

pub(crate) fn file(name: impl AsRef<[u8]>, data: impl AsRef<[u8]>) -> Vec<u8> {
    Member::new(b'0', name).data(data).bytes()
}

pub(crate) fn directory(name: &str) -> Vec<u8> {
    Member::new(b'5', name).bytes()
}

pub(crate) fn symlink(name: &str, target: &str) -> Vec<u8> {
    Member::new(b'2', name).mode(0o777).link(target).bytes()
}

pub(crate) fn hard_link(name: &str, target: &str) -> Vec<u8> {
    Member::new(b'1', name).link(target).bytes()
}

/// One PAX record with the right length.
pub(crate) fn record(key: &str, value: impl AsRef<[u8]>) -> Vec<u8> {
    let body = [b" ", key.as_bytes(), b"=", value.as_ref(), b"\n"].concat();
    let mut length = body.len();
    while length.to_string().len() + body.len() != length {
        length = length.to_string().len() + body.len();
    }
    [length.to_string().as_bytes(), &body].concat()
}

pub(crate) fn pax(records: &[(&str, &str)]) -> Vec<u8> {
    pax_raw(records.iter().flat_map(|(key, value)| record(key, value)).collect::<Vec<_>>())
}

/// An extended header with any bytes in it.
pub(crate) fn pax_raw(data: impl AsRef<[u8]>) -> Vec<u8> {
    Member::new(b'x', "PaxHeaders/x").data(data).bytes()
}

pub(crate) fn global(records: &[(&str, &str)]) -> Vec<u8> {
    let data: Vec<u8> = records.iter().flat_map(|(key, value)| record(key, value)).collect();
    Member::new(b'g', "pax_global_header").data(data).bytes()
}

/// A GNU long name (`L`) or long link target (`K`).
pub(crate) fn long(kind: u8, name: impl AsRef<[u8]>) -> Vec<u8> {
    let data = [name.as_ref(), b"\0"].concat();
    Member::new(kind, "././@LongLink").magic(b"ustar  \0").data(data).bytes()
}

/// A sparse file with GNU's old header: up to four segments, the logical size, and the stored bytes.
pub(crate) fn old_sparse(name: &str, segments: &[(i128, i128)], real: i128, stored: &[u8]) -> Vec<u8> {
    let mut member = Member::new(b'S', name).magic(b"ustar  \0").data(stored);
    for (index, &(offset, length)) in segments.iter().enumerate() {
        member = member.raw(386 + index * 24, &[number(12, offset), number(12, length)].concat());
    }
    member.raw(483, &number(12, real)).bytes()
}

/// A sparse file of PAX format 1.0 with any map in front of its data.
pub(crate) fn sparse_1_0(name: &str, real: &str, map: &str, stored: &[u8]) -> Vec<u8> {
    let about = [
        ("GNU.sparse.major", "1"),
        ("GNU.sparse.minor", "0"),
        ("GNU.sparse.name", name),
        ("GNU.sparse.realsize", real),
    ];
    let data = [&padded(map.as_bytes())[..], stored].concat();
    [pax(&about), file("rootfs/GNUSparseFile.0/x", data)].concat()
}

pub(crate) fn metadata() -> Vec<u8> {
    file("metadata.yaml", METADATA)
}

/// `metadata.yaml`, `rootfs/` and one file: the smallest good container image, without its end.
pub(crate) fn base() -> Vec<u8> {
    [metadata(), directory("rootfs/"), directory("rootfs/etc/"), file("rootfs/etc/hostname", "box\n")].concat()
}

/// A good image with more members.
pub(crate) fn image(parts: &[Vec<u8>]) -> Vec<u8> {
    [&base(), &parts.concat(), END].concat()
}

/// Any members, and the end marker.
pub(crate) fn archive(parts: &[Vec<u8>]) -> Vec<u8> {
    [&parts.concat(), END].concat()
}

/// The root directory of a split image, with more members.
pub(crate) fn rootfs(parts: &[Vec<u8>]) -> Vec<u8> {
    let top = [directory("./"), directory("./etc/"), file("./etc/hostname", "box\n")].concat();
    [&top, &parts.concat(), END].concat()
}

pub(crate) fn compressed(codec: Codec, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut encoder = encode(Compression::new(codec), &mut out, 1).unwrap();
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap();
    out
}

/// A zstd frame of `prefix` and then `zeros` bytes of zeros, 128 KiB of them in four stored bytes.
pub(crate) fn zstd_zeros(prefix: &[u8], zeros: u64) -> Vec<u8> {
    const FULL: u64 = 1 << 17;
    let mut out = b"\x28\xb5\x2f\xfd\x00\x50".to_vec();
    let mut block = |last: u32, kind: u32, size: u32, bytes: &[u8]| {
        out.extend_from_slice(&(last | kind << 1 | size << 3).to_le_bytes()[..3]);
        out.extend_from_slice(bytes);
    };
    for piece in prefix.chunks(1 << 16) {
        block(0, 0, u32::try_from(piece.len()).unwrap(), piece);
    }
    for _ in 0..zeros / FULL {
        block(0, 1, 1 << 17, &[0]);
    }
    block(1, 1, u32::try_from(zeros % FULL).unwrap(), &[0]);
    out
}

/// What a qcow2 disk's header says.
#[derive(Clone)]
pub(crate) struct Disk {
    pub(crate) version: u32,
    pub(crate) size: u64,
    pub(crate) cluster_bits: u32,
    pub(crate) backing: (u64, u32),
    pub(crate) encryption: u32,
    pub(crate) l1: Option<(u32, u64)>,
    pub(crate) snapshots: u32,
    pub(crate) incompatible: u64,
    pub(crate) header_length: u32,
    pub(crate) extensions: Vec<u8>,
}

impl Default for Disk {
    fn default() -> Self {
        Self {
            version: 3,
            size: 1 << 20,
            cluster_bits: 16,
            backing: (0, 0),
            encryption: 0,
            l1: None,
            snapshots: 0,
            incompatible: 0,
            header_length: 104,
            extensions: Vec::new(),
        }
    }
}

impl Disk {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let cluster = 1_u64 << self.cluster_bits.clamp(9, 16);
        let (entries, l1_at) = self.l1.unwrap_or((1, 3 * cluster));
        let mut head = b"QFI\xfb".to_vec();
        head.extend(self.version.to_be_bytes());
        head.extend(self.backing.0.to_be_bytes());
        head.extend(self.backing.1.to_be_bytes());
        head.extend(self.cluster_bits.to_be_bytes());
        head.extend(self.size.to_be_bytes());
        head.extend(self.encryption.to_be_bytes());
        head.extend(entries.to_be_bytes());
        head.extend(l1_at.to_be_bytes());
        head.extend(cluster.to_be_bytes());
        head.extend(1_u32.to_be_bytes());
        head.extend(self.snapshots.to_be_bytes());
        head.extend(0_u64.to_be_bytes());
        if self.version >= 3 {
            head.extend(self.incompatible.to_be_bytes());
            head.extend([0; 16]);
            head.extend(4_u32.to_be_bytes());
            head.extend(self.header_length.to_be_bytes());
        }
        head.extend(&self.extensions);
        head.resize(usize::try_from(4 * cluster).unwrap(), 0);
        head
    }
}

/// A header extension of a disk.
pub(crate) fn extension(kind: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = [kind.to_be_bytes(), u32::try_from(data.len()).unwrap().to_be_bytes()].concat();
    bytes.extend_from_slice(data);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes
}
