//! Translates errors of `ureq`, `rustls` and `std::io` into errors of this library: which host, what is wrong, what to do.
//!
//! Errors that a later try may not see (a refused or broken connection, a timeout, DNS) are marked transient. Errors about
//! certificates and malformed responses are not: trying again can't mend them, and may hide an attack.

use std::io;

use super::spki::UnusableKey;
use super::tls::PinMismatch;
use super::url::Url;
use crate::error::{Error, ErrorKind};

/// Translates an error of a request to `url`.
pub(crate) fn translate(error: ureq::Error, url: &Url) -> Error {
    let host = url.authority();
    let broken = |why: String| Error::remote(format!("the answer of {host} is no HTTP: {why}"));
    match error {
        ureq::Error::Io(error) => io_failure(error, url),
        ureq::Error::HostNotFound => not_found(host),
        ureq::Error::Timeout(_) => Error::remote(format!("{host} took too long to be reached")).transient(),
        ureq::Error::ConnectionFailed => Error::remote(format!("{host} can't be reached")).transient(),
        ureq::Error::LargeResponseHeader(_, most) => {
            Error::limit("headers", most as u64, format!("the head of an answer of {host}, in bytes,"))
        }
        ureq::Error::Protocol(ureq_error) => broken(ureq_error.to_string()),
        ureq::Error::Http(error) => broken(error.to_string()),
        ureq::Error::ConnectProxyFailed(why) if why.contains("407") => Error::remote(format!(
            "the proxy on the way to {host} wants to know who asks (status 407)"
        ))
        .with_hint("write http://NAME:PASSWORD@HOST:PORT for the proxy, with special characters percent-encoded"),
        ureq::Error::ConnectProxyFailed(why) => Error::remote(format!("the proxy does not lead to {host}: {why}"))
            .with_hint("the variables HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY say which proxy is used when"),
        ureq::Error::InvalidProxyUrl => Error::invalid("the proxy's URL is none"),
        // The message of `ureq` quotes the whole URL, with the secrets in its query.
        ureq::Error::BadUri(_) => Error::invalid(format!("{url} can't be asked for")),
        ureq::Error::BodyStalled => Error::remote(format!("the answer of {host} does not go on")).transient(),
        other => Error::remote(format!("asking {host} failed: {other}")),
    }
}

/// The error for a host name that can't be resolved. Transient, since a resolver may be down.
fn not_found(host: &str) -> Error {
    Error::remote(format!("there is no host {host}, or its name can't be looked up now"))
        .with_hint("is the name right, and is this machine on the network?")
        .transient()
}

/// Translates an error that came through `std::io`. One of this library, carried by it, is returned as it is.
pub(crate) fn io_failure(error: io::Error, url: &Url) -> Error {
    let host = url.authority();
    if error.get_ref().is_some_and(|inner| inner.is::<Error>()) {
        let ours = Error::from(error);
        return if ours.kind() == ErrorKind::Remote { ours.context(host) } else { ours };
    }
    if error.get_ref().is_some_and(|inner| inner.is::<ureq::Error>()) {
        return match error.into_inner().map(|inner| inner.downcast::<ureq::Error>()) {
            Some(Ok(inner)) => translate(*inner, url),
            _ => Error::remote(format!("asking {host} failed")),
        };
    }
    if let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        return tls_failure(tls, url);
    }
    let (sentence, temporary) = match error.kind() {
        io::ErrorKind::ConnectionRefused => (format!("{host} refuses the connection"), true),
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => (format!("{host} can't be reached in time"), true),
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable | io::ErrorKind::AddrNotAvailable => {
            (format!("there is no way to {host}"), true)
        }
        io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe => {
            return Error::remote(format!("{host} ended the connection before its answer was complete")).transient();
        }
        io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted => {
            (format!("the connection to {host} broke"), true)
        }
        // `std` gives errors of `getaddrinfo` no kind of their own.
        _ if error.to_string().contains("lookup address") => return not_found(host),
        _ => (format!("the connection to {host} failed"), false),
    };
    let made = Error::remote(sentence).with_source(error);
    if temporary { made.transient() } else { made }
}

/// Translates an error of TLS. Hints name what a user can do: pin, name an authority, check the clock.
fn tls_failure(error: &rustls::Error, url: &Url) -> Error {
    use rustls::CertificateError as Bad;
    let host = url.authority();
    if let rustls::Error::Other(other) = error
        && let Some(PinMismatch { pinned, found }) = other.0.downcast_ref::<PinMismatch>()
    {
        return Error::remote(format!(
            "the certificate of {host} is not the one that was pinned: expected {pinned}, found {found}"
        ))
        .with_hint("if the server's owner says that it was changed, remove the remote and add it again");
    }
    if let rustls::Error::Other(other) = error
        && let Some(why) = other.0.downcast_ref::<UnusableKey>()
    {
        return Error::remote(format!("the certificate of {host} can't be used: {why}"))
            .with_hint("the server's owner must make another one");
    }
    match error {
        rustls::Error::InvalidCertificate(Bad::UnknownIssuer) => {
            Error::remote(format!("the certificate of {host} is not signed by an authority that is trusted here"))
                .with_hint("pin it with `remote add … --accept-certificate`, or name the authority in SSL_CERT_FILE")
        }
        rustls::Error::InvalidCertificate(Bad::Expired | Bad::ExpiredContext { .. }) => {
            Error::remote(format!("the certificate of {host} has expired"))
                .with_hint("is the clock of this machine right?")
        }
        rustls::Error::InvalidCertificate(Bad::NotValidYet | Bad::NotValidYetContext { .. }) => {
            Error::remote(format!("the certificate of {host} is not valid yet"))
                .with_hint("is the clock of this machine right?")
        }
        rustls::Error::InvalidCertificate(Bad::NotValidForName | Bad::NotValidForNameContext { .. }) => {
            Error::remote(format!("the certificate of {host} is for another name"))
        }
        rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType) => {
            Error::remote(format!("{host} does not speak TLS")).with_hint("is the port right?")
        }
        rustls::Error::AlertReceived(alert) => Error::remote(format!("{host} refuses the TLS connection: {alert:?}"))
            .with_hint("a server may want a client certificate that it trusts"),
        other => Error::remote(format!("the TLS connection to {host} is broken")).with_source(other.clone()),
    }
}
