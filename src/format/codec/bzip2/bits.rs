//! Bits, the highest of each byte first, as bzip2 writes them.
//! Positions count bits from the start of a slice.

/// The `count` bits at `position`, at most 48; `None` beyond the end.
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

/// Bits put one after the other into bytes.
#[derive(Default)]
pub(super) struct BitWriter {
    bytes: Vec<u8>,
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

    /// Appends the bits from `from` up to `to` of `bytes`; what is beyond its end is left out.
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

    /// The whole bytes so far; the rest stays.
    pub(super) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    /// All bytes, the last filled up with zeros.
    pub(super) fn finish(mut self) -> Vec<u8> {
        if self.count > 0 {
            self.put(0, 8 - self.count);
        }
        self.bytes
    }
}
