//! Programs in C that misuse the interface, share it between threads, and stand in the README and in `examples/c`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::compile::{compile, run};
use crate::{project, scratch};
use lxd_image::Monitor;

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/c").join(name)
}

#[test]
fn arguments_that_make_no_sense_are_refused() {
    let dir = scratch("arguments");
    let program = dir.join("arguments");
    compile(&[source("arguments.c")], &program);
    // The tests' own library is a debug build unless it was asked to be another.
    let mode = if cfg!(debug_assertions) { "debug" } else { "release" };
    run(Command::new(&program).arg(mode).arg(&dir));
}

#[test]
fn calls_that_no_case_makes_work_too() {
    let dir = scratch("rest");
    let program = dir.join("rest");
    compile(&[source("rest.c")], &program);
    run(Command::new(&program).arg(&dir));
}

#[test]
fn every_call_is_made_by_some_program_of_these() {
    let mut text = String::new();
    for dir in [source(""), project().join("examples/c")] {
        for file in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
            text.push_str(&fs::read_to_string(file).unwrap());
        }
    }
    let calls = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("abi/calls.txt")).unwrap();
    let names = calls.lines().map(|line| line.split('(').next().unwrap().rsplit([' ', '*']).next().unwrap());
    let unused: Vec<_> = names.filter(|name| !text.contains(&format!("{name}("))).collect();
    assert!(unused.is_empty(), "no program makes these calls: {unused:?}");
}

#[test]
fn eight_threads_share_what_is_const() {
    let dir = scratch("threads");
    let program = dir.join("threads");
    compile(&[source("threads.c")], &program);
    run(Command::new(&program).arg(&dir).arg("20"));
}

#[test]
fn readme_s_program_compiles_and_runs() {
    let readme = fs::read_to_string(project().join("README.md")).unwrap();
    let section = readme.split("\n## From C\n").nth(1).expect("a section `From C`");
    let code = section.split("```c\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a program in C");
    let dir = scratch("readme");
    fs::write(dir.join("readme.c"), code).unwrap();
    compile(&[dir.join("readme.c")], &dir.join("readme"));
    let image = image(&dir);
    let output = run(Command::new(dir.join("readme")).arg(&image).arg(dir.join("out")));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "x86_64, 2 entries\n");
    assert_eq!(fs::read_to_string(dir.join("out/rootfs/etc/hostname")).unwrap(), "box\n");
    // The second time the destination is there, and the program says so.
    let again = Command::new(dir.join("readme")).arg(&image).arg(dir.join("out")).output().unwrap();
    assert!(!again.status.success());
    assert!(String::from_utf8_lossy(&again.stderr).contains("the destination is not empty"), "{again:?}");
    // A file that is not there is told by its name, and so is a call without arguments.
    let missing = Command::new(dir.join("readme")).arg(dir.join("missing")).arg(dir.join("new")).output().unwrap();
    let said = String::from_utf8_lossy(&missing.stderr).into_owned();
    assert!(said.contains("missing") && said.to_lowercase().contains("no such file"), "{said}");
    let nothing = Command::new(dir.join("readme")).output().unwrap();
    assert_eq!(nothing.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&nothing.stderr).starts_with("usage: "), "{nothing:?}");
}

/// A small image with a template.
fn image(dir: &Path) -> PathBuf {
    let tree = dir.join("tree");
    fs::create_dir_all(tree.join("etc")).unwrap();
    fs::write(tree.join("etc/hostname"), "box\n").unwrap();
    fs::create_dir_all(dir.join("templates")).unwrap();
    fs::write(dir.join("templates/hostname.tpl"), "{{ container.name }}\n").unwrap();
    let rule = lxd_image::TemplateRule::new("hostname.tpl", ["create"]).unwrap();
    let mut metadata = lxd_image::Metadata::new("x86_64", 1_700_000_000).unwrap();
    metadata.properties_mut().set("os", "Debian").unwrap();
    metadata.set_template("/etc/hostname", rule).unwrap();
    let options = lxd_image::format::PackOptions::new(metadata).templates(dir.join("templates"));
    let image = dir.join("box.tar.zst");
    lxd_image::format::pack(&lxd_image::format::Rootfs::open(tree).unwrap(), &image, &options, &Monitor::none())
        .unwrap();
    image
}

#[test]
fn examples_do_what_they_say() {
    let dir = scratch("examples");
    let examples = project().join("examples/c");
    for name in ["verify_and_unpack", "render_templates", "store_browser"] {
        compile(&[examples.join(format!("{name}.c"))], &dir.join(name));
    }
    let image = image(&dir);
    let fingerprint = lxd_image::Fingerprint::of(&fs::read(&image).unwrap()).to_string();
    let text = |command: &mut Command| String::from_utf8(run(command).stdout).unwrap();
    let unpacked = text(Command::new(dir.join("verify_and_unpack")).arg(&image).arg(dir.join("c1")).arg(&fingerprint));
    assert!(unpacked.contains("os: Debian\n1 files, 2 directories\n2 entries in "), "{unpacked}");
    let other = "0".repeat(64);
    let refused =
        Command::new(dir.join("verify_and_unpack")).arg(&image).arg(dir.join("c2")).arg(&other).output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(!dir.join("c2").exists());

    let rendered = text(Command::new(dir.join("render_templates")).arg(&image).arg("c1"));
    assert_eq!(rendered, "/etc/hostname (hostname.tpl, at create):\nc1\n");
    let applied = text(Command::new(dir.join("render_templates")).arg("--apply").arg(dir.join("c1")).arg("web"));
    assert!(applied.contains("replaced /etc/hostname"), "{applied}");
    assert_eq!(fs::read_to_string(dir.join("c1/rootfs/etc/hostname")).unwrap(), "web\n");

    let store = || {
        let mut command = Command::new(dir.join("store_browser"));
        command.arg(dir.join("store"));
        command
    };
    let short = &fingerprint[..12];
    assert_eq!(text(store().arg("import").arg(&image).arg("debian/12")), format!("{fingerprint}\n"));
    assert_eq!(text(&mut store()), format!("{short} x86_64 container debian/12\n"));
    assert!(text(store().args(["show", "debian/12"])).contains("os: Debian\n"));
    assert_eq!(text(store().args(["list", "os=Alpine"])), "");
    run(store().arg("export").arg(short).arg(dir.join("again")));
    assert_eq!(fs::read(dir.join("again.tar.zst")).unwrap(), fs::read(&image).unwrap());
    run(store().args(["delete", "debian/12"]));
    assert_eq!(text(&mut store()), "");
}
