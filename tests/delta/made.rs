//! Deltas that we make: what they make, and how large they are.

use lxd_image::delta::{self, DeltaOptions, DeltaReport};
use lxd_image::io::Blob;
use lxd_image::{Cancel, ErrorKind, Monitor};
use proptest::prelude::*;

use crate::{applied, noise, text};

fn made(old: &[u8], new: &[u8], options: &DeltaOptions) -> (Vec<u8>, DeltaReport) {
    let mut out = Vec::new();
    let (old, new) = (Blob::from(old.to_vec()), Blob::from(new.to_vec()));
    let report = delta::make(&old, &new, &mut out, options, &Monitor::none()).unwrap();
    assert_eq!(report.delta_bytes, out.len() as u64);
    (out, report)
}

/// Makes a delta and applies it.
fn round_trip(old: &[u8], new: &[u8], options: &DeltaOptions) -> (Vec<u8>, DeltaReport) {
    let (delta, report) = made(old, new, options);
    let (again, applied) = applied(old, &delta).unwrap();
    assert!(again == new);
    assert_eq!(applied.copied_bytes, report.copied_bytes);
    assert!(applied.checksums);
    (delta, report)
}

#[test]
fn equal_files_make_a_tiny_delta() {
    let bytes = noise(1, 20 << 20);
    let (delta, report) = round_trip(&bytes, &bytes, &DeltaOptions::new());
    assert_eq!((report.copied_bytes, report.windows), (20 << 20, 3));
    assert!(delta.len() < 200, "{}", delta.len());
}

#[test]
fn empty_files_are_files() {
    let bytes = text(1, 5000);
    assert_eq!(round_trip(b"", b"", &DeltaOptions::new()).1.windows, 1);
    assert_eq!(round_trip(&bytes, b"", &DeltaOptions::new()).1.windows, 1);
    assert!(round_trip(b"", &bytes, &DeltaOptions::new()).0.len() < 2500);
}

#[test]
fn moved_parts_are_copied_at_any_distance() {
    let old = noise(2, 3 << 20);
    let new = [&old[2 << 20..], &old[1 << 20..2 << 20], &old[..1 << 20]].concat();
    let (delta, report) = round_trip(&old, &new, &DeltaOptions::new());
    assert!(report.copied_bytes > (3 << 20) - 1000 && delta.len() < 1000, "{report:?}");
}

#[test]
fn bytes_that_changed_in_place_cost_little() {
    let old = noise(3, 1 << 20);
    let mut new = old.clone();
    new.iter_mut().step_by(1000).for_each(|byte| *byte ^= 0x55);
    let (delta, _) = round_trip(&old, &new, &DeltaOptions::new());
    assert!(delta.len() < 1049 * 6, "{}", delta.len());
}

#[test]
fn runs_take_no_data() {
    let new = [vec![0; 9 << 20], noise(4, 10), vec![0xff; 1 << 20]].concat();
    let (delta, report) = round_trip(&noise(5, 1000), &new, &DeltaOptions::new().level(0));
    assert!(delta.len() < 200 && report.copied_bytes == 0, "{}", delta.len());
}

#[test]
fn parts_that_repeat_in_a_window_are_written_once() {
    let part = noise(6, 100_000);
    let (delta, _) = round_trip(b"", &part.repeat(10), &DeltaOptions::new().level(0));
    assert!(delta.len() < 102_000, "{}", delta.len());
}

#[test]
fn delta_does_not_depend_on_the_number_of_threads() {
    let old = text(7, 3 << 20);
    let mut new = [text(8, 1 << 20), old.clone(), noise(9, 1 << 20)].concat().repeat(14);
    new.iter_mut().step_by(50_001).for_each(|byte| *byte = 0);
    let one = made(&old, &new, &DeltaOptions::new().level(1).threads(1)).0;
    for threads in [2, 3, 8] {
        assert!(made(&old, &new, &DeltaOptions::new().level(1).threads(threads)).0 == one, "{threads}");
    }
    assert!(applied(&old, &one).unwrap().0 == new);
}

#[test]
fn every_level_makes_the_same_file() {
    let (old, new) = (text(10, 200_000), [text(11, 100_000), text(10, 150_000)].concat());
    let sizes: Vec<usize> =
        [0, 1, 6, 9, 99].map(|level| round_trip(&old, &new, &DeltaOptions::new().level(level)).0.len()).to_vec();
    assert!(sizes[0] > sizes[1] && sizes[1] > sizes[2] && sizes[3] == sizes[4], "{sizes:?}");
}

#[test]
fn damaged_delta_never_makes_another_file() {
    let (old, new) = (text(12, 30_000), [text(12, 20_000), text(13, 3000)].concat());
    let delta = made(&old, &new, &DeltaOptions::new()).0;
    for at in 0..delta.len() {
        for bit in [1, 0x10, 0x80] {
            let mut damaged = delta.clone();
            damaged[at] ^= bit;
            // Some bits mean nothing, such as those of a checksum's absence.
            if let Ok((out, report)) = applied(&old, &damaged) {
                assert!(out == new || !report.checksums, "byte {at}, bit {bit:#x}");
            }
        }
    }
}

#[test]
fn another_base_is_a_mismatch() {
    let old = noise(14, 100_000);
    let delta = made(&old, &[&old[50_000..], b"!"].concat(), &DeltaOptions::new()).0;
    assert_eq!(applied(&noise(15, 100_000), &delta).unwrap_err().kind(), ErrorKind::Mismatch);
    assert_eq!(applied(&old[..99_999], &delta).unwrap_err().kind(), ErrorKind::Mismatch);
    assert_eq!(applied(b"", &delta).unwrap_err().kind(), ErrorKind::Mismatch);
}

#[test]
fn cancelled_call_ends_with_all_its_threads() {
    let cancel = Cancel::new();
    let monitor = Monitor::none().with_cancel(cancel.clone());
    let (old, new) = (Blob::from(noise(16, 4 << 20)), Blob::from(noise(17, 80 << 20)));
    let begun = std::time::Instant::now();
    let done = std::thread::scope(|scope| {
        let running = scope.spawn(|| delta::make(&old, &new, std::io::sink(), &DeltaOptions::new(), &monitor));
        std::thread::sleep(std::time::Duration::from_millis(300));
        cancel.cancel();
        running.join().unwrap()
    });
    assert_eq!(done.unwrap_err().kind(), ErrorKind::Cancelled);
    assert!(begun.elapsed().as_secs() < 10, "{:?}", begun.elapsed());
}

#[test]
fn failing_writer_ends_the_call() {
    struct Full;
    impl std::io::Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let (old, new) = (Blob::from(noise(18, 1 << 20)), Blob::from(noise(19, 1 << 20)));
    let done = delta::make(&old, &new, Full, &DeltaOptions::new(), &Monitor::none());
    assert_eq!(done.unwrap_err().kind(), ErrorKind::StorageFull);
}

/// An old file, and a new one that is made of its parts and of others.
fn versions() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let part = prop_oneof![
        (0_usize..60_000, 0_usize..30_000).prop_map(|(from, count)| (Some(from), count, 0)),
        (0_usize..3000, any::<u64>()).prop_map(|(count, seed)| (None, count, seed)),
    ];
    (0_usize..60_000, any::<u64>(), prop::collection::vec(part, 0..12), any::<bool>()).prop_map(
        |(length, seed, parts, is_text)| {
            let old = if is_text { text(seed, length) } else { noise(seed, length) };
            let mut new = Vec::new();
            for (from, count, seed) in parts {
                match from {
                    Some(from) => {
                        let from = from.min(old.len());
                        new.extend_from_slice(&old[from..(from + count).min(old.len())]);
                    }
                    None if seed % 3 == 0 => new.resize(new.len() + count, seed as u8),
                    None => new.extend(noise(seed, count)),
                }
            }
            (old, new)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_two_files_make_a_delta_that_makes_the_new_one((old, new) in versions(), level in 0_u32..4) {
        round_trip(&old, &new, &DeltaOptions::new().level(level).index_memory(1 << 16));
    }
}
