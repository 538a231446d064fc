//! How a verb ends badly: the error's one line and hint on standard error, and an exit status.
//! The statuses are a contract with scripts.

use std::process::ExitCode;

use lxd_image::{Error, ErrorKind};

/// An exit status, and the error that goes with it unless all was said already.
pub(crate) struct Failure {
    error: Option<Error>,
    status: u8,
}

impl Failure {
    /// A digest or size that is not the expected one, found by a verb whose job it is to look.
    pub(crate) fn mismatch(error: Error) -> Self {
        Self { error: Some(error), status: 3 }
    }

    /// A rule that an image breaks. Whatever its kind, the image itself was found.
    pub(crate) fn finding(error: Error) -> Self {
        Self { error: Some(error), status: 1 }
    }

    /// The answer was "no" and stands on standard output: images differ.
    pub(crate) fn negative() -> Self {
        Self { error: None, status: 1 }
    }

    /// As `diff(1)`: what went wrong is told from what differs by its status.
    pub(crate) fn into_trouble(self) -> Self {
        Self { status: if self.status == 1 { 2 } else { self.status }, ..self }
    }

    /// Whether it is only that nobody reads any more (`| head`), which is not worth a word.
    pub(crate) fn is_closed_pipe(&self) -> bool {
        self.error
            .as_ref()
            .and_then(std::error::Error::source)
            .and_then(|source| source.downcast_ref::<std::io::Error>())
            .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
    }

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
