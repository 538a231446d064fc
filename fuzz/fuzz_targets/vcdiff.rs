//! Any bytes as a delta of any base: applying ends, in an error or not, with the same result however the bytes come; and any
//! two files make a delta that makes the second out of the first.
//!
//! The first byte chooses: even applies, odd makes, with its upper half as the level. Two bytes say how long the first file is.
#![no_main]

use std::io::{self, Read};

use libfuzzer_sys::fuzz_target;
use lxd_image::delta::{self, AppliedDelta, DeltaOptions};
use lxd_image::io::Blob;
use lxd_image::{Limits, Monitor};

/// Gives one byte at a time.
struct Slow<'a>(&'a [u8]);

impl Read for Slow<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = buffer.len().min(1);
        self.0.read(&mut buffer[..count])
    }
}

fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.vcdiff_window = 1 << 20;
    limits.vcdiff_instructions = 1 << 16;
    limits.output = 8 << 20;
    limits.codec_memory = 1 << 20;
    limits
}

fn apply(base: &Blob, delta: impl Read) -> (Vec<u8>, Result<AppliedDelta, String>) {
    let mut out = Vec::new();
    let done = delta::apply(base, delta, &mut out, &limits(), &Monitor::none());
    (out, done.map_err(|error| format!("{} {error}", error.kind())))
}

fuzz_target!(|data: &[u8]| {
    let Some(([mode, high, low], rest)) = data.split_first_chunk::<3>() else { return };
    let length = usize::from(u16::from_be_bytes([*high, *low])).min(rest.len());
    let (first, second) = rest.split_at(length);
    let base = Blob::from(first.to_vec());
    if mode % 2 == 0 {
        let (out, done) = apply(&base, second);
        assert_eq!(apply(&base, Slow(second)), (out.clone(), done.clone()));
        assert!(out.len() as u64 <= limits().output);
        if let Ok(report) = done {
            assert_eq!(report.output_bytes, out.len() as u64);
            assert_eq!(report.delta_bytes, second.len() as u64);
            assert!(report.copied_bytes <= report.output_bytes);
        }
        return;
    }
    // Presets above 3 take more memory than an input of this size is worth.
    let options = DeltaOptions::new().level(u32::from(mode >> 4) % 4).threads(1).index_memory(1 << 16);
    let mut made = Vec::new();
    let new = Blob::from(second.to_vec());
    let report = delta::make(&base, &new, &mut made, &options, &Monitor::none()).expect("two files in memory");
    let (out, done) = apply(&base, &*made);
    assert!(out == second);
    assert_eq!(done.map(|done| done.copied_bytes), Ok(report.copied_bytes));
});
