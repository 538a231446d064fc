//! The binary interface is a promise (`ffi/ABI.md`): calls, constants and the layout of every structure are those of the
//! committed lists. `LXD_IMAGE_WRITE_ABI=1` writes the lists anew: a change of what stands there is a decision.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::compile::{compile, libraries, run};
use crate::{project, scratch};

fn header() -> String {
    let header = fs::read_to_string(project().join("include/lxd_image.h")).unwrap();
    // The comments are the manual; what is compiled is the rest.
    let mut code = String::new();
    let mut comment = false;
    for line in header.lines() {
        comment |= line.trim_start().starts_with("/*");
        if !comment {
            code.push_str(line.split("//").next().unwrap());
            code.push('\n');
        }
        comment &= !line.trim_end().ends_with("*/");
    }
    code
}

fn compare(name: &str, made: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("abi").join(name);
    if std::env::var_os("LXD_IMAGE_WRITE_ABI").is_some() {
        fs::write(&path, made).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    let (made, committed): (BTreeSet<_>, BTreeSet<_>) = (made.lines().collect(), committed.lines().collect());
    let gone: Vec<_> = committed.difference(&made).collect();
    let new: Vec<_> = made.difference(&committed).collect();
    assert!(
        gone.is_empty() && new.is_empty(),
        "ffi/abi/{name} says otherwise. Gone or changed, which breaks programs: {gone:#?}\nNew: {new:#?}\nffi/ABI.md tells \
         what may change; if this may, run the test with LXD_IMAGE_WRITE_ABI=1"
    );
}

/// The header's prototypes, each on one line.
fn prototypes(header: &str) -> BTreeSet<String> {
    let flat = header.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut found = BTreeSet::new();
    for piece in flat.split(';') {
        let Some(start) =
            ["lxi_status lxi_", "uint32_t lxi_", "const char *lxi_"].iter().filter_map(|begin| piece.find(begin)).min()
        else {
            continue;
        };
        let prototype = piece[start..].trim();
        if prototype.ends_with(')') && !piece.contains("typedef") {
            found.insert(prototype.to_owned());
        }
    }
    found
}

#[test]
fn library_exports_the_calls_of_the_list_and_nothing_else() {
    let prototypes = prototypes(&header());
    let output = run(Command::new("nm")
        .args(["--dynamic", "--defined-only", "--format=posix"])
        .arg(libraries().join("liblxd_image_ffi.so")));
    let exported: BTreeSet<String> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| line.split(' ').next().unwrap().to_owned())
        .collect();
    let declared: BTreeSet<String> = prototypes
        .iter()
        .map(|prototype| prototype.split('(').next().unwrap().rsplit([' ', '*']).next().unwrap().to_owned())
        .collect();
    assert_eq!(exported, declared, "the header and the library have other calls");
    let mut list = String::new();
    prototypes.iter().for_each(|prototype| writeln!(list, "{prototype}").unwrap());
    compare("calls.txt", &list);
}

/// Structures with their members' names, from the header.
fn structures(header: &str) -> Vec<(String, Vec<String>)> {
    let mut found = Vec::new();
    for (at, _) in header.match_indices("typedef struct lxi_") {
        let rest = &header[at + "typedef struct ".len()..];
        let (Some(open), Some(semicolon)) = (rest.find('{'), rest.find(';')) else { continue };
        if semicolon < open {
            continue;
        }
        let name = rest[..open].trim().to_owned();
        let body = &rest[open + 1..rest.find('}').unwrap()];
        let members = body
            .split(';')
            .map(str::trim)
            .filter(|member| !member.is_empty())
            .map(|member| {
                let name = member.split('[').next().unwrap();
                name.rsplit([' ', '*']).next().unwrap().to_owned()
            })
            .collect();
        found.push((name, members));
    }
    found
}

#[test]
fn structures_and_constants_are_laid_out_as_in_the_list() {
    let header = header();
    let structures = structures(&header);
    assert!(structures.len() > 25, "only {} structures were found", structures.len());
    let mut source = String::from("#include <lxd_image.h>\n#include <stdio.h>\nint main(void) {\n");
    for (name, members) in &structures {
        writeln!(source, "printf(\"{name}: %zu bytes, aligned to %zu\\n\", sizeof({name}), _Alignof({name}));")
            .unwrap();
        for member in members {
            writeln!(
                source,
                "printf(\"{name}.{member}: %zu bytes at %zu\\n\", sizeof((({name} *)0)->{member}), offsetof({name}, {member}));"
            )
            .unwrap();
        }
    }
    for line in header.lines() {
        if let Some(rest) = line.strip_prefix("#define LXI_")
            && let Some((name, value)) = rest.split_once(' ')
            && !name.contains('(')
            && !value.is_empty()
        {
            writeln!(source, "printf(\"LXI_{name} = %lld\\n\", (long long)LXI_{name});").unwrap();
        }
    }
    source.push_str("return 0;\n}\n");
    let dir = scratch("layout");
    fs::write(dir.join("layout.c"), source).unwrap();
    compile(&[dir.join("layout.c")], &dir.join("layout"));
    let output = run(&mut Command::new(dir.join("layout")));
    compare(&format!("layout-{}.txt", std::env::consts::ARCH), &String::from_utf8(output.stdout).unwrap());
}
