//! Whatever is written is read as the same, and no bytes make the reader do worse than refuse.

use lxd_image::{Limits, Metadata, TemplateRule};
use proptest::collection::vec;
use proptest::prelude::*;

use super::{HEAD, parse};

fn text() -> impl Strategy<Value = String> {
    let character = prop_oneof![
        4 => proptest::char::range(' ', '~'),
        2 => prop::sample::select(" :-#'\"\\\n\r\t,[]{}&*!|>%@`?~<=._/0123456789xeyn".chars().collect::<Vec<_>>()),
        1 => any::<char>(),
        1 => prop::sample::select(vec!['\u{1}', '\u{85}', '\u{a0}', '\u{ad}', '\u{2028}', '\u{2029}', '\u{feff}', '\u{ffff}']),
    ];
    vec(character, 0..12).prop_map(|text| text.into_iter().filter(|character| *character != '\0').collect())
}

fn rule() -> impl Strategy<Value = TemplateRule> {
    (text(), vec(text(), 0..3), any::<Option<bool>>(), vec((text(), text()), 0..3), any::<Option<u32>>()).prop_map(
        |(template, when, create_only, properties, owner)| {
            let mut rule = TemplateRule::new(format!("t{template}"), when).unwrap();
            if let Some(create_only) = create_only {
                rule = rule.with_create_only(create_only);
            }
            if let Some(owner) = owner {
                rule = rule.with_owner(owner, owner).with_mode(owner);
            }
            for (key, value) in properties {
                rule.properties_mut().set(key, value).unwrap();
            }
            rule
        },
    )
}

fn metadata() -> impl Strategy<Value = Metadata> {
    let head = (text(), any::<i64>(), any::<Option<i64>>());
    (head, vec((text(), text()), 0..5), vec((text(), rule()), 0..3)).prop_map(|(head, properties, templates)| {
        let mut metadata = Metadata::new(format!("a{}", head.0), head.1 | 1).unwrap();
        metadata.set_expiry_date(head.2);
        for (key, value) in properties {
            metadata.properties_mut().set(key, value).unwrap();
        }
        for (path, rule) in templates {
            metadata.set_template(format!("/{path}"), rule).unwrap();
        }
        metadata
    })
}

/// Pieces of YAML, so that random files get past the first line.
fn yaml() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "a",
        "b: ",
        "c:\n",
        "- ",
        "-\n",
        "? ",
        ": ",
        "[",
        "]",
        "{",
        "}",
        ", ",
        "\n",
        "\n  ",
        "\n    ",
        "'",
        "\"",
        "&x ",
        "*x ",
        "<<: ",
        "!!str ",
        "!!int ",
        "!!binary ",
        "!!null ",
        "! ",
        "~",
        "|\n",
        ">\n",
        "# c\n",
        "12",
        "1.5",
        "yes",
        "---\n",
        "...\n",
        "%",
        "\\n",
        "properties:\n",
        "templates:\n",
        "template: ",
        "when: ",
        "create_only: ",
        "mode: ",
        "expiry_date: ",
        "\t",
        "\r\n",
        "é",
        "\\0",
    ]);
    vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1_000) })]

    #[test]
    fn written_metadata_reads_back_equal(metadata in metadata()) {
        let written = metadata.to_yaml();
        let again = parse(&written).unwrap();
        prop_assert_eq!(again.to_yaml(), written);
        prop_assert_eq!(again, metadata);
    }

    #[test]
    fn read_metadata_writes_back_equal(text in yaml()) {
        if let Ok(metadata) = parse(format!("{HEAD}{text}")) {
            let written = metadata.to_yaml();
            let again = parse(&written).unwrap();
            prop_assert_eq!(again.to_yaml(), written);
            prop_assert_eq!(again, metadata);
        }
        let _ = parse(&text);
    }

    #[test]
    fn any_bytes_parse_or_fail_without_panic(bytes in vec(any::<u8>(), 0..200)) {
        let _ = Metadata::parse(&bytes, &Limits::default());
    }

    #[test]
    fn any_text_parses_or_fails_without_panic(text in any::<String>()) {
        let _ = parse(format!("{HEAD}{text}"));
    }
}
