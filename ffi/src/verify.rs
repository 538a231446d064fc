//! Verifying: all of an image read, decoded and judged, its entries shown on the way.

use std::ffi::c_void;

use lxd_image::format::{Entry, EntryKind, VerifyOptions, VerifyReport};
use lxd_image::{Fingerprint, Monitor, Result};

use crate::about::index_out_of_range;
use crate::args::{self, versioned};
use crate::error::{Report, call, free, lxi_error, lxi_error_info};
use crate::handle::{self, handles};
use crate::image::lxi_image;
use crate::metadata::lxi_metadata;
use crate::monitor::{lxi_monitor, monitor_from};
use crate::stream::failed;
use crate::types::*;

/// How an image is verified. NULL, or all but `size` zero: on all cores, without a monitor.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct lxi_verify_options {
    /// The size of this structure in bytes.
    pub size: usize,
    /// How many threads decode, at most; 0 for all cores.
    pub threads: u32,
    /// LXI_VERIFY_….
    pub flags: u32,
    /// Progress, cancellation and omissions of the call, or NULL.
    pub monitor: *const lxi_monitor,
}

/// `lxi_image_survey` shows a digest of each regular file's content: equal for two files exactly when their contents
/// are. It is not the content's sha256.
pub const LXI_VERIFY_CONTENTS: u32 = 1;

/// What an entry is: LXI_ENTRY_….
pub type lxi_entry_kind = u32;
/// A value that this version of the list does not know.
pub const LXI_ENTRY_OTHER: lxi_entry_kind = 0;
/// A regular file.
pub const LXI_ENTRY_FILE: lxi_entry_kind = 1;
/// A directory.
pub const LXI_ENTRY_DIRECTORY: lxi_entry_kind = 2;
/// A symbolic link.
pub const LXI_ENTRY_SYMLINK: lxi_entry_kind = 3;
/// A further name of an entry that came earlier.
pub const LXI_ENTRY_HARD_LINK: lxi_entry_kind = 4;
/// A character device.
pub const LXI_ENTRY_CHAR_DEVICE: lxi_entry_kind = 5;
/// A block device.
pub const LXI_ENTRY_BLOCK_DEVICE: lxi_entry_kind = 6;
/// A named pipe.
pub const LXI_ENTRY_FIFO: lxi_entry_kind = 7;
/// A Unix socket.
pub const LXI_ENTRY_SOCKET: lxi_entry_kind = 8;

/// An extended attribute.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct lxi_xattr {
    /// Its full name, such as `security.capability`.
    pub name: lxi_bytes,
    /// Its value.
    pub value: lxi_bytes,
}

/// One member of the root file system. Lives, with all that it points to, as long as the callback runs.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct lxi_entry {
    /// The size of this structure in bytes, set by the library.
    pub size: usize,
    /// Path below the root: components joined by `/`, no slash at either end; empty for the root itself. Bytes.
    pub path: lxi_bytes,
    /// Where a symbolic link points, as it stands there, or the path of the entry that a hard link names.
    pub target: lxi_bytes,
    /// What it is.
    pub kind: lxi_entry_kind,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Of a file: its logical size in bytes.
    pub bytes: u64,
    /// Time of the last change of content: seconds since 1970, rounded down.
    pub mtime: i64,
    /// And nanoseconds after that second.
    pub mtime_nanoseconds: u32,
    /// Of a device: the driver.
    pub major: u32,
    /// Of a device: the device of that driver.
    pub minor: u32,
    /// Whether `content` is set.
    pub has_content: bool,
    /// A digest of a file's content, with LXI_VERIFY_CONTENTS.
    pub content: lxi_fingerprint,
    /// Extended attributes.
    pub xattrs: *const lxi_xattr,
    /// How many.
    pub xattrs_len: usize,
}

/// Takes an entry. LXI_OK goes on; any other status ends the call with it. Called on the caller's thread. Must not
/// unwind or jump out.
pub type lxi_entry_fn = Option<unsafe extern "C" fn(user: *mut c_void, entry: *const lxi_entry) -> lxi_status>;

/// What reading a whole image showed. Read-only, so it may be shared between threads.
pub struct lxi_verify_report {
    _opaque: (),
}

/// What reading a whole image showed; filled by `lxi_verify_report_get`. Set `size` to `sizeof(lxi_verify_info)`
/// before.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct lxi_verify_info {
    /// The size of this structure in bytes, set by the caller.
    pub size: usize,
    /// The fingerprint of the bytes as stored. Compare it with the one that is expected.
    pub fingerprint: lxi_fingerprint,
    /// Container or virtual machine.
    pub image_type: lxi_image_type,
    /// Whether the metadata can be read: `lxi_verify_report_metadata`. What is wrong with it is among the findings.
    pub has_metadata: bool,
    /// Whether it has a disk, and the next two say something.
    pub has_disk: bool,
    /// The size that a machine sees, in bytes.
    pub disk_virtual_size: u64,
    /// Internal snapshots of the disk.
    pub disk_snapshots: u32,
    /// The size of all files of the image in bytes.
    pub bytes: u64,
    /// Regular files in the root file system.
    pub files: u64,
    /// Directories that are members.
    pub directories: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// Further names of files.
    pub hard_links: u64,
    /// Character and block devices.
    pub devices: u64,
    /// Named pipes and sockets.
    pub others: u64,
    /// Logical bytes of all regular files.
    pub content_bytes: u64,
    /// How many names there are in `templates/`: `lxi_verify_report_template_at`.
    pub templates: usize,
    /// How many members stand at the archive's top that no image has: `lxi_verify_report_stray_at`.
    pub strays: usize,
    /// How many rules the image breaks: `lxi_verify_report_finding_at`. A sound image has none.
    pub findings: usize,
}

/// A verification with the texts that C may look at.
pub struct VerifyReportView {
    verification: VerifyReport,
    findings: Vec<Report>,
}

versioned!(lxi_verify_options, lxi_verify_info);
handles! { lxi_verify_report(8) = VerifyReportView; }

/// The options of a call, whether contents are wanted, and its monitor.
pub(crate) unsafe fn verify_options(pointer: *const lxi_verify_options) -> Result<(VerifyOptions, bool, Monitor)> {
    let given = args::options(pointer)?;
    let flags = args::flags(given.flags, LXI_VERIFY_CONTENTS, "flags of verifying")?;
    let mut options = VerifyOptions::new();
    if given.threads > 0 {
        options = options.threads(threads(given.threads));
    }
    Ok((options, flags != 0, monitor_from(given.monitor)?))
}

/// More threads than this only cost memory.
pub(crate) fn threads(given: u32) -> usize {
    usize::try_from(given.min(1024)).unwrap_or(1)
}

fn verified(mut verification: VerifyReport) -> *mut lxi_verify_report {
    let findings = std::mem::take(&mut verification.findings).into_iter().map(Report::new).collect();
    handle::make(VerifyReportView { verification, findings })
}

/// Reads and decodes all of the image and checks every member. Rules that single members break are findings of the
/// result; damage to the archive itself is an error. `options` may be NULL.
///
/// Owner: the caller, who frees the result with `lxi_verify_report_free`. Threads: any. Errors: LXI_MALFORMED,
/// LXI_LIMIT_EXCEEDED, LXI_UNSUPPORTED where reading can't go on, LXI_CANCELLED, LXI_IO.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_image_verify(
    image: *const lxi_image,
    options: *const lxi_verify_options,
    verification: *mut *mut lxi_verify_report,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let verification = args::out_handle(verification, "verification")?;
        let (options, _, monitor) = verify_options(options)?;
        verification.set(verified(handle::get(image)?.verify(&options, &monitor)?));
        Ok(())
    })
}

/// As `lxi_image_verify`, and shows every member of the root file system on the way to `show`, which gets `user`.
/// Members that break a rule are findings and not shown; the disk of a virtual machine is not one. `verification` may
/// be NULL.
///
/// Owner: the caller, who frees the result with `lxi_verify_report_free`. Threads: any. Errors: as `lxi_image_verify`,
/// and what `show` returns.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_image_survey(
    image: *const lxi_image,
    options: *const lxi_verify_options,
    show: lxi_entry_fn,
    user: *mut c_void,
    verification: *mut *mut lxi_verify_report,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = args::optional_out_handle(verification, "verification")?;
        let show = show.ok_or_else(|| args::invalid("the callback for entries is NULL"))?;
        let image = handle::get(image)?;
        let (options, contents, monitor) = verify_options(options)?;
        let mut take = |entry: &Entry, digest: Option<&Fingerprint>| {
            let xattrs: Vec<_> = entry
                .xattrs
                .iter()
                .map(|(name, value)| lxi_xattr { name: lxi_bytes::of(name), value: lxi_bytes::of(value) })
                .collect();
            let entry = entry_of(entry, digest, &xattrs);
            match show(user, &raw const entry) {
                LXI_OK => Ok(()),
                status => Err(failed(status, "entry")),
            }
        };
        let done = if contents {
            image.survey_contents(&options, &monitor, &mut take)
        } else {
            image.survey(&options, &monitor, &mut take)
        }?;
        if let Some(place) = place {
            place.set(verified(done));
        }
        Ok(())
    })
}

fn entry_of(entry: &Entry, digest: Option<&Fingerprint>, xattrs: &[lxi_xattr]) -> lxi_entry {
    let mut shown = lxi_entry {
        size: size_of::<lxi_entry>(),
        path: lxi_bytes::of(&entry.path),
        target: lxi_bytes::EMPTY,
        kind: LXI_ENTRY_OTHER,
        mode: entry.mode,
        uid: entry.uid,
        gid: entry.gid,
        bytes: 0,
        mtime: entry.mtime.seconds,
        mtime_nanoseconds: entry.mtime.nanoseconds,
        major: 0,
        minor: 0,
        has_content: digest.is_some(),
        content: digest.map_or(lxi_fingerprint::NONE, |digest| (*digest).into()),
        xattrs: xattrs.as_ptr(),
        xattrs_len: xattrs.len(),
    };
    shown.kind = match &entry.kind {
        EntryKind::File { size } => {
            shown.bytes = *size;
            LXI_ENTRY_FILE
        }
        EntryKind::Directory => LXI_ENTRY_DIRECTORY,
        EntryKind::Symlink { target } => {
            shown.target = lxi_bytes::of(target);
            LXI_ENTRY_SYMLINK
        }
        EntryKind::HardLink { target } => {
            shown.target = lxi_bytes::of(target);
            LXI_ENTRY_HARD_LINK
        }
        EntryKind::CharDevice(number) | EntryKind::BlockDevice(number) => {
            (shown.major, shown.minor) = (number.major, number.minor);
            if matches!(entry.kind, EntryKind::CharDevice(_)) { LXI_ENTRY_CHAR_DEVICE } else { LXI_ENTRY_BLOCK_DEVICE }
        }
        EntryKind::Fifo => LXI_ENTRY_FIFO,
        EntryKind::Socket => LXI_ENTRY_SOCKET,
        _ => LXI_ENTRY_OTHER,
    };
    shown
}

/// Fills `info` with what reading the image showed.
///
/// Threads: any. Errors: LXI_INVALID_INPUT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_verify_report_get(
    verification: *const lxi_verify_report,
    info: *mut lxi_verify_info,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let VerifyReportView { verification, findings } = handle::get(verification)?;
        let counts = &verification.counts;
        args::fill(
            info,
            &lxi_verify_info {
                size: 0,
                fingerprint: verification.fingerprint.into(),
                image_type: image_type(verification.image_type),
                has_metadata: verification.metadata.is_some(),
                has_disk: verification.disk.is_some(),
                disk_virtual_size: verification.disk.as_ref().map_or(0, |disk| disk.virtual_size),
                disk_snapshots: verification.disk.as_ref().map_or(0, |disk| disk.snapshots),
                bytes: verification.size,
                files: counts.files,
                directories: counts.directories,
                symlinks: counts.symlinks,
                hard_links: counts.hard_links,
                devices: counts.devices,
                others: counts.others,
                content_bytes: counts.bytes,
                templates: verification.templates.len(),
                strays: verification.strays.len(),
                findings: findings.len(),
            },
        )
    })
}

/// A copy of the image's metadata.
///
/// Owner: the caller, who frees it with `lxi_metadata_free`. Threads: any. Errors: LXI_NOT_FOUND when it can't be read.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_verify_report_metadata(
    verification: *const lxi_verify_report,
    metadata: *mut *mut lxi_metadata,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let metadata = args::out_handle(metadata, "metadata")?;
        let found = handle::get(verification)?.verification.metadata.clone();
        let found = found.ok_or_else(|| {
            lxd_image::Error::new(lxd_image::ErrorKind::NotFound, "the image has no metadata that can be read")
        })?;
        metadata.set(handle::make(found));
        Ok(())
    })
}

/// A name in `templates/`, sorted, with an index from 0.
///
/// Owner: the bytes belong to the verification. Threads: any. Errors: LXI_NOT_FOUND for an index past the end.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_verify_report_template_at(
    verification: *const lxi_verify_report,
    index: usize,
    name: *mut lxi_bytes,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let name = args::out(name, lxi_bytes::EMPTY, "name")?;
        let names = &handle::get(verification)?.verification.templates;
        name.set(lxi_bytes::of(names.get(index).ok_or_else(|| index_out_of_range(index, "template"))?));
        Ok(())
    })
}

/// A member at the archive's top that no image has, with an index from 0.
///
/// Owner: the bytes belong to the verification. Threads: any. Errors: LXI_NOT_FOUND for an index past the end.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_verify_report_stray_at(
    verification: *const lxi_verify_report,
    index: usize,
    path: *mut lxi_bytes,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let path = args::out(path, lxi_bytes::EMPTY, "path")?;
        let strays = &handle::get(verification)?.verification.strays;
        path.set(lxi_bytes::of(strays.get(index).ok_or_else(|| index_out_of_range(index, "stray member"))?));
        Ok(())
    })
}

/// Fills `finding` with a rule that the image breaks, with an index from 0, in the order of the archive.
///
/// Owner: the texts belong to the verification. Threads: any. Errors: LXI_NOT_FOUND for an index past the end.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_verify_report_finding_at(
    verification: *const lxi_verify_report,
    index: usize,
    finding: *mut lxi_error_info,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let findings = &handle::get(verification)?.findings;
        args::fill(finding, &findings.get(index).ok_or_else(|| index_out_of_range(index, "finding"))?.info())
    })
}

/// Frees a verification; NULL is allowed.
///
/// Threads: any, the verification being no longer used. Errors: LXI_INVALID_INPUT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_verify_report_free(verification: *mut lxi_verify_report) -> lxi_status {
    free(verification)
}
