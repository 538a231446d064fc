//! `multipart/form-data` as the tests write and read it, independent of the library's own code (RFC 7578).

/// The boundary of every body that is written here.
const BOUNDARY: &str = "0123456789";

/// The `Content-Type` of [`write`].
pub(crate) fn content_type() -> String {
    format!("multipart/form-data; boundary={BOUNDARY}")
}

/// The head of one part, with the end of the part before it, if there is one.
pub(crate) fn head(first: bool, name: &str, file_name: &str) -> Vec<u8> {
    let start = if first { "" } else { "\r\n" };
    format!(
        "{start}--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"{file_name}\"\r\n\
         Content-Type: application/octet-stream\r\n\r\n"
    )
    .into_bytes()
}

/// The end of a body.
pub(crate) fn tail() -> Vec<u8> {
    format!("\r\n--{BOUNDARY}--\r\n").into_bytes()
}

/// A whole body of parts with these names, file names and bytes.
pub(crate) fn write(parts: &[(&str, &str, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (index, (name, file_name, bytes)) in parts.iter().enumerate() {
        body.extend(head(index == 0, name, file_name));
        body.extend_from_slice(bytes);
    }
    body.extend(tail());
    body
}

/// One part of a body: the name of its field, its file name and its bytes.
pub(crate) type Part = (String, Option<String>, Vec<u8>);

/// Reads a whole body.
pub(crate) fn read(body: &[u8], content_type: &str) -> Vec<Part> {
    let boundary = content_type.split_once("boundary=").expect("no boundary").1.trim_matches('"');
    let delimiter = format!("\r\n--{boundary}");
    // The first delimiter has no line before it.
    let body = [b"\r\n", body].concat();
    let mut parts = Vec::new();
    let mut rest = after(&body, delimiter.as_bytes()).expect("no part").1;
    while !rest.starts_with(b"--") {
        let (head, content) = after(rest, b"\r\n\r\n").expect("no end of a head");
        let (bytes, next) = after(content, delimiter.as_bytes()).expect("no end of a part");
        let head = String::from_utf8(head.to_vec()).expect("the head of a part is not text");
        parts.push((field(&head, " name=").expect("no name"), field(&head, " filename="), bytes.to_vec()));
        rest = next;
    }
    parts
}

/// What stands before and after the first `needle`.
fn after<'a>(bytes: &'a [u8], needle: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = bytes.windows(needle.len()).position(|window| window == needle)?;
    Some((&bytes[..at], &bytes[at + needle.len()..]))
}

/// A quoted parameter of a part's head.
fn field(head: &str, key: &str) -> Option<String> {
    let value = head.split_once(key)?.1;
    Some(value.trim_start_matches('"').split(['"', '\r', ';']).next()?.to_owned())
}
