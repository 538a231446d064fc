//! The client certificate of a user: created on first use, readable by its owner only. The private key never leaves the settings
//! directory.

use std::fs::{self, File};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use rcgen::ExtendedKeyUsagePurpose;

use super::Settings;
use super::file::{make_directory, write_private};
use crate::error::{Error, Result};
use crate::remote::http::Identity;
use crate::self_signed;

/// The certificate, in PEM.
const CERTIFICATE: &str = "client.crt";
/// Its private key, in PEM.
const KEY: &str = "client.key";

impl Settings {
    /// The client certificate and its key, `client.crt` and `client.key`. Created under the lock if there are none.
    ///
    /// # Errors
    /// `Malformed` when they can't be parsed or the key is missing; `Io`.
    pub fn identity(&self) -> Result<Identity> {
        if let Some(identity) = self.read_identity()? {
            return Ok(identity);
        }
        make_directory(self.directory())?;
        let lock = self.directory().join("lock");
        let failed = |error| Error::io("the settings can't be locked", error).in_file(&lock);
        let held = File::options().create(true).write(true).truncate(false).mode(0o600).open(&lock).map_err(failed)?;
        held.lock().map_err(failed)?;
        // Another process may have created them before this one got the lock.
        if let Some(identity) = self.read_identity()? {
            return Ok(identity);
        }
        let (certificate, key) = self_signed::make(|about| {
            about.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            Ok(())
        })?;
        let identity = Identity::from_pem(&certificate, &key)?;
        // The key first: readers take the certificate as the sign that both are there.
        write_private(&self.directory().join(KEY), key.as_bytes())?;
        write_private(&self.directory().join(CERTIFICATE), certificate.as_bytes())?;
        Ok(identity)
    }

    /// The path of the client certificate, which the owner of a server adds to its trusted certificates.
    #[must_use]
    pub fn certificate_file(&self) -> PathBuf {
        self.directory().join(CERTIFICATE)
    }

    /// Reads both files; `None` if there is no certificate yet.
    fn read_identity(&self) -> Result<Option<Identity>> {
        let read = |name: &str| {
            let path = self.directory().join(name);
            match fs::read_to_string(&path) {
                Ok(text) => Ok(Some(text)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(Error::io("the client's certificate can't be read", error).in_file(path)),
            }
        };
        match (read(CERTIFICATE)?, read(KEY)?) {
            (Some(certificate), Some(key)) => {
                Identity::from_pem(&certificate, &key).map(Some).map_err(|error| error.in_file(self.certificate_file()))
            }
            (None, _) => Ok(None),
            (Some(_), None) => {
                Err(Error::malformed("the client's certificate has no key beside it").in_file(self.certificate_file()))
            }
        }
    }
}
