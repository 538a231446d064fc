//! OVA: a tar archive with an OVF descriptor and the disk that it names.
//! Format facts: DMTF DSP0243, "Open Virtualization Format".

use std::io;

use crate::error::{Error, Escaped, Result};
use crate::format::TarHeader;
use crate::io::{Blob, ReadAt};
use crate::limits::Limits;

/// Bytes of a tar block.
const BLOCK_BYTES: u64 = 512;
/// Members of an appliance at most. Real ones have fewer than 10.
const MAX_MEMBERS: usize = 1_000;

/// A file of the archive.
struct Member {
    name: Vec<u8>,
    offset: u64,
    length: u64,
}

/// Whether a tar archive has the descriptor of an appliance.
pub(crate) fn is_appliance(blob: &Blob) -> bool {
    let is_descriptor = |name: &[u8]| name.to_ascii_lowercase().ends_with(b".ovf");
    members(blob).is_ok_and(|members| members.iter().any(|member| is_descriptor(&member.name)))
}

/// The disk of an appliance: the one that its descriptor names.
///
/// # Errors
/// `Unsupported` for an appliance with several disks, and for a disk in parts or compressed as a
/// whole; `Malformed`; `LimitExceeded`; `Io`.
pub(super) fn disk(blob: &Blob, limits: &Limits) -> Result<Blob> {
    let members = members(blob)?;
    // The standard wants it first; some tools put it elsewhere.
    let descriptor = members
        .iter()
        .find(|member| member.name.to_ascii_lowercase().ends_with(b".ovf"))
        .ok_or_else(|| Error::unsupported("the archive has no OVF descriptor, so it is no virtual appliance"))?;
    if descriptor.length > limits.metadata {
        return Err(Error::limit("metadata", limits.metadata, "the appliance's OVF descriptor"));
    }
    let mut text = vec![0; usize::try_from(descriptor.length).unwrap_or(0)];
    blob.read_exact_at(&mut text, descriptor.offset)?;
    let named = |error: Error| error.in_entry(&descriptor.name);
    let name = disk_name(&String::from_utf8_lossy(&text)).map_err(named)?;
    let member = members.iter().find(|member| member.name == name.as_bytes()).ok_or_else(|| {
        named(Error::malformed(format!("the appliance's disk `{}` is not in the archive", Escaped(name.as_bytes()))))
    })?;
    Ok(Blob::new(Part { blob: blob.clone(), offset: member.offset, length: member.length }))
}

/// The members of a tar archive, from its headers alone.
fn members(blob: &Blob) -> Result<Vec<Member>> {
    let mut members: Vec<Member> = Vec::new();
    let mut at = 0_u64;
    // An archive that ends without its end marker is taken, as by every other program.
    while at.saturating_add(BLOCK_BYTES) <= blob.len() {
        let mut block = [0; 512];
        blob.read_exact_at(&mut block, at)?;
        if block.iter().all(|&byte| byte == 0) {
            break;
        }
        let header = TarHeader::parse(&block).map_err(|error| error.at_offset(at))?;
        let offset = at.saturating_add(BLOCK_BYTES);
        let length = u64::try_from(header.number(crate::format::TAR_SIZE)?)
            .map_err(|_| Error::malformed("the size of a member is negative or too large").at_offset(at))?;
        let end = offset.checked_add(length).filter(|end| *end <= blob.len());
        let end = end.ok_or_else(|| Error::malformed("a member of the appliance runs past its end").at_offset(at))?;
        match header.typeflag() {
            b'0' | 0 => members.push(Member { name: plain(&header.name()), offset, length }),
            // A directory, and headers for those who understand them.
            b'5' | b'g' => {}
            // The standard wants plain `ustar`; what renames or resizes the next member can't be passed over.
            _ => {
                return Err(Error::unsupported("the appliance's archive is not in the format ustar")
                    .at_offset(at)
                    .with_hint("unpack it with `tar -xf`, and take the disk"));
            }
        }
        if members.len() > MAX_MEMBERS {
            return Err(Error::malformed(format!("the appliance has more than {MAX_MEMBERS} members")));
        }
        at = end.checked_next_multiple_of(BLOCK_BYTES).unwrap_or(u64::MAX);
    }
    Ok(members)
}

/// A member's name without a leading `./`.
fn plain(name: &[u8]) -> Vec<u8> {
    name.strip_prefix(b"./").unwrap_or(name).to_vec()
}

/// The name of the file of the only disk in a descriptor.
fn disk_name(text: &str) -> Result<String> {
    let mut files = Vec::new();
    let mut disks = Vec::new();
    for tag in start_tags(text) {
        match tag.name {
            "File" => files.push(tag),
            "Disk" => disks.push(tag),
            _ => {}
        }
    }
    // A disk without a file is an empty one, which the host would make.
    let mut stored = disks.iter().filter_map(|disk| disk.attribute("fileRef").map(|file| (disk, file)));
    let Some((disk, reference)) = stored.next() else {
        return Err(Error::malformed("the appliance has no disk"));
    };
    if stored.next().is_some() {
        return Err(Error::unsupported("the appliance has several disks, and an image has one")
            .with_hint("unpack it with `tar -xf`, and take the disk that is to be the image"));
    }
    if disk.attribute("parentRef").is_some() {
        return Err(Error::unsupported("the appliance's disk has a parent"));
    }
    let file = files
        .iter()
        .find(|file| file.attribute("id").as_deref() == Some(&reference))
        .ok_or_else(|| Error::malformed("the appliance's disk refers to a file that is not listed"))?;
    if file.attribute("chunkSize").is_some() {
        return Err(Error::unsupported("the appliance's disk is in several parts"));
    }
    if file.attribute("compression").is_some_and(|codec| !codec.is_empty() && codec != "identity") {
        return Err(Error::unsupported("the appliance's disk is compressed as a whole")
            .with_hint("unpack it with `tar -xf`, and decompress the disk"));
    }
    let name = file.attribute("href").filter(|name| !name.is_empty());
    name.ok_or_else(|| Error::malformed("the appliance's disk has no file name"))
}

/// A start tag of an XML document, without its namespace's prefix.
struct Tag<'a> {
    name: &'a str,
    attributes: &'a str,
}

impl Tag<'_> {
    /// The value of an attribute, whatever its prefix.
    fn attribute(&self, name: &str) -> Option<String> {
        let mut rest = self.attributes;
        while let Some((key, behind)) = rest.split_once('=') {
            let behind = behind.trim_start();
            let quote = behind.chars().next().filter(|quote| matches!(quote, '"' | '\''))?;
            let (value, next) = behind.get(1..)?.split_once(quote)?;
            if local(key.trim()) == name {
                return Some(unescape(value));
            }
            rest = next;
        }
        None
    }
}

/// A name without its namespace's prefix.
fn local(name: &str) -> &str {
    name.rsplit_once(':').map_or(name, |(_, name)| name)
}

/// The characters that XML has names for.
fn unescape(text: &str) -> String {
    let text = text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&apos;", "'");
    // Last, so that what it makes is not taken for another name.
    text.replace("&amp;", "&")
}

/// The start tags of an XML document in order; comments are passed over. Nothing else of XML is
/// looked at, and entities that a document declares are never expanded.
fn start_tags(text: &str) -> impl Iterator<Item = Tag<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        loop {
            let (_, behind) = rest.split_once('<')?;
            if let Some(comment) = behind.strip_prefix("!--") {
                rest = comment.split_once("-->")?.1;
                continue;
            }
            let (tag, next) = behind.split_once('>')?;
            rest = next;
            let tag = tag.trim_end_matches('/');
            let (name, attributes) = tag.split_once(|c: char| c.is_ascii_whitespace()).unwrap_or((tag, ""));
            if name.starts_with(['/', '?', '!']) {
                continue;
            }
            return Some(Tag { name: local(name), attributes });
        }
    })
}

/// A part of a file.
struct Part {
    blob: Blob,
    offset: u64,
    length: u64,
}

impl ReadAt for Part {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let left = usize::try_from(self.length.saturating_sub(offset)).unwrap_or(usize::MAX);
        let room = left.min(buffer.len());
        self.blob.read_at(buffer.get_mut(..room).unwrap_or_default(), self.offset.saturating_add(offset))
    }

    fn len(&self) -> u64 {
        self.length
    }

    fn version(&self) -> io::Result<Option<crate::io::Version>> {
        self.blob.version()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;
    use crate::error::ErrorKind;

    const DISK: &str = r#"<?xml version="1.0"?><Envelope xmlns:ovf="x"><References>
        <!-- <File ovf:id="f0" ovf:href="no.vmdk"/> -->
        <File ovf:href="a &amp; b.vmdk" ovf:id="f1"/><File ovf:href="x.iso" ovf:id="f2"/></References>
        <DiskSection><Disk ovf:diskId="d1" ovf:fileRef='f1' ovf:capacity="1"/><Disk ovf:diskId="empty"/></DiskSection></Envelope>"#;

    #[test]
    fn disk_is_the_file_that_the_descriptor_names() {
        assert_eq!(disk_name(DISK).unwrap(), "a & b.vmdk");
    }

    #[test]
    fn descriptors_without_one_whole_disk_are_refused() {
        for (from, to, kind) in [
            ("fileRef='f1'", "fileRef='f9'", ErrorKind::Malformed),
            ("fileRef='f1'", "", ErrorKind::Malformed),
            ("<Disk ovf:diskId=\"empty\"/>", "<Disk ovf:fileRef=\"f2\"/>", ErrorKind::Unsupported),
            ("ovf:id=\"f1\"", "ovf:id=\"f1\" ovf:chunkSize=\"10\"", ErrorKind::Unsupported),
            ("ovf:id=\"f1\"", "ovf:id=\"f1\" ovf:compression=\"gzip\"", ErrorKind::Unsupported),
            ("ovf:href=\"a &amp; b.vmdk\"", "", ErrorKind::Malformed),
        ] {
            assert!(DISK.contains(from));
            assert_eq!(disk_name(&DISK.replace(from, to)).unwrap_err().kind(), kind, "{to}");
        }
    }
}
