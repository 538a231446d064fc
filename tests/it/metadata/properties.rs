//! Property values are the text that stands in the file, whatever YAML would make of it.
//! Rows 91 and 95 to 97 of the hostile corpus.

use lxd_image::ErrorKind;

use super::{assert_malformed, property, with_head};

#[test]
fn property_scalars_keep_their_text() {
    for text in [
        "12.04",
        "12.10",
        "yes",
        "no",
        "on",
        "off",
        "True",
        "y",
        "017",
        "0o17",
        "0x1F",
        "1e3",
        "1_000",
        "190:20:30",
        ".inf",
        "-.INF",
        ".nan",
        "2015-02-18",
        "2001-12-14 21:59:43.10 -5",
        "2001-12-14t21:59:43Z",
        "20160315_22:42",
        "20160315",
        "nULL",
        "<<",
        "=",
        "a: b".trim_end_matches(": b"),
        "é",
        "🦀",
        "x # y".trim_end_matches(" # y"),
    ] {
        assert_eq!(property(text).unwrap(), text);
        assert_eq!(property(&format!("'{text}'")).unwrap(), text);
        assert_eq!(property(&format!("\"{text}\" # why")).unwrap(), text);
        assert_eq!(property(&format!("!!str {text}")).unwrap(), text);
    }
}

#[test]
fn null_properties_are_empty_text() {
    for nothing in ["", "~", "null", "Null", "NULL", "# nothing", "''", "!!null ''", "!!str"] {
        assert_eq!(property(nothing).unwrap(), "", "{nothing}");
    }
    assert_eq!(property("'~'").unwrap(), "~");
    assert_eq!(property("!!str ~").unwrap(), "~");
}

#[test]
fn property_keys_keep_their_text() {
    let metadata = with_head("properties:\n  on: off\n  12.10: a\n  no: b\n  'requirements.x': c\n").unwrap();
    let pairs: Vec<_> = metadata.properties().iter().collect();
    assert_eq!(pairs, [("on", "off"), ("12.10", "a"), ("no", "b"), ("requirements.x", "c")]);
}

#[test]
fn block_and_folded_scalars_are_text() {
    assert_eq!(property("|\n    a\n    b\n").unwrap(), "a\nb\n");
    assert_eq!(property(">-\n    a\n    b\n").unwrap(), "a b");
    assert_eq!(property("one\n    two\n").unwrap(), "one two");
    // As libyaml: no line end is made up at the end of the file.
    assert_eq!(with_head("properties:\n  v: |\n    a").unwrap().properties().get("v"), Some("a"));
}

#[test]
fn binary_values_are_decoded() {
    assert_eq!(property("!!binary aGVsbG8=").unwrap(), "hello");
    assert_eq!(property("!!binary |\n    aGVs\n    bG8h\n").unwrap(), "hello!");
    assert_eq!(property("!!binary aA==").unwrap(), "h");
    assert_eq!(property("!!binary ''").unwrap(), "");
    for bad in ["/w==", "a", "aGVsbG8", "aGVsbG8==", "aG=VsbG8", "a?==", "AA=="] {
        let error = property(&format!("!!binary {bad}")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed, "{bad}");
        assert!(error.to_string().starts_with("line 4, column "), "{error}");
    }
}

#[test]
fn unknown_tags_and_tags_that_do_not_fit_are_malformed() {
    for (yaml, text) in [
        ("!!int 12", "12"),
        ("!!float 12.10", "12.10"),
        ("!!float .inf", ".inf"),
        ("!!bool yes", "yes"),
        ("! 12", "12"),
    ] {
        assert_eq!(property(yaml).unwrap(), text);
    }
    for bad in ["!!int a", "!!int 1.5", "!!float a", "!!bool 1", "!!null a", "!!merge a"] {
        assert_eq!(property(bad).unwrap_err().kind(), ErrorKind::Malformed, "{bad}");
    }
    for foreign in ["!!python/object:os.system x", "!local x", "!<tag:example.org,2000:x> y", "!!set {}"] {
        let error = property(foreign).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed, "{foreign}");
        assert!(error.to_string().contains("properties.v: the tag `!"), "{error}");
    }
    assert_malformed(
        with_head("x-vendor: !thing {a: 1}\n"),
        "line 3, column 18, x-vendor: the tag `!thing` is not known here",
    );
}

#[test]
fn aliases_and_merge_keys_are_resolved() {
    let metadata = with_head(
        "x-base: &base {os: Debian, release: '11', variant: &v cloud}\n\
         x-more: &more {release: '10', arch: amd64}\n\
         properties:\n  <<: [*base, *more]\n  release: &r 12.10\n  version: *r\n  *v : yes\n",
    )
    .unwrap();
    let pairs: Vec<_> = metadata.properties().iter().collect();
    assert_eq!(
        pairs,
        [
            ("os", "Debian"),
            ("variant", "cloud"),
            ("arch", "amd64"),
            ("release", "12.10"),
            ("version", "12.10"),
            ("cloud", "yes")
        ]
    );
    let quoted = with_head("properties:\n  '<<': a\n").unwrap();
    assert_eq!(quoted.properties().get("<<"), Some("a"));
    let whole = with_head("x: &p {os: Debian}\nproperties: *p\n").unwrap();
    assert_eq!(whole.properties().get("os"), Some("Debian"));
    for bad in ["<<: 5", "<<: [5]", "<<: ~", "<<: *none"] {
        assert_malformed(with_head(&format!("properties:\n  {bad}\n")), "line 4, column ");
    }
    // The last definition before the alias counts.
    let twice = with_head("x: &a one\ny: &a two\nproperties: {v: *a}\n").unwrap();
    assert_eq!(twice.properties().get("v"), Some("two"));
}

#[test]
fn map_or_list_as_a_property_is_malformed() {
    assert_malformed(
        with_head("properties:\n  os: [a]\n"),
        "line 4, column 7, properties.os: a text belongs here, not a list",
    );
    assert_malformed(
        with_head("properties:\n  requirements.cpu: {a: b}\n"),
        "line 4, column 21, properties[\"requirements.cpu\"]: a text belongs here, not a map",
    );
    assert_malformed(with_head("properties: [a]\n"), "line 3, column 13, properties: a map belongs here, not a list");
    assert_malformed(
        with_head("properties: text\n"),
        "line 3, column 13, properties: a map belongs here, not a single",
    );
    assert!(with_head("properties: ~\n").unwrap().properties().is_empty());
}

#[test]
fn nul_is_the_only_refused_control_character() {
    assert_eq!(property("\"a\\e[31m\\x07\\u0085\\t\"").unwrap(), "a\u{1b}[31m\u{7}\u{85}\t");
    for nul in ["\"a\\0b\"", "\"\\x00\"", "\"\\u0000\"", "a\0b", "!!binary AGE="] {
        let error = property(nul).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed, "{nul:?}");
        assert!(error.to_string().starts_with("line 4, column "), "{error}");
    }
    assert_malformed(with_head("properties: {\"a\\0\": b}\n"), "line 3, column 14, properties: a NUL");
    assert_malformed(with_head("x: \"\\0\"\n"), "line 3, column 4, x: a NUL");
}

#[test]
fn requirements_are_listed_without_their_prefix() {
    let metadata =
        with_head("properties: {os: a, requirements.secureboot: false, requirements.cpu.x: 2, requirements: z}\n")
            .unwrap();
    assert_eq!(metadata.requirements().collect::<Vec<_>>(), [("secureboot", "false"), ("cpu.x", "2")]);
}
