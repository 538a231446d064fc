//! The default code table of VCDIFF (RFC 3284, section 5.6) and the address cache (section 5.3), for both directions.

/// Entries of the cache of recent addresses.
const NEAR: usize = 4;
/// Entries of the cache of addresses by their low bits.
const SAME: usize = 3 * 256;
/// Address modes: from the start, from here, `NEAR` relative ones, `SAME / 256` of one byte.
pub(super) const MODES: u8 = 9;
/// The mode of an address that counts from the start of the segment.
const MODE_SELF: u8 = 0;
/// The mode of an address that counts back from the instruction.
const MODE_HERE: u8 = 1;
/// The first mode that is relative to a recent address.
const MODE_NEAR: u8 = 2;
/// The first mode of one byte.
const MODE_SAME: u8 = MODE_NEAR + NEAR as u8;

/// What an instruction does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// Nothing: the second half of most entries.
    Nothing,
    /// Takes bytes of the data section.
    Add,
    /// Repeats one byte of the data section.
    Run,
    /// Copies from the segment or from what the window has so far, with an address in this mode.
    Copy(u8),
}

/// Half of an entry of the code table. A size of 0 follows in the instruction section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Half {
    pub(super) action: Action,
    pub(super) size: u8,
}

const NOTHING: Half = Half { action: Action::Nothing, size: 0 };

/// The default code table: two halves for each opcode.
pub(super) static CODE_TABLE: [[Half; 2]; 256] = code_table();

const fn half(action: Action, size: u8) -> Half {
    Half { action, size }
}

const fn code_table() -> [[Half; 2]; 256] {
    let mut table = [[NOTHING; 2]; 256];
    table[0][0] = half(Action::Run, 0);
    let mut at = 1;
    let mut size = 0;
    while size <= 17 {
        table[at][0] = half(Action::Add, size);
        at += 1;
        size += 1;
    }
    let mut mode = 0;
    while mode < MODES {
        table[at][0] = half(Action::Copy(mode), 0);
        at += 1;
        size = 4;
        while size <= 18 {
            table[at][0] = half(Action::Copy(mode), size);
            at += 1;
            size += 1;
        }
        mode += 1;
    }
    mode = 0;
    while mode < MODES {
        let last = if mode < MODE_SAME { 6 } else { 4 };
        let mut add = 1;
        while add <= 4 {
            size = 4;
            while size <= last {
                table[at] = [half(Action::Add, add), half(Action::Copy(mode), size)];
                at += 1;
                size += 1;
            }
            add += 1;
        }
        mode += 1;
    }
    mode = 0;
    while mode < MODES {
        table[at] = [half(Action::Copy(mode), 4), half(Action::Add, 1)];
        at += 1;
        mode += 1;
    }
    table
}

/// The addresses that both sides remember, from the start of a window on.
#[derive(Debug)]
pub(super) struct AddressCache {
    near: [u64; NEAR],
    next: usize,
    same: Box<[u64; SAME]>,
}

/// How an address is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spelling {
    /// As a number.
    Number(u64),
    /// As one byte.
    Byte(u8),
}

impl AddressCache {
    pub(super) fn new() -> Self {
        Self { near: [0; NEAR], next: 0, same: Box::new([0; SAME]) }
    }

    /// Forgets all addresses: at the start of a window.
    pub(super) fn reset(&mut self) {
        self.near = [0; NEAR];
        self.next = 0;
        self.same.fill(0);
    }

    /// The address that a number in one of the first six modes means; `None` where it is before the segment, or over 64 bits.
    pub(super) fn address(&self, mode: u8, number: u64, here: u64) -> Option<u64> {
        match mode {
            MODE_SELF => Some(number),
            MODE_HERE => here.checked_sub(number),
            _ => self.near.get(usize::from(mode.checked_sub(MODE_NEAR)?))?.checked_add(number),
        }
    }

    /// Whether the mode has one byte instead of a number.
    pub(super) fn is_byte(mode: u8) -> bool {
        mode >= MODE_SAME
    }

    /// The address that a byte in one of the last three modes means.
    pub(super) fn same(&self, mode: u8, byte: u8) -> u64 {
        let row = usize::from(mode.saturating_sub(MODE_SAME));
        self.same.get(row * 256 + usize::from(byte)).copied().unwrap_or_default()
    }

    /// Remembers the address of a copy.
    pub(super) fn remember(&mut self, address: u64) {
        if let Some(place) = self.near.get_mut(self.next) {
            *place = address;
        }
        self.next = (self.next + 1) % NEAR;
        // The remainder is below `SAME`.
        if let Some(place) = self.same.get_mut((address % SAME as u64) as usize) {
            *place = address;
        }
    }

    /// The shortest way to write an address, and its mode. The address is remembered.
    pub(super) fn spell(&mut self, address: u64, here: u64) -> (u8, Spelling) {
        let slot = (address % SAME as u64) as usize;
        let found = if self.same.get(slot) == Some(&address) {
            (MODE_SAME + (slot / 256) as u8, Spelling::Byte((slot % 256) as u8))
        } else {
            let mut best = (MODE_SELF, address);
            let mut consider = |mode: u8, number: u64| {
                // Of numbers of one length the mode that stands first, so that fewer opcodes are in use.
                if super::varint::length(number) < super::varint::length(best.1) {
                    best = (mode, number);
                }
            };
            for (mode, near) in (MODE_NEAR..).zip(self.near) {
                if let Some(number) = address.checked_sub(near) {
                    consider(mode, number);
                }
            }
            consider(MODE_HERE, here.saturating_sub(address));
            (best.0, Spelling::Number(best.1))
        };
        self.remember(address);
        found
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn code_table_has_the_entries_of_the_rfc() {
        let entry = |index: usize| CODE_TABLE[index];
        assert_eq!(entry(0), [half(Action::Run, 0), NOTHING]);
        assert_eq!(entry(1), [half(Action::Add, 0), NOTHING]);
        assert_eq!(entry(18), [half(Action::Add, 17), NOTHING]);
        assert_eq!(entry(19), [half(Action::Copy(0), 0), NOTHING]);
        assert_eq!(entry(162), [half(Action::Copy(8), 18), NOTHING]);
        assert_eq!(entry(163), [half(Action::Add, 1), half(Action::Copy(0), 4)]);
        assert_eq!(entry(234), [half(Action::Add, 4), half(Action::Copy(5), 6)]);
        assert_eq!(entry(235), [half(Action::Add, 1), half(Action::Copy(6), 4)]);
        assert_eq!(entry(246), [half(Action::Add, 4), half(Action::Copy(8), 4)]);
        assert_eq!(entry(247), [half(Action::Copy(0), 4), half(Action::Add, 1)]);
        assert_eq!(entry(255), [half(Action::Copy(8), 4), half(Action::Add, 1)]);
    }

    #[test]
    fn spelled_address_is_understood() {
        let (mut writer, mut reader) = (AddressCache::new(), AddressCache::new());
        let mut here = 1 << 20;
        for address in [0, 5, 1 << 19, (1 << 19) + 77, 5, (1 << 20) - 3, 768, 0, 5] {
            let (mode, spelling) = writer.spell(address, here);
            let found = match spelling {
                Spelling::Byte(byte) => Some(reader.same(mode, byte)),
                Spelling::Number(number) => reader.address(mode, number, here),
            };
            assert_eq!(found, Some(address));
            reader.remember(address);
            here += 10;
        }
    }
}
