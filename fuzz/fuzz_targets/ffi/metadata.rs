//! The calls that make, read and change metadata.

use lxd_image_ffi::*;

use crate::arguments::{Material, zeroed};
use crate::caller::{Caller, call, texts_of};
use crate::texts::Call;

pub(crate) const CALLS: &[Call] = &[
    metadata_new,
    metadata_parse,
    metadata_copy,
    metadata_get,
    metadata_set_texts,
    metadata_set_dates,
    metadata_property,
    metadata_property_at,
    metadata_set_rule,
    metadata_rule_at,
    metadata_rule_parts,
    metadata_remove,
    metadata_to_yaml,
];

fn metadata_new(caller: &mut Caller<'_>) {
    let (architecture, date) = (caller.one_of(&["x86_64", "amd64", "armv7l"]), caller.seconds());
    let place = caller.handle_place::<lxi_metadata>(false);
    call!(caller, lxi_metadata_new(architecture, date, place));
}

fn metadata_parse(caller: &mut Caller<'_>) {
    let (yaml, limits) = (caller.bytes(Material::Yaml), caller.limits());
    let place = caller.handle_place::<lxi_metadata>(false);
    call!(caller, lxi_metadata_parse(yaml, limits, place));
}

fn metadata_copy(caller: &mut Caller<'_>) {
    let (metadata, place) = (caller.handle::<lxi_metadata>(), caller.handle_place::<lxi_metadata>(false));
    call!(caller, lxi_metadata_copy(metadata, place));
}

fn metadata_get(caller: &mut Caller<'_>) {
    let (metadata, info) = (caller.handle::<lxi_metadata>(), caller.info::<lxi_metadata_info>());
    if call!(caller, lxi_metadata_get(metadata, info)) {
        // SAFETY: filled.
        let info = unsafe { &*info };
        texts_of(&[info.architecture, info.kernel_architecture, info.debian_architecture]);
    }
}

fn metadata_set_texts(caller: &mut Caller<'_>) {
    let (metadata, architecture) = (caller.handle::<lxi_metadata>(), caller.one_of(&["x86_64", "aarch64"]));
    call!(caller, lxi_metadata_set_architecture(metadata, architecture));
    let (metadata, key, value) = (caller.handle::<lxi_metadata>(), caller.text(), caller.text());
    call!(caller, lxi_metadata_set_property(metadata, key, value));
}

fn metadata_set_dates(caller: &mut Caller<'_>) {
    let (metadata, seconds) = (caller.handle::<lxi_metadata>(), caller.seconds());
    call!(caller, lxi_metadata_set_creation_date(metadata, seconds));
    let (metadata, seconds) = (caller.handle::<lxi_metadata>(), caller.seconds());
    call!(caller, lxi_metadata_set_expiry_date(metadata, seconds));
}

fn metadata_property(caller: &mut Caller<'_>) {
    let (metadata, key, value) =
        (caller.handle::<lxi_metadata>(), caller.one_of(&["os"]), caller.result::<lxi_str>(false));
    let good = call!(caller, lxi_metadata_property(metadata, key, value));
    caller.shown(good, &[value]);
}

fn metadata_property_at(caller: &mut Caller<'_>) {
    let (metadata, index) = (caller.handle::<lxi_metadata>(), caller.index());
    let (key, value) = (caller.result::<lxi_str>(false), caller.result::<lxi_str>(false));
    let good = call!(caller, lxi_metadata_property_at(metadata, index, key, value));
    caller.shown(good, &[key, value]);
}

fn metadata_set_rule(caller: &mut Caller<'_>) {
    let (metadata, path) =
        (caller.handle::<lxi_metadata>(), caller.one_of(&["/etc/hostname", "/etc/new", "/../outside/victim"]));
    let mut rule: lxi_rule = zeroed();
    rule.template_name = caller.one_of(&["a", "hostname.tpl", "../tree/etc/hostname"]);
    let when = Box::new([caller.one_of(&["create", "start"]), caller.one_of(&["copy", "rename"])]);
    let properties = Box::new([lxi_pair { key: caller.text(), value: caller.text() }]);
    (rule.when, rule.when_len) = (when.as_ptr(), usize::from(caller.choice() % 4 != 3) * 2);
    (rule.properties, rule.properties_len) = (properties.as_ptr(), usize::from(caller.choice() % 2));
    // A text in a list that is left out is not looked at.
    let counted = rule.when_len == 2 && rule.properties_len == 1;
    (rule.flags, rule.uid, rule.mode) = (caller.flags() % 16, caller.flags(), caller.flags());
    caller.refused &= counted;
    let rule = caller.required(rule);
    call!(caller, lxi_metadata_set_rule(metadata, path, rule));
    drop((when, properties));
}

fn metadata_rule_at(caller: &mut Caller<'_>) {
    let (metadata, index, info) = (caller.handle::<lxi_metadata>(), caller.index(), caller.info::<lxi_rule_info>());
    if call!(caller, lxi_metadata_rule_at(metadata, index, info)) {
        // SAFETY: filled.
        let info = unsafe { &*info };
        texts_of(&[info.path, info.template_name, info.uid, info.gid, info.mode]);
    }
}

fn metadata_rule_parts(caller: &mut Caller<'_>) {
    let (metadata, rule, index) = (caller.handle::<lxi_metadata>(), caller.index(), caller.index());
    let event = caller.result::<lxi_str>(false);
    let good = call!(caller, lxi_metadata_rule_when_at(metadata, rule, index, event));
    caller.shown(good, &[event]);
    let (metadata, rule, index) = (caller.handle::<lxi_metadata>(), caller.index(), caller.index());
    let (key, value) = (caller.result::<lxi_str>(false), caller.result::<lxi_str>(false));
    let good = call!(caller, lxi_metadata_rule_property_at(metadata, rule, index, key, value));
    caller.shown(good, &[key, value]);
}

fn metadata_remove(caller: &mut Caller<'_>) {
    let (metadata, key, rule) =
        (caller.handle::<lxi_metadata>(), caller.one_of(&["os", "a"]), caller.choice() % 2 == 1);
    if rule {
        call!(caller, lxi_metadata_remove_rule(metadata, key));
    } else {
        call!(caller, lxi_metadata_remove_property(metadata, key));
    }
}

fn metadata_to_yaml(caller: &mut Caller<'_>) {
    let (metadata, place) = (caller.handle::<lxi_metadata>(), caller.handle_place::<lxi_buffer>(false));
    call!(caller, lxi_metadata_to_yaml(metadata, place));
}
