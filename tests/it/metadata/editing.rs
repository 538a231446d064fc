//! Changing a description and writing it: unknown keys and the order survive, quoting is safe.

use lxd_image::{ErrorKind, Metadata, TemplateRule};

use super::{parse, with_head};

#[test]
fn new_metadata_is_written_in_the_usual_order() {
    let mut metadata = Metadata::new("x86_64", 1_700_000_000).unwrap();
    let rule = TemplateRule::new("hostname.tpl", ["create", "copy"])
        .unwrap()
        .with_create_only(true)
        .with_property("default", "box one")
        .unwrap()
        .with_owner(0, 12)
        .with_mode(0o600);
    metadata.set_template("/etc/hostname", rule).unwrap();
    metadata.set_template("/etc/none", TemplateRule::new("none.tpl", Vec::<String>::new()).unwrap()).unwrap();
    metadata.properties_mut().set("os", "Debian").unwrap();
    metadata.properties_mut().set("release", "12").unwrap();
    metadata.properties_mut().set("description", "Debian 12: \"bookworm\"\n").unwrap();
    metadata.set_expiry_date(Some(1_800_000_000));
    assert_eq!(
        metadata.to_yaml(),
        r#"architecture: x86_64
creation_date: 1700000000
expiry_date: 1800000000
properties:
  os: Debian
  release: "12"
  description: "Debian 12: \"bookworm\"\n"
templates:
  /etc/hostname:
    template: hostname.tpl
    when:
      - create
      - copy
    create_only: true
    properties:
      default: box one
    uid: "0"
    gid: "12"
    mode: "0600"
  /etc/none:
    template: none.tpl
    when: []
"#
    );
    assert_eq!(parse(metadata.to_yaml()).unwrap(), metadata);
}

#[test]
fn unknown_keys_and_the_order_of_keys_survive() {
    let text = r#"x-first:
  - 1
  - "1"
  - ~
  - yes
  - 2001-12-14 21:59:43.10 -5
  - !!binary "aGVsbG8="
  -
    - nested
    - {}
  - []
templates:
  /z:
    when:
      - start
    x-rule:
      deep:
        1: one
        "1.0": ~
    template: z.tpl
    create_only: false
  /a:
    template: a.tpl
    when: []
creation_date: 1700000000
x-middle: "text: with colon"
properties:
  zeta: a
  alpha: b
architecture: x86_64
"#;
    let mut metadata = parse(text).unwrap();
    assert_eq!(metadata.to_yaml(), text);

    metadata.properties_mut().set("alpha", "c").unwrap();
    metadata.properties_mut().set("new", "1").unwrap();
    assert_eq!(metadata.properties_mut().remove("zeta").as_deref(), Some("a"));
    assert!(metadata.remove_template("/z").is_some());
    metadata.set_expiry_date(Some(5));
    let edited = metadata.to_yaml();
    assert!(edited.contains("creation_date: 1700000000\nexpiry_date: 5\nx-middle:"), "{edited}");
    assert!(edited.contains("properties:\n  alpha: c\n  new: \"1\"\narchitecture"), "{edited}");
    assert!(!edited.contains("/z"));
    assert_eq!(parse(&edited).unwrap(), metadata);
}

#[test]
fn aliases_and_merges_are_written_out() {
    let metadata = with_head("x: &a {b: c}\ny: {<<: *a, d: *a}\nproperties: *a\n").unwrap();
    let written = metadata.to_yaml();
    assert!(written.ends_with("x:\n  b: c\ny:\n  b: c\n  d:\n    b: c\nproperties:\n  b: c\n"), "{written}");
    assert_eq!(parse(&written).unwrap(), metadata);
}

#[test]
fn redundant_quotes_do_not_affect_equality() {
    let metadata = with_head("\"x\": 'text'\n!!str z: !!str 12\n").unwrap();
    assert!(metadata.to_yaml().ends_with("x: text\nz: \"12\"\n"));
    assert_eq!(metadata, with_head("x: text\nz: '12'\n").unwrap());
    assert_ne!(metadata, with_head("x: text\nz: 12\n").unwrap());
}

#[test]
fn keys_without_a_value_are_left_out() {
    let metadata = with_head("expiry_date: 0\nproperties: ~\ntemplates: {}\n").unwrap();
    assert_eq!(metadata.to_yaml(), super::HEAD);
    assert_eq!(metadata, parse(super::HEAD).unwrap());
}

#[test]
fn ambiguous_texts_are_quoted() {
    let mut metadata = Metadata::new("x86_64", 1).unwrap();
    for (index, text) in QUOTED.iter().enumerate() {
        metadata.properties_mut().set(format!("k{index}"), *text).unwrap();
        metadata.properties_mut().set(*text, "v").unwrap();
    }
    let written = metadata.to_yaml();
    assert_eq!(written.lines().filter(|line| line.contains('"')).count(), QUOTED.len() * 2, "{written}");
    assert_eq!(written.lines().count(), 3 + QUOTED.len() * 2);
    assert!(written.chars().all(|character| character == '\n' || !character.is_control()));
    assert_eq!(parse(&written).unwrap(), metadata);
}

const QUOTED: &[&str] = &[
    "",
    "~",
    "null",
    "NULL",
    "yes",
    "No",
    "on",
    "OFF",
    "y",
    "N",
    "true",
    "False",
    "12",
    "12.04",
    "-5",
    "+5",
    "017",
    "0o17",
    "0x1F",
    "1e3",
    "1_000",
    "190:20:30",
    ".inf",
    ".nan",
    "2020-01-01",
    "20160315_22:42",
    "<<",
    "=",
    " lead",
    "trail ",
    "a: b",
    "a:",
    "a #b",
    "#a",
    "- a",
    "-",
    "?",
    "? a",
    ": a",
    "[a]",
    "{a}",
    "a, b",
    "*a",
    "&a",
    "!a",
    "|",
    ">",
    "%a",
    "@a",
    "`a",
    "'a'",
    "\"a\"",
    "---",
    "...",
    "--- a",
    "a\nb",
    "\n",
    "\t",
    "a\tb",
    "\u{1b}[31m",
    "\u{7f}",
    "\u{85}",
    "\u{a0}",
    "\u{2028}",
    "\u{feff}",
    "\u{fffe}",
    "\\",
    "a\\b",
    "\r\n",
];

#[test]
fn unambiguous_texts_are_not_quoted() {
    for text in
        ["Debian", "a b", "/etc/hostname", "hostname.tpl", "a:b", "Ubuntu jammy (amd64)", "Größe", "x86_64", "yesno"]
    {
        let mut metadata = Metadata::new("x86_64", 1).unwrap();
        metadata.properties_mut().set("v", text).unwrap();
        assert!(metadata.to_yaml().ends_with(&format!("  v: {text}\n")));
    }
}

#[test]
fn very_long_keys_round_trip() {
    let mut metadata = Metadata::new("x86_64", 1).unwrap();
    metadata.properties_mut().set("k".repeat(5_000), "v").unwrap();
    metadata.properties_mut().set("12 ".repeat(1_000), "").unwrap();
    assert_eq!(parse(metadata.to_yaml()).unwrap(), metadata);
}

#[test]
fn values_that_no_file_can_hold_are_refused() {
    let kind = |result: Result<(), lxd_image::Error>| result.unwrap_err().kind();
    assert!(Metadata::new("", 1).is_err() && Metadata::new("x86_64", 0).is_err());
    let mut metadata = Metadata::new("x86_64", 1).unwrap();
    assert_eq!(kind(metadata.set_architecture("")), ErrorKind::InvalidInput);
    assert_eq!(kind(metadata.set_creation_date(0)), ErrorKind::InvalidInput);
    assert_eq!(kind(metadata.properties_mut().set("a\0", "")), ErrorKind::InvalidInput);
    assert_eq!(kind(metadata.properties_mut().set("a", "\0")), ErrorKind::InvalidInput);
    assert!(TemplateRule::new("", ["create"]).is_err() && TemplateRule::new("a", ["\0"]).is_err());
    let rule = TemplateRule::new("a", ["create"]).unwrap();
    assert_eq!(kind(metadata.set_template("relative", rule)), ErrorKind::InvalidInput);
    metadata.set_expiry_date(Some(0));
    assert_eq!(metadata, Metadata::new("x86_64", 1).unwrap());
}

#[test]
fn json_has_the_shape_of_the_file() {
    let metadata = with_head(
        "x: y\nproperties: {b: 12.10, a: ~}\ntemplates: {/b: {template: t, when: [create], mode: 0644}, /a: {template: u, when: []}}\n",
    )
    .unwrap();
    assert_eq!(
        serde_json::to_string(&metadata).unwrap(),
        concat!(
            r#"{"architecture":"x86_64","creation_date":1700000000,"expiry_date":0,"properties":{"b":"12.10","a":""},"#,
            r#""templates":{"/b":{"template":"t","when":["create"],"create_only":false,"properties":{},"mode":"0644"},"#,
            r#""/a":{"template":"u","when":[],"create_only":false,"properties":{}}}}"#
        )
    );
}
