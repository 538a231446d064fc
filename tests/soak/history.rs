//! Whether what readers saw agrees with what writers were told.
//!
//! Each alias, and the presence of each image, is a register. A read may return the value of any write that
//! began before the read ended, and that was not certainly replaced before the read began: by a write that
//! was acknowledged before then, and began after the first one was over. The rule is necessary for a
//! history to be linearizable, needs no search, and finds each lost write and each stale read.

use std::collections::BTreeMap;

/// The end of what may take effect at any later time.
pub(crate) const NEVER: u64 = u64::MAX;

/// A write of a register. Times are nanoseconds of a clock that all writers share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Write {
    /// What it wrote; `None` is absence.
    pub(crate) value: Option<String>,
    pub(crate) begin: u64,
    /// When it had taken effect at the latest, if it did.
    pub(crate) end: u64,
    /// Whether it certainly took effect.
    pub(crate) acknowledged: bool,
}

/// A read of a register.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Read {
    pub(crate) value: Option<String>,
    pub(crate) begin: u64,
    pub(crate) end: u64,
}

/// All that happened to one register, which is absent at first.
#[derive(Debug, Default)]
pub(crate) struct Register {
    pub(crate) writes: Vec<Write>,
    pub(crate) reads: Vec<Read>,
}

impl Register {
    /// The reads that no write explains.
    pub(crate) fn violations(&self) -> Vec<&Read> {
        // When the last acknowledged write began of those that ended before a time.
        let mut acknowledged: Vec<(u64, u64)> =
            self.writes.iter().filter(|write| write.acknowledged).map(|write| (write.end, write.begin)).collect();
        acknowledged.sort_unstable();
        let mut latest = 0;
        for (_, begin) in &mut acknowledged {
            latest = latest.max(*begin);
            *begin = latest;
        }
        // Of the writes of one value in the order of their begins: the latest end so far.
        let mut of_value: BTreeMap<&Option<String>, Vec<(u64, u64)>> = BTreeMap::from([(&None, vec![(0, 0)])]);
        for write in &self.writes {
            of_value.entry(&write.value).or_default().push((write.begin, write.end));
        }
        for writes in of_value.values_mut() {
            writes.sort_unstable();
            let mut latest = 0;
            for (_, end) in writes {
                latest = latest.max(*end);
                *end = latest;
            }
        }
        let explained = |read: &&Read| {
            let replaced = acknowledged.partition_point(|(end, _)| *end < read.begin);
            let since = replaced.checked_sub(1).map_or(0, |last| acknowledged[last].1);
            let Some(writes) = of_value.get(&read.value) else { return false };
            let begun = writes.partition_point(|(begin, _)| *begin < read.end);
            begun.checked_sub(1).is_some_and(|last| writes[last].1 >= since)
        };
        self.reads.iter().filter(|read| !explained(read)).collect()
    }
}

fn write(value: &str, begin: u64, end: u64) -> Write {
    Write { value: Some(value.to_owned()), begin, end, acknowledged: true }
}

fn removal(begin: u64, end: u64) -> Write {
    Write { value: None, ..write("", begin, end) }
}

fn unanswered(write: Write, end: u64) -> Write {
    Write { end, acknowledged: false, ..write }
}

/// How many reads of a history are wrong. A value `-` is absence.
fn wrong(writes: &[Write], reads: &[(&str, u64, u64)]) -> usize {
    let read = |(value, begin, end): &(&str, u64, u64)| Read {
        value: (*value != "-").then(|| (*value).to_owned()),
        begin: *begin,
        end: *end,
    };
    Register { writes: writes.to_vec(), reads: reads.iter().map(read).collect() }.violations().len()
}

#[test]
fn read_sees_the_last_acknowledged_write() {
    assert_eq!(wrong(&[write("a", 1, 2), write("b", 3, 4)], &[("b", 5, 6)]), 0);
}

#[test]
fn stale_read_is_found() {
    assert_eq!(wrong(&[write("a", 1, 2), write("b", 3, 4)], &[("a", 5, 6)]), 1);
}

#[test]
fn lost_write_is_found() {
    assert_eq!(wrong(&[write("a", 1, 2)], &[("-", 3, 4)]), 1);
}

#[test]
fn removed_value_that_is_seen_again_is_found() {
    assert_eq!(wrong(&[write("a", 1, 2), removal(3, 4)], &[("a", 5, 6)]), 1);
}

#[test]
fn value_that_nobody_wrote_is_found() {
    assert_eq!(wrong(&[write("a", 1, 2)], &[("c", 3, 4)]), 1);
}

#[test]
fn read_from_the_future_is_found() {
    assert_eq!(wrong(&[write("a", 5, 6)], &[("a", 1, 2)]), 1);
}

#[test]
fn overlapping_read_sees_either_value() {
    assert_eq!(wrong(&[write("a", 1, 2), write("b", 3, 6)], &[("a", 4, 5), ("b", 4, 5)]), 0);
}

#[test]
fn overlapping_writes_leave_either_value() {
    assert_eq!(wrong(&[write("a", 1, 5), write("b", 2, 4)], &[("a", 6, 7), ("b", 6, 7)]), 0);
}

#[test]
fn unanswered_write_is_seen_or_not() {
    let writes = [write("a", 1, 2), unanswered(write("b", 3, 3), NEVER)];
    assert_eq!(wrong(&writes, &[("a", 5, 6), ("b", 7, 8), ("b", 9, 10)]), 0);
}

#[test]
fn unanswered_write_does_not_replace_what_was_acknowledged_after_it() {
    let writes = [unanswered(write("a", 1, 1), 3), write("b", 4, 5)];
    assert_eq!(wrong(&writes, &[("a", 6, 7)]), 1);
}

#[test]
fn unanswered_removal_of_long_ago_explains_no_loss() {
    let writes = [unanswered(removal(1, 1), 3), write("a", 4, 5)];
    assert_eq!(wrong(&writes, &[("-", 6, 7)]), 1);
}

#[test]
fn register_is_absent_before_the_first_write() {
    assert_eq!(wrong(&[write("a", 3, 4)], &[("-", 1, 2), ("-", 3, 4), ("-", 5, 6)]), 1);
}
