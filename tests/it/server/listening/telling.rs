//! Events over a WebSocket, byte by byte: begun, told, answered, ended by either side.

use std::io::Read;

use serde_json::Value;

use super::*;

const BEGIN: &[(&str, &str)] = &[
    ("Connection", "keep-alive, Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

/// A frame of the server: its kind and what is in it.
fn frame(talk: &mut Talk<Tls>) -> (u8, Vec<u8>) {
    let mut head = [0; 2];
    talk.stream.read_exact(&mut head).unwrap();
    assert_eq!(head[0] & 0xf0, 0x80, "a frame is whole, and has no bits that were not agreed");
    let length = match head[1] {
        126 => {
            let mut length = [0; 2];
            talk.stream.read_exact(&mut length).unwrap();
            usize::from(u16::from_be_bytes(length))
        }
        length => usize::from(length),
    };
    let mut content = vec![0; length];
    talk.stream.read_exact(&mut content).unwrap();
    (head[0] & 0x0f, content)
}

/// A frame of a client, which is masked.
fn send(talk: &mut Talk<Tls>, kind: u8, content: &[u8]) {
    let mask = [1, 2, 3, 4];
    let mut bytes = vec![0x80 | kind];
    if content.len() < 126 {
        bytes.push(0x80 | content.len() as u8);
    } else {
        bytes.push(0x80 | 126);
        bytes.extend_from_slice(&(content.len() as u16).to_be_bytes());
    }
    bytes.extend_from_slice(&mask);
    bytes.extend(content.iter().enumerate().map(|(index, byte)| byte ^ mask[index % 4]));
    talk.send(&bytes).unwrap();
}

fn listening(served: &Listening, friend: &Identity) -> Talk<Tls> {
    let mut talk = served.trusted(friend);
    talk.ask("GET", "/1.0/events?type=lifecycle", BEGIN);
    let begun = talk.head().unwrap();
    assert_eq!((begun.status, begun.header("sec-websocket-accept")), (101, Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")));
    talk
}

#[test]
fn websocket_sends_events_and_answers_pings_and_close_frames() {
    let friend = Identity::new();
    let served = Listening::trusting(&friend);
    let image = served.import("one");
    let mut talk = listening(&served, &friend);
    let mut other = served.trusted(&friend);
    other.ask("DELETE", &format!("/1.0/images/{}", image.fingerprint), &[]);
    assert!(other.answer("DELETE").unwrap().status < 300);
    let (kind, text) = frame(&mut talk);
    assert_eq!(kind, 1);
    let event: Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(
        (&event["type"], &event["metadata"]["action"]),
        (&"lifecycle".into(), &"image-deleted".into()),
        "{event}"
    );
    send(&mut talk, 9, b"there?");
    assert_eq!(frame(&mut talk), (10, b"there?".to_vec()));
    send(&mut talk, 8, &1_000_u16.to_be_bytes());
    assert_eq!(frame(&mut talk).0, 8);
    assert!(talk.is_closed());
}

#[test]
fn shutdown_sends_a_close_frame_to_event_listeners() {
    let friend = Identity::new();
    let mut served = Listening::trusting(&friend);
    let mut talk = listening(&served, &friend);
    let since = std::time::Instant::now();
    served.stop().unwrap();
    assert!(since.elapsed() < PATIENCE);
    assert_eq!(frame(&mut talk).0, 8);
    assert!(talk.is_closed());
}

#[test]
fn websocket_with_an_invalid_or_too_long_frame_is_disconnected() {
    let friend = Identity::new();
    let served = Listening::trusting(&friend);
    let mut talk = listening(&served, &friend);
    send(&mut talk, 1, &[b'a'; 60_000]);
    assert!(talk.is_closed());
    let mut talk = listening(&served, &friend);
    // Without a mask.
    talk.send(&[0x81, 1, b'a']).unwrap();
    assert!(talk.is_closed());
}

#[test]
fn events_require_a_trusted_client_and_a_valid_upgrade() {
    let friend = Identity::new();
    let served = Listening::trusting(&friend);
    let mut stranger = served.tls();
    stranger.ask("GET", "/1.0/events", BEGIN);
    assert_eq!(stranger.answer("GET").unwrap().status, 403);
    for (index, (missing, _)) in BEGIN.iter().enumerate() {
        let mut headers = BEGIN.to_vec();
        headers.remove(index);
        let mut talk = served.trusted(&friend);
        talk.ask("GET", "/1.0/events", &headers);
        assert_eq!(talk.answer("GET").unwrap().status, 426, "without {missing}");
    }
    let mut talk = served.trusted(&friend);
    talk.ask("GET", "/1.0/events", &[BEGIN[0], BEGIN[1], ("Sec-WebSocket-Version", "8"), BEGIN[3]]);
    assert_eq!(talk.answer("GET").unwrap().status, 426);
    // Where there is nothing to tell, the wish is passed over.
    let mut talk = served.trusted(&friend);
    talk.ask("GET", "/health", BEGIN);
    assert_eq!(talk.answer("GET").unwrap().text(), "ok\n");
}
