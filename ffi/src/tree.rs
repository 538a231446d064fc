//! Static trees: directories that any web server turns into an image server.

use std::ffi::c_void;
use std::time::Duration;

use lxd_image::Fingerprint;
use lxd_image::protocol::simplestreams::StreamImage;
use lxd_image::simplestreams::{
    AddOptions, PruneOptions, PrunedTree, Tree, TreeOptions, TreeReport, TreeVerifyOptions,
};

use crate::about::{PropertyOut, index_out_of_range};
use crate::args::{self, versioned};
use crate::error::{Report, call, free, lxi_error, lxi_error_info};
use crate::handle::{self, handles};
use crate::limits::{limits_or_default, lxi_limits};
use crate::monitor::{lxi_monitor, monitor_from};
use crate::store::{Clock, lxi_clock_fn};
use crate::stream::{lxi_input, source};
use crate::types::*;
use crate::verify::threads;

/// A directory in simplestreams layout. Any number of processes may read it, one at a time writes it, and any number of
/// threads may use one handle.
pub struct lxi_tree {
    _opaque: (),
}

/// What a tree listed. Read-only, so it may be shared between threads.
pub struct lxi_tree_listing {
    _opaque: (),
}

/// What a verification of a tree found. Read-only, so it may be shared between threads.
pub struct lxi_tree_report {
    _opaque: (),
}

/// How a tree is opened. NULL, or all but `size` zero: one that is there, with the default limits.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct lxi_tree_options {
    /// The size of this structure in bytes.
    pub size: usize,
    /// LXI_TREE_….
    pub flags: u32,
    /// How many threads verify an image that is added, at most; 0 for all cores.
    pub threads: u32,
    /// The limits on lists and on images that are added, or NULL.
    pub limits: *const lxi_limits,
    /// Where the time comes from; NULL for the machine's clock. Used until the tree is freed.
    pub clock: lxi_clock_fn,
    /// Handed to `clock`.
    pub clock_user: *mut c_void,
}

/// A tree that is not there is made.
pub const LXI_TREE_CREATE: u32 = 1;

/// How an image is added to a tree. NULL, or all but `size` zero: described by its own metadata, with the alias
/// `OS/RELEASE/VARIANT`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct lxi_tree_add_options {
    /// The size of this structure in bytes.
    pub size: usize,
    /// LXI_TREE_ADD_….
    pub flags: u32,
    /// Padding; must be 0.
    pub reserved: u32,
    /// More aliases. They belong to the product and mean its newest version.
    pub aliases: *const lxi_str,
    /// How many.
    pub aliases_len: usize,
    /// Properties that win over the image's own. A list needs `os` and `release`.
    pub properties: *const lxi_pair,
    /// How many.
    pub properties_len: usize,
    /// The fingerprint that it must have, or NULL.
    pub expected_fingerprint: *const lxi_fingerprint,
    /// Progress, cancellation and omissions of the call, or NULL.
    pub monitor: *const lxi_monitor,
}

/// The product does not get the alias `OS/RELEASE/VARIANT`.
pub const LXI_TREE_ADD_NO_DEFAULT_ALIAS: u32 = 1;

/// An image of a tree; filled by `lxi_tree_listing_at`. Set `size` to `sizeof(lxi_tree_image)` before.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct lxi_tree_image {
    /// The size of this structure in bytes, set by the caller.
    pub size: usize,
    /// The digest of its bytes.
    pub fingerprint: lxi_fingerprint,
    /// Container or virtual machine.
    pub image_type: lxi_image_type,
    /// One file or two.
    pub form: lxi_form,
    /// The kernel's name of the machine that it is for: `x86_64`.
    pub architecture: lxi_str,
    /// The key of its product: `OS:RELEASE:VARIANT:ARCHITECTURE`.
    pub product: lxi_str,
    /// The key of its version, a date.
    pub version: lxi_str,
    /// The size of all its files in bytes.
    pub bytes: u64,
    /// The date of its version, in seconds since 1970.
    pub created_at: i64,
    /// When its support ends; 0 where that is not said.
    pub expires_at: i64,
    /// How many properties it has: `lxi_tree_listing_property_at`.
    pub properties: usize,
    /// How many aliases its product has: `lxi_tree_listing_alias_at`.
    pub aliases: usize,
}

/// How a tree is pruned. NULL, or all but `size` zero: all versions stay, and files that left the list an hour ago go.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct lxi_tree_prune_options {
    /// The size of this structure in bytes.
    pub size: usize,
    /// LXI_TREE_PRUNE_….
    pub flags: u32,
    /// How many versions of each product stay; 0 for all.
    pub keep: u32,
    /// With LXI_TREE_PRUNE_AFTER: for how long files stay that left the list, since readers may hold an older one.
    pub after_seconds: u64,
    /// Cancellation and omissions of the call, or NULL.
    pub monitor: *const lxi_monitor,
}

/// Removes nothing, and tells what would be removed.
pub const LXI_TREE_PRUNE_DRY_RUN: u32 = 1;
/// `after_seconds` is said.
pub const LXI_TREE_PRUNE_AFTER: u32 = 2;

/// What a pruning removed, or would remove; filled by `lxi_tree_prune`. Set `size` to `sizeof(lxi_tree_pruned)` before.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct lxi_tree_pruned {
    /// The size of this structure in bytes, set by the caller.
    pub size: usize,
    /// Versions that left the list.
    pub versions: u64,
    /// Files that were removed.
    pub files: u64,
    /// Their size in bytes.
    pub bytes: u64,
    /// Files that no list names, and that stay for now.
    pub waiting: u64,
}

/// What a verification found; filled by `lxi_tree_report_get`. Set `size` to `sizeof(lxi_tree_report_info)` before.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct lxi_tree_report_info {
    /// The size of this structure in bytes, set by the caller.
    pub size: usize,
    /// Images in the list.
    pub images: u64,
    /// Files that the list names.
    pub files: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// How many things are wrong: `lxi_tree_report_finding_at`.
    pub findings: usize,
}

/// A report with the texts that C may look at.
pub struct TreeReportView {
    report: TreeReport,
    findings: Vec<Report>,
}

versioned!(lxi_tree_options, lxi_tree_add_options, lxi_tree_image, lxi_tree_pruned, lxi_tree_report_info,);
versioned!(lxi_tree_prune_options since monitor);
handles! {
    lxi_tree(35) = Tree;
    lxi_tree_listing(36) = Vec<StreamImage>;
    lxi_tree_report(37) = TreeReportView;
}

/// Opens the tree in a directory. `options` may be NULL.
///
/// Owner: the caller, who frees it with `lxi_tree_free`. Threads: any. Errors: LXI_NOT_FOUND when there is none and
/// none is to be made; LXI_MALFORMED and LXI_LIMIT_EXCEEDED for a list that can't be read; LXI_BUSY while another
/// process makes it; LXI_IO.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_tree_open(
    path: lxi_str,
    options: *const lxi_tree_options,
    tree: *mut *mut lxi_tree,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = args::out_handle(tree, "tree")?;
        let given = args::options(options)?;
        let flags = args::flags(given.flags, LXI_TREE_CREATE, "flags of opening a tree")?;
        let path = args::path(path, "tree's path")?;
        let mut options = TreeOptions::new().limits(limits_or_default(given.limits)?);
        if given.threads > 0 {
            options = options.threads(threads(given.threads));
        }
        if let Some(clock) = given.clock {
            let clock = Clock::new(clock, given.clock_user);
            options = options.clock(move || clock.now());
        }
        place.set(handle::make(if flags == 0 { options.open(path)? } else { options.create(path)? }));
        Ok(())
    })
}

/// Frees a tree; NULL is allowed. What is on the disk stays.
///
/// Threads: any, the tree being no longer used. Errors: LXI_INVALID_INPUT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_tree_free(tree: *mut lxi_tree) -> lxi_status {
    free(tree)
}

/// Verifies an image, one file with `second` NULL, or metadata and rootfs in either order, stores its files under their
/// digests, and lists it. `options` and `fingerprint` may be NULL.
///
/// Threads: any. Errors: LXI_ALREADY_EXISTS when it is listed; LXI_INVALID_INPUT without `os` or `release`, and for an
/// alias that a list can't hold; LXI_MISMATCH; those of verifying an image; LXI_BUSY while another process writes;
/// LXI_CANCELLED; LXI_IO. Nothing of it is listed then.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_tree_add(
    tree: *const lxi_tree,
    first: *const lxi_input,
    second: *const lxi_input,
    options: *const lxi_tree_add_options,
    fingerprint: *mut lxi_fingerprint,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let source = source(first, second);
        let place = args::optional_out(fingerprint, lxi_fingerprint::NONE, "fingerprint")?;
        let tree = handle::get(tree)?;
        let given = args::options(options)?;
        let flags = args::flags(given.flags, LXI_TREE_ADD_NO_DEFAULT_ALIAS, "flags of adding to a tree")?;
        args::flags(given.reserved, 0, "reserved bits of adding to a tree")?;
        let mut options = AddOptions::new().default_alias(flags == 0);
        for name in args::texts(given.aliases, given.aliases_len, "aliases")? {
            options = options.alias(name)?;
        }
        for (key, value) in args::pairs(given.properties, given.properties_len, "properties")? {
            options = options.property(key, value)?;
        }
        if let Some(expected) = args::optional_fingerprint(given.expected_fingerprint)? {
            options = options.expected_fingerprint(expected);
        }
        let added = tree.lock()?.add(source?, &options, &monitor_from(given.monitor)?)?;
        if let Some(place) = place {
            place.set(added.fingerprint.into());
        }
        Ok(())
    })
}

/// Takes images out of the list, all or none. Their files stay until `lxi_tree_prune` removes them.
///
/// Threads: any. Errors: LXI_NOT_FOUND if one of them is not listed; LXI_BUSY; LXI_IO.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_tree_remove(
    tree: *const lxi_tree,
    fingerprints: *const lxi_fingerprint,
    fingerprints_len: usize,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let named = args::items(fingerprints, fingerprints_len, "fingerprints")?;
        let named: Vec<Fingerprint> = named.iter().map(|of| Fingerprint::from_bytes(of.bytes)).collect();
        handle::get(tree)?.lock()?.remove(&named)
    })
}

/// Takes old versions out of the list, and removes files that left it long enough ago. `options` and `pruned` may be
/// NULL.
///
/// Threads: any. Errors: LXI_BUSY, LXI_MALFORMED, LXI_CANCELLED, LXI_IO. What was removed before stays so.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_tree_prune(
    tree: *const lxi_tree,
    options: *const lxi_tree_prune_options,
    pruned: *mut lxi_tree_pruned,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let given = args::options(options)?;
        let flags = args::flags(given.flags, 3, "flags of pruning a tree")?;
        let mut options = PruneOptions::new().dry_run(flags & LXI_TREE_PRUNE_DRY_RUN != 0);
        if given.keep > 0 {
            options = options.keep(given.keep as usize);
        }
        if flags & LXI_TREE_PRUNE_AFTER != 0 {
            options = options.after(Duration::from_secs(given.after_seconds));
        }
        let monitor = monitor_from(given.monitor)?;
        let PrunedTree { versions, files, bytes, waiting, .. } =
            handle::get(tree)?.lock()?.prune(&options, &monitor)?;
        if pruned.is_null() {
            return Ok(());
        }
        let told = lxi_tree_pruned {
            size: 0,
            versions: versions.len() as u64,
            files: files.len() as u64,
            bytes,
            waiting: waiting as u64,
        };
        args::fill(pruned, &told)
    })
}

/// The images of a tree as it is now, newest first.
///
/// Owner: the caller, who frees the listing with `lxi_tree_listing_free`. Threads: any. Errors: LXI_MALFORMED and
/// LXI_LIMIT_EXCEEDED for a list that can't be read; LXI_IO.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_tree_list(
    tree: *const lxi_tree,
    listing: *mut *mut lxi_tree_listing,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = args::out_handle(listing, "listing")?;
        place.set(handle::make(handle::get(tree)?.listing()?.images().to_vec()));
        Ok(())
    })
}

/// Fills `image` with the image with an index from 0.
///
/// Owner: the texts belong to the listing. Threads: any. Errors: LXI_NOT_FOUND for an index past the end.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_tree_listing_at(
    listing: *const lxi_tree_listing,
    index: usize,
    image: *mut lxi_tree_image,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let found = handle::get(listing)?.get(index).ok_or_else(|| index_out_of_range(index, "image"))?;
        let told = lxi_tree_image {
            size: 0,
            fingerprint: found.fingerprint.into(),
            image_type: image_type(found.image_type),
            form: if found.rootfs.is_some() { LXI_FORM_SPLIT } else { LXI_FORM_UNIFIED },
            architecture: lxi_str::of(found.architecture.kernel_name()),
            product: lxi_str::of(&found.product),
            version: lxi_str::of(&found.version),
            bytes: found.size(),
            created_at: found.created_at,
            expires_at: found.expires_at.unwrap_or(0),
            properties: found.properties.len(),
            aliases: found.aliases.len(),
        };
        args::fill(image, &told)
    })
}

/// A property of an image of a listing, both with an index from 0.
///
/// Owner: the texts belong to the listing. Threads: any. Errors: LXI_NOT_FOUND for an index past the end.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_tree_listing_property_at(
    listing: *const lxi_tree_listing,
    image: usize,
    index: usize,
    key: *mut lxi_str,
    value: *mut lxi_str,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = PropertyOut::new(key, value)?;
        let found = handle::get(listing)?.get(image).ok_or_else(|| index_out_of_range(image, "image"))?;
        place.set(&found.properties, index)
    })
}

/// An alias of the product of an image of a listing, both with an index from 0.
///
/// Owner: the text belongs to the listing. Threads: any. Errors: LXI_NOT_FOUND for an index past the end.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_tree_listing_alias_at(
    listing: *const lxi_tree_listing,
    image: usize,
    index: usize,
    alias: *mut lxi_str,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = args::out_str(alias, "alias")?;
        let found = handle::get(listing)?.get(image).ok_or_else(|| index_out_of_range(image, "image"))?;
        place.set(lxi_str::of(found.aliases.get(index).ok_or_else(|| index_out_of_range(index, "alias"))?));
        Ok(())
    })
}

/// Frees a listing; NULL is allowed.
///
/// Threads: any, the listing being no longer used. Errors: LXI_INVALID_INPUT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_tree_listing_free(listing: *mut lxi_tree_listing) -> lxi_status {
    free(listing)
}

/// Reads every file that the list names, and computes every fingerprint. `monitor` may be NULL; files without a digest
/// are its omissions.
///
/// Owner: the caller, who frees the result with `lxi_tree_report_free`. Threads: any. Errors: LXI_MALFORMED when index
/// or list can't be read, LXI_CANCELLED, LXI_IO. What is wrong with a file is no error but a finding.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_tree_verify(
    tree: *const lxi_tree,
    monitor: *const lxi_monitor,
    report: *mut *mut lxi_tree_report,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = args::out_handle(report, "report")?;
        let mut report = handle::get(tree)?.verify(&TreeVerifyOptions::new(), &monitor_from(monitor)?)?;
        let findings = std::mem::take(&mut report.findings).into_iter().map(Report::new).collect();
        place.set(handle::make(TreeReportView { report, findings }));
        Ok(())
    })
}

/// Fills `info` with what a verification found.
///
/// Threads: any. Errors: LXI_INVALID_INPUT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_tree_report_get(
    report: *const lxi_tree_report,
    info: *mut lxi_tree_report_info,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let TreeReportView { report, findings } = handle::get(report)?;
        let told = lxi_tree_report_info {
            size: 0,
            images: report.images as u64,
            files: report.files as u64,
            bytes: report.bytes,
            findings: findings.len(),
        };
        args::fill(info, &told)
    })
}

/// Fills `finding` with something that is wrong, with an index from 0.
///
/// Owner: the texts belong to the report. Threads: any. Errors: LXI_NOT_FOUND for an index past the end.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_tree_report_finding_at(
    report: *const lxi_tree_report,
    index: usize,
    finding: *mut lxi_error_info,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let found = handle::get(report)?.findings.get(index);
        args::fill(finding, &found.ok_or_else(|| index_out_of_range(index, "finding"))?.info())
    })
}

/// Frees a report; NULL is allowed.
///
/// Threads: any, the report being no longer used. Errors: LXI_INVALID_INPUT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_tree_report_free(report: *mut lxi_tree_report) -> lxi_status {
    free(report)
}
