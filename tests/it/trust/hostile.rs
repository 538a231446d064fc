//! Envelopes and statements that must not be taken for what they are not: one table, one reason for each.

use lxd_image::trust::{Envelope, FINGERPRINT_SUBJECT, PAYLOAD_TYPE, SecretKey, Statement};
use lxd_image::{ErrorKind, Fingerprint, Limits};
use serde_json::{Value, json};

/// Base64 by hand, so that the tests don't believe the code that they test.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let number = chunk.iter().fold(0_u32, |number, byte| number << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for index in 0..4 {
            let digit = DIGITS[(number >> (18 - 6 * index) & 63) as usize] as char;
            text.push(if index > chunk.len() { '=' } else { digit });
        }
    }
    text
}

/// What DSSE signs.
fn encoded(kind: &str, payload: &[u8]) -> Vec<u8> {
    [format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len()).as_bytes(), payload].concat()
}

fn payload(subjects: &Value) -> Vec<u8> {
    json!({"_type": "https://in-toto.io/Statement/v1", "subject": subjects, "predicateType": "urn:x:test", "predicate": {}})
        .to_string()
        .into_bytes()
}

fn envelope(payload: &[u8], signature: &[u8]) -> String {
    json!({
        "payload": base64(payload), "payloadType": PAYLOAD_TYPE,
        "signatures": [{"keyid": "", "sig": base64(signature)}],
    })
    .to_string()
}

fn about(fingerprint: &Fingerprint) -> Value {
    json!([{"name": FINGERPRINT_SUBJECT, "digest": {"sha256": fingerprint.to_string()}}])
}

#[test]
fn malformed_envelopes_are_refused() {
    let good = payload(&about(&Fingerprint::of(b"image")));
    let one = envelope(&good, &[1; 64]);
    assert!(Envelope::parse(one.as_bytes()).is_ok());
    let digest = Fingerprint::of(b"x").to_string();
    let other = Fingerprint::of(b"y").to_string();
    let twice = json!([{"name": "a", "digest": {"sha256": digest}}, {"name": "a", "digest": {"sha256": other}}]);
    let two_images = json!([
        {"name": FINGERPRINT_SUBJECT, "digest": {"sha256": digest}},
        {"name": FINGERPRINT_SUBJECT, "digest": {"sha256": other}},
    ]);
    let malformed = ErrorKind::Malformed;
    let many: Vec<Value> = (0..33).map(|_| json!({"sig": ""})).collect();
    let cases: Vec<(&str, String, ErrorKind)> = vec![
        ("two payload types", one.replacen('{', &format!("{{\"payloadType\":\"{PAYLOAD_TYPE}\","), 1), malformed),
        ("two payloads", one.replacen('{', "{\"payload\":\"e30=\",", 1), malformed),
        ("another payload type", one.replace("in-toto+json", "in-toto+xml"), ErrorKind::Unsupported),
        (
            "no signature",
            json!({"payload": base64(&good), "payloadType": PAYLOAD_TYPE, "signatures": []}).to_string(),
            malformed,
        ),
        (
            "33 signatures",
            json!({"payload": base64(&good), "payloadType": PAYLOAD_TYPE, "signatures": many}).to_string(),
            malformed,
        ),
        ("base64 with a blank", one.replacen("\"payload\":\"", "\"payload\":\" ", 1), malformed),
        ("base64 of a signature cut off", one.replace(&base64(&[1; 64]), "AQE"), malformed),
        ("payload that is not JSON", envelope(b"{", &[1; 64]), malformed),
        ("a statement without subject", envelope(&payload(&json!([])), &[1; 64]), malformed),
        ("subject twice", envelope(&payload(&twice), &[1; 64]), malformed),
        ("two fingerprints", envelope(&payload(&two_images), &[1; 64]), malformed),
        (
            "digest that is none",
            envelope(&payload(&json!([{"name": "a", "digest": {"sha256": "zz"}}])), &[1; 64]),
            malformed,
        ),
        (
            "fingerprint by another digest",
            envelope(&payload(&json!([{"name": FINGERPRINT_SUBJECT, "digest": {"sha512": "aa"}}])), &[1; 64]),
            malformed,
        ),
        (
            "an older statement",
            envelope(
                &String::from_utf8(good.clone()).unwrap().replace("Statement/v1", "Statement/v0.1").into_bytes(),
                &[1; 64],
            ),
            ErrorKind::Unsupported,
        ),
        ("text after the envelope", format!("{one}{one}"), malformed),
        ("deep nesting", format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)), malformed),
    ];
    for (what, text, kind) in cases {
        let found = Envelope::parse(text.as_bytes()).map(|_| ()).map_err(|error| error.kind());
        assert_eq!(found, Err(kind), "{what}");
    }
}

/// Later versions of DSSE and in-toto may have further fields, and other tools add their own.
#[test]
fn unknown_fields_are_kept_and_mean_nothing() {
    let image = Fingerprint::of(b"image");
    let mut statement: Value = serde_json::from_slice(&payload(&about(&image))).unwrap();
    statement["annotations"] = json!({"x": 1});
    statement["subject"][0]["uri"] = json!("https://example.com/image");
    let text = envelope(statement.to_string().as_bytes(), &[1; 64]).replacen('{', "{\"extra\":1,", 1);
    let parsed = Envelope::parse(text.as_bytes()).unwrap();
    assert!(parsed.statement().is_about(&image));
    assert!(parsed.as_json().contains("\"extra\":1"));
}

#[test]
fn oversized_statement_names_its_limit() {
    let mut limits = Limits::default();
    limits.set("statement", 1000).unwrap();
    let statement = Statement::new("urn:x:test", json!({"sbom": "x".repeat(2000)})).image(&Fingerprint::of(b""));
    let envelope = Envelope::sign(&statement, &[&SecretKey::generate().unwrap()]).unwrap();
    let error = Envelope::parse_with(envelope.as_json().as_bytes(), &limits).unwrap_err();
    assert_eq!((error.kind(), error.limit_name()), (ErrorKind::LimitExceeded, Some("statement")));
}

#[test]
fn signature_over_the_bare_payload_does_not_count() {
    let key = SecretKey::generate().unwrap();
    let keys = [key.public_key().clone()];
    let payload = payload(&about(&Fingerprint::of(b"image")));
    let good = Envelope::parse(envelope(&payload, &key.sign(&encoded(PAYLOAD_TYPE, &payload))).as_bytes()).unwrap();
    assert_eq!(good.signers(&keys), [key.public_key().id()]);
    for (what, message) in [
        ("the payload alone", payload.clone()),
        ("another type", encoded("application/json", &payload)),
        ("its base64", base64(&payload).into_bytes()),
    ] {
        let bad = Envelope::parse(envelope(&payload, &key.sign(&message)).as_bytes()).unwrap();
        assert!(bad.signers(&keys).is_empty(), "{what}");
        assert_eq!(bad.verify(&keys).unwrap_err().kind(), ErrorKind::Untrusted, "{what}");
    }
}

#[test]
fn key_ids_of_an_envelope_decide_nothing() {
    let (real, claimed) = (SecretKey::generate().unwrap(), SecretKey::generate().unwrap());
    let statement = Statement::new("urn:x:test", json!({})).image(&Fingerprint::of(b"image"));
    let text = Envelope::sign(&statement, &[&real]).unwrap().as_json().to_owned();
    let lie = text.replace(real.public_key().id().as_str(), claimed.public_key().id().as_str());
    let envelope = Envelope::parse(lie.as_bytes()).unwrap();
    assert!(envelope.signers(&[claimed.public_key().clone()]).is_empty());
    assert_eq!(envelope.signers(&[real.public_key().clone()]), [real.public_key().id()]);
    // One signature twice is one signer.
    let twice = Envelope::sign(&statement, &[&real, &real, &claimed]).unwrap();
    let keys = [real.public_key().clone(), real.public_key().clone(), claimed.public_key().clone()];
    assert_eq!(twice.signers(&keys).len(), 2);
}

#[test]
fn statement_of_another_tool_is_about_the_file_with_its_digest() {
    let file = Fingerprint::of(b"image");
    let subjects = json!([{"name": "x.tar.xz", "digest": {"sha256": file.to_string()}}]);
    let foreign = Statement::parse(&payload(&subjects)).unwrap();
    assert!(foreign.is_about(&file));
    // With a fingerprint of its own, the other subjects don't count.
    let own = json!([
        {"name": FINGERPRINT_SUBJECT, "digest": {"sha256": Fingerprint::of(b"other").to_string()}},
        {"name": "x.tar.xz", "digest": {"sha256": file.to_string()}},
    ]);
    let own = Statement::parse(&payload(&own)).unwrap();
    assert_eq!(own.check_subject(&file).unwrap_err().kind(), ErrorKind::Mismatch);
}
