//! Bits in bzip2's order: the highest of each byte first. Positions count bits from the start of a
//! slice, as `u64`, since a file may have more than 2^32 of them.

/// The `count` bits at `position`, at most 48, as the low bits of the result; `None` where they
/// reach beyond the end.
pub(super) fn get(bytes: &[u8], position: u64, count: u64) -> Option<u64> {
    debug_assert!(count <= 48);
    let first = usize::try_from(position / 8).ok()?;
    if position + count > bytes.len() as u64 * 8 {
        return None;
    }
    // 48 bits at any offset touch seven bytes, so eight hold them.
    let word = match bytes.get(first..).and_then(|rest| rest.first_chunk::<8>()) {
        Some(chunk) => u64::from_be_bytes(*chunk),
        None => {
            let mut chunk = [0; 8];
            let rest = bytes.get(first..)?;
            chunk[..rest.len()].copy_from_slice(rest);
            u64::from_be_bytes(chunk)
        }
    };
    Some((word << (position % 8)).checked_shr(64 - count as u32).unwrap_or(0))
}

/// Bits appended one after the other into bytes. `count` bits, fewer than 8, wait in `pending` for
/// their byte to be full.
#[derive(Default)]
pub(super) struct BitWriter {
    bytes: Vec<u8>,
    /// Bits that don't make a byte yet, in the low `count` bits.
    pending: u64,
    count: u32,
}

impl BitWriter {
    pub(super) fn with_capacity(bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes), pending: 0, count: 0 }
    }

    /// Appends the low `count` bits of `value`, at most 48.
    pub(super) fn put(&mut self, value: u64, count: u32) {
        debug_assert!(count <= 48 && self.count < 8);
        self.pending = self.pending << count | value;
        self.count += count;
        while self.count >= 8 {
            self.count -= 8;
            self.bytes.push((self.pending >> self.count) as u8);
        }
        self.pending &= (1 << self.count) - 1;
    }

    /// Appends the bits of `bytes` from `from` up to `to`, 32 at a time; what is beyond the end of
    /// `bytes` is left out.
    pub(super) fn copy(&mut self, bytes: &[u8], mut from: u64, to: u64) {
        let to = to.min(bytes.len() as u64 * 8);
        while let Some(word) = (to >= from + 32).then(|| get(bytes, from, 32)).flatten() {
            self.pending = self.pending << 32 | word;
            let ready = (self.pending >> self.count) as u32;
            self.bytes.extend_from_slice(&ready.to_be_bytes());
            self.pending &= (1 << self.count) - 1;
            from += 32;
        }
        if from < to {
            self.put(get(bytes, from, to - from).unwrap_or(0), (to - from) as u32);
        }
    }

    /// Removes and returns the whole bytes so far; the bits of an incomplete byte stay.
    pub(super) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    /// All bytes, with the last one filled up with zeros.
    pub(super) fn finish(mut self) -> Vec<u8> {
        if self.count > 0 {
            self.put(0, 8 - self.count);
        }
        self.bytes
    }
}
