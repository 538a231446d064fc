//! Signed statements about images: made, kept beside images of a store, listed, verified.

use lxd_image::trust::{Envelope, Statement, VOUCH};
use lxd_image::{Error, ErrorKind, Fingerprint, Result};
use serde_json::{Value, json};

use crate::about::index_out_of_range;
use crate::args::{self, versioned};
use crate::buffer::{buffer, lxi_buffer};
use crate::error::{call, free, lxi_error};
use crate::handle::{self, handles};
use crate::key::{lxi_public_key, lxi_secret_key, public_keys, secret_keys};
use crate::limits::{limits_or_default, lxi_limits};
use crate::monitor::{lxi_monitor, monitor_from};
use crate::store::lxi_store;
use crate::types::*;

/// Signed statements about images: in-toto statements in DSSE envelopes. Read-only, so it may be shared between
/// threads.
pub struct lxi_statements {
    _opaque: (),
}

/// What is stated about an image. NULL, or all but `size` zero: that the signer vouches for it.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct lxi_statement_options {
    /// The size of this structure in bytes.
    pub size: usize,
    /// The type of the predicate, a URI such as `https://spdx.dev/Document`; empty with an empty predicate.
    pub predicate_type: lxi_str,
    /// The predicate, a JSON object of any content; or empty.
    pub predicate: lxi_bytes,
    /// Progress, cancellation and omissions of the call, or NULL.
    pub monitor: *const lxi_monitor,
}

/// A signed statement; filled by `lxi_statements_at`. Set `size` to `sizeof(lxi_statement)` before. What it says is a
/// claim of whoever signed it.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct lxi_statement {
    /// The size of this structure in bytes, set by the caller.
    pub size: usize,
    /// The sha256 of the envelope in hex, which names it in a store.
    pub digest: lxi_str,
    /// The type of the predicate, a URI.
    pub predicate_type: lxi_str,
    /// The predicate, a JSON object.
    pub predicate: lxi_str,
    /// The envelope in JSON, on one line without a line feed.
    pub envelope: lxi_str,
}

/// A statement with the texts that C may look at.
pub struct StatementView {
    pub(crate) envelope: Envelope,
    digest: String,
    predicate: String,
}

versioned!(lxi_statement_options, lxi_statement);
handles! { lxi_statements(42) = Vec<StatementView>; }

/// Puts statements behind a handle.
fn statements(envelopes: impl IntoIterator<Item = Envelope>) -> *mut lxi_statements {
    let view = |envelope: Envelope| StatementView {
        digest: envelope.digest(),
        predicate: envelope.statement().predicate().to_string(),
        envelope,
    };
    handle::make(envelopes.into_iter().map(view).collect())
}

/// The envelopes behind a handle; none for NULL.
pub(crate) unsafe fn envelopes(pointer: *const lxi_statements) -> Result<Vec<Envelope>> {
    let views = handle::get_optional(pointer)?.map(Vec::as_slice).unwrap_or_default();
    Ok(views.iter().map(|view| view.envelope.clone()).collect())
}

/// The type of the predicate and the predicate.
unsafe fn predicate(given: &lxi_statement_options) -> Result<(String, Value)> {
    let kind = args::optional_text(given.predicate_type, "type of the predicate")?;
    let bytes = args::bytes(given.predicate, "predicate")?;
    match (kind, bytes) {
        // Not empty: the tools of in-toto take an empty one for none.
        (None, []) => Ok((VOUCH.to_owned(), json!({ "vouched": true }))),
        (Some(kind), [_, ..]) => {
            let value = serde_json::from_slice::<Value>(bytes)
                .map_err(|error| Error::new(ErrorKind::Malformed, "the predicate is not JSON").with_source(error))?;
            if !value.is_object() {
                return Err(Error::new(ErrorKind::Malformed, "the predicate is not a JSON object"));
            }
            Ok((kind.to_owned(), value))
        }
        _ => Err(args::invalid("a predicate and its type are given together, or neither")),
    }
}

/// Signs a statement about the image with this fingerprint, with all `keys`. `options` may be NULL.
///
/// Owner: the caller, who frees the result, one statement, with `lxi_statements_free`. Threads: any. Errors:
/// LXI_INVALID_INPUT without a key, and for a type that is no URI; LXI_MALFORMED for a predicate that is no JSON
/// object.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_statement_sign(
    fingerprint: *const lxi_fingerprint,
    keys: *const *const lxi_secret_key,
    keys_len: usize,
    options: *const lxi_statement_options,
    signed: *mut *mut lxi_statements,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = args::out_handle(signed, "signed")?;
        let fingerprint = args::fingerprint(fingerprint)?;
        let given = args::options(options)?;
        monitor_from(given.monitor)?.check()?;
        let (kind, predicate) = predicate(&given)?;
        let statement = Statement::new(kind, predicate).image(&fingerprint);
        place.set(statements([Envelope::sign(&statement, &secret_keys(keys, keys_len)?)?]));
        Ok(())
    })
}

/// Signs a statement about an image of a store, with the fingerprint and the sha256 of each of its files as subjects,
/// and keeps it beside the image. Reads the image's files. `options` and `signed` may be NULL.
///
/// Owner: the caller, who frees the result, one statement, with `lxi_statements_free`. Threads: any. Errors: as
/// `lxi_statement_sign` and `lxi_store_attach_statements`; LXI_MISMATCH if the bytes in the store are not those of the
/// image; LXI_CANCELLED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_store_sign(
    store: *const lxi_store,
    fingerprint: *const lxi_fingerprint,
    keys: *const *const lxi_secret_key,
    keys_len: usize,
    options: *const lxi_statement_options,
    signed: *mut *mut lxi_statements,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = args::optional_out_handle(signed, "signed")?;
        let (store, fingerprint) = (handle::get(store)?, args::fingerprint(fingerprint)?);
        let keys = secret_keys(keys, keys_len)?;
        let given = args::options(options)?;
        let (kind, predicate) = predicate(&given)?;
        let statement = store.state(&fingerprint, &kind, predicate, &monitor_from(given.monitor)?)?;
        let envelope = Envelope::sign(&statement, &keys)?;
        store.attach_statements(&fingerprint, vec![envelope.clone()])?;
        if let Some(place) = place {
            place.set(statements([envelope]));
        }
        Ok(())
    })
}

/// Parses statements: one envelope in JSON, or a bundle with one on each line. Parsed is not verified. `limits` may be
/// NULL.
///
/// Owner: the caller, who frees the result with `lxi_statements_free`. Threads: any. Errors: LXI_MALFORMED;
/// LXI_UNSUPPORTED for another kind of payload; LXI_LIMIT_EXCEEDED (`statement`, `statements`).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_statements_parse(
    content: lxi_bytes,
    limits: *const lxi_limits,
    parsed: *mut *mut lxi_statements,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = args::out_handle(parsed, "parsed")?;
        let content = args::bytes(content, "statements")?;
        place.set(statements(Envelope::parse_bundle(content, &limits_or_default(limits)?)?));
        Ok(())
    })
}

/// The statements about an image of a store. Nobody has verified them.
///
/// Owner: the caller, who frees the result with `lxi_statements_free`. Threads: any. Errors: LXI_NOT_FOUND;
/// LXI_MALFORMED when the catalog is damaged; LXI_IO.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_store_statements(
    store: *const lxi_store,
    fingerprint: *const lxi_fingerprint,
    found: *mut *mut lxi_statements,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = args::out_handle(found, "found")?;
        place.set(statements(handle::get(store)?.statements(&args::fingerprint(fingerprint)?)?));
        Ok(())
    })
}

/// Keeps statements about an image beside it: servers give them out, and exports to a registry, a tree or a bundle take
/// them along. Those that are there already change nothing.
///
/// Threads: any. Errors: LXI_NOT_FOUND; LXI_MISMATCH for a statement about another image; LXI_LIMIT_EXCEEDED
/// (`statements`); LXI_BUSY; LXI_IO.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_store_attach_statements(
    store: *const lxi_store,
    fingerprint: *const lxi_fingerprint,
    given: *const lxi_statements,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        handle::get(given)?;
        handle::get(store)?.attach_statements(&args::fingerprint(fingerprint)?, envelopes(given)?)
    })
}

/// How many statements there are.
///
/// Threads: any. Errors: LXI_INVALID_INPUT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_statements_len(
    given: *const lxi_statements,
    len: *mut usize,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        args::out(len, 0, "len")?.set(handle::get(given)?.len());
        Ok(())
    })
}

/// Fills `statement` with the one with an index from 0.
///
/// Owner: the texts belong to the handle. Threads: any. Errors: LXI_NOT_FOUND for an index past the end.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_statements_at(
    given: *const lxi_statements,
    index: usize,
    statement: *mut lxi_statement,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let found = handle::get(given)?.get(index).ok_or_else(|| index_out_of_range(index, "statement"))?;
        let told = lxi_statement {
            size: 0,
            digest: lxi_str::of(&found.digest),
            predicate_type: lxi_str::of(found.envelope.statement().predicate_type()),
            predicate: lxi_str::of(&found.predicate),
            envelope: lxi_str::of(found.envelope.as_json()),
        };
        args::fill(statement, &told)
    })
}

/// Whether the statement with an index from 0 is about the image with this fingerprint, and really signed by this key.
///
/// Threads: any. Errors: LXI_NOT_FOUND for an index past the end.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_statements_signed_by(
    given: *const lxi_statements,
    index: usize,
    fingerprint: *const lxi_fingerprint,
    key: *const lxi_public_key,
    yes: *mut bool,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = args::out(yes, false, "yes")?;
        let (fingerprint, key) = (args::fingerprint(fingerprint)?, &handle::get(key)?.key);
        let found = handle::get(given)?.get(index).ok_or_else(|| index_out_of_range(index, "statement"))?;
        let is_signed = !found.envelope.signers(std::slice::from_ref(key)).is_empty();
        place.set(is_signed && found.envelope.statement().is_about(&fingerprint));
        Ok(())
    })
}

/// Fails unless one of the statements is about the image with this fingerprint, of this type unless that is empty, and
/// signed by at least one of `keys`. `count` gets how many are, and may be NULL.
///
/// Threads: any. Errors: LXI_UNTRUSTED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_statements_verify(
    given: *const lxi_statements,
    fingerprint: *const lxi_fingerprint,
    predicate_type: lxi_str,
    keys: *const *const lxi_public_key,
    keys_len: usize,
    count: *mut usize,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = args::optional_out(count, 0, "count")?;
        let (given, fingerprint) = (handle::get(given)?, args::fingerprint(fingerprint)?);
        let wanted = args::optional_text(predicate_type, "type of the predicate")?;
        let keys = public_keys(keys, keys_len)?;
        let is_meant = |envelope: &Envelope| {
            let statement = envelope.statement();
            statement.is_about(&fingerprint)
                && wanted.is_none_or(|wanted| wanted == statement.predicate_type())
                && !envelope.signers(&keys).is_empty()
        };
        let signed = given.iter().filter(|view| is_meant(&view.envelope)).count();
        if signed == 0 {
            return Err(untrusted(&fingerprint, wanted));
        }
        if let Some(place) = place {
            place.set(signed);
        }
        Ok(())
    })
}

fn untrusted(fingerprint: &Fingerprint, wanted: Option<&str>) -> Error {
    let of = wanted.map_or_else(String::new, |wanted| format!(" `{wanted}`"));
    let what = format!("no statement{of} about the image {} is signed by a given key", fingerprint.short());
    Error::new(ErrorKind::Untrusted, what)
}

/// The statements as a bundle of in-toto: one envelope on each line.
///
/// Owner: the caller, who frees the buffer with `lxi_buffer_free`. Threads: any. Errors: LXI_INVALID_INPUT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_statements_bundle(
    given: *const lxi_statements,
    bundle: *mut *mut lxi_buffer,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = args::out_handle(bundle, "bundle")?;
        handle::get(given)?;
        place.set(buffer(Envelope::bundle(&envelopes(given)?)));
        Ok(())
    })
}

/// Frees statements; NULL is allowed. Those that a store keeps stay there.
///
/// Threads: any, the handle being no longer used. Errors: LXI_INVALID_INPUT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_statements_free(given: *mut lxi_statements) -> lxi_status {
    free(given)
}
