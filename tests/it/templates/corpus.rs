//! Every case of the corpus has the answer of the real pongo2, in both dialects.
//! `LXD_IMAGE_TEMPLATE_CORPUS` names a directory with more cases of the same format.

use std::path::{Path, PathBuf};

use lxd_image::templates::Dialect;
use serde_json::Value as Json;

use super::cases::Answer;

fn json_files(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut files = Vec::new();
    for path in entries.map(|entry| entry.expect("an entry").path()) {
        if path.is_dir() {
            files.extend(json_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "json") {
            files.push(path);
        }
    }
    files.sort();
    files
}

#[test]
fn corpus_cases_give_the_answers_of_pongo2() {
    let mut files = json_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/templates"));
    if let Some(dir) = std::env::var_os("LXD_IMAGE_TEMPLATE_CORPUS") {
        files.extend(json_files(Path::new(&dir)));
    }
    let (mut passed, mut failed) = (0, 0);
    for file in files {
        let text = std::fs::read_to_string(&file).expect("a readable file");
        let json: Json = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        for case in json["cases"].as_array().expect("cases") {
            let context = match &case["context"] {
                Json::String(name) => &json["contexts"][name],
                context => context,
            };
            let template = case["template"].as_str().expect("a template");
            let mut wrong = Vec::new();
            for (dialect, key) in [(Dialect::Lxd, "expect_v4"), (Dialect::Incus, "expect_v6")] {
                let expected = Answer::expected(&case[key]);
                let ours = Answer::ours(template.as_bytes(), dialect, context);
                if !ours.fits(&expected) {
                    wrong.push(format!("  {key}: expected {}\n  ours: {}", expected.shown(), ours.shown()));
                }
            }
            if wrong.is_empty() {
                passed += 1;
            } else {
                failed += 1;
                let start: String = template.chars().take(300).collect();
                println!("{}: {start}\n{}", case["name"], wrong.join("\n"));
            }
        }
    }
    println!("{passed} passed, {failed} failed");
    assert_eq!(failed, 0, "the cases above differ from pongo2");
}
