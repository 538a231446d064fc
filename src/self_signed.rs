//! Self-signed certificates: of a client, created when it is first needed, and of a server, created
//! when it first starts.
//!
//! Both sides create them alike and know them by their digest, as LXD does.

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, date_time_ymd};

use crate::error::{Error, ErrorKind, Result};

/// Creates a certificate named after this machine, and its key, both in PEM. `describe` sets what it is for.
///
/// It is valid from 1970 to 2099, so that it does not depend on the clock.
///
/// # Errors
/// `Unsupported` if it cannot be created; those of `describe`.
pub(crate) fn make(describe: impl FnOnce(&mut CertificateParams) -> Result<()>) -> Result<(String, String)> {
    let key = KeyPair::generate().map_err(failed)?;
    let mut about = CertificateParams::default();
    about.distinguished_name = DistinguishedName::new();
    about.distinguished_name.push(DnType::OrganizationName, "lxd-image");
    about.distinguished_name.push(DnType::CommonName, host());
    // It is known by its digest, which must not change: so it must not expire, and the clock of a
    // machine that starts for the first time often stands at 1970.
    about.not_before = date_time_ymd(1970, 1, 1);
    about.not_after = date_time_ymd(2099, 12, 31);
    describe(&mut about)?;
    let certificate = about.self_signed(&key).map_err(failed)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

/// The name of this machine.
pub(crate) fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// An error of `rcgen`.
pub(crate) fn failed(error: rcgen::Error) -> Error {
    Error::new(ErrorKind::Unsupported, "a certificate can't be made").with_source(error)
}
