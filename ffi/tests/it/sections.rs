//! The header in sections: cbindgen writes all types before all calls, and a reader wants what belongs together in one
//! place.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;

/// The sections of the manual with the sources whose types and calls stand in them, in this order.
pub(crate) const SECTIONS: &[(&str, &[&str])] = &[
    ("Basics: texts, statuses, errors, buffers", &["types", "about", "error", "buffer"]),
    ("Limits", &["limits"]),
    ("Long calls: omissions, progress, cancellation", &["omissions", "monitor"]),
    ("Inputs and outputs", &["stream"]),
    ("Fingerprints", &["fingerprint"]),
    ("Metadata", &["metadata", "rule"]),
    ("Images as files: open, verify, unpack", &["image", "verify", "unpack", "staged"]),
    ("Pack, convert, compare", &["pack", "diff"]),
    ("Disks of virtual machines", &["disk"]),
    ("Templates", &["context", "template", "apply"]),
    ("Keys, statements, policies", &["key", "statement", "policy"]),
    ("Stores: open, list, find", &["store", "stored", "list", "cursor"]),
    ("Stores: import, edit, export, keep in order", &["import", "edit", "alias", "export", "maintenance"]),
    ("OCI layouts and bundles", &["names", "layout"]),
    ("Settings and remotes", &["settings", "remote", "transfer"]),
    ("Registries", &["registry"]),
    ("Static trees and mirrors", &["tree", "mirror"]),
    ("Deltas", &["delta"]),
    ("Servers", &["server"]),
];

/// Where an item is declared: its part, and its place in the source.
type Places = BTreeMap<String, (usize, usize)>;

/// The name that a line of a source declares for C.
fn declared(line: &str) -> Option<&str> {
    let rest = ["pub struct ", "pub type ", "pub const ", "pub unsafe extern \"C\" fn ", "pub extern \"C\" fn "]
        .iter()
        .find_map(|front| line.strip_prefix(front))?;
    let name = rest.split(|c: char| !c.is_alphanumeric() && c != '_').next()?;
    (name.starts_with("lxi_") || name.starts_with("LXI_")).then_some(name)
}

fn places() -> Places {
    let mut found = Places::new();
    for (number, part) in SECTIONS.iter().flat_map(|(_, parts)| *parts).enumerate() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(format!("{part}.rs"));
        for (line, text) in fs::read_to_string(path).unwrap().lines().enumerate() {
            if let Some(name) = declared(text) {
                found.insert(name.to_owned(), (number, line));
            }
        }
    }
    found
}

/// The name that an item of the header declares, and whether it is a call.
fn name_of(item: &str) -> (String, bool) {
    let code: Vec<&str> = item.lines().filter(|line| !line.starts_with("//")).collect();
    let first = code.first().unwrap_or_else(|| panic!("only a comment: {item}"));
    let word = |text: &str| text.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap().to_owned();
    if let Some(rest) = first.strip_prefix("#define ") {
        return (word(rest), false);
    }
    if first.starts_with("typedef") {
        if let Some(at) = first.find("(*lxi_") {
            return (word(&first[at + 2..]), false);
        }
        // The last word, before the semicolon.
        let last = code.last().unwrap().trim_end_matches(';');
        return (last.rsplit([' ', '*']).next().unwrap().to_owned(), false);
    }
    let at = first.find("lxi_").and_then(|_| first.find('(')).unwrap_or_else(|| panic!("what is this: {item}"));
    (first[..at].rsplit([' ', '*']).next().unwrap().to_owned(), true)
}

/// The header that cbindgen made, with what belongs together in one section, and an index of them at the top.
pub(crate) fn sections(made: &str) -> String {
    let (open, close) =
        ("#ifdef __cplusplus\nextern \"C\" {\n#endif // __cplusplus\n", "#ifdef __cplusplus\n}  // extern \"C\"");
    let begin = made.find("#define LXI_STR(literal) ((lxi_str)").unwrap();
    let begin = begin + made[begin..].find("#endif\n").unwrap() + "#endif\n".len();
    let middle = made.find(open).expect("the calls");
    let end = made.find(close).expect("the end of the calls");
    let places = places();
    let mut items: Vec<((usize, bool, usize), String, &str)> = Vec::new();
    for item in made[begin..middle].split("\n\n").chain(made[middle + open.len()..end].split("\n\n")) {
        let item = item.trim_matches('\n');
        if item.is_empty() {
            continue;
        }
        let (name, is_call) = name_of(item);
        let (part, line) = *places.get(&name).unwrap_or_else(|| panic!("no section has `{name}`: {item}"));
        items.push(((part, is_call, line), name, item));
    }
    items.sort_by_key(|item| item.0);

    let mut body = String::new();
    let mut headings = Vec::new();
    let mut next = 0;
    for (title, parts) in SECTIONS {
        let until = next + parts.len();
        headings.push((*title, body.lines().count() + 1));
        write!(body, "/* ==== {title} ==== */\n\n").unwrap();
        for (_, _, item) in items.iter().filter(|((part, _, _), _, _)| (next..until).contains(part)) {
            write!(body, "{item}\n\n").unwrap();
        }
        next = until;
    }

    // Types of later sections are pointed to in earlier ones.
    let mut tags: Vec<&str> = items
        .iter()
        .filter(|(_, _, item)| item.lines().any(|line| line.starts_with("typedef struct")))
        .map(|(_, name, _)| name.as_str())
        .collect();
    tags.sort_unstable();
    let mut forward = String::from("/* The structures, since those of one section are pointed to in others. */\n");
    let mut line = String::new();
    for tag in tags {
        let one = format!("struct {tag};");
        if line.len() + one.len() >= 118 {
            writeln!(forward, "{}", line.trim_end()).unwrap();
            line.clear();
        }
        line.push_str(&one);
        line.push(' ');
    }
    writeln!(forward, "{}\n", line.trim_end()).unwrap();

    let (front, guard) = made.split_at(made.find("#ifndef LXD_IMAGE_H").unwrap());
    let guard = &guard[..begin - front.len()];
    let before = format!("\n{open}\n{forward}");
    // The index stands at the end of the first comment.
    let front = front.trim_end().strip_suffix("*/").expect("a comment first").trim_end();
    let index_lines = headings.len() + 4;
    let first = front.lines().count() + index_lines + 1 + guard.lines().count() + before.lines().count();
    let mut out = format!("{front}\n *\n * Sections, with their lines:\n *\n");
    for (title, line) in headings {
        writeln!(out, " *   {:>4}  {title}", first + line).unwrap();
    }
    write!(out, " */\n\n{guard}{before}{body}{}", &made[end..]).unwrap();
    out
}
