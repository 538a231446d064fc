//! Staged images: unpacked but not yet visible; verified or accepted first, then committed under their name.

use lxd_image::Error;
use lxd_image::format::{CommitFailed, StagedUnpack, Unverified, Verified};

use crate::args::{self, invalid};
use crate::error::{call, free, lxi_error};
use crate::handle::{self, handles};
use crate::image::lxi_image;
use crate::types::*;
use crate::unpack::{UnpackedView, lxi_unpack_options, lxi_unpacked, lxi_unpacked_info, unpack_options};

/// An unpacked image in a private directory beside its destination. Freeing it before it is committed removes
/// everything.
pub struct lxi_staged {
    _opaque: (),
}

/// The state of a staged image.
pub enum Stage {
    /// Not yet compared with a fingerprint.
    Unverified(Box<StagedUnpack<Unverified>>, UnpackedView),
    /// Compared with its fingerprint, or accepted without.
    Verified(Box<StagedUnpack<Verified>>, UnpackedView),
    /// Committed, discarded or refused.
    Gone,
}

handles! { lxi_staged(10) = Stage; }

/// Unpacks into a private directory beside `destination`, computing the fingerprint in the same pass. The destination
/// must not exist, or be an empty directory; it stays as it is until `lxi_staged_commit`, before which the image must
/// be verified or accepted. `options` may be NULL.
///
/// Owner: the caller, who frees it with `lxi_staged_free`. Threads: any. Errors: as `lxi_image_unpack_verified`, but
/// for LXI_MISMATCH. Whatever the error, nothing is left.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_image_stage(
    image: *const lxi_image,
    destination: lxi_str,
    options: *const lxi_unpack_options,
    staged: *mut *mut lxi_staged,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = args::out_handle(staged, "staged")?;
        let image = handle::get(image)?;
        let (options, monitor) = unpack_options(options)?;
        let staged = image.stage(args::path(destination, "destination")?, &options, &monitor)?;
        let left = UnpackedView::new(
            std::path::PathBuf::new(),
            staged.fingerprint(),
            staged.image_type(),
            staged.metadata().clone(),
            staged.report().clone(),
        );
        place.set(handle::make(Stage::Unverified(Box::new(staged), left)));
        Ok(())
    })
}

fn gone() -> Error {
    invalid("the staged image is gone: it was committed, discarded or refused")
}

/// Fills `info` with what was unpacked.
///
/// Threads: any, while nobody changes it. Errors: LXI_INVALID_INPUT when the staged image is gone.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_staged_get(
    staged: *const lxi_staged,
    info: *mut lxi_unpacked_info,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || match handle::get(staged)? {
        Stage::Unverified(_, left) | Stage::Verified(_, left) => args::fill(info, &left.info()),
        Stage::Gone => Err(gone()),
    })
}

/// Compares the fingerprint. On a mismatch everything is removed, and the handle can only be freed.
///
/// Threads: one at a time. Errors: LXI_MISMATCH with both values; LXI_INVALID_INPUT when it was verified or accepted
/// before, or it is gone.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_staged_verify(
    staged: *mut lxi_staged,
    expected_fingerprint: *const lxi_fingerprint,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let stage = handle::get_mut(staged)?;
        let expected = args::fingerprint(expected_fingerprint)?;
        match std::mem::replace(stage, Stage::Gone) {
            Stage::Unverified(staged, left) => {
                *stage = Stage::Verified(Box::new(staged.verify(&expected)?), left);
                Ok(())
            }
            other => already(stage, other),
        }
    })
}

/// Takes the image as it is: its origin is trusted, or nobody knows its fingerprint.
///
/// Threads: one at a time. Errors: LXI_INVALID_INPUT when it was verified or accepted before, or it is
/// no more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_staged_accept_unverified(
    staged: *mut lxi_staged,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let stage = handle::get_mut(staged)?;
        match std::mem::replace(stage, Stage::Gone) {
            Stage::Unverified(staged, left) => {
                *stage = Stage::Verified(Box::new(staged.accept_unverified()), left);
                Ok(())
            }
            other => already(stage, other),
        }
    })
}

fn already(stage: &mut Stage, other: Stage) -> lxd_image::Result<()> {
    *stage = other;
    match stage {
        Stage::Gone => Err(gone()),
        _ => Err(invalid("it was verified or accepted before")),
    }
}

/// Gives the directory its name beside where it was staged, in one step: a plain name, that of the destination or
/// another one. `unpacked` may be NULL. After an error it is staged as before, and can be committed under another name.
///
/// Owner: the caller, who frees the result with `lxi_unpacked_free`, and `staged` all the same. Threads: one at a time.
/// Errors: LXI_ALREADY_EXISTS when something other than an empty directory has that name; LXI_INVALID_INPUT for a name
/// with a slash, and when it was not verified or accepted; LXI_IO.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_staged_commit(
    staged: *mut lxi_staged,
    name: lxi_str,
    unpacked: *mut *mut lxi_unpacked,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = args::optional_out_handle(unpacked, "unpacked")?;
        let stage = handle::get_mut(staged)?;
        let name = args::text(name, "name")?;
        let (staged, left) = match std::mem::replace(stage, Stage::Gone) {
            Stage::Verified(staged, left) => (staged, left),
            Stage::Gone => return Err(gone()),
            unverified @ Stage::Unverified(..) => {
                *stage = unverified;
                return Err(invalid("it must be verified or accepted before it is committed"));
            }
        };
        let info = (staged.fingerprint(), staged.image_type(), staged.report().clone());
        match staged.commit(name) {
            Ok(path) => {
                if let Some(place) = place {
                    let metadata = left.metadata().clone();
                    place.set(handle::make(UnpackedView::new(path, info.0, info.1, metadata, info.2)));
                }
                Ok(())
            }
            Err(CommitFailed { error, staged, .. }) => {
                *stage = Stage::Verified(staged, left);
                Err(error)
            }
        }
    })
}

/// Removes everything, and says so if that fails. The handle can only be freed afterwards.
///
/// Threads: one at a time. Errors: LXI_INVALID_INPUT when the staged image is gone, LXI_IO.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_staged_discard(staged: *mut lxi_staged, error: *mut *mut lxi_error) -> lxi_status {
    call(error, || match std::mem::replace(handle::get_mut(staged)?, Stage::Gone) {
        Stage::Unverified(staged, _) => staged.discard(),
        Stage::Verified(staged, _) => staged.discard(),
        Stage::Gone => Err(gone()),
    })
}

/// Frees a staged image, and removes it from the disk unless it was committed; NULL is allowed.
///
/// Threads: any, the handle being no longer used. Errors: LXI_INVALID_INPUT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_staged_free(staged: *mut lxi_staged) -> lxi_status {
    free(staged)
}
