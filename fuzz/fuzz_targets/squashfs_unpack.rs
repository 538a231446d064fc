//! Any bytes as the SquashFS of an image, split or unified, unpacked beside canaries and verified.
//! What must hold is said in `verdict`; how the bytes are taken is said by the first of them.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::{Corpus, fuzz_target};
use lxd_image::format::{Image, ImageSource, Input};
use lxd_image_fuzz::{Arena, Mode, Scratch};

static ARENA: LazyLock<Arena> = LazyLock::new(Arena::new);
static SCRATCH: LazyLock<Scratch> = LazyLock::new(Scratch::new);

fuzz_target!(|data: &[u8]| -> Corpus {
    let Some((mode, data)) = Mode::take(data) else { return Corpus::Reject };
    let mut bytes = data.to_vec();
    lxd_image_fuzz::point_at_canary(&mut bytes, ARENA.canary());
    if mode.repaired() {
        lxd_image_fuzz::fix_superblock(&mut bytes);
    }
    if !bytes.starts_with(b"hsqs") {
        return Corpus::Reject;
    }
    lxd_image_fuzz::compare(&ARENA, mode, || {
        let squashfs = Input::file(SCRATCH.file(&bytes))?;
        let source = match mode.split() {
            true => ImageSource::split(Input::stream(lxd_image_fuzz::metadata_archive()), squashfs),
            false => ImageSource::unified(squashfs),
        };
        Image::open_with(source, &lxd_image_fuzz::limits())
    });
    Corpus::Keep
});
