//! Policies: what an image needs before a store makes it visible.

use lxd_image::Result;
use lxd_image::metadata::Properties;
use lxd_image::store::Vouched;
use lxd_image::trust::{Admission, Candidate, Policy, SignedList};

use crate::about::index_out_of_range;
use crate::args::{self, versioned};
use crate::error::{call, free, lxi_error};
use crate::handle::{self, handles};
use crate::settings::lxi_settings;
use crate::statement::{envelopes, lxi_statements};
use crate::store::lxi_store;
use crate::types::*;

/// Rules about what images need. Read-only, so it may be shared between threads. `lxi_store_options` takes one: then
/// each way into the store asks it.
pub struct lxi_policy {
    _opaque: (),
}

/// Why an image was admitted, and who vouches for it. Read-only, so it may be shared between threads.
pub struct lxi_admission {
    _opaque: (),
}

/// An image that is judged. Set `size` to `sizeof(lxi_candidate)` and the fingerprint; the rest may be zero.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct lxi_candidate {
    /// The size of this structure in bytes.
    pub size: usize,
    /// The fingerprint, which must be verified: `lxi_image_verify`.
    pub fingerprint: *const lxi_fingerprint,
    /// The address of the server that it comes from; empty for files.
    pub server: lxi_str,
    /// All aliases that it will have.
    pub aliases: *const lxi_str,
    /// How many.
    pub aliases_len: usize,
    /// Its properties.
    pub properties: *const lxi_pair,
    /// How many.
    pub properties_len: usize,
    /// The statements about it, or NULL; their signatures need not be verified yet.
    pub statements: *const lxi_statements,
    /// The key that signed the list that named it, if that was verified; or empty.
    pub list_key: lxi_str,
}

/// Why an image was admitted; filled by `lxi_admission_get`. Set `size` to `sizeof(lxi_admission_info)` before. Times
/// are seconds since 1970, and 0 where there is none.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct lxi_admission_info {
    /// The size of this structure in bytes, set by the caller.
    pub size: usize,
    /// Whether a policy answered: `rule` and `vouched` are from it.
    pub admitted: bool,
    /// The rule that decided; empty if no rule was for the image.
    pub rule: lxi_str,
    /// How many sentences say who vouched: `lxi_admission_vouched_at`.
    pub vouched: usize,
    /// When the policy answered, for an image of a store.
    pub admitted_at: i64,
    /// The key that signed the list of the server that the image came from; or empty.
    pub list_key: lxi_str,
    /// When that list was signed, if its signature tells.
    pub list_signed_at: i64,
    /// When the store noted that.
    pub list_noted_at: i64,
}

versioned!(lxi_candidate, lxi_admission_info);
handles! {
    lxi_policy(43) = Policy;
    lxi_admission(44) = Vouched;
}

fn admitted(admission: Admission) -> *mut lxi_admission {
    let mut vouched = Vouched::default();
    vouched.admission = Some((admission, 0));
    handle::make(vouched)
}

/// Replaces names of remotes by their addresses, as the settings have them.
unsafe fn with_settings(policy: Policy, settings: *const lxi_settings) -> Result<Policy> {
    match handle::get_optional(settings)? {
        // A rule for a remote that nobody knows would match nothing, and protect nothing.
        None => policy.with_remotes(|_| None),
        Some(settings) => settings.resolve_policy(policy),
    }
}

/// Reads a policy from a file in TOML, as TRUST.md describes it. Files of keys that it names are relative to its
/// directory, and names of remotes are those of `settings`, which may be NULL if it names none.
///
/// Owner: the caller, who frees it with `lxi_policy_free`. Threads: any. Errors: LXI_INVALID_INPUT for what is no
/// policy, unknown keys and unknown remotes; those of `lxi_public_key_read`; LXI_IO; LXI_LIMIT_EXCEEDED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_policy_read(
    path: lxi_str,
    settings: *const lxi_settings,
    policy: *mut *mut lxi_policy,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = args::out_handle(policy, "policy")?;
        let path = args::path(path, "path of a policy")?;
        place.set(handle::make(with_settings(Policy::read(path)?, settings)?));
        Ok(())
    })
}

/// Parses a policy. `directory` is where files of keys are looked for. `settings` may be NULL, as for
/// `lxi_policy_read`.
///
/// Owner, threads and errors: as `lxi_policy_read`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_policy_parse(
    text: lxi_str,
    directory: lxi_str,
    settings: *const lxi_settings,
    policy: *mut *mut lxi_policy,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = args::out_handle(policy, "policy")?;
        let directory = args::path(directory, "directory of keys")?;
        let parsed = Policy::parse(args::text(text, "policy")?, directory)?;
        place.set(handle::make(with_settings(parsed, settings)?));
        Ok(())
    })
}

/// Frees a policy; NULL is allowed. A store that was opened with it keeps its own.
///
/// Threads: any, the policy being no longer used. Errors: LXI_INVALID_INPUT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_policy_free(policy: *mut lxi_policy) -> lxi_status {
    free(policy)
}

/// Judges an image that is in no store. `admission` may be NULL.
///
/// Owner: the caller, who frees the result with `lxi_admission_free`. Threads: any. Errors: LXI_UNTRUSTED, with the
/// rule and what is missing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_policy_admit(
    policy: *const lxi_policy,
    candidate: *const lxi_candidate,
    admission: *mut *mut lxi_admission,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = args::optional_out_handle(admission, "admission")?;
        let policy = handle::get(policy)?;
        let given = args::required(candidate)?;
        let mut properties = Properties::new();
        for (key, value) in args::pairs(given.properties, given.properties_len, "properties")? {
            properties.set(key, value)?;
        }
        let list = args::optional_text(given.list_key, "key of the list")?.map(|key| SignedList::new(key, None));
        let done = policy.admit(&Candidate {
            fingerprint: &args::fingerprint(given.fingerprint)?,
            server: args::optional_text(given.server, "server")?,
            aliases: &args::texts(given.aliases, given.aliases_len, "aliases")?,
            properties: &properties,
            list: list.as_ref(),
            statements: &envelopes(given.statements)?,
        })?;
        if let Some(place) = place {
            place.set(admitted(done));
        }
        Ok(())
    })
}

/// Judges an image of a store, by what the store keeps about it. `admission` may be NULL.
///
/// Owner: the caller, who frees the result with `lxi_admission_free`. Threads: any. Errors: LXI_UNTRUSTED, with the
/// rule and what is missing; LXI_NOT_FOUND; LXI_MALFORMED when the catalog is damaged; LXI_IO.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_store_ask_policy(
    store: *const lxi_store,
    policy: *const lxi_policy,
    fingerprint: *const lxi_fingerprint,
    admission: *mut *mut lxi_admission,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = args::optional_out_handle(admission, "admission")?;
        let (store, policy) = (handle::get(store)?, handle::get(policy)?);
        let done = store.ask_policy(policy, &args::fingerprint(fingerprint)?)?;
        if let Some(place) = place {
            place.set(admitted(done));
        }
        Ok(())
    })
}

/// Who vouched for an image of a store when it became visible: the signed list that named it, and what the store's
/// policy answered.
///
/// Owner: the caller, who frees the result with `lxi_admission_free`. Threads: any. Errors: LXI_NOT_FOUND;
/// LXI_MALFORMED when the catalog is damaged; LXI_IO.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_store_vouched(
    store: *const lxi_store,
    fingerprint: *const lxi_fingerprint,
    admission: *mut *mut lxi_admission,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = args::out_handle(admission, "admission")?;
        let (store, fingerprint) = (handle::get(store)?, args::fingerprint(fingerprint)?);
        store.image(&fingerprint)?;
        place.set(handle::make(store.vouched(&fingerprint)?));
        Ok(())
    })
}

/// Fills `info` with why an image was admitted.
///
/// Owner: the texts belong to the handle. Threads: any. Errors: LXI_INVALID_INPUT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_admission_get(
    admission: *const lxi_admission,
    info: *mut lxi_admission_info,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let Vouched { list, admission, .. } = handle::get(admission)?;
        let rule = admission.as_ref().and_then(|(admission, _)| admission.rule.as_deref());
        let told = lxi_admission_info {
            size: 0,
            admitted: admission.is_some(),
            rule: lxi_str::of_optional(rule),
            vouched: admission.as_ref().map_or(0, |(admission, _)| admission.vouched.len()),
            admitted_at: admission.as_ref().map_or(0, |(_, at)| *at),
            list_key: lxi_str::of_optional(list.as_ref().map(|(list, _)| list.key.as_str())),
            list_signed_at: list.as_ref().and_then(|(list, _)| list.signed_at).unwrap_or(0),
            list_noted_at: list.as_ref().map_or(0, |(_, at)| *at),
        };
        args::fill(info, &told)
    })
}

/// A sentence about who vouched, with an index from 0.
///
/// Owner: the text belongs to the handle. Threads: any. Errors: LXI_NOT_FOUND for an index past the end.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_admission_vouched_at(
    admission: *const lxi_admission,
    index: usize,
    sentence: *mut lxi_str,
    error: *mut *mut lxi_error,
) -> lxi_status {
    call(error, || {
        let place = args::out_str(sentence, "sentence")?;
        let found = handle::get(admission)?.admission.as_ref().and_then(|(admission, _)| admission.vouched.get(index));
        place.set(lxi_str::of(found.ok_or_else(|| index_out_of_range(index, "sentence"))?));
        Ok(())
    })
}

/// Frees an admission; NULL is allowed.
///
/// Threads: any, the handle being no longer used. Errors: LXI_INVALID_INPUT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lxi_admission_free(admission: *mut lxi_admission) -> lxi_status {
    free(admission)
}
