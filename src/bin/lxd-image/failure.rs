//! How a verb ends badly: the error's one line and hint on standard error, and an exit status.
//! The statuses are a contract with scripts.

use std::process::ExitCode;

use lxd_image::{Error, ErrorKind};

/// An error and the exit status that goes with it.
pub(crate) struct Failure {
    error: Error,
    status: u8,
}

impl Failure {
    /// A digest or size that is not the expected one, found by a verb whose job it is to look.
    pub(crate) fn mismatch(error: Error) -> Self {
        Self { error, status: 3 }
    }

    /// A rule that an image breaks. Whatever its kind, the image itself was found.
    pub(crate) fn finding(error: Error) -> Self {
        Self { error, status: 1 }
    }

    pub(crate) fn report(self) -> ExitCode {
        // A closed pipe (`| head`) is not worth a word.
        let closed = std::error::Error::source(&self.error)
            .and_then(|source| source.downcast_ref::<std::io::Error>())
            .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe);
        if !closed {
            eprintln!("error[{}]: {}", self.error.kind(), self.error);
            if let Some(hint) = self.error.hint() {
                eprintln!("hint: {hint}");
            }
        }
        ExitCode::from(self.status)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let status = match error.kind() {
            ErrorKind::NotFound => 4,
            ErrorKind::AlreadyExists => 5,
            ErrorKind::Cancelled => 130,
            _ => 1,
        };
        Self { error, status }
    }
}
