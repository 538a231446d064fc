//! Repairs of raw bytes, for what a mutation can't hit by luck: checksums, places in order, a path that exists.
//! All leave a file's length as it is.

/// Where the seeds' absolute links point; as long as [`Arena`](crate::Arena)'s own canary.
const SEEDS_CANARY: &[u8] = b"/mnt/lxi-canary";

/// Lets whatever points at the seeds' canary point at `canary`.
pub fn point_at_canary(file: &mut [u8], canary: &[u8]) {
    assert_eq!(canary.len(), SEEDS_CANARY.len(), "the two canaries' names have one length");
    let mut at = 0;
    while let Some(window) = file.get_mut(at..at + SEEDS_CANARY.len()) {
        if window == SEEDS_CANARY {
            window.copy_from_slice(canary);
        }
        at += 1;
    }
}

/// Walks over a plain tar as a reader would, and gives each header the checksum that it needs.
pub fn fix_checksums(file: &mut [u8]) {
    let mut at = 0;
    while let Some(header) = file.get_mut(at..at + 512) {
        at += 512;
        if header.iter().all(|&byte| byte == 0) {
            continue;
        }
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        // Data that would reach beyond the end is taken as more headers.
        let digits = header[124..136].iter().take_while(|byte| (b'0'..=b'7').contains(byte));
        let size = digits.fold(0_usize, |size, digit| (size << 3) | usize::from(digit - b'0'));
        let data = size.div_ceil(512).saturating_mul(512);
        if at.checked_add(data).is_some_and(|end| end <= file.len()) && !matches!(file[at - 512 + 156], b'1'..=b'6') {
            at += data;
        }
    }
}

/// Gives a SquashFS a superblock that can be: the right magic, version and block size, some ids, and
/// the tables in their order within the file. What they hold stays as it is.
pub fn fix_superblock(file: &mut [u8]) {
    const SUPERBLOCK: usize = 96;
    // In the order in which the tables must come: inodes, directories, fragments, export, ids, xattrs, the end.
    const PLACES: [usize; 7] = [64, 72, 80, 88, 48, 56, 40];
    let length = file.len() as u64;
    let Some(head) = file.first_chunk_mut::<SUPERBLOCK>() else { return };
    head[..4].copy_from_slice(b"hsqs");
    head[28..32].copy_from_slice(&[4, 0, 0, 0]);
    let log = 12 + u16::from(head[22]) % 9;
    head[22..24].copy_from_slice(&log.to_le_bytes());
    head[12..16].copy_from_slice(&(1_u32 << log).to_le_bytes());
    let compressor = 1 + (u16::from(head[20]).wrapping_sub(1)) % 6;
    head[20..22].copy_from_slice(&compressor.to_le_bytes());
    head[26] = head[26].max(1);
    let mut before = SUPERBLOCK as u64;
    for at in PLACES {
        let place = u64::from_le_bytes(std::array::from_fn(|byte| head[at + byte]));
        // There may be no fragments, export table and attributes.
        if place == u64::MAX && matches!(at, 80 | 88 | 56) {
            continue;
        }
        // A place of the file stays, what is not one is brought in.
        let place = if place <= length { place } else { place % (length + 1) };
        before = place.max(before);
        head[at..at + 8].copy_from_slice(&before.to_le_bytes());
    }
}

/// A VHDX whose parts are those of `data`, one after the other: the fields of a header (72 bytes), of the region table (256), of the
/// allocation table (256), the metadata table (512) and its values (256), then what lies where the regions end. Such a file has
/// mebibytes of zeros, and checksums that a changed byte would not pass.
#[must_use]
pub fn vhdx(data: &[u8]) -> Vec<u8> {
    const KIB: usize = 1 << 10;
    const MIB: usize = 1 << 20;
    let mut file = vec![0; 5 * MIB];
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"vhdxfile");
    put(64 * KIB, b"head");
    put(192 * KIB, b"regi");
    let mut rest = data;
    for (at, length) in [
        (64 * KIB + 8, 72),
        (192 * KIB + 8, 256),
        (2 * MIB, 256),
        (3 * MIB, 512),
        (3 * MIB + 64 * KIB, 256),
        (4 * MIB, MIB),
    ] {
        let (part, behind) = rest.split_at(rest.len().min(length));
        put(at, part);
        rest = behind;
    }
    for (start, length) in [(64 * KIB, 4 * KIB), (192 * KIB, 64 * KIB)] {
        let part = &mut file[start..start + length];
        let sum = part.iter().fold(u32::MAX, |sum, &byte| {
            (0..8).fold(sum ^ u32::from(byte), |sum, _| (sum >> 1) ^ (0x82f6_3b78 & (sum & 1).wrapping_neg()))
        });
        part[4..8].copy_from_slice(&(!sum).to_le_bytes());
    }
    file
}
