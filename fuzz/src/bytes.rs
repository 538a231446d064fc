//! Repairs of raw bytes, for what a mutation can't hit by luck: checksums, and a path that exists.
//! Both leave a file's length as it is.

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
