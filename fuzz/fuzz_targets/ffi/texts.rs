//! The calls that need no image: questions, errors, limits, fingerprints, templates.

use lxd_image_ffi::*;

use crate::arguments::{Material, zeroed};
use crate::caller::{Caller, call, text_of, texts_of};
use crate::kinds::{FREES, Handle};
use crate::streams::{Feed, read, touch};

/// One call with its arguments.
pub(crate) type Call = fn(&mut Caller<'_>);

pub(crate) const CALLS: &[Call] = &[
    about,
    limits_new,
    limits_new_trusted,
    limits_name_at,
    limits_get,
    limits_set,
    cancel_new,
    cancel_is_set,
    cancel_set,
    hasher_new,
    hasher_update,
    hasher_update_from,
    hasher_get,
    fingerprint_parse,
    fingerprint_format,
    buffer_get,
    template_parse,
    template_warning_at,
    context_from_json,
    context_from_variables,
    context_set_now,
    template_render,
    apply,
    apply_at,
    applied_len,
    applied_at,
    error_get,
    free,
    free_of_another_kind,
];

fn about(caller: &mut Caller<'_>) {
    assert_eq!(lxi_abi_version(), LXI_ABI_VERSION);
    for text in [lxi_version(), lxi_status_name(i32::from(caller.choice()))] {
        // SAFETY: a text that ends with NUL and lives forever.
        assert!(unsafe { std::ffi::CStr::from_ptr(text) }.to_str().is_ok_and(|text| !text.is_empty()));
    }
    let (name, yes) = (caller.text(), caller.result::<bool>(false));
    call!(caller, lxi_has_feature(name, yes));
}

fn limits_new(caller: &mut Caller<'_>) {
    let place = caller.handle_place::<lxi_limits>(false);
    if call!(caller, lxi_limits_new(place)) {
        // SAFETY: the library set it.
        caller.tighten(unsafe { place.read() });
    }
}

fn limits_new_trusted(caller: &mut Caller<'_>) {
    let place = caller.handle_place::<lxi_limits>(false);
    if call!(caller, lxi_limits_new_trusted(place)) {
        // SAFETY: the library set it.
        caller.tighten(unsafe { place.read() });
    }
}

fn limits_name_at(caller: &mut Caller<'_>) {
    let (index, name) = (caller.index(), caller.result::<lxi_str>(false));
    let good = call!(caller, lxi_limits_name_at(index, name));
    caller.shown(good, &[name]);
}

fn limits_get(caller: &mut Caller<'_>) {
    let (limits, name, value) = (caller.handle::<lxi_limits>(), caller.limit(), caller.result::<u64>(false));
    call!(caller, lxi_limits_get(limits, name, value));
}

fn limits_set(caller: &mut Caller<'_>) {
    // Lower ones only: higher ones are what a fuzzer has no time for.
    let (limits, name, value) = (caller.handle::<lxi_limits>(), caller.limit(), caller.choice());
    call!(caller, lxi_limits_set(limits, name, u64::from(value % 128) * 8));
}

fn cancel_new(caller: &mut Caller<'_>) {
    let place = caller.handle_place::<lxi_cancel>(false);
    call!(caller, lxi_cancel_new(place));
}

fn cancel_set(caller: &mut Caller<'_>) {
    let cancel = caller.handle::<lxi_cancel>();
    // Else every call after it would only be cancelled.
    if caller.choice() % 4 == 1 {
        call!(caller, lxi_cancel_set(cancel));
    }
    caller.refused = false;
}

fn cancel_is_set(caller: &mut Caller<'_>) {
    let (cancel, yes) = (caller.handle::<lxi_cancel>(), caller.result::<bool>(false));
    call!(caller, lxi_cancel_is_set(cancel, yes));
}

fn hasher_new(caller: &mut Caller<'_>) {
    let place = caller.handle_place::<lxi_hasher>(false);
    call!(caller, lxi_hasher_new(place));
}

fn hasher_update(caller: &mut Caller<'_>) {
    let (hasher, bytes) = (caller.handle::<lxi_hasher>(), caller.bytes(Material::Yaml));
    call!(caller, lxi_hasher_update(hasher, bytes));
}

fn hasher_update_from(caller: &mut Caller<'_>) {
    let (hasher, count) = (caller.handle::<lxi_hasher>(), caller.result::<u64>(true));
    let feed = Box::new(Feed::new(caller.material.to_vec(), caller.choice(), caller.choice()));
    let user = (&raw const *feed).cast_mut().cast();
    let reading = (caller.choice() < 250).then_some(read as _);
    caller.refused |= reading.is_none();
    // Nothing says here that it is no longer needed: it is needed during the call only.
    caller.feeds.push((feed, false));
    call!(caller, lxi_hasher_update_from(hasher, reading, user, count));
}

fn hasher_get(caller: &mut Caller<'_>) {
    let hasher = caller.handle::<lxi_hasher>();
    let (fingerprint, bytes) = (caller.result::<lxi_fingerprint>(false), caller.result::<u64>(true));
    let good = call!(caller, lxi_hasher_get(hasher, fingerprint, bytes));
    caller.learn(good, fingerprint);
}

fn fingerprint_parse(caller: &mut Caller<'_>) {
    let text = caller.one_of(&["2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"]);
    let fingerprint = caller.result::<lxi_fingerprint>(false);
    let good = call!(caller, lxi_fingerprint_parse(text, fingerprint));
    caller.learn(good, fingerprint);
}

fn fingerprint_format(caller: &mut Caller<'_>) {
    let fingerprint = caller.fingerprint(false);
    let room = if caller.choice() < 200 { LXI_FINGERPRINT_TEXT } else { LXI_FINGERPRINT_TEXT - 1 };
    let mut text = [1_u8; LXI_FINGERPRINT_TEXT];
    caller.refused |= room < LXI_FINGERPRINT_TEXT;
    let place = if caller.choice() < 250 { text.as_mut_ptr() } else { std::ptr::null_mut() };
    caller.refused |= place.is_null();
    if call!(caller, lxi_fingerprint_format(fingerprint, place.cast(), room)) {
        assert!(text[..64].iter().all(u8::is_ascii_hexdigit) && text[64] == 0);
    }
}

fn buffer_get(caller: &mut Caller<'_>) {
    let (buffer, bytes) = (caller.handle::<lxi_buffer>(), caller.result::<lxi_bytes>(false));
    if call!(caller, lxi_buffer_get(buffer, bytes)) {
        // SAFETY: the library set it.
        let bytes = unsafe { bytes.read() };
        touch(bytes.data, bytes.len);
    }
}

fn template_parse(caller: &mut Caller<'_>) {
    let (source, dialect) = (caller.bytes(Material::Template), u32::from(caller.choice() % 3));
    caller.refused |= dialect > LXI_DIALECT_INCUS;
    let (flags, limits) = (caller.flags(), caller.limits());
    caller.refused |= flags > LXI_TEMPLATE_RAW;
    let place = caller.handle_place::<lxi_template>(false);
    call!(caller, lxi_template_parse(source, dialect, flags, limits, place));
}

fn template_warning_at(caller: &mut Caller<'_>) {
    let (parsed, index, warning) = (caller.handle::<lxi_template>(), caller.index(), caller.info::<lxi_warning>());
    if call!(caller, lxi_template_warning_at(parsed, index, warning)) {
        // SAFETY: filled.
        text_of(unsafe { &*warning }.message);
    }
}

fn context_from_json(caller: &mut Caller<'_>) {
    let (json, place) = (caller.bytes(Material::Json), caller.handle_place::<lxi_template_context>(false));
    call!(caller, lxi_template_context_from_json(json, place));
}

fn context_from_variables(caller: &mut Caller<'_>) {
    let (json, place) = (caller.bytes(Material::Json), caller.handle_place::<lxi_template_context>(false));
    call!(caller, lxi_template_context_from_variables(json, place));
}

fn context_set_now(caller: &mut Caller<'_>) {
    let (context, seconds) = (caller.handle::<lxi_template_context>(), caller.seconds());
    call!(caller, lxi_template_context_set_now(context, seconds));
}

fn template_render(caller: &mut Caller<'_>) {
    let (parsed, context, limits) =
        (caller.handle::<lxi_template>(), caller.handle::<lxi_template_context>(), caller.limits());
    let place = caller.handle_place::<lxi_buffer>(false);
    call!(caller, lxi_template_render(parsed, context, limits, place));
}

fn apply_options(caller: &mut Caller<'_>) -> *const lxi_apply_options {
    let mut options: lxi_apply_options = zeroed();
    options.dialect = u32::from(caller.choice() % 2);
    options.flags = caller.flags() % 8;
    caller.refused |= options.flags > 3;
    options.limits = caller.limits();
    options.monitor = caller.monitor();
    if caller.choice() % 4 == 3 {
        options.output = caller.path("out2", true);
    }
    caller.given(options)
}

fn apply(caller: &mut Caller<'_>) {
    let (directory, metadata) = (caller.path("out", false), caller.optional::<lxi_metadata>());
    let (trigger, context) = (caller.one_of(&["create", "start", "copy"]), caller.handle::<lxi_template_context>());
    let (options, place) = (apply_options(caller), caller.handle_place::<lxi_applied>(true));
    call!(caller, lxi_apply(directory, metadata, trigger, context, options, place));
}

fn apply_at(caller: &mut Caller<'_>) {
    let (rootfs, templates) = (caller.descriptor("tree"), caller.descriptor("templates"));
    let metadata = caller.handle::<lxi_metadata>();
    let (trigger, context) = (caller.one_of(&["create", "start", "copy"]), caller.handle::<lxi_template_context>());
    let (options, place) = (apply_options(caller), caller.handle_place::<lxi_applied>(true));
    call!(caller, lxi_apply_at(rootfs, templates, metadata, trigger, context, options, place));
}

fn applied_len(caller: &mut Caller<'_>) {
    let (applied, len) = (caller.handle::<lxi_applied>(), caller.result::<usize>(false));
    call!(caller, lxi_applied_len(applied, len));
}

fn applied_at(caller: &mut Caller<'_>) {
    let (applied, index, outcome) = (caller.handle::<lxi_applied>(), caller.index(), caller.info::<lxi_outcome>());
    if call!(caller, lxi_applied_at(applied, index, outcome)) {
        // SAFETY: filled.
        let outcome = unsafe { &*outcome };
        texts_of(&[outcome.path, outcome.template_name, outcome.reason]);
        touch(outcome.old_content.data, outcome.old_content.len);
        touch(outcome.new_content.data, outcome.new_content.len);
        assert!(
            outcome.action <= LXI_ACTION_FAILED && (outcome.action == LXI_ACTION_FAILED) == (outcome.status != LXI_OK)
        );
    }
}

fn error_get(caller: &mut Caller<'_>) {
    let (error, info) = (caller.handle::<lxi_error>(), caller.info::<lxi_error_info>());
    // SAFETY: what the library must refuse it refuses, and everything else is what it says.
    let status = unsafe { lxi_error_get(error, info) };
    if caller.done("lxi_error_get", status, std::ptr::null_mut()) {
        // SAFETY: filled.
        text_of(unsafe { &*info }.message);
    }
}

/// Frees a handle of any kind as one of its own.
fn free(caller: &mut Caller<'_>) {
    let kind = usize::from(caller.choice()) % FREES.len();
    let Some(&address) = caller.living.get(&kind).and_then(|all| all.last()) else { return };
    // SAFETY: it lives, and is of this kind.
    assert_eq!(unsafe { FREES[kind](address) }, LXI_OK, "a living handle can be freed");
    caller.freed(address, kind);
    // SAFETY: refused without a look at it, since it is on no list of the living.
    assert_eq!(unsafe { FREES[kind](address) }, LXI_INVALID_INPUT, "a freed handle is refused");
}

/// Frees what may be of another kind, or freed.
fn free_of_another_kind(caller: &mut Caller<'_>) {
    let kind = usize::from(caller.choice()) % FREES.len();
    let choice = usize::from(caller.choice());
    let Some(&address) = caller.seen.iter().rev().nth(choice) else { return };
    let living = caller.is_living(address, kind);
    // SAFETY: refused where it is not living and of this kind.
    let status = unsafe { FREES[kind](address) };
    assert_eq!(status == LXI_OK, living, "what was freed is what lives: {status}");
    if living {
        caller.freed(address, kind);
    }
}

impl Caller<'_> {
    fn limit(&mut self) -> lxi_str {
        self.one_of(&[
            "entries",
            "output",
            "metadata",
            "path",
            "template_steps",
            "template_output",
            "codec_memory",
            "yaml_nodes",
        ])
    }

    /// Reads the texts of a call that went well.
    pub(crate) fn shown(&self, good: bool, texts: &[*mut lxi_str]) {
        for text in texts.iter().filter(|text| good && !text.is_null()) {
            // SAFETY: the library set it.
            text_of(unsafe { text.read() });
        }
    }

    /// Remembers a fingerprint of a call that went well.
    pub(crate) fn learn(&mut self, good: bool, fingerprint: *const lxi_fingerprint) {
        if good && !fingerprint.is_null() {
            // SAFETY: the library set it.
            self.known.push(unsafe { fingerprint.read() });
        }
    }
}

const _: () = assert!(lxi_error::KIND == 0, "errors come first");
