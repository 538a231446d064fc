//! Certificates that vouch for themselves: a client's, made when it is first needed, and a server's, made at its first start.
//! Private; the two make them alike and don't know each other.

use jiff::{Timestamp, tz::Offset};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, date_time_ymd};

use crate::error::{Error, ErrorKind, Result};

/// A certificate for ten years, named after this machine, and its key, both in PEM. `describe` says what it is for.
///
/// # Errors
/// `Unsupported` when it can't be made; those of `describe`.
pub(crate) fn make(describe: impl FnOnce(&mut CertificateParams) -> Result<()>) -> Result<(String, String)> {
    let key = KeyPair::generate().map_err(failed)?;
    let mut about = CertificateParams::default();
    about.distinguished_name = DistinguishedName::new();
    about.distinguished_name.push(DnType::OrganizationName, "lxd-image");
    about.distinguished_name.push(DnType::CommonName, host());
    let year = i32::from(Offset::UTC.to_datetime(Timestamp::now()).year());
    // Whose clock is a little behind must not take it for one of the future.
    about.not_before = date_time_ymd(year - 1, 1, 1);
    about.not_after = date_time_ymd(year + 10, 12, 31);
    describe(&mut about)?;
    let certificate = about.self_signed(&key).map_err(failed)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

/// This machine's name.
pub(crate) fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// The error for what `rcgen` refuses.
pub(crate) fn failed(error: rcgen::Error) -> Error {
    Error::new(ErrorKind::Unsupported, "a certificate can't be made").with_source(error)
}
