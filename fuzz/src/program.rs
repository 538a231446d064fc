//! An archive written by a program of bytes: every member is well formed, and names are so few that
//! members replace, enclose and link to each other all the time.

/// What names are made of. Two letters and a few that mean something make collisions likely.
const NAMES: [&[u8]; 16] = [
    b"a",
    b"b",
    b"a",
    b"b",
    b"c",
    b"rootfs",
    b"rootfs",
    b"templates",
    b"metadata.yaml",
    b"rootfs.img",
    b"..",
    b".",
    b"",
    b"outside",
    b"dir",
    b"\xff\n",
];

/// The metadata that comes first in most archives.
const METADATA: &[u8] = b"architecture: x86_64\ncreation_date: 1700000000\n\
    templates:\n  /etc/hostname:\n    when: [create]\n    template: a\n";

/// What names in layers are made of: whiteouts of each, and of what can't be hidden.
const LAYER_NAMES: [&[u8]; 16] = [
    b"a",
    b"b",
    b"a",
    b"b",
    b"c",
    b".wh.a",
    b".wh.b",
    b".wh.c",
    b".wh..wh..opq",
    b".wh.",
    b".wh...",
    b".wh..wh.plnk",
    b"..",
    b".",
    b"outside",
    b"etc",
];

struct Program<'a>(&'a [u8], [&'static [u8]; 16]);

impl Program<'_> {
    fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first
    }

    /// A path of up to four names, in most cases below `top`.
    fn path(&mut self, top: &[u8]) -> Vec<u8> {
        let head = self.byte();
        let mut path = match head >> 5 {
            0 => b"/".to_vec(),
            1 => b"./".to_vec(),
            2 => Vec::new(),
            _ => top.to_vec(),
        };
        for index in 0..=head % 4 {
            if index > 0 {
                path.push(b'/');
            }
            path.extend_from_slice(self.1[usize::from(self.byte()) % self.1.len()]);
        }
        if head & 0x10 != 0 {
            path.push(b'/');
        }
        path
    }
}

/// The files of an image, unified or split.
#[must_use]
pub fn archive(program: &[u8], split: bool) -> Vec<Vec<u8>> {
    let mut program = Program(program, NAMES);
    let mut first = Vec::new();
    let flags = program.byte();
    if flags & 1 == 0 {
        member(&mut first, b"metadata.yaml", b'0', b"", METADATA, 0o644, 0);
    }
    if flags & 2 == 0 {
        member(&mut first, b"templates/a", b'0', b"", b"{{ x }}", 0o644, 0);
    }
    if !split {
        if flags & 4 == 0 {
            member(&mut first, b"rootfs/", b'5', b"", b"", 0o755, 0);
        }
        members(&mut program, &mut first, b"rootfs/");
        first.resize(first.len() + 1024, 0);
        return vec![first];
    }
    first.resize(first.len() + 1024, 0);
    let mut second = Vec::new();
    if flags & 4 == 0 {
        member(&mut second, b"./", b'5', b"", b"", 0o755, 0);
    }
    members(&mut program, &mut second, b"");
    second.resize(second.len() + 1024, 0);
    if flags & 8 == 0 { vec![first, second] } else { vec![second, first] }
}

/// The layers of a container image, the lowest first: as many as the first byte says, up to four, of as many members each.
#[must_use]
pub fn layers(program: &[u8]) -> Vec<Vec<u8>> {
    let Some((count, rest)) = program.split_first() else { return Vec::new() };
    let count = usize::from(count % 4) + 1;
    let mut layers = Vec::new();
    for part in rest.chunks(rest.len().div_ceil(count).max(1)) {
        let mut layer = Vec::new();
        members(&mut Program(part, LAYER_NAMES), &mut layer, b"");
        layer.resize(layer.len() + 1024, 0);
        layers.push(layer);
    }
    layers
}

fn members(program: &mut Program<'_>, out: &mut Vec<u8>, top: &[u8]) {
    while !program.0.is_empty() {
        let kind = program.byte();
        let path = program.path(top);
        let typeflag = b"00055522211346"[usize::from(kind) % 14];
        let target = match typeflag {
            // A hard link's target is a name in the archive, a symbolic link's is anything.
            b'1' => program.path(top),
            b'2' if kind & 0x40 != 0 => b"/mnt/lxi-canary/dir".to_vec(),
            b'2' if kind & 0x20 != 0 => b"../../outside/dir".to_vec(),
            b'2' => program.path(b""),
            _ => Vec::new(),
        };
        let mode = u32::from(program.byte()) << 4 | 0o7;
        let content = vec![b'x'; if typeflag == b'0' { usize::from(program.byte()) * 8 } else { 0 }];
        let owner = u32::from(mode & 0x100 != 0) * 1000;
        match kind >> 6 {
            // The same names by other ways of saying them.
            2 => {
                let records =
                    [record(b"path", &path), record(b"linkpath", &target), record(b"SCHILY.xattr.user.x", b"1")];
                member(out, b"x", b'x', b"", &records.concat(), 0o644, 0);
                member(out, b"short", typeflag, b"short", &content, mode, owner);
            }
            3 => {
                member(out, b"././@LongLink", b'L', b"", &[&path[..], b"\0"].concat(), 0o644, 0);
                member(out, b"short", typeflag, &target, &content, mode, owner);
            }
            _ => member(out, &path, typeflag, &target, &content, mode, owner),
        }
    }
}

fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let length = (1..).find(|digits| (rest + digits).to_string().len() == *digits).map_or(rest, |digits| rest + digits);
    [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat()
}

fn member(out: &mut Vec<u8>, name: &[u8], typeflag: u8, target: &[u8], content: &[u8], mode: u32, owner: u32) {
    let mut header = [0; 512];
    let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &name[..name.len().min(100)]);
    put(100, format!("{:07o}\0", mode & 0o7777).as_bytes());
    put(108, format!("{owner:07o}\0").as_bytes());
    put(116, format!("{owner:07o}\0").as_bytes());
    put(124, format!("{:011o}\0", content.len()).as_bytes());
    put(136, b"14512345600\0");
    put(156, &[typeflag]);
    put(157, &target[..target.len().min(100)]);
    put(257, b"ustar\x0000");
    if matches!(typeflag, b'3' | b'4') {
        put(329, b"0000001\0");
        put(337, b"0000003\0");
    }
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    out.extend_from_slice(&header);
    out.extend_from_slice(content);
    out.resize(out.len().next_multiple_of(512), 0);
}
