//! Random maps of clusters: what is written reads as what it was written from, in every format that
//! is written and whatever way it is read.

use lxd_image::disk::{ClusterCompression, ExtentKind, Qcow2WriteOptions};
use lxd_image::io::ReadAt;
use proptest::prelude::*;

use super::scratch::{Scratch, open, raw, to_qcow2, to_raw};

/// What a piece of the disk holds.
#[derive(Debug, Clone, Copy)]
enum Piece {
    Zeros,
    Text(u8),
    Noise(u64),
}

fn piece() -> impl Strategy<Value = (Piece, usize)> {
    let kind = prop_oneof![
        2 => Just(Piece::Zeros),
        2 => any::<u8>().prop_map(Piece::Text),
        1 => any::<u64>().prop_map(Piece::Noise),
    ];
    // Lengths around the sizes of sectors, blocks and clusters.
    let length = prop_oneof![1_usize..2000, Just(512), Just(4096), Just(65536), 60_000_usize..140_000];
    (kind, length)
}

fn bytes(pieces: &[(Piece, usize)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for &(piece, length) in pieces {
        match piece {
            Piece::Zeros => bytes.resize(bytes.len() + length, 0),
            Piece::Text(letter) => {
                bytes.extend((0..length).map(|at| letter.wrapping_add(u8::try_from(at % 7).unwrap())));
            }
            Piece::Noise(seed) => {
                let mut numbers = super::scratch::Numbers(seed);
                bytes.extend((0..length).map(|_| u8::try_from(numbers.next() & 255).unwrap()));
            }
        }
    }
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_disk_survives_the_round_trip(
        pieces in prop::collection::vec(piece(), 0..40),
        cluster_bits in 9_u32..=21,
        codec in 0..3,
        threads in 1_usize..4,
        reads in prop::collection::vec((any::<u64>(), 1_usize..200_000), 5),
    ) {
        let place = Scratch::new();
        let bytes = bytes(&pieces);
        let compression = match codec {
            0 => ClusterCompression::None,
            1 => ClusterCompression::Zlib(1),
            _ => ClusterCompression::Zstd(1),
        };
        let options = Qcow2WriteOptions::new().cluster_size(1 << cluster_bits).compression(compression).threads(threads);
        to_qcow2(&raw(bytes.clone()), &place.at("disk"), &options);
        let disk = open(&place.at("disk")).unwrap();
        prop_assert!(to_raw(&disk, &place.at("raw")).unwrap() == bytes);
        for (at, length) in reads {
            let at = at % (bytes.len() as u64 + 1);
            let start = usize::try_from(at).unwrap();
            let mut part = vec![0; length];
            let count = disk.read_at(&mut part, at).unwrap();
            let end = bytes.len().min(start + length);
            prop_assert!(part[..count] == bytes[start..end]);
        }
        // Every extent that is not data is zeros, and they cover the disk.
        let mut at = 0_usize;
        for extent in disk.extents().unwrap() {
            let extent = extent.unwrap();
            prop_assert_eq!(extent.offset, at as u64);
            let end = at + usize::try_from(extent.length).unwrap();
            if extent.kind != ExtentKind::Data {
                prop_assert!(bytes[at..end].iter().all(|&byte| byte == 0));
            }
            at = end;
        }
        prop_assert_eq!(at, bytes.len());
    }
}
