//! `creation_date` and `expiry_date`: the numbers that LXD takes, with its values, and no others.
//! Row 92 of the hostile corpus.

use super::{HEAD, assert_malformed, parse, with_head};

fn created(yaml: &str) -> Option<i64> {
    parse(format!("architecture: x86_64\ncreation_date: {yaml}\n")).ok().map(|metadata| metadata.creation_date())
}

#[test]
fn dates_accept_every_integer_notation() {
    for (yaml, value) in [
        ("1700000000", 1_700_000_000),
        ("0x6553f100", 1_700_000_000),
        ("0X6553F100", 1_700_000_000),
        ("0o17", 15),
        ("017", 15),
        ("0b101", 5),
        ("-0b11", -3),
        ("-0x10", -16),
        ("1_700_000_000", 1_700_000_000),
        ("1__0_", 10),
        ("+12", 12),
        ("-5", -5),
        ("9223372036854775807", i64::MAX),
        ("-9223372036854775808", i64::MIN),
        ("!!int 12", 12),
        ("!!int '12'", 12),
        // No octal, and so a float to Go.
        ("089", 89),
    ] {
        assert_eq!(created(yaml), Some(value), "{yaml}");
    }
}

#[test]
fn float_dates_are_cut_to_integers() {
    for (yaml, value) in [
        ("1.7e9", 1_700_000_000),
        ("1700000000.5", 1_700_000_000),
        ("1_700_000_000.9", 1_700_000_000),
        ("-1.9", -1),
        (".5e3", 500),
        ("5.", 5),
        ("17E+2", 1_700),
        ("!!float 1.5", 1),
    ] {
        assert_eq!(created(yaml), Some(value), "{yaml}");
    }
}

#[test]
fn date_outside_64_bits_is_malformed() {
    for yaml in [
        "2023-11-14",
        "2023-11-14T22:13:20Z",
        "18446744073709551616",
        "9223372036854775808",
        "-9223372036854775809000",
        ".nan",
        ".inf",
        "-.inf",
        "1e400",
        "190:20:30",
        "'1700000000'",
        "\"1700000000\"",
        "|-\n  1700000000",
        "!!str 5",
        "yes",
        "abc",
        "1700000000 s",
        "0x",
        "0xg",
        "+",
        "--5",
        "1e",
        "1.2.3",
        "_1",
        "[1700000000]",
        "{a: 1}",
    ] {
        assert_malformed(parse(format!("architecture: x86_64\ncreation_date: {yaml}\n")), "line ");
    }
    assert_malformed(
        parse("architecture: x86_64\ncreation_date: '5'\n"),
        "line 2, column 16, creation_date: a number of seconds since 1970 belongs here, without quotes",
    );
}

#[test]
fn creation_date_of_zero_counts_as_missing() {
    assert_malformed(parse("architecture: x86_64\n"), "line 1, column 1, creation_date: missing or 0");
    for nothing in ["0", "~", "null", "", "0.5", "-0", "0x0", "00"] {
        assert_malformed(
            parse(format!("architecture: x86_64\ncreation_date: {nothing}\n")),
            "line 1, column 1, creation_date: missing or 0",
        );
    }
}

#[test]
fn expiry_date_of_zero_or_null_means_never() {
    assert_eq!(parse(HEAD).unwrap().expiry_date(), None);
    for never in ["0", "~", "", "null"] {
        assert_eq!(with_head(&format!("expiry_date: {never}\n")).unwrap().expiry_date(), None, "{never}");
    }
    assert_eq!(with_head("expiry_date: 1800000000\n").unwrap().expiry_date(), Some(1_800_000_000));
    assert_eq!(with_head("expiry_date: -1\n").unwrap().expiry_date(), Some(-1));
    assert_malformed(with_head("expiry_date: never\n"), "line 3, column 14, expiry_date: ");
}
