//! `verify`: reads and decodes the whole image, compares the fingerprint, and reports every broken rule.
//!
//! Nothing is written. `--fingerprint` accepts a prefix of at least 12 digits; a mismatch has the exit status 3.
//! Broken rules are findings: all are printed, each with its kind, and the exit status is 1. The fingerprint on
//! standard output means that the image is valid.

use std::path::{Path, PathBuf};

use clap::Args;
use lxd_image::format::{VerifyOptions, VerifyReport};
use lxd_image::trust::Candidate;
use lxd_image::{Error, ErrorKind, Escaped, FingerprintPrefix, Metadata, Properties, Result};
use serde_json::{Map, Value, json};

use crate::failure::Failure;
use crate::options::Session;
use crate::output::{self, Format, Records};
use crate::statement::{bundle_path, read_bundle};
use crate::store::TypeArgument;

/// Check an image against its fingerprint and against the rules
#[derive(Args)]
pub(crate) struct Arguments {
    /// The image, or one file of a split image, or the name of an image of the store or a remote; `-` is standard input
    image: PathBuf,
    /// The other file of a split image
    rootfs: Option<PathBuf>,
    #[command(flatten)]
    which: TypeArgument,
    /// The fingerprint that the image must have, or at least its first 12 digits
    #[arg(long, value_name = "HEX")]
    fingerprint: Option<String>,
    /// Also ask this policy about the image of the store, and say which rule decides and why
    #[arg(long, value_name = "FILE.toml", conflicts_with = "rootfs")]
    policy: Option<PathBuf>,
}

/// The shortest prefix that `--fingerprint` accepts: an image that matches fewer digits is too easy to construct.
/// Shorter prefixes are fine to name an image, but not to verify it.
const MIN_DIGITS: usize = 12;

/// Verifies the image and prints its fingerprint, or a report in the selected format.
///
/// # Errors
/// Status 3 for another fingerprint; status 1 for broken rules, all of which are printed; errors of damaged archives.
pub(crate) fn run(arguments: &Arguments, session: &Session) -> Result<(), Failure> {
    let expected = arguments.fingerprint.as_deref().map(prefix).transpose()?;
    let image = session.open(&arguments.image, arguments.rootfs.as_deref(), arguments.which)?;
    let (monitor, shown) = session.monitor();
    let mut options = VerifyOptions::new();
    if let Some(threads) = session.threads {
        options = options.threads(threads);
    }
    let verified = image.verify(&options, &monitor);
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
    if let Some(path) = &arguments.policy {
        explain_policy(path, arguments, &verified, session)?;
    }
    if session.format != Format::Table {
        output::show(Records::One(facts(&verified)), &session.format)?;
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

/// Asks a policy about the image, and says on standard error which rule decides and who vouches.
///
/// # Errors
/// `Untrusted`, with the rule and what is missing; those of reading the policy.
fn explain_policy(path: &Path, arguments: &Arguments, verified: &VerifyReport, session: &Session) -> Result<()> {
    let fingerprint = &verified.fingerprint;
    *session.policy.borrow_mut() = Some(path.to_path_buf());
    let Some(policy) = session.policy()? else { return Ok(()) };
    let stored = if arguments.image.exists() { None } else { Some(session.existing_store_to_read()?) };
    let admission = match stored {
        Some(store) => store.ask_policy(&policy, fingerprint)?,
        None => {
            let bundle = bundle_path(&arguments.image);
            let statements = if bundle.exists() { read_bundle(&bundle, session)? } else { Vec::new() };
            // What an import without further options would do.
            policy.admit(&Candidate {
                fingerprint,
                server: None,
                aliases: &[],
                properties: verified.metadata.as_ref().map_or(&Properties::new(), Metadata::properties),
                list: None,
                statements: &statements,
            })?
        }
    };
    let rule =
        admission.rule.map_or_else(|| "no rule is for it".to_owned(), |rule| format!("the rule `{rule}` admits it"));
    session.note(|| format!("policy: {rule}"));
    for vouched in admission.vouched {
        session.note(|| format!("policy: {vouched}"));
    }
    Ok(())
}

/// The report as one record. The keys are stable: scripts read them from JSON.
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

/// Parses the expected fingerprint and refuses prefixes that are too short to be evidence.
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
