//! Keys that sign and verify statements about images.

use lxd_image::Result;
use lxd_image::trust::{PublicKey, SecretKey};

use crate::args;
use crate::buffer::{buffer, lxi_buffer};
use crate::error::{call, free, lxi_error};
use crate::handle::{self, handles};
use crate::types::*;

/// An Ed25519 secret key. Nothing of it is ever part of an error. Read-only, so it may be shared between threads.
pub struct lxi_secret_key {
    _opaque: (),
}

/// An Ed25519 public key. Read-only, so it may be shared between threads.
pub struct lxi_public_key {
    _opaque: (),
}

/// A public key with its name for C to point to.
pub struct PublicKeyView {
    pub(crate) key: PublicKey,
    id: String,
}

handles! {
    lxi_secret_key(40) = SecretKey;
    lxi_public_key(41) = PublicKeyView;
}

fn public(key: PublicKey) -> *mut lxi_public_key {
    let id = key.id().to_string();
    handle::make(PublicKeyView { key, id })
}

/// A passphrase; none if it is empty.
unsafe fn passphrase<'a>(given: lxi_bytes) -> Result<Option<&'a [u8]>> {
    Ok(Some(args::bytes(given, "passphrase")?).filter(|bytes| !bytes.is_empty()))
}

/// The secret keys behind an array of handles.
pub(crate) unsafe fn secret_keys<'a>(keys: *const *const lxi_secret_key, len: usize) -> Result<Vec<&'a SecretKey>> {
    args::items(keys, len, "keys")?.iter().map(|key| handle::get(*key)).collect()
}

/// The public keys behind an array of handles.
pub(crate) unsafe fn public_keys(keys: *const *const lxi_public_key, len: usize) -> Result<Vec<PublicKey>> {
    args::items(keys, len, "keys")?.iter().map(|key| Ok(handle::get(*key)?.key.clone())).collect()
}

/// Makes a new key, as `minisign -G` does.
///
/// Owner: the caller, who frees it with `lxi_secret_key_free`. Threads: any. Errors: LXI_IO if the system has no
/// randomness.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_secret_key_generate(
    key: *mut *mut lxi_secret_key,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = args::out_handle(key, "key")?;
        place.set(handle::make(SecretKey::generate()?));
        Ok(())
    })
}

/// Parses a key: the text of a secret key file of `minisign`, or PEM of PKCS#8. `passphrase` may be empty; it is used
/// only for a key that is encrypted, which takes seconds and the memory that the file says, 1 GiB for keys of
/// `minisign`.
///
/// Owner: the caller, who frees it with `lxi_secret_key_free`. Threads: any. Errors: LXI_INVALID_INPUT for an encrypted
/// key without a passphrase; LXI_UNTRUSTED for a wrong passphrase or a damaged key; LXI_MALFORMED; LXI_UNSUPPORTED;
/// LXI_LIMIT_EXCEEDED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_secret_key_parse(
    content: lxi_bytes,
    passphrase: lxi_bytes,
    key: *mut *mut lxi_secret_key,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = args::out_handle(key, "key")?;
        let content = args::bytes(content, "secret key")?;
        place.set(handle::make(SecretKey::parse(content, self::passphrase(passphrase)?)?));
        Ok(())
    })
}

/// Reads a key from the file at `path`, as `lxi_secret_key_parse` does.
///
/// Owner, threads and errors: as `lxi_secret_key_parse`; LXI_IO.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_secret_key_read(
    path: lxi_str,
    passphrase: lxi_bytes,
    key: *mut *mut lxi_secret_key,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = args::out_handle(key, "key")?;
        let path = args::path(path, "path of a key")?;
        place.set(handle::make(SecretKey::read(path, self::passphrase(passphrase)?)?));
        Ok(())
    })
}

/// The key as the text of a secret key file of `minisign`, encrypted unless `passphrase` is empty. The buffer is as
/// secret as the key; freeing it does not overwrite it.
///
/// Owner: the caller, who frees the buffer with `lxi_buffer_free`. Threads: any. Errors: LXI_UNSUPPORTED for a key that
/// was read from PEM; LXI_IO if the system has no randomness.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_secret_key_to_text(
    key: *const lxi_secret_key,
    passphrase: lxi_bytes,
    text: *mut *mut lxi_buffer,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = args::out_handle(text, "text")?;
        place.set(buffer(handle::get(key)?.to_text(self::passphrase(passphrase)?)?));
        Ok(())
    })
}

/// The public key that verifies what this key signs.
///
/// Owner: the caller, who frees it with `lxi_public_key_free`. Threads: any. Errors: LXI_INVALID_INPUT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_secret_key_public(
    key: *const lxi_secret_key,
    public_key: *mut *mut lxi_public_key,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = args::out_handle(public_key, "public key")?;
        place.set(public(handle::get(key)?.public_key().clone()));
        Ok(())
    })
}

/// Frees a secret key; NULL is allowed.
///
/// Threads: any, the key being no longer used. Errors: LXI_INVALID_INPUT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_secret_key_free(key: *mut lxi_secret_key) -> lxi_status {
    free(key)
}

/// Parses a key: the file that `minisign -G` writes, its second line alone, or PEM (`-----BEGIN PUBLIC KEY-----`).
///
/// Owner: the caller, who frees it with `lxi_public_key_free`. Threads: any. Errors: LXI_MALFORMED; LXI_UNSUPPORTED for
/// a key of another algorithm.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_public_key_parse(
    content: lxi_bytes,
    key: *mut *mut lxi_public_key,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = args::out_handle(key, "key")?;
        place.set(public(PublicKey::parse(args::bytes(content, "public key")?)?));
        Ok(())
    })
}

/// Reads a key from the file at `path`, as `lxi_public_key_parse` does.
///
/// Owner, threads and errors: as `lxi_public_key_parse`; LXI_IO; LXI_LIMIT_EXCEEDED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_public_key_read(
    path: lxi_str,
    key: *mut *mut lxi_public_key,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = args::out_handle(key, "key")?;
        place.set(public(PublicKey::read(args::path(path, "path of a key")?)?));
        Ok(())
    })
}

/// The key as text: the two lines of `minisign`, or PEM for a key without a number.
///
/// Owner: the caller, who frees the buffer with `lxi_buffer_free`. Threads: any. Errors: LXI_INVALID_INPUT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_public_key_to_text(
    key: *const lxi_public_key,
    text: *mut *mut lxi_buffer,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = args::out_handle(text, "text")?;
        place.set(buffer(handle::get(key)?.key.to_text()));
        Ok(())
    })
}

/// The name of the key, as `minisign` prints it, or 64 digits for another key. It identifies a key and proves nothing.
///
/// Owner: the text belongs to the key. Threads: any. Errors: LXI_INVALID_INPUT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_public_key_id(
    key: *const lxi_public_key,
    id: *mut lxi_str,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = args::out_str(id, "id")?;
        place.set(lxi_str::of(&handle::get(key)?.id));
        Ok(())
    })
}

/// Frees a public key; NULL is allowed.
///
/// Threads: any, the key being no longer used. Errors: LXI_INVALID_INPUT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_public_key_free(key: *mut lxi_public_key) -> lxi_status {
    free(key)
}
