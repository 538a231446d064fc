//! [`TrustedClients`]: the certificates of clients that may change the store, as files that an administrator places.
//! They are read again whenever a client shows a certificate, so that a removed one is untrusted at once.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::certificate;
use crate::error::{Error, Result};
use crate::fingerprint::Fingerprint;

/// Files of the directory that are read.
const MOST_FILES: usize = 10_000;

/// What tells that a file is not what it was: name, device, inode, length, times.
type State = Vec<(PathBuf, [u64; 3], [i64; 4])>;

/// The trusted client certificates: those in a PEM file, or in the files `*.crt` and `*.pem` of a directory.
#[derive(Debug)]
pub struct TrustedClients {
    path: PathBuf,
    known: Mutex<(State, HashSet<Fingerprint>)>,
}

impl TrustedClients {
    /// The certificates in a file or in a directory.
    ///
    /// # Errors
    /// `Malformed` for a file that holds none, `Io`.
    pub fn at(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let state = state(&path)?;
        let found = read(&state)?;
        Ok(Self { path, known: Mutex::new((state, found)) })
    }

    /// Whether the certificate with this SHA-256 is trusted now. Reads the file system.
    ///
    /// # Errors
    /// `Malformed`, `Io` when a file can't be read; then no client is trusted.
    pub fn knows(&self, certificate: &Fingerprint) -> Result<bool> {
        let now = state(&self.path)?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.0 != now {
            let found = read(&now)?;
            *known = (now, found);
        }
        Ok(known.1.contains(certificate))
    }
}

fn state(path: &Path) -> Result<State> {
    let failed = |error| Error::io("the trusted certificates can't be read", error).in_file(path);
    let mut files = Vec::new();
    if fs::metadata(path).map_err(failed)?.is_dir() {
        for entry in fs::read_dir(path).map_err(failed)? {
            let file = entry.map_err(failed)?.path();
            if file.extension().is_some_and(|extension| extension == "crt" || extension == "pem") {
                files.push(file);
            }
            if files.len() > MOST_FILES {
                return Err(Error::invalid(format!("more than {MOST_FILES} certificates are trusted")).in_file(path));
            }
        }
        files.sort();
    } else {
        files.push(path.to_owned());
    }
    files
        .into_iter()
        .map(|file| {
            let data = fs::metadata(&file).map_err(failed)?;
            let which = [data.dev(), data.ino(), data.len()];
            Ok((file, which, [data.mtime(), data.mtime_nsec(), data.ctime(), data.ctime_nsec()]))
        })
        .collect()
}

fn read(state: &State) -> Result<HashSet<Fingerprint>> {
    let mut found = HashSet::new();
    for (file, ..) in state {
        let mut some = false;
        for certificate in CertificateDer::pem_slice_iter(&certificate::read(file)?) {
            let wrong = |error| Error::malformed("this is no certificate in PEM").with_source(error).in_file(file);
            found.insert(Fingerprint::of(&certificate.map_err(wrong)?));
            some = true;
        }
        if !some {
            return Err(Error::malformed("there is no certificate in it").in_file(file));
        }
    }
    Ok(found)
}
