//! The command line as scripts see it: statuses, streams, formats and the words of errors.
//! Every test runs the program itself on images that are made by code.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod cancelling;
mod disks;
mod endings;
mod files;
mod outputs;
mod statuses;
mod types;

use std::io::Write;
use std::process::{Command, Output, Stdio};

use crate::format::Place;

/// What a run of the program left behind.
pub(crate) struct Ran {
    pub(crate) status: i32,
    pub(crate) out: Vec<u8>,
    pub(crate) err: String,
}

impl Ran {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.out).unwrap()
    }

    /// It succeeded; what it said on standard output.
    #[track_caller]
    pub(crate) fn good(self) -> String {
        assert_eq!(self.status, 0, "{}", self.err);
        String::from_utf8(self.out).unwrap()
    }

    /// It failed with this status and this first line's beginning, and said nothing on standard output.
    #[track_caller]
    pub(crate) fn failed(&self, status: i32, begin: &str) {
        assert_eq!((self.status, self.text()), (status, ""), "{}", self.err);
        assert!(self.err.starts_with(begin), "{:?} does not begin with {begin:?}", self.err);
    }
}

/// Runs the program in a place.
pub(crate) fn run(place: &Place, arguments: &[&str]) -> Ran {
    run_with(place, arguments, b"")
}

/// The same, with bytes on standard input.
pub(crate) fn run_with(place: &Place, arguments: &[&str], input: &[u8]) -> Ran {
    let mut child = Command::new(env!("CARGO_BIN_EXE_lxd-image"))
        .args(arguments)
        .current_dir(place.at(""))
        .env_remove("SOURCE_DATE_EPOCH")
        .env_remove("LXD_IMAGE_STORE")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let output: Output = std::thread::scope(|scope| {
        // A program that has seen enough closes the pipe.
        scope.spawn(move || stdin.write_all(input).ok());
        child.wait_with_output().unwrap()
    });
    Ran {
        status: output.status.code().unwrap_or(-1),
        out: output.stdout,
        err: String::from_utf8(output.stderr).unwrap(),
    }
}
