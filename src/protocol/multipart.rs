//! `multipart/form-data` (RFC 7578, RFC 2046), in which images in two files are transferred.
//!
//! [`Reader`] reads a body of any size with a buffer of a few hundred KiB: bytes of a part are handed on as soon as they can't be
//! the start of a boundary, and the heads of parts are bounded. [`Form`] writes the texts around the parts, so that the length
//! of a body is known before it is sent.

use std::io::{self, Read};

use crate::error::{Error, Escaped, Result};
use crate::limits::Limits;

/// Bytes that are read from the stream at once.
const READ_BYTES: usize = 64 << 10;
/// The longest boundary that RFC 2046 (5.1.1) allows.
const MAX_BOUNDARY_BYTES: usize = 70;

/// The head of a part.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Part {
    /// The name of the form's field: `metadata`, `rootfs`, `rootfs.img`.
    pub(crate) name: String,
    /// The file name, if there is one. Untrusted text.
    pub(crate) file_name: Option<String>,
}

/// Reads a body. [`next_part`](Self::next_part) moves to the next part, [`Read`] returns the bytes of the current one until its
/// end.
#[derive(Debug)]
pub(crate) struct Reader<R> {
    inner: R,
    /// Bytes that were read from the stream; those before `at` are used up.
    buffer: Vec<u8>,
    at: usize,
    /// Whether the stream has ended.
    ended: bool,
    /// The boundary with the line end and the dashes before it, which separate parts together.
    delimiter: Vec<u8>,
    /// How far a search may advance for each value of the byte at the end of the window (Horspool).
    skips: [u8; 256],
    place: BodyPosition,
    /// How many bytes from `at` on were searched and belong to the part.
    content: usize,
    /// `Limits::headers`.
    max_head: u64,
}

/// Where in the body the reader is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BodyPosition {
    /// In a part, or in the preamble.
    Part,
    /// At a delimiter.
    Delimiter,
    /// After the last part. What follows is ignored.
    End,
}

impl<R: Read> Reader<R> {
    /// Reads a body with this `Content-Type`.
    ///
    /// # Errors
    /// `Malformed` for a type that is not multipart, or names no boundary.
    pub(crate) fn new(inner: R, content_type: &str, limits: &Limits) -> Result<Self> {
        let boundary = boundary_of(content_type)?;
        let mut delimiter = b"\r\n--".to_vec();
        delimiter.extend_from_slice(boundary.as_bytes());
        let length = u8::try_from(delimiter.len()).unwrap_or(u8::MAX);
        let mut skips = [length; 256];
        for (index, byte) in (1..length).rev().zip(&delimiter) {
            skips[usize::from(*byte)] = index;
        }
        // The first boundary has no line before it.
        let buffer = b"\r\n".to_vec();
        let max_head = limits.headers;
        Ok(Self {
            inner,
            buffer,
            at: 0,
            ended: false,
            delimiter,
            skips,
            place: BodyPosition::Part,
            content: 0,
            max_head,
        })
    }

    /// Skips the rest of the current part and moves to the next one; `None` after the last.
    ///
    /// # Errors
    /// `Malformed` for an invalid or truncated body; `LimitExceeded` for a head over `headers`; those of the stream.
    pub(crate) fn next_part(&mut self) -> Result<Option<Part>> {
        let mut scrap = vec![0; READ_BYTES];
        while self.read(&mut scrap)? > 0 {}
        if self.place == BodyPosition::End {
            return Ok(None);
        }
        let delimiter = self.delimiter.len();
        while self.rest().len() < delimiter + 2 {
            self.need("after a boundary")?;
        }
        self.at += delimiter;
        if self.rest().starts_with(b"--") {
            self.place = BodyPosition::End;
            return Ok(None);
        }
        let head = self.head()?;
        self.place = BodyPosition::Part;
        part(&head).map(Some)
    }

    /// Reads the head of a part: the lines up to an empty one.
    fn head(&mut self) -> Result<Vec<u8>> {
        let mut looked = 0;
        loop {
            let rest = self.rest();
            if let Some(end) = rest.get(looked..).and_then(|new| find(new, b"\r\n\r\n")) {
                let end = looked + end;
                let head = rest.get(..end).unwrap_or_default().to_vec();
                self.at += end + 4;
                // Only spaces and tabs may follow a boundary on its line (RFC 2046, 5.1.1).
                let line = head.iter().position(|byte| *byte == b'\r').unwrap_or(head.len());
                if head.iter().take(line).any(|byte| !matches!(byte, b' ' | b'\t')) {
                    return Err(Error::malformed("a multipart body has something behind a boundary"));
                }
                return Ok(head);
            }
            if rest.len() as u64 > self.max_head {
                return Err(Error::limit("headers", self.max_head, "the head of a part, in bytes,"));
            }
            looked = rest.len().saturating_sub(3);
            self.need("within the head of a part")?;
        }
    }

    /// The bytes that were read and not used up.
    fn rest(&self) -> &[u8] {
        self.buffer.get(self.at..).unwrap_or_default()
    }

    /// Reads more of the stream, which must not end here. `place` says where that is, for the error.
    fn need(&mut self, place: &str) -> Result<()> {
        self.fill().map_err(|error| Error::io("a multipart body can't be read", error))?;
        if self.ended { Err(Error::malformed(format!("a multipart body ends {place}"))) } else { Ok(()) }
    }

    /// Reads once from the stream, after dropping what is used up.
    fn fill(&mut self) -> io::Result<()> {
        self.buffer.drain(..self.at);
        self.at = 0;
        let before = self.buffer.len();
        self.buffer.resize(before + READ_BYTES, 0);
        let done = loop {
            match self.inner.read(self.buffer.get_mut(before..).unwrap_or_default()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => break done,
            }
        };
        self.buffer.truncate(before + done.as_ref().map_or(0, |count| *count));
        self.ended = done? == 0;
        Ok(())
    }

    /// How many bytes from here on certainly belong to the part, and whether a delimiter follows them.
    fn search(&self) -> (usize, bool) {
        let (rest, length) = (self.rest(), self.delimiter.len());
        let mut at = 0;
        while let Some(window) = rest.get(at..at + length) {
            if window == self.delimiter {
                return (at, true);
            }
            at += window.last().map_or(1, |last| usize::from(self.skips[usize::from(*last)]));
        }
        (at.min(rest.len()), false)
    }
}

impl<R: Read> Read for Reader<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.place != BodyPosition::Part || out.is_empty() {
            return Ok(0);
        }
        loop {
            let mut found = false;
            if self.content == 0 {
                (self.content, found) = self.search();
            }
            if self.content > 0 {
                let count = self.content.min(out.len());
                let bytes = self.buffer.get(self.at..self.at + count).unwrap_or_default();
                out[..bytes.len()].copy_from_slice(bytes);
                self.at += count;
                self.content -= count;
                return Ok(count);
            }
            if found {
                self.place = BodyPosition::Delimiter;
                return Ok(0);
            }
            self.need("within a part")?;
        }
    }
}

/// The offset of the first `what`.
fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}

/// Whether a `Content-Type` is multipart.
#[must_use]
pub(crate) fn is_multipart(content_type: &str) -> bool {
    content_type.trim_start().get(..10).is_some_and(|front| front.eq_ignore_ascii_case("multipart/"))
}

/// The boundary in a `Content-Type`.
fn boundary_of(content_type: &str) -> Result<String> {
    let wrong = || {
        let shown: String = content_type.chars().take(100).collect();
        Error::malformed(format!("`{}` is no multipart type with a boundary", Escaped(shown.as_bytes())))
    };
    if !is_multipart(content_type) {
        return Err(wrong());
    }
    let boundary = parameter(content_type, "boundary").ok_or_else(wrong)?;
    let fits =
        (1..=MAX_BOUNDARY_BYTES).contains(&boundary.len()) && boundary.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    if fits { Ok(boundary) } else { Err(wrong()) }
}

/// The value of a header's parameter: `name=text` or `name="text"`.
fn parameter(header: &str, name: &str) -> Option<String> {
    let mut rest = header.split_once(';')?.1;
    loop {
        let (key, value) = rest.split_once('=')?;
        let mut text = String::new();
        let mut characters = value.trim_start().chars();
        if value.trim_start().starts_with('"') {
            characters.next();
            loop {
                match characters.next()? {
                    '"' => break,
                    '\\' => text.push(characters.next()?),
                    other => text.push(other),
                }
            }
            rest = characters.as_str();
        } else {
            let end = value.find(';').unwrap_or(value.len());
            let (whole, after) = value.split_at(end);
            whole.trim().clone_into(&mut text);
            rest = after;
        }
        if key.trim().trim_start_matches(';').trim().eq_ignore_ascii_case(name) {
            return Some(text);
        }
    }
}

/// Parses the head of a part: its `Content-Disposition`.
fn part(head: &[u8]) -> Result<Part> {
    let head = std::str::from_utf8(head).map_err(|_| Error::malformed("the head of a part is not UTF-8"))?;
    let about = head.split("\r\n").filter_map(|line| line.split_once(':'));
    let mut about = about.filter(|(name, _)| name.trim().eq_ignore_ascii_case("content-disposition"));
    let (_, about) =
        about.next().ok_or_else(|| Error::malformed("a part of a multipart body says nothing of itself"))?;
    let name = parameter(about, "name").ok_or_else(|| Error::malformed("a part of a multipart body has no name"))?;
    Ok(Part { name, file_name: parameter(about, "filename") })
}

/// Writes the texts around the parts of a body.
#[derive(Debug, Clone)]
pub(crate) struct Form {
    boundary: String,
}

impl Form {
    /// A form with this boundary: 1 to 70 letters and digits that don't occur in its parts.
    #[must_use]
    pub(crate) fn new(boundary: impl Into<String>) -> Self {
        Self { boundary: boundary.into() }
    }

    /// The `Content-Type` of the body.
    #[must_use]
    pub(crate) fn content_type(&self) -> String {
        format!("multipart/form-data; boundary={}", self.boundary)
    }

    /// The text before the bytes of a part; `first` says whether it is the first one.
    #[must_use]
    pub(crate) fn head(&self, first: bool, name: &str, file_name: &str) -> Vec<u8> {
        let end = if first { "" } else { "\r\n" };
        format!(
            "{end}--{}\r\nContent-Disposition: form-data; name=\"{}\"; filename=\"{}\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n",
            self.boundary,
            quoted(name),
            quoted(file_name)
        )
        .into_bytes()
    }

    /// The text after the last part.
    #[must_use]
    pub(crate) fn tail(&self) -> Vec<u8> {
        format!("\r\n--{}--\r\n", self.boundary).into_bytes()
    }
}

/// A text for a quoted string: quotes and backslashes are escaped, control characters replaced, so that no header can be
/// injected.
fn quoted(text: &str) -> String {
    let clean = text.chars().map(|character| if character.is_control() { '_' } else { character });
    clean.collect::<String>().replace('\\', "\\\\").replace('"', "\\\"")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;
    use crate::error::ErrorKind;

    /// Gives as many bytes at once as it is told.
    struct Drip<'a>(&'a [u8], usize);

    impl Read for Drip<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let count = self.1.min(self.0.len()).min(out.len());
            out[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    type Parts = Vec<(Part, Vec<u8>)>;

    fn read(body: &[u8], step: usize) -> Result<Parts> {
        let mut reader = Reader::new(Drip(body, step), "multipart/form-data; boundary=\"bo-und\"", &Limits::default())?;
        let mut parts = Vec::new();
        while let Some(part) = reader.next_part()? {
            let mut bytes = Vec::new();
            reader.read_to_end(&mut bytes)?;
            parts.push((part, bytes));
        }
        Ok(parts)
    }

    fn written(contents: &[&[u8]]) -> Vec<u8> {
        let form = Form::new("bo-und");
        let mut body = Vec::new();
        for (index, content) in contents.iter().enumerate() {
            body.extend(form.head(index == 0, &format!("part{index}"), "a \"name\"\r\n"));
            body.extend_from_slice(content);
        }
        body.extend(form.tail());
        body
    }

    #[test]
    fn what_a_form_writes_is_read_back_whatever_pieces_it_comes_in() {
        // The ends of contents look like the beginning of a boundary.
        let contents: [&[u8]; 4] = [b"", b"\r\n--bo-un\r\n--bo-un", b"\r\n", &[b'-'; 100_000]];
        let body = written(&contents);
        for step in [1, 2, 3, 7, 64, 1000, usize::MAX] {
            let parts = read(&body, step).unwrap();
            assert_eq!(parts.len(), contents.len());
            for (index, (part, bytes)) in parts.iter().enumerate() {
                assert_eq!(part.name, format!("part{index}"));
                assert_eq!(part.file_name.as_deref(), Some("a \"name\"__"));
                assert_eq!(bytes, contents[index], "in pieces of {step}");
            }
        }
    }

    #[test]
    fn part_that_is_not_read_is_passed_over() {
        let body = written(&[b"first", b"second"]);
        let mut reader = Reader::new(&body[..], "Multipart/Form-Data;boundary=bo-und", &Limits::default()).unwrap();
        reader.next_part().unwrap();
        reader.next_part().unwrap();
        let mut bytes = String::new();
        reader.read_to_string(&mut bytes).unwrap();
        assert_eq!(bytes, "second");
        assert_eq!(reader.next_part().unwrap(), None);
        assert_eq!(reader.next_part().unwrap(), None);
    }

    #[test]
    fn body_that_is_cut_anywhere_is_never_whole_175() {
        let body = written(&[b"some bytes", b"more"]);
        // Only the very last line's end may be missing.
        for end in 0..body.len() - 2 {
            let error = read(&body[..end], 5).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Malformed, "cut at {end}");
        }
    }

    #[test]
    fn heads_without_an_end_or_a_name_are_refused_175() {
        let endless = [b"--bo-und\r\nX: ".to_vec(), vec![b'y'; 1 << 20]].concat();
        assert_eq!(read(&endless, 4096).unwrap_err().kind(), ErrorKind::LimitExceeded);
        for body in [
            &b"--bo-und\r\nContent-Type: x\r\n\r\nbody\r\n--bo-und--"[..],
            b"--bo-und\r\nContent-Disposition: form-data\r\n\r\nbody\r\n--bo-und--",
            b"--bo-und\r\nContent-Disposition: form-data; name=\"open\r\n\r\nbody\r\n--bo-und--",
            b"--bo-undx\r\nContent-Disposition: form-data; name=a\r\n\r\nbody\r\n--bo-und--",
            b"",
        ] {
            assert_eq!(read(body, 9).unwrap_err().kind(), ErrorKind::Malformed);
        }
        for wrong in
            ["", "text/html", "multipart/form-data", "multipart/form-data; boundary=", "multipart/x; boundary=\"a"]
        {
            assert!(Reader::new(&b""[..], wrong, &Limits::default()).is_err(), "{wrong}");
        }
    }
}
