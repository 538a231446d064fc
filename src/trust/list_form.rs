//! What all readers of keys and signatures of lists agree on.

/// How far the clock of a signer may be ahead of ours, in seconds: a day.
pub(super) const CLOCK_SKEW: i64 = 24 * 3600;
/// What begins the block of an OpenPGP key.
pub(super) const BLOCK: &str = "-----BEGIN PGP ";

/// Whether this is OpenPGP in binary: every packet begins with a byte whose first bit is set, and no text does.
pub(super) fn is_packets(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(|byte| byte & 0x80 != 0)
}
