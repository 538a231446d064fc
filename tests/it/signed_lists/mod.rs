//! Signed lists: who may speak for a remote, and what nobody else can do to it.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod cli;
mod gnupg;
mod messages;
mod mirroring;
mod peers;
mod reading;
mod writing;

use std::time::{SystemTime, UNIX_EPOCH};

use lxd_image::Limits;
use lxd_image::trust::ListKeys;
use lxd_image::trust::openpgp::{Keyring, SecretKey};

/// The keys were made by GnuPG on 2025-01-01 and never expire.
const OWNER: &str = include_str!("keys/owner.pub.asc");
const OTHER: &str = include_str!("keys/other.pub.asc");

/// The time, in seconds since 1970.
fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().cast_signed()
}

fn secret(text: &str) -> SecretKey {
    SecretKey::parse(text.as_bytes(), None, now(), &Limits::default()).unwrap()
}

/// The key that is trusted.
fn owner() -> SecretKey {
    secret(include_str!("keys/owner.sec.asc"))
}

/// A key that is not.
fn other() -> SecretKey {
    secret(include_str!("keys/other.sec.asc"))
}

fn keys(text: &str) -> ListKeys {
    ListKeys::parse(text.as_bytes(), &Limits::default()).unwrap()
}

fn keyring(text: &str) -> Keyring {
    Keyring::parse(text.as_bytes(), &Limits::default()).unwrap()
}
