//! Compiles C against the header and the shared library that cargo built for these tests.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::project;

/// Warnings are errors, also those of the header.
pub(crate) const STRICT: &[&str] = &["-Wall", "-Wextra", "-Wpedantic", "-Werror"];

/// Where cargo puts the libraries: beside this test's own program.
pub(crate) fn libraries() -> PathBuf {
    std::env::current_exe().unwrap().parent().unwrap().to_path_buf()
}

/// Compiles sources into `program` and returns its path.
pub(crate) fn compile(sources: &[PathBuf], program: &Path) {
    let libraries = libraries();
    assert!(libraries.join("liblxd_image_ffi.so").exists(), "cargo did not build the shared library for this test");
    let output = Command::new("gcc")
        .args(STRICT)
        .args(["-std=c11", "-D_POSIX_C_SOURCE=200809L", "-g", "-O1", "-pthread", "-I"])
        .arg(project().join("include"))
        .args(sources)
        .arg("-L")
        .arg(&libraries)
        .arg(format!("-Wl,-rpath,{}", libraries.display()))
        .args(["-llxd_image_ffi", "-o"])
        .arg(program)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The sources of the runner of behaviour cases.
pub(crate) fn runner() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/c");
    ["cases", "prepare", "images", "templates", "stores", "trees", "trust", "oci", "serving"]
        .map(|name| dir.join(format!("{name}.c")))
        .to_vec()
}

/// Runs a program that must end well, and returns what it wrote.
pub(crate) fn run(command: &mut Command) -> Output {
    // Cargo's own path has a directory in front where an older library may be left over.
    let registry = project().join("tests/peers/registry.py");
    let command = command.env("LD_LIBRARY_PATH", libraries()).env("LXD_IMAGE_TEST_REGISTRY", registry);
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}
