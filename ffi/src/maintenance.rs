//! A store's upkeep: cached images that go, and checks that find and mend damage.

use std::time::Duration;

use lxd_image::store::{CheckOptions, CheckReport, Finding, PruneOptions, Pruned, Removed, Store};
use lxd_image::{Fingerprint, Monitor, Result};

use crate::about::index_out_of_range;
use crate::args::{self, versioned};
use crate::error::{call, free, lxi_error};
use crate::handle::{self, handles};
use crate::monitor::{lxi_monitor, monitor_from};
use crate::store::{lxi_store, lxi_store_options, store_options};
use crate::stored::{lxi_stored_image, stored};
use crate::types::*;

/// Which cached images go. NULL, or all but `size` zero: those that were not used for 10 days, which is what LXD does,
/// and those past their expiry date. Images that were put in the store on purpose never go.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct lxi_prune_options {
    /// The size of this structure in bytes.
    pub size: usize,
    /// LXI_PRUNE_….
    pub flags: u32,
    /// Padding; must be 0.
    pub reserved: u32,
    /// With LXI_PRUNE_UNUSED_FOR: how long an image must not have been used; with 0, only the expiry date counts.
    pub unused_for_seconds: u64,
    /// With LXI_PRUNE_MAX_BYTES: how many bytes the cached images may have; over it, the least recently used go too.
    pub max_bytes: u64,
    /// Cancellation and omissions of the call, or NULL.
    pub monitor: *const lxi_monitor,
}

/// Removes nothing, and tells what would be removed.
pub const LXI_PRUNE_DRY_RUN: u32 = 1;
/// `unused_for_seconds` is said.
pub const LXI_PRUNE_UNUSED_FOR: u32 = 2;
/// `max_bytes` is said.
pub const LXI_PRUNE_MAX_BYTES: u32 = 4;

/// Why an image was removed: LXI_REMOVED_….
pub type lxi_removed = u32;
/// A value that this version of the list does not know.
pub const LXI_REMOVED_OTHER: lxi_removed = 0;
/// Its expiry date is over.
pub const LXI_REMOVED_EXPIRED: lxi_removed = 1;
/// It was not used for too long.
pub const LXI_REMOVED_UNUSED: lxi_removed = 2;
/// The cached images had more bytes than they may, and it was among the least recently used.
pub const LXI_REMOVED_EVICTED: lxi_removed = 3;

/// What a pruning removed, or would remove. Read-only, so it may be shared between threads.
pub struct lxi_pruned {
    _opaque: (),
}

/// How a store is checked. NULL, or all but `size` zero: looks, and changes nothing.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct lxi_check_options {
    /// The size of this structure in bytes.
    pub size: usize,
    /// LXI_CHECK_….
    pub flags: u32,
    /// Padding; must be 0.
    pub reserved: u32,
    /// Progress, cancellation and omissions of the call, or NULL.
    pub monitor: *const lxi_monitor,
}

/// Puts right what is found, but for a damaged catalog: that is `lxi_store_repair`'s.
pub const LXI_CHECK_REPAIR: u32 = 1;

/// What a check found. Read-only, so it may be shared between threads.
pub struct lxi_check_report {
    _opaque: (),
}

/// What a check found; filled by `lxi_check_report_get`. Set `size` to `sizeof(lxi_check_info)` before.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct lxi_check_info {
    /// The size of this structure in bytes, set by the caller.
    pub size: usize,
    /// Images in the catalog.
    pub images: u64,
    /// Bytes that were hashed.
    pub bytes: u64,
    /// Leftovers of processes that are gone, swept on the way.
    pub swept: u64,
    /// How many findings there are: `lxi_check_report_finding_at`.
    pub findings: usize,
    /// How many of them a repair left as they are: `lxi_check_report_unrepaired_at`.
    pub unrepaired: usize,
}

/// What is not as it must be: LXI_FINDING_….
pub type lxi_finding_kind = u32;
/// A value that this version of the list does not know.
pub const LXI_FINDING_OTHER: lxi_finding_kind = 0;
/// The catalog is damaged. `lxi_store_repair` makes it anew.
pub const LXI_FINDING_CATALOG: lxi_finding_kind = 1;
/// An image's file is not there. Repairing removes the image.
pub const LXI_FINDING_MISSING: lxi_finding_kind = 2;
/// An image's bytes are not those of its fingerprint. Repairing puts the files aside and removes the image.
pub const LXI_FINDING_DAMAGED: lxi_finding_kind = 3;
/// An image's files can't be opened or read. Repairing leaves it where it is.
pub const LXI_FINDING_UNREADABLE: lxi_finding_kind = 4;
/// Files of an image that the catalog does not know. Repairing takes it in again, or puts the files aside.
pub const LXI_FINDING_UNLISTED: lxi_finding_kind = 5;
/// An image's sidecar file is not up to date. Repairing writes it.
pub const LXI_FINDING_SIDECAR: lxi_finding_kind = 6;
/// A file that no store makes. Repairing puts it aside.
pub const LXI_FINDING_STRAY: lxi_finding_kind = 7;
/// What could not be brought back when the catalog was made anew.
pub const LXI_FINDING_LOST: lxi_finding_kind = 8;
/// An image's files are whole, and the catalog has other sizes. Repairing corrects the catalog.
pub const LXI_FINDING_ROW: lxi_finding_kind = 9;

/// One finding; filled by `lxi_check_report_finding_at`. Set `size` to `sizeof(lxi_finding)` before.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct lxi_finding {
    /// The size of this structure in bytes, set by the caller.
    pub size: usize,
    /// What is not as it must be.
    pub kind: lxi_finding_kind,
    /// Whether it is about one image, which `fingerprint` names.
    pub has_fingerprint: bool,
    /// The image.
    pub fingerprint: lxi_fingerprint,
    /// The finding in words.
    pub message: lxi_str,
}

/// A report with the texts that C may look at.
pub struct CheckReportView {
    report: CheckReport,
    messages: Vec<String>,
    unrepaired: Vec<String>,
}

versioned!(lxi_prune_options since max_bytes);
versioned!(lxi_check_options, lxi_check_info, lxi_finding);
handles! {
    lxi_pruned(21) = Pruned;
    lxi_check_report(22) = CheckReportView;
}

/// Removes the cached images that `options`, which may be NULL, name, and layers of container images that were not used
/// as long. `count` gets how many images that are, `bytes` the bytes of all; they and `pruned` may be NULL.
///
/// Owner: the caller, who frees the result with `lxi_pruned_free`. Threads: any. Errors: LXI_MALFORMED when the
/// catalog is damaged or the blobs are not there, LXI_BUSY, LXI_CANCELLED, LXI_IO. What was removed before stays so.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_store_prune(
    store: *const lxi_store,
    options: *const lxi_prune_options,
    pruned: *mut *mut lxi_pruned,
    count: *mut usize,
    bytes: *mut u64,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = args::optional_out_handle(pruned, "pruned")?;
        let count = args::optional_out(count, 0, "count")?;
        let bytes = args::optional_out(bytes, 0, "bytes")?;
        let store = handle::get(store)?;
        let given = args::options(options)?;
        let flags = args::flags(given.flags, 7, "flags of pruning")?;
        args::flags(given.reserved, 0, "reserved bits of pruning")?;
        let monitor = monitor_from(given.monitor)?;
        let mut options = if flags & LXI_PRUNE_UNUSED_FOR == 0 {
            PruneOptions::default()
        } else {
            PruneOptions::unused_for(Duration::from_secs(given.unused_for_seconds))
        };
        if flags & LXI_PRUNE_MAX_BYTES != 0 {
            options = options.max_bytes(given.max_bytes);
        }
        let done = store.prune(&options.dry_run(flags & LXI_PRUNE_DRY_RUN != 0), &monitor)?;
        if let Some(count) = count {
            count.set(done.images.len());
        }
        if let Some(bytes) = bytes {
            bytes.set(done.bytes);
        }
        if let Some(place) = place {
            place.set(handle::make(done));
        }
        Ok(())
    })
}

/// An image that was removed, or would be, with an index from 0, and why (`reason` may be NULL).
///
/// Owner: the caller, who frees the image with `lxi_stored_image_free`. Threads: any. Errors: LXI_NOT_FOUND past the
/// last one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_pruned_at(
    pruned: *const lxi_pruned,
    index: usize,
    image: *mut *mut lxi_stored_image,
    reason: *mut lxi_removed,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = args::out_handle(image, "image")?;
        let reason = args::optional_out(reason, LXI_REMOVED_OTHER, "reason")?;
        let found = handle::get(pruned)?.images.get(index).ok_or_else(|| index_out_of_range(index, "image"))?;
        if let Some(reason) = reason {
            reason.set(match found.1 {
                Removed::Expired => LXI_REMOVED_EXPIRED,
                Removed::Unused => LXI_REMOVED_UNUSED,
                Removed::Evicted => LXI_REMOVED_EVICTED,
                _ => LXI_REMOVED_OTHER,
            });
        }
        place.set(stored(found.0.clone()));
        Ok(())
    })
}

/// Frees the result of pruning; NULL is allowed.
///
/// Threads: any, the handle being no longer used. Errors: LXI_INVALID_INPUT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_pruned_free(pruned: *mut lxi_pruned) -> lxi_status {
    free(pruned)
}

unsafe fn check_options(pointer: *const lxi_check_options) -> Result<(CheckOptions, Monitor)> {
    let given = args::options(pointer)?;
    let flags = args::flags(given.flags, LXI_CHECK_REPAIR, "flags of checking")?;
    args::flags(given.reserved, 0, "reserved bits of checking")?;
    Ok((CheckOptions::new().repair(flags != 0), monitor_from(given.monitor)?))
}

fn found(report: CheckReport) -> *mut lxi_check_report {
    let messages = report.findings.iter().map(ToString::to_string).collect();
    let unrepaired = report.unrepaired.iter().map(|left| left.finding.to_string()).collect();
    handle::make(CheckReportView { report, messages, unrepaired })
}

/// Hashes every image, compares catalog and files, and sweeps leftovers. `options` may be NULL.
///
/// Owner: the caller, who frees the result with `lxi_check_report_free`. Threads: any. Errors: LXI_MALFORMED when the
/// blobs are not those of this store, LXI_CANCELLED, LXI_BUSY, LXI_IO. What is damaged is no error but a finding.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_store_check(
    store: *const lxi_store,
    options: *const lxi_check_options,
    report: *mut *mut lxi_check_report,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = args::out_handle(report, "report")?;
        let (options, monitor) = check_options(options)?;
        place.set(found(handle::get(store)?.check(&options, &monitor)?));
        Ok(())
    })
}

/// Checks the store at `path` and repairs what it can, the catalog included: one that is damaged or missing is rebuilt
/// anew from the images. No other process may use the store meanwhile. `open_options` and `check_options` may be NULL.
///
/// Owner: the caller, who frees the result with `lxi_check_report_free`. Threads: any. Errors: LXI_NOT_FOUND without a
/// store, LXI_MALFORMED when the blobs are not those of this store, LXI_UNSUPPORTED for a newer layout, LXI_CANCELLED,
/// LXI_IO.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_store_repair(
    path: lxi_str,
    open_options: *const lxi_store_options,
    check_options: *const lxi_check_options,
    report: *mut *mut lxi_check_report,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = args::out_handle(report, "report")?;
        let path = args::path(path, "store's path")?;
        let (options, monitor) = self::check_options(check_options)?;
        place.set(found(Store::repair(path, &store_options(open_options)?, &options, &monitor)?));
        Ok(())
    })
}

/// Fills `info` with what a check found.
///
/// Threads: any. Errors: LXI_INVALID_INPUT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_check_report_get(
    report: *const lxi_check_report,
    info: *mut lxi_check_info,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let CheckReportView { report, .. } = handle::get(report)?;
        let told = lxi_check_info {
            size: 0,
            images: report.images,
            bytes: report.bytes,
            swept: report.swept as u64,
            findings: report.findings.len(),
            unrepaired: report.unrepaired.len(),
        };
        args::fill(info, &told)
    })
}

/// Fills `finding` with something that is not as it must be, with an index from 0.
///
/// Owner: the text belongs to the report. Threads: any. Errors: LXI_NOT_FOUND for an index past the end.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_check_report_finding_at(
    report: *const lxi_check_report,
    index: usize,
    finding: *mut lxi_finding,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let CheckReportView { report, messages, .. } = handle::get(report)?;
        let found = report.findings.get(index).zip(messages.get(index));
        let (found, message) = found.ok_or_else(|| index_out_of_range(index, "finding"))?;
        fill_finding(finding, found, message)
    })
}

/// Fills `finding` with one of those that a repair left as they are, with an index from 0, and `reason` with why.
///
/// Owner: the texts belong to the report. Threads: any. Errors: LXI_NOT_FOUND for an index past the end.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_check_report_unrepaired_at(
    report: *const lxi_check_report,
    index: usize,
    finding: *mut lxi_finding,
    reason: *mut lxi_str,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let CheckReportView { report, unrepaired, .. } = handle::get(report)?;
        let left = report.unrepaired.get(index).zip(unrepaired.get(index));
        let (left, message) = left.ok_or_else(|| index_out_of_range(index, "finding that was left"))?;
        let place = args::out_str(reason, "reason")?;
        fill_finding(finding, &left.finding, message)?;
        place.set(lxi_str::of(&left.reason));
        Ok(())
    })
}

/// # Safety
/// That of [`args::fill`].
unsafe fn fill_finding(place: *mut lxi_finding, found: &Finding, message: &str) -> Result<()> {
    let (kind, fingerprint) = kind_of(found);
    let told = lxi_finding {
        size: 0,
        kind,
        has_fingerprint: fingerprint.is_some(),
        fingerprint: fingerprint.map_or(lxi_fingerprint::NONE, |of| (*of).into()),
        message: lxi_str::of(message),
    };
    // SAFETY: the caller's promise.
    unsafe { args::fill(place, &told) }
}

fn kind_of(found: &Finding) -> (lxi_finding_kind, Option<&Fingerprint>) {
    match found {
        Finding::Catalog { .. } => (LXI_FINDING_CATALOG, None),
        Finding::Missing { fingerprint: of, .. } => (LXI_FINDING_MISSING, Some(of)),
        Finding::Damaged { fingerprint: of, .. } => (LXI_FINDING_DAMAGED, Some(of)),
        Finding::Unreadable { fingerprint: of, .. } => (LXI_FINDING_UNREADABLE, Some(of)),
        Finding::Row { fingerprint: of } => (LXI_FINDING_ROW, Some(of)),
        Finding::Unlisted { fingerprint: of } => (LXI_FINDING_UNLISTED, Some(of)),
        Finding::Sidecar { fingerprint: of } => (LXI_FINDING_SIDECAR, Some(of)),
        Finding::Stray { .. } => (LXI_FINDING_STRAY, None),
        Finding::Lost { .. } => (LXI_FINDING_LOST, None),
        _ => (LXI_FINDING_OTHER, None),
    }
}

/// Frees a report; NULL is allowed.
///
/// Threads: any, the report being no longer used. Errors: LXI_INVALID_INPUT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_check_report_free(report: *mut lxi_check_report) -> lxi_status {
    free(report)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finding_of_a_row_has_a_kind_of_its_own() {
        let image = Fingerprint::of(b"image");
        assert_eq!(kind_of(&Finding::Row { fingerprint: image }), (LXI_FINDING_ROW, Some(&image)));
    }
}
