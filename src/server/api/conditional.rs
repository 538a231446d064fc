//! Conditional and range requests: `If-None-Match`, `If-Match`, `Range`, `If-Range` (RFC 9110, sections 13 and 14).
//! An invalid range is refused or ignored as the RFC says.
//!
//! | header | meaning here | where |
//! |---|---|---|
//! | `If-None-Match` | 304 if the client has this state | images, aliases, files, documents |
//! | `If-Match` | the edit is made on this state only, else 412 | edits and deletions |
//! | `Range` | a part of a file, 206; outside of it, 416 | files of images |
//! | `If-Range` | the part only if the file is still the same, else all of it | files of images |
//!
//! The tag of a file is its SHA-256, so a client that continues a download with `If-Range` never
//! joins parts of two files.

use http::header;

use super::digits;
use crate::server::message::Request;

/// Whether a list of entity tags contains this one. Accepts tags without quotes, as LXD sends them.
///
/// The prefix `W/` is ignored, as in the weak comparison of RFC 9110, section 8.8.3.2.
pub(crate) fn names(list: &str, etag: &str) -> bool {
    list.split(',').map(str::trim).any(|one| {
        let one = one.strip_prefix("W/").unwrap_or(one);
        one == "*" || one.trim_matches('"') == etag
    })
}

/// Whether `If-None-Match` contains this tag: the client has the current state already.
///
/// The caller answers 304 with the tag and without a body.
pub(crate) fn is_known(request: &Request, etag: &str) -> bool {
    request.header(header::IF_NONE_MATCH).is_some_and(|list| names(list, etag))
}

/// The tags in `If-Match`; `None` without the header. A non-ASCII header matches no tag; it must not be treated as
/// absent, or the edit would be unconditional.
pub(crate) fn based_on(request: &Request) -> Option<&str> {
    let value = request.headers.get(header::IF_MATCH)?;
    Some(value.to_str().unwrap_or("?")).filter(|list| !list.trim().is_empty())
}

/// The range of a file that a client requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// The whole file.
    Whole,
    /// `length` bytes from `from`.
    Part { from: u64, length: u64 },
    /// A range outside of the file.
    Nothing,
}

/// The range of a file of `total` bytes with this tag that the client requests. Several ranges are answered with the
/// whole file, as RFC 9110 allows.
///
/// Syntactically wrong ranges and unknown units are ignored, and the whole file is sent (RFC 9110,
/// section 14.2). A range that is valid and outside of the file is [`Wanted::Nothing`].
pub(crate) fn wanted(request: &Request, etag: &str, total: u64) -> Wanted {
    let Some(range) = request.header(header::RANGE) else { return Wanted::Whole };
    // A date never equals the tag, so it yields the whole file.
    // RFC 9110, section 13.1.5: `If-Range` needs a strong tag, so a weak one never matches.
    if request.header(header::IF_RANGE).is_some_and(|tag| tag.starts_with("W/") || tag.trim_matches('"') != etag) {
        return Wanted::Whole;
    }
    let Some(spec) = range.trim().strip_prefix("bytes=") else { return Wanted::Whole };
    // Many overlapping ranges would multiply the bytes of one request (RFC 9110, section 17.15).
    if spec.contains(',') {
        return Wanted::Whole;
    }
    let Some((first, last)) = spec.trim().split_once('-') else { return Wanted::Whole };
    let number = |text: &str| -> Option<u64> {
        // A number that no `u64` holds is behind the end of every file.
        digits(text).map(|text| text.parse().unwrap_or(u64::MAX))
    };
    match (number(first), number(last)) {
        // The last bytes.
        (None, Some(length)) if first.is_empty() => {
            let length = length.min(total);
            if length == 0 { Wanted::Nothing } else { Wanted::Part { from: total - length, length } }
        }
        (Some(from), _) if from >= total => Wanted::Nothing,
        (Some(from), None) if last.is_empty() => Wanted::Part { from, length: total - from },
        (Some(from), Some(last)) if last >= from => Wanted::Part { from, length: last.min(total - 1) - from + 1 },
        // RFC 9110, section 14.1.1, calls a range whose last byte is before its first invalid.
        (Some(_), Some(_)) => Wanted::Nothing,
        _ => Wanted::Whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderValue, Method};

    fn of(range: &'static str) -> Wanted {
        let mut request = Request::new(Method::GET, "/".parse().expect("an address"));
        request.headers.insert(header::RANGE, HeaderValue::from_static(range));
        wanted(&request, "tag", 100)
    }

    #[test]
    fn range_is_a_part_or_nothing_or_ignored() {
        assert_eq!(of("bytes=0-9"), Wanted::Part { from: 0, length: 10 });
        assert_eq!(of("bytes=90-"), Wanted::Part { from: 90, length: 10 });
        assert_eq!(of("bytes=-30"), Wanted::Part { from: 70, length: 30 });
        assert_eq!(of("bytes=-300"), Wanted::Part { from: 0, length: 100 });
        assert_eq!(of("bytes=50-999999999999999999999999"), Wanted::Part { from: 50, length: 50 });
        for nothing in ["bytes=100-", "bytes=9-3", "bytes=-0", "bytes=999999999999999999999-"] {
            assert_eq!(of(nothing), Wanted::Nothing, "{nothing}");
        }
        for ignored in ["lines=1-2", "bytes=0-1,5-6", "bytes=a-b", "bytes=", "bytes=-", "bytes=+1-2", "bytes=1--2"] {
            assert_eq!(of(ignored), Wanted::Whole, "{ignored}");
        }
    }

    #[test]
    fn range_of_another_version_is_the_whole_and_tags_are_taken_with_and_without_quotes() {
        let mut request = Request::new(Method::GET, "/".parse().expect("an address"));
        request.headers.insert(header::RANGE, HeaderValue::from_static("bytes=0-9"));
        request.headers.insert(header::IF_RANGE, HeaderValue::from_static("\"other\""));
        assert_eq!(wanted(&request, "tag", 100), Wanted::Whole);
        request.headers.insert(header::IF_RANGE, HeaderValue::from_static("\"tag\""));
        assert_eq!(wanted(&request, "tag", 100), Wanted::Part { from: 0, length: 10 });
        assert!(names("a, W/\"tag\"", "tag") && names("tag", "tag") && names("*", "tag") && !names("\"tags\"", "tag"));
    }
}
