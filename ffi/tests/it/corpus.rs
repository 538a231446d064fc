//! The corpus of pongo2's answers, rendered through C: every case, in both dialects.

use std::fmt::Write;
use std::fs;
use std::process::Command;

use serde_json::Value as Json;

use crate::compile::{compile, run, runner};
use crate::{project, scratch};

/// Bytes as the format of behaviour cases quotes them.
fn quoted(bytes: &[u8]) -> String {
    let mut out = String::from("\"");
    for &byte in bytes {
        match byte {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\t' => out.push_str("\\t"),
            b'\r' => out.push_str("\\r"),
            b' '..=b'~' => out.push(char::from(byte)),
            other => write!(out, "\\x{other:02x}").unwrap(),
        }
    }
    out.push('"');
    out
}

/// The line that a case must give; `None` where an answer is as good as a refusal (`tests/it/templates/cases.rs`).
fn expected(json: &Json) -> Option<String> {
    if let Some(text) = json["output"].as_str() {
        return Some(format!("= {}", quoted(text.as_bytes())));
    }
    if let Some(text) = json["output_b64"].as_str() {
        return Some(format!("= {}", quoted(&base64(text))));
    }
    if json["limit"] == true {
        return None;
    }
    Some(format!("! Template {}", if json["stage"] == "parse" { "parse" } else { "exec" }))
}

fn base64(text: &str) -> Vec<u8> {
    const DIGITS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut out, mut bits, mut count) = (Vec::new(), 0_u32, 0);
    for digit in text.chars().filter_map(|c| DIGITS.find(c)) {
        bits = bits << 6 | u32::try_from(digit).unwrap();
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count & 0xff) as u8);
        }
    }
    out
}

#[test]
fn template_corpus_gives_through_c_what_pongo2_gives() {
    let dir = scratch("corpus");
    let program = dir.join("cases");
    compile(&runner(), &program);
    let (mut source, mut wanted) = (String::from("case the corpus\n"), Vec::new());
    for entry in fs::read_dir(project().join("tests/data/templates")).unwrap() {
        let corpus: Json = serde_json::from_slice(&fs::read(entry.unwrap().path()).unwrap()).unwrap();
        for case in corpus["cases"].as_array().unwrap() {
            let mut context = match &case["context"] {
                Json::String(name) => corpus["contexts"][name].clone(),
                context => context.clone(),
            };
            let raw = context.as_object_mut().unwrap().remove("$raw") == Some(Json::Bool(true));
            let template = quoted(case["template"].as_str().unwrap().as_bytes());
            let context = quoted(context.to_string().as_bytes());
            for (dialect, key) in [("lxd", "expect_v4"), ("incus", "expect_v6")] {
                let how = if raw { "raw" } else { "plain" };
                writeln!(source, "variables {dialect} {how} {template} {context}").unwrap();
                wanted.push((case["name"].to_string(), key, expected(&case[key])));
            }
        }
    }
    assert!(wanted.len() > 2000, "only {} cases were found", wanted.len());
    let file = dir.join("corpus.cases");
    fs::write(&file, source).unwrap();
    let output = run(Command::new(&program).arg(&file).arg(dir.join("case")));
    let done = String::from_utf8(output.stdout).unwrap();
    let answers: Vec<&str> = done.lines().filter(|line| line.starts_with("= ") || line.starts_with("! ")).collect();
    assert_eq!(answers.len(), wanted.len());
    let wrong: Vec<String> = answers
        .iter()
        .zip(&wanted)
        .filter(|(answer, (_, _, expected))| match expected {
            Some(expected) => *answer != expected,
            None => !answer.starts_with("= ") && !answer.starts_with("! LimitExceeded"),
        })
        .map(|(answer, (name, key, expected))| format!("{name} {key}: expected {expected:?}, got {answer}"))
        .collect();
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}
