//! Proxies: which one a URL is requested through, and how it is spoken to.
//!
//! The environment (`HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY`) is read as curl and Go's `httpproxy` read it, in lower
//! case first. Plain http is forwarded: the request line has the absolute URL (RFC 9112, 3.2.2). TLS, and everything through SOCKS,
//! goes through a tunnel.

use std::net::IpAddr;

use super::url::{Scheme, Url};
use crate::error::{Error, Result};

/// Parses the URL of a proxy. User name and password may hold any character; those that a URL can't have are encoded first.
///
/// # Errors
/// `InvalidInput`, without the text, since that may hold a password.
pub(super) fn proxy(text: &str) -> Result<ureq::Proxy> {
    // The text may hold a password, so that no error shows it.
    ureq::Proxy::new(&encoded(text)).map_err(|_| {
        Error::invalid("the proxy's URL is none")
            .with_hint("write http://HOST:PORT or socks5://HOST:PORT; HTTPS_PROXY, HTTP_PROXY and ALL_PROXY are read")
    })
}

/// The URL with user name and password percent-encoded. What is encoded already stays as it is.
fn encoded(text: &str) -> String {
    let (scheme, rest) = text.split_once("://").map_or(("", text), |(scheme, rest)| (scheme, rest));
    let Some((user, host)) = rest.rsplit_once('@') else { return text.to_owned() };
    let mut safe = String::new();
    for byte in user.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=%:".contains(&byte) {
            safe.push(char::from(byte));
        } else {
            safe.push_str(&format!("%{byte:02X}"));
        }
    }
    let scheme = if scheme.is_empty() { "http" } else { scheme };
    format!("{scheme}://{safe}@{host}")
}

/// Whether a request goes to this proxy with an absolute URL, and not through a tunnel.
pub(super) fn forwards(url: &Url, proxy: &ureq::Proxy) -> bool {
    url.scheme() == Scheme::Http && matches!(proxy.protocol(), ureq::ProxyProtocol::Http | ureq::ProxyProtocol::Https)
}

/// The URL of the proxy with the requested URL as its path, which is how `ureq` is made to connect to the proxy. The slash before
/// the path is removed when the request is sent, see `connect::absolute`.
pub(super) fn forwarded(url: &Url, proxy: &ureq::Proxy) -> String {
    let scheme = if proxy.protocol() == ureq::ProxyProtocol::Https { "https" } else { "http" };
    format!("{scheme}://{}:{}/{}", proxy.host(), proxy.port(), url.to_wire())
}

/// The value of `Proxy-Authorization`, if the URL of the proxy has a user name or password.
pub(super) fn authorization(proxy: &ureq::Proxy) -> Option<String> {
    if proxy.username().is_none() && proxy.password().is_none() {
        return None;
    }
    let who = format!("{}:{}", proxy.username().unwrap_or_default(), proxy.password().unwrap_or_default());
    Some(format!("Basic {}", base64(who.as_bytes())))
}

/// Base64 (RFC 4648) without line breaks.
pub(crate) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let at = |index: usize| u32::from(group.get(index).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for place in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * place) & 63) as usize];
            text.push(if place <= group.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

/// The proxy for a URL according to the environment.
pub(super) fn from_environment(url: &Url) -> Option<String> {
    let variable = |name: &str| {
        let value = std::env::var(name.to_ascii_lowercase()).ok().filter(|value| !value.trim().is_empty());
        value.or_else(|| std::env::var(name).ok().filter(|value| !value.trim().is_empty()))
    };
    let own = if url.scheme() == Scheme::Https { "HTTPS_PROXY" } else { "HTTP_PROXY" };
    let proxy = variable(own).or_else(|| variable("ALL_PROXY"))?;
    let bypass = variable("NO_PROXY").unwrap_or_default();
    (!bypasses(&bypass, url)).then(|| proxy.trim().to_owned())
}

/// Whether a `NO_PROXY` list matches the host of a URL: `*`, host and domain names with or without a leading dot, addresses,
/// networks (`10.0.0.0/8`), each but the last with or without a port.
fn bypasses(list: &str, url: &Url) -> bool {
    let host = url.host().trim_end_matches('.').to_ascii_lowercase();
    let address: Option<IpAddr> = host.parse().ok();
    list.split([',', ' ', '\t']).map(str::trim).filter(|entry| !entry.is_empty()).any(|entry| {
        let entry = entry.to_ascii_lowercase();
        if entry == "*" {
            return true;
        }
        if let (Some(address), Some((network, bits))) = (address, entry.split_once('/')) {
            return in_network(address, network.trim_matches(['[', ']']), bits);
        }
        let entry = match entry.rsplit_once(':') {
            Some((name, port))
                if (!name.contains(':') || name.starts_with('[') && name.ends_with(']'))
                    && port.parse::<u16>().is_ok() =>
            {
                if port.parse() != Ok(url.port()) {
                    return false;
                }
                name.to_owned()
            }
            _ => entry,
        };
        let name = entry.trim_matches(['[', ']']).trim_start_matches('*').trim_start_matches('.').trim_end_matches('.');
        if let Some(address) = address {
            return name.parse() == Ok(address);
        }
        !name.is_empty() && (host == name || host.strip_suffix(name).is_some_and(|front| front.ends_with('.')))
    })
}

/// Whether an address is in a network, like `10.0.0.0` and `8`.
fn in_network(address: IpAddr, network: &str, bits: &str) -> bool {
    let Ok(bits) = bits.parse::<u32>() else { return false };
    match (address, network.parse()) {
        (IpAddr::V4(address), Ok(IpAddr::V4(network))) if bits <= 32 => {
            let differ = address.to_bits() ^ network.to_bits();
            differ.checked_shr(32 - bits).unwrap_or(0) == 0
        }
        (IpAddr::V6(address), Ok(IpAddr::V6(network))) if bits <= 128 => {
            let differ = address.to_bits() ^ network.to_bits();
            differ.checked_shr(128 - bits).unwrap_or(0) == 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn no_proxy_names_hosts_domains_and_ports() {
        let url: Url = "https://images.example:8443/x".parse().unwrap();
        for list in
            ["*", "images.example", "IMAGES.EXAMPLE", ".example", "*.example", "example.", "a, images.example:8443 ,b"]
        {
            assert!(bypasses(list, &url), "{list}");
        }
        for list in ["", ",", "mages.example", "images.example:443", "images.example.org", "other", ".", "10.0.0.0/0"] {
            assert!(!bypasses(list, &url), "{list}");
        }
    }

    #[test]
    fn no_proxy_names_addresses_and_blocks_of_them() {
        let url = |text: &str| text.parse::<Url>().unwrap();
        for (list, address) in [
            ("10.1.2.3", "http://10.1.2.3/"),
            ("10.1.2.3:8080", "http://10.1.2.3:8080/"),
            ("10.0.0.0/8", "http://10.1.2.3/"),
            ("x,0.0.0.0/0", "http://10.1.2.3/"),
            ("fd00::/8", "http://[fd00::1]/"),
            ("[fd00::1]:80", "http://[fd00::1]/"),
            ("[fd00::1]", "http://[fd00::1]/"),
            ("fd00::1", "http://[fd00::1]/"),
        ] {
            assert!(bypasses(list, &url(address)), "{list} {address}");
        }
        for (list, address) in
            [("10.0.0.0/16", "http://10.1.2.3/"), ("1.2.3", "http://10.1.2.3/"), ("fd01::/16", "http://[fd00::1]/")]
        {
            assert!(!bypasses(list, &url(address)), "{list} {address}");
        }
    }

    #[test]
    fn names_and_passwords_of_proxies_are_encoded_once() {
        for text in ["http://us%20er:p%40ss@[::1]:3128", "http://us er:p@ss@[::1]:3128", "us er:p%40ss@[::1]:3128"] {
            let proxy = proxy(text).unwrap();
            assert_eq!(
                (proxy.username(), proxy.password(), proxy.port()),
                (Some("us er"), Some("p@ss"), 3128),
                "{text}"
            );
            assert_eq!(authorization(&proxy).as_deref(), Some("Basic dXMgZXI6cEBzcw=="));
        }
        let plain = proxy("127.0.0.1:3128").unwrap();
        assert_eq!((plain.host(), authorization(&plain)), ("127.0.0.1", None));
        let url: Url = "http://images.example/x?y".parse().unwrap();
        assert_eq!(forwarded(&url, &plain), "http://127.0.0.1:3128/http://images.example/x?y");
    }
}
