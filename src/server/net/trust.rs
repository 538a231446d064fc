//! [`TrustedClients`]: the certificates of clients that may change the store, as files that an administrator places.
//! They are read again whenever a client shows a certificate, so that a removed one is untrusted at once.
//!
//! A file system that can't be read trusts nobody: an error makes all clients untrusted, and is
//! written to the log. A directory lets an administrator or a tool add and remove a client by one
//! file, without a reload; a single file is for a list that a tool generates as a whole.

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

/// Files of the directory that are read. More are an error, because a part of the list would be
/// trusted otherwise, and nobody could say which.
const MOST_FILES: usize = 10_000;

/// What identifies the content of the files: for each its name, then device, inode and length, then
/// the seconds and nanoseconds of modification and change. A file that was replaced has another
/// inode, and one that was edited another time of change, which nobody can set back.
type State = Vec<(PathBuf, [u64; 3], [i64; 4])>;

/// The trusted client certificates: those in a PEM file, or in the files `*.crt` and `*.pem` of a directory.
///
/// Give it to [`ListenerOptions::trusted`](super::ListenerOptions::trusted). It costs a `stat` of
/// each file for each request that comes with a certificate; files are read when one of them
/// changed.
#[derive(Debug)]
pub struct TrustedClients {
    /// The file or directory.
    path: PathBuf,
    /// The state of the files when they were read last, and the certificates in them.
    known: Mutex<(State, HashSet<Fingerprint>)>,
}

impl TrustedClients {
    /// The certificates in a file or in a directory.
    ///
    /// An empty directory is valid, and trusts nobody yet.
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
    /// The answer is for now: ask again for the next request.
    ///
    /// # Errors
    /// `Malformed`, `Io` when a file can't be read; then no client is trusted.
    pub fn knows(&self, certificate: &Fingerprint) -> Result<bool> {
        // Before the lock, so that requests don't wait for each other's `stat` calls.
        let now = state(&self.path)?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.0 != now {
            let found = read(&now)?;
            *known = (now, found);
        }
        Ok(known.1.contains(certificate))
    }
}

/// The state of the files now: of one file, or of the files `*.crt` and `*.pem` of a directory,
/// sorted by name.
fn state(path: &Path) -> Result<State> {
    let failed = |error| Error::io("the trusted certificates can't be read", error).in_file(path);
    let mut files = Vec::new();
    if fs::metadata(path).map_err(failed)?.is_dir() {
        for entry in fs::read_dir(path).map_err(failed)? {
            let file = entry.map_err(failed)?.path();
            // Other files in the directory, such as notes or keys, are ignored.
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
            // Follows links: a link to a file that was replaced counts as changed.
            let data = fs::metadata(&file).map_err(failed)?;
            let which = [data.dev(), data.ino(), data.len()];
            Ok((file, which, [data.mtime(), data.mtime_nsec(), data.ctime(), data.ctime_nsec()]))
        })
        .collect()
}

/// Reads the certificates of all files. One bad file is an error for all: it may be the one with
/// which an administrator meant to replace another.
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
