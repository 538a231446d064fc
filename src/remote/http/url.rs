//! `Url`: an absolute URL, and how references in documents and redirects are resolved against it (RFC 3986, section 5).
//!
//! Stricter than the standard where image servers need no more: http, https and file only, no user names, no fragments, ASCII
//! only. `..` is resolved when a URL is parsed, so that a path never climbs out of a server's directory unseen.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::redact;

/// The scheme of a [`Url`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// HTTP over TLS.
    Https,
    /// HTTP without TLS.
    Http,
    /// A file or directory of this machine. Only where the user named it; no response may.
    File,
}

impl Scheme {
    /// The scheme as it stands in a URL.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Https => "https",
            Self::Http => "http",
            Self::File => "file",
        }
    }
}

/// An absolute URL with scheme `https`, `http` or `file`.
///
/// `Display` and `Debug` are for people: values of the query that may be secrets (tokens, signatures, passwords) are replaced by
/// `***`. [`to_wire`](Self::to_wire) is the URL itself.
///
/// ```
/// use lxd_image::remote::Url;
///
/// let base: Url = "https://images.example/1.0/images?public=1".parse()?;
/// assert_eq!(base.host(), "images.example");
/// assert_eq!(base.join("../x.tar")?.to_string(), "https://images.example/x.tar");
/// assert!("https://user:word@images.example/".parse::<Url>().is_err());
/// # Ok::<(), lxd_image::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Url {
    scheme: Scheme,
    /// Host and port as written, in lower case; brackets around an IPv6 address. Empty for a file.
    authority: String,
    /// Begins with a slash.
    path: String,
    query: Option<String>,
}

impl Url {
    /// The scheme.
    #[must_use]
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The host: a name or an address, an IPv6 one without brackets. Empty for a file.
    #[must_use]
    pub fn host(&self) -> &str {
        let host = match self.authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => host,
            _ => &self.authority,
        };
        host.trim_start_matches('[').trim_end_matches(']')
    }

    /// Host and port as they are written, in lower case.
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The port, or the default port of the scheme.
    #[must_use]
    pub fn port(&self) -> u16 {
        let written = self.authority.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        written.unwrap_or(if self.scheme == Scheme::Http { 80 } else { 443 })
    }

    /// The path, which begins with a slash, percent-encoded.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The last segment of the path; empty if the path ends with a slash.
    #[must_use]
    pub fn file_name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    /// This URL with pairs added to its query, which must be percent-encoded already.
    pub(crate) fn and_query(&self, more: &str) -> Self {
        match self.query.as_deref().filter(|query| !query.is_empty()) {
            Some(query) => self.with_query(&format!("{query}&{more}")),
            None => self.with_query(more),
        }
    }

    /// This URL with another query, which must be percent-encoded already. An empty one removes it.
    #[must_use]
    pub fn with_query(&self, query: &str) -> Self {
        Self { query: (!query.is_empty()).then(|| query.to_owned()), ..self.clone() }
    }

    /// This URL as a directory: with a slash at its end and without a query, so that [`join`](Self::join) goes below it.
    #[must_use]
    pub fn directory(&self) -> Self {
        let mut path = self.path.clone();
        if !path.ends_with('/') {
            path.push('/');
        }
        Self { path, query: None, ..self.clone() }
    }

    /// The whole URL, as it is sent and stored, with the secrets in its query. Never for messages or logs.
    #[must_use]
    pub fn to_wire(&self) -> String {
        let front = format!("{}://{}{}", self.scheme.name(), self.authority, self.path);
        match &self.query {
            Some(query) => format!("{front}?{query}"),
            None => front,
        }
    }

    /// The secret values of its query, encoded and decoded, to be removed from texts that a server wrote.
    pub(crate) fn secrets(&self) -> Vec<String> {
        let written = redact::secrets(self.query.as_deref().unwrap_or_default());
        written
            .flat_map(|value| [value.to_owned(), String::from_utf8_lossy(&decode_percent(value)).into_owned()])
            .filter(|value| !value.is_empty())
            .collect()
    }

    /// Resolves a reference in a response of this URL: absolute or relative.
    ///
    /// # Errors
    /// As for parsing; `file` URLs are an error, since no answer may name a file.
    pub fn join(&self, reference: &str) -> Result<Self> {
        let reference = reference.split('#').next().unwrap_or_default();
        let joined = if has_scheme(reference) {
            reference.parse::<Self>()?
        } else if let Some(rest) = reference.strip_prefix("//") {
            format!("{}://{rest}", self.scheme.name()).parse()?
        } else {
            let (path, query) = match reference.split_once('?') {
                Some((path, query)) => (path, Some(query)),
                None => (reference, None),
            };
            let whole = if path.starts_with('/') {
                path.to_owned()
            } else if path.is_empty() {
                self.path.clone()
            } else {
                let front = self.path.rfind('/').map_or("/", |end| &self.path[..=end]);
                format!("{front}{path}")
            };
            check_characters(&whole)?;
            // A query is not shown, whatever is wrong with it.
            if check_characters(query.unwrap_or_default()).is_err() {
                return Err(Error::invalid("the query of a URL holds a character that must be encoded"));
            }
            let query = match (path.is_empty(), query) {
                (true, None) => self.query.clone(),
                (_, query) => query.map(str::to_owned),
            };
            return Ok(Self { path: without_dots(&whole), query, ..self.clone() });
        };
        if joined.scheme == Scheme::File {
            return Err(Error::unsafe_path("a server's answer names a file of this machine"));
        }
        Ok(joined)
    }

    /// Whether both have the same origin: scheme, host and port.
    #[must_use]
    pub fn same_server(&self, other: &Self) -> bool {
        self.scheme == other.scheme && self.host() == other.host() && self.port() == other.port()
    }

    /// Whether the host is `localhost` or a loopback address. Other names may resolve to this machine, too.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        let host = self.host();
        host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| plain(address).is_loopback())
    }

    /// The path of a `file` URL, percent-decoded.
    ///
    /// # Errors
    /// `InvalidInput` for another scheme, or a path with a NUL.
    pub fn to_file_path(&self) -> Result<std::path::PathBuf> {
        use std::os::unix::ffi::OsStringExt;
        if self.scheme != Scheme::File {
            return Err(Error::invalid(format!("{self} names no file")));
        }
        let bytes = decode_percent(&self.path);
        if bytes.contains(&0) {
            return Err(Error::invalid(format!("{self} names no file")));
        }
        Ok(std::ffi::OsString::from_vec(bytes).into())
    }
}

/// Percent-decodes a text; a `%` without two hexadecimal digits stays.
fn decode_percent(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let pair = bytes.get(at + 1..at + 3).and_then(|pair| std::str::from_utf8(pair).ok());
        match pair.and_then(|pair| u8::from_str_radix(pair, 16).ok()) {
            Some(decoded) if byte == b'%' => {
                out.push(decoded);
                at += 3;
            }
            _ => {
                out.push(byte);
                at += 1;
            }
        }
    }
    out
}

/// Whether a reference is absolute: a scheme before the first colon (RFC 3986, 3.1).
fn has_scheme(text: &str) -> bool {
    text.split_once(':').is_some_and(|(scheme, _)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
    })
}

/// Refuses whitespace, control characters and non-ASCII: they would end a request line or a header.
fn check_characters(text: &str) -> Result<()> {
    if text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(());
    }
    let shown: String = redact::address(text).chars().take(64).collect();
    Err(Error::invalid(format!(
        "`{shown}` is no part of a URL: it holds a blank, a control character or a letter that must be encoded"
    )))
}

/// Removes `.` and `..` segments, encoded ones too (RFC 3986, 5.2.4). Nothing climbs above the root.
fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    for (index, part) in parts.iter().enumerate() {
        let last = index + 1 == parts.len();
        match part.to_ascii_lowercase().replace("%2e", ".").as_str() {
            "." if last => kept.push(""),
            "." => {}
            ".." => {
                kept.pop();
                if last {
                    kept.push("");
                }
            }
            _ => kept.push(part),
        }
    }
    format!("/{}", kept.join("/"))
}

/// The IPv4 address in an IPv4-mapped IPv6 address, which reaches the same host.
fn plain(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(six) => six.to_ipv4_mapped().map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    }
}

/// Whether an address is loopback, link-local or unspecified, which an answer from another host must not lead to.
pub(crate) fn is_local(address: IpAddr) -> bool {
    match plain(address) {
        IpAddr::V4(four) => {
            four.is_loopback() || four.is_link_local() || four.octets()[0] == 0 || four == Ipv4Addr::BROADCAST
        }
        IpAddr::V6(six) => six.is_loopback() || six == Ipv6Addr::UNSPECIFIED || six.segments()[0] & 0xffc0 == 0xfe80,
    }
}

impl FromStr for Url {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let shown = || redact::address(text).chars().take(128).collect::<String>();
        let wrong = |why: &str| Error::invalid(format!("`{}` is no URL that can be used: {why}", shown()));
        check_characters(text)?;
        let (scheme, rest) = text.split_once("://").ok_or_else(|| wrong("it does not begin with https://"))?;
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "https" => Scheme::Https,
            "http" => Scheme::Http,
            "file" => Scheme::File,
            _ => return Err(wrong("only https, http and file are known")),
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(end);
        let (path, query) = match rest.split_once('?') {
            Some((path, query)) => (path, Some(query.to_owned())),
            None => (rest, None),
        };
        if scheme == Scheme::File {
            if !matches!(authority, "" | "localhost") || path.is_empty() || query.is_some() {
                return Err(wrong("write file:///DIR"));
            }
            return Ok(Self { scheme, authority: String::new(), path: path.to_owned(), query: None });
        }
        if authority.contains('@') {
            return Err(Error::invalid("a URL with a user name or a password in it can't be used"));
        }
        let authority = authority.to_ascii_lowercase();
        let url = Self { scheme, authority, path: without_dots(if path.is_empty() { "/" } else { path }), query };
        let host = url.host();
        let named = !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || "-._:".contains(c));
        let bracketed = url.authority.starts_with('[');
        if !named || bracketed != host.contains(':') || bracketed && host.parse::<Ipv6Addr>().is_err() {
            return Err(wrong("the host is none"));
        }
        let port = url.authority.rsplit_once(':').filter(|(_, port)| !port.contains(']'));
        if port.is_some_and(|(_, port)| port.parse::<u16>().ok().filter(|port| *port > 0).is_none()) {
            return Err(wrong("the port is none"));
        }
        Ok(url)
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme.name(), self.authority, self.path)?;
        match &self.query {
            Some(query) => write!(f, "?{}", redact::query(query)),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Url({self})")
    }
}
