//! Files that want more than they should: bombs, depth, size. Rows 85 to 87 of the hostile corpus.
//! Everything runs on the 2 MiB stack of a test's thread, in debug builds as well.

use std::fmt::Write;
use std::time::{Duration, Instant};

use lxd_image::{Error, ErrorKind, Limits, Metadata};

use super::{HEAD, parse, with_head};

#[track_caller]
fn assert_refused(result: Result<Metadata, Error>) -> Error {
    let error = result.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Malformed | ErrorKind::LimitExceeded), "{error}");
    assert!(error.to_string().len() < 1_000, "{error}");
    error
}

#[test]
fn alias_bombs_exceed_the_limit() {
    let mut lists = "a: &a [x,x,x,x,x,x,x,x,x]\n".to_owned();
    let mut maps = "a: &a {x: y}\n".to_owned();
    for (last, this) in ('a'..='k').zip('b'..='l') {
        let aliases = vec![format!("*{last}"); 9].join(",");
        writeln!(lists, "{this}: &{this} [{aliases}]").unwrap();
        writeln!(maps, "{this}: &{this} {{<<: [{aliases}], {this}: {{<<: *{last}}}}}").unwrap();
    }
    assert_eq!(assert_refused(with_head(&lists)).limit_name(), Some("yaml_nodes"));
    assert_refused(with_head(&maps));
}

#[test]
fn many_aliases_of_a_long_text_are_refused() {
    let text = format!("x: &x {}\ny: [{}]\n", "t".repeat(500_000), "*x,".repeat(900));
    assert_eq!(assert_refused(with_head(&text)).limit_name(), Some("metadata"));
    let keys = format!("x: &x {{? {} : 1}}\ny: [{}]\n", "t".repeat(500_000), "*x,".repeat(900));
    assert_eq!(assert_refused(with_head(&keys)).limit_name(), Some("metadata"));
    let many = format!("x: &x t\ny: [{}]\n", "*x,".repeat(1_001));
    assert_eq!(assert_refused(with_head(&many)).limit_name(), Some("alias_expansions"));
    assert!(with_head(&many.replacen("*x,", "", 1)).is_ok());
}

#[test]
fn alias_inside_its_own_value_is_refused() {
    for text in ["x: &a [*a]\n", "x: &a {b: *a}\n", "x: &a {<<: *a}\n", "x: &a {b: {c: [*a]}}\n"] {
        assert_refused(with_head(text));
    }
    // A new definition of the same name, inside the old one.
    assert!(with_head("x: &a [&a b, *a]\n").is_ok());
}

#[test]
fn chain_of_aliases_counts_toward_the_depth() {
    let mut text = "x0: &x0 [a]\n".to_owned();
    for level in 1..900 {
        writeln!(text, "x{level}: &x{level} [*x{}]", level - 1).unwrap();
    }
    assert_eq!(assert_refused(with_head(&text)).limit_name(), Some("yaml_depth"));
}

#[test]
fn nesting_is_bounded_in_every_notation() {
    let deep = 100_000;
    for text in [
        format!("x: {}{}\n", "[".repeat(deep), "]".repeat(deep)),
        format!("x: {}\n", "[".repeat(deep)),
        format!("x: {}{}\n", "{a: ".repeat(deep), "}".repeat(deep)),
        format!("x: {}\n", "{a: ".repeat(deep)),
        format!("x: {}\n", "[{a: ".repeat(deep)),
        format!("x:\n {}\n", "- ".repeat(deep)),
        format!("x:\n {}\n", "? ".repeat(deep)),
        format!("x:\n {}\n", "- ? ".repeat(deep)),
        format!("x:\n {}\n", "? - ".repeat(deep)),
        format!("x: {}\n", "[? ".repeat(deep)),
        format!("x: {}\n", "{? ".repeat(deep)),
        format!("x: {}\n", "!!seq [".repeat(deep)),
        format!("x: {}\n", "&a [".repeat(deep)),
        (1..1_400).map(|level| format!("{}a:\n", " ".repeat(level))).collect(),
        (1..1_400).map(|level| format!("{}-\n", " ".repeat(level))).collect(),
    ] {
        assert_refused(with_head(&text));
        assert_refused(parse(&text));
        // Nor is there a way to lift the bound until the stack ends.
        let mut limits = Limits::trusted();
        limits.yaml_depth = u64::MAX;
        limits.yaml_nodes = u64::MAX;
        assert_refused(Metadata::parse(format!("{HEAD}{text}").as_bytes(), &limits));
    }
}

#[test]
fn depth_limit_is_exact() {
    // The top is the first level.
    let nested = |levels: usize| with_head(&format!("x: {}{}\n", "[".repeat(levels), "]".repeat(levels)));
    assert!(nested(63).is_ok());
    let error = nested(64).unwrap_err();
    assert_eq!(error.limit_name(), Some("yaml_depth"));
    assert!(error.to_string().starts_with("line 3, column "), "{error}");
    let mut limits = Limits::trusted();
    limits.yaml_depth = 255;
    let deepest = format!("{HEAD}x: {}{}\n", "[".repeat(254), "]".repeat(254));
    let metadata = Metadata::parse(deepest.as_bytes(), &limits).unwrap();
    assert_eq!(Metadata::parse(metadata.to_yaml().as_bytes(), &limits).unwrap(), metadata);
}

#[test]
fn size_limit_is_exact() {
    let mut text = format!("{HEAD}#").into_bytes();
    text.resize(1 << 20, b'x');
    assert!(parse(&text).is_ok());
    text.push(b'x');
    let error = parse(&text).unwrap_err();
    assert_eq!((error.kind(), error.limit_name()), (ErrorKind::LimitExceeded, Some("metadata")));
    assert_eq!(error.to_string(), "metadata.yaml with 1048577 bytes is over the limit `metadata` of 1048576");
    // Looked at before anything else: this is no UTF-8, and no YAML.
    assert_eq!(parse(vec![0xff; 2 << 20]).unwrap_err().kind(), ErrorKind::LimitExceeded);
    let mut limits = Limits::default();
    limits.metadata = 2 << 20;
    assert!(Metadata::parse(&text, &limits).is_ok());
}

#[test]
fn number_of_values_is_bounded() {
    let error = with_head(&format!("x: [{}]\n", "a,".repeat(100_000))).unwrap_err();
    assert_eq!(error.limit_name(), Some("yaml_nodes"));
    assert!(with_head(&format!("x: [{}]\n", "a,".repeat(99_000))).is_ok());
}

#[test]
fn mebibyte_of_anything_is_read_in_linear_time() {
    let budget = if cfg!(debug_assertions) { Duration::from_secs(20) } else { Duration::from_secs(1) };
    let size = (1 << 20) - 100;
    let fill = |piece: &str| piece.repeat(size / piece.len());
    let mut keys = "properties:\n".to_owned();
    let mut anchors = "x:\n".to_owned();
    for number in 0..45_000 {
        writeln!(keys, "  k{number}: v").unwrap();
        writeln!(anchors, "- &a{number} v").unwrap();
    }
    let merges = format!("a: &a {{{}}}\n", (0..90).map(|key| format!("k{key}: v,")).collect::<String>())
        + &(0..500).map(|map| format!("m{map}: {{<<: *a}}\n")).collect::<String>();
    for text in [
        keys,
        anchors,
        merges,
        format!("x: {}\n", fill("a")),
        format!("x: '{}'\n", fill("a\n ")),
        format!("x: \"{}\"\n", fill("\\\n")),
        format!("x: {}\n", fill("a ")),
        format!("x: {}\n", fill("a\n ")),
        format!("x: |\n {}\n", fill("a\n ")),
        format!("x: >\n {}\n", fill("\n ")),
        format!("x: |\n {}\n", fill(" ")),
        fill("\n"),
        fill(" "),
        fill("\t"),
        fill("#\n"),
        fill(" #\n"),
        fill("- "),
        fill("-\n"),
        fill("? "),
        fill("?\n"),
        fill(":\n"),
        fill(": "),
        fill("["),
        fill("[a,"),
        fill("a: "),
        fill("\"a\": "),
        fill("---\n"),
        fill("...\n"),
        fill("%A\n"),
        fill("&a "),
        fill("*a "),
        fill("!a "),
        fill("!!str "),
        fill("\u{feff}"),
        fill("\r"),
        fill("|\n"),
        fill("'"),
        fill("\""),
        format!("x: {}", "[".repeat(50) + &fill("a b ") + ": c"),
        format!("x: [{}", fill("a: b, ")),
        format!("x: [{}", fill("\"a\":b,")),
        format!("x: [{}", fill("? ")),
        format!("x: {{{}", fill("a ")),
        format!("x: [{}", fill("a\n")),
        format!("x: [{}", fill(" ")),
        format!("x: &{} y\n", fill("a")),
        format!("x: !{} y\n", fill("a")),
        format!("%TAG ! {}\n--- !a b\n", fill("a")),
        format!("? {}\n: b\n", fill("a")),
        format!("{}a: b\n", fill(" ")),
    ] {
        let start = Instant::now();
        if let Ok(metadata) = with_head(&text) {
            let again = metadata.to_yaml();
            assert!(again.len() < 16 << 20);
        }
        let _ = parse(&text);
        assert!(start.elapsed() < budget, "{:?} for {}", start.elapsed(), &text[..40.min(text.len())]);
    }
}
