//! The list of behaviour cases that Rust, C and Go share, done in C: the same results and the same kinds of errors.

use std::fs;
use std::process::Command;

use crate::compile::{compile, run, runner};
use crate::{project, scratch};

#[test]
fn every_case_gives_in_c_what_it_gives_in_rust() {
    let dir = scratch("cases");
    let program = dir.join("cases");
    compile(&runner(), &program);
    let mut files = 0;
    for entry in fs::read_dir(project().join("tests/cases")).unwrap() {
        let file = entry.unwrap().path();
        if file.extension().is_none_or(|extension| extension != "cases") {
            continue;
        }
        files += 1;
        let output = run(Command::new(&program).arg(&file).arg(dir.join("case")));
        let (done, source) = (String::from_utf8(output.stdout).unwrap(), fs::read_to_string(&file).unwrap());
        for (number, (done, source)) in done.lines().zip(source.lines()).enumerate() {
            assert_eq!(done, source, "{}: line {}", file.display(), number + 1);
        }
        assert_eq!(done, source, "{}", file.display());
    }
    assert!(files >= 5, "only {files} files of cases were found");
}
