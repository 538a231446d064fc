//! Streams that are cut, changed, or want more memory than they may.
//! The first answer of a decoder that matters is the one to these.

use super::*;

fn kind(codec: Codec, packed: &[u8], threads: usize) -> std::result::Result<Vec<u8>, ErrorKind> {
    unpack(codec, packed, threads).map_err(|error| error.kind())
}

#[test]
fn stream_cut_at_any_byte_is_malformed() {
    let data = text(1_500, 11);
    for codec in enabled() {
        for packed in [pack(codec, 1, &data, 400), pack(codec, 1, b"", 1)] {
            for threads in [1, 2] {
                for length in 0..packed.len() {
                    let cut = kind(codec, &packed[..length], threads);
                    assert_eq!(cut, Err(ErrorKind::Malformed), "{codec} at {length} of {}", packed.len());
                }
            }
        }
    }
}

#[test]
fn later_member_cut_at_any_byte_is_malformed() {
    let data = text(300, 12);
    for codec in enabled().filter(|&codec| codec != Codec::Lzma) {
        let member = pack(codec, 1, &data, 400);
        for threads in [1, 2] {
            for length in 1..member.len() {
                let cut = kind(codec, &[&member[..], &member[..length]].concat(), threads);
                assert_eq!(cut, Err(ErrorKind::Malformed), "{codec} at {length} of {}", member.len());
            }
        }
    }
}

#[test]
fn one_changed_bit_never_gives_other_content() {
    let data = text(150, 13);
    // The old .lzma has no checksum.
    for codec in enabled().filter(|&codec| codec != Codec::Lzma) {
        let packed = pack(codec, 1, &data, 400);
        for threads in [1, 2] {
            for bit in 0..packed.len() * 8 {
                let mut changed = packed.clone();
                changed[bit / 8] ^= 1 << (bit % 8);
                if let Ok(found) = unpack(codec, &changed, threads) {
                    assert!(found == data, "{codec}: bit {bit} changes the content unnoticed");
                }
            }
        }
    }
}

#[test]
fn garbage_after_the_end_is_malformed() {
    let data = text(700, 14);
    for codec in enabled() {
        let packed = pack(codec, 1, &data, 400);
        for garbage in [&b"x"[..], b"garbage that is longer than a header is", &[0, 0, 0, 0, 1], &[0x1f, 0x8c, 8]] {
            for threads in [1, 2] {
                let found = kind(codec, &[&packed[..], garbage].concat(), threads);
                assert_eq!(found, Err(ErrorKind::Malformed), "{codec} with {garbage:?}");
            }
        }
    }
}

#[test]
fn error_is_final() {
    for codec in enabled() {
        let mut packed = pack(codec, 1, &text(200_000, 15), 4_000);
        packed.truncate(packed.len() - 1);
        let mut reader = decoder(codec, &packed[..], &Limits::default(), 2, &Cancel::new()).expect("a decoder");
        assert!(std::io::copy(&mut reader, &mut std::io::sink()).is_err());
        for _ in 0..3 {
            let error = Error::from(reader.read(&mut [0; 10]).expect_err("failed before"));
            assert_eq!(error.kind(), ErrorKind::Malformed, "{codec}");
            assert!(error.offset().is_some());
        }
    }
}

fn refused(codec: Codec, packed: &[u8], limit: &str) {
    for threads in [1, 2] {
        let error = unpack(codec, packed, threads).expect_err("over the limit");
        assert_eq!((error.kind(), error.limit_name()), (ErrorKind::LimitExceeded, Some(limit)), "{codec}: {error}");
    }
}

#[cfg(feature = "zstd")]
#[test]
fn zstd_window_over_the_limit_is_refused_from_the_header() {
    // 2 GiB, by a window descriptor.
    refused(Codec::Zstd, b"\x28\xb5\x2f\xfd\x00\xa8\x01\0\0", "codec_memory");
    // 129 MiB in a single segment.
    refused(Codec::Zstd, b"\x28\xb5\x2f\xfd\xa0\0\0\x10\x08\x01\0\0", "codec_memory");
    // 128 MiB is what `zstd` itself takes.
    let error = unpack(Codec::Zstd, b"\x28\xb5\x2f\xfd\x00\x88\x03\0\0", 1).expect_err("a reserved block");
    assert_eq!(error.kind(), ErrorKind::Malformed);
    let needs_dictionary = unpack(Codec::Zstd, b"\x28\xb5\x2f\xfd\x01\x00\x07\x01\0\0", 1).expect_err("a dictionary");
    assert_eq!(needs_dictionary.kind(), ErrorKind::Unsupported);
}

#[cfg(feature = "xz")]
#[test]
fn xz_dictionary_over_the_limit_is_refused_from_the_header() {
    let data = text(1_000, 16);
    let mut lzma = pack(Codec::Lzma, 1, &data, 999);
    lzma[1..5].copy_from_slice(&[0xff; 4]);
    refused(Codec::Lzma, &lzma, "codec_memory");
    // `xz -9` says 64 MiB in its header, however short the data.
    let nine = pack(Compression::with_level(Codec::Xz, 9).expect("a level"), 1, &data, 999);
    let mut limits = Limits::default();
    assert!(unpack_with(Codec::Xz, &nine, &limits, 2).expect("decoded") == data);
    limits.codec_memory = 63 << 20;
    for threads in [1, 2] {
        let error = unpack_with(Codec::Xz, &nine, &limits, threads).expect_err("over the limit");
        assert_eq!((error.kind(), error.limit_name()), (ErrorKind::LimitExceeded, Some("codec_memory")));
    }
    limits.codec_memory = 64 << 20;
    assert!(unpack_with(Codec::Xz, &nine, &limits, 1).expect("decoded") == data);
}

#[cfg(feature = "lz4")]
#[test]
fn lz4_is_refused_for_blocks_over_the_limit() {
    let packed = pack(Codec::Lz4, 1, &text(1_000, 17), 999);
    let limits = Limits { lz4_block: 1 << 20, ..Limits::default() };
    let error = unpack_with(Codec::Lz4, &packed, &limits, 1).expect_err("over the limit");
    assert_eq!((error.kind(), error.limit_name()), (ErrorKind::LimitExceeded, Some("lz4_block")));
}

#[cfg(feature = "lz4")]
#[test]
fn legacy_format_of_lz4_is_read_to_its_last_block_and_refused_where_it_is_cut() {
    let legacy = b"\x02\x21\x4c\x18\x06\0\0\0\x50hello";
    assert_eq!(Codec::detect(legacy), Some(Codec::Lz4));
    assert_eq!(kind(Codec::Lz4, legacy, 1).as_deref(), Ok(&b"hello"[..]));
    let twice = [&legacy[..], legacy, &pack(Codec::Lz4, 1, b" world", 99)].concat();
    assert_eq!(kind(Codec::Lz4, &twice, 1).as_deref(), Ok(&b"hellohello world"[..]));
    for length in (5..legacy.len()).chain([1, 2, 3]) {
        assert_eq!(kind(Codec::Lz4, &legacy[..length], 1), Err(ErrorKind::Malformed), "{length}");
    }
    // A short block is the last one.
    let more = [&legacy[..], &legacy[4..]].concat();
    assert_eq!(kind(Codec::Lz4, &more, 1), Err(ErrorKind::Malformed));
}

#[cfg(feature = "bzip2")]
#[test]
fn zeros_after_the_last_bzip2_stream_are_padding() {
    let data = text(2_000_000, 18);
    let packed = pack(Codec::Bzip2, 1, &data, 9_999);
    for padding in [1, 2, 512, 100_000] {
        for threads in [1, 3] {
            let padded = [&packed[..], &vec![0; padding]].concat();
            assert!(unpack(Codec::Bzip2, &padded, threads).expect("decoded") == data, "{padding}");
        }
    }
}
