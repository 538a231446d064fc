//! The arrows between the library's parts: each may use what is below it, and nothing up or across.
//! Reads the sources themselves, since the compiler lets modules of one crate use each other freely.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::{Path, PathBuf};

/// The parts and their layers, as `DESIGN.md` draws them. What only the crate's own front page names
/// (`lib`) is not a part: it may use everything and nobody may use it.
const LAYERS: &[(&str, u8)] = &[
    ("atomic", 0),
    ("error", 0),
    ("io", 0),
    ("leftovers", 0),
    ("limits", 0),
    ("omissions", 0),
    ("progress", 0),
    ("redact", 0),
    ("rooted", 0),
    ("sparse", 0),
    ("time", 0),
    ("fingerprint", 1),
    ("metadata", 1),
    ("self_signed", 1),
    ("source_protocol", 1),
    ("disk", 2),
    ("format", 2),
    ("templates", 2),
    ("protocol", 2),
    ("trust", 2),
    ("delta", 3),
    ("oci", 3),
    ("store", 3),
    ("simplestreams", 3),
    ("remote", 4),
    ("server", 4),
    ("bundle", 5),
    ("transfer", 5),
    ("bin", 6),
];

/// Pairs of one layer that may meet, and arrows down that must not be drawn all the same.
const NEVER: &[(&str, &str)] = &[("store", "templates"), ("simplestreams", "templates")];
/// Within a layer some parts carry each other: a limit is an error, progress can be cancelled.
const WITHIN: &[(&str, &str)] = &[
    ("atomic", "leftovers"),
    ("atomic", "rooted"),
    ("leftovers", "progress"),
    ("leftovers", "rooted"),
    ("io", "error"),
    ("limits", "error"),
    ("omissions", "error"),
    ("error", "redact"),
    ("progress", "error"),
    ("progress", "omissions"),
    ("rooted", "error"),
    ("time", "error"),
    ("rooted", "progress"),
    // An image has a disk in it, and an OVA is a tar: each header is parsed in one place.
    ("disk", "format"),
    ("format", "disk"),
    // A tree makes the deltas of its images; deltas know nothing of trees.
    ("simplestreams", "delta"),
];

/// What the front page hands on, and the part it comes from: `crate::Error` is `crate::error::Error`.
fn re_exports(front_page: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let code = code_only(front_page);
    for statement in code.split(';') {
        let Some((_, path)) = statement.split_once("pub use ") else { continue };
        let Some((part, names)) = path.trim().split_once("::") else { continue };
        let part = part.trim_start_matches("crate::").to_owned();
        for name in names.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|name| !name.is_empty()) {
            found.push((name.to_owned(), part.clone()));
        }
    }
    found
}

/// Rust without its comments, strings and characters: what is left of them are blanks.
fn code_only(source: &str) -> String {
    let bytes: Vec<char> = source.chars().collect();
    let mut code = String::with_capacity(source.len());
    let mut at = 0;
    let starts = |at: usize, what: &str| what.chars().enumerate().all(|(index, c)| bytes.get(at + index) == Some(&c));
    while at < bytes.len() {
        if starts(at, "//") {
            while bytes.get(at).is_some_and(|&c| c != '\n') {
                at += 1;
            }
        } else if starts(at, "/*") {
            let mut depth = 1;
            at += 2;
            while depth > 0 && at < bytes.len() {
                match () {
                    () if starts(at, "/*") => (depth, at) = (depth + 1, at + 2),
                    () if starts(at, "*/") => (depth, at) = (depth - 1, at + 2),
                    () => at += 1,
                }
            }
        } else if let Some(end) = raw_string_end(&bytes, at) {
            at = end;
        } else if bytes[at] == '"' {
            at += 1;
            while bytes.get(at).is_some_and(|&c| c != '"') {
                at += if bytes[at] == '\\' { 2 } else { 1 };
            }
            at += 1;
        } else if bytes[at] == '\'' && (bytes.get(at + 1) == Some(&'\\') || bytes.get(at + 2) == Some(&'\'')) {
            // A character, and no lifetime.
            at += if bytes.get(at + 1) == Some(&'\\') { 3 } else { 2 };
            while bytes.get(at).is_some_and(|&c| c != '\'') {
                at += 1;
            }
            at += 1;
        } else {
            code.push(bytes[at]);
            at += 1;
            continue;
        }
        code.push(' ');
    }
    code
}

fn raw_string_end(bytes: &[char], at: usize) -> Option<usize> {
    let before = at.checked_sub(1).and_then(|before| bytes.get(before));
    if bytes[at] != 'r' || before.is_some_and(|&c| c.is_alphanumeric() && c != 'b' || c == '_') {
        return None;
    }
    let hashes = bytes[at + 1..].iter().take_while(|&&c| c == '#').count();
    let start = at + 1 + hashes;
    if bytes.get(start) != Some(&'"') {
        return None;
    }
    let close: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
    bytes[start + 1..].windows(close.len()).position(|window| window == close).map(|end| start + 1 + end + close.len())
}

/// Takes `#[cfg(test)] mod … { … }` and `#[cfg(test)] use …;` out: tests may use what they like.
fn without_tests(code: &str) -> String {
    let mut rest = code;
    let mut kept = String::new();
    while let Some(at) = rest.find("#[cfg(test)]") {
        kept.push_str(&rest[..at]);
        let item = &rest[at..];
        let end = match (item.find('{'), item.find(';')) {
            (Some(open), semicolon) if semicolon.is_none_or(|semicolon| open < semicolon) => {
                let mut depth = 0;
                item.char_indices()
                    .find_map(|(index, c)| {
                        depth += i32::from(c == '{') - i32::from(c == '}');
                        (index >= open && depth == 0).then_some(index + 1)
                    })
                    .unwrap_or(item.len())
            }
            (_, Some(semicolon)) => semicolon + 1,
            _ => item.len(),
        };
        rest = &item[end..];
    }
    kept.push_str(rest);
    kept
}

/// The first components after `crate::` (and, in a file at the crate's top, `super::`), groups included.
fn imported(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let rest = code[at + "crate::".len()..].trim_start();
        match rest.strip_prefix('{') {
            None => found.push(word(rest)),
            Some(group) => {
                let mut depth = 0;
                let mut start = true;
                for (index, c) in group.char_indices() {
                    match c {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => start = true,
                        c if start && (c.is_alphanumeric() || c == '_') => {
                            found.push(word(&group[index..]));
                            start = false;
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    found
}

fn word(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// Why `from` must not use `to`, if so.
fn forbidden(from: &str, to: &str) -> Option<String> {
    let layer = |part: &str| LAYERS.iter().find(|(name, _)| *name == part).map(|(_, layer)| *layer);
    if from == to {
        return None;
    }
    let (Some(above), Some(below)) = (layer(from), layer(to)) else {
        return Some(format!("`{from}` uses `{to}`, and one of them has no layer: add it to LAYERS and to DESIGN.md"));
    };
    if NEVER.contains(&(from, to)) {
        return Some(format!("`{from}` must never use `{to}`"));
    }
    if WITHIN.contains(&(from, to)) || above > below {
        return None;
    }
    let way = if above == below { "across" } else { "up" };
    Some(format!("`{from}` (layer {above}) uses `{to}` (layer {below}): the arrow points {way}"))
}

/// What a source file of `part` uses and must not.
fn violations(part: &str, source: &str, re_exports: &[(String, String)]) -> Vec<String> {
    let code = without_tests(&code_only(source));
    imported(&code)
        .into_iter()
        // The program is a crate of its own: its `crate::` is the program's, and its `lxd_image::` all that is public.
        .filter(|_| part != "bin")
        .map(|name| re_exports.iter().find(|(export, _)| *export == name).map_or(name, |(_, from)| from.clone()))
        .filter_map(|to| forbidden(part, &to))
        .collect()
}

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Names of files of this machine: what stands behind `io::ReadAt` in all that a remote store could hold.
const FILES: &[&str] = &["FileExt", "MetadataExt", "OwnedFd", "fstat", "statx", "st_ino", "st_dev"];

/// The sources of `store` and `server` that deal with local files all the same, and why.
const LOCAL: &[(&str, &str)] = &[
    ("store/blobs/", "the blob store itself"),
    ("store/catalog/", "SQLite's database is a local file"),
    ("store/lock.rs", "the lock of the store's directory"),
    ("store/description.rs", "the file that describes a store"),
    ("store/layout.rs", "the marker file of the store's directory"),
    ("store/export.rs", "writes the files that the caller names"),
    ("server/net/certificate.rs", "the server's own key and certificate"),
    ("server/net/trust.rs", "the list of trusted certificates, which people edit"),
];

/// Names of local files in a source, where something is imported from `std` or asked of the operating system.
fn local_files(source: &str) -> Vec<String> {
    let code = without_tests(&code_only(source));
    let imports_file = code.contains("fs::File")
        || code.split("use std::fs").skip(1).any(|rest| {
            rest.split(';')
                .next()
                .is_some_and(|names| names.split(|c: char| !c.is_alphanumeric()).any(|name| name == "File"))
        });
    let words = code.split(|c: char| !c.is_alphanumeric() && c != '_');
    // A `File` of the crate's own is a field of a protocol; `ino` and `dev` are plain words but for calls.
    let mut found: Vec<String> = words
        .filter(|word| match *word {
            "File" => imports_file,
            "ino" | "dev" => code.contains(&format!(".{word}()")),
            word => FILES.contains(&word),
        })
        .map(str::to_owned)
        .collect();
    found.dedup();
    found
}

#[test]
fn code_above_the_blob_store_names_no_local_file() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src.join("store"), &mut files);
    sources(&src.join("server"), &mut files);
    let mut needless: Vec<&str> = LOCAL.iter().map(|(path, _)| *path).collect();
    let mut wrong = Vec::new();
    for file in files {
        let inside = file.strip_prefix(&src).unwrap().to_str().unwrap();
        let found = local_files(&fs::read_to_string(&file).unwrap());
        if found.is_empty() {
            continue;
        }
        match LOCAL.iter().find(|(path, _)| inside.starts_with(path)) {
            Some((path, _)) => needless.retain(|other| other != path),
            None => wrong.push(format!("src/{inside} names {}: carry an `io::Blob`", found.join(", "))),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(needless.is_empty(), "no longer needed in LOCAL: {needless:?}");
}

/// The folders of the server, and what their sources must not name: services know no HTTP, and interfaces do not know what
/// calls them.
const SERVER: &[(&str, &[&str])] = &[
    ("core", &["http::", "server::message", "server::api", "server::state", "server::handler", "server::routes"]),
    ("core", &["server::web", "server::net", "protocol::rest"]),
    ("api", &["server::handler", "server::routes", "server::net"]),
    ("web", &["server::handler", "server::routes", "server::net"]),
    ("net", &["server::core::access", "server::routes", "server::web"]),
];

/// What a source of a folder of the server names and must not.
fn named(source: &str, never: &[&'static str]) -> Vec<&'static str> {
    let code = without_tests(&code_only(source));
    never.iter().filter(|name| code.contains(**name)).copied().collect()
}

#[test]
fn server_parts_do_not_name_what_is_above_them() {
    let server = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/server");
    let mut wrong = Vec::new();
    for (folder, never) in SERVER {
        let mut files = Vec::new();
        sources(&server.join(folder), &mut files);
        assert!(files.len() > 5, "src/server/{folder} has {} sources", files.len());
        for file in files {
            for name in named(&fs::read_to_string(&file).unwrap(), never) {
                wrong.push(format!("{} names {name}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn name_of_a_server_part_is_found_in_code_only() {
    assert_eq!(named("use crate::server::message::Request;", SERVER[0].1), ["server::message"]);
    assert_eq!(named("// crate::server::message::Request", SERVER[0].1), Vec::<&str>::new());
}

#[test]
fn local_file_is_found_however_it_is_named() {
    for source in [
        "use std::fs::File;",
        "use std::fs::{self, File};\nfn f(_: &File) {}",
        "fn f(_: std::fs::File) {}",
        "use std::os::unix::fs::{FileExt as _, OpenOptionsExt};",
        "fn f(about: &Metadata) -> u64 { about.ino() }",
        "fn f() { rustix::fs::fstat(fd) }",
    ] {
        assert!(!local_files(source).is_empty(), "{source}");
    }
    for source in ["struct File;\nfn f(_: File) {}", "// std::fs::File", "use crate::io::Blob;", "let dev = 1;"] {
        assert_eq!(local_files(source), Vec::<String>::new(), "{source}");
    }
}

#[test]
fn no_import_points_up_or_across_the_layers() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let front_page = fs::read_to_string(src.join("lib.rs")).unwrap();
    let re_exports = re_exports(&front_page);
    assert!(re_exports.contains(&("Error".to_owned(), "error".to_owned())), "the front page was not understood");
    let mut files = Vec::new();
    sources(&src, &mut files);
    let mut wrong = Vec::new();
    let mut arrows = 0;
    for file in files {
        let inside = file.strip_prefix(&src).unwrap();
        let first = inside.components().next().unwrap().as_os_str().to_str().unwrap();
        let part = first.strip_suffix(".rs").unwrap_or(first);
        if part == "lib" {
            continue;
        }
        let source = fs::read_to_string(&file).unwrap();
        arrows += imported(&code_only(&source)).len();
        wrong.extend(
            violations(part, &source, &re_exports).into_iter().map(|why| format!("src/{}: {why}", inside.display())),
        );
    }
    assert!(arrows > 50, "only {arrows} imports were found: does this test still read them?");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn import_up_or_across_is_found() {
    let exports = [("Image".to_owned(), "format".to_owned())];
    for (part, source, expected) in [
        ("metadata", "use crate::format::Image;", "points up"),
        ("format", "use crate::{error::{Error, Result}, templates};", "points across"),
        ("fingerprint", "fn f() -> crate::metadata::Metadata { todo!() }", "points across"),
        ("error", "use crate::limits::Limits;", "points across"),
        ("limits", "fn f(_: &crate::Image) {}", "points up"),
        ("store", "pub(crate) use crate::templates::Context;", "must never use"),
        ("server", "use crate::remote::Remote;", "points across"),
        ("format", "use crate::brand_new::Thing;", "has no layer"),
        ("format", "// fine\nconst A: char = '\"'; use crate::store::Store; const B: char = '\"';", "points up"),
    ] {
        let found = violations(part, source, &exports);
        assert!(found.len() == 1 && found[0].contains(expected), "{part}: {source} gave {found:?}");
    }
}

#[test]
fn arrows_down_comments_strings_and_tests_are_no_violations() {
    for (part, source) in [
        ("format", "use crate::error::{Error, Result};\nuse crate::metadata::Metadata;"),
        ("store", "use crate::format::Image;"),
        ("server", "use crate::protocol::Image;\nuse crate::store::Store;"),
        ("remote", "use crate::protocol::Image;"),
        ("limits", "use crate::error::Error;"),
        ("error", "//! See [`Limits`](crate::limits::Limits).\n/* crate::format */ /// crate::store::Store"),
        ("error", "const A: &str = \"crate::format::Image\"; const B: &str = r#\"\" crate::store \"#;"),
        ("error", "fn f<'a>(_: &'a str) {}\n#[cfg(test)]\nmod tests {\n use crate::store::Store;\n fn g() { { } }\n}"),
    ] {
        assert_eq!(violations(part, source, &[]), Vec::<String>::new(), "{part}: {source}");
    }
}
