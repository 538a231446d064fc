//! The record of what calls leave out, for callers of C: a handle that a monitor names, and that is read at any time.

use lxd_image::{Monitor, Omissions, Omitted};

use crate::about::index_out_of_range;
use crate::args::{self, versioned};
use crate::error::{call, free, lxi_error};
use crate::handle::{self, handles};
use crate::types::*;

/// A record of what calls leave out, change, default or cannot honour. Name it in the `lxi_monitor` of one call or of
/// many, also of several threads at the same time; also a call that fails records what it left out until then.
pub struct lxi_omissions {
    _opaque: (),
}

/// The kind of an omission: LXI_OMISSION_….
pub type lxi_omission_kind = u32;
/// A value that this version of the list does not know.
pub const LXI_OMISSION_OTHER: lxi_omission_kind = 0;
/// A device node, not created: not permitted here, or not wanted.
pub const LXI_OMISSION_DEVICE: lxi_omission_kind = 1;
/// The owner, left as the caller's own: only root can give files away.
pub const LXI_OMISSION_OWNER: lxi_omission_kind = 2;
/// Setuid and setgid bits, left off because the owner is not the image's.
pub const LXI_OMISSION_SET_ID: lxi_omission_kind = 3;
/// An extended attribute.
pub const LXI_OMISSION_XATTR: lxi_omission_kind = 4;
/// The modification time, which the file system would not take.
pub const LXI_OMISSION_TIME: lxi_omission_kind = 5;
/// The whole entry, which stands at the top of the archive and is not part of an image.
pub const LXI_OMISSION_STRAY: lxi_omission_kind = 6;
/// The whole object.
pub const LXI_OMISSION_SKIPPED: lxi_omission_kind = 7;
/// One part of the object: an alias, a property, an attribute of a set.
pub const LXI_OMISSION_DROPPED: lxi_omission_kind = 8;
/// A value that was out of range; another one stands in its place.
pub const LXI_OMISSION_CLAMPED: lxi_omission_kind = 9;
/// A value that was missing; another one was used.
pub const LXI_OMISSION_DEFAULTED: lxi_omission_kind = 10;
/// Something that the caller asked for and that had no effect.
pub const LXI_OMISSION_NOT_HONOURED: lxi_omission_kind = 11;
/// The whole object, which was there before and had to go.
pub const LXI_OMISSION_REMOVED: lxi_omission_kind = 12;

/// How much was left out; filled by `lxi_omissions_get`. Set `size` to `sizeof(lxi_omissions_info)` before.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct lxi_omissions_info {
    /// The size of this structure in bytes, set by the caller.
    pub size: usize,
    /// How many things were left out in all; 0 if nothing was.
    pub total: u64,
    /// How many of them `lxi_omissions_at` tells of: the first 1,000.
    pub listed: usize,
    /// How many kinds of them `lxi_omissions_kind_at` counts.
    pub kinds: usize,
}

/// One thing that was left out; filled by `lxi_omissions_at`. Set `size` to `sizeof(lxi_omission)` before.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct lxi_omission {
    /// The size of this structure in bytes, set by the caller.
    pub size: usize,
    /// The object: for a member of an image its path below the root file system (LXI_OMISSION_STRAY: below the
    /// archive's top), for an image its fingerprint or name, for an entry of a list its name there. Any bytes, not
    /// escaped; empty for the call itself.
    pub path: lxi_bytes,
    /// What was left out of it.
    pub kind: lxi_omission_kind,
    /// The same and why in words, without the path. Safe to print on a terminal.
    pub text: lxi_str,
}

/// A record, and what was last asked of it with the texts that C may look at.
pub struct OmissionRecord {
    monitor: Monitor,
    seen: Omissions,
    texts: Vec<String>,
}

versioned!(lxi_omissions_info, lxi_omission);
handles! { lxi_omissions(23) = OmissionRecord; }

impl OmissionRecord {
    /// A monitor that records here.
    pub(crate) fn monitor(&self) -> Monitor {
        self.monitor.clone()
    }
}

fn code(what: &Omitted) -> lxi_omission_kind {
    match what {
        Omitted::Device => LXI_OMISSION_DEVICE,
        Omitted::Owner => LXI_OMISSION_OWNER,
        Omitted::SetId => LXI_OMISSION_SET_ID,
        Omitted::Xattr(_) => LXI_OMISSION_XATTR,
        Omitted::Time => LXI_OMISSION_TIME,
        Omitted::Stray => LXI_OMISSION_STRAY,
        Omitted::Skipped { .. } => LXI_OMISSION_SKIPPED,
        Omitted::Dropped { .. } => LXI_OMISSION_DROPPED,
        Omitted::Clamped { .. } => LXI_OMISSION_CLAMPED,
        Omitted::Defaulted { .. } => LXI_OMISSION_DEFAULTED,
        Omitted::NotHonoured { .. } => LXI_OMISSION_NOT_HONOURED,
        Omitted::Removed { .. } => LXI_OMISSION_REMOVED,
        _ => LXI_OMISSION_OTHER,
    }
}

/// Makes an empty record.
///
/// Owner: the caller, who frees it with `lxi_omissions_free` after the calls that it was given to. Threads: any.
/// Errors: LXI_INVALID_INPUT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_omissions_new(
    omissions: *mut *mut lxi_omissions,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let record = OmissionRecord { monitor: Monitor::none(), seen: Omissions::default(), texts: Vec::new() };
        args::out_handle(omissions, "omissions")?.set(handle::make(record));
        Ok(())
    })
}

/// Looks at what was recorded so far, and fills `info` with how much it is. `lxi_omissions_at` and
/// `lxi_omissions_kind_at` tell of what was there at this call; what they gave before is no longer valid.
///
/// Threads: one at a time, while no call that is given the record begins; calls that go on already do not matter.
/// Errors: LXI_INVALID_INPUT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_omissions_get(
    omissions: *mut lxi_omissions,
    info: *mut lxi_omissions_info,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let record = handle::get_mut(omissions)?;
        let seen = record.monitor.omissions();
        let filled =
            lxi_omissions_info { size: 0, total: seen.total(), listed: seen.iter().len(), kinds: seen.counts().len() };
        // What was given before stays valid if this fails.
        args::fill(info, &filled)?;
        record.texts = seen.iter().map(|one| one.what.to_string()).collect();
        record.seen = seen;
        Ok(())
    })
}

/// Fills `omission` with one thing that was left out, with an index from 0, in the order in which they were met. None
/// is there before `lxi_omissions_get`.
///
/// Owner: path and text belong to `omissions`. Threads: any, while nobody calls `lxi_omissions_get`. Errors:
/// LXI_NOT_FOUND for an index past the end.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_omissions_at(
    omissions: *const lxi_omissions,
    index: usize,
    omission: *mut lxi_omission,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let record = handle::get(omissions)?;
        let found = record.seen.iter().as_slice().get(index).zip(record.texts.get(index));
        let (found, text) = found.ok_or_else(|| index_out_of_range(index, "omission"))?;
        args::fill(
            omission,
            &lxi_omission {
                size: 0,
                path: lxi_bytes::of(&found.path),
                kind: code(&found.what),
                text: lxi_str::of(text),
            },
        )
    })
}

/// A kind of omissions, with an index from 0, sorted by text: the text of `lxi_omission`, and how many there were of
/// it in all. None is there before `lxi_omissions_get`.
///
/// Owner: the text belongs to `omissions`. Threads: any, while nobody calls `lxi_omissions_get`. Errors: LXI_NOT_FOUND
/// for an index past the end.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_omissions_kind_at(
    omissions: *const lxi_omissions,
    index: usize,
    text: *mut lxi_str,
    count: *mut u64,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let (text, count) = (args::out_str(text, "text")?, args::out(count, 0, "count")?);
        let found = handle::get(omissions)?.seen.counts().iter().nth(index);
        let (kind, number) = found.ok_or_else(|| index_out_of_range(index, "kind of omissions"))?;
        text.set(lxi_str::of(kind));
        count.set(*number);
        Ok(())
    })
}

/// Frees a record; NULL is allowed.
///
/// Threads: any, the record being no longer used. Errors: LXI_INVALID_INPUT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_omissions_free(omissions: *mut lxi_omissions) -> lxi_status {
    free(omissions)
}
