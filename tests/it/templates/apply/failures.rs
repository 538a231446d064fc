//! Rows 149, 151 to 156: when a rule fails, its file is as it was, and the error says what happened.
//! Nothing half written is left, no directory made in vain, no name of a file in the making.

use std::fs;
use std::time::{Duration, Instant};

use lxd_image::templates::{Action, ApplyOptions};
use lxd_image::{Cancel, ErrorKind, Limits, Monitor};

use super::{Site, rule};

/// Row 149 of the hostile corpus.
#[test]
fn missing_template_is_not_found_and_writes_nothing() {
    let site = Site::new();
    let before = site.state();
    let failed = site.apply(&[("/new/dir/x", rule("absent.tpl"))], &ApplyOptions::new(), &Monitor::none()).unwrap_err();
    assert_eq!(failed.error.kind(), ErrorKind::NotFound);
    assert_eq!(
        failed.to_string(),
        "the rule for `/new/dir/x` (template `absent.tpl`; nothing was written before): \
         there is no template `absent.tpl` in `templates`"
    );
    assert_eq!(site.state(), before);
}

/// Rows 151 to 155 of the hostile corpus.
#[test]
fn failing_template_leaves_its_target_unchanged() {
    let signs = format!("{{{{ {}1 }}}}", "-".repeat(300_000));
    let parentheses = format!("{{{{ {}1{} }}}}", "(".repeat(200_000), ")".repeat(200_000));
    let loops = format!("{}{}", "{% for x in \"0123456789\" %}".repeat(12), "{% endfor %}".repeat(12));
    for (source, kinds) in [
        ("{% include \"/etc/passwd\" %}", &[ErrorKind::Template][..]),
        ("{% ssi \"/etc/passwd\" %}", &[ErrorKind::Template]),
        ("{% extends \"name.tpl\" %}", &[ErrorKind::Template]),
        ("{% import \"name.tpl\" x %}", &[ErrorKind::Template]),
        ("x {{ 1/0 }}", &[ErrorKind::Template]),
        ("x {{ 1%0 }}", &[ErrorKind::Template]),
        ("{{ \"x\"|center:2000000000 }}", &[ErrorKind::LimitExceeded]),
        ("{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}", &[ErrorKind::LimitExceeded]),
        (&loops, &[ErrorKind::LimitExceeded]),
        (&"{% if true %}".repeat(50_000), &[ErrorKind::Template, ErrorKind::LimitExceeded]),
        (&parentheses, &[ErrorKind::Template, ErrorKind::LimitExceeded]),
        (&signs, &[ErrorKind::Template, ErrorKind::LimitExceeded]),
    ] {
        let site = Site::new();
        fs::write(site.root("etc/old"), "old").unwrap();
        site.template("bad.tpl", source);
        let before = site.state();
        let mut limits = Limits::default();
        limits.set("template_steps", 100_000).unwrap();
        let options = ApplyOptions::new().limits(limits);
        for path in ["/etc/old", "/etc/new", "/a/b/new"] {
            let started = Instant::now();
            let failed = site.apply(&[(path, rule("bad.tpl"))], &options, &Monitor::none()).unwrap_err();
            assert!(kinds.contains(&failed.error.kind()), "{source:.60}: {failed}");
            assert!(started.elapsed() < Duration::from_secs(10), "{source:.60}");
        }
        assert_eq!(site.state(), before, "{source:.60}");
    }
}

/// Row 156 of the hostile corpus.
#[test]
fn first_failure_stops_and_lists_written_files() {
    let site = Site::new();
    fs::write(site.root("etc/c"), "old").unwrap();
    let good = || rule("name.tpl");
    let rules = [
        ("/etc/a", good()),
        ("/etc/b", good()),
        ("/etc/c", rule("failing.tpl")),
        ("/etc/d", good()),
        ("/etc/e", good()),
    ];
    let failed = site.apply(&rules, &ApplyOptions::new(), &Monitor::none()).unwrap_err();
    assert_eq!(
        failed.to_string(),
        "the rule for `/etc/c` (template `failing.tpl`; written before: `/etc/a`, `/etc/b`): the template can't be \
         rendered: line 1, column 6 of `half {{ 1/0 }}`: division by zero"
    );
    let place = failed.error.template_place().unwrap();
    assert_eq!(place.position, Some((1, 6)));
    let names: Vec<_> = failed.report.outcomes.iter().map(|outcome| outcome.action.name()).collect();
    assert_eq!(names, ["created", "created", "failed"]);
    assert_eq!(site.text("etc/a"), "c1 create /etc/a \n");
    assert_eq!(site.text("etc/c"), "old");
    let mut left: Vec<_> = fs::read_dir(site.root("etc")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["a", "b", "c"]);
}

#[test]
fn keep_going_applies_the_other_rules_and_still_fails() {
    let site = Site::new();
    let rules = [
        ("/etc/a", rule("name.tpl")),
        ("/../x", rule("name.tpl")),
        ("/etc/b", rule("broken.tpl")),
        ("/etc/c", rule("name.tpl")),
    ];
    let failed = site.apply(&rules, &ApplyOptions::new().keep_going(true), &Monitor::none()).unwrap_err();
    assert_eq!(failed.error.kind(), ErrorKind::UnsafePath);
    let names: Vec<_> = failed.report.outcomes.iter().map(|outcome| outcome.action.name()).collect();
    assert_eq!(names, ["created", "failed", "failed", "created"]);
    let Action::Failed { error } = &failed.report.outcomes[2].action else { panic!("it failed") };
    assert_eq!(error.kind(), ErrorKind::Template);
    assert_eq!(site.text("etc/c"), "c1 create /etc/c \n");
}

#[test]
fn exceeding_a_limit_changes_nothing() {
    let site = Site::new();
    fs::write(site.root("etc/a"), "old").unwrap();
    let before = site.state();
    for name in ["template_output", "template_file", "template_bytes", "template_steps", "path", "component"] {
        let mut limits = Limits::default();
        limits.set(name, 3).unwrap();
        let options = ApplyOptions::new().limits(limits);
        let path = if name == "component" { "/etc/long" } else { "/etc/a" };
        let failed = site.apply(&[(path, rule("name.tpl"))], &options, &Monitor::none()).unwrap_err();
        assert_eq!(failed.error.limit_name(), Some(name), "{failed}");
    }
    let mut limits = Limits::default();
    limits.set("templates", 1).unwrap();
    let rules = [("/etc/a", rule("name.tpl")), ("/etc/b", rule("name.tpl"))];
    let options = ApplyOptions::new().limits(limits).dry_run(true);
    assert_eq!(site.apply(&rules, &options, &Monitor::none()).unwrap_err().error.limit_name(), Some("templates"));
    assert_eq!(site.state(), before);
}

#[test]
fn cancelled_call_stops_writing() {
    let site = Site::new();
    let before = site.state();
    let cancel = Cancel::new();
    cancel.cancel();
    let options = ApplyOptions::new().keep_going(true);
    let failed = site
        .apply(
            &[("/etc/a", rule("name.tpl")), ("/etc/b", rule("name.tpl"))],
            &options,
            &Monitor::none().with_cancel(cancel),
        )
        .unwrap_err();
    assert_eq!(failed.error.kind(), ErrorKind::Cancelled);
    assert_eq!((failed.report.outcomes.len(), site.state()), (1, before));
}
