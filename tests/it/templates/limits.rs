//! Hostile templates: bounded in time, memory and stack, and never a panic.
//! Each runs on a thread with a small stack, in the build that takes the most of it.

use std::time::{Duration, Instant};

use lxd_image::templates::{Context, Dialect, ParseOptions, Template, Value};
use lxd_image::{Error, ErrorKind, Limits};

const BOTH: [Dialect; 2] = [Dialect::Lxd, Dialect::Incus];

fn render(source: &str, dialect: Dialect) -> Result<Vec<u8>, Error> {
    let limits = Limits::default();
    let context = Context::new()
        .variable("s", Value::from("hello"))
        .variable("l", Value::list([Value::from("a"), Value::from("b")]));
    Template::parse(source.as_bytes(), dialect, &limits)?.render(&context, &limits)
}

/// Renders on a stack of 2 MiB, and within a time that a person would wait.
fn kinds(source: &str) -> Vec<Result<Vec<u8>, ErrorKind>> {
    let source = source.to_owned();
    let run = move || {
        let started = Instant::now();
        let kinds = BOTH.map(|dialect| render(&source, dialect).map_err(|error| error.kind())).to_vec();
        assert!(started.elapsed() < Duration::from_secs(60), "too slow: {:?}", started.elapsed());
        kinds
    };
    std::thread::Builder::new().stack_size(2 << 20).spawn(run).expect("a thread").join().expect("no panic")
}

fn limited(source: &str) {
    assert_eq!(kinds(source), vec![Err(ErrorKind::LimitExceeded); 2], "{:.80}", source);
}

fn wrong(source: &str) {
    assert_eq!(kinds(source), vec![Err(ErrorKind::Template); 2], "{:.80}", source);
}

fn nested(open: &str, inner: &str, close: &str, count: usize) -> String {
    format!("{}{inner}{}", open.repeat(count), close.repeat(count))
}

#[test]
fn tags_that_read_other_files_are_refused() {
    for tag in ["include \"x\"", "ssi \"/etc/passwd\"", "ssi \"/etc/passwd\" parsed", "extends \"x\"", "import \"x\" y"]
    {
        wrong(&format!("{{% {tag} %}}"));
        wrong(&format!("{{% if false %}}{{% {tag} %}}{{% endif %}}"));
    }
}

#[test]
fn endless_work_exceeds_the_step_limit() {
    let loops = nested("{% for x in s %}", "x", "{% endfor %}", 40);
    limited(&loops);
    limited(&nested("{% for x in l %}", "", "{% endfor %}", 60));
    limited("{% macro p(n) %}{{ p(n + 1) }}{% endmacro %}{{ p(1) }}");
    limited("{% macro p(n) %}{{ p(n) }}{{ p(n) }}{% endmacro %}{{ p(1) }}");
    limited("{% macro p(n=p()) %}x{% endmacro %}{{ p() }}");
}

#[test]
fn values_are_bounded_in_size() {
    let doubled = format!("{{% set a = \"0123456789\" %}}{}{{{{ a }}}}", "{% set a = a + a %}".repeat(50));
    let number = 123_456_789_i64.wrapping_mul(1 << 50).to_string();
    assert_eq!(render(&doubled, Dialect::Lxd).expect("numbers"), number.as_bytes());
    assert_eq!(render(&doubled, Dialect::Incus).expect_err("too large").kind(), ErrorKind::LimitExceeded);
    let added = format!("{{% set a = \"0123456789\" %}}{}{{{{ a }}}}", "{% set a = a|add:a %}".repeat(50));
    limited(&added);
    limited(&format!(
        "{{% set a = s|center:4000000 %}}{}",
        (0..200).map(|i| format!("{{% set v{i} = a|add:{i} %}}")).collect::<String>()
    ));
    limited("{% set a = s|ljust:8000000 %}{% for x in a %}{% set b = a|make_list %}{% endfor %}");
    limited("{% set a = s|ljust:8000000 %}{% for x in a %}{% if a in a %}{% endif %}{% endfor %}");
    limited(&nested("{% filter upper %}{{ s|ljust:8000000 }}", "", "{% endfilter %}", 90));
}

#[test]
fn huge_widths_are_refused_or_equal_pongo2() {
    for filter in ["center:2000000000", "ljust:2000000000", "floatformat:2000000000"] {
        limited(&format!("{{{{ \"1.5\"|{filter} }}}}"));
    }
    limited("{% lorem 2000000000 w %}");
    limited("{% lorem 2000000000 p %}");
    let repeated = "%999999[1]d".repeat(20);
    limited(&format!("{{{{ 5|stringformat:\"{repeated}\" }}}}"));
    assert_eq!(
        render("{{ s|rjust:2000000000 }}", Dialect::Lxd).expect("Go's answer"),
        b"%!(NOVERB)%!(EXTRA string=hello)"
    );
    assert_eq!(
        render("{{ s|stringformat:\"%2000000000d\" }}", Dialect::Lxd).expect("Go's"),
        b"%!(NOVERB)%!(EXTRA string=hello)"
    );
    assert_eq!(render("{{ s|wordwrap:0 }}", Dialect::Incus).expect("as it is"), b"hello");
}

#[test]
fn arithmetic_at_the_edges_is_an_error_or_equals_pongo2() {
    wrong("{{ 1/0 }}");
    wrong("{{ 1%0 }}");
    let least = "(-9223372036854775807 - 1)";
    for (source, expected) in [
        ("{{ 1.0/0 }}".to_owned(), "+Inf"),
        ("{{ 9223372036854775807 + 1 }}".to_owned(), "-9223372036854775808"),
        ("{{ 9223372036854775807 * 2 }}".to_owned(), "-2"),
        (format!("{{% set a = {least} %}}{{{{ (a - 0) / (0 - 1) }}}}"), "-9223372036854775808"),
        (format!("{{% set a = {least} %}}{{{{ a % (0 - 1) }}}}"), "0"),
        (format!("{{% set a = {least} %}}{{{{ -a }}}}"), "-9223372036854775808"),
        ("{{ 2^10000 }}".to_owned(), "+Inf"),
        ("{{ s|slice:\"9:99\" }}".to_owned(), ""),
    ] {
        for dialect in BOTH {
            let output = render(&source, dialect).unwrap_or_else(|error| panic!("{source}: {error}"));
            assert_eq!(String::from_utf8_lossy(&output), expected, "{source}");
        }
    }
    assert_eq!(render("{{ s|slice:\"-2:\" }}", Dialect::Lxd).expect_err("Go panics").kind(), ErrorKind::Template);
    assert_eq!(render("{{ s|slice:\"-2:\" }}", Dialect::Incus).expect("the end"), b"lo");
}

#[test]
fn deep_and_long_templates_do_not_overflow_the_stack() {
    limited(&format!("{{{{ {}1{} }}}}", "(".repeat(200_000), ")".repeat(200_000)));
    limited(&"{% if true %}".repeat(50_000));
    limited(&format!("{{{{ 1{} }}}}", "+1".repeat(300_000)));
    limited(&format!("{{{{ 1{} }}}}", "^1".repeat(300_000)));
    limited(&format!("{{{{ 1{} }}}}", " and 1".repeat(100_000)));
    limited(&format!("{{{{ s{} }}}}", "|upper".repeat(100_000)));
    limited(&format!("{{{{ s{} }}}}", ".x".repeat(100_000)));
    limited(&format!("{{{{ {}1 }}}}", "config_get(".repeat(50_000)));
    wrong(&format!("{{{{ {}1 }}}}", "-".repeat(300_000)));
    wrong(&format!("{{{{ {}1 }}}}", "not ".repeat(100_000)));
}

#[test]
fn templates_within_the_limits_fit_a_small_stack() {
    let parens = nested("(1 + ", "1", ")", 100);
    let blocks =
        nested("{% if true %}{% endif %}{% for x in \"a\" %}", &format!("{{{{ {parens} }}}}"), "{% endfor %}", 100);
    assert_eq!(kinds(&blocks), vec![Ok(b"101".to_vec()); 2]);
    let ifs = nested("{% if n > 0 %}", "{{ p(n - 1) }}", "{% endif %}", 6);
    let recursive = format!("{{% macro p(n) %}}{ifs}.{{% endmacro %}}{{{{ p(63) }}}}");
    assert_eq!(kinds(&recursive), vec![Ok(vec![b'.'; 64]); 2]);
    let deep = nested(
        "{% with a=(1) %}{% filter upper %}",
        "{% if n > 0 %}{{ (((((p(n - 1)))))) }}{% endif %}",
        "{% endfilter %}{% endwith %}",
        45,
    );
    limited(&format!("{{% macro p(n) %}}{deep}{{% endmacro %}}{{{{ p(63) }}}}"));
    let everything = nested(
        "{% spaceless %}{% ifchanged %}{% autoescape on %}{% block B %}{% ifequal 1 1 %}",
        "x",
        "{% endifequal %}{% endblock %}{% endautoescape %}{% endifchanged %}{% endspaceless %}",
        1,
    );
    assert_eq!(kinds(&everything), vec![Ok(b"x".to_vec()); 2]);
}

#[test]
fn parsed_template_can_be_shared_by_threads() {
    fn shareable<T: Send + Sync>(_: &T) {}
    let limits = Limits::default();
    let source = b"{% for x in l %}{% cycle \"a\" \"b\" %}{% ifchanged %}{{ x }}{% endifchanged %}{% endfor %}";
    let template = Template::parse_with(source, ParseOptions::new(Dialect::Lxd), &limits).expect("a template");
    shareable(&template);
    let context = Context::new().variable("l", Value::list(["x", "x", "y"].map(Value::from)));
    shareable(&context);
    for _ in 0..2 {
        assert_eq!(template.render(&context, &limits).expect("output"), b"axbay");
    }
}

mod any_bytes {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_bytes_give_output_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = render(&String::from_utf8_lossy(&bytes), Dialect::Lxd);
            let limits = Limits::default();
            for dialect in BOTH {
                if let Ok(template) = Template::parse(&bytes, dialect, &limits) {
                    let _ = template.render(&Context::new(), &limits);
                }
            }
        }

        #[test]
        fn random_tags_give_output_or_an_error(
            pieces in proptest::collection::vec(
                prop_oneof![
                    Just("{{"), Just("}}"), Just("{%"), Just("%}"), Just("{#"), Just("#}"), Just(" if "), Just(" for x in l "),
                    Just(" end"), Just("endfor"), Just("endif"), Just(" x "), Just("|"), Just(":"), Just("slice"), Just("\"1:-1\""),
                    Just("stringformat"), Just("\"%*d\""), Just("wordwrap"), Just("truncatechars"), Just("5"), Just("-"), Just("("),
                    Just(")"), Just("."), Just("^"), Just("%"), Just("/"), Just(" macro m()"), Just("endmacro"), Just("m()"),
                    Just(" cycle "), Just(" as "), Just(" not "), Just("s"), Just("["), Just("]"), Just("{% verbatim %}"),
                ],
                0..60,
            ),
        ) {
            for dialect in BOTH {
                let _ = render(&pieces.concat(), dialect);
            }
        }
    }
}
