//! Records of signed lists: one file for each remote with keys.

use std::fs;
use std::path::PathBuf;

use super::file::{make_directory, write_private};
use super::{KnownRemote, Protocol, Settings};
use crate::error::{Error, Result};
use crate::progress::Monitor;
use crate::remote::http::{ClientOptions, Url};
use crate::remote::{ListRecord, Remote, Simplestreams};

/// Where the records are, below the settings directory.
const DIRECTORY: &str = "signed";

impl Settings {
    /// Which signed lists of a remote were accepted last; empty before the first one, and for remotes without keys.
    ///
    /// # Errors
    /// `NotFound` for a name that is not in use; `Malformed` for a damaged record; `Io`.
    pub fn list_record(&self, name: &str) -> Result<ListRecord> {
        self.get(name)?;
        ListRecord::read(&self.record_of(name))
    }

    /// Reads the lists of a remote that has no name yet, and checks that its keys signed them. Nothing is recorded.
    ///
    /// # Errors
    /// Those of [`Simplestreams::listing`].
    pub fn check_lists(&self, known: &KnownRemote, options: ClientOptions, monitor: &Monitor) -> Result<()> {
        let remote = Simplestreams::new(super::client_options_for(known, options), &known.url)?;
        remote.keys(known.keys.clone()).listing(monitor).map(drop)
    }

    /// Reads the lists of a remote with keys as they are now, and accepts them even if they are older than those that were
    /// accepted last: its owner went back on purpose. They must be signed all the same.
    ///
    /// # Errors
    /// `InvalidInput` for a remote without keys; those of [`get`](Self::get) and of [`Simplestreams::listing`].
    pub fn accept_older(&self, name: &str, options: ClientOptions, monitor: &Monitor) -> Result<ListRecord> {
        let known = self.get(name)?;
        if known.keys.is_empty() {
            return Err(Error::invalid(format!(
                "the remote `{name}` has no keys: its lists are read whatever their age"
            )));
        }
        self.simplestreams(name, &known, options)?.accept_older(true).listing(monitor)?;
        ListRecord::read(&self.record_of(name))
    }

    /// Connects to a simplestreams server by its URL. If a remote with keys has that URL, its settings are used, so that typing
    /// the URL does not take the signatures off.
    ///
    /// # Errors
    /// Those of [`connect`](Self::connect) and of [`Simplestreams::new`].
    pub fn simplestreams_at(&self, url: &Url, options: ClientOptions) -> Result<Box<dyn Remote>> {
        let wire = url.to_wire();
        let address = wire.trim_end_matches('/');
        let signed = self.read()?.into_iter().find(|(_, known)| {
            !known.keys.is_empty()
                && known.protocol == Protocol::Simplestreams
                && known.url.to_wire().trim_end_matches('/') == address
        });
        match signed {
            Some((name, _)) => self.connect(&name, options),
            None => Ok(Box::new(Simplestreams::new(options, url)?)),
        }
    }

    /// The file of a remote. Names have no slash.
    pub(super) fn record_of(&self, name: &str) -> PathBuf {
        self.directory().join(DIRECTORY).join(format!("{name}.json"))
    }

    /// Removes the record of a remote, if there is one.
    pub(super) fn forget_record(&self, name: &str) -> Result<()> {
        let path = self.record_of(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::io("the record of the last signed list can't be removed", error).in_file(path))
            }
            _ => Ok(()),
        }
    }

    /// Copies the record of a remote to another name, if there is one.
    pub(super) fn copy_record(&self, name: &str, new: &str) -> Result<()> {
        let path = self.record_of(name);
        match fs::read(&path) {
            Ok(text) => {
                make_directory(&self.directory().join(DIRECTORY))?;
                write_private(&self.record_of(new), &text)
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => self.forget_record(new),
            Err(error) => Err(Error::io("the record of the last signed list can't be read", error).in_file(path)),
        }
    }
}
