//! Messages and signatures that are not what they should be. Where `gpgv` can say something, its verdict is compared: what it
//! refuses is never accepted here.

use lxd_image::trust::openpgp::Keyring;
use lxd_image::{ErrorKind, Limits};

use super::gnupg::Gnupg;
use super::{OWNER, keyring, now, other, owner};

const TEXT: &str = "{\n  \"format\": \"index:1.0\",\n-dash\n  \"index\": {}\n}\n";

fn verify(keyring: &Keyring, message: &[u8]) -> lxd_image::Result<Vec<u8>> {
    keyring.verify_cleartext(message, now(), &Limits::default()).map(|(text, _)| text)
}

/// Sets a line end and a word after it.
fn after(message: &str, line: &str, added: &str) -> String {
    message.replacen(line, &format!("{line}{added}"), 1)
}

/// Each row: its name, the message, and whether it is accepted.
fn rows() -> Vec<(&'static str, String, bool)> {
    let good = owner().sign_cleartext(TEXT, now()).unwrap();
    let by_other = other().sign_cleartext(TEXT, now()).unwrap();
    let begin = "-----BEGIN PGP SIGNED MESSAGE-----\n";
    let signature = "-----BEGIN PGP SIGNATURE-----\n";
    let (head, block) = good.split_at(good.find(signature).unwrap());
    let (_, others_block) = by_other.split_at(by_other.find(signature).unwrap());
    let body = head.split_once("\n\n").unwrap().1;
    let hash = good.lines().nth(1).unwrap().to_owned();
    vec![
        ("as it was signed", good.clone(), true),
        ("without the last line end", good.trim_end().to_owned(), true),
        ("two hash headers", good.replacen(&hash, &format!("{hash}\nHash: SHA512"), 1), true),
        ("two digests in one header", good.replacen(&hash, &format!("{hash},SHA512"), 1), true),
        ("blanks at the end of a line", good.replacen("\"index\": {}\n", "\"index\": {} \t\n", 1), true),
        ("two digests with a blank between", good.replacen(&hash, &format!("{hash}, SHA512"), 1), true),
        ("form feed behind a digest", good.replacen(&hash, &format!("{hash}\x0c"), 1), false),
        ("comment header in the signature", after(&good, signature, "Comment: https://example\n"), true),
        ("a line escaped without need", good.replacen("  \"format\"", "-   \"format\"", 1), true),
        ("text before the message", format!("{{}}\n{good}"), false),
        ("blank line before the message", format!("\n{good}"), false),
        ("byte order mark", format!("\u{feff}{good}"), false),
        ("text after the message", format!("{good}{{}}\n"), false),
        ("blank line after the message", format!("{good}\n"), false),
        ("two messages", format!("{good}{good}"), false),
        (
            "message in a message",
            format!("{begin}{hash}\n\n{}{block}", good.replace("\n-", "\n- -").replacen('-', "- -", 1)),
            false,
        ),
        ("only the text", body.to_owned(), false),
        ("only the signature", block.to_owned(), false),
        ("empty", String::new(), false),
        ("no signature", head.to_owned(), false),
        ("half a signature", good.get(..good.len() - 60).unwrap().to_owned(), false),
        ("signature by another key", by_other.clone(), false),
        ("signature by another key over other text", by_other.replacen("{}", "{ }", 1), false),
        ("changed text", good.replacen("index:1.0", "index:1.1", 1), false),
        ("added line", good.replacen("  \"index\"", "  \"evil\": 1,\n  \"index\"", 1), false),
        ("removed line", good.replacen("  \"format\": \"index:1.0\",\n", "", 1), false),
        ("line break in the middle", good.replacen("\"index\": {}", "\"index\":\n{}", 1), false),
        ("dash without its escape", good.replacen("\n- -dash", "\n-dash", 1), false),
        ("escape without its blank", good.replacen("\n- -dash", "\n--dash", 1), false),
        ("escape doubled", good.replacen("\n- -dash", "\n- - -dash", 1), false),
        (
            "end of the text moved by an escape",
            good.replacen("\n}\n", "\n}\n- -----BEGIN PGP SIGNATURE-----\n", 1),
            false,
        ),
        ("CRLF", good.replace('\n', "\r\n"), false),
        ("one carriage return", good.replacen("{}\n", "{}\r\n", 1), false),
        ("charset header", after(&good, begin, "Charset: UTF-16\n"), false),
        ("charset header in the signature", after(&good, signature, "Charset: UTF-16\n"), false),
        ("unknown armor header", after(&good, signature, "Evil: {}\n"), false),
        ("text as a header of the message", after(&good, begin, "NotDashEscaped: You need GnuPG\n"), false),
        ("no hash header", good.replacen(&format!("{hash}\n"), "", 1), false),
        ("hash header of another digest", good.replacen(&hash, "Hash: SHA384", 1), false),
        ("hash header of MD5", good.replacen(&hash, "Hash: MD5", 1), false),
        ("hash header of nonsense", good.replacen(&hash, "Hash: {}", 1), false),
        ("blanks in the empty line", good.replacen("\n\n", "\n \n", 1), false),
        ("no empty line", good.replacen("\n\n", "\n", 1), false),
        ("indented first line", format!(" {good}"), false),
        ("lower case first line", good.replacen("BEGIN PGP SIGNED", "begin pgp signed", 1), false),
        ("another type of block", good.replace("PGP SIGNATURE", "PGP MESSAGE"), false),
        ("data that is not base64", good.replacen(signature, "-----BEGIN PGP SIGNATURE-----\n\n{}", 1), false),
        ("signature twice", format!("{good}{block}"), false),
        ("signature of another key beside", format!("{good}{others_block}"), false),
    ]
}

#[test]
fn only_one_message_as_it_was_signed_is_accepted() {
    let ring = keyring(OWNER);
    let mut wrong = Vec::new();
    for (name, message, accepted) in rows() {
        match verify(&ring, message.as_bytes()) {
            Ok(text) if accepted => assert_eq!(text, TEXT.as_bytes(), "{name}: what is handed out is what was signed"),
            Ok(_) => wrong.push(format!("{name}: accepted")),
            Err(error) if accepted => wrong.push(format!("{name}: {error}")),
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::Malformed | ErrorKind::Untrusted), "{name}: {error:?}");
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn nothing_is_accepted_that_gpgv_refuses() {
    let Some(gnupg) = Gnupg::new("messages") else { return };
    let ring = keyring(OWNER);
    let binary = gnupg.gpg("--dearmor", OWNER.as_bytes());
    let mut stricter = Vec::new();
    for (name, message, _) in rows() {
        let (ours, theirs) = (verify(&ring, message.as_bytes()).is_ok(), gnupg.gpgv(&binary, message.as_bytes(), None));
        assert!(theirs || !ours, "{name}: gpgv refuses it");
        if theirs && !ours {
            stricter.push(name);
        }
    }
    println!("accepted by gpgv only: {stricter:?}");
}

/// Every byte of a message and of a detached signature is changed once.
#[test]
fn no_changed_byte_is_accepted_unless_the_text_stays_what_it_was() {
    let ring = keyring(OWNER);
    let good = owner().sign_cleartext(TEXT, now()).unwrap();
    for at in 0..good.len() {
        for change in [0x01, 0x20, 0x80] {
            let mut message = good.clone().into_bytes();
            message[at] ^= change;
            if let Ok(text) = verify(&ring, &message) {
                assert_eq!(text, TEXT.as_bytes(), "byte {at} ^ {change:#x}");
            }
        }
    }
    let beside = owner().sign_detached(TEXT.as_bytes(), now()).unwrap();
    for at in 0..beside.len() {
        let mut signature = beside.clone().into_bytes();
        signature[at] ^= 0x04;
        // Accepted or refused, but never for another document, and never with a panic.
        let _ = ring.verify_detached(TEXT.as_bytes(), &signature, now(), &Limits::default());
        assert!(ring.verify_detached(b"other", &signature, now(), &Limits::default()).is_err());
    }
}

/// Lengths that only packets of data may have, half a header at the end, and other packets: none of them says that the text is another
/// one, and all of them are refused, since no other program takes them.
#[test]
fn packets_are_framed_as_signatures_are() {
    let ring = keyring(OWNER);
    let armored = owner().sign_detached(TEXT.as_bytes(), now()).unwrap();
    let Some(gnupg) = Gnupg::new("framing") else { return };
    let good = gnupg.gpg("--dearmor", armored.as_bytes());
    let verify = |signature: &[u8]| ring.verify_detached(TEXT.as_bytes(), signature, now(), &Limits::default());
    verify(&good).unwrap();
    let head = if good[0] & 0x40 == 0 { 1 + (1 << (good[0] & 3)) } else { 2 + usize::from(good[1] >= 192) };
    let body = &good[head..];
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    verify(&[&[0xc2, 255][..], &length, body].concat()).unwrap();
    verify(&[&[0x8a][..], &length, body].concat()).unwrap();
    let (first, last) = body.split_at(64);
    let rest = u8::try_from(last.len()).unwrap_or(0);
    for (name, signature) in [
        ("indeterminate", [&[0x8b][..], body].concat()),
        ("partial", [&[0xc2, 224 + 6][..], first, &[rest], last].concat()),
        ("half a header", [&good[..], &[0xbe, 0x2b]].concat()),
        ("a marker", [&good[..], &[0xca, 3], b"PGP"].concat()),
        ("a longer length", [&[0x8a][..], &[0, 0, 1, 0xff], body].concat()),
    ] {
        assert_eq!(verify(&signature).unwrap_err().kind(), ErrorKind::Malformed, "{name}");
    }
}

#[test]
fn signatures_are_bounded_in_size_and_number() {
    let ring = keyring(OWNER);
    let mut limits = Limits::default();
    limits.signature = 100;
    let good = owner().sign_cleartext(TEXT, now()).unwrap();
    let error = ring.verify_cleartext(good.as_bytes(), now(), &limits).unwrap_err();
    assert_eq!(error.limit_name(), Some("signature"));
    let beside = owner().sign_detached(b"x", now()).unwrap();
    assert_eq!(
        ring.verify_detached(b"x", beside.as_bytes(), now(), &limits).unwrap_err().limit_name(),
        Some("signature")
    );
}
