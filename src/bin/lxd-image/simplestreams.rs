//! `simplestreams`: maintains a static tree that any web server turns into an image server.
//!
//! Each change takes the tree's lock, so only one writer works at a time; another one gets `Busy`. Files are written
//! before the list that names them, and removed an hour after they left the list, which is how long clients cache it.
//! So a client never sees a list whose files are missing, not even while the tree is changed or after a crash.
//!
//! `verify` reads all files and compares them with the list, and the signatures with `--key`; its exit status is 3 if
//! there is a finding. With `--sign` every change leaves a signed tree. A tree that is signed is not changed without.
//! `generate-metadata` writes the metadata file of a split image for a rootfs from another tool, as
//! `incus-simplestreams generate-metadata` does.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use lxd_image::format::{Codec, ImageSource, PackOptions, pack_metadata};
use lxd_image::simplestreams::{AddOptions, PruneOptions, TreeVerifyOptions};
use lxd_image::trust::Envelope;
use lxd_image::{Error, ErrorKind, Escaped, Fingerprint, FingerprintPrefix, Metadata, Result};
use serde_json::{Map, Value, json};

use crate::failure::Failure;
use crate::options::{Session, input};
use crate::output::{self, Format, Records};
use crate::remote_keys;
use crate::signing::Signing;
use crate::statement::{bundle_path, read_bundle};
use crate::store::{TypeArgument, counted, pair, size, time};

/// Maintain a static tree for any web server
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Add(Add),
    #[command(visible_alias = "ls")]
    List(List),
    #[command(visible_alias = "rm")]
    Remove(Remove),
    Verify(Verify),
    Prune(Prune),
    Build(crate::simplestreams_build::Build),
    GenerateMetadata(GenerateMetadata),
}

/// Add an image; the tree is created if it is missing
#[derive(Args)]
struct Add {
    /// The tree
    directory: PathBuf,
    /// The image, or one file of a split image; `-` is standard input
    image: PathBuf,
    /// The other file of a split image
    rootfs: Option<PathBuf>,
    /// Another alias for its product (repeatable)
    #[arg(long, value_name = "NAME")]
    alias: Vec<String>,
    /// Do not add the alias os/release/variant
    #[arg(long)]
    no_default_alias: bool,
    /// A property, which overrides the image's own: os, release, variant, … (repeatable)
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    property: Vec<(String, String)>,
    /// The name of its product (default: os:release:variant:architecture)
    #[arg(long, value_name = "NAME")]
    product_name: Option<String>,
    /// The fingerprint that the image must have
    #[arg(long, value_name = "HEX")]
    fingerprint: Option<String>,
    /// Make deltas from the N versions before: clients that have one of them download less
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    delta_from: u16,
    #[command(flatten)]
    signing: Signing,
}

/// List the images of a tree
#[derive(Args)]
struct List {
    /// The tree
    directory: PathBuf,
}

/// Take images out of the list; their files stay until `prune`
#[derive(Args)]
struct Remove {
    /// The tree
    directory: PathBuf,
    /// Fingerprints or prefixes of fingerprints
    #[arg(required = true)]
    fingerprint: Vec<String>,
    #[command(flatten)]
    signing: Signing,
}

/// Read all files and compare them with the list
#[derive(Args)]
struct Verify {
    /// The tree
    directory: PathBuf,
    /// A file with public keys (OpenPGP or minisign): one of them must have signed index and list (repeatable)
    #[arg(long, value_name = "FILE")]
    key: Vec<PathBuf>,
}

/// Remove files that left the list an hour ago or longer
#[derive(Args)]
struct Prune {
    /// The tree
    directory: PathBuf,
    /// How many versions of each product stay in the list (default: all)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    keep: Option<u32>,
    /// How many versions older than the newest stay in the list, as `incus-simplestreams prune` counts
    #[arg(short, long, value_name = "N", conflicts_with = "keep")]
    retention: Option<u32>,
    /// Show what would be removed, and remove nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    signing: Signing,
}

/// Write the metadata file of a split image, for an existing rootfs or disk
#[derive(Args)]
struct GenerateMetadata {
    /// The file to write, such as incus.tar.xz
    file: PathBuf,
    /// The operating system's name
    #[arg(long)]
    os: String,
    /// Its release
    #[arg(long)]
    release: String,
    /// TypeArgument of several of one release
    #[arg(long, default_value = "default")]
    variant: String,
    /// The architecture
    #[arg(long)]
    architecture: String,
    /// The description
    #[arg(long)]
    description: Option<String>,
    /// The creation date: a date, a time or seconds since 1970 (default: SOURCE_DATE_EPOCH, else now)
    #[arg(long, value_name = "TIME", allow_negative_numbers = true, value_parser = crate::store::moment)]
    creation_date: Option<i64>,
    /// Another property (repeatable)
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    property: Vec<(String, String)>,
}

/// Runs the selected verb.
pub(crate) fn run(arguments: &Arguments, session: &Session) -> Result<(), Failure> {
    match &arguments.verb {
        Verb::Add(verb) => Ok(add(verb, session)?),
        Verb::List(verb) => Ok(list(verb, session)?),
        Verb::Remove(verb) => Ok(remove(verb, session)?),
        Verb::Verify(verb) => verify(verb, session),
        Verb::Prune(verb) => Ok(prune(verb, session)?),
        Verb::Build(verb) => crate::simplestreams_build::run(verb, session),
        Verb::GenerateMetadata(verb) => Ok(generate_metadata(verb, session)?),
    }
}

/// Adds an image and prints its fingerprint.
///
/// A directory that is created for a failed addition is removed again.
///
/// # Errors
/// `Busy` while another process changes the tree; `Mismatch` for another fingerprint; those of reading the image.
fn add(arguments: &Add, session: &Session) -> Result<()> {
    let (monitor, shown) = session.monitor();
    let mut options =
        AddOptions::new().default_alias(!arguments.no_default_alias).delta_from(usize::from(arguments.delta_from));
    for name in &arguments.alias {
        options = options.alias(&**name)?;
    }
    for (key, value) in &arguments.property {
        options = options.property(key, value)?;
    }
    if let Some(key) = &arguments.product_name {
        options = options.product_name(&**key)?;
    }
    if let Some(digits) = &arguments.fingerprint {
        options = options.expected_fingerprint(digits.parse()?);
    }
    let bundle = bundle_path(&arguments.image);
    let mut statements = Vec::new();
    if arguments.image != Path::new("-") && bundle.symlink_metadata().is_ok() {
        statements = read_bundle(&bundle, session)?;
        options = options.statements(Envelope::bundle(&statements));
    }
    if let Some(first) = statements.first() {
        // Another image under the name of this one must not get its statements.
        let opened = session.open(&arguments.image, arguments.rootfs.as_deref(), TypeArgument::default())?;
        let fingerprint = opened.fingerprint(&session.monitor().0)?;
        statements.iter().try_for_each(|envelope| envelope.statement().check_subject(&fingerprint))?;
        session.explain(|| format!("with the statement `{}`", Escaped(first.statement().predicate_type().as_bytes())));
    }
    let source = match &arguments.rootfs {
        None => ImageSource::unified(input(&arguments.image)?),
        Some(rootfs) => ImageSource::split(input(&arguments.image)?, input(rootfs)?),
    };
    let added = session
        .change_tree(&arguments.directory, &arguments.signing, |tree| tree.lock()?.add(source, &options, &monitor));
    drop(shown);
    let added = added?;
    for made in &added.deltas {
        session.note(|| format!("delta from version {}: {}", Escaped(made.base_version.as_bytes()), size(made.size)));
    }
    output::value("fingerprint", &added.fingerprint.to_string(), &session.format)
}

/// Lists the images of the tree.
///
/// Entries that this program cannot use are reported as omissions and hide no others. JSON and YAML also have the
/// description and the paths of the files, which an nginx configuration for direct import needs.
fn list(arguments: &List, session: &Session) -> Result<()> {
    let listing = session.tree_options().open(&arguments.directory)?.listing()?;
    let whole = matches!(session.format, Format::Json | Format::Yaml | Format::Jinja(_));
    let rows = listing
        .images()
        .iter()
        .map(|image| {
            let fingerprint = if whole { image.fingerprint.to_string() } else { image.fingerprint.short() };
            let bytes = if whole { json!(image.size()) } else { json!(size(image.size())) };
            let mut row = Map::new();
            let mut cell = |key: &str, value: Value| drop(row.insert(key.to_owned(), value));
            cell("product", json!(image.product));
            cell("version", json!(image.version));
            cell("fingerprint", json!(fingerprint));
            cell("architecture", json!(image.architecture.to_string()));
            cell("type", json!(image.image_type.name()));
            cell("size", bytes);
            cell("created", json!(time(Some(image.created_at), "")));
            cell("aliases", json!(listing.names(image)));
            if whole {
                cell("description", json!(image.properties.get("description")));
                cell(
                    "files",
                    json!(
                        std::iter::once(&image.first).chain(&image.rootfs).map(|file| &file.path).collect::<Vec<_>>()
                    ),
                );
            }
            row
        })
        .collect();
    let (monitor, _) = session.monitor();
    monitor.omit_all(listing.omissions());
    let columns = ["product", "version", "fingerprint", "architecture", "type", "size", "aliases"];
    output::show(Records::Many(&columns, rows), &session.format)
}

/// Removes images from the list, all or none. The lock is taken before the list is read, so that the list cannot
/// change in between.
///
/// # Errors
/// `NotFound` and `Ambiguous` for a prefix.
fn remove(arguments: &Remove, session: &Session) -> Result<()> {
    let tree = arguments.signing.apply(session.tree_options(), session)?.open(&arguments.directory)?;
    let mut writer = tree.lock()?;
    let signatures = tree.signature_files();
    let listing = tree.listing()?;
    let mut gone: Vec<Fingerprint> = Vec::new();
    for text in &arguments.fingerprint {
        let prefix: FingerprintPrefix = text.parse()?;
        let found: Vec<_> = listing.images().iter().filter(|image| prefix.matches(&image.fingerprint)).collect();
        match *found {
            [image] if gone.contains(&image.fingerprint) => {}
            [image] => gone.push(image.fingerprint),
            [] => return Err(Error::new(ErrorKind::NotFound, format!("the tree lists no image {prefix}"))),
            _ => {
                let sentence = format!("`{prefix}` is the beginning of {} images", found.len());
                return Err(Error::new(ErrorKind::Ambiguous, sentence).with_hint("give more digits"));
            }
        }
    }
    writer.remove(&gone)?;
    Signing::report(&signatures, &tree, session);
    Ok(())
}

/// Verifies all files and prints one line per finding.
///
/// # Errors
/// Status 3 if there is a finding.
fn verify(arguments: &Verify, session: &Session) -> Result<(), Failure> {
    let tree = session.tree_options().open(&arguments.directory)?;
    let (monitor, shown) = session.monitor();
    let keys = remote_keys::read(&arguments.key, &session.limits)?;
    let report = tree.verify(&TreeVerifyOptions::new().keys(keys), &monitor);
    drop(shown);
    let report = report?;
    let count = report.findings.len();
    for finding in &report.findings {
        output::line(&format!("{}: {finding}", finding.kind()))?;
    }
    if count == 0 {
        session.note(|| {
            let (images, files) = (counted(report.images as u64, "image"), counted(report.files as u64, "file"));
            let mut what = format!("{images} in {files}, {}", size(report.bytes));
            let mut signers: Vec<&str> = report.signatures.iter().map(|signature| &*signature.key).collect();
            signers.sort_unstable();
            signers.dedup();
            if !signers.is_empty() {
                what.push_str(&format!(", signed by {}", signers.join(", ")));
            }
            match report.omissions.total() {
                0 => format!("{what}: all right"),
                1 => format!("{what}: nothing is wrong with them, but one thing that the list names is not used"),
                count => {
                    format!("{what}: nothing is wrong with them, but {count} things that the list names are not used")
                }
            }
        });
        return Ok(());
    }
    if report.findings.iter().all(|finding| finding.kind() == ErrorKind::Untrusted) {
        let what = format!("{count} signatures of the tree do not hold");
        let hint = "sign it as it is: lxd-image simplestreams prune DIR --sign KEYFILE";
        return Err(Failure::mismatch(Error::new(ErrorKind::Untrusted, what).with_hint(hint)));
    }
    let what = format!("{count} of what the list says of its {} files is not so", report.files);
    Err(Failure::mismatch(Error::new(ErrorKind::Mismatch, what).with_hint("remove those images, and add them again")))
}

/// Removes old versions from the list, and files that left it an hour ago or longer; prints what was removed.
///
/// Files that left the list more recently stay, because clients may still have the old list.
fn prune(arguments: &Prune, session: &Session) -> Result<()> {
    let mut options = PruneOptions::new().dry_run(arguments.dry_run);
    if let Some(keep) = arguments.keep.or(arguments.retention.map(|older| older.saturating_add(1))) {
        options = options.keep(usize::try_from(keep).unwrap_or(usize::MAX));
    }
    let tree = arguments.signing.apply(session.tree_options(), session)?.open(&arguments.directory)?;
    let mut writer = tree.lock()?;
    let signatures = tree.signature_files();
    let done = writer.prune(&options, &session.monitor().0)?;
    if arguments.signing.is_given() && !arguments.dry_run {
        // Also where nothing left the list: a new key, or a change by another tool.
        writer.sign()?;
    }
    Signing::report(&signatures, &tree, session);
    for line in done.versions.iter().chain(&done.files) {
        output::line(&Escaped(line.as_bytes()).to_string())?;
    }
    let verb = if arguments.dry_run { "would be freed" } else { "freed" };
    session.note(|| {
        format!(
            "{}, {} {verb}; {} wait for their hour",
            counted(done.files.len() as u64, "file"),
            size(done.bytes),
            done.waiting
        )
    });
    Ok(())
}

/// Writes the metadata file of a split image and prints its digest.
///
/// The digest is not the fingerprint of the image, which covers the rootfs too. Without `--description` one is built
/// from OS, release and architecture, as image servers do.
fn generate_metadata(arguments: &GenerateMetadata, session: &Session) -> Result<()> {
    let now = || jiff::Timestamp::now().as_second();
    let created = arguments.creation_date.or(crate::pack::source_date_epoch()?).unwrap_or_else(now);
    let architecture: lxd_image::Architecture = arguments.architecture.parse()?;
    let mut metadata = Metadata::new(architecture.kernel_name(), created)?;
    let description = arguments
        .description
        .clone()
        .unwrap_or_else(|| format!("{} {} {}", arguments.os, arguments.release, architecture.debian_name()));
    let properties = metadata.properties_mut();
    for (key, value) in [
        ("architecture", architecture.debian_name()),
        ("description", &*description),
        ("os", &*arguments.os),
        ("release", &*arguments.release),
        ("variant", &*arguments.variant),
    ] {
        properties.set(key, value)?;
    }
    for (key, value) in &arguments.property {
        properties.set(key, value)?;
    }
    let mut options = PackOptions::new(metadata);
    if Codec::from_path(&arguments.file).is_none() {
        options = options.compression("xz".parse()?);
    }
    let written = pack_metadata(Path::new(&arguments.file), &options, &session.monitor().0)?;
    output::value("fingerprint", &written.fingerprint.to_string(), &session.format)
}
