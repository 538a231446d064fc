//! Requests that depend on what the client has: `If-None-Match`, `If-Match`, `Range`, `If-Range`.
//! A range that makes no sense is refused or ignored as RFC 9110 says, and never guessed at.

use http::header;

use crate::server::message::Request;

/// Whether a list of entity tags names this one. Takes the tags of LXD, which have no quotes.
pub(crate) fn names(list: &str, etag: &str) -> bool {
    list.split(',').map(str::trim).any(|one| {
        let one = one.strip_prefix("W/").unwrap_or(one);
        one == "*" || one.trim_matches('"') == etag
    })
}

/// Whether the client has what has this tag already.
pub(crate) fn is_known(request: &Request, etag: &str) -> bool {
    request.header(header::IF_NONE_MATCH).is_some_and(|list| names(list, etag))
}

/// The tags on one of which a change is based; `None` where the client says nothing of that. What is no text names no tag,
/// and must not pass for nothing said.
pub(crate) fn based_on(request: &Request) -> Option<&str> {
    let value = request.headers.get(header::IF_MATCH)?;
    Some(value.to_str().unwrap_or("?")).filter(|list| !list.trim().is_empty())
}

/// The part of a file that a client wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// All of it.
    Whole,
    /// From this byte on, so many of them.
    Part { from: u64, length: u64 },
    /// A part that is not there.
    Nothing,
}

/// What of `total` bytes with this tag is wanted. Several ranges at once are answered with the whole, as the standard allows.
pub(crate) fn wanted(request: &Request, etag: &str, total: u64) -> Wanted {
    let Some(range) = request.header(header::RANGE) else { return Wanted::Whole };
    // A date is none of our tags.
    if request.header(header::IF_RANGE).is_some_and(|tag| tag.starts_with("W/") || tag.trim_matches('"') != etag) {
        return Wanted::Whole;
    }
    let Some(spec) = range.trim().strip_prefix("bytes=") else { return Wanted::Whole };
    if spec.contains(',') {
        return Wanted::Whole;
    }
    let Some((first, last)) = spec.trim().split_once('-') else { return Wanted::Whole };
    let number = |text: &str| -> Option<u64> {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse().unwrap_or(u64::MAX))
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
    fn a_range_is_a_part_or_nothing_or_ignored() {
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
    fn a_range_of_another_version_is_the_whole_and_tags_are_taken_with_and_without_quotes() {
        let mut request = Request::new(Method::GET, "/".parse().expect("an address"));
        request.headers.insert(header::RANGE, HeaderValue::from_static("bytes=0-9"));
        request.headers.insert(header::IF_RANGE, HeaderValue::from_static("\"other\""));
        assert_eq!(wanted(&request, "tag", 100), Wanted::Whole);
        request.headers.insert(header::IF_RANGE, HeaderValue::from_static("\"tag\""));
        assert_eq!(wanted(&request, "tag", 100), Wanted::Part { from: 0, length: 10 });
        assert!(names("a, W/\"tag\"", "tag") && names("tag", "tag") && names("*", "tag") && !names("\"tags\"", "tag"));
    }
}
