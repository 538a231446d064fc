//! Template rules: their keys, the types of these, and what is kept without being understood.
//! Section 3 of the formats, and the keys `uid`, `gid`, `mode` of Incus.

use super::{assert_malformed, with_head};

const RULES: &str = "templates:
  /etc/hostname:
    when: [create, copy, someday]
    template: hostname.tpl
    create_only: yes
    properties:
      default: no
    uid: 0
    gid: '12'
    mode: 0644
    x-note: [1, 2]
  /a: {template: ../../etc/passwd, when: []}
  relative/../path: {template: a, when: [~]}
";

#[test]
fn rules_are_read_in_the_order_of_the_file() {
    let metadata = with_head(RULES).unwrap();
    let paths: Vec<_> = metadata.templates().map(|(path, _)| path).collect();
    assert_eq!(paths, ["/etc/hostname", "/a", "relative/../path"]);

    let rule = metadata.template("/etc/hostname").unwrap();
    assert_eq!(rule.template(), "hostname.tpl");
    assert_eq!(rule.when().collect::<Vec<_>>(), ["create", "copy", "someday"]);
    assert!(rule.fires_on("copy") && rule.fires_on("someday") && !rule.fires_on("start"));
    assert!(rule.create_only());
    assert_eq!(rule.properties().get("default"), Some("no"));
    assert_eq!((rule.uid(), rule.gid(), rule.mode()), (Some("0"), Some("12"), Some("0644")));

    let other = metadata.template("/a").unwrap();
    assert_eq!(other.template(), "../../etc/passwd");
    assert!(!other.create_only() && other.properties().is_empty() && other.when().len() == 0);
    assert_eq!((other.uid(), other.gid(), other.mode()), (None, None, None));
    assert_eq!(metadata.template("/b"), None);
}

#[test]
fn null_templates_are_an_empty_map() {
    for none in ["", "templates: ~\n", "templates:\n", "templates: {}\n"] {
        assert_eq!(with_head(none).unwrap().templates().len(), 0);
    }
    assert_malformed(with_head("templates: [a]\n"), "line 3, column 12, templates: a map belongs here");
}

#[test]
fn rule_may_lack_its_template_as_in_the_peers() {
    for rule in ["{when: [create]}", "{when: [create], template: ''}", "{when: [create], template: ~}", "~"] {
        let metadata = with_head(&format!("templates: {{/a: {rule}}}\n")).unwrap();
        assert_eq!(metadata.templates().map(|(_, rule)| rule.template()).collect::<Vec<_>>(), [""], "{rule}");
    }
}

#[test]
fn rule_is_a_map_with_a_list_of_events() {
    let path = "line 3, column 17, templates[\"/a\"]";
    assert_malformed(with_head("templates: {/a: b}\n"), &format!("{path}: a map belongs here"));
    assert_malformed(
        with_head("templates:\n  /a:\n    template: b\n    when: create\n"),
        "line 6, column 11, templates[\"/a\"].when: a list belongs here, not a single value",
    );
    assert_malformed(
        with_head("templates:\n  /a:\n    template: b\n    when: [create, [copy]]\n"),
        "line 6, column 20, templates[\"/a\"].when[1]: a text belongs here, not a list",
    );
}

#[test]
fn create_only_is_a_boolean_of_yaml_1_1_without_quotes() {
    let rule =
        |yaml: &str| with_head(&format!("templates: {{/a: {{template: b, when: [create], create_only: {yaml}}}}}\n"));
    let create_only = |yaml: &str| rule(yaml).unwrap().template("/a").unwrap().create_only();
    for yes in ["true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON", "y", "Y", "!!bool yes"] {
        assert!(create_only(yes), "{yes}");
    }
    for no in ["false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF", "n", "N", "~", "", "null"] {
        assert!(!create_only(no), "{no}");
    }
    for bad in ["'true'", "\"yes\"", "tRUE", "1", "0", "!!str true", "[true]", "maybe"] {
        assert_malformed(rule(bad), "line 3, column ");
    }
}

#[test]
fn merge_keys_work_in_rules() {
    let metadata = with_head(
        "x: &base {when: [create], create_only: true}\ntemplates:\n  /a: {<<: *base, template: a}\n  /b: {template: b, create_only: false, <<: *base}\n",
    )
    .unwrap();
    assert!(metadata.template("/a").unwrap().create_only());
    assert!(!metadata.template("/b").unwrap().create_only());
    assert!(metadata.template("/b").unwrap().fires_on("create"));
}

#[test]
fn rule_without_events_never_fires() {
    for when in ["", ", when: []", ", when: ~", ", when: [dance]"] {
        let metadata = with_head(&format!("templates: {{/a: {{template: b{when}}}}}\n")).unwrap();
        let rule = metadata.template("/a").unwrap();
        assert!(rule.never_fires() && !rule.fires_on("create"), "{when}");
    }
}

#[test]
fn rule_with_one_known_event_can_fire() {
    let metadata = with_head("templates: {/a: {template: b, when: [dance, start]}}\n").unwrap();
    assert!(!metadata.template("/a").unwrap().never_fires());
}
