//! Fingerprints and prefixes as values, and readers that end well only with the right bytes.
//! What a stranger writes becomes one of these or nothing.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::io::Read;

use lxd_image::{Error, ErrorKind, Fingerprint, FingerprintPrefix, Hasher, VerifyingReader};
use proptest::prelude::*;

const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[test]
fn fingerprint_is_64_hex_digits_and_nothing_else() {
    assert_eq!(EMPTY.parse::<Fingerprint>().unwrap(), Fingerprint::of(b""));
    assert_eq!(EMPTY.to_uppercase().parse::<Fingerprint>().unwrap().to_string(), EMPTY);
    for bad in [
        String::new(),
        EMPTY[..63].to_owned(),
        format!("{EMPTY}0"),
        format!(" {EMPTY}"),
        format!("{EMPTY}\n"),
        format!("0x{}", &EMPTY[2..]),
        EMPTY.replace('e', "g"),
        EMPTY.replace('e', "%"),
        EMPTY.replace('e', "é"),
        "../../../etc/passwd".to_owned(),
        format!("{}/{}", &EMPTY[..31], &EMPTY[..32]),
        "\0".repeat(64),
    ] {
        let error = bad.parse::<Fingerprint>().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{bad:?}");
    }
}

#[test]
fn prefix_is_4_to_64_hex_digits_and_nothing_else() {
    let whole = Fingerprint::of(b"");
    for digits in 4..=64 {
        let prefix: FingerprintPrefix = EMPTY[..digits].to_uppercase().parse().unwrap();
        assert!(prefix.matches(&whole) && !prefix.matches(&Fingerprint::of(b"x")));
        assert_eq!(prefix.as_str(), &EMPTY[..digits]);
        assert_eq!(prefix.as_fingerprint(), (digits == 64).then_some(whole));
    }
    let too_long = format!("{EMPTY}0");
    for bad in ["", "e", "e3b", "e3b_", "e3b%", "e3b*", "e3b0/", "-e3b", "e3 b", &too_long] {
        assert_eq!(bad.parse::<FingerprintPrefix>().unwrap_err().kind(), ErrorKind::InvalidInput, "{bad:?}");
    }
    assert!(FingerprintPrefix::from(whole).matches(&whole));
}

#[test]
fn display_pads_and_order_follows_the_text() {
    let some: BTreeSet<Fingerprint> = (0..50_u8).map(|byte| Fingerprint::of(&[byte])).collect();
    let texts: Vec<String> = some.iter().map(Fingerprint::to_string).collect();
    assert!(texts.is_sorted());
    assert_eq!(format!("{:<66}|", Fingerprint::of(b"")), format!("{EMPTY}  |"));
    assert_eq!(Fingerprint::of(b"").short(), &EMPTY[..12]);
    assert_eq!(format!("{:?}", Fingerprint::of(b"")), format!("Fingerprint({EMPTY})"));
}

#[test]
fn serde_uses_the_text_form() {
    let whole = Fingerprint::of(b"");
    assert_eq!(serde_json::to_string(&whole).unwrap(), format!("\"{EMPTY}\""));
    assert_eq!(serde_json::from_str::<Fingerprint>(&format!("\"{EMPTY}\"")).unwrap(), whole);
    assert_eq!(serde_json::from_str::<FingerprintPrefix>("\"E3B0\"").unwrap().as_str(), "e3b0");
    assert_eq!(serde_json::to_string(&"e3b0".parse::<FingerprintPrefix>().unwrap()).unwrap(), "\"e3b0\"");
    for bad in ["\"e3b\"", "\"../x\"", "12345678", "null", "[1]"] {
        assert!(
            serde_json::from_str::<Fingerprint>(bad).is_err()
                && serde_json::from_str::<FingerprintPrefix>(bad).is_err()
        );
    }
}

/// Gives its bytes in pieces of one length, and counts how many were taken.
struct Pieces<'a>(&'a [u8], usize, &'a std::cell::Cell<usize>);

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.1.min(buffer.len()).min(self.0.len());
        buffer[..count].copy_from_slice(&self.0[..count]);
        self.0 = &self.0[count..];
        self.2.set(self.2.get() + count);
        Ok(count)
    }
}

fn read_all(reader: &mut impl Read) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[test]
fn verifying_reader_ends_only_with_the_expected_bytes() {
    let text = b"the bytes of an image";
    let digest = Fingerprint::of(text);
    for size in [None, Some(text.len() as u64)] {
        let taken = std::cell::Cell::new(0);
        let mut reader = VerifyingReader::new(Pieces(text, 5, &taken), size, digest);
        assert_eq!(read_all(&mut reader).unwrap(), text);
        // The end stays the end.
        assert_eq!(read_all(&mut reader).unwrap(), b"");
        assert_eq!(reader.finish().unwrap(), digest);
        for wrong in [&text[..20], b"the bytes of an imagE", b"the bytes of an image and more", b""] {
            let taken = std::cell::Cell::new(0);
            let error = read_all(&mut VerifyingReader::new(Pieces(wrong, 5, &taken), size, digest)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Mismatch);
            assert!(error.expected_and_found().is_some());
            let taken = std::cell::Cell::new(0);
            let unread = VerifyingReader::new(Pieces(wrong, 5, &taken), size, digest);
            assert_eq!(unread.finish().unwrap_err().kind(), ErrorKind::Mismatch);
        }
    }
}

#[test]
fn verifying_reader_reads_at_most_one_buffer_too_much() {
    let endless = vec![b'x'; 1 << 20];
    let taken = std::cell::Cell::new(0);
    let mut reader = VerifyingReader::new(Pieces(&endless, 1000, &taken), Some(5000), Fingerprint::of(b""));
    let error = read_all(&mut reader).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Mismatch);
    assert!(taken.get() <= 6000, "{} bytes were taken", taken.get());
    // A failed reader never ends well later.
    assert!(read_all(&mut reader).is_err());
}

#[test]
fn error_of_the_source_is_passed_on() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("no more"))
        }
    }
    let reader = VerifyingReader::new(Broken, None, Fingerprint::of(b""));
    assert_eq!(reader.finish().unwrap_err().kind(), ErrorKind::Io);
    assert_eq!(Hasher::new().read_all(Broken).unwrap_err().kind(), ErrorKind::Io);
}

proptest! {
    #[test]
    fn digest_does_not_depend_on_piece_sizes(bytes: Vec<u8>, piece in 1..50_usize) {
        let mut hasher = Hasher::new();
        bytes.chunks(piece).for_each(|piece| hasher.update(piece));
        prop_assert_eq!(hasher.bytes(), bytes.len() as u64);
        prop_assert_eq!(hasher.finish(), Fingerprint::of(&bytes));
        let text = Fingerprint::of(&bytes).to_string();
        prop_assert_eq!(text.parse::<Fingerprint>().unwrap(), Fingerprint::of(&bytes));
    }

    #[test]
    fn any_text_parses_or_fails_without_panic(text: String) {
        let _ = text.parse::<Fingerprint>();
        if let Ok(prefix) = text.parse::<FingerprintPrefix>() {
            prop_assert!(prefix.as_str().bytes().all(|byte| byte.is_ascii_hexdigit()));
        }
    }
}
