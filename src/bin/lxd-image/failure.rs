//! Failures of a verb: one line with the error and one with the hint on standard error, and the exit status.
//!
//! The statuses are a contract with scripts and are listed in `--help` and the manual pages (`help::STATUSES`): 1 for
//! any failure, 2 for wrong usage (by clap), 3 where a verb that compares found a mismatch, 4 for not found, 5 for an
//! existing object, 130 for cancellation. `diff` follows diff(1): 1 for a difference, 2 for an error.

use std::process::ExitCode;

use lxd_image::{Error, ErrorKind};

/// An exit status, and the error that belongs to it. Without an error everything was printed already.
pub(crate) struct Failure {
    /// What [`report`](Self::report) prints.
    error: Option<Error>,
    /// The exit status.
    status: u8,
}

impl Failure {
    /// A mismatch that the verb was asked to look for (status 3).
    pub(crate) fn mismatch(error: Error) -> Self {
        Self { error: Some(error), status: 3 }
    }

    /// A rule that an image breaks (status 1), whatever the kind of its error: `NotFound` here is something missing
    /// inside the image, not a missing image.
    pub(crate) fn finding(error: Error) -> Self {
        Self { error: Some(error), status: 1 }
    }

    /// The images differ (status 1); the differences are on standard output.
    pub(crate) fn differs() -> Self {
        Self { error: None, status: 1 }
    }

    /// Statuses as in diff(1): 1 means a difference, so failures get 2.
    pub(crate) fn with_diff_status(self) -> Self {
        Self { status: if self.status == 1 { 2 } else { self.status }, ..self }
    }

    /// Whether the reader of standard output has gone (`| head`), which needs no message.
    pub(crate) fn is_closed_pipe(&self) -> bool {
        self.error
            .as_ref()
            .and_then(std::error::Error::source)
            .and_then(|source| source.downcast_ref::<std::io::Error>())
            .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
    }

    /// Prints the error with its kind and hint to standard error and returns the exit status.
    ///
    /// The form `error[KIND]: message` is stable: scripts match on the kind.
    pub(crate) fn report(self) -> ExitCode {
        if let Some(error) = &self.error
            && !self.is_closed_pipe()
        {
            eprintln!("error[{}]: {error}", error.kind());
            if let Some(hint) = error.hint() {
                eprintln!("hint: {hint}");
            }
        }
        ExitCode::from(self.status)
    }
}

impl From<Error> for Failure {
    /// The status of an error by its kind. A `Mismatch` is 1 here: only verbs that compare call [`Failure::mismatch`].
    fn from(error: Error) -> Self {
        let status = match error.kind() {
            ErrorKind::NotFound => 4,
            ErrorKind::AlreadyExists => 5,
            ErrorKind::Cancelled => 130,
            _ => 1,
        };
        Self { error: Some(error), status }
    }
}
