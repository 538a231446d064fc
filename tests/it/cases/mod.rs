//! One list of behaviour, `tests/cases`, for every language: here Rust does the steps and says what comes of them.
//! The format is in `tests/cases/README.md`; `LXD_IMAGE_WRITE_CASES=1` puts the results into the files.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod images;
mod oci;
mod prepare;
mod serving;
mod stores;
mod trees;
mod trust;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use lxd_image::store::Store;
use lxd_image::{Error, ErrorKind, Limits, Monitor, Omission, Result};

/// Where a case's steps happen.
pub(crate) struct Place {
    dir: PathBuf,
    limits: Limits,
    store: Option<Store>,
    serving: serving::Serving,
    tree: Option<lxd_image::simplestreams::Tree>,
    trust: trust::Trust,
    oci: oci::Oci,
    clock: Arc<AtomicI64>,
    /// Watches every long call, and knows what they left out.
    monitor: Monitor,
}

impl Place {
    fn new(dir: PathBuf) -> Self {
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        Self {
            dir,
            limits: Limits::default(),
            store: None,
            serving: serving::Serving::default(),
            tree: None,
            trust: trust::Trust::default(),
            oci: oci::Oci::default(),
            clock: Arc::default(),
            monitor: Monitor::none(),
        }
    }

    fn path(&self, word: &[u8]) -> PathBuf {
        self.dir.join(text(word))
    }
}

/// The result of a step: its lines.
type Lines = Result<Vec<String>>;

pub(crate) fn text(word: &[u8]) -> &str {
    std::str::from_utf8(word).unwrap()
}

/// The words of a step.
fn words(line: &str) -> Vec<Vec<u8>> {
    let mut words = Vec::new();
    let mut bytes = line.bytes().peekable();
    while let Some(&first) = bytes.peek() {
        let mut word = Vec::new();
        if first == b'"' {
            bytes.next();
            loop {
                match bytes.next().unwrap_or_else(|| panic!("no closing quote in {line}")) {
                    b'"' => break,
                    b'\\' => word.push(match bytes.next().unwrap() {
                        b'n' => b'\n',
                        b't' => b'\t',
                        b'r' => b'\r',
                        b'x' => {
                            let digits = [bytes.next().unwrap(), bytes.next().unwrap()];
                            u8::from_str_radix(text(&digits), 16).unwrap()
                        }
                        other => other,
                    }),
                    other => word.push(other),
                }
            }
        } else {
            while let Some(byte) = bytes.next_if(|byte| *byte != b' ') {
                word.push(byte);
            }
        }
        words.push(word);
        assert!(matches!(bytes.next(), None | Some(b' ')), "words are separated by one blank: {line}");
    }
    words
}

/// Bytes as the format quotes them.
pub(crate) fn quoted(bytes: impl AsRef<[u8]>) -> String {
    let mut out = String::from("\"");
    for &byte in bytes.as_ref() {
        match byte {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\t' => out.push_str("\\t"),
            b'\r' => out.push_str("\\r"),
            b' '..=b'~' => out.push(char::from(byte)),
            other => out.push_str(&format!("\\x{other:02x}")),
        }
    }
    out.push('"');
    out
}

/// An error as the format shows it.
fn shown(error: &Error) -> String {
    let more = match error.kind() {
        ErrorKind::Template => error.template_place().map(|place| place.stage.to_string()),
        ErrorKind::LimitExceeded => error.limit_name().map(str::to_owned),
        _ => None,
    };
    more.map_or_else(|| error.kind().to_string(), |more| format!("{} {more}", error.kind()))
}

/// What the steps before left out; the next time it is what came after.
fn omissions(place: &mut Place) -> Vec<String> {
    let omissions = std::mem::take(&mut place.monitor).omissions();
    let line = |one: &Omission| format!("{} {} {}", one.what.name(), quoted(&one.path), quoted(one.what.to_string()));
    omissions.iter().map(line).collect()
}

fn step(place: &mut Place, line: &str) -> String {
    let words = words(line);
    let (name, rest) = words.split_first().unwrap();
    let rest: Vec<&[u8]> = rest.iter().map(Vec::as_slice).collect();
    if text(name) == "omissions" {
        return omissions(place).iter().map(|line| format!("= {line}\n")).collect();
    }
    let (lines, error) = match prepare::step(place, text(name), &rest)
        .or_else(|| images::step(place, text(name), &rest))
        .or_else(|| stores::step(place, text(name), &rest))
        .or_else(|| trees::step(place, text(name), &rest))
        .or_else(|| trust::step(place, text(name), &rest))
        .or_else(|| oci::step(place, text(name), &rest))
        .or_else(|| serving::step(place, text(name), &rest))
        .unwrap_or_else(|| panic!("there is no step {line}"))
    {
        Ok((lines, error)) => (lines, error),
        Err(error) => (Vec::new(), Some(error)),
    };
    let lines = lines.iter().map(|line| format!("= {line}\n"));
    lines.chain(error.map(|error| format!("! {}\n", shown(&error)))).collect()
}

/// A step's lines, with the error behind them where there was one.
type Outcome = Result<(Vec<String>, Option<Error>)>;

fn run(source: &str, dir: &Path) -> String {
    let mut done = String::new();
    let mut place = None;
    for line in source.lines().filter(|line| !line.starts_with("= ") && !line.starts_with("! ")) {
        done.push_str(line);
        done.push('\n');
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if line.starts_with("case ") {
            place = Some(Place::new(dir.join("case")));
            continue;
        }
        done.push_str(&step(place.as_mut().expect("a case before its steps"), line));
    }
    let _ = fs::remove_dir_all(dir);
    done
}

#[test]
fn every_case_gives_the_results_that_all_languages_give() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut files: Vec<_> = fs::read_dir(&cases).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "cases"));
    files.sort();
    assert!(files.len() >= 4, "only {} files of cases were found", files.len());
    for file in files {
        let source = fs::read_to_string(&file).unwrap();
        let name = file.file_stem().unwrap().to_str().unwrap();
        let dir = std::env::temp_dir().join(format!("lxd-image-cases-{}-{name}", std::process::id()));
        let done = run(&source, &dir);
        if std::env::var_os("LXD_IMAGE_WRITE_CASES").is_some() {
            fs::write(&file, &done).unwrap();
            continue;
        }
        for (number, (done, source)) in done.lines().zip(source.lines()).enumerate() {
            assert_eq!(done, source, "{}: line {}", file.display(), number + 1);
        }
        assert_eq!(done, source, "{}", file.display());
    }
}
