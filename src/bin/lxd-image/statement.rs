//! `statement`: signed statements about images of the store, in the form of in-toto (who built it, what is in it,
//! who approved it).
//!
//! A statement is kept beside the image, and goes where the image goes: `export` writes it, `import` and `copy` take
//! it along, servers give it out. Keys are those of `minisign`, or Ed25519 in PEM.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use lxd_image::store::{Store, StoredImage};
use lxd_image::trust::{Envelope, PublicKey, SecretKey, VOUCH, read_passphrase};
use lxd_image::{Error, ErrorKind, Escaped, Fingerprint, Result};
use serde_json::{Map, Value, json};

use crate::failure::Failure;
use crate::options::Session;
use crate::output::{self, Format, Records};
use crate::signals;
use crate::store::{TypeArgument, resolve};

/// Sign, attach, list and verify statements about images
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Sign(Sign),
    Attach(Attach),
    List(List),
    Verify(Verify),
}

/// Make a signed statement about an image, and keep it beside the image
#[derive(Args)]
struct Sign {
    /// An alias, a fingerprint or a prefix of one
    image: String,
    #[command(flatten)]
    key: KeyArgument,
    /// What is stated, a JSON object such as an SBOM (default: that the signer vouches for the image)
    #[arg(long, value_name = "FILE", requires = "kind")]
    predicate: Option<PathBuf>,
    /// The type of the predicate, a URI such as https://spdx.dev/Document
    #[arg(long = "type", id = "kind", value_name = "URI", requires = "predicate")]
    kind: Option<String>,
    #[command(flatten)]
    which: TypeArgument,
}

/// Keep a statement from a file beside an image
#[derive(Args)]
struct Attach {
    /// An alias, a fingerprint or a prefix of one
    image: String,
    /// A signed statement (a DSSE envelope), or several, one on each line
    file: PathBuf,
    #[command(flatten)]
    which: TypeArgument,
}

/// List the statements about an image; nothing is verified
#[derive(Args)]
struct List {
    /// An alias, a fingerprint or a prefix of one
    image: String,
    #[command(flatten)]
    which: TypeArgument,
}

/// Verify that a statement about an image is signed by a key
#[derive(Args)]
struct Verify {
    /// An alias, a fingerprint or a prefix of one
    image: String,
    /// A public key (repeatable: any of them will do)
    #[arg(long, value_name = "FILE", required = true)]
    key: Vec<PathBuf>,
    /// Only statements of this type
    #[arg(long = "type", id = "kind", value_name = "URI")]
    kind: Option<String>,
    #[command(flatten)]
    which: TypeArgument,
}

/// The key that signs.
#[derive(Args)]
pub(crate) struct KeyArgument {
    /// The secret key, of minisign or in PEM
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// A file whose first line opens the key
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

impl KeyArgument {
    fn read(&self) -> Result<SecretKey> {
        read_key(&self.key, self.passphrase_file.as_deref())
    }
}

/// Reads a secret key with its passphrase.
pub(crate) fn read_key(key: &Path, passphrase_file: Option<&Path>) -> Result<SecretKey> {
    let passphrase = passphrase_file.map(read_passphrase).transpose()?;
    SecretKey::read(key, passphrase.as_deref())
}

/// The name of the file with the statements about the image in `file`.
pub(crate) fn bundle_path(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(lxd_image::trust::BUNDLE_ENDING);
    PathBuf::from(name)
}

/// Reads a file with statements, up to the limit for all statements of an image.
pub(crate) fn read_bundle(path: &Path, session: &Session) -> Result<Vec<Envelope>> {
    let content = read(path, session.limits.statements)?;
    Envelope::parse_bundle(&content, &session.limits).map_err(|error| error.in_file(path))
}

/// Reads a file whole; one byte over the limit is read too, so that the parser refuses what is larger.
fn read(path: &Path, limit: u64) -> Result<Vec<u8>> {
    signals::read(path, limit.saturating_add(1)).map_err(|error| {
        let kind = if error.kind() == std::io::ErrorKind::NotFound { ErrorKind::NotFound } else { ErrorKind::Io };
        signals::or_cancelled(error, |error| {
            Error::new(kind, "the file can't be read").with_source(error).in_file(path)
        })
    })
}

/// Runs the verb.
///
/// # Errors
/// `Untrusted` if no statement is signed by a key; `Mismatch` for a statement about another image; those of reading
/// keys, files and the store.
pub(crate) fn run(arguments: &Arguments, session: &Session) -> Result<(), Failure> {
    match &arguments.verb {
        Verb::Sign(verb) => sign(verb, session),
        Verb::Attach(verb) => attach(verb, session),
        Verb::List(verb) => list(verb, session),
        Verb::Verify(verb) => verify(verb, session),
    }
}

/// Signs a statement, keeps it, and prints its digest.
fn sign(arguments: &Sign, session: &Session) -> Result<(), Failure> {
    let key = arguments.key.read()?;
    let predicate = match &arguments.predicate {
        // Not empty: the tools of in-toto take an empty one for none.
        None => json!({ "vouched": true }),
        Some(path) => {
            let value: Value = serde_json::from_slice(&read(path, session.limits.statement)?).map_err(|error| {
                Error::new(ErrorKind::Malformed, "the predicate is not JSON").with_source(error).in_file(path)
            })?;
            if !value.is_object() {
                return Err(Error::new(ErrorKind::Malformed, "the predicate is not a JSON object")
                    .in_file(path)
                    .into());
            }
            value
        }
    };
    let store = session.store()?;
    let image = resolve(&store, &arguments.image, arguments.which)?;
    let (monitor, shown) = session.monitor();
    let kind = arguments.kind.as_deref().unwrap_or(VOUCH);
    let signed = store
        .state(&image.fingerprint, kind, predicate, &monitor)
        .and_then(|statement| Envelope::sign(&statement, &[&key]));
    drop(shown);
    let signed = signed?;
    let digest = signed.digest();
    store.attach_statements(&image.fingerprint, vec![signed])?;
    Ok(output::value("statement", &digest, &session.format)?)
}

/// Keeps the statements of a file, and prints the digest of each.
fn attach(arguments: &Attach, session: &Session) -> Result<(), Failure> {
    let statements = read_bundle(&arguments.file, session)?;
    let store = session.store()?;
    let image = resolve(&store, &arguments.image, arguments.which)?;
    let digests: Vec<String> = statements.iter().map(Envelope::digest).collect();
    store
        .attach_statements(&image.fingerprint, statements)
        .map_err(|error| if error.kind() == ErrorKind::Mismatch { error.in_file(&arguments.file) } else { error })?;
    for digest in digests {
        output::value("statement", &digest, &session.format)?;
    }
    Ok(())
}

/// Prints what is stated about an image.
fn list(arguments: &List, session: &Session) -> Result<(), Failure> {
    let (store, image) = find(&arguments.image, arguments.which, session)?;
    let rows = store.statements(&image.fingerprint)?.iter().map(row).collect();
    Ok(output::show(Records::Many(&["statement", "type"], rows), &session.format)?)
}

fn find(reference: &str, which: TypeArgument, session: &Session) -> Result<(Store, StoredImage)> {
    let store = session.existing_store_to_read()?;
    let image = resolve(&store, reference, which)?;
    Ok((store, image))
}

/// A statement as a row of a list.
fn row(envelope: &Envelope) -> Map<String, Value> {
    let kind = Escaped(envelope.statement().predicate_type().as_bytes()).to_string();
    [("statement", envelope.digest()), ("type", kind)]
        .into_iter()
        .map(|(key, text)| (key.to_owned(), text.into()))
        .collect()
}

/// Prints which statements are signed by a key.
fn verify(arguments: &Verify, session: &Session) -> Result<(), Failure> {
    let keys = arguments.key.iter().map(PublicKey::read).collect::<Result<Vec<_>>>()?;
    let (store, image) = find(&arguments.image, arguments.which, session)?;
    let found = signed(&store.statements(&image.fingerprint)?, &image.fingerprint, &keys, arguments.kind.as_deref());
    if found.is_empty() {
        let of = arguments.kind.as_ref().map_or_else(String::new, |kind| format!(" `{kind}`"));
        let what = format!("no statement{of} about the image {} is signed by a given key", image.fingerprint.short());
        return Err(Error::new(ErrorKind::Untrusted, what)
            .with_hint("`lxd-image statement list` names those there are")
            .into());
    }
    if matches!(session.format, Format::Table | Format::Compact) {
        for row in found {
            let text = |key: &str| row.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
            output::line(&format!("{} signed by {}", text("type"), text("key")))?;
        }
        return Ok(());
    }
    Ok(output::show(Records::Many(&["statement", "type", "key"], found), &session.format)?)
}

/// The statements about an image that are signed by one of the keys.
fn signed(
    statements: &[Envelope],
    fingerprint: &Fingerprint,
    keys: &[PublicKey],
    kind: Option<&str>,
) -> Vec<Map<String, Value>> {
    let mut rows = Vec::new();
    for envelope in statements {
        let statement = envelope.statement();
        if !statement.is_about(fingerprint) || kind.is_some_and(|kind| kind != statement.predicate_type()) {
            continue;
        }
        for key in envelope.signers(keys) {
            let mut row = row(envelope);
            row.insert("key".to_owned(), key.to_string().into());
            rows.push(row);
        }
    }
    rows
}
