//! What is written and how it belongs: new and existing files, parents, owners, modes, attributes.
//! Each test is a sentence of how the peers do it, or of what we do better.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::sync::atomic::{AtomicBool, Ordering};

use lxd_image::templates::{Action, ApplyOptions, Dialect, SkipReason, Trigger};
use lxd_image::{Error, ErrorKind, Monitor, TemplateRule};
use rustix::fs::XattrFlags;

use super::{Site, is_root, mode, owner, rule};

fn shifted() -> ApplyOptions {
    ApplyOptions::new().shift_owners(|id| {
        if id < 65_536 { Ok(100_000 + id) } else { Err(Error::new(ErrorKind::InvalidInput, "outside of the map")) }
    })
}

#[test]
fn new_file_is_0644_and_belongs_to_the_instances_root() {
    let site = Site::new();
    site.apply(&[("/etc/hostname", rule("name.tpl"))], &ApplyOptions::new(), &Monitor::none()).unwrap();
    assert_eq!(site.text("etc/hostname"), "c1 create /etc/hostname \n");
    assert_eq!(mode(&site.root("etc/hostname")), 0o644);
    if is_root() {
        assert_eq!(owner(&site.root("etc/hostname")), (0, 0));
        site.apply(&[("/etc/shifted", rule("name.tpl"))], &shifted(), &Monitor::none()).unwrap();
        assert_eq!(owner(&site.root("etc/shifted")), (100_000, 100_000));
    }
}

#[test]
fn missing_parents_are_created_0755_for_root() {
    let site = Site::new();
    fs::set_permissions(site.root("etc"), fs::Permissions::from_mode(0o700)).unwrap();
    site.apply(&[("/etc/a/b/file", rule("name.tpl")), ("c/file", rule("name.tpl"))], &shifted(), &Monitor::none())
        .unwrap();
    assert_eq!(mode(&site.root("etc")), 0o700);
    assert_eq!(site.text("c/file"), "c1 create c/file \n");
    for path in ["etc/a", "etc/a/b", "c"] {
        assert_eq!(mode(&site.root(path)), 0o755, "{path}");
        if is_root() {
            assert_eq!(owner(&site.root(path)), (100_000, 100_000), "{path}");
        }
    }
    let before = owner(&site.root("etc"));
    assert_ne!(before.0, 100_000);
}

#[test]
fn existing_file_keeps_owner_mode_and_xattrs() {
    let site = Site::new();
    let file = site.root("etc/file");
    fs::write(&file, "old").unwrap();
    let wanted = if is_root() {
        std::os::unix::fs::chown(&file, Some(1234), Some(2345)).unwrap();
        (1234, 2345)
    } else {
        owner(&file)
    };
    fs::set_permissions(&file, fs::Permissions::from_mode(0o4710)).unwrap();
    let marked = rustix::fs::setxattr(&file, "user.mark", b"kept\0", XattrFlags::empty()).is_ok();
    let inode = fs::metadata(&file).unwrap().ino();
    // Numbers in the rule are for new files only.
    let named = rule("name.tpl").with_owner(7, 8).with_mode(0o600);
    let applied =
        site.apply(&[("/etc/file", named)], &ApplyOptions::new().dialect(Dialect::Incus), &Monitor::none()).unwrap();
    let target = applied.outcomes[0].action.file().unwrap();
    assert_eq!((target.uid, target.gid, target.mode, target.size), (wanted.0, wanted.1, 0o4710, 21));
    assert_eq!((owner(&file), mode(&file)), (wanted, 0o4710));
    assert_ne!(fs::metadata(&file).unwrap().ino(), inode);
    if marked {
        let mut value = [0; 16];
        let length = rustix::fs::getxattr(&file, "user.mark", &mut value[..]).unwrap();
        assert_eq!(&value[..length], b"kept\0");
    }
}

#[test]
fn unchanged_content_is_not_written() {
    let site = Site::new();
    site.one("/etc/file").unwrap();
    let before = site.state();
    assert!(matches!(site.one("/etc/file"), Ok(Action::Unchanged { .. })));
    assert_eq!(site.state(), before);
}

/// Row 150 of the hostile corpus.
#[test]
fn create_only_keeps_whatever_exists() {
    let site = Site::new();
    fs::write(site.root("etc/file"), "old").unwrap();
    symlink("nowhere", site.root("etc/link")).unwrap();
    let once = || rule("name.tpl").with_create_only(true);
    let rules = [("/etc/file", once()), ("/etc/link", once()), ("/etc/new", once()), ("/a/b/new", once())];
    let applied = site.apply(&rules, &ApplyOptions::new(), &Monitor::none()).unwrap();
    let names: Vec<_> = applied.outcomes.iter().map(|outcome| outcome.action.name()).collect();
    assert_eq!(names, ["skipped", "skipped", "created", "created"]);
    assert!(matches!(applied.outcomes[0].action, Action::Skipped { reason: SkipReason::CreateOnly }));
    assert_eq!(site.text("etc/file"), "old");
    assert!(!site.root("etc/nowhere").exists());
    assert_eq!(applied.written().collect::<Vec<_>>(), ["/etc/new", "/a/b/new"]);
}

/// Row 150 of the hostile corpus.
#[test]
fn rule_fires_only_at_events_in_its_when() {
    let site = Site::new();
    let rule = |when: &[&str]| TemplateRule::new("name.tpl", when.iter().copied()).unwrap();
    let rules = [
        ("/etc/other", rule(&["start", "copy"])),
        ("/etc/unknown", rule(&["reboot", "Create", "create "])),
        ("/etc/never", rule(&[])),
        ("/etc/both", rule(&["start", "create"])),
    ];
    let applied = site.apply(&rules, &ApplyOptions::new(), &Monitor::none()).unwrap();
    assert_eq!(applied.written().collect::<Vec<_>>(), ["/etc/both"]);
    let expected = vec!["start".to_owned(), "copy".to_owned()];
    assert!(
        matches!(&applied.outcomes[0].action, Action::Skipped { reason: SkipReason::Trigger { trigger: Trigger::Create, when } } if *when == expected)
    );
    assert_eq!(applied.outcomes[0].action.to_string(), "not at create, only at start, copy");
}

#[test]
fn incus_reads_uid_gid_and_mode_and_lxd_does_not() {
    let yaml = "architecture: x86_64\ncreation_date: 1\ntemplates:\n  /etc/file:\n    when: [create]\n    template: name.tpl\n";
    for (keys, expected) in [
        ("    mode: '755'\n", Ok((100_000, 100_000, 0o755))),
        ("    mode: '0600'\n    uid: '5'\n    gid: '6'\n", Ok((100_005, 100_006, 0o600))),
        ("    mode: 0o4755\n", Ok((100_000, 100_000, 0o755))),
        ("    mode: '1755'\n", Ok((100_000, 100_000, 1755 & 0o777))),
        ("    mode: rwx\n", Err(ErrorKind::InvalidInput)),
        ("    uid: root\n", Err(ErrorKind::InvalidInput)),
        ("    uid: '4294967295'\n", Err(ErrorKind::InvalidInput)),
        ("    gid: '70000'\n", Err(ErrorKind::InvalidInput)),
    ] {
        let metadata =
            lxd_image::Metadata::parse(format!("{yaml}{keys}").as_bytes(), &lxd_image::Limits::default()).unwrap();
        let rule = metadata.template("/etc/file").unwrap().clone();
        let site = Site::new();
        let before = site.state();
        let file = site.root("etc/file");
        let done = site.apply(&[("/etc/file", rule.clone())], &shifted().dialect(Dialect::Incus), &Monitor::none());
        match expected {
            Ok((uid, gid, bits)) => {
                done.unwrap();
                assert_eq!(mode(&file), bits, "{keys}");
                if is_root() {
                    assert_eq!(owner(&file), (uid, gid), "{keys}");
                }
            }
            Err(kind) => {
                assert_eq!(done.unwrap_err().error.kind(), kind, "{keys}");
                assert_eq!(site.state(), before, "{keys}");
            }
        }
        let site = Site::new();
        site.apply(&[("/etc/file", rule)], &shifted(), &Monitor::none()).unwrap();
        assert_eq!(mode(&site.root("etc/file")), 0o644, "{keys}");
    }
}

#[test]
fn virtual_machine_output_goes_to_the_agent_directory() {
    let site = Site::new();
    fs::remove_dir_all(site.dest().join("rootfs")).unwrap();
    fs::write(site.dest().join("metadata.yaml"), "architecture: x86_64\ncreation_date: 1\n").unwrap();
    let out = site.host();
    fs::write(out.join("name.tpl.out"), "old").unwrap();
    let options = ApplyOptions::new().output(&out);
    let rules = [("/etc/hostname", rule("name.tpl").with_create_only(true))];
    site.apply(&rules, &options.clone().dry_run(true), &Monitor::none()).unwrap();
    assert_eq!(fs::read_to_string(out.join("name.tpl.out")).unwrap(), "old");
    let applied = site.apply(&rules, &options, &Monitor::none()).unwrap();
    assert!(matches!(applied.outcomes[0].action, Action::Replaced { .. }));
    assert_eq!(fs::read_to_string(out.join("name.tpl.out")).unwrap(), "c1 create /etc/hostname \n");
    assert_eq!(mode(&out.join("name.tpl.out")), 0o644);
    assert_eq!(fs::read_to_string(out.join("metadata.yaml")).unwrap(), "architecture: x86_64\ncreation_date: 1\n");
    // Without such a directory there is no place for them.
    assert_eq!(site.one("/etc/hostname").unwrap_err(), ErrorKind::NotFound);
}

#[test]
fn dry_run_reports_changes_without_writing() {
    let site = Site::new();
    fs::write(site.root("etc/old"), "old\n").unwrap();
    fs::write(site.root("etc/same"), "c1 create /etc/same \n").unwrap();
    let before = site.state();
    let rules = [("/etc/old", rule("name.tpl")), ("/a/b/new", rule("name.tpl")), ("/etc/same", rule("name.tpl"))];
    let applied = site.apply(&rules, &ApplyOptions::new().dry_run(true), &Monitor::none()).unwrap();
    assert_eq!(site.state(), before);
    let old = applied.outcomes[0].change.as_ref().unwrap();
    assert_eq!((old.old.as_deref(), old.new.as_slice()), (Some(&b"old\n"[..]), &b"c1 create /etc/old \n"[..]));
    let new = applied.outcomes[1].change.as_ref().unwrap();
    assert_eq!((new.old.as_deref(), new.new.as_slice()), (None, &b"c1 create /a/b/new \n"[..]));
    assert!(applied.outcomes[2].change.is_none());
    assert_eq!(applied.written().collect::<Vec<_>>(), ["/etc/old", "/a/b/new"]);
}

#[test]
fn each_rule_has_its_own_properties() {
    let site = Site::new();
    symlink("../run/real", site.root("etc/link")).unwrap();
    fs::create_dir(site.root("run")).unwrap();
    fs::write(site.root("run/real"), "old").unwrap();
    let with = |value: &str| rule("name.tpl").with_property("x", value).unwrap();
    site.apply(
        &[("/etc/a", with("A")), ("/etc/link", with("B")), ("/etc/c", rule("name.tpl"))],
        &ApplyOptions::new(),
        &Monitor::none(),
    )
    .unwrap();
    assert_eq!(site.text("etc/a"), "c1 create /etc/a A\n");
    assert_eq!(site.text("run/real"), "c1 create /etc/link B\n");
    assert!(site.root("etc/link").is_symlink());
    assert_eq!(site.text("etc/c"), "c1 create /etc/c \n");
}

#[test]
fn reader_never_sees_a_partial_file() {
    let site = Site::new();
    let file = site.root("etc/file");
    let (short, long) = ("short\n".to_owned(), "long ".repeat(40_000));
    fs::write(&file, &short).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let seen = fs::read_to_string(&file).unwrap();
                assert!(seen == short || seen == long, "{} bytes", seen.len());
            }
        });
        for round in 0..200 {
            site.template("turn.tpl", if round % 2 == 0 { &long } else { &short });
            site.apply(&[("/etc/file", rule("turn.tpl"))], &ApplyOptions::new(), &Monitor::none()).unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
}
