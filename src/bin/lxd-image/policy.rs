//! `--policy`: what images need before they become visible. Shared by the verbs that bring images.
//!
//! Without the option it is `policy.toml` in the directory of the settings; without that file nothing is needed. The
//! policy of the settings also holds for verbs without the option: each way into the store asks it.

use std::path::PathBuf;

use clap::Args;
use lxd_image::trust::Policy;
use lxd_image::{Error, ErrorKind, Result};

use crate::options::Session;

/// Where the policy is.
#[derive(Args, Debug, Default)]
pub(crate) struct PolicyArgument {
    /// What images need before they become visible (default: policy.toml beside the settings, if it is there)
    #[arg(long, value_name = "FILE.toml")]
    pub(crate) policy: Option<PathBuf>,
}

impl PolicyArgument {
    /// Makes this policy the one of the run.
    pub(crate) fn apply(&self, session: &Session) {
        if let Some(path) = &self.policy {
            *session.policy.borrow_mut() = Some(path.clone());
        }
    }
}

impl Session {
    /// The policy of this run: that of `--policy`, else that of the settings, if there is one.
    ///
    /// # Errors
    /// `NotFound` for a file of `--policy` that is missing; those of reading and parsing it. A policy of the settings
    /// that cannot be read is an error too: without it, it would not be known what is needed.
    pub(crate) fn policy(&self) -> Result<Option<Policy>> {
        let given = self.policy.borrow().clone();
        let path = match given {
            Some(path) if !path.exists() => {
                return Err(Error::new(ErrorKind::NotFound, "there is no such policy").in_file(path));
            }
            Some(path) => path,
            None => match lxd_image::remote::Settings::user_directory() {
                Ok(directory) if directory.join("policy.toml").symlink_metadata().is_ok() => {
                    directory.join("policy.toml")
                }
                _ => return Ok(None),
            },
        };
        let settings = self.settings()?;
        settings.resolve_policy(Policy::read(&path)?).map(Some).map_err(|error| error.in_file(&path))
    }
}
