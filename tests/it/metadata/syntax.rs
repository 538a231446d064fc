//! Which files are YAML to us, and how an error says where it happened.
//! Rows 88 to 90 and 94 of the hostile corpus.

use super::{HEAD, assert_malformed, parse, with_head};

#[test]
fn json_byte_order_mark_crlf_comments_and_markers_are_accepted() {
    let plain = parse(format!("{HEAD}properties:\n  os: Debian\n")).unwrap();
    for text in [
        "{\"architecture\": \"x86_64\", \"creation_date\": 1700000000, \"properties\": {\"os\": \"Debian\"}}"
            .to_owned(),
        "{\n\t\"architecture\":\"x86_64\",\n\t\"creation_date\":1700000000,\n\t\"properties\":{\"os\":\"Debian\"}\n}\n"
            .to_owned(),
        format!("\u{feff}{HEAD}properties:\n  os: Debian\n"),
        format!("{HEAD}properties:\n  os: Debian\n").replace('\n', "\r\n"),
        format!("# first\n---\n# more\n{HEAD}\nproperties: # these\n  # one\n  os: Debian # two\n...\n"),
        format!("%YAML 1.1\n---\n{HEAD}properties: {{os: Debian}}"),
        format!("--- # here\n{HEAD}properties: {{os: Debian,}}\n..."),
        format!("\n\n{HEAD}\n\nproperties:\n\n  os:\n    Debian\n\n"),
    ] {
        assert_eq!(parse(&text).unwrap(), plain, "{text}");
    }
}

#[test]
fn second_document_is_ignored() {
    let first = parse(HEAD).unwrap();
    assert_eq!(parse(format!("{HEAD}---\narchitecture: aarch64\nproperties: {{os: x}}\n")).unwrap(), first);
    assert_eq!(parse(format!("{HEAD}...\n---\n[\n")).unwrap(), first);
}

#[test]
fn duplicate_keys_are_malformed_everywhere() {
    assert_malformed(with_head("architecture: aarch64\n"), "line 3, column 1: the key `architecture` is here twice");
    assert_malformed(
        with_head("properties:\n  os: a\n  os: b\n"),
        "line 5, column 3, properties: the key `os` is here twice",
    );
    assert_malformed(with_head("properties: {os: a, 'os': b}\n"), "line 3, column 21, properties: the key `os`");
    assert_malformed(with_head("x:\n- a\n- {b: 1, b: 2}\n"), "line 5, column 10, x[1]: the key `b`");
    assert_malformed(with_head("properties: {}\nproperties: {}\n"), "line 4, column 1: the key `properties`");
    assert_malformed(
        with_head("a: &a {x: 1}\nproperties: {<<: *a, <<: *a}\n"),
        "line 4, column 22, properties: the key `<<`",
    );
    assert_malformed(
        with_head("templates:\n  /a: {template: a, when: []}\n  /a: {template: b, when: []}\n"),
        "line 5, column 3, templates: the key `/a`",
    );
    assert_malformed(
        with_head("templates: {/a: {template: a, template: b, when: []}}\n"),
        "line 3, column 31, templates[\"/a\"]: the key `template`",
    );
}

#[test]
fn root_must_be_a_map() {
    for text in ["[a, b]", "- a\n- b\n", "text", "5", "~", "---\n...\n", "'a'", "---\n---\narchitecture: x86_64\n"] {
        assert_malformed(parse(text), "line ");
    }
    for text in ["", " ", "\n", "# only a comment\n", "\u{feff}"] {
        assert_malformed(parse(text), "line 1, column 1: metadata.yaml is empty");
    }
}

#[test]
fn text_that_is_not_utf_8_is_malformed() {
    assert_malformed(parse(b"architecture: x86_64\nx: caf\xe9\n"), "line 2, column 7: metadata.yaml is not UTF-8");
    let utf16: Vec<u8> = format!("\u{feff}{HEAD}").encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert_malformed(parse(&utf16), "line 1, column 1: metadata.yaml is not UTF-8");
    let big_endian: Vec<u8> = HEAD.encode_utf16().flat_map(u16::to_be_bytes).collect();
    assert_malformed(parse(&big_endian), "line 1, column 1: a NUL character");
}

#[test]
fn tabs_as_indentation_are_malformed() {
    assert_malformed(with_head("properties:\n\tos: Debian\n"), "line 4, column ");
    assert_malformed(with_head("properties:\n  \tos: Debian\n"), "line 4, column 4, properties: a tab is no");
    assert_malformed(with_head("properties:\n  os: a\n \t- b\n"), "line ");
    assert_malformed(with_head("properties:\n  os:\n \t Debian\n"), "line 5, column 4, properties.os: tabs disallowed");
    // Between tokens a tab is a blank, and inside a text it is itself.
    let metadata = with_head("properties:\n  os:\tDebian\t# x\n  v: |\n    \ta\n  w: 'a\n\tb'\n");
    let metadata = metadata.unwrap();
    assert_eq!(metadata.properties().iter().map(|(_, value)| value).collect::<Vec<_>>(), ["Debian", "\ta\n", "a b"]);
}

#[test]
fn broken_yaml_is_malformed_with_its_location() {
    for text in [
        "x: [a",
        "x: {a",
        "x: 'a",
        "x: \"a\\q\"",
        "x: *none",
        "x: &",
        "x: a: b",
        "x: @a",
        "%TAG",
        "x: - a",
        "]",
        "x: |9z",
    ] {
        assert_malformed(with_head(text), "line ");
    }
    assert_malformed(with_head("properties:\n  os: [a, *none]\n"), "line 4, column 11, properties.os[1]: ");
}

#[test]
fn key_must_be_a_single_value() {
    for text in
        ["? [a]\n: b\n", "? {a: b}\n: c\n", "{[a]: b}\n", "properties:\n  ? - a\n  : b\n", "x: &x [a]\n*x : b\n"]
    {
        assert_malformed(with_head(text), "line ");
    }
    assert!(with_head("? x\n: y\n? z\n").is_ok());
}

#[test]
fn long_keys_are_cut_in_errors() {
    let error = with_head(&format!("properties: {{? {} : [a]}}\n", "k".repeat(100_000))).unwrap_err();
    assert!(error.to_string().len() < 400, "{error}");
}

#[test]
fn unusual_valid_scalars_are_read() {
    let metadata = parse(
        "---\n# comment\narchitecture: amd64\ncreation_date: 1700000000\nexpiry_date: 0\nproperties:\n  release: 12.10\n  \
         serial: 20160315_22:42\n  lts: yes\n  on: off\n  octal: 0o17\n  old: 017\n  date: 2015-02-18\n  none: ~\n  \
         hex: 0x1F\ntemplates: ~\nx-vendor: [1, 2]\n...\n",
    )
    .unwrap();
    let properties: Vec<_> = metadata.properties().iter().collect();
    assert_eq!(
        properties,
        [
            ("release", "12.10"),
            ("serial", "20160315_22:42"),
            ("lts", "yes"),
            ("on", "off"),
            ("octal", "0o17"),
            ("old", "017"),
            ("date", "2015-02-18"),
            ("none", ""),
            ("hex", "0x1F"),
        ]
    );
    assert!(metadata.to_yaml().ends_with("x-vendor:\n  - 1\n  - 2\n"));
}

#[test]
fn metadata_can_be_shared_between_threads() {
    fn shared<T: Send + Sync + 'static>(_: &T) {}
    shared(&parse(HEAD).unwrap());
}
