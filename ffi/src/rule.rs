//! Template rules of a metadata: which file of an instance is written from which template, and when.

use lxd_image::metadata::{Metadata, TemplateRule};
use lxd_image::{Error, ErrorKind, Result};

use crate::about::{PropertyOut, index_out_of_range};
use crate::args::{self, versioned};
use crate::error::{call, lxi_error};
use crate::handle;
use crate::metadata::lxi_metadata;
use crate::types::*;

/// One template rule; filled by `lxi_metadata_rule_at`. Set `size` to `sizeof(lxi_rule_info)` before. Names and paths
/// are as they stand in the file, and may try to climb: applying checks them.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct lxi_rule_info {
    /// The size of this structure in bytes, set by the caller.
    pub size: usize,
    /// The path in the instance.
    pub path: lxi_str,
    /// The name of the template.
    pub template_name: lxi_str,
    /// The owner's number inside the instance, as text; empty if it is not said. Incus only, as the next two.
    pub uid: lxi_str,
    /// The group's.
    pub gid: lxi_str,
    /// The permission bits, as text.
    pub mode: lxi_str,
    /// How many events the rule names.
    pub when: usize,
    /// How many properties the rule has.
    pub properties: usize,
    /// Whether a file that exists already is left alone.
    pub create_only: bool,
}

/// A template rule to set. Set `size` to `sizeof(lxi_rule)`; what is not wanted may be zero.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct lxi_rule {
    /// The size of this structure in bytes.
    pub size: usize,
    /// The name of the template, a file below the image's `templates/`.
    pub template_name: lxi_str,
    /// The events: `create`, `copy`, `rename` and `start` are the ones that exist.
    pub when: *const lxi_str,
    /// How many events.
    pub when_len: usize,
    /// What the template is given as `properties`.
    pub properties: *const lxi_pair,
    /// How many properties.
    pub properties_len: usize,
    /// LXI_RULE_….
    pub flags: u32,
    /// The owner of a new file, with LXI_RULE_OWNER.
    pub uid: u32,
    /// The group of a new file, with LXI_RULE_OWNER.
    pub gid: u32,
    /// The permission bits of a new file, with LXI_RULE_MODE.
    pub mode: u32,
}

/// A file that exists already is left alone.
pub const LXI_RULE_CREATE_ONLY: u32 = 1;
/// `uid` and `gid` are said.
pub const LXI_RULE_OWNER: u32 = 2;
/// `mode` is said.
pub const LXI_RULE_MODE: u32 = 4;

versioned!(lxi_rule_info, lxi_rule);

fn rule_at(metadata: &Metadata, index: usize) -> Result<(&str, &TemplateRule)> {
    metadata.templates().nth(index).ok_or_else(|| index_out_of_range(index, "template rule"))
}

/// Fills `info` with the template rule with an index from 0, in the order of the file.
///
/// Owner: the texts belong to the metadata. Threads: any, while nobody changes it. Errors: LXI_NOT_FOUND past the last
/// one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_metadata_rule_at(
    metadata: *const lxi_metadata,
    index: usize,
    info: *mut lxi_rule_info,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let (path, rule) = rule_at(handle::get(metadata)?, index)?;
        args::fill(
            info,
            &lxi_rule_info {
                size: 0,
                path: lxi_str::of(path),
                template_name: lxi_str::of(rule.template()),
                uid: lxi_str::of_optional(rule.uid()),
                gid: lxi_str::of_optional(rule.gid()),
                mode: lxi_str::of_optional(rule.mode()),
                when: rule.when().len(),
                properties: rule.properties().len(),
                create_only: rule.create_only(),
            },
        )
    })
}

/// An event of a template rule, with those that nobody knows; both indexes from 0.
///
/// Owner: the text belongs to the metadata. Threads: any, while nobody changes it. Errors: LXI_NOT_FOUND past the last
/// one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_metadata_rule_when_at(
    metadata: *const lxi_metadata,
    rule: usize,
    index: usize,
    event: *mut lxi_str,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let event = args::out_str(event, "event")?;
        let (_, rule) = rule_at(handle::get(metadata)?, rule)?;
        event.set(lxi_str::of(rule.when().nth(index).ok_or_else(|| index_out_of_range(index, "event"))?));
        Ok(())
    })
}

/// A property of a template rule; both indexes from 0.
///
/// Owner: the texts belong to the metadata. Threads: any, while nobody changes it. Errors: LXI_NOT_FOUND past the last
/// one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_metadata_rule_property_at(
    metadata: *const lxi_metadata,
    rule: usize,
    index: usize,
    key: *mut lxi_str,
    value: *mut lxi_str,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = PropertyOut::new(key, value)?;
        let (_, rule) = rule_at(handle::get(metadata)?, rule)?;
        place.set(rule.properties(), index)
    })
}

/// Sets the rule for an absolute path in its place, or adds it at the end.
///
/// Threads: one at a time. Errors: LXI_INVALID_INPUT for a path that is not absolute, an empty name of a template, a
/// NUL in any text.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_metadata_set_rule(
    metadata: *mut lxi_metadata,
    path: lxi_str,
    rule: *const lxi_rule,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let given = args::required(rule)?;
        let flags = args::flags(given.flags, 7, "flags of a rule")?;
        let when = args::texts(given.when, given.when_len, "events")?;
        let mut rule = TemplateRule::new(args::text(given.template_name, "name of a template")?, when)?;
        for (key, value) in args::pairs(given.properties, given.properties_len, "properties")? {
            rule = rule.with_property(key, value)?;
        }
        if flags & LXI_RULE_CREATE_ONLY != 0 {
            rule = rule.with_create_only(true);
        }
        if flags & LXI_RULE_OWNER != 0 {
            rule = rule.with_owner(given.uid, given.gid);
        }
        if flags & LXI_RULE_MODE != 0 {
            rule = rule.with_mode(given.mode);
        }
        handle::get_mut(metadata)?.set_template(args::text(path, "path of a rule")?, rule)
    })
}

/// Removes the rule for a path, spelled as in the file.
///
/// Threads: one at a time. Errors: LXI_NOT_FOUND.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_metadata_remove_rule(
    metadata: *mut lxi_metadata,
    path: lxi_str,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let path = args::text(path, "path of a rule")?;
        let removed = handle::get_mut(metadata)?.remove_template(path);
        removed.map(drop).ok_or_else(|| Error::new(ErrorKind::NotFound, format!("there is no rule for `{path}`")))
    })
}
