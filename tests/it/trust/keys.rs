//! Keys and detached signatures: what `minisign` makes is read, and what is made here `minisign` accepts.

use std::fs;
use std::process::{Command, Stdio};

use lxd_image::ErrorKind;
use lxd_image::trust::{PublicKey, SecretKey, Signature};

use crate::format::peers::have;
use crate::store::Scratch;

/// A key of `minisign -G`, encrypted by another scrypt with `open sesame` and less work than usual: 16 MiB.
const ENCRYPTED: &str = "untrusted comment: minisign encrypted secret key\nRWRTY0IyVwoyrhZGCHicGq4C7851gqmqYPmK/FxjpSP6rRGgS9gAAAgAAAAAAAAAAAEAAAAAuELielBrAC+nCiXpL5fYVSg1TP4KbXRcYsJ1QQ12hkcFCrWj7JH7RnYSmsFaxGwWGU+uIvsSKq0zq3fm3mv1vltoBxOLtcFPDJjWHpyIg/q3yPo0xlI33WNB72pyFKz9MX8NlkiUxGs=\n";
const ENCRYPTED_PUBLIC: &str = "RWT3tIAsN8pOSgorfIAJfXCQFjPxfxekjvM37/WV75mF0oPxTHCbuQx2";

/// Runs a program that must succeed, in a directory.
fn run(scratch: &Scratch, program: &str, arguments: &[&str]) {
    let output =
        Command::new(program).args(arguments).current_dir(scratch.path()).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Whether a program succeeds.
fn accepts(scratch: &Scratch, program: &str, arguments: &[&str]) -> bool {
    Command::new(program).args(arguments).current_dir(scratch.path()).output().unwrap().status.success()
}

#[test]
fn signatures_of_minisign_are_verified_with_their_comments() {
    if !have("minisign") {
        return;
    }
    let scratch = Scratch::new();
    let at = |name: &str| scratch.path().join(name);
    run(&scratch, "minisign", &["-G", "-W", "-p", "k.pub", "-s", "k.sec"]);
    fs::write(at("list"), "some list\n").unwrap();
    let key = PublicKey::read(at("k.pub")).unwrap();
    for options in [&["-H"][..], &["-l"]] {
        let sign = [&["-S", "-s", "k.sec", "-m", "list", "-t", "file:list\thashed"], options].concat();
        run(&scratch, "minisign", &sign);
        let text = fs::read(at("list.minisig")).unwrap();
        let signature = Signature::parse(&text).unwrap();
        assert_eq!(key.verify_detached(b"some list\n", &signature).unwrap(), "file:list\thashed", "{options:?}");
        let error = key.verify_detached(b"some lisT\n", &signature).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Untrusted, "{options:?}");
        let forged = String::from_utf8(text).unwrap().replace("file:list", "file:LIST");
        let error = key.verify_detached(b"some list\n", &Signature::parse(forged.as_bytes()).unwrap()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Untrusted, "{options:?}");
        assert!(error.to_string().starts_with("the trusted comment"), "{error}");
    }
    // What `minisign` prints as the key's name is what we call it, too.
    let text = fs::read_to_string(at("k.pub")).unwrap();
    assert!(text.lines().next().unwrap().ends_with(key.id().as_str()), "{text}");
    // The secret key that it made signs here, and the pair belongs together.
    let secret = SecretKey::read(at("k.sec"), None).unwrap();
    assert_eq!(secret.public_key(), &key);
}

#[test]
fn minisign_accepts_keys_and_signatures_made_here() {
    if !have("minisign") {
        return;
    }
    let scratch = Scratch::new();
    let at = |name: &str| scratch.path().join(name);
    let secret = SecretKey::generate().unwrap();
    fs::write(at("k.pub"), secret.public_key().to_text()).unwrap();
    fs::write(at("k.sec"), secret.to_text(None).unwrap()).unwrap();
    fs::write(at("list"), "some list\n").unwrap();
    fs::write(at("list.minisig"), secret.sign_detached(b"some list\n", "when:now").unwrap().to_text()).unwrap();
    assert!(accepts(&scratch, "minisign", &["-V", "-H", "-p", "k.pub", "-m", "list"]));
    run(&scratch, "minisign", &["-S", "-W", "-s", "k.sec", "-m", "list"]);
    let signature = Signature::parse(&fs::read(at("list.minisig")).unwrap()).unwrap();
    secret.public_key().verify_detached(b"some list\n", &signature).unwrap();
    fs::write(at("list"), "other list\n").unwrap();
    assert!(!accepts(&scratch, "minisign", &["-V", "-p", "k.pub", "-m", "list"]));
}

#[test]
fn passphrase_opens_an_encrypted_key() {
    let secret = SecretKey::parse(ENCRYPTED.as_bytes(), Some(b"open sesame")).unwrap();
    assert_eq!(secret.public_key(), &PublicKey::parse(ENCRYPTED_PUBLIC.as_bytes()).unwrap());
    let error = SecretKey::parse(ENCRYPTED.as_bytes(), Some(b"open Sesame")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Untrusted);
    assert!(!format!("{error} {error:?}").contains("Sesame"));
    assert_eq!(SecretKey::parse(ENCRYPTED.as_bytes(), None).unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn keys_of_openssl_sign_and_verify() {
    if !have("openssl") {
        return;
    }
    let scratch = Scratch::new();
    let at = |name: &str| scratch.path().join(name);
    run(&scratch, "openssl", &["genpkey", "-algorithm", "ed25519", "-out", "k.pem"]);
    run(&scratch, "openssl", &["pkey", "-in", "k.pem", "-pubout", "-out", "pub.pem"]);
    let secret = SecretKey::read(at("k.pem"), None).unwrap();
    let public = PublicKey::read(at("pub.pem")).unwrap();
    assert_eq!(secret.public_key(), &public);
    assert_eq!(public.to_text(), fs::read_to_string(at("pub.pem")).unwrap());
    fs::write(at("message"), "message").unwrap();
    fs::write(at("signature"), secret.sign(b"message")).unwrap();
    public.verify(b"message", &secret.sign(b"message")).unwrap();
    let verify =
        ["pkeyutl", "-verify", "-pubin", "-inkey", "pub.pem", "-rawin", "-in", "message", "-sigfile", "signature"];
    assert!(accepts(&scratch, "openssl", &verify));
}

#[test]
fn damaged_keys_and_signatures_are_refused_by_kind() {
    let secret = SecretKey::generate().unwrap();
    let public = secret.public_key().to_text();
    let line = public.lines().nth(1).unwrap();
    let rsa = "-----BEGIN PUBLIC KEY-----\nMEgwQgYJKoZIhvcNAQEBBQADOwAwOAIxAA==\n-----END PUBLIC KEY-----\n";
    for (text, kind) in [
        (String::new(), ErrorKind::Malformed),
        ("untrusted comment: x\n".into(), ErrorKind::Malformed),
        (format!("{public}{line}\n"), ErrorKind::Malformed),
        (line[..55].to_owned(), ErrorKind::Malformed),
        (format!("{line} "), ErrorKind::Malformed),
        (format!("RWX{}", &line[3..]), ErrorKind::Unsupported),
        (rsa.into(), ErrorKind::Unsupported),
        ("-----BEGIN PUBLIC KEY-----\nMEgw".into(), ErrorKind::Malformed),
        ("-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n".into(), ErrorKind::Unsupported),
    ] {
        let found = PublicKey::parse(text.as_bytes()).map_err(|error| error.kind());
        assert!(found == Err(kind) || text.ends_with(' ') && found.is_ok(), "{text:?}: {found:?}");
    }
    let good = secret.sign_detached(b"m", "c").unwrap().to_text();
    for text in [
        good.replace("untrusted comment:", "comment:"),
        good.replace("trusted comment: c", "comment: c"),
        format!("{good}{good}"),
        good.lines().take(3).collect::<Vec<_>>().join("\n"),
        good.replace("trusted comment: c\n", &format!("trusted comment: {}\n", "c".repeat(9000))),
    ] {
        assert_eq!(Signature::parse(text.as_bytes()).unwrap_err().kind(), ErrorKind::Malformed, "{text:?}");
    }
    assert!(secret.sign_detached(b"m", "two\nlines").is_err());
    // A signature by a key with the same number, and other bytes.
    let other = SecretKey::generate().unwrap();
    let signature = Signature::parse(good.as_bytes()).unwrap();
    let error = other.public_key().verify_detached(b"m", &signature).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Untrusted);
}
