//! Deltas that no program writes: each is refused with its kind of error, or makes what the RFC says.

use lxd_image::ErrorKind::{self, LimitExceeded, Malformed, Mismatch, Unsupported};
use lxd_image::delta;
use lxd_image::io::Blob;
use lxd_image::{Cancel, Limits, Monitor};

use crate::applied;
use crate::forge::*;

const BASE: &[u8] = b"0123456789abcdefghijklmnopqrstuvwxyz";

/// An instruction: adds `n` bytes, below 18.
fn add(n: u8) -> u8 {
    1 + n
}

/// An instruction: copies `n` bytes, 4 to 18, with an address in `mode`.
fn copy(mode: u8, n: u8) -> u8 {
    19 + 16 * mode + n - 3
}

/// Adds four bytes.
fn plain() -> Window {
    Window::new(4, b"data", &[add(4)])
}

/// Copies four bytes from the base.
fn copying(address: u8) -> Window {
    Window::new(4, b"", &[copy(0, 4)]).with_base(BASE.len() as u64, 0, &[address])
}

#[test]
fn all_kinds_of_instructions_make_what_the_rfc_says() {
    // add 2, copy 4 (self 10), run of 5, copy 4 (here 3: overlaps itself), copy 4 (near 0, +1), copy 4 (same).
    let instructions = [add(2), copy(0, 4), 0, 5, copy(1, 4), copy(2, 4), copy(6, 4)];
    let window = Window::new(23, b"AB*", &instructions).with_base(36, 0, &[10, 3, 1, 10]);
    let (out, _) = applied(BASE, &delta(PLAIN, &[window])).unwrap();
    assert_eq!(
        out,
        b"ABabcd**********bcdeabcd"[..].split_at(15).0.iter().chain(b"bcdeabcd").copied().collect::<Vec<u8>>()
    );
}

#[test]
fn pairs_of_instructions_are_carried_out_in_order() {
    // 163: add 1, copy 4 in mode 0. 247: copy 4 in mode 0, add 1.
    let window = Window::new(10, b"XY", &[163, 247]).with_base(36, 0, &[0, 10]);
    assert_eq!(applied(BASE, &delta(PLAIN, &[window])).unwrap().0, b"X0123abcdY");
}

#[test]
fn copy_may_go_on_from_the_segment_into_the_window() {
    let window = Window::new(10, b"AB", &[add(2), copy(0, 8)]).with_base(4, 0, &[0]);
    assert_eq!(applied(BASE, &delta(PLAIN, &[window])).unwrap().0, b"AB0123AB01");
}

#[test]
fn copy_of_its_own_output_repeats_it() {
    let window = Window { addresses: vec![0], ..Window::new(20, b"abc", &[add(3), copy(0, 17)]) };
    assert_eq!(applied(BASE, &delta(PLAIN, &[window])).unwrap().0, b"abcabcabcabcabcabcab");
}

#[test]
fn window_may_copy_from_the_output_before_it() {
    let second = Window::new(8, b"", &[copy(0, 4), copy(0, 4)]).with_target(6, 1, &[2, 0]);
    let third = Window::new(4, b"", &[copy(0, 4)]).with_target(6, 5, &[1]);
    let first = Window::new(8, b"ABCDEFGH", &[add(8)]);
    let (out, report) = applied(BASE, &delta(PLAIN, &[first, second, third])).unwrap();
    assert_eq!(out, b"ABCDEFGHDEFGBCDEGHDE");
    assert_eq!((report.windows, report.copied_bytes), (3, 0));
}

#[test]
fn segment_may_lie_anywhere_in_the_base() {
    let window = Window::new(4, b"", &[copy(0, 4)]).with_base(6, 30, &[2]);
    assert_eq!(applied(BASE, &delta(PLAIN, &[window])).unwrap().0, b"wxyz");
}

#[test]
fn segment_may_be_larger_than_what_is_copied_of_it() {
    // xdelta3 rounds segments up, past the end of the base.
    let window = Window::new(4, b"", &[copy(0, 4)]).with_base(1 << 40, 0, &[2]);
    assert_eq!(applied(BASE, &delta(PLAIN, &[window])).unwrap().0, b"2345");
}

#[test]
fn application_header_is_skipped() {
    let header = [PLAIN[..4].to_vec(), vec![4, 3], b"a/b".to_vec()].concat();
    assert_eq!(applied(BASE, &delta(&header, &[plain()])).unwrap().0, b"data");
}

#[test]
fn delta_without_windows_makes_nothing() {
    let (out, report) = applied(BASE, PLAIN).unwrap();
    assert!(out.is_empty() && report.windows == 0 && !report.checksums);
}

#[test]
fn window_of_no_bytes_makes_nothing() {
    assert_eq!(applied(BASE, &delta(PLAIN, &[Window::new(0, b"", &[]), plain()])).unwrap().0, b"data");
}

#[test]
fn checksums_are_reported_where_every_window_has_one() {
    let checked = plain().checked(adler32(b"data"));
    assert!(applied(BASE, &delta(PLAIN, &[checked.clone(), checked.clone()])).unwrap().1.checksums);
    assert!(!applied(BASE, &delta(PLAIN, &[checked, plain()])).unwrap().1.checksums);
}

#[test]
fn djw_with_one_flat_table_is_read() {
    let section = b"data".iter().fold(flat_djw(), |bits, byte| bits.push(8, u32::from(*byte))).section(4);
    let window = Window { data: section, ..plain() }.compressed(1);
    assert_eq!(applied(BASE, &delta(DJW, &[window])).unwrap().0, b"data");
}

#[cfg(feature = "xz")]
#[test]
fn lzma_stream_goes_on_in_the_next_window() {
    let header = xz_header(8);
    let section = |parts: &[&[u8]]| Window { data: lzma_section(4, parts), ..plain() }.compressed(1);
    let (one, two) = (stored_chunk(b"data", true), stored_chunk(b"more", false));
    let (out, _) = applied(BASE, &delta(LZMA, &[section(&[&header, &one]), plain(), section(&[&two])])).unwrap();
    assert_eq!(out, b"datadatamore");
}

/// A delta that is refused, and how.
struct Case {
    name: &'static str,
    delta: Vec<u8>,
    kind: ErrorKind,
}

fn case(name: &'static str, kind: ErrorKind, delta: impl Into<Vec<u8>>) -> Case {
    Case { name, delta: delta.into(), kind }
}

fn one(name: &'static str, kind: ErrorKind, window: &Window) -> Case {
    case(name, kind, delta(PLAIN, std::slice::from_ref(window)))
}

fn headers() -> Vec<Case> {
    let with = |bytes: &[u8]| [&PLAIN[..4], bytes].concat();
    vec![
        case("nothing", Malformed, *b""),
        case("one byte", Malformed, *b"\xd6"),
        case("three bytes", Malformed, *b"\xd6\xc3\xc4"),
        case("another format", Malformed, *b"PK\x03\x04\0\0\0\0"),
        case("ASCII magic", Malformed, *b"VCD\0\0"),
        case("open-vcdiff's version", Unsupported, *b"\xd6\xc3\xc4S\0"),
        case("version 1", Unsupported, *b"\xd6\xc3\xc4\x01\0"),
        case("no indicator", Malformed, *b"\xd6\xc3\xc4\0"),
        case("unknown header bit", Malformed, with(&[8])),
        case("all header bits", Malformed, with(&[0xff])),
        case("no compressor after its bit", Malformed, with(&[1])),
        case("compressor 0", Unsupported, with(&[1, 0])),
        case("compressor 3", Unsupported, with(&[1, 3])),
        case("compressor 255", Unsupported, with(&[1, 255])),
        case("FGK", Unsupported, with(&[1, 16])),
        case("code table", Unsupported, with(&[2, 10, 4, 3])),
        case("code table with a compressor", Unsupported, with(&[3, 1, 10, 4, 3])),
        case("no size of the application header", Malformed, with(&[4])),
        case("application header cut", Malformed, with(&[4, 10, b'a'])),
        case("application header of 2^63 bytes", LimitExceeded, with(&[&[4][..], &number(1 << 63)].concat())),
        case("application header of 1 MiB", LimitExceeded, with(&[&[4][..], &number(1 << 20)].concat())),
        case("size of 10 times 0x80", Malformed, with(&[&[4][..], &[0x80; 10]].concat())),
        case("size over 64 bits", Malformed, with(&[&[4, 0x83][..], &[0xff; 8], &[0x7f]].concat())),
    ]
}

fn windows() -> Vec<Case> {
    let told = |told: u64| Window { told: Some(told), ..plain() };
    let cut = |count: usize| {
        let whole = delta(PLAIN, &[copying(0).checked(adler32(b"0123"))]);
        whole[..PLAIN.len() + count].to_vec()
    };
    vec![
        one("unknown window bit", Malformed, &Window { indicator: 8, ..plain() }),
        one("all window bits", Malformed, &Window { indicator: 0xff, ..plain() }),
        one("two segments", Malformed, &Window { indicator: 3, ..copying(0) }),
        case("only an indicator", Malformed, cut(1)),
        case("cut in the segment's size", Malformed, cut(2)),
        case("cut after the segment", Malformed, cut(3)),
        case("cut before the sizes", Malformed, cut(5)),
        case("cut in the sizes", Malformed, cut(7)),
        case("cut in the checksum", Malformed, cut(11)),
        case("cut in the instructions", Malformed, cut(13)),
        case("cut in the addresses", Malformed, cut(14)),
        case("a byte after the last window", Malformed, [delta(PLAIN, &[plain()]), vec![0]].concat()),
        one("encoding shorter than it is", Malformed, &told(5)),
        one("encoding longer than it is", Malformed, &told(500)),
        one("encoding of 2^64 - 1 bytes", Malformed, &told(u64::MAX)),
        one("window of 65 MiB", LimitExceeded, &Window::new(65 << 20, b"", &[0])),
        one("window of 2^64 - 1 bytes", LimitExceeded, &Window::new(u64::MAX, b"", &[0])),
        one("unknown section bit", Malformed, &plain().compressed(8)),
        one("compressed data without a compressor", Malformed, &plain().compressed(1)),
        one("compressed addresses without a compressor", Malformed, &plain().compressed(4)),
        one("segment past 64 bits", Malformed, &copying(0).with_base(2, u64::MAX, &[0])),
        one("segment of 2^64 - 1 bytes", Malformed, &copying(0).with_base(u64::MAX, 0, &[0])),
        one("segment of output that is not there", Malformed, &plain().with_target(1, 0, &[])),
        case(
            "segment past the output",
            Malformed,
            delta(PLAIN, &[plain(), Window::new(4, b"", &[copy(0, 4)]).with_target(5, 0, &[0])]),
        ),
        one("copy past the base", Mismatch, &Window::new(4, b"", &[copy(0, 4)]).with_base(99, 0, &[34])),
        one("copy far past the base", Mismatch, &Window::new(4, b"", &[copy(0, 4)]).with_base(9, 1 << 62, &[0])),
        one("wrong checksum", Mismatch, &plain().checked(adler32(b"date"))),
        one("checksum of nothing", Mismatch, &plain().checked(1)),
        case("section of 2^63 bytes", Malformed, [PLAIN, &[0, 20, 4, 0], &number(1 << 63), &[1, 0]].concat()),
        case("section that is not there", Malformed, [PLAIN, &[0, 69, 4, 0, 64, 1, 0, b'x']].concat()),
    ]
}

fn instructions() -> Vec<Case> {
    let with_base =
        |instructions: &[u8], addresses: &[u8]| Window::new(8, b"", instructions).with_base(36, 0, addresses);
    vec![
        one("no instructions", Malformed, &Window::new(4, b"data", &[])),
        one("too few instructions", Malformed, &Window::new(5, b"data", &[add(4)])),
        one("too many instructions", Malformed, &Window::new(4, b"datadata", &[add(4), add(4)])),
        one("second half makes too much", Malformed, &Window::new(4, b"a", &[247]).with_base(36, 0, &[0])),
        one("instructions of an empty window", Malformed, &Window::new(0, b"data", &[add(4)])),
        one("add of 2^64 - 1 bytes", Malformed, &Window::new(4, b"data", &[&[1][..], &number(u64::MAX)].concat())),
        one("run of 2^63 bytes", Malformed, &Window::new(4, b"d", &[&[0][..], &number(1 << 63)].concat())),
        one("add of no bytes", Malformed, &Window::new(4, b"data", &[1, 0, add(4)])),
        one("run of no bytes", Malformed, &Window::new(4, b"ddata", &[0, 0, add(4)])),
        one("copy of no bytes", Malformed, &with_base(&[19, 0, copy(0, 8)], &[0, 0])),
        one("no size after an add", Malformed, &Window::new(4, b"data", &[1])),
        one("size cut", Malformed, &Window::new(4, b"data", &[1, 0x84])),
        one("size over 64 bits", Malformed, &Window::new(4, b"data", &[&[1][..], &[0xff; 10]].concat())),
        one("less data than added", Malformed, &Window::new(4, b"dat", &[add(4)])),
        one("no data for a run", Malformed, &Window::new(4, b"", &[0, 4])),
        one("data left", Malformed, &Window::new(4, b"data!", &[add(4)])),
        one("no address", Malformed, &with_base(&[copy(0, 8)], &[])),
        one("address cut", Malformed, &with_base(&[copy(0, 8)], &[0x80])),
        one("address over 64 bits", Malformed, &with_base(&[copy(0, 8)], &[0xff; 10])),
        one("addresses left", Malformed, &with_base(&[copy(0, 8)], &[0, 0])),
        one("address at the window's start", Malformed, &with_base(&[copy(0, 8)], &[36])),
        one("address behind", Malformed, &with_base(&[copy(0, 8)], &number(1 << 40))),
        one("address 2^64 - 1", Malformed, &with_base(&[copy(0, 8)], &number(u64::MAX))),
        one("address 0 before here", Malformed, &with_base(&[copy(1, 8)], &[0])),
        one("address before the segment", Malformed, &with_base(&[copy(1, 8)], &[37])),
        one("near address behind", Malformed, &with_base(&[copy(2, 8)], &[99])),
        one(
            "near address over 64 bits",
            Malformed,
            &with_base(&[copy(0, 4), copy(2, 4)], &[&[9][..], &number(u64::MAX)].concat()),
        ),
        one("no byte for a same address", Malformed, &with_base(&[copy(6, 8)], &[])),
        one("copy without a segment", Malformed, &Window { addresses: vec![0], ..Window::new(8, b"", &[copy(0, 8)]) }),
    ]
}

fn djw() -> Vec<Case> {
    let data = |section: Vec<u8>| delta(DJW, &[Window { data: section, ..plain() }.compressed(1)]);
    let letters = |bits: Bits| b"data".iter().fold(bits, |bits, byte| bits.push(8, u32::from(*byte)));
    let tables = |count: u32| Bits::default().push(3, count - 1).push(5, 0);
    let lengths = |bits: Bits, all: [u32; 7]| all.iter().fold(bits.push(4, 0), |bits, length| bits.push(4, *length));
    vec![
        case("djw: no size", Malformed, data(vec![])),
        case("djw: size 0", Malformed, data(letters(flat_djw()).section(0))),
        case("djw: size of 2^63", LimitExceeded, data(letters(flat_djw()).section(1 << 63))),
        case("djw: size of 64 MiB", Malformed, data(letters(flat_djw()).section(64 << 20))),
        case("djw: nothing after the size", Malformed, data(number(4))),
        case("djw: cut in the lengths", Malformed, data(Bits::default().push(8, 0).section(4))),
        case("djw: cut in the bytes", Malformed, data(flat_djw().push(8, 0x64).section(4))),
        case("djw: a byte too many", Malformed, data([letters(flat_djw()).section(4), vec![0]].concat())),
        case(
            "djw: no codes of lengths",
            Malformed,
            data(lengths(Bits::default().push(3, 0), [0; 7]).repeat(99, 8, 0).section(4)),
        ),
        case(
            "djw: too many codes of lengths",
            Malformed,
            data(lengths(Bits::default().push(3, 0), [1; 7]).repeat(99, 8, 0).section(4)),
        ),
        case("djw: run too long", Malformed, {
            let head = Bits::default().push(3, 0).push(4, 0).push(4, 1).repeat(5, 4, 0).push(4, 1);
            // 1 + 2 + … + 128 = 255 values, and then 256 where one is left.
            data(letters(head.repeat(9, 1, 0)).section(4))
        }),
        case("djw: only zero lengths", Malformed, {
            let head = lengths(Bits::default().push(3, 0), [1, 1, 0, 0, 0, 0, 0]);
            // 256 = 2 + 2 + 4 + … + 128: one digit 2, seven digits 1.
            data(letters(head.push(1, 1).repeat(7, 1, 0)).section(4))
        }),
        case("djw: too many codes of bytes", Malformed, {
            // All bytes of length 4, the first in the order after 0.
            let head = lengths(Bits::default().push(3, 0), [1, 0, 1, 0, 0, 0, 0]);
            data(letters(head.push(1, 1).repeat(8, 1, 0)).section(4))
        }),
        case("djw: tables without a choice", Malformed, {
            let head = lengths(tables(2), [1, 0, 0, 0, 0, 0, 1]).push(1, 1);
            // 511 = 2^9 - 1 more bytes of length 8; then no codes of choices.
            data(head.repeat(9, 1, 0).repeat(3, 3, 0).repeat(99, 8, 0).section(4))
        }),
    ]
}

#[cfg(feature = "xz")]
fn lzma() -> Vec<Case> {
    let data = |section: Vec<u8>| delta(LZMA, &[Window { data: section, ..plain() }.compressed(1)]);
    let chunk = stored_chunk(b"data", true);
    let with = |header: &[u8]| data(lzma_section(4, &[header, &chunk]));
    let changed = |at: usize, byte: u8| {
        let mut header = xz_header(8);
        header[at] = byte;
        header
    };
    let block = |block: [u8; 8]| {
        let mut header = xz_header(8)[..12].to_vec();
        header.extend(block);
        header.extend(crc32(&block).to_le_bytes());
        header
    };
    vec![
        case("lzma: no size", Malformed, data(vec![])),
        case("lzma: size 0", Malformed, data(lzma_section(0, &[&xz_header(8), &chunk]))),
        case("lzma: size of 2^63", LimitExceeded, data(lzma_section(1 << 63, &[&xz_header(8), &chunk]))),
        case("lzma: size of 64 MiB", Malformed, data(lzma_section(64 << 20, &[&xz_header(8), &chunk]))),
        case("lzma: size one too large", Malformed, data(lzma_section(5, &[&xz_header(8), &chunk]))),
        case("lzma: size one too small", Malformed, data(lzma_section(3, &[&xz_header(8), &chunk]))),
        case("lzma: nothing after the size", Malformed, data(number(4))),
        case("lzma: not a stream", Malformed, with(&changed(0, 0))),
        case("lzma: wrong checksum of the stream's header", Malformed, with(&changed(8, 0))),
        case("lzma: wrong checksum of the block's header", Malformed, with(&changed(20, 0))),
        case("lzma: dictionary of 4 GiB", LimitExceeded, with(&xz_header(40))),
        case("lzma: dictionary that does not exist", Unsupported, with(&xz_header(41))),
        case("lzma: unknown filter", Unsupported, with(&block([2, 0, 0x22, 1, 8, 0, 0, 0]))),
        case("lzma: reserved block bits", Unsupported, with(&block([2, 0x3c, 0x21, 1, 8, 0, 0, 0]))),
        case(
            "lzma: no dictionary reset",
            Malformed,
            data(lzma_section(4, &[&xz_header(8), &stored_chunk(b"data", false)])),
        ),
        case("lzma: unknown chunk", Malformed, data(lzma_section(4, &[&xz_header(8), &[0x7f, 0, 3, b'd']]))),
        case("lzma: chunk cut", Malformed, data(lzma_section(4, &[&xz_header(8), &chunk[..5]]))),
        case("lzma: second stream", Malformed, {
            let first = Window { data: lzma_section(4, &[&xz_header(8), &chunk]), ..plain() }.compressed(1);
            delta(LZMA, &[first.clone(), first])
        }),
        case("lzma: stream that ends", Malformed, data(lzma_section(4, &[&xz_header(8), &[0; 40]]))),
    ]
}

#[cfg(not(feature = "xz"))]
fn lzma() -> Vec<Case> {
    vec![case("lzma without the feature", ErrorKind::FeatureDisabled, LZMA)]
}

#[test]
fn forged_deltas_are_refused_with_their_kind() {
    let all: Vec<Case> = [headers(), windows(), instructions(), djw(), lzma()].into_iter().flatten().collect();
    assert!(all.len() >= 80, "{}", all.len());
    let wrong: Vec<String> = all
        .iter()
        .filter_map(|Case { name, delta, kind }| match applied(BASE, delta) {
            Ok((out, _)) => Some(format!("{name}: taken, and makes {} bytes", out.len())),
            Err(error) if error.kind() != *kind => {
                Some(format!("{name}: {kind} expected, {} found: {error}", error.kind()))
            }
            Err(_) => None,
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_forged_delta_is_refused_wherever_it_is_cut() {
    for Case { name, delta, .. } in [headers(), windows(), instructions(), djw(), lzma()].into_iter().flatten() {
        for end in 0..delta.len() {
            // A cut may fall between two windows; what counts is that nothing panics and nothing hangs.
            if let Ok((out, _)) = applied(BASE, &delta[..end]) {
                assert!(out.len() <= 8, "{name} cut at {end}");
            }
        }
    }
}

/// How a delta fails with one limit changed.
fn limited(name: &str, value: u64, delta: &[u8]) -> Option<(ErrorKind, Option<&'static str>)> {
    let mut limits = Limits::default();
    limits.set(name, value).unwrap();
    let done = delta::apply(&Blob::from(BASE.to_vec()), delta, std::io::sink(), &limits, &Monitor::none());
    done.err().map(|error| (error.kind(), error.limit_name()))
}

#[test]
fn each_limit_is_kept() {
    let header = [&PLAIN[..4], &[4, 3], b"a/b"].concat();
    let data = b"data".iter().fold(flat_djw(), |bits, byte| bits.push(8, u32::from(*byte))).section(4);
    let djw = delta(DJW, &[Window { data, ..Window::new(3, b"", &[add(3)]) }.compressed(1)]);
    for (name, value, bytes) in [
        ("vcdiff_header", 2, header),
        ("vcdiff_window", 3, delta(PLAIN, &[plain()])),
        ("vcdiff_window", 4, delta(PLAIN, &[Window::new(4, b"data!", &[add(4)])])),
        ("vcdiff_window", 3, djw),
        ("vcdiff_instructions", 1, delta(PLAIN, &[Window::new(4, b"data", &[add(2), add(2)])])),
        ("output", 7, delta(PLAIN, &[plain(), plain()])),
    ] {
        assert_eq!(limited(name, value, &bytes), Some((LimitExceeded, Some(name))), "{name} {value}");
    }
    assert_eq!(limited("vcdiff_window", 4, &delta(PLAIN, &[plain()])), None);
}

#[test]
fn output_that_is_far_back_is_refused_by_name() {
    let first = Window::new(20 << 20, b"a", &[&[0][..], &number(20 << 20)].concat());
    let second = Window::new(4, b"", &[copy(0, 4)]).with_target(9, 0, &[0]);
    // Of the first window all is kept, because a part of it is near enough.
    assert!(applied(BASE, &delta(PLAIN, &[first.clone(), second.clone()])).is_ok());
    let error = applied(BASE, &delta(PLAIN, &[first.clone(), first, second])).unwrap_err();
    assert_eq!(error.kind(), Unsupported);
}

#[test]
fn cancelled_call_ends() {
    let cancel = Cancel::new();
    cancel.cancel();
    let monitor = Monitor::none().with_cancel(cancel);
    let bytes = delta(PLAIN, &[plain()]);
    let done = delta::apply(&Blob::from(BASE.to_vec()), &*bytes, std::io::sink(), &Limits::default(), &monitor);
    assert_eq!(done.unwrap_err().kind(), ErrorKind::Cancelled);
}

#[test]
fn delta_that_is_wrong_in_two_windows_always_fails_at_the_first() {
    /// Gives one byte at a time, so that the thread that decompresses is ahead.
    struct Slow<'a>(&'a [u8]);
    impl std::io::Read for Slow<'_> {
        fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
            std::thread::yield_now();
            let count = out.len().min(1);
            self.0.read(&mut out[..count])
        }
    }
    // The first window has damaged LZMA, those behind it are cut off.
    let wrong = [
        0xd6, 0xc3, 0xc4, 0x00, 0x01, 0x02, 0x00, 0x26, 0x04, 0x01, 0x20, 0x01, 0x00, 0x04, 0xfd, 0x37, 0x7a, 0x58,
        0x5a, 0x00, 0x00, 0x00, 0xff, 0x12, 0xd9, 0x41, 0xff, 0xff, 0xde, 0xfe, 0x08, 0x00, 0x00, 0x00, 0xd8, 0x0f,
        0x23, 0x13, 0x01, 0x00, 0x03, 0x64, 0x61, 0x74, 0x61, 0x05, 0x00, 0x0e, 0x04, 0x01, 0x08, 0x01, 0x00, 0x04,
        0x02, 0x00, 0x03, 0x6d, 0x6f, 0x72, 0x65, 0x05,
    ];
    let base = Blob::from(vec![b'x'; 300]);
    let failure = |delta: &mut dyn std::io::Read| {
        let done = delta::apply(&base, delta, &mut Vec::new(), &Limits::default(), &Monitor::none());
        done.unwrap_err().to_string()
    };
    let first = failure(&mut &wrong[..]);
    for _ in 0..200 {
        assert_eq!(failure(&mut &wrong[..]), first);
        assert_eq!(failure(&mut Slow(&wrong)), first);
    }
}
