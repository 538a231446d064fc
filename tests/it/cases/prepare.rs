//! Steps that prepare: files, archives, limits.

use std::fs::{self, OpenOptions};
use std::io::Write;

use super::{Outcome, Place, text};

fn append(place: &Place, file: &[u8], bytes: &[u8]) {
    let file = OpenOptions::new().append(true).create(true).open(place.path(file));
    file.unwrap().write_all(bytes).unwrap();
}

/// A tar member: header and content.
fn member(kind: u8, name: &[u8], mode: &str, content: &[u8]) -> Vec<u8> {
    let mut header = [0_u8; 512];
    let mut put = |at: usize, text: &[u8]| header[at..at + text.len()].copy_from_slice(text);
    put(0, name);
    put(100, format!("{mode:0>7}\0").as_bytes());
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    let is_link = matches!(kind, b'1' | b'2');
    let data = if is_link || kind == b'3' { &[][..] } else { content };
    put(124, format!("{:011o}\0", data.len()).as_bytes());
    put(136, b"14524776400\0");
    put(148, b"        ");
    put(156, &[kind]);
    if is_link {
        put(157, content);
    }
    put(257, b"ustar\x0000");
    if kind == b'3' {
        let (major, minor) = text(content).split_once(':').unwrap();
        put(329, format!("{:07o}\0", major.parse::<u32>().unwrap()).as_bytes());
        put(337, format!("{:07o}\0", minor.parse::<u32>().unwrap()).as_bytes());
    }
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut bytes = header.to_vec();
    bytes.extend_from_slice(data);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

pub(super) fn step(place: &mut Place, name: &str, words: &[&[u8]]) -> Option<Outcome> {
    match (name, words) {
        ("member", [file, kind, name, mode, content @ ..]) => {
            let bytes = member(kind[0], name, text(mode), content.first().unwrap_or(&&[][..]));
            append(place, file, &bytes);
        }
        ("end", [file]) => append(place, file, &[0; 1024]),
        ("bytes", [file, content]) => append(place, file, content),
        ("dir", [path]) => fs::create_dir_all(place.path(path)).unwrap(),
        ("link", [target, path]) => std::os::unix::fs::symlink(text(target), place.path(path)).unwrap(),
        ("limit", [name, value]) => {
            let value = text(value).parse().unwrap();
            return Some(place.limits.set(text(name), value).map(|()| (Vec::new(), None)));
        }
        _ => return None,
    }
    Some(Ok((Vec::new(), None)))
}
