//! Finds request heads that two programs could understand differently: a length and chunks
//! together, or two lengths. Such a head is how requests are smuggled past a proxy (RFC 9112,
//! section 11.2): the proxy takes one end of the body, the server the other, and what lies between
//! becomes a request that nobody checked.
//!
//! The HTTP library that parses the head afterwards goes by one of the two and reports nothing, so
//! a second look at the bytes is needed. [`Scan`] reads along as they come in, without changing
//! them, and sets a flag; the connection answers 400 to the request and closes.
//!
//! It knows just enough of HTTP/1.1 to find the heads: lines, names, lengths. Bodies with a length
//! are skipped. After a body of chunks it stops, because finding the end of chunks would need a
//! parser of its own; the server closes the connection after such a request instead. HTTP/2 has
//! lengths of its own in each frame and needs none of this.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::observed::Observer;

/// The bytes of a line that are kept: the longest name that matters, `transfer-encoding`, with a
/// colon and a number are shorter. A line that was cut is ambiguous if its name matters.
const LONGEST: usize = 64;

/// Where in the bytes of a connection the scan is.
///
/// One for each connection of HTTP/1.1. It sees the decrypted bytes, in pieces of any size.
#[derive(Debug)]
pub(super) struct Scan {
    /// Set when an ambiguous head was found; never reset, since the connection ends.
    ambiguous: Arc<AtomicBool>,
    /// What the next byte belongs to.
    state: State,
    /// The beginning of the line that is read.
    line: Vec<u8>,
    /// Whether this is the line of the request.
    first: bool,
    /// The value of `Content-Length` in this head.
    length: Option<u64>,
    /// Whether this head has `Transfer-Encoding`.
    chunked: bool,
}

/// What the next byte belongs to.
#[derive(Debug, Clone, Copy)]
enum State {
    /// A line of a head.
    Head,
    /// So many bytes of a body.
    Body(u64),
    /// After a request whose end is in its chunks; the connection ends with it.
    Over,
}

impl Scan {
    /// A scan that begins before the first request.
    pub(super) fn new(ambiguous: Arc<AtomicBool>) -> Self {
        Self { ambiguous, state: State::Head, line: Vec::new(), first: true, length: None, chunked: false }
    }

    /// Takes the next bytes of the connection.
    fn look(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match self.state {
                State::Over => return,
                State::Body(left) => {
                    let here = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                    bytes = &bytes[here..];
                    self.state = match left - here as u64 {
                        0 => State::Head,
                        left => State::Body(left),
                    };
                }
                State::Head => {
                    let end = bytes.iter().position(|byte| *byte == b'\n');
                    let part = &bytes[..end.unwrap_or(bytes.len())];
                    // The rest of a long line is skipped without being kept, so that a line costs
                    // 64 bytes at most.
                    let room = LONGEST - self.line.len();
                    self.line.extend_from_slice(&part[..part.len().min(room)]);
                    bytes = &bytes[end.map_or(bytes.len(), |end| end + 1)..];
                    if end.is_some() {
                        self.line();
                    }
                }
            }
        }
    }

    /// Takes a line of a head, which is in `self.line` up to its end or to [`LONGEST`] bytes.
    fn line(&mut self) {
        let line = std::mem::take(&mut self.line);
        let cut = line.len() == LONGEST;
        // RFC 9112, section 2.2: a single line feed may end a line, and the HTTP library accepts
        // it.
        let line = line.strip_suffix(b"\r").unwrap_or(&line);
        if line.is_empty() && self.first {
            // Empty lines before a request are skipped.
            return;
        }
        if line.is_empty() {
            self.state = match (self.chunked, self.length) {
                (true, _) => State::Over,
                (false, Some(0) | None) => State::Head,
                (false, Some(length)) => State::Body(length),
            };
            (self.first, self.length, self.chunked) = (true, None, false);
            return;
        }
        // The request line has no headers to look for.
        if std::mem::take(&mut self.first) {
            return;
        }
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { return };
        let (name, value) = (line[..colon].trim_ascii(), line[colon + 1..].trim_ascii());
        let twice = if name.eq_ignore_ascii_case(b"content-length") {
            let length = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
            // The HTTP library refuses a value that is no number. A line that was cut may hold another number
            // than its beginning: leading zeros, for example.
            self.length.replace(length.unwrap_or(u64::MAX)).is_some() || self.chunked || cut
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            std::mem::replace(&mut self.chunked, true) || self.length.is_some() || cut
        } else {
            false
        };
        if twice {
            self.ambiguous.store(true, Ordering::Relaxed);
        }
    }
}

impl Observer for Scan {
    fn on_read(&mut self, bytes: &[u8]) {
        self.look(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_ambiguous(text: &str, step: usize) -> bool {
        let found = Arc::new(AtomicBool::new(false));
        let mut scan = Scan::new(Arc::clone(&found));
        for part in text.as_bytes().chunks(step) {
            scan.look(part);
        }
        found.load(Ordering::Relaxed)
    }

    #[test]
    fn head_with_two_ends_of_its_body_is_found_however_it_is_cut_up() {
        for (text, expected) in [
            ("POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", true),
            ("POST / HTTP/1.1\r\ntransfer-encoding:chunked\r\nCONTENT-LENGTH:3\r\n\r\n", true),
            ("POST / HTTP/1.1\nContent-Length: 3\nContent-Length: 3\n\n", true),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", true),
            (
                "\r\nGET / HTTP/1.1\r\nA: b\r\n\r\nPOST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
                true,
            ),
            (
                "POST / HTTP/1.1\r\nContent-Length: 00000000000000000000000000000000000000000000000000000000000000000003\r\n\r\n",
                true,
            ),
            ("POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcPOST / HTTP/1.1\r\nContent-Length: 3\r\n\r\n", false),
            ("POST / HTTP/1.1\r\nContent-Length: 19\r\n\r\nTransfer-Encoding:\r\n", false),
            ("GET / HTTP/1.1\r\nX-Content-Length: 3\r\nContent-Length: 3\r\n\r\n", false),
            (
                "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nContent-Length: 1\r\nContent-Length: 2\r\n",
                false,
            ),
        ] {
            for step in [1, 2, 7, 1_000] {
                assert_eq!(is_ambiguous(text, step), expected, "{text}, {step}");
            }
        }
    }
}
