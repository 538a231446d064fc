//! Registries: images pushed to them, and what they list.

use lxd_image::oci::Tag;
use lxd_image::remote::{OciPushOptions, OciRegistry};
use lxd_image::{Error, ErrorKind, Result};

use crate::args::{self, versioned};
use crate::buffer::{buffer, lxi_buffer};
use crate::error::{call, lxi_error};
use crate::handle;
use crate::monitor::{lxi_monitor, monitor_from};
use crate::names::lxi_names;
use crate::remote::{Connected, lxi_remote};
use crate::store::lxi_store;
use crate::types::*;

/// How an image is pushed to a registry. NULL, or all but `size` zero: under the tag of the reference, which must be
/// free or mean the same image.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct lxi_push_options {
    /// The size of this structure in bytes.
    pub size: usize,
    /// LXI_PUSH_….
    pub flags: u32,
    /// Padding; must be 0.
    pub reserved: u32,
    /// More tags.
    pub tags: *const lxi_str,
    /// How many.
    pub tags_len: usize,
    /// A repository of the same registry that may have the files already, so that they need not be sent; or empty.
    pub mount_from: lxi_str,
    /// Progress, cancellation and omissions of the call, or NULL.
    pub monitor: *const lxi_monitor,
}

/// The image's aliases in the store become tags, too. One that registries don't take is an omission.
pub const LXI_PUSH_ALIAS_TAGS: u32 = 1;
/// Tags that mean another image for the same machine move, instead of being an error.
pub const LXI_PUSH_REUSE_TAGS: u32 = 2;

versioned!(lxi_push_options);

/// The registry behind a remote.
fn registry(remote: &Connected) -> Result<&OciRegistry> {
    match remote {
        Connected::Registry(registry) => Ok(registry),
        _ => Err(Error::new(ErrorKind::Unsupported, "this remote is no registry")
            .with_hint("connect to it with the protocol `oci`")),
    }
}

/// Pushes an image of a store to a registry, as an artifact that `lxi_store_copy_from` fetches again, with the
/// statements about it. `reference` is `REPOSITORY[:TAG]`. Files that the registry has are not sent again. `options`
/// and `digest`, which gets that of the image's manifest, may be NULL.
///
/// Owner: the caller, who frees the digest with `lxi_buffer_free`. Threads: any. Errors: LXI_UNSUPPORTED for a remote
/// that is no registry; LXI_INVALID_INPUT for a reference by digest, and a tag that is none; LXI_ALREADY_EXISTS for a
/// tag that means another image; LXI_NOT_FOUND for an image that is not in the store; LXI_MISMATCH; LXI_REMOTE;
/// LXI_CANCELLED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_remote_push(
    remote: *const lxi_remote,
    store: *const lxi_store,
    fingerprint: *const lxi_fingerprint,
    reference: lxi_str,
    options: *const lxi_push_options,
    digest: *mut *mut lxi_buffer,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = args::optional_out_handle(digest, "digest")?;
        let (registry, store) = (registry(handle::get(remote)?)?, handle::get(store)?);
        let fingerprint = args::fingerprint(fingerprint)?;
        let given = args::options(options)?;
        let flags = args::flags(given.flags, 3, "flags of a push")?;
        args::flags(given.reserved, 0, "reserved bits of a push")?;
        let monitor = monitor_from(given.monitor)?;
        let mut options = OciPushOptions::new().reuse_tags(flags & LXI_PUSH_REUSE_TAGS != 0);
        for tag in args::texts(given.tags, given.tags_len, "tags")? {
            options = options.tag(tag.parse::<Tag>()?);
        }
        if let Some(from) = args::optional_text(given.mount_from, "repository")? {
            options = options.mount_from(from);
        }
        let image = store.open_image(&fingerprint)?;
        if flags & LXI_PUSH_ALIAS_TAGS != 0 {
            options = options.alias_tags(image.image(), &monitor);
        }
        let options = options.statements(store.statements(&fingerprint)?);
        let pushed = registry.push(&image, args::text(reference, "reference")?, &options, &monitor)?;
        if let Some(place) = place {
            place.set(buffer(pushed.to_string()));
        }
        Ok(())
    })
}

/// The tags of a repository of a registry, or with an empty `repository` the names of all repositories, sorted. Many
/// registries don't list the latter. `monitor` may be NULL.
///
/// Owner: the caller, who frees the list with `lxi_names_free`. Threads: any. Errors: LXI_UNSUPPORTED for a remote that
/// is no registry; LXI_NOT_FOUND; LXI_REMOTE; LXI_MALFORMED; LXI_LIMIT_EXCEEDED; LXI_CANCELLED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_remote_tags(
    remote: *const lxi_remote,
    repository: lxi_str,
    monitor: *const lxi_monitor,
    names: *mut *mut lxi_names,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = args::out_handle(names, "names")?;
        let (registry, monitor) = (registry(handle::get(remote)?)?, monitor_from(monitor)?);
        let found = match args::optional_text(repository, "repository")? {
            None => registry.repositories(&monitor)?,
            Some(name) => {
                let tags = registry.repository(name)?.tags(&monitor)?;
                tags.iter().filter(|tag| !tag.is_about_manifest()).map(|tag| tag.as_str().to_owned()).collect()
            }
        };
        place.set(handle::make(found));
        Ok(())
    })
}

/// One repository of a registry as a remote whose images can be listed and mirrored: `lxi_remote_images`,
/// `lxi_mirror_to_store`.
///
/// Owner: the caller, who frees it with `lxi_remote_free`; it may outlive the registry. Threads: any. Errors:
/// LXI_UNSUPPORTED for a remote that is no registry; LXI_INVALID_INPUT for a name that is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_remote_repository(
    remote: *const lxi_remote,
    repository: lxi_str,
    within: *mut *mut lxi_remote,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = args::out_handle(within, "within")?;
        let registry = registry(handle::get(remote)?)?.clone();
        let within = registry.within(args::text(repository, "repository")?)?;
        place.set(handle::make(Connected::Registry(Box::new(within))));
        Ok(())
    })
}
