//! Any bytes as an image, unpacked beside canaries: nothing outside changes, nothing is left of a
//! failure, and verifying comes to the same verdict. Devices are made only where root runs it.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::{Corpus, fuzz_target};
use lxd_image_fuzz::{Arena, Mode};

static ARENA: LazyLock<Arena> = LazyLock::new(Arena::new);

fuzz_target!(|data: &[u8]| -> Corpus {
    let Some((mode, data)) = Mode::take(data) else { return Corpus::Reject };
    let mut files = mode.files(data);
    files.iter_mut().for_each(|file| lxd_image_fuzz::point_at_canary(file, ARENA.canary()));
    if mode.repaired() {
        files.iter_mut().for_each(|file| lxd_image_fuzz::fix_checksums(file));
    }
    lxd_image_fuzz::compare(&ARENA, mode, || lxd_image_fuzz::open(&files));
    Corpus::Keep
});
