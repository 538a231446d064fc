//! Aliases of a store: listed, made, moved, renamed, removed.

use lxd_image::store::{Alias, AliasTarget};

use crate::about::index_out_of_range;
use crate::args;
use crate::error::{call, free, lxi_error};
use crate::handle::{self, handles};
use crate::import::{self, lxi_alias};
use crate::store::lxi_store;
use crate::types::*;

/// Aliases of a store and what they point to. Read-only, so it may be shared between threads.
pub struct lxi_alias_list {
    _opaque: (),
}

handles! { lxi_alias_list(19) = Vec<(Alias, AliasTarget)>; }

/// All aliases, sorted by name; of a name that a container's and a virtual machine's image share the container's comes
/// first.
///
/// Owner: the caller, who frees the list with `lxi_alias_list_free`. Threads: any. Errors: LXI_MALFORMED when the
/// catalog is damaged, LXI_IO.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_store_aliases(
    store: *const lxi_store,
    aliases: *mut *mut lxi_alias_list,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = args::out_handle(aliases, "aliases")?;
        place.set(handle::make(handle::get(store)?.aliases()?));
        Ok(())
    })
}

/// What one alias points to: a list with that one. Where a container's and a virtual machine's image share the name,
/// the container's.
///
/// Owner: the caller, who frees the list with `lxi_alias_list_free`. Threads: any. Errors: LXI_NOT_FOUND, LXI_MALFORMED
/// when the catalog is damaged, LXI_IO.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_store_alias(
    store: *const lxi_store,
    name: lxi_str,
    aliases: *mut *mut lxi_alias_list,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = args::out_handle(aliases, "aliases")?;
        let found = handle::get(store)?.alias(args::text(name, "name of an alias")?)?;
        place.set(handle::make(vec![found]));
        Ok(())
    })
}

/// What one alias of images of a type points to: a list with that one. `image_type` is LXI_TYPE_…, or 0 for what
/// `lxi_store_alias` gives.
///
/// Owner: the caller, who frees the list with `lxi_alias_list_free`. Threads: any. Errors: LXI_NOT_FOUND,
/// LXI_INVALID_INPUT for an unknown type, LXI_MALFORMED when the catalog is damaged, LXI_IO.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_store_alias_of_type(
    store: *const lxi_store,
    name: lxi_str,
    image_type: lxi_image_type,
    aliases: *mut *mut lxi_alias_list,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = args::out_handle(aliases, "aliases")?;
        let (store, name) = (handle::get(store)?, args::text(name, "name of an alias")?);
        let found = match optional_image_type(image_type)? {
            Some(image_type) => store.alias_of(name, image_type)?,
            None => store.alias(name)?,
        };
        place.set(handle::make(vec![found]));
        Ok(())
    })
}

/// How many aliases there are.
///
/// Threads: any. Errors: LXI_INVALID_INPUT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_alias_list_len(
    aliases: *const lxi_alias_list,
    len: *mut usize,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let len = args::out(len, 0, "len")?;
        len.set(handle::get(aliases)?.len());
        Ok(())
    })
}

/// The alias with an index from 0, and what it points to (`target` may be NULL).
///
/// Owner: the texts belong to the list. Threads: any. Errors: LXI_NOT_FOUND for an index past the end.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_alias_list_at(
    aliases: *const lxi_alias_list,
    index: usize,
    alias: *mut lxi_alias,
    target: *mut lxi_fingerprint,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let none = lxi_alias { name: lxi_str::EMPTY, description: lxi_str::EMPTY };
        let alias = args::out(alias, none, "alias")?;
        let target = args::optional_out(target, lxi_fingerprint::NONE, "target")?;
        let found = handle::get(aliases)?.get(index).ok_or_else(|| index_out_of_range(index, "alias"))?;
        alias.set(lxi_alias { name: lxi_str::of(&found.0.name), description: lxi_str::of(&found.0.description) });
        if let Some(target) = target {
            target.set(found.1.fingerprint.into());
        }
        Ok(())
    })
}

/// The type of the images that the alias with an index from 0 is for: LXI_TYPE_….
///
/// Threads: any. Errors: LXI_NOT_FOUND for an index past the end.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_alias_list_type_at(
    aliases: *const lxi_alias_list,
    index: usize,
    image_type: *mut lxi_image_type,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = args::out(image_type, 0, "type of an alias")?;
        let found = handle::get(aliases)?.get(index).ok_or_else(|| index_out_of_range(index, "alias"))?;
        place.set(crate::types::image_type(found.1.image_type));
        Ok(())
    })
}

/// Frees a list; NULL is allowed.
///
/// Threads: any, the list being no longer used. Errors: LXI_INVALID_INPUT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_alias_list_free(aliases: *mut lxi_alias_list) -> lxi_status {
    free(aliases)
}

/// Makes an alias for images of the target's type: a container's and a virtual machine's image may share a name.
///
/// Threads: any. Errors: LXI_INVALID_INPUT for an invalid name, LXI_ALREADY_EXISTS when it is taken,
/// LXI_NOT_FOUND without the image, LXI_BUSY, LXI_IO.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_store_create_alias(
    store: *const lxi_store,
    alias: lxi_alias,
    target: *const lxi_fingerprint,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || handle::get(store)?.create_alias(&import::alias(alias)?, &args::fingerprint(target)?))
}

/// Points an alias of images of the target's type to another image, and sets its description, whether or not the alias
/// exists.
///
/// Threads: any. Errors: LXI_INVALID_INPUT for an invalid name, LXI_NOT_FOUND without the image, LXI_BUSY,
/// LXI_IO.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_store_move_alias(
    store: *const lxi_store,
    alias: lxi_alias,
    target: *const lxi_fingerprint,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || handle::get(store)?.move_alias(&import::alias(alias)?, &args::fingerprint(target)?))
}

/// Gives an alias another name: the container's, where a container's and a virtual machine's image share it.
///
/// Threads: any. Errors: LXI_INVALID_INPUT for an invalid name, LXI_NOT_FOUND without the alias,
/// LXI_ALREADY_EXISTS when the new name is taken, LXI_BUSY, LXI_IO.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_store_rename_alias(
    store: *const lxi_store,
    name: lxi_str,
    new_name: lxi_str,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let (name, new_name) = (args::text(name, "name of an alias")?, args::text(new_name, "name of an alias")?);
        handle::get(store)?.rename_alias(name, new_name, None)
    })
}

/// Gives an alias of images of a type another name. `image_type` is LXI_TYPE_…, or 0 for what `lxi_store_rename_alias`
/// renames.
///
/// Threads: any. Errors: as `lxi_store_rename_alias`; LXI_INVALID_INPUT for an unknown type.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_store_rename_alias_of_type(
    store: *const lxi_store,
    name: lxi_str,
    new_name: lxi_str,
    image_type: lxi_image_type,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let (name, new_name) = (args::text(name, "name of an alias")?, args::text(new_name, "name of an alias")?);
        handle::get(store)?.rename_alias(name, new_name, optional_image_type(image_type)?)
    })
}

/// Removes an alias: the container's, where a container's and a virtual machine's image share it. The image stays.
///
/// Threads: any. Errors: LXI_NOT_FOUND, LXI_BUSY, LXI_IO.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_store_delete_alias(
    store: *const lxi_store,
    name: lxi_str,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || handle::get(store)?.delete_alias(args::text(name, "name of an alias")?, None))
}

/// Removes an alias of images of a type. `image_type` is LXI_TYPE_…, or 0 for what `lxi_store_delete_alias` removes.
/// The image stays.
///
/// Threads: any. Errors: LXI_NOT_FOUND, LXI_INVALID_INPUT for an unknown type, LXI_BUSY, LXI_IO.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_store_delete_alias_of_type(
    store: *const lxi_store,
    name: lxi_str,
    image_type: lxi_image_type,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        handle::get(store)?.delete_alias(args::text(name, "name of an alias")?, optional_image_type(image_type)?)
    })
}
