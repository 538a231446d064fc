//! The calls that open, look into, unpack and write images.

use lxd_image_ffi::*;

use crate::arguments::{Material, zeroed};
use crate::caller::{Caller, call, texts_of};
use crate::streams::{entry, touch, write};
use crate::texts::Call;

pub(crate) const CALLS: &[Call] = &[
    fingerprint_of,
    open,
    get,
    metadata,
    metadata_bytes,
    template,
    fingerprint,
    verify,
    survey,
    verification_get,
    verification_parts,
    verification_finding_at,
    differences,
    differences_at,
    differences_attribute_at,
    stage,
    staged_get,
    staged_verify,
    staged_accept,
    staged_commit,
    staged_discard,
    unpack_verified,
    unpack_unverified,
    unpacked_get,
    unpacked_parts,
    pack,
    pack_to,
    convert,
    convert_to,
    written_get,
    written_parts,
];

fn fingerprint_of(caller: &mut Caller<'_>) {
    let ((first, second), monitor) = (caller.inputs(), caller.monitor());
    let place = caller.result::<lxi_fingerprint>(false);
    let good = call!(caller, lxi_fingerprint_of(first, second, monitor, place));
    caller.learn(good, place);
}

fn open(caller: &mut Caller<'_>) {
    let ((first, second), limits) = (caller.inputs(), caller.limits());
    let place = caller.handle_place::<lxi_image>(false);
    call!(caller, lxi_image_open(first, second, limits, place));
}

fn get(caller: &mut Caller<'_>) {
    let (image, info) = (caller.handle::<lxi_image>(), caller.info::<lxi_image_info>());
    if call!(caller, lxi_image_get(image, info)) {
        // SAFETY: filled.
        let info = unsafe { &*info };
        texts_of(&[info.container, info.codec, info.rootfs_container, info.rootfs_codec]);
    }
}

fn metadata(caller: &mut Caller<'_>) {
    let (image, place) = (caller.handle::<lxi_image>(), caller.handle_place::<lxi_metadata>(false));
    call!(caller, lxi_image_metadata(image, place));
}

fn metadata_bytes(caller: &mut Caller<'_>) {
    let (image, place) = (caller.handle::<lxi_image>(), caller.handle_place::<lxi_buffer>(false));
    call!(caller, lxi_image_metadata_bytes(image, place));
}

fn template(caller: &mut Caller<'_>) {
    let (image, name) = (caller.handle::<lxi_image>(), caller.one_of(&["a", "../a"]));
    let place = caller.handle_place::<lxi_buffer>(false);
    call!(caller, lxi_image_template(image, name, place));
}

fn fingerprint(caller: &mut Caller<'_>) {
    let (image, monitor) = (caller.handle::<lxi_image>(), caller.monitor());
    let place = caller.result::<lxi_fingerprint>(false);
    let good = call!(caller, lxi_image_fingerprint(image, monitor, place));
    caller.learn(good, place);
}

fn verify_options(caller: &mut Caller<'_>, most: u32) -> *const lxi_verify_options {
    let mut options: lxi_verify_options = zeroed();
    options.threads = caller.threads();
    options.flags = caller.flags() % 4;
    caller.refused |= options.flags > most;
    options.monitor = caller.monitor();
    caller.given(options)
}

fn verify(caller: &mut Caller<'_>) {
    let (image, options) = (caller.handle::<lxi_image>(), verify_options(caller, LXI_VERIFY_CONTENTS));
    let place = caller.handle_place::<lxi_verify_report>(false);
    call!(caller, lxi_image_verify(image, options, place));
}

fn survey(caller: &mut Caller<'_>) {
    let (image, options) = (caller.handle::<lxi_image>(), verify_options(caller, LXI_VERIFY_CONTENTS));
    let (show, user) = ((caller.choice() < 250).then_some(entry as _), caller.patience());
    caller.refused |= show.is_none();
    let place = caller.handle_place::<lxi_verify_report>(true);
    call!(caller, lxi_image_survey(image, options, show, user, place));
}

fn verification_get(caller: &mut Caller<'_>) {
    let (found, info) = (caller.handle::<lxi_verify_report>(), caller.info::<lxi_verify_info>());
    let good = call!(caller, lxi_verify_report_get(found, info));
    if good {
        // SAFETY: filled.
        caller.learn(good, unsafe { &raw const (*info).fingerprint });
    }
}

fn verification_parts(caller: &mut Caller<'_>) {
    let (found, place) = (caller.handle::<lxi_verify_report>(), caller.handle_place::<lxi_metadata>(false));
    call!(caller, lxi_verify_report_metadata(found, place));
    let (found, index, name) =
        (caller.handle::<lxi_verify_report>(), caller.index(), caller.result::<lxi_bytes>(false));
    let good = call!(caller, lxi_verify_report_template_at(found, index, name));
    caller.read(good, name);
    let (found, index, path) =
        (caller.handle::<lxi_verify_report>(), caller.index(), caller.result::<lxi_bytes>(false));
    let good = call!(caller, lxi_verify_report_stray_at(found, index, path));
    caller.read(good, path);
}

fn verification_finding_at(caller: &mut Caller<'_>) {
    let (found, index, info) = (caller.handle::<lxi_verify_report>(), caller.index(), caller.info::<lxi_error_info>());
    if call!(caller, lxi_verify_report_finding_at(found, index, info)) {
        // SAFETY: filled.
        let info = unsafe { &*info };
        texts_of(&[info.message, info.sentence, info.hint, info.expected, info.found, info.limit]);
    }
}

fn differences(caller: &mut Caller<'_>) {
    let (first, second) = (caller.handle::<lxi_image>(), caller.handle::<lxi_image>());
    let options = verify_options(caller, LXI_VERIFY_CONTENTS);
    let (place, count) = (caller.handle_place::<lxi_differences>(false), caller.result::<usize>(false));
    call!(caller, lxi_image_differences(first, second, options, place, count));
}

fn differences_at(caller: &mut Caller<'_>) {
    let (found, index, info) =
        (caller.handle::<lxi_differences>(), caller.index(), caller.info::<lxi_difference_info>());
    if call!(caller, lxi_differences_at(found, index, info)) {
        // SAFETY: filled.
        let info = unsafe { &*info };
        touch(info.path.data, info.path.len);
        assert!((LXI_DIFFERENCE_ONLY_IN_FIRST..=LXI_DIFFERENCE_CHANGED).contains(&info.kind));
    }
}

fn differences_attribute_at(caller: &mut Caller<'_>) {
    let (found, difference, index) = (caller.handle::<lxi_differences>(), caller.index(), caller.index());
    let (name, first, second) = (caller.result(false), caller.result(false), caller.result(false));
    let good = call!(caller, lxi_differences_attribute_at(found, difference, index, name, first, second));
    caller.shown(good, &[name, first, second]);
}

fn unpack_options(caller: &mut Caller<'_>) -> *const lxi_unpack_options {
    let mut options: lxi_unpack_options = zeroed();
    options.flags = caller.flags() % 32;
    caller.refused |= options.flags > 15;
    options.threads = caller.threads();
    if caller.choice() % 4 == 3 {
        let ranges = vec![
            lxi_id_range { inside: 0, outside: caller.flags(), count: caller.flags() },
            lxi_id_range { inside: 1, outside: 7, count: 9 },
        ];
        (options.id_map, options.id_map_len) = (ranges.as_ptr(), usize::from(caller.choice() % 3));
        caller.kept.push(Box::new(ranges));
    }
    options.monitor = caller.monitor();
    caller.given(options)
}

fn stage(caller: &mut Caller<'_>) {
    let (image, destination, options) =
        (caller.handle::<lxi_image>(), caller.path("out", false), unpack_options(caller));
    let place = caller.handle_place::<lxi_staged>(false);
    call!(caller, lxi_image_stage(image, destination, options, place));
}

fn staged_get(caller: &mut Caller<'_>) {
    let (staged, info) = (caller.handle::<lxi_staged>(), caller.info::<lxi_unpacked_info>());
    let good = call!(caller, lxi_staged_get(staged, info));
    caller.unpacked(good, info);
}

fn staged_verify(caller: &mut Caller<'_>) {
    let (staged, expected) = (caller.handle::<lxi_staged>(), caller.fingerprint(false));
    call!(caller, lxi_staged_verify(staged, expected));
}

fn staged_accept(caller: &mut Caller<'_>) {
    let staged = caller.handle::<lxi_staged>();
    call!(caller, lxi_staged_accept_unverified(staged));
}

fn staged_commit(caller: &mut Caller<'_>) {
    let (staged, name) = (caller.handle::<lxi_staged>(), caller.one_of(&["out", "out3", "../outside/x"]));
    let place = caller.handle_place::<lxi_unpacked>(true);
    call!(caller, lxi_staged_commit(staged, name, place));
}

fn staged_discard(caller: &mut Caller<'_>) {
    let staged = caller.handle::<lxi_staged>();
    if caller.choice() % 4 == 1 {
        call!(caller, lxi_staged_discard(staged));
    }
    caller.refused = false;
}

fn unpack_verified(caller: &mut Caller<'_>) {
    let (image, destination) = (caller.handle::<lxi_image>(), caller.path("out", false));
    let (expected, options) = (caller.fingerprint(false), unpack_options(caller));
    let place = caller.handle_place::<lxi_unpacked>(true);
    call!(caller, lxi_image_unpack_verified(image, destination, expected, options, place));
}

fn unpack_unverified(caller: &mut Caller<'_>) {
    let (image, destination, options) =
        (caller.handle::<lxi_image>(), caller.path("out", false), unpack_options(caller));
    let place = caller.handle_place::<lxi_unpacked>(true);
    call!(caller, lxi_image_unpack_unverified(image, destination, options, place));
}

fn unpacked_get(caller: &mut Caller<'_>) {
    let (unpacked, info) = (caller.handle::<lxi_unpacked>(), caller.info::<lxi_unpacked_info>());
    let good = call!(caller, lxi_unpacked_get(unpacked, info));
    caller.unpacked(good, info);
}

fn unpacked_parts(caller: &mut Caller<'_>) {
    let (unpacked, place) = (caller.handle::<lxi_unpacked>(), caller.handle_place::<lxi_metadata>(false));
    call!(caller, lxi_unpacked_metadata(unpacked, place));
    let (unpacked, index) = (caller.handle::<lxi_unpacked>(), caller.index());
    let (path, what) = (caller.result::<lxi_bytes>(false), caller.result::<lxi_str>(false));
    let good = call!(caller, lxi_unpacked_omission_at(unpacked, index, path, what));
    caller.read(good, path);
    caller.shown(good, &[what]);
    let (unpacked, index) = (caller.handle::<lxi_unpacked>(), caller.index());
    let (what, count) = (caller.result::<lxi_str>(false), caller.result::<u64>(false));
    let good = call!(caller, lxi_unpacked_omission_kind_at(unpacked, index, what, count));
    caller.shown(good, &[what]);
}

/// The names of codecs, and one that is none.
const CODECS: &[&str] = &["", "none", "zstd", "gzip", "lz4", "bzip2", "rar", "xz"];

pub(crate) fn pack_options(caller: &mut Caller<'_>) -> *const lxi_pack_options {
    let mut options: lxi_pack_options = zeroed();
    options.tree = caller.path("tree", true);
    if caller.choice() % 8 == 7 {
        options.disk = caller.options(|caller| {
            let mut disk: lxi_input = zeroed();
            disk.kind = LXI_INPUT_BYTES;
            disk.bytes = caller.keep_bytes(caller.material.to_vec());
            disk
        });
    }
    if caller.choice() % 4 == 3 {
        options.metadata = caller.optional::<lxi_metadata>();
    } else {
        options.metadata_yaml = caller.bytes(Material::Yaml);
    }
    if caller.choice() % 4 == 3 {
        options.templates = caller.path("templates", true);
    }
    options.compression = caller.one_of(CODECS);
    (options.form, options.rootfs_format) = (u32::from(caller.choice() % 4), u32::from(caller.choice() % 4));
    options.flags = caller.flags() % 8;
    caller.refused |= options.flags > 3;
    (options.threads, options.newest_mtime) = (caller.threads(), caller.seconds());
    (options.limits, options.monitor) = (caller.limits(), caller.monitor());
    caller.required(options)
}

fn pack(caller: &mut Caller<'_>) {
    let (options, out) = (pack_options(caller), caller.path("image", false));
    let place = caller.handle_place::<lxi_written>(true);
    call!(caller, lxi_pack(options, out, place));
}

fn pack_to(caller: &mut Caller<'_>) {
    let (options, user) = (pack_options(caller), caller.patience());
    let place = caller.handle_place::<lxi_written>(true);
    call!(caller, lxi_pack_to(options, Some(write), user, place));
}

fn convert_options(caller: &mut Caller<'_>) -> *const lxi_convert_options {
    let mut options: lxi_convert_options = zeroed();
    (options.form, options.rootfs_format) = (u32::from(caller.choice() % 4), u32::from(caller.choice() % 4));
    options.compression = caller.one_of(CODECS);
    if caller.choice() % 4 == 3 {
        options.expected_fingerprint = caller.fingerprint(true);
    }
    (options.threads, options.monitor) = (caller.threads(), caller.monitor());
    caller.given(options)
}

fn convert(caller: &mut Caller<'_>) {
    let (image, options, out) = (caller.handle::<lxi_image>(), convert_options(caller), caller.path("image2", false));
    let place = caller.handle_place::<lxi_written>(true);
    call!(caller, lxi_image_convert(image, options, out, place));
}

fn convert_to(caller: &mut Caller<'_>) {
    let (image, options, user) = (caller.handle::<lxi_image>(), convert_options(caller), caller.patience());
    let place = caller.handle_place::<lxi_written>(true);
    call!(caller, lxi_image_convert_to(image, options, Some(write), user, place));
}

fn written_get(caller: &mut Caller<'_>) {
    let (written, info) = (caller.handle::<lxi_written>(), caller.info::<lxi_written_info>());
    let good = call!(caller, lxi_written_get(written, info));
    if good {
        // SAFETY: filled.
        caller.learn(good, unsafe { &raw const (*info).fingerprint });
    }
}

fn written_parts(caller: &mut Caller<'_>) {
    let (written, index, path) = (caller.handle::<lxi_written>(), caller.index(), caller.result::<lxi_str>(false));
    if call!(caller, lxi_written_file_at(written, index, path)) {
        // SAFETY: the library set it.
        let path = unsafe { path.read() };
        touch(path.data.cast(), path.len);
    }
    let (written, index) = (caller.handle::<lxi_written>(), caller.index());
    let (path, why) = (caller.result::<lxi_bytes>(false), caller.result::<lxi_str>(false));
    let good = call!(caller, lxi_written_omission_at(written, index, path, why));
    caller.read(good, path);
    caller.shown(good, &[why]);
}

impl Caller<'_> {
    /// Reads the bytes of a call that went well.
    pub(crate) fn read(&self, good: bool, bytes: *mut lxi_bytes) {
        if good {
            // SAFETY: the library set it.
            let bytes = unsafe { bytes.read() };
            touch(bytes.data, bytes.len);
        }
    }

    fn unpacked(&mut self, good: bool, info: *const lxi_unpacked_info) {
        if good {
            // SAFETY: filled.
            let info = unsafe { &*info };
            touch(info.path.data.cast(), info.path.len);
            self.learn(good, &raw const info.fingerprint);
        }
    }
}
