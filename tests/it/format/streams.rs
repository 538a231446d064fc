//! Compressed streams: rows 98 to 106 of the hostile inputs, seen through a whole image.
//! A stream is whole or it is refused, wherever the archive inside had its end.

use lxd_image::ErrorKind;
use lxd_image::format::{Codec, Container, Image, ImageSource};

use super::forge::{END, Member, base, compressed, file, image, zstd_zeros};
use super::verdict::unified;
use super::{LIMIT, MALFORMED, Place, UNSUPPORTED};

fn codecs() -> impl Iterator<Item = Codec> {
    Codec::ALL.iter().copied().filter(|codec| codec.is_enabled() && *codec != Codec::None)
}

/// An image whose compressed form has some length.
fn large() -> Vec<u8> {
    let numbers: String = (0..20_000).map(|number| format!("{number:08}")).collect();
    image(&[file("rootfs/data", numbers)])
}

#[test]
fn every_codec_is_recognised_by_content_and_gives_the_same_tree() {
    for codec in codecs() {
        let bytes = compressed(codec, &image(&[]));
        let place = Place::new();
        let opened = Image::open(ImageSource::open(place.write("image.txt", &bytes), None).unwrap()).unwrap();
        assert_eq!(opened.containers().collect::<Vec<_>>(), [Container::Tar(codec)]);
        unified(bytes).gives_base_and(&[]);
    }
}

#[test]
fn stream_that_is_cut_anywhere_is_malformed() {
    for codec in codecs() {
        let whole = compressed(codec, &large());
        for cut in [1, 4, 6, 8, whole.len() / 2] {
            // The old container marks its end with the last bytes of its range coder, which may be cut.
            if codec != Codec::Lzma || cut > 4 {
                println!("{codec} less {cut}");
                unified(&whole[..whole.len() - cut]).refused(MALFORMED);
            }
        }
    }
}

#[test]
fn wrong_checksum_is_malformed() {
    for codec in codecs().filter(|codec| *codec != Codec::Lzma) {
        let mut bytes = compressed(codec, &large());
        // Where the content's checksum stands: before the index of xz, at the end of the others.
        let at = match codec {
            Codec::Gzip => bytes.len() - 8,
            Codec::Xz => bytes.len() - 40,
            _ => bytes.len() - 2,
        };
        bytes[at] ^= 1;
        println!("{codec}");
        unified(bytes).refused(MALFORMED);
    }
}

#[test]
fn flipped_byte_never_gives_another_tree() {
    let owed = unified(large()).run().unwrap().tree();
    for codec in codecs().filter(|codec| *codec != Codec::Lzma) {
        let whole = compressed(codec, &large());
        for at in (0..whole.len()).step_by(whole.len() / 12) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            if let Ok(left) = unified(bytes).run() {
                assert_eq!(left.tree(), owed, "{codec} with byte {at} flipped");
            }
        }
    }
}

#[test]
fn window_larger_than_allowed_is_over_a_limit_before_it_is_allocated() {
    if !Codec::Zstd.is_enabled() {
        return;
    }
    let mut bytes = zstd_zeros(&image(&[]), 0);
    // Window descriptor: 2^(10 + 21) bytes.
    bytes[5] = 21 << 3;
    let error = unified(bytes).refused(LIMIT);
    assert_eq!(error.limit_name(), Some("codec_memory"));
}

#[test]
fn frame_that_needs_a_dictionary_is_unsupported() {
    if !Codec::Zstd.is_enabled() {
        return;
    }
    let mut bytes = b"\x28\xb5\x2f\xfd\x03\x50\x39\x05\x00\x00".to_vec();
    bytes.extend_from_slice(&zstd_zeros(&image(&[]), 0)[6..]);
    unified(bytes).refused(UNSUPPORTED);
}

#[test]
fn zeros_beyond_what_may_be_written_are_over_a_limit_and_leave_nothing() {
    if !Codec::Zstd.is_enabled() {
        return;
    }
    let size = 256_u64 << 20;
    let head = [base(), Member::new(b'0', "rootfs/zero").size(size.into()).bytes()].concat();
    let error = unified(zstd_zeros(&head, size + 1024)).limit("output", 32 << 20).refused(LIMIT);
    assert_eq!(error.limit_name(), Some("output"));
}

#[test]
fn zeros_after_the_end_marker_are_over_a_limit_when_there_are_too_many() {
    if !Codec::Zstd.is_enabled() {
        return;
    }
    unified(zstd_zeros(&image(&[]), 20 << 20)).gives_base_and(&[]);
    unified(zstd_zeros(&image(&[]), 64 << 20)).limit("trailing", 32 << 20).over("trailing", 65 << 20);
}

#[test]
fn double_compression_and_foreign_archives_are_refused() {
    if !Codec::Gzip.is_enabled() {
        return;
    }
    let twice = compressed(Codec::Gzip, &compressed(Codec::Gzip, &image(&[])));
    unified(twice).refused(UNSUPPORTED);
    for magic in [&b"PK\x03\x04"[..], b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07", b"!<arch>\n", b"\x7fELF", b"070701"] {
        let mut bytes = magic.to_vec();
        bytes.resize(4096, b'x');
        unified(bytes.clone()).refused(&[ErrorKind::Unsupported, ErrorKind::Malformed]);
        unified(compressed(Codec::Gzip, &bytes)).refused(&[ErrorKind::Unsupported, ErrorKind::Malformed]);
    }
}

#[test]
fn several_members_one_after_the_other_are_one_archive() {
    let data = image(&[file("rootfs/a", "x")]);
    for codec in codecs().filter(|codec| *codec != Codec::Lzma) {
        let parts = [&data[..700], b"", &data[700..2000], &data[2000..]];
        let bytes = parts.map(|part| compressed(codec, part)).concat();
        println!("{codec}");
        unified(bytes).gives_base_and(&[r#"rootfs/a -644 0:0 "x""#]);
    }
}

#[test]
fn skippable_frames_and_padding_between_streams_are_stepped_over() {
    let data = image(&[]);
    let skippable = [&b"\x53\x2a\x4d\x18\x05\0\0\0"[..], b"hello"].concat();
    for codec in [Codec::Zstd, Codec::Lz4].into_iter().filter(|codec| codec.is_enabled()) {
        let (head, tail) = data.split_at(1500);
        let parts = [&skippable, &compressed(codec, head), &skippable, &compressed(codec, tail), &skippable[..]];
        unified(parts.concat()).gives_base_and(&[]);
    }
    if Codec::Xz.is_enabled() {
        let padded =
            [compressed(Codec::Xz, &data[..1500]), vec![0; 8], compressed(Codec::Xz, &data[1500..]), vec![0; 4]];
        unified(padded.concat()).gives_base_and(&[]);
    }
}

#[test]
fn garbage_after_the_last_member_is_malformed_or_ignored_for_gzip_only() {
    for codec in codecs() {
        let bytes = [&compressed(codec, &image(&[]))[..], b"garbage that is no stream"].concat();
        match unified(bytes).run() {
            Ok(_) => assert_eq!(codec, Codec::Gzip),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Malformed, "{error:?}"),
        }
    }
}

#[test]
fn empty_stream_is_malformed() {
    for codec in codecs() {
        unified(compressed(codec, b"")).refused(MALFORMED);
        unified(compressed(codec, END)).refused(MALFORMED);
    }
}
