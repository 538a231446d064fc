//! Applying an image's templates to an instance made of it, and what became of each rule.

use lxd_image::templates::{Action, ApplyOptions, ApplyReport, InstanceDir, Trigger, apply};
use lxd_image::{Limits, Monitor, Result};

use crate::about::index_out_of_range;
use crate::args::{self, versioned};
use crate::context::lxi_template_context;
use crate::error::{call, free, lxi_error};
use crate::handle::{self, handles};
use crate::limits::{limits_or_default, lxi_limits};
use crate::metadata::lxi_metadata;
use crate::monitor::{lxi_monitor, monitor_from};
use crate::stream::duplicate;
use crate::template::{dialect, lxi_dialect};
use crate::types::*;
use crate::unpack::id_map;

/// How templates are applied. NULL, or all but `size` zero: as LXD does, owners as they are, and the first failure
/// stops.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct lxi_apply_options {
    /// The size of this structure in bytes.
    pub size: usize,
    /// Whose templates these are. Only Incus knows a rule's owner and mode.
    pub dialect: lxi_dialect,
    /// LXI_APPLY_….
    pub flags: u32,
    /// How the owners of new files are shifted; none: not at all.
    pub id_map: *const lxi_id_range,
    /// How many ranges.
    pub id_map_len: usize,
    /// For a virtual machine: the directory that gets `<template>.out` files and a copy of `metadata.yaml`, for the
    /// agent inside to put in place; or empty.
    pub output: lxi_str,
    /// What templates may ask for, or NULL.
    pub limits: *const lxi_limits,
    /// Progress, cancellation and omissions of the call, or NULL. Listens for cancellation between one rule and the
    /// next; there are no reports.
    pub monitor: *const lxi_monitor,
}

/// The rules behind one that failed are applied all the same.
pub const LXI_APPLY_KEEP_GOING: u32 = 1;
/// Only tells what would change, and writes nothing.
pub const LXI_APPLY_DRY_RUN: u32 = 2;

/// What was done with a rule: LXI_ACTION_….
pub type lxi_action = u32;
/// A value that this version of the list does not know.
pub const LXI_ACTION_OTHER: lxi_action = 0;
/// The file was not there.
pub const LXI_ACTION_CREATED: lxi_action = 1;
/// The file was there with another content.
pub const LXI_ACTION_REPLACED: lxi_action = 2;
/// The file was there with this very content.
pub const LXI_ACTION_UNCHANGED: lxi_action = 3;
/// The rule did not apply.
pub const LXI_ACTION_SKIPPED: lxi_action = 4;
/// The rule failed, and its file is as it was.
pub const LXI_ACTION_FAILED: lxi_action = 5;

/// What became of all rules. Read-only, so it may be shared between threads.
pub struct lxi_applied {
    _opaque: (),
}

/// What became of one rule; filled by `lxi_applied_at`. Set `size` to `sizeof(lxi_outcome)` before.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct lxi_outcome {
    /// The size of this structure in bytes, set by the caller.
    pub size: usize,
    /// The rule's path, as the metadata has it.
    pub path: lxi_str,
    /// The rule's template.
    pub template_name: lxi_str,
    /// Why, in words.
    pub reason: lxi_str,
    /// What was done, or would be by a dry run.
    pub action: lxi_action,
    /// For LXI_ACTION_FAILED: the status of the failure; else LXI_OK.
    pub status: lxi_status,
    /// The file's owner afterwards: with the host's numbers, as the next two, unless the rule was skipped or failed.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its permissions.
    pub mode: u32,
    /// Whether `old_content` and `new_content` say something: after a dry run.
    pub has_change: bool,
    /// Whether there was a file.
    pub has_old: bool,
    /// Its size in bytes.
    pub bytes: u64,
    /// What the file holds now.
    pub old_content: lxi_bytes,
    /// What the template gives.
    pub new_content: lxi_bytes,
}

/// AppliedView with the texts that C may look at.
pub struct AppliedView {
    applied: ApplyReport,
    reasons: Vec<String>,
}

versioned!(lxi_apply_options, lxi_outcome);
handles! { lxi_applied(15) = AppliedView; }

unsafe fn apply_options(pointer: *const lxi_apply_options) -> Result<(ApplyOptions, Limits, Monitor)> {
    let given = args::options(pointer)?;
    let flags = args::flags(given.flags, 3, "flags of applying")?;
    let limits = limits_or_default(given.limits)?;
    let map = id_map(given.id_map, given.id_map_len)?;
    let mut options = ApplyOptions::new()
        .dialect(dialect(given.dialect)?)
        .limits(limits.clone())
        .keep_going(flags & LXI_APPLY_KEEP_GOING != 0)
        .dry_run(flags & LXI_APPLY_DRY_RUN != 0);
    if given.id_map_len > 0 {
        options = options.shift_owners(move |id| map.shift(id));
    }
    if let Some(output) = args::optional_path(given.output, "output directory")? {
        options = options.output(output);
    }
    Ok((options, limits, monitor_from(given.monitor)?))
}

/// What one of the two calls below was given.
struct ApplyArguments {
    metadata: *const lxi_metadata,
    trigger: lxi_str,
    context: *const lxi_template_context,
    options: *const lxi_apply_options,
    applied: *mut *mut lxi_applied,
}

unsafe fn run(given: &ApplyArguments, instance: impl FnOnce() -> Result<InstanceDir>) -> Result<()> {
    let place = args::optional_out_handle(given.applied, "applied")?;
    let trigger: Trigger = args::text(given.trigger, "trigger")?.parse()?;
    let (options, limits, monitor) = apply_options(given.options)?;
    let (context, metadata) = (handle::get(given.context)?, handle::get_optional(given.metadata)?);
    let instance = instance()?;
    let metadata = match metadata {
        Some(metadata) => metadata.clone(),
        None => instance.metadata(&limits)?,
    };
    let (applied, failure) = match apply(&instance, metadata.templates(), trigger, context, &options, &monitor) {
        Ok(applied) => (applied, None),
        Err(failed) => (failed.report, Some(failed.error)),
    };
    if let Some(place) = place {
        let reasons = applied.outcomes.iter().map(|outcome| outcome.action.to_string()).collect();
        place.set(handle::make(AppliedView { applied, reasons }));
    }
    failure.map_or(Ok(()), Err)
}

/// Applies the template rules that fire at `trigger` (`create`, `copy`, `rename` or `start`) to the directory that
/// unpacking made, with `rootfs/` and `templates/`. Each path is resolved below the root as a process in the instance
/// would resolve it, never out of it; a file is replaced in one step, or stays as it was. With `metadata` NULL the
/// rules come from the directory's `metadata.yaml`. `options` and `applied` may be NULL.
///
/// When a rule fails `applied` is set all the same, and tells what became of the rules.
///
/// Owner: the caller, who frees `applied` with `lxi_applied_free`, also after an error. Threads: any; one instance at a
/// time. Errors: the first failure: LXI_UNSAFE_PATH for a template's name that is not plain and a target that leads out
/// or is no regular file, LXI_NOT_FOUND for a missing template, LXI_TEMPLATE and LXI_LIMIT_EXCEEDED from rendering,
/// LXI_INVALID_INPUT for numbers in a rule that are none, LXI_MALFORMED, LXI_IO, LXI_CANCELLED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_apply(
    directory: lxi_str,
    metadata: *const lxi_metadata,
    trigger: lxi_str,
    context: *const lxi_template_context,
    options: *const lxi_apply_options,
    applied: *mut *mut lxi_applied,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let given = ApplyArguments { metadata, trigger, context, options, applied };
        run(&given, || InstanceDir::open(args::path(directory, "directory")?))
    })
}

/// As `lxi_apply`, with the descriptors of an instance's root and of its image's `templates/`, which are borrowed for
/// the call. `metadata` must be given.
///
/// Owner, threads and errors: as `lxi_apply`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_apply_at(
    rootfs_fd: i32,
    templates_fd: i32,
    metadata: *const lxi_metadata,
    trigger: lxi_str,
    context: *const lxi_template_context,
    options: *const lxi_apply_options,
    applied: *mut *mut lxi_applied,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let given = ApplyArguments { metadata, trigger, context, options, applied };
        run(&given, || {
            handle::get(metadata)?;
            InstanceDir::new(duplicate(rootfs_fd)?, duplicate(templates_fd)?)
        })
    })
}

/// How many rules were looked at.
///
/// Threads: any. Errors: LXI_INVALID_INPUT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_applied_len(
    applied: *const lxi_applied,
    len: *mut usize,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let len = args::out(len, 0, "len")?;
        len.set(handle::get(applied)?.reasons.len());
        Ok(())
    })
}

/// Fills `outcome` with what became of a rule, with an index from 0, in the rules' order.
///
/// Owner: the texts and bytes belong to `applied`. Threads: any. Errors: LXI_NOT_FOUND for an index past the end.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_applied_at(
    applied: *const lxi_applied,
    index: usize,
    outcome: *mut lxi_outcome,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let all = handle::get(applied)?;
        let found = all.applied.outcomes.get(index).zip(all.reasons.get(index));
        let (found, reason) = found.ok_or_else(|| index_out_of_range(index, "outcome"))?;
        let target = found.action.file();
        let change = found.change.as_ref();
        let old = change.and_then(|change| change.old.as_deref());
        args::fill(
            outcome,
            &lxi_outcome {
                size: 0,
                path: lxi_str::of(&found.path),
                template_name: lxi_str::of(&found.template),
                reason: lxi_str::of(reason),
                action: match &found.action {
                    Action::Created { .. } => LXI_ACTION_CREATED,
                    Action::Replaced { .. } => LXI_ACTION_REPLACED,
                    Action::Unchanged { .. } => LXI_ACTION_UNCHANGED,
                    Action::Skipped { .. } => LXI_ACTION_SKIPPED,
                    Action::Failed { .. } => LXI_ACTION_FAILED,
                    _ => LXI_ACTION_OTHER,
                },
                status: match &found.action {
                    Action::Failed { error } => status(error.kind()),
                    _ => LXI_OK,
                },
                uid: target.map_or(0, |target| target.uid),
                gid: target.map_or(0, |target| target.gid),
                mode: target.map_or(0, |target| target.mode),
                has_change: change.is_some(),
                has_old: old.is_some(),
                bytes: target.map_or(0, |target| target.size),
                old_content: old.map_or(lxi_bytes::EMPTY, lxi_bytes::of),
                new_content: change.map_or(lxi_bytes::EMPTY, |change| lxi_bytes::of(&change.new)),
            },
        )
    })
}

/// Frees outcomes; NULL is allowed.
///
/// Threads: any, the outcomes being no longer used. Errors: LXI_INVALID_INPUT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_applied_free(applied: *mut lxi_applied) -> lxi_status {
    free(applied)
}
