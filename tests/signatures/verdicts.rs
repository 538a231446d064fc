//! Judges signed files for `run.py`, many in one process. Each line of standard input is a question in fields that tabs
//! separate, and each gets one line: `accept DETAIL` or `refuse KIND SENTENCE`.
//!
//! | question | asks |
//! |---|---|
//! | `message KEYS FILE` | whether the message is accepted; the detail is the sha256 of the text that is handed out |
//! | `detached KEYS SIGNATURE FILE` | whether the OpenPGP signature vouches for the file |
//! | `minisign KEYS SIGNATURE FILE` | the same for minisign |
//! | `tree KEYS DIR [RECORD]` | whether the lists of a tree are read; RECORD keeps which were accepted last |
//! | `image KEYS DIR ALIAS` | whether an image of the tree is copied to a store |
//! | `statement KEYS FILE FINGERPRINT` | whether one of the keys says something about this image |
#![allow(clippy::unwrap_used, reason = "a question that can't be asked ends the run")]

use std::fs;
use std::io::{BufRead, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use lxd_image::remote::{ClientOptions, CopyOptions, Remote, Simplestreams, copy};
use lxd_image::store::Store;
use lxd_image::trust::{Envelope, ListKeys, PublicKey};
use lxd_image::{Fingerprint, Limits, Monitor, Result};

fn main() {
    let mut out = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let line = line.unwrap();
        let words: Vec<&str> = line.split('\t').collect();
        let verdict = match judge(&words) {
            Ok(detail) => format!("accept {detail}"),
            Err(error) => format!("refuse {:?} {error}", error.kind()).replace('\n', " "),
        };
        writeln!(out, "{verdict}").unwrap();
        out.flush().unwrap();
    }
}

fn judge(words: &[&str]) -> Result<String> {
    let limits = Limits::default();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().cast_signed();
    let read = |path: &str| fs::read(path).unwrap();
    let keys = |path: &str| ListKeys::parse(&read(path), &limits);
    match *words {
        ["message", ring, message] => {
            let (text, _) = keys(ring)?.verify_cleartext(&read(message), now, &limits)?;
            Ok(Fingerprint::of(&text).to_string())
        }
        ["detached", ring, signature, document] => {
            keys(ring)?.verify_openpgp(&read(document), &read(signature), now, &limits).map(|good| good.key)
        }
        ["minisign", ring, signature, document] => {
            keys(ring)?.verify_minisign(&read(document), &read(signature), now, &limits).map(|good| good.key)
        }
        ["tree", ring, directory] => {
            tree(directory)?.keys(keys(ring)?).list(&Monitor::none()).map(|all| listed(all.len()))
        }
        ["tree", ring, directory, record] => {
            let remote = tree(directory)?.keys(keys(ring)?).record_file(record);
            remote.list(&Monitor::none()).map(|all| listed(all.len()))
        }
        ["image", ring, directory, alias] => {
            let remote = tree(directory)?.keys(keys(ring)?);
            // The images of the trees are for amd64, whatever this machine is.
            let options = CopyOptions::new().architectures(["amd64".parse()?]);
            copy(&remote, alias, &Store::in_memory()?, &options, &Monitor::none())
                .map(|image| image.fingerprint.to_string())
        }
        ["statement", key, file, fingerprint] => {
            let statements = Envelope::parse_bundle(&read(file), &limits)?;
            let keys = [PublicKey::parse(&read(key))?];
            for envelope in &statements {
                envelope.verify(&keys)?;
                envelope.statement().check_subject(&fingerprint.parse()?)?;
            }
            Ok(statements.len().to_string())
        }
        _ => panic!("no question: {words:?}"),
    }
}

fn tree(directory: &str) -> Result<Simplestreams> {
    Simplestreams::new(ClientOptions::new(), &format!("file://{directory}").parse()?)
}

fn listed(count: usize) -> String {
    format!("{count} images")
}
