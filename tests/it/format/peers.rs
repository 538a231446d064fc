//! The programs of the field, where they are installed: what they write is read, and both trees compared.
//! A test says that it skips when a peer is missing, and fails instead when peers are required.

use std::process::{Command, Stdio};

/// Whether a program is there. Says so when it is not, or fails when `LXD_IMAGE_REQUIRE_PEERS=1`.
pub(crate) fn have(program: &str) -> bool {
    let found = Command::new(program).arg("--version").stdin(Stdio::null()).output().is_ok();
    if !found {
        assert!(
            std::env::var_os("LXD_IMAGE_REQUIRE_PEERS").is_none_or(|value| value != "1"),
            "{program} is not installed, and LXD_IMAGE_REQUIRE_PEERS=1 wants it"
        );
        println!("skipped: {program} is not installed");
    }
    found
}
