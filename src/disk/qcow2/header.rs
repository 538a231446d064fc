//! The header of a qcow2 disk: its virtual size, and the refusal of everything that leads to other
//! files.
//!
//! Format facts: QEMU's `docs/interop/qcow2.rst`. Nothing of the disk's content is read.
//!
//! A qcow2 file may name a backing file or an external data file, which the hypervisor would open
//! with its own permissions when the machine starts (the class of CVE-2014-5160 and others). Such
//! disks are refused, by the header's fields as well as by its extensions, and so are encrypted
//! disks and incompatible features that are not known.

use crate::error::{Error, Escaped, Result};
use crate::limits::Limits;

/// The first four bytes of every qcow2 disk.
pub(crate) const MAGIC: &[u8] = b"QFI\xfb";

/// How much of a disk's start [`Header::parse`] looks at, at most: bytes.
pub(crate) const HEAD_BYTES: usize = 64 << 10;

/// Incompatible feature bit 0: reference counts may be wrong. Harmless to readers, so it is
/// accepted.
const DIRTY: u64 = 1 << 0;
/// Incompatible feature bit 1: the disk must not be used.
const CORRUPT: u64 = 1 << 1;
/// Incompatible feature bit 2: the content is in another file.
const DATA_FILE: u64 = 1 << 2;
/// Incompatible feature bit 3: clusters are compressed with another codec than deflate.
const COMPRESSION: u64 = 1 << 3;
/// Incompatible feature bit 4: clusters have subclusters.
const EXTENDED_L2: u64 = 1 << 4;

/// What the header of a disk says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    /// 2 or 3.
    pub(crate) version: u32,
    /// The size that a machine sees, in bytes.
    pub(crate) virtual_size: u64,
    /// Bytes of a cluster, as a power of two: 9 to 21.
    pub(crate) cluster_bits: u32,
    /// How many internal snapshots it holds.
    pub(crate) snapshots: u32,
    /// Entries of the L1 table.
    pub(in crate::disk) l1_entries: u32,
    /// Where the L1 table is.
    pub(in crate::disk) l1_offset: u64,
    /// Where the refcount table is.
    pub(in crate::disk) refcount_offset: u64,
    /// Clusters of the refcount table.
    pub(in crate::disk) refcount_clusters: u32,
    /// Bits of a reference count, as a power of two.
    pub(in crate::disk) refcount_order: u32,
    /// Whether entries of L2 tables have 16 bytes, for subclusters.
    pub(in crate::disk) extended_l2: bool,
    /// Whether the feature bit says that clusters are compressed otherwise than with deflate.
    pub(in crate::disk) other_compression: bool,
    /// The header's number of the codec: 0 for deflate, 1 for Zstandard.
    pub(in crate::disk) compression: u8,
}

impl Header {
    /// Bytes of a cluster.
    pub(crate) fn cluster_size(&self) -> u64 {
        1 << self.cluster_bits
    }

    /// Reads the header from the start of a disk.
    ///
    /// `head` holds the first [`HEAD_BYTES`] of it, or all when it is shorter; `length` is that of
    /// the whole file in bytes.
    ///
    /// Everything in the header that refers to another file is refused, since the hypervisor would
    /// open that file with its own permissions.
    ///
    /// # Errors
    /// `Unsupported` for what would need another file or a key (backing file, external data file,
    /// encryption), for unknown incompatible features and other disk formats; `Malformed` for a
    /// header that does not hold together; `LimitExceeded` for a disk larger than allowed.
    pub(crate) fn parse(head: &[u8], length: u64, limits: &Limits) -> Result<Self> {
        if !head.starts_with(MAGIC) {
            return Err(Error::unsupported("the disk is no qcow2 file"));
        }
        let cut = || Error::malformed("the disk ends in the middle of its header");
        let u32_at =
            |at: usize| head.get(at..at + 4).and_then(|bytes| bytes.first_chunk()).map(|b| u32::from_be_bytes(*b));
        let u64_at =
            |at: usize| head.get(at..at + 8).and_then(|bytes| bytes.first_chunk()).map(|b| u64::from_be_bytes(*b));
        let version = u32_at(4).ok_or_else(cut)?;
        if !matches!(version, 2 | 3) {
            let error = Error::unsupported(format!("a qcow disk of version {version}; 2 and 3 are known"));
            return Err(if version == 1 {
                error.with_hint("convert it with `qemu-img convert -f qcow -O qcow2 OLD NEW`")
            } else {
                error
            });
        }
        let backing_offset = u64_at(8).ok_or_else(cut)?;
        let backing_size = u32_at(16).ok_or_else(cut)?;
        let cluster_bits = u32_at(20).ok_or_else(cut)?;
        let virtual_size = u64_at(24).ok_or_else(cut)?;
        let encryption = u32_at(32).ok_or_else(cut)?;
        let l1_entries = u32_at(36).ok_or_else(cut)?;
        let l1_offset = u64_at(40).ok_or_else(cut)?;
        let refcount_offset = u64_at(48).ok_or_else(cut)?;
        let refcount_clusters = u32_at(56).ok_or_else(cut)?;
        let snapshots = u32_at(60).ok_or_else(cut)?;
        if head.len() < 72 {
            return Err(cut());
        }
        if !(9..=21).contains(&cluster_bits) {
            return Err(Error::malformed(format!(
                "the disk's cluster size is 2^{cluster_bits}, which is out of range"
            )));
        }
        let cluster_size = 1_u64 << cluster_bits;
        // Either field alone is refused: QEMU looks at the offset, other tools at the size.
        if backing_offset != 0 || backing_size != 0 {
            let name = usize::try_from(backing_offset).ok().zip(usize::try_from(backing_size).ok());
            let name = name.and_then(|(at, length)| head.get(at..at.checked_add(length)?)).unwrap_or_default();
            let name = if name.is_empty() { String::new() } else { format!(" `{}`", Escaped(name)) };
            return Err(Error::unsupported(format!(
                "the disk has the backing file{name}, which would be read from the host"
            ))
            .with_hint("where that file is, make a disk of both: `qemu-img convert -O qcow2 DISK NEW`"));
        }
        if encryption != 0 {
            return Err(encrypted(if encryption == 2 { "with LUKS" } else { "with qcow2's old AES" }));
        }
        if virtual_size > limits.qcow2_size {
            return Err(Error::limit("qcow2_size", limits.qcow2_size, format_args!("a disk of {virtual_size} bytes")));
        }
        let (mut header_length, mut incompatible, mut refcount_order, mut compression) = (72, 0, 4, 0);
        if version == 3 {
            header_length = u64::from(u32_at(100).ok_or_else(cut)?);
            incompatible = u64_at(72).ok_or_else(cut)?;
            refcount_order = u32_at(96).ok_or_else(cut)?;
            check_features(incompatible, || check_extensions(head, header_length, cluster_size).err())?;
            if header_length < 104 || header_length > cluster_size || header_length % 8 != 0 {
                return Err(Error::malformed(format!("the disk's header says that it has {header_length} bytes")));
            }
            if header_length > 104 {
                compression = head.get(104).copied().ok_or_else(cut)?;
            }
        }
        check_extensions(head, header_length, cluster_size)?;
        let extended_l2 = incompatible & EXTENDED_L2 != 0;
        // One L1 entry stands for an L2 table of a cluster, whose entries stand for a cluster each.
        let covered = cluster_size * (cluster_size / if extended_l2 { 16 } else { 8 });
        check_l1(l1_entries, l1_offset, virtual_size, (cluster_size, covered), length, limits)?;
        Ok(Self {
            version,
            virtual_size,
            cluster_bits,
            snapshots,
            l1_entries,
            l1_offset,
            refcount_offset,
            refcount_clusters,
            refcount_order,
            extended_l2,
            other_compression: incompatible & COMPRESSION != 0,
            compression,
        })
    }
}

/// The refusal of an encrypted disk.
fn encrypted(how: &str) -> Error {
    Error::unsupported(format!("the disk is encrypted {how}")).with_hint(
        "decrypt it where its key is: `qemu-img convert --object secret,id=key,file=KEY --image-opts \
         driver=qcow2,encrypt.key-secret=key,file.filename=DISK -O qcow2 NEW`",
    )
}

/// The refusal of a disk with an external data file.
fn data_file(name: &[u8]) -> Error {
    let name = if name.is_empty() { String::new() } else { format!(" `{}`", Escaped(name)) };
    Error::unsupported(format!("the disk keeps its data in another file{name}, which would be read from the host"))
        .with_hint("where that file is, make one disk of both: `qemu-img convert -O qcow2 DISK NEW`")
}

/// Refuses incompatible features. `named` looks whether the header's extensions name the external
/// data file.
fn check_features(incompatible: u64, named: impl FnOnce() -> Option<Error>) -> Result<()> {
    if incompatible & CORRUPT != 0 {
        return Err(
            Error::malformed("the disk is marked as corrupt").with_hint("repair it with `qemu-img check -r all`")
        );
    }
    if incompatible & DATA_FILE != 0 {
        return Err(named().unwrap_or_else(|| data_file(b"")));
    }
    let unknown = incompatible & !(DIRTY | CORRUPT | DATA_FILE | COMPRESSION | EXTENDED_L2);
    if unknown != 0 {
        return Err(Error::unsupported(format!("the disk has incompatible features that are not known: {unknown:#x}")));
    }
    Ok(())
}

/// Header extensions: a type, a length, data padded to 8 bytes; type 0 ends them. All of them lie
/// in the first cluster.
fn check_extensions(head: &[u8], start: u64, cluster_size: u64) -> Result<()> {
    const END: u32 = 0;
    const BACKING_FORMAT: u32 = 0xe279_2aca;
    const EXTERNAL_DATA_FILE: u32 = 0x4441_5441;
    const ENCRYPTION: u32 = 0x0537_be77;
    let beyond = || Error::malformed("an extension of the disk's header runs past the first cluster");
    let mut at = usize::try_from(start).map_err(|_| beyond())?;
    loop {
        if at as u64 + 8 > cluster_size {
            return Err(beyond());
        }
        let Some(words) = head.get(at..at + 8) else {
            // A file that ends with its header has no extensions; one that is cut inside them is broken.
            if at >= head.len() && at as u64 == start {
                return Ok(());
            }
            return Err(beyond());
        };
        let (kind, length) = words.split_at(4);
        let number = |bytes: &[u8]| bytes.first_chunk().map_or(0, |b| u32::from_be_bytes(*b));
        let (kind, length) = (number(kind), u64::from(number(length)));
        match kind {
            END => return Ok(()),
            // `qemu-img rebase -b ""` leaves an empty one.
            BACKING_FORMAT if length == 0 => {}
            BACKING_FORMAT => return Err(Error::unsupported("the disk's header names a backing file's format")),
            EXTERNAL_DATA_FILE => {
                let name =
                    usize::try_from(length).ok().and_then(|length| head.get(at + 8..(at + 8).checked_add(length)?));
                return Err(data_file(name.unwrap_or_default()));
            }
            ENCRYPTION => return Err(encrypted("with LUKS")),
            _ => {}
        }
        let next = at as u64 + 8 + length.next_multiple_of(8);
        if next > cluster_size {
            return Err(beyond());
        }
        at = usize::try_from(next).map_err(|_| beyond())?;
    }
}

/// Checks that the L1 table lies in the file, within the limit, and covers the virtual size: `covered`
/// bytes with each entry.
fn check_l1(
    entries: u32,
    offset: u64,
    virtual_size: u64,
    (cluster_size, covered): (u64, u64),
    length: u64,
    limits: &Limits,
) -> Result<()> {
    let bytes = u64::from(entries) * 8;
    if bytes > limits.l1_table {
        return Err(Error::limit("l1_table", limits.l1_table, format_args!("an L1 table of {entries} entries")));
    }
    let outside = || Error::malformed("the disk's L1 table lies outside of the file");
    if entries > 0 && (!offset.is_multiple_of(cluster_size) || offset.checked_add(bytes).ok_or_else(outside)? > length)
    {
        return Err(outside());
    }
    if u64::from(entries) < virtual_size.div_ceil(covered) {
        return Err(Error::malformed("the disk's L1 table is too short for its size"));
    }
    Ok(())
}
