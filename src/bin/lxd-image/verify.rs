//! `verify`: reads and decodes everything, compares the fingerprint, names each rule that is broken.

use std::path::PathBuf;

use clap::Args;
use lxd_image::format::{VerifyOptions, VerifyReport};
use lxd_image::{Error, ErrorKind, Escaped, FingerprintPrefix, Result};
use serde_json::{Map, Value, json};

use crate::failure::Failure;
use crate::options::Session;
use crate::output::{self, Facts, Format};
use crate::store::Which;

/// Check an image against its fingerprint and against the rules
#[derive(Args)]
pub(crate) struct Arguments {
    /// The image, or one file of a split image, or what the store or a remote calls it; `-` is standard input
    image: PathBuf,
    /// The other file of a split image
    rootfs: Option<PathBuf>,
    #[command(flatten)]
    which: Which,
    /// The fingerprint that it must have, or at least the first 12 digits of it
    #[arg(long, value_name = "HEX")]
    fingerprint: Option<String>,
}

/// Fewer digits than these are guessed too easily to verify anything.
const MIN_DIGITS: usize = 12;

pub(crate) fn run(arguments: &Arguments, session: &Session) -> Result<(), Failure> {
    let expected = arguments.fingerprint.as_deref().map(prefix).transpose()?;
    let image = session.open(&arguments.image, arguments.rootfs.as_deref(), arguments.which)?;
    let (monitor, shown) = session.monitor();
    let mut options = VerifyOptions::new().monitor(monitor);
    if let Some(threads) = session.threads {
        options = options.threads(threads);
    }
    let verified = image.verify(&options);
    drop(shown);
    let mut verified = verified?;
    if let Some(expected) = expected
        && !expected.matches(&verified.fingerprint)
    {
        let error = Error::new(
            ErrorKind::Mismatch,
            format!("the fingerprint: expected {expected}, found {}", verified.fingerprint),
        );
        return Err(Failure::mismatch(error));
    }
    if session.format != Format::Table {
        output::show(Facts::One(facts(&verified)), &session.format)?;
    }
    if !verified.findings.is_empty() {
        let first = verified.findings.remove(0);
        for finding in &verified.findings {
            eprintln!("error[{}]: {finding}", finding.kind());
        }
        return Err(Failure::finding(first));
    }
    session.explain(|| format!("{} entries, {} bytes in files", verified.counts.entries(), verified.counts.bytes));
    if session.format != Format::Table {
        return Ok(());
    }
    Ok(output::line(&verified.fingerprint.to_string())?)
}

fn facts(verified: &VerifyReport) -> Map<String, Value> {
    let findings: Vec<Value> = verified
        .findings
        .iter()
        .map(|finding| json!({"kind": finding.kind().name(), "message": finding.to_string(), "hint": finding.hint()}))
        .collect();
    let strays: Vec<String> = verified.strays.iter().map(|path| Escaped(path).to_string()).collect();
    let mut facts = Map::new();
    facts.insert("fingerprint".into(), json!(verified.fingerprint));
    facts.insert("valid".into(), json!(verified.findings.is_empty()));
    facts.insert("type".into(), json!(verified.image_type.name()));
    facts.insert("size".into(), json!(verified.size));
    facts.insert("entries".into(), json!(verified.counts.entries()));
    facts.insert("bytes".into(), json!(verified.counts.bytes));
    facts.insert("strays".into(), json!(strays));
    facts.insert("findings".into(), json!(findings));
    facts
}

fn prefix(text: &str) -> Result<FingerprintPrefix> {
    let prefix: FingerprintPrefix = text.parse()?;
    if prefix.as_str().len() < MIN_DIGITS {
        return Err(Error::new(
            ErrorKind::InvalidInput,
            format!("{} digits of a fingerprint verify nothing; give at least {MIN_DIGITS}", prefix.as_str().len()),
        ));
    }
    Ok(prefix)
}
