//! What GnuPG, Sequoia and minisign sign and verify, and keys in every state.

use std::fs;
use std::process::Command;

use lxd_image::trust::ListKeys;
use lxd_image::trust::openpgp::{Keyring, SecretKey};
use lxd_image::{ErrorKind, Limits};

use super::gnupg::{Gnupg, ran};
use super::{OTHER, OWNER, keyring, now, owner};
use crate::format::peers::have;
use crate::store::Scratch;

const TEXT: &[u8] = b"{\n  \"format\": \"index:1.0\",\n- dash\n}\n";

fn ring(bytes: &[u8]) -> Keyring {
    Keyring::parse(bytes, &Limits::default()).unwrap()
}

/// Signs in both forms and compares our verdict with that of gpgv.
fn verdicts(gnupg: &Gnupg, keys: &[u8], words: &str) -> (bool, bool) {
    let message = gnupg.gpg(&format!("{words} --clearsign"), TEXT);
    let beside = gnupg.gpg(&format!("{words} --detach-sign"), TEXT);
    let keyring = ring(keys);
    let inside = keyring.verify_cleartext(&message, now(), &Limits::default());
    let detached = keyring.verify_detached(TEXT, &beside, now(), &Limits::default());
    assert_eq!(inside.is_ok(), detached.is_ok(), "{words}: {inside:?} {detached:?}");
    if let Ok((text, _)) = &inside {
        assert_eq!(text, TEXT);
    }
    if let Err(error) = inside {
        assert_eq!(error.kind(), ErrorKind::Untrusted, "{words}: {error}");
    }
    let theirs = gnupg.gpgv(keys, &message, None);
    assert_eq!(theirs, gnupg.gpgv(keys, &beside, Some(TEXT)), "{words}");
    (detached.is_ok(), theirs)
}

/// A signature counts for whichever algorithm the owner chose.
#[test]
fn signatures_of_gnupg_are_accepted() {
    let Some(gnupg) = Gnupg::new("good") else { return };
    for algorithm in ["rsa2048", "ed25519", "nistp256", "nistp384", "nistp521"] {
        let keys = gnupg.key(algorithm, algorithm, "sign,cert", "never");
        let verdict = verdicts(&gnupg, &keys, &format!("-u {algorithm}@example"));
        assert_eq!(verdict, (true, true), "{algorithm}");
    }
    // Armored detached signatures, and several signatures of which one is by a trusted key.
    let keys = gnupg.public("ed25519");
    let beside = gnupg.gpg("-u ed25519@example --armor --detach-sign", TEXT);
    ring(&keys).verify_detached(TEXT, &beside, now(), &Limits::default()).unwrap();
    let both = gnupg.gpg("-u ed25519@example -u rsa2048@example --clearsign", TEXT);
    let (_, good) = ring(&keys).verify_cleartext(&both, now(), &Limits::default()).unwrap();
    assert_eq!(good.certificate, gnupg.fingerprint("ed25519"));
    // A keyring with several certificates, as packages ship it: whoever of them signed.
    let all = [gnupg.public("nistp256"), gnupg.public("rsa2048")].concat();
    assert_eq!(ring(&all).fingerprints().len(), 2);
    let (_, good) = ring(&all).verify_cleartext(&both, now(), &Limits::default()).unwrap();
    assert_eq!(good.certificate, gnupg.fingerprint("rsa2048"));
}

/// Each row: what is wrong with the key or the signature, and what gpgv says of it.
#[test]
fn keys_and_signatures_that_do_not_count_are_refused() {
    let Some(gnupg) = Gnupg::new("bad") else { return };
    let mut told = Vec::new();
    let mut refused = |name: &str, keys: &[u8], words: &str| {
        let (ours, theirs) = verdicts(&gnupg, keys, words);
        assert!(!ours, "{name}: accepted");
        told.push(format!("{name}: gpgv {}", if theirs { "accepts" } else { "refuses" }));
    };
    let past = now() - 50_000;
    // The key expires a day after it was made, and the signature is made before that.
    let keys = gnupg.key("expired", "ed25519", "sign,cert", "seconds=60000");
    refused("key that has expired", &keys, &format!("--faked-system-time {past} -u expired@example"));

    let keys = gnupg.key("plain", "ed25519", "sign,cert", "never");
    let expiring = format!("--faked-system-time {past} --default-sig-expire seconds=100 -u plain@example");
    refused("signature that has expired", &keys, &expiring);
    let future = format!("--faked-system-time {} -u plain@example", now() + 200_000);
    refused("signature of the future", &keys, &future);
    refused("SHA-1", &keys, "--digest-algo SHA1 -u plain@example");
    refused("another key", &gnupg.key("another", "ed25519", "sign,cert", "never"), "-u plain@example");

    gnupg.key("dsa", "dsa2048", "sign,cert", "never");
    refused("DSA", &gnupg.public("dsa"), "-u dsa@example");
    gnupg.key("short", "rsa1024", "sign,cert", "never");
    refused("RSA with 1024 bits", &gnupg.public("short"), "-u short@example");

    // A revoked key: it signed before it was revoked.
    gnupg.key("revoked", "ed25519", "sign,cert", "never");
    let fingerprint = gnupg.fingerprint("revoked");
    let certificate = fs::read_to_string(gnupg.path(&format!("openpgp-revocs.d/{fingerprint}.rev"))).unwrap();
    let message = gnupg.gpg("-u revoked@example --clearsign", TEXT);
    assert!(ring(&gnupg.public("revoked")).verify_cleartext(&message, now(), &Limits::default()).is_ok());
    gnupg.gpg("--import", certificate.replace(":-----BEGIN", "-----BEGIN").as_bytes());
    let revoked = gnupg.public("revoked");
    assert!(ring(&revoked).verify_cleartext(&message, now(), &Limits::default()).is_err(), "revoked");
    assert!(ring(&revoked).unusable(now())[0].as_ref().unwrap().contains("revoked"));
    println!("revoked: gpgv {}", if gnupg.gpgv(&revoked, &message, None) { "accepts" } else { "refuses" });
    println!("{told:#?}");
}

#[test]
fn subkeys_sign_if_they_are_bound_and_meant_to() {
    let Some(gnupg) = Gnupg::new("subkeys") else { return };
    gnupg.key("owner", "ed25519", "cert", "never");
    let primary = gnupg.public("owner");
    let fingerprint = gnupg.fingerprint("owner");
    let made = format!("--faked-system-time {}", now() - 90_000);
    gnupg.gpg(&format!("{made} --quick-add-key {fingerprint} ed25519 sign never"), b"");
    let whole = gnupg.public("owner");
    let message = gnupg.gpg("-u owner@example --clearsign", TEXT);
    let (_, good) = ring(&whole).verify_cleartext(&message, now(), &Limits::default()).unwrap();
    assert_eq!(good.certificate, fingerprint);
    assert_ne!(good.key, fingerprint, "the subkey signed");
    // Without the subkey nothing knows the signature, and a primary key that only certifies signs nothing.
    assert!(ring(&primary).verify_cleartext(&message, now(), &Limits::default()).is_err());
    assert!(ring(&primary).unusable(now())[0].as_ref().unwrap().contains("key flags"));
    // The subkey of another one's certificate: without its own word it belongs to nobody else.
    let stolen = graft(&gnupg.key("thief", "ed25519", "sign,cert", "never"), &whole);
    assert!(ring(&stolen).verify_cleartext(&message, now(), &Limits::default()).is_err(), "a subkey was stolen");
    assert!(!gnupg.gpgv(&stolen, &message, None));
    // Our own signatures by that key: gpgv accepts them.
    let exported = gnupg.gpg("--export-secret-keys owner@example", b"");
    let secret = SecretKey::parse(&exported, None, now(), &Limits::default()).unwrap();
    assert_eq!(secret.fingerprint(), fingerprint);
    let ours = secret.sign_cleartext(std::str::from_utf8(TEXT).unwrap(), now()).unwrap();
    assert!(gnupg.gpgv(&whole, ours.as_bytes(), None));
    let beside = secret.sign_detached(TEXT, now()).unwrap();
    assert!(gnupg.gpgv(&whole, beside.as_bytes(), Some(TEXT)));
    // A revoked subkey, and an expired one.
    let subkey = good.key;
    gnupg.gpg(&format!("--quick-set-expire {fingerprint} seconds=1 {subkey}"), b"");
    std::thread::sleep(std::time::Duration::from_millis(1500));
    let expired = gnupg.public("owner");
    assert!(ring(&expired).verify_cleartext(&message, now(), &Limits::default()).is_err(), "an expired subkey");
}

/// A certificate with the subkeys of another one.
fn graft(certificate: &[u8], other: &[u8]) -> Vec<u8> {
    // Packets begin with their tag and length: the subkey is the first one with tag 14.
    let mut at = 0;
    while at < other.len() {
        let tag = if other[at] & 0x40 == 0 { (other[at] >> 2) & 0x0f } else { other[at] & 0x3f };
        if tag == 14 {
            break;
        }
        let length = match other[at] & 0x03 {
            0 => 2 + usize::from(other[at + 1]),
            _ => 3 + usize::from(u16::from_be_bytes([other[at + 1], other[at + 2]])),
        };
        at += length;
    }
    [certificate, &other[at..]].concat()
}

#[test]
fn our_signatures_are_accepted_by_gpgv_and_sequoia() {
    let Some(gnupg) = Gnupg::new("ours") else { return };
    let binary = gnupg.gpg("--dearmor", OWNER.as_bytes());
    let text = std::str::from_utf8(TEXT).unwrap();
    let message = owner().sign_cleartext(text, now()).unwrap();
    let beside = owner().sign_detached(TEXT, now()).unwrap();
    assert!(gnupg.gpgv(&binary, message.as_bytes(), None));
    assert!(gnupg.gpgv(&binary, beside.as_bytes(), Some(TEXT)));
    for (name, bytes) in
        [("m.asc", message.as_bytes()), ("s.asc", beside.as_bytes()), ("t", TEXT), ("k.asc", OWNER.as_bytes())]
    {
        fs::write(gnupg.path(name), bytes).unwrap();
    }
    if have("sqv") {
        ran("sqv", &["--keyring", "k.asc", "s.asc", "t"], &gnupg.path(""));
    }
    if have("sq") {
        ran("sq", &["verify", "--signer-cert", "k.asc", "m.asc"], &gnupg.path(""));
    }
}

#[test]
fn signatures_of_sequoia_are_accepted() {
    if !have("sq") {
        return;
    }
    let scratch = Scratch::new();
    fs::write(scratch.join("t"), TEXT).unwrap();
    ran("sq", &["key", "generate", "--userid", "s@example", "--export", "key.asc"], scratch.path());
    ran("sq", &["key", "extract-cert", "--output", "cert.asc", "key.asc"], scratch.path());
    ran("sq", &["sign", "--cleartext-signature", "--signer-key", "key.asc", "--output", "m.asc", "t"], scratch.path());
    ran("sq", &["sign", "--detached", "--signer-key", "key.asc", "--output", "s.asc", "t"], scratch.path());
    let read = |name: &str| fs::read(scratch.join(name)).unwrap();
    let ring = ring(&read("cert.asc"));
    let (text, _) = ring.verify_cleartext(&read("m.asc"), now(), &Limits::default()).unwrap();
    assert_eq!(text, TEXT);
    ring.verify_detached(TEXT, &read("s.asc"), now(), &Limits::default()).unwrap();
    // Their key signs for us.
    let secret = SecretKey::parse(&read("key.asc"), None, now(), &Limits::default()).unwrap();
    let ours = secret.sign_cleartext(std::str::from_utf8(TEXT).unwrap(), now()).unwrap();
    ring.verify_cleartext(ours.as_bytes(), now(), &Limits::default()).unwrap();
}

#[test]
fn signatures_of_minisign_are_accepted_with_their_time() {
    if Command::new("minisign").arg("-v").output().is_err() {
        have("minisign");
        return;
    }
    let scratch = Scratch::new();
    fs::write(scratch.join("t"), TEXT).unwrap();
    ran("minisign", &["-G", "-W", "-p", "k.pub", "-s", "k.sec"], scratch.path());
    ran("minisign", &["-S", "-s", "k.sec", "-m", "t"], scratch.path());
    let read = |name: &str| fs::read(scratch.join(name)).unwrap();
    let keys = ListKeys::parse(&read("k.pub"), &Limits::default()).unwrap();
    let signature = keys.verify_minisign(TEXT, &read("t.minisig"), now(), &Limits::default()).unwrap();
    assert!(signature.signed_at.is_some_and(|at| (now() - at).abs() < 60), "{signature:?}");
    assert!(keys.verify_minisign(b"other", &read("t.minisig"), now(), &Limits::default()).is_err());
    // Made tomorrow, by a clock that is two days ahead.
    assert!(keys.verify_minisign(TEXT, &read("t.minisig"), now() - 200_000, &Limits::default()).is_err());
}

#[test]
fn passphrases_unlock_keys_of_gnupg() {
    let text = include_str!("keys/protected.sec.asc").as_bytes();
    let parse = |passphrase| SecretKey::parse(text, passphrase, now(), &Limits::default());
    for wrong in [None, Some(&b"wrong"[..]), Some(b"")] {
        assert_eq!(parse(wrong).unwrap_err().kind(), ErrorKind::InvalidInput, "{wrong:?}");
    }
    let secret = parse(Some(b"correct horse")).unwrap();
    let message = secret.sign_cleartext("{}\n", now()).unwrap();
    secret.public().verify_cleartext(message.as_bytes(), now(), &Limits::default()).unwrap();
    assert!(!format!("{secret:?}").contains("horse"));
}

#[test]
fn files_that_are_not_public_keys_are_refused_with_a_reason() {
    let secret = include_str!("keys/owner.sec.asc");
    let rows: &[(&str, &[u8], ErrorKind)] = &[
        ("a secret key", secret.as_bytes(), ErrorKind::InvalidInput),
        ("a keybox", b"\0\0\0\x20\x01\x01\0\x02KBXf\0\0\0\0", ErrorKind::InvalidInput),
        ("nothing", b"", ErrorKind::Malformed),
        ("a text", b"hello\n", ErrorKind::Malformed),
        ("a certificate", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", ErrorKind::Unsupported),
        ("half a key", &OWNER.as_bytes()[..120], ErrorKind::Malformed),
        ("noise", &[0x99; 300], ErrorKind::Malformed),
    ];
    for (name, bytes, kind) in rows {
        let error = ListKeys::parse(bytes, &Limits::default()).expect_err(name);
        assert_eq!(error.kind(), *kind, "{name}: {error}");
        assert!(!error.to_string().contains("lQ"), "{name}: nothing of a key is in an error");
    }
    let both = ListKeys::parse(format!("# two keys\n{OWNER}\n{OTHER}").as_bytes(), &Limits::default()).unwrap();
    assert_eq!(both.describe(now()).len(), 2);
    let again = ListKeys::parse(both.to_text().unwrap().as_bytes(), &Limits::default()).unwrap();
    assert_eq!(both, again);
    assert_eq!(keyring(OWNER).fingerprints(), [owner().fingerprint()]);
}
