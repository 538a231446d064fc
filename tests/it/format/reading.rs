//! How much is read for an answer: metadata that comes first costs little, and a stream is looked at only so far.
//! Counted at the reader that the library is given.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lxd_image::format::{Codec, Image, ImageSource, Input, VerifyOptions};
use lxd_image::{ErrorKind, Monitor};

use super::forge::{METADATA, Member, archive, base, compressed, directory, file, image, metadata};

/// Bytes, and then as many zeros as wanted, without holding them; counts what was taken.
struct Counted {
    head: std::io::Cursor<Vec<u8>>,
    zeros: u64,
    taken: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let mut count = self.head.read(buffer)?;
        if count == 0 {
            count = buffer.len().min(usize::try_from(self.zeros).unwrap_or(usize::MAX));
            buffer[..count].fill(0);
            self.zeros -= count as u64;
        }
        self.taken.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

fn stream(head: Vec<u8>, zeros: u64) -> (Input, Arc<AtomicU64>) {
    let taken = Arc::new(AtomicU64::new(0));
    let reader = Counted { head: std::io::Cursor::new(head), zeros, taken: Arc::clone(&taken) };
    (Input::stream(reader), taken)
}

#[test]
fn metadata_that_comes_first_costs_less_than_a_mib_of_a_large_image() {
    let size = 200_u64 << 20;
    let big = Member::new(b'0', "rootfs/big").size(size.into()).bytes();
    let (input, taken) = stream([base(), big].concat(), size + 1024);
    let opened = Image::open(ImageSource::unified(input)).unwrap();
    assert_eq!(opened.metadata().unwrap().architecture(), "x86_64");
    assert!(taken.load(Ordering::Relaxed) < 1 << 20, "{} bytes were read", taken.load(Ordering::Relaxed));
    // And the whole of it can still be read after that look.
    assert_eq!(opened.verify(&VerifyOptions::new(), &Monitor::none()).unwrap().size, taken.load(Ordering::Relaxed));
}

#[test]
fn stream_of_every_codec_is_looked_at_and_then_read_from_its_start() {
    let noise: Vec<u8> = (0..400_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    for codec in Codec::ALL.iter().copied().filter(|codec| codec.is_enabled()) {
        let bytes = compressed(codec, &image(&[file("rootfs/noise", &noise)]));
        let (input, taken) = stream(bytes.clone(), 0);
        let opened = Image::open(ImageSource::unified(input)).unwrap();
        assert_eq!(opened.metadata_bytes().unwrap(), METADATA.as_bytes());
        // The smallest piece that can be decoded of these is a block of 900 KB and of 4 MiB.
        let most = if matches!(codec, Codec::Bzip2 | Codec::Lz4) { 5 << 20 } else { 1 << 20 };
        assert!(taken.load(Ordering::Relaxed) < most, "{codec}: {}", taken.load(Ordering::Relaxed));
        let verified = opened.verify(&VerifyOptions::new(), &Monitor::none()).unwrap();
        assert_eq!(verified.fingerprint, lxd_image::Fingerprint::of(&bytes));
        assert_eq!(opened.verify(&VerifyOptions::new(), &Monitor::none()).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
}

#[test]
fn stream_is_not_kept_in_memory_while_its_metadata_is_looked_for() {
    let size = 100_u64 << 20;
    let big = Member::new(b'0', "rootfs/big").size(size.into()).bytes();
    let (input, taken) = stream(archive(&[directory("rootfs/"), big]), size);
    let opened = Image::open(ImageSource::unified(input)).unwrap();
    let error = opened.metadata().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains("file")), "{error:?}");
    assert!(taken.load(Ordering::Relaxed) < 40 << 20, "{} bytes were kept", taken.load(Ordering::Relaxed));
}

#[test]
fn stream_is_not_kept_in_memory_while_its_kind_is_looked_for() {
    if !Codec::Zstd.is_enabled() {
        return;
    }
    let length = 1_u64 << 30;
    let skippable = [&b"\x50\x2a\x4d\x18"[..], &u32::try_from(length).unwrap().to_le_bytes()].concat();
    let (input, taken) = stream(skippable, length);
    assert_eq!(Image::open(ImageSource::unified(input)).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert!(taken.load(Ordering::Relaxed) < 40 << 20, "{} bytes were kept", taken.load(Ordering::Relaxed));
}

#[test]
fn metadata_that_comes_last_is_found_too() {
    let place = super::Place::new();
    let bytes = archive(&[file("rootfs/big", vec![b'x'; 2 << 20]), metadata()]);
    let opened = Image::open(ImageSource::open(place.write("image", bytes), None).unwrap()).unwrap();
    assert_eq!(opened.metadata().unwrap().creation_date(), 1_700_000_000);
}
