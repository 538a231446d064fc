//! What every codec owes: whole streams or an error, the same bytes on every number of threads,
//! and understanding with the programs that everybody uses.

mod broken;
mod programs;

use std::io::{Read, Write};

use proptest::prelude::*;

use super::{Codec, Compression, decode, decoder, encoder};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;
use crate::progress::Cancel;

/// The codecs of this build that compress.
fn enabled() -> impl Iterator<Item = Codec> {
    Codec::ALL.iter().copied().filter(|codec| codec.is_enabled() && *codec != Codec::None)
}

fn pack(compression: impl Into<Compression>, threads: usize, data: &[u8], chunk: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let mut encoder = encoder(compression.into(), &mut out, threads, &crate::Cancel::new()).expect("an encoder");
    for piece in data.chunks(chunk.max(1)) {
        encoder.write_all(piece).expect("written");
    }
    encoder.finish().expect("finished");
    out
}

fn unpack_with(codec: Codec, packed: &[u8], limits: &Limits, threads: usize) -> Result<Vec<u8>> {
    let mut data = Vec::new();
    decoder(codec, packed, limits, threads, &Cancel::new())?.read_to_end(&mut data)?;
    Ok(data)
}

fn unpack(codec: Codec, packed: &[u8], threads: usize) -> Result<Vec<u8>> {
    unpack_with(codec, packed, &Limits::default(), threads)
}

/// Words that compress about as a file system does, always the same for a `seed`.
fn text(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut data = Vec::with_capacity(length + 64);
    while data.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        match state % 7 {
            0 => data.extend_from_slice(&state.to_le_bytes()),
            1 => data.resize(data.len() + (state >> 8) as usize % 600, 0),
            n => {
                write!(data, "/usr/share/doc/package-{}/{n} ", state >> 50).expect("a Vec takes all");
            }
        }
    }
    data.truncate(length);
    data
}

/// A reader that gives its bytes in small pieces.
struct Drip<'a>(&'a [u8], usize);

impl Read for Drip<'_> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let length = self.1.min(out.len());
        self.0.read(&mut out[..length])
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn what_was_compressed_comes_out_again(
        seed: u64,
        length in prop_oneof![Just(0_usize), 1..300_usize, 1..400_000_usize],
        chunk in prop_oneof![1..100_usize, 1000..300_000_usize],
        drip in prop_oneof![1..50_usize, Just(100_000_usize)],
        step in prop_oneof![1..100_usize, Just(1 << 20)],
        (packing, unpacking) in (1..5_usize, 1..5_usize),
        effort in 0.0..1.0_f64,
    ) {
        let data = text(length, seed);
        let chunk = chunk.max(length / 2000);
        for codec in enabled() {
            let compression = match Compression::levels(codec) {
                // The highest take long and hundreds of megabytes.
                Some((least, most)) => Compression::with_level(codec, least + (f64::from(most.min(7) - least) * effort) as u32)?,
                None => Compression::new(codec),
            };
            let packed = pack(compression, packing, &data, chunk);
            prop_assert_eq!(Codec::detect(&packed), Some(codec));
            let drip = Drip(&packed, drip.max(packed.len() / 2000));
            let mut reader = decoder(codec, drip, &Limits::default(), unpacking, &Cancel::new())?;
            let mut found = Vec::new();
            let mut buffer = vec![0; step.max(length / 2000)];
            loop {
                match reader.read(&mut buffer).map_err(Error::from)? {
                    0 => break,
                    length => found.extend_from_slice(&buffer[..length]),
                }
            }
            prop_assert!(found == data, "{} differs", compression);
        }
    }
}

#[test]
fn bytes_do_not_depend_on_threads_or_on_how_they_were_written() {
    let mut data = text(5_000_000, 7);
    data.resize(9_000_000, 0);
    data.extend(text(3_000_000, 8));
    for codec in enabled() {
        let compression = match codec {
            // Small dictionaries make several blocks of this.
            Codec::Xz | Codec::Lzma => Compression::with_level(codec, 0).expect("a level"),
            _ => Compression::new(codec),
        };
        let one = pack(compression, 1, &data, 1 << 20);
        assert!(one == pack(compression, 8, &data, 777_777), "{codec} differs");
        for threads in [1, 2, 5] {
            assert!(unpack(codec, &one, threads).expect("decoded") == data, "{codec} on {threads}");
        }
    }
}

#[test]
fn members_one_after_the_other_are_one_stream() {
    let (a, b) = (text(300_000, 1), text(2_000, 2));
    let whole = [&a[..], &b, &[], &a].concat();
    for codec in enabled().filter(|&codec| codec != Codec::Lzma) {
        let members: Vec<_> = [&a[..], &b, &[], &a].iter().map(|part| pack(codec, 2, part, 1 << 16)).collect();
        for threads in [1, 3] {
            assert!(unpack(codec, &members.concat(), threads).expect("decoded") == whole, "{codec}");
        }
    }
}

#[test]
fn padding_and_skippable_frames_are_stepped_over() {
    let data = text(10_000, 3);
    let skippable = |length: u8| [&[0x5a, 0x2a, 0x4d, 0x18, length, 0, 0, 0][..], &vec![1; length.into()]].concat();
    for codec in enabled() {
        let packed = pack(codec, 1, &data, 999);
        match codec {
            Codec::Gzip => {
                let padded = [&packed[..], &[0; 700]].concat();
                assert!(unpack(codec, &padded, 1).expect("decoded") == data);
            }
            Codec::Xz => {
                let padded = [&packed[..], &[0; 8], &packed, &[0; 4]].concat();
                for threads in [1, 2] {
                    assert!(unpack(codec, &padded, threads).expect("decoded") == data.repeat(2));
                    let uneven = [&packed[..], &[0; 3]].concat();
                    assert_eq!(unpack(codec, &uneven, threads).map_err(|e| e.kind()), Err(ErrorKind::Malformed));
                }
            }
            Codec::Zstd | Codec::Lz4 => {
                let framed =
                    [&skippable(0)[..], &skippable(9), &packed, &skippable(3), &packed, &skippable(0)].concat();
                assert_eq!(Codec::detect(&framed), Some(codec));
                assert!(unpack(codec, &framed, 1).expect("decoded") == data.repeat(2));
            }
            _ => {}
        }
    }
}

#[test]
fn stream_is_opened_by_its_content() {
    let data = text(5_000, 4);
    for codec in enabled() {
        let packed = pack(codec, 1, &data, 5_000);
        let (found, mut reader) = decode(Drip(&packed, 3), &Limits::default(), 2).expect("opened");
        let mut out = Vec::new();
        reader.read_to_end(&mut out).expect("decoded");
        assert_eq!(found, codec);
        assert!(out == data);
    }
    let (found, mut reader) = decode(&data[..], &Limits::default(), 2).expect("opened");
    let mut out = Vec::new();
    reader.read_to_end(&mut out).expect("read");
    assert_eq!(found, Codec::None);
    assert!(out == data);
}

#[test]
fn tar_is_no_lzma_and_no_bzip2_stream() {
    let mut tar = vec![0; 512];
    tar[..8].copy_from_slice(b"BZh9.txt");
    tar[257..262].copy_from_slice(b"ustar");
    assert_eq!(Codec::detect(&tar), None);
    for byte in 0..=255 {
        let mut name = vec![byte];
        name.resize(512, 0);
        assert_eq!(Codec::detect(&name), None);
    }
    assert_eq!(Codec::detect(b"]\0\0\x80\0\xff\xff\xff\xff\xff\xff\xff\xff\0"), Some(Codec::Lzma));
    assert_eq!(Codec::detect(b"]\0\0\x80\0\xff\xff\xff\xff\xff\xff\xff\xff\x01"), None);
    assert_eq!(Codec::detect(b""), None);
}

#[test]
fn compression_is_read_and_written_as_people_write_it() {
    for text in ["none", "gzip", "gzip:1", "bzip2:9", "xz:0", "lzma:9", "zstd:22", "lz4"] {
        assert_eq!(text.parse::<Compression>().expect(text).to_string(), text);
    }
    for text in
        ["", "zip", "gzip:", "gzip:0", "gzip:10", "zstd:23", "zstd:-1", "xz:10", "lz4:1", "none:1", ":3", "GZIP"]
    {
        assert_eq!(text.parse::<Compression>().map_err(|e| e.kind()), Err(ErrorKind::InvalidInput), "{text}");
    }
}

#[test]
fn codec_that_was_left_out_names_its_feature() {
    for &codec in Codec::ALL.iter().filter(|codec| !codec.is_enabled()) {
        let Err(error) = decoder(codec, &b""[..], &Limits::default(), 1, &Cancel::new()) else {
            panic!("{codec} is left out")
        };
        assert_eq!(error.kind(), ErrorKind::FeatureDisabled);
        assert!(error.to_string().ends_with(&format!("`{}`", codec.feature().expect("a feature"))), "{error}");
        assert!(encoder(codec.into(), Vec::new(), 1, &crate::Cancel::new()).is_err());
    }
}

#[test]
fn dropping_a_coder_halfway_stops_its_threads() {
    let data = text(6_000_000, 5);
    for codec in enabled() {
        let level = Compression::levels(codec)
            .map_or(Compression::new(codec), |(least, _)| Compression::with_level(codec, least).expect("a level"));
        let packed = pack(level, 4, &data, 1 << 20);
        let mut reader = decoder(codec, &packed[..], &Limits::default(), 4, &Cancel::new()).expect("a decoder");
        let mut some = [0; 100_000];
        assert!(reader.read(&mut some).expect("some") > 0);
        drop(reader);
        let mut sink = Vec::new();
        let mut writer = encoder(level, &mut sink, 4, &crate::Cancel::new()).expect("an encoder");
        writer.write_all(&data).expect("written");
        drop(writer);
        assert!(unpack(codec, &sink, 2).is_err(), "{codec} made an end of its own");
    }
}
