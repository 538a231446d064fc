//! The calls of the store.

use lxd_image_ffi::*;

use crate::arguments::zeroed;
use crate::caller::{Caller, call, text_of, texts_of};
use crate::images::pack_options;
use crate::streams::{clock, touch, write};
use crate::texts::Call;

pub(crate) const CALLS: &[Call] = &[
    open,
    import,
    publish,
    list,
    list_len,
    list_at,
    resolve,
    image,
    stored_get,
    stored_parts,
    stored_to_json,
    create_alias,
    aliases,
    alias,
    alias_list,
    move_alias,
    rename_alias,
    edit,
    mark_used,
    open_image,
    export,
    export_to,
    exported_file_at,
    delete_alias,
    prune,
    pruned_at,
    check,
    check_report,
    repair,
    delete,
];

fn store_options(caller: &mut Caller<'_>) -> *const lxi_store_options {
    let mut options: lxi_store_options = zeroed();
    // Nobody waits for a store that another handle of this run has.
    options.flags = caller.flags() % 16 | LXI_STORE_BUSY_TIMEOUT;
    caller.refused |= options.flags > 7;
    options.threads = caller.threads();
    options.limits = caller.limits();
    options.clock = (caller.choice() % 2 == 1).then_some(clock as _);
    caller.given(options)
}

fn open(caller: &mut Caller<'_>) {
    let (path, options) = (caller.path("store", false), store_options(caller));
    let place = caller.handle_place::<lxi_store>(false);
    call!(caller, lxi_store_open(path, options, place));
}

fn one_alias(caller: &mut Caller<'_>) -> lxi_alias {
    lxi_alias { name: caller.one_of(&["web", "debian/12", "a"]), description: caller.text() }
}

fn import_options(caller: &mut Caller<'_>) -> *const lxi_import_options {
    caller.options(|caller| {
        let mut options: lxi_import_options = zeroed();
        options.flags = caller.flags() % (4 * LXI_IMPORT_REPLACE_IMAGES);
        caller.refused |= options.flags >= 2 * LXI_IMPORT_REPLACE_IMAGES;
        let aliases = vec![one_alias(caller)];
        let properties = vec![lxi_pair { key: caller.text(), value: caller.text() }];
        (options.aliases, options.aliases_len) = (aliases.as_ptr(), 1);
        (options.properties, options.properties_len) = (properties.as_ptr(), 1);
        caller.kept.push(Box::new((aliases, properties)));
        if caller.choice() % 4 == 3 {
            options.expected_fingerprint = caller.fingerprint(true);
        }
        options.expires_at = caller.seconds();
        if caller.choice() % 4 == 3 {
            options.file_name = caller.one_of(&["image.tar", "../outside/x", "/etc/x"]);
        }
        if caller.choice() % 4 == 3 {
            options.source = caller.options(|caller| {
                let mut source: lxi_update_source = zeroed();
                source.server = caller.one_of(&["https://images.example.org"]);
                source.protocol = caller.one_of(&["simplestreams", "lxd"]);
                source.alias = caller.text();
                source.image_type = u32::from(caller.choice() % 4);
                source
            });
        }
        options.monitor = caller.monitor();
        options
    })
}

fn import(caller: &mut Caller<'_>) {
    let (store, (first, second)) = (caller.handle::<lxi_store>(), caller.inputs());
    let (options, place) = (import_options(caller), caller.handle_place::<lxi_stored_image>(true));
    call!(caller, lxi_store_import(store, first, second, options, place));
}

fn publish(caller: &mut Caller<'_>) {
    let (store, packing, options) = (caller.handle::<lxi_store>(), pack_options(caller), import_options(caller));
    let (image, written) = (caller.handle_place::<lxi_stored_image>(true), caller.handle_place::<lxi_written>(true));
    call!(caller, lxi_store_publish(store, packing, options, image, written));
}

fn list(caller: &mut Caller<'_>) {
    let (store, filters) =
        (caller.handle::<lxi_store>(), vec![caller.one_of(&["os=web", "architecture=x86_64", "web"])]);
    // A filter that is left out is not looked at.
    let count = usize::from(caller.choice() % 2);
    caller.refused &= count == 1;
    let place = caller.handle_place::<lxi_image_list>(false);
    call!(caller, lxi_store_list(store, filters.as_ptr(), count, place));
}

fn list_len(caller: &mut Caller<'_>) {
    let (images, len) = (caller.handle::<lxi_image_list>(), caller.result::<usize>(false));
    call!(caller, lxi_image_list_len(images, len));
}

fn list_at(caller: &mut Caller<'_>) {
    let (images, index, place) = (caller.handle::<lxi_image_list>(), caller.index(), caller.handle_place(false));
    call!(caller, lxi_image_list_at(images, index, place));
}

fn resolve(caller: &mut Caller<'_>) {
    let (store, reference) = (caller.handle::<lxi_store>(), caller.one_of(&["web", "debian/12"]));
    let place = caller.handle_place::<lxi_stored_image>(false);
    call!(caller, lxi_store_resolve(store, reference, place));
    let (store, reference) = (caller.handle::<lxi_store>(), caller.one_of(&["web", "debian/12"]));
    let (of, place) = (image_type(caller), caller.handle_place::<lxi_stored_image>(false));
    call!(caller, lxi_store_resolve_preferring(store, reference, of, place));
}

/// A type of images, none, or one that is refused.
fn image_type(caller: &mut Caller<'_>) -> lxi_image_type {
    let of = lxi_image_type::from(caller.choice() % 4);
    caller.refused |= of > LXI_TYPE_VIRTUAL_MACHINE;
    of
}

fn image(caller: &mut Caller<'_>) {
    let (store, fingerprint) = (caller.handle::<lxi_store>(), caller.fingerprint(false));
    let place = caller.handle_place::<lxi_stored_image>(false);
    call!(caller, lxi_store_image(store, fingerprint, place));
}

fn stored_get(caller: &mut Caller<'_>) {
    let (image, info) = (caller.handle::<lxi_stored_image>(), caller.info::<lxi_stored_image_info>());
    if call!(caller, lxi_stored_image_get(image, info)) {
        // SAFETY: filled.
        let info = unsafe { &*info };
        texts_of(&[info.architecture, info.etag, info.source_server, info.source_protocol, info.source_alias]);
        touch(info.file_name.data.cast(), info.file_name.len);
        touch(info.rootfs_name.data.cast(), info.rootfs_name.len);
        caller.learn(true, &raw const info.fingerprint);
    }
}

fn stored_parts(caller: &mut Caller<'_>) {
    let (image, index) = (caller.handle::<lxi_stored_image>(), caller.index());
    let (key, value) = (caller.result::<lxi_str>(false), caller.result::<lxi_str>(false));
    let good = call!(caller, lxi_stored_image_property_at(image, index, key, value));
    caller.shown(good, &[key, value]);
    let (image, key, value) =
        (caller.handle::<lxi_stored_image>(), caller.one_of(&["os"]), caller.result::<lxi_str>(false));
    let good = call!(caller, lxi_stored_image_property(image, key, value));
    caller.shown(good, &[value]);
    let (image, index) = (caller.handle::<lxi_stored_image>(), caller.index());
    let (name, description) = (caller.result::<lxi_str>(false), caller.result::<lxi_str>(false));
    let good = call!(caller, lxi_stored_image_alias_at(image, index, name, description));
    caller.shown(good, &[name, description]);
}

fn stored_to_json(caller: &mut Caller<'_>) {
    let (image, place) = (caller.handle::<lxi_stored_image>(), caller.handle_place::<lxi_buffer>(false));
    call!(caller, lxi_stored_image_to_json(image, place));
}

fn create_alias(caller: &mut Caller<'_>) {
    let (store, given, target) = (caller.handle::<lxi_store>(), one_alias(caller), caller.fingerprint(false));
    call!(caller, lxi_store_create_alias(store, given, target));
}

fn move_alias(caller: &mut Caller<'_>) {
    let (store, given, target) = (caller.handle::<lxi_store>(), one_alias(caller), caller.fingerprint(false));
    call!(caller, lxi_store_move_alias(store, given, target));
}

fn aliases(caller: &mut Caller<'_>) {
    let (store, place) = (caller.handle::<lxi_store>(), caller.handle_place::<lxi_alias_list>(false));
    call!(caller, lxi_store_aliases(store, place));
}

fn alias(caller: &mut Caller<'_>) {
    let (store, name, place) = (caller.handle::<lxi_store>(), caller.one_of(&["web", "a"]), caller.handle_place(false));
    call!(caller, lxi_store_alias(store, name, place));
    let (store, name) = (caller.handle::<lxi_store>(), caller.one_of(&["web", "a"]));
    let (of, place) = (image_type(caller), caller.handle_place(false));
    call!(caller, lxi_store_alias_of_type(store, name, of, place));
}

fn alias_list(caller: &mut Caller<'_>) {
    let (aliases, len) = (caller.handle::<lxi_alias_list>(), caller.result::<usize>(false));
    call!(caller, lxi_alias_list_len(aliases, len));
    let (aliases, index) = (caller.handle::<lxi_alias_list>(), caller.index());
    let (alias, target) = (caller.result::<lxi_alias>(false), caller.result::<lxi_fingerprint>(true));
    let good = call!(caller, lxi_alias_list_at(aliases, index, alias, target));
    if good {
        // SAFETY: the library set it.
        let alias = unsafe { alias.read() };
        texts_of(&[alias.name, alias.description]);
    }
    caller.learn(good, target);
    let (aliases, index) = (caller.handle::<lxi_alias_list>(), caller.index());
    let of = caller.result::<lxi_image_type>(false);
    call!(caller, lxi_alias_list_type_at(aliases, index, of));
}

fn rename_alias(caller: &mut Caller<'_>) {
    let (store, name, new) = (caller.handle::<lxi_store>(), caller.one_of(&["a", "web"]), caller.one_of(&["b", "web"]));
    call!(caller, lxi_store_rename_alias(store, name, new));
    let (store, name, new) = (caller.handle::<lxi_store>(), caller.one_of(&["a", "web"]), caller.one_of(&["b", "web"]));
    let of = image_type(caller);
    call!(caller, lxi_store_rename_alias_of_type(store, name, new, of));
}

fn delete_alias(caller: &mut Caller<'_>) {
    let (store, name) = (caller.handle::<lxi_store>(), caller.one_of(&["b", "web"]));
    call!(caller, lxi_store_delete_alias(store, name));
    let (store, name) = (caller.handle::<lxi_store>(), caller.one_of(&["b", "web"]));
    let of = image_type(caller);
    call!(caller, lxi_store_delete_alias_of_type(store, name, of));
}

fn edit(caller: &mut Caller<'_>) {
    let (store, fingerprint) = (caller.handle::<lxi_store>(), caller.fingerprint(false));
    let mut edit: lxi_edit = zeroed();
    edit.flags = caller.flags();
    caller.refused |= edit.flags > 127;
    edit.reserved = u32::from(caller.choice() == 255);
    caller.refused |= edit.reserved != 0;
    edit.expires_at = caller.seconds();
    let properties = vec![lxi_pair { key: caller.text(), value: caller.text() }];
    let remove = vec![caller.one_of(&["os", "a"])];
    (edit.properties, edit.properties_len) = (properties.as_ptr(), 1);
    (edit.remove, edit.remove_len) = (remove.as_ptr(), 1);
    caller.kept.push(Box::new((properties, remove)));
    if caller.choice() % 4 == 3 {
        edit.etag = caller.text();
    }
    edit.revision = u64::from(caller.choice());
    let (edit, place) = (caller.required(edit), caller.handle_place::<lxi_stored_image>(true));
    call!(caller, lxi_store_edit(store, fingerprint, edit, place));
}

fn mark_used(caller: &mut Caller<'_>) {
    let (store, fingerprint) = (caller.handle::<lxi_store>(), caller.fingerprint(false));
    call!(caller, lxi_store_mark_used(store, fingerprint));
}

fn open_image(caller: &mut Caller<'_>) {
    let (store, fingerprint, limits) = (caller.handle::<lxi_store>(), caller.fingerprint(false), caller.limits());
    let place = caller.handle_place::<lxi_image>(false);
    call!(caller, lxi_store_open_image(store, fingerprint, limits, place));
}

fn export(caller: &mut Caller<'_>) {
    let (store, fingerprint) = (caller.handle::<lxi_store>(), caller.fingerprint(false));
    let (target, monitor) = (caller.path("out2", false), caller.monitor());
    let place = caller.handle_place::<lxi_exported>(true);
    call!(caller, lxi_store_export(store, fingerprint, target, monitor, place));
}

fn export_to(caller: &mut Caller<'_>) {
    let (store, fingerprint, user) = (caller.handle::<lxi_store>(), caller.fingerprint(false), caller.patience());
    let (writing, monitor) = ((caller.choice() < 250).then_some(write as _), caller.monitor());
    caller.refused |= writing.is_none();
    let bytes = caller.result::<u64>(true);
    call!(caller, lxi_store_export_to(store, fingerprint, writing, user, monitor, bytes));
}

fn exported_file_at(caller: &mut Caller<'_>) {
    let (exported, index, path) = (caller.handle::<lxi_exported>(), caller.index(), caller.result::<lxi_str>(false));
    if call!(caller, lxi_exported_file_at(exported, index, path)) {
        // SAFETY: the library set it.
        let path = unsafe { path.read() };
        touch(path.data.cast(), path.len);
    }
}

fn prune(caller: &mut Caller<'_>) {
    let store = caller.handle::<lxi_store>();
    let mut options: lxi_prune_options = zeroed();
    options.flags = caller.flags() % (4 * LXI_PRUNE_MAX_BYTES);
    caller.refused |= options.flags >= 2 * LXI_PRUNE_MAX_BYTES;
    options.unused_for_seconds = u64::from(caller.flags());
    options.max_bytes = u64::from(caller.flags());
    let options = caller.given(options);
    let place = caller.handle_place::<lxi_pruned>(true);
    let (count, bytes) = (caller.result::<usize>(true), caller.result::<u64>(true));
    call!(caller, lxi_store_prune(store, options, place, count, bytes));
}

fn pruned_at(caller: &mut Caller<'_>) {
    let (pruned, index) = (caller.handle::<lxi_pruned>(), caller.index());
    let (place, why) = (caller.handle_place::<lxi_stored_image>(false), caller.result::<lxi_removed>(true));
    call!(caller, lxi_pruned_at(pruned, index, place, why));
}

fn check_options(caller: &mut Caller<'_>) -> *const lxi_check_options {
    caller.options(|caller| {
        let mut options: lxi_check_options = zeroed();
        options.flags = caller.flags() % 4;
        caller.refused |= options.flags > LXI_CHECK_REPAIR;
        options.monitor = caller.monitor();
        options
    })
}

fn check(caller: &mut Caller<'_>) {
    let (store, options) = (caller.handle::<lxi_store>(), check_options(caller));
    let place = caller.handle_place::<lxi_check_report>(false);
    call!(caller, lxi_store_check(store, options, place));
}

fn check_report(caller: &mut Caller<'_>) {
    let (report, info) = (caller.handle::<lxi_check_report>(), caller.info::<lxi_check_info>());
    call!(caller, lxi_check_report_get(report, info));
    let (report, index, finding) = (caller.handle::<lxi_check_report>(), caller.index(), caller.info::<lxi_finding>());
    if call!(caller, lxi_check_report_finding_at(report, index, finding)) {
        // SAFETY: filled.
        text_of(unsafe { &*finding }.message);
    }
}

fn repair(caller: &mut Caller<'_>) {
    let (path, opening, checking) = (caller.path("store", false), store_options(caller), check_options(caller));
    let place = caller.handle_place::<lxi_check_report>(false);
    call!(caller, lxi_store_repair(path, opening, checking, place));
}

fn delete(caller: &mut Caller<'_>) {
    let (store, fingerprint) = (caller.handle::<lxi_store>(), caller.fingerprint(false));
    if caller.choice() % 2 == 1 {
        call!(caller, lxi_store_delete(store, fingerprint));
    }
    caller.refused = false;
}
