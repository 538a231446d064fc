//! [`ServerCertificate`]: the certificate that the server shows to clients, who know it by its
//! SHA-256. It is given by the administrator, or made at the first start and kept, with a key that
//! only the owner can read.
//!
//! Clients of LXD and Incus pin the certificate when they add the server as a remote. A server that
//! lost its certificate and made another one would be refused by all of them, so the files are
//! written durably, and an existing certificate is never replaced by this module, even if it has
//! expired.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyUsagePurpose, SanType};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::atomic::{self, Durability};
use crate::error::{Error, Result};
use crate::fingerprint::Fingerprint;
use crate::self_signed;

/// The name of the certificate's file in its directory, as LXD has it.
const CERTIFICATE: &str = "server.crt";
/// The name of the key's file in its directory.
const KEY: &str = "server.key";

/// The largest file of certificates or keys that is read, in bytes: a long chain has 20 KiB, and a
/// path to a device or to an image by mistake must not fill the memory.
pub(super) const LONGEST_PEM: u64 = 1 << 20;

/// A certificate, the certificates between it and an authority if it has one, and its private key.
///
/// The debug output contains the fingerprint only.
pub struct ServerCertificate {
    /// The certificate, followed by those that lead to the authority, in the order in which they
    /// are sent.
    pub(super) chain: Vec<CertificateDer<'static>>,
    /// The private key.
    pub(super) key: PrivateKeyDer<'static>,
    /// The SHA-256 of the first certificate of the chain.
    fingerprint: Fingerprint,
}

impl fmt::Debug for ServerCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerCertificate").field("fingerprint", &self.fingerprint).finish_non_exhaustive()
    }
}

impl ServerCertificate {
    /// Reads a certificate, those that follow it in the chain, and its private key, each in PEM.
    /// Whether the two belong together is checked when a [`Listener`](super::Listener) is made.
    ///
    /// # Errors
    /// `Malformed` if one of the texts has no certificate or no key.
    pub fn from_pem(certificate: &[u8], key: &[u8]) -> Result<Self> {
        let chain = CertificateDer::pem_slice_iter(certificate)
            .collect::<std::result::Result<Vec<_>, _>>()
            .map_err(|error| Error::malformed("the certificate is no PEM").with_source(error))?;
        let Some(first) = chain.first() else { return Err(Error::malformed("there is no certificate in it")) };
        let fingerprint = Fingerprint::of(first);
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|error| Error::malformed("the private key is no PEM").with_source(error))?;
        Ok(Self { chain, key, fingerprint })
    }

    /// Reads certificate and key from files in PEM, for a certificate that another program renews.
    /// They are read once: restart the server, or make a new listener, after they were renewed.
    ///
    /// # Errors
    /// `Malformed`, `Io`.
    pub fn read(certificate: &Path, key: &Path) -> Result<Self> {
        let made = Self::from_pem(&read(certificate)?, &read(key)?);
        made.map_err(|error| error.in_file(certificate))
    }

    /// The certificate that is kept in a directory, as `server.crt` and `server.key`. It is made if
    /// there is none: self-signed, for this machine's name, `localhost`, the loopback addresses,
    /// and `names`, which are host names or IP addresses.
    ///
    /// Several processes may call this at once; a lock file makes one of them create it. `names`
    /// have no effect on a certificate that exists.
    ///
    /// # Errors
    /// `Malformed` when a file has no certificate or no key, or only one of the two exists;
    /// `InvalidInput` for a name that is no host name; `Io`.
    pub fn kept_in(directory: &Path, names: &[String]) -> Result<Self> {
        let (certificate, key) = (directory.join(CERTIFICATE), directory.join(KEY));
        // Before the lock: a directory that is read-only by now can still be served from.
        if certificate.exists() {
            return Self::read(&certificate, &key);
        }
        let failed = |error| Error::io("the directory for the certificate can't be made", error).in_file(directory);
        atomic::make_dirs(directory, 0o700).map_err(failed)?;
        let lock = directory.join("lock");
        let failed = |error| Error::io("the certificate's directory can't be locked", error).in_file(&lock);
        let held = File::options().create(true).write(true).truncate(false).mode(0o600).open(&lock).map_err(failed)?;
        held.lock().map_err(failed)?;
        // Another process may have made it meanwhile.
        if !certificate.exists() {
            let made = self_signed::make(|about| describe(about, names))?;
            // The key first: where the certificate is, its key is too.
            write(&key, 0o600, &made.1)?;
            write(&certificate, 0o644, &made.0)?;
        }
        Self::read(&certificate, &key)
    }

    /// The sha256 of the certificate, by which clients know it.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }
}

/// Reads a file of certificates or keys, of [`LONGEST_PEM`] bytes at most.
pub(super) fn read(path: &Path) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    let failed = |error| Error::io("a certificate or key can't be read", error).in_file(path);
    let file = File::open(path).map_err(failed)?;
    // One byte more than allowed, to tell a file that is too long from one that just fits.
    file.take(LONGEST_PEM + 1).read_to_end(&mut text).map_err(failed)?;
    if text.len() as u64 > LONGEST_PEM {
        return Err(Error::malformed("it is too long for a certificate or key").in_file(path));
    }
    Ok(text)
}

/// Writes a file that is complete and on disk when this returns: clients pin the certificate at
/// once.
fn write(path: &Path, mode: u32, text: &str) -> Result<()> {
    atomic::replace(path, mode, text.as_bytes(), Durability::Durable)
        .map_err(|error| Error::io("the certificate can't be kept", error).in_file(path))
}

/// Fills in what a certificate says: it is a server's, on this machine and under these names.
fn describe(about: &mut CertificateParams, names: &[String]) -> Result<()> {
    // Like the certificates that LXD makes: for signatures in a handshake, as a server.
    about.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    about.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let host = self_signed::host();
    let mut subjects = Vec::new();
    for address in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
        subjects.push(SanType::IpAddress(address));
    }
    for name in [host.as_str(), "localhost"].into_iter().chain(names.iter().map(String::as_str)) {
        let subject = match name.parse::<IpAddr>() {
            Ok(address) => SanType::IpAddress(address),
            // The machine's own name may be one that no certificate can have; the other names are
            // enough then.
            Err(_) if !is_host(name) && name == host => continue,
            Err(_) if !is_host(name) => {
                return Err(Error::invalid(format!("`{name}` is no name of a host that a certificate can have")));
            }
            Err(_) => SanType::DnsName(name.try_into().map_err(self_signed::failed)?),
        };
        if !subjects.contains(&subject) {
            subjects.push(subject);
        }
    }
    about.subject_alt_names = subjects;
    Ok(())
}

/// Whether a text is a host name: labels of letters, digits, hyphens and underscores, each shorter
/// than 64 bytes, shorter than 254 bytes in all (RFC 1035, section 2.3.4).
fn is_host(name: &str) -> bool {
    let label = |label: &str| {
        let inside = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        !label.is_empty() && label.len() < 64 && label.bytes().all(inside)
    };
    name.len() < 254 && name.split('.').all(label)
}
