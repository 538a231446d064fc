//! The manual: every `sh` block of a page is run, in order, in an empty directory; its tables are those of the code.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The pages with their text.
fn pages() -> Vec<(String, String)> {
    let mut pages: Vec<(String, String)> = fs::read_dir(project().join("docs"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "md"))
        .map(|path| (path.file_stem().unwrap().to_str().unwrap().to_owned(), fs::read_to_string(&path).unwrap()))
        .collect();
    pages.sort();
    pages
}

/// The shell blocks of a page as one script.
fn script(text: &str) -> String {
    let blocks = text.split("\n```sh\n").skip(1).map(|rest| rest.split("\n```").next().unwrap());
    blocks.map(|block| format!("{block}\n")).collect()
}

fn scratch(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("lxd-image-manual-{}-{name}", std::process::id()));
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(dir.join("work")).unwrap();
    dir
}

/// Runs a page's commands; whatever it starts ends with it.
fn run(name: &str, text: &str) {
    let dir = scratch(name);
    let program = Path::new(env!("CARGO_BIN_EXE_lxd-image")).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    // A server that a failed block leaves behind is stopped by the trap.
    let source = format!("trap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n{}", script(text));
    let ran = Command::new("sh")
        .args(["-eu", "-c", &source])
        .current_dir(dir.join("work"))
        .env("PATH", path)
        .env("HOME", &dir)
        .env("LXD_IMAGE_STORE", dir.join("store"))
        .env("LXD_IMAGE_CONFIG", dir.join("config"))
        .env("EXAMPLES", project().join("examples"))
        .env("SOURCE_DATE_EPOCH", "1767225600")
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(ran.status.success(), "docs/{name}.md: {}\n{}\n{}", ran.status, said(&ran.stdout), said(&ran.stderr));
    fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn every_command_of_the_manual_works() {
    let pages: Vec<_> = pages().into_iter().filter(|(_, text)| !script(text).is_empty()).collect();
    assert!(pages.len() >= 7, "only {} pages have commands", pages.len());
    std::thread::scope(|scope| {
        let runs: Vec<_> = pages.iter().map(|(name, text)| scope.spawn(move || run(name, text))).collect();
        runs.into_iter().for_each(|run| run.join().unwrap());
    });
}

#[test]
fn every_page_is_in_the_index_and_is_a_topic_of_help() {
    let index = fs::read_to_string(project().join("docs/README.md")).unwrap();
    for (name, text) in pages().iter().filter(|(name, _)| name != "README") {
        assert!(index.contains(&format!("({name}.md) | `{name}` |")), "docs/README.md does not list {name}.md");
        let shown = Command::new(env!("CARGO_BIN_EXE_lxd-image")).args(["help", name]).output().unwrap();
        assert!(shown.status.success());
        assert_eq!(String::from_utf8(shown.stdout).unwrap(), *text);
    }
}

#[test]
fn help_still_explains_verbs_and_refuses_what_it_does_not_know() {
    let help = |word: &str| Command::new(env!("CARGO_BIN_EXE_lxd-image")).args(["help", word]).output().unwrap();
    assert!(String::from_utf8(help("unpack").stdout).unwrap().contains("Usage: lxd-image unpack"));
    assert_eq!(help("nothing").status.code(), Some(2));
}

#[test]
fn links_of_the_manual_lead_to_files() {
    for (name, text) in pages() {
        for link in text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
            let file = link.split('#').next().unwrap();
            assert!(project().join("docs").join(file).exists(), "docs/{name}.md links to {link}");
        }
    }
}

#[test]
fn table_of_the_faces_names_calls_that_exist() {
    let text = fs::read_to_string(project().join("docs/embedding.md")).unwrap();
    let calls = fs::read_to_string(project().join("ffi/abi/calls.txt")).unwrap();
    let layout = fs::read_to_string(project().join("ffi/abi/layout-x86_64.txt")).unwrap();
    let read = |dir: &str, ending: &str| {
        let files = fs::read_dir(project().join(dir)).unwrap().map(|entry| entry.unwrap().path());
        let files = files.filter(|path| path.to_str().unwrap().ends_with(ending));
        files.map(|path| fs::read_to_string(path).unwrap()).collect::<String>()
    };
    let go = read("ffi/go", ".go");
    let rows: Vec<Vec<&str>> = text
        .lines()
        .filter(|line| line.starts_with("| ") && line.matches(" | ").count() == 3)
        .map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`')).collect())
        .collect();
    assert!(rows.len() > 20, "only {} rows were found", rows.len());
    for row in rows {
        let &[what, _, c, in_go] = &row[..] else { panic!("four columns: {row:?}") };
        let is_structure = layout.contains(&format!("\n{c}: "));
        assert!(c == "no" || c == "C" || is_structure || calls.contains(&format!("{c}(")), "{what}: C has no {c}");
        let declared = match in_go.split_once('.') {
            None => go.contains(&format!("\nfunc {in_go}(")) || go.contains(&format!("\ntype {in_go} struct")),
            Some((of, method)) => {
                go.lines().any(|line| line.starts_with("func (") && line.contains(&format!("*{of}) {method}(")))
            }
        };
        assert!(in_go == "no" || in_go == "Go" || declared, "{what}: Go has no {in_go}");
    }
}

#[test]
fn every_kind_of_error_is_explained() {
    let text = fs::read_to_string(project().join("docs/troubleshooting.md")).unwrap();
    let source = fs::read_to_string(project().join("ffi/src/types.rs")).unwrap();
    for kind in source.split("ErrorKind::").skip(1).map(|rest| rest.split(')').next().unwrap()) {
        if kind.chars().all(char::is_alphanumeric) {
            assert!(text.contains(&format!("| `{kind}`")), "docs/troubleshooting.md does not explain {kind}");
        }
    }
}
