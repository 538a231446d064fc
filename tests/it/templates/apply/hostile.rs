//! Rows 144 to 148 of the hostile corpus: paths, links and files that lead, hang or act elsewhere.
//! Either the place inside the root that the guest sees, or a refusal; the host stays as it is.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use lxd_image::templates::{Action, ApplyOptions, InstanceDir, Trigger, apply};
use lxd_image::{ErrorKind, Limits, Monitor};

use super::{Site, context, is_root, rule};

/// Row 144 of the hostile corpus.
#[test]
fn unsafe_target_paths_and_template_names_are_refused() {
    let site = Site::new();
    let before = site.state();
    for path in ["/../../host/x", "/..", "..", "/etc/../../../host/x", "/etc/..", "/a/b/../c"] {
        assert_eq!(site.one(path).unwrap_err(), ErrorKind::UnsafePath, "{path}");
    }
    let host = site.host().join("file").display().to_string();
    for template in ["../../host/file", &host, "../name.tpl", "./name.tpl", "sub/name.tpl", ".", "..", "name.tpl/"] {
        let failed = site.apply(&[("/etc/x", rule(template))], &ApplyOptions::new(), &Monitor::none()).unwrap_err();
        assert_eq!(failed.error.kind(), ErrorKind::UnsafePath, "{template}");
    }
    assert_eq!(site.state(), before);
}

/// Row 145 of the hostile corpus.
#[test]
fn links_are_followed_inside_the_root_only() {
    // The link, what it leads to, the rule's path, and where the file ends up, if anywhere.
    let absolute = "/usr/lib";
    for (link, to, path, expected) in [
        ("etc/sub", absolute, "/etc/sub/x", Some("usr/lib/x")),
        ("etc/sub", "../usr/lib", "/etc/sub/x", Some("usr/lib/x")),
        ("etc/sub", "../../../../../../usr/lib", "/etc/sub/x", Some("usr/lib/x")),
        ("etc/sub", "/usr", "/etc/sub/lib/new/x", Some("usr/lib/new/x")),
        ("etc/sub", "HOST", "/etc/sub/x", None),
        ("etc/sub", "HOST", "/etc/sub/deep/er/x", None),
        ("etc/sub", "nowhere", "/etc/sub/x", None),
        ("etc/sub", "sub", "/etc/sub/x", None),
        ("etc/x", "/usr/lib/y", "/etc/x", Some("usr/lib/y")),
        ("etc/x", "../usr/lib/y", "/etc/x", Some("usr/lib/y")),
        ("etc/x", "../../../../usr/lib/y", "/etc/x", Some("usr/lib/y")),
        ("etc/x", "HOST/file", "/etc/x", None),
        ("etc/x", "../../../host/file", "/etc/x", None),
        ("etc/x", "/nowhere/y", "/etc/x", None),
        ("etc/x", "x", "/etc/x", None),
        ("etc/x", "..", "/etc/x", None),
        ("etc/x", "/", "/etc/x", None),
        ("etc/x", "/usr/lib", "/etc/x", None),
    ] {
        let site = Site::new();
        fs::create_dir_all(site.root("usr/lib")).unwrap();
        symlink(to.replace("HOST", site.host().to_str().unwrap()), site.root(link)).unwrap();
        let host = site.host_state();
        let done = site.one(path);
        assert_eq!(site.host_state(), host, "{link} → {to}");
        match expected {
            Some(place) => {
                assert!(matches!(done, Ok(Action::Created { .. })), "{link} → {to}: {done:?}");
                assert_eq!(site.text(place), format!("c1 create {path} \n"), "{link} → {to}");
                assert!(site.root(link).is_symlink());
            }
            None => assert_eq!(done.unwrap_err(), ErrorKind::UnsafePath, "{link} → {to}"),
        }
    }
}

/// Row 145 of the hostile corpus.
#[test]
fn link_through_proc_does_not_leave_the_root() {
    let site = Site::new();
    // Such a link leaves a root even where all others are kept inside; only a root with `/proc` has one.
    symlink("/proc/self/root", site.root("etc/sub")).unwrap();
    assert_eq!(site.one("/etc/sub/tmp/x").unwrap_err(), ErrorKind::UnsafePath);
}

/// Row 146 of the hostile corpus.
#[test]
fn irregular_target_is_refused_without_opening_it() {
    let site = Site::new();
    fs::create_dir(site.root("etc/dir")).unwrap();
    let mut names = vec!["dir", "socket", "fifo"];
    let _listener = UnixListener::bind(site.root("etc/socket")).unwrap();
    assert!(Command::new("mkfifo").arg(site.root("etc/fifo")).status().unwrap().success());
    if is_root() {
        // The tty: opening it would act. Some sandboxes allow no devices at all.
        let made = Command::new("mknod").arg(site.root("etc/device")).args(["c", "5", "0"]).status().unwrap();
        if made.success() {
            names.push("device");
        }
    }
    let before = site.state();
    for name in names {
        assert_eq!(site.one(&format!("/etc/{name}")).unwrap_err(), ErrorKind::UnsafePath, "{name}");
    }
    for path in ["/", "", "//", "/.", "/etc", "/etc/", "/etc/fifo/x"] {
        assert_eq!(site.one(path).unwrap_err(), ErrorKind::UnsafePath, "`{path}`");
    }
    assert_eq!(site.state(), before);
}

/// Row 147 of the hostile corpus.
#[test]
fn directory_swapped_for_a_link_is_refused() {
    for name in ["rootfs", "templates", "metadata.yaml"] {
        let site = Site::new();
        let place = site.dest().join(name);
        fs::write(site.dest().join("metadata.yaml"), "architecture: x86_64\ncreation_date: 1\n").unwrap();
        fs::rename(&place, site.host().join(name)).unwrap();
        symlink(site.host().join(name), &place).unwrap();
        let host = site.host_state();
        let error =
            InstanceDir::open(site.dest()).and_then(|dir| dir.metadata(&Limits::default()).map(drop)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnsafePath, "{name}: {error}");
        assert_eq!(site.host_state(), host, "{name}");
    }
}

#[test]
fn irregular_template_is_refused() {
    let site = Site::new();
    let templates = site.dest().join("templates");
    symlink(site.host().join("file"), templates.join("link.tpl")).unwrap();
    symlink("name.tpl", templates.join("inner.tpl")).unwrap();
    fs::create_dir(templates.join("dir.tpl")).unwrap();
    assert!(Command::new("mkfifo").arg(templates.join("fifo.tpl")).status().unwrap().success());
    let before = site.state();
    for template in ["link.tpl", "inner.tpl", "dir.tpl", "fifo.tpl"] {
        let failed = site.apply(&[("/new/x", rule(template))], &ApplyOptions::new(), &Monitor::none()).unwrap_err();
        assert_eq!(failed.error.kind(), ErrorKind::UnsafePath, "{template}");
    }
    assert_eq!(site.state(), before);
}

/// Row 148 of the hostile corpus.
#[test]
fn other_hard_links_of_a_target_keep_the_old_content() {
    let site = Site::new();
    fs::hard_link(site.host().join("file"), site.root("etc/x")).unwrap();
    assert!(matches!(site.one("/etc/x"), Ok(Action::Replaced { .. })));
    assert_eq!(site.text("etc/x"), "c1 create /etc/x \n");
    assert_eq!(fs::read_to_string(site.host().join("file")).unwrap(), "the host's");
}

#[test]
fn directory_replaced_during_the_call_does_not_leave_the_root() {
    let site = Site::new();
    fs::create_dir(site.root("etc/sub")).unwrap();
    symlink(site.host(), site.root("etc/evil")).unwrap();
    let host = site.host_state();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let exchange = rustix::fs::RenameFlags::EXCHANGE;
            let (sub, evil) = (site.root("etc/sub"), site.root("etc/evil"));
            while !done.load(Ordering::Relaxed) {
                rustix::fs::renameat_with(rustix::fs::CWD, &sub, rustix::fs::CWD, &evil, exchange).unwrap();
                // Without a pause the directory would hardly ever be met as one.
                std::thread::sleep(std::time::Duration::from_micros(20));
            }
        });
        let dir = InstanceDir::open(site.dest()).unwrap();
        for round in 0..500 {
            let paths = [format!("/etc/sub/file{round}"), format!("/etc/sub/deep{round}/file"), "/etc/sub/file".into()];
            let rule = rule("name.tpl");
            for path in &paths {
                match apply(
                    &dir,
                    [(path.as_str(), &rule)],
                    Trigger::Create,
                    &context(),
                    &ApplyOptions::new(),
                    &Monitor::none(),
                ) {
                    Ok(_) => {}
                    Err(failed) => assert_eq!(failed.error.kind(), ErrorKind::UnsafePath, "{failed}"),
                }
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(site.host_state(), host);
}
