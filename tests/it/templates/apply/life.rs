//! The triggers in an instance's life, and the context that its facts make.
//! Also the handles: an instance's root and templates need not lie together.

use std::fs::File;

use lxd_image::templates::{ApplyOptions, DeferredTrigger, Dialect, Instance, InstanceDir, Template, Trigger, apply};
use lxd_image::{ErrorKind, Limits, Monitor};

use super::{Site, context, rule};

#[test]
fn first_deferred_trigger_wins() {
    let mut deferred = DeferredTrigger::default();
    assert_eq!(deferred.at_start().collect::<Vec<_>>(), [Trigger::Start]);
    for trigger in [Trigger::Start, Trigger::Copy, Trigger::Rename, Trigger::Create] {
        deferred.remember(trigger);
    }
    assert_eq!(deferred.waiting(), Some(Trigger::Copy));
    assert_eq!(deferred.at_start().collect::<Vec<_>>(), [Trigger::Copy, Trigger::Start]);
    assert_eq!(deferred.waiting(), None);
}

#[test]
fn triggers_have_the_names_that_rules_use() {
    for trigger in Trigger::ALL {
        assert_eq!(trigger.name().parse::<Trigger>().unwrap(), trigger);
    }
    assert_eq!("Create".parse::<Trigger>().unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn instance_facts_become_template_variables() {
    let instance = Instance::new("v1")
        .virtual_machine(true)
        .architecture("aarch64")
        .privileged(true)
        .ephemeral(false)
        .config("user.a", "1\r\n")
        .config("user.empty", "")
        .device("eth0", [("type", "nic")]);
    let source = "{{ container.name }}|{{ instance.type }}|{{ instance.architecture }}|{{ instance.privileged }}|\
                  {{ instance.ephemeral }}|{{ config_get('user.a', 'x') }}|{{ config_get('user.empty', 'x') }}|\
                  {{ config_get('user.none', 'x') }}|{{ devices.eth0.type }}|{{ properties }}|{{ trigger }}{{ path }}";
    let limits = Limits::default();
    for dialect in [Dialect::Lxd, Dialect::Incus] {
        let template = Template::parse(source.as_bytes(), dialect, &limits).unwrap();
        let text = String::from_utf8(template.render(&instance.context(), &limits).unwrap()).unwrap();
        assert_eq!(text, "v1|virtual-machine|aarch64|true|false|1||x|nic|<map[string]string Value>|");
    }
}

#[test]
fn directories_opened_by_the_caller_work() {
    let site = Site::new();
    let open = |name: &str| File::open(site.dest().join(name)).unwrap().into();
    let dir = InstanceDir::new(open("rootfs"), open("templates")).unwrap();
    let rule = rule("name.tpl");
    apply(&dir, [("/etc/x", &rule)], Trigger::Create, &context(), &ApplyOptions::new(), &Monitor::none()).unwrap();
    assert_eq!(site.text("etc/x"), "c1 create /etc/x \n");
    assert_eq!(dir.metadata(&Limits::default()).unwrap_err().kind(), ErrorKind::NotFound);
    let error = InstanceDir::new(open("rootfs"), open("templates/name.tpl")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}
