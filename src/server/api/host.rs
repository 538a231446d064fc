//! The host under which a client reaches this server: that of its request, or that of the options. The host of a
//! request is written into headers and pages, so anything but a host and a port is refused.
//!
//! A host that is believed without a check can poison caches and pages: whoever sends the request
//! would choose where others are led. So an invalid host is refused, and an administrator can fix
//! the URL by [`ServerOptions::base_url`](crate::server::ServerOptions::base_url).

use http::header;

use crate::error::{Error, Result};
use crate::server::message::Request;
use crate::server::state::ServerState;

/// The longest host name in the DNS (RFC 1035, 253 characters as text), with a port.
const MAX_HOST_BYTES: usize = 253 + ":65535".len();

/// The base URL `https://host:port`, without a slash at the end; `None` when neither the request nor the options have a
/// host.
///
/// The scheme is always `https`.
///
/// # Errors
/// `InvalidInput` when the request has an invalid host, or several.
pub(crate) fn base(server: &ServerState, request: &Request) -> Result<Option<String>> {
    let named = named(request)?;
    Ok(match &server.services.options.base_url {
        Some(url) => Some(url.clone()),
        // Direct import requires HTTPS; a server without TLS is behind a proxy that has it.
        None => named.map(|host| format!("https://{host}")),
    })
}

/// The host that the request names: of its target if it has one (RFC 9112, section 3.2.2),
/// otherwise of its header `Host`.
///
/// # Errors
/// `InvalidInput` for an invalid host, or several.
fn named(request: &Request) -> Result<Option<&str>> {
    let mut values = request.headers.get_all(header::HOST).iter();
    let (header, more) = (values.next(), values.next());
    if more.is_some() {
        return Err(Error::invalid("the request has several hosts"));
    }
    let header = header.map(|value| value.to_str().unwrap_or_default());
    // RFC 9112, section 3.2.2: the host of an absolute target wins over the header.
    let Some(host) = request.uri.authority().map(http::uri::Authority::as_str).or(header) else { return Ok(None) };
    if is_host(host) { Ok(Some(host)) } else { Err(Error::invalid("the host of the request is invalid")) }
}

/// Whether a browser sends this request for a page of another site, by the headers `Sec-Fetch-Site`
/// and `Origin`.
///
/// A browser shows the certificate of its user whatever page makes the request. Without this check
/// any page on the web could delete images with the rights of an administrator who visits it.
/// Programs other than browsers send neither header.
pub(crate) fn is_cross_origin(server: &ServerState, request: &Request) -> bool {
    let header = |name: &str| request.headers.get(name).map(|value| value.to_str().unwrap_or_default());
    if header("sec-fetch-site").is_some_and(|site| !matches!(site, "same-origin" | "none")) {
        return true;
    }
    // Older browsers have no `Sec-Fetch-Site`; all send `Origin` with requests that change
    // something.
    let Some(origin) = header("origin") else { return false };
    let own = server.services.options.base_url.as_deref().is_some_and(|base| base.eq_ignore_ascii_case(origin));
    let host = origin.split_once("://").map(|(_, host)| host);
    let named = named(request).ok().flatten();
    !own && !matches!((host, named), (Some(host), Some(named)) if host.eq_ignore_ascii_case(named))
}

/// Whether a text is a host name or an IP address, with or without a port.
fn is_host(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, rest)) => {
            let port = rest.strip_prefix(':');
            if !(rest.is_empty() || port.is_some()) || address.parse::<std::net::Ipv6Addr>().is_err() {
                return false;
            }
            (None, port)
        }
        None => {
            let (host, port) = text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
            (Some(host), port)
        }
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    text.len() <= MAX_HOST_BYTES
        && host.is_none_or(|host| !host.is_empty() && !host.starts_with(['-', '.']) && host.bytes().all(plain))
        && port.is_none_or(|port| super::digits(port).is_some_and(|port| port.parse::<u16>().is_ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_is_a_name_or_an_address_with_or_without_a_port() {
        for host in
            ["a", "images.example.org", "10.0.0.1:8443", "[::1]", "[fe80::1]:443", "a_b-c.d:0", "LOCALHOST:65535"]
        {
            assert!(is_host(host), "{host}");
        }
        for host in [
            "",
            ":1",
            "a:",
            "a:b",
            "a:1:2",
            "a:65536",
            "a:+1",
            "a b",
            "a/b",
            "a@b",
            "u:p@h",
            "a\r\nx: y",
            "\"",
            "<b>",
            "[",
            "[]",
            "[::1",
            "[::1]x",
            "[::1]:",
            "[a]",
            "-a",
            ".a",
            "a,b",
            "ä",
            "a%20b",
            "a;b",
            "a'b",
            "a?b",
            "a#b",
        ] {
            assert!(!is_host(host), "{host:?}");
        }
        assert!(!is_host(&"a".repeat(300)));
    }
}
