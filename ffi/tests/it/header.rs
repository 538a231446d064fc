//! `include/lxd_image.h` is what cbindgen makes of the sources, and C and C++ compilers take it without a word.
//! `LXD_IMAGE_WRITE_HEADER=1` writes it anew.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::sections::{SECTIONS, sections};
use crate::{project, scratch};

fn made() -> String {
    let ffi = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(ffi.join("cbindgen.toml")).unwrap();
    let mut builder = cbindgen::Builder::new().with_config(config);
    for part in SECTIONS.iter().flat_map(|(_, parts)| *parts) {
        builder = builder.with_src(ffi.join("src").join(format!("{part}.rs")));
    }
    let mut header = Vec::new();
    builder.generate().unwrap().write(&mut header);
    sections(&String::from_utf8(header).unwrap())
}

#[test]
fn sections_of_the_header_begin_where_its_index_says() {
    let header = fs::read_to_string(project().join("include/lxd_image.h")).unwrap();
    let lines: Vec<&str> = header.lines().collect();
    for (title, _) in SECTIONS {
        let heading = format!("/* ==== {title} ==== */");
        let at = lines.iter().position(|line| *line == heading).unwrap_or_else(|| panic!("no section {title}"));
        assert!(header.contains(&format!(" *   {:>4}  {title}\n", at + 1)), "{title} is at {}", at + 1);
    }
    let first = lines.iter().position(|line| line.starts_with("uint32_t lxi_")).unwrap();
    assert!(first < 500, "the first call is at line {first}");
}

#[test]
fn committed_header_is_what_the_sources_say() {
    let path = project().join("include/lxd_image.h");
    let made = made();
    if std::env::var_os("LXD_IMAGE_WRITE_HEADER").is_some() {
        fs::write(&path, &made).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    let differs = made.lines().zip(committed.lines()).position(|(made, committed)| made != committed);
    assert!(
        made == committed,
        "include/lxd_image.h differs from the sources at line {:?}: run this test with LXD_IMAGE_WRITE_HEADER=1, and \
         look at what changed: the interface is a promise",
        differs.map(|line| line + 1)
    );
}

#[test]
fn every_exported_call_is_in_the_header_and_has_its_manual() {
    let header = fs::read_to_string(project().join("include/lxd_image.h")).unwrap();
    let mut calls = 0;
    for file in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap() {
        let source = fs::read_to_string(file.unwrap().path()).unwrap();
        let lines: Vec<&str> = source.lines().collect();
        for (at, line) in lines.iter().enumerate().filter(|(_, line)| **line == "#[unsafe(no_mangle)]") {
            let name = lines[at + 1].split("fn ").nth(1).and_then(|rest| rest.split('(').next()).unwrap();
            calls += 1;
            assert!(header.contains(&format!("{name}(")), "{name} is not in the header: {line}");
            let comment: Vec<&str> =
                lines[..at].iter().rev().take_while(|line| line.starts_with("///")).copied().collect();
            let comment = comment.join(" ");
            assert!(comment.contains("hreads"), "{name} does not say which thread may call it");
            assert!(comment.contains("rrors") || comment.contains("Can't fail"), "{name} does not say how it fails");
        }
    }
    assert!(calls > 100, "only {calls} calls were found: does this test still read them?");
}

#[test]
fn c_and_cpp_include_the_header_without_a_warning() {
    let include = project().join("include");
    for (compiler, language, standard) in
        [("gcc", "c", "c11"), ("gcc", "c", "c23"), ("g++", "c++", "c++17"), ("g++", "c++", "c++20")]
    {
        // An older compiler calls it so.
        let standard = if standard == "c23" { "c2x" } else { standard };
        let dir = scratch(&format!("include-{standard}"));
        let source = dir.join(if language == "c" { "include.c" } else { "include.cpp" });
        fs::write(
            &source,
            "#include <lxd_image.h>\nint main(void) { lxi_str text = LXI_STR(\"text\"); return text.len != 4; }\n",
        )
        .unwrap();
        let output = Command::new(compiler)
            .args(["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only"])
            .arg(format!("-std={standard}"))
            .arg("-I")
            .arg(&include)
            .arg(&source)
            .output()
            .unwrap();
        assert!(output.status.success(), "{compiler} {standard}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
