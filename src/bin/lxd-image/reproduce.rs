//! `reproduce`: packs a tree again as a statement records it, and says whether the bytes are those of the image.
//!
//! `pack --statement KEY` and `publish --statement KEY` record the options in a statement of provenance; the types for
//! that are here, too. A reproduction needs the same tree and the same version of the codecs: the statement names the
//! version of lxd-image that packed.

use std::path::{Path, PathBuf};

use clap::Args;
use lxd_image::format::{
    Difference, Image, ImageForm, ImageSource, PackOptions, Rootfs, VerifyOptions, Written, for_each_difference, pack,
};
use lxd_image::trust::{Envelope, PROVENANCE, PublicKey, SecretKey, Statement, pack_provenance, packed_options};
use lxd_image::{Error, ErrorKind, Escaped, Fingerprint, Hasher, Monitor, Result};

use crate::failure::Failure;
use crate::options::Session;
use crate::statement::{bundle_path, read_bundle, read_key};
use crate::store::TypeArgument;

/// What makes a statement of provenance.
#[derive(Args, Default)]
pub(crate) struct ProvenanceArguments {
    /// State how the image was packed, signed with this secret key (of minisign or in PEM)
    #[arg(long, value_name = "KEY")]
    statement: Option<PathBuf>,
    /// A file whose first line opens the key
    #[arg(long, value_name = "FILE", requires = "statement")]
    passphrase_file: Option<PathBuf>,
    /// Who packed, as a URI (default: a name made of the key's)
    #[arg(long, value_name = "URI", requires = "statement")]
    builder: Option<String>,
}

impl ProvenanceArguments {
    /// Reads the key, before anything is packed; `None` if no statement is wanted.
    pub(crate) fn signer(&self) -> Result<Option<ProvenanceSigner>> {
        let Some(path) = &self.statement else { return Ok(None) };
        let key = read_key(path, self.passphrase_file.as_deref())?;
        let builder = self.builder.clone().unwrap_or_else(|| format!("urn:x-lxd-image:key:{}", key.public_key().id()));
        Ok(Some(ProvenanceSigner { key, builder }))
    }
}

/// A key and the name of who packs.
pub(crate) struct ProvenanceSigner {
    key: SecretKey,
    builder: String,
}

impl ProvenanceSigner {
    /// A statement about an image. Without `files` it is one file, which the fingerprint is of.
    pub(crate) fn sign(
        &self,
        recorded: &serde_json::Value,
        fingerprint: &Fingerprint,
        files: &[(String, Fingerprint)],
    ) -> Result<Envelope> {
        let metadata = recorded["metadata"].as_str().unwrap_or_default();
        let materials = [("metadata.yaml".to_owned(), Fingerprint::of(metadata.as_bytes()))];
        let predicate = pack_provenance(&self.builder, recorded, &materials);
        let mut statement = Statement::new(PROVENANCE, predicate).image(fingerprint);
        if files.is_empty() {
            statement = statement.file("image", fingerprint);
        }
        for (name, digest) in files {
            statement = statement.file(name, digest);
        }
        Envelope::sign(&statement, &[&self.key])
    }

    /// A statement of one's own that says the same as another one about how an image was packed.
    fn sign_again(&self, statement: &Statement) -> Result<Envelope> {
        let recorded = packed_options(statement)?;
        let metadata = recorded["metadata"].as_str().unwrap_or_default();
        let materials = [("metadata.yaml".to_owned(), Fingerprint::of(metadata.as_bytes()))];
        let predicate = pack_provenance(&self.builder, recorded, &materials);
        Envelope::sign(&statement.clone().with_predicate(predicate), &[&self.key])
    }

    /// Writes the statement about a packed image beside its file.
    pub(crate) fn write_beside(&self, out: &Path, options: &PackOptions, written: &Written) -> Result<()> {
        let mut files = Vec::new();
        for file in &written.files {
            let fail =
                |error| Error::new(ErrorKind::Io, "the image can't be read again").with_source(error).in_file(file);
            let mut hasher = Hasher::new();
            hasher.read_all(std::fs::File::open(file).map_err(fail)?).map_err(|error| error.in_file(file))?;
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            files.push((name, hasher.finish()));
        }
        let envelope = self.sign(&options.recorded(Some(out)), &written.fingerprint, &files)?;
        let path = bundle_path(out);
        let fail = |error: std::io::Error| {
            let kind = if error.kind() == std::io::ErrorKind::AlreadyExists {
                ErrorKind::AlreadyExists
            } else {
                ErrorKind::Io
            };
            Error::new(kind, "the statement can't be written").with_source(error).in_file(&path)
        };
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).open(&path).map_err(fail)?;
        write_line(&mut file, &envelope).map_err(fail)
    }
}

/// Writes a statement as a line of a file, and syncs it.
fn write_line(file: &mut std::fs::File, envelope: &Envelope) -> std::io::Result<()> {
    std::io::Write::write_all(file, Envelope::bundle(std::slice::from_ref(envelope)).as_bytes())?;
    file.sync_all()
}

/// Adds a statement to the file beside an image.
fn append(path: &Path, envelope: &Envelope) -> Result<()> {
    let fail = |error| Error::new(ErrorKind::Io, "the statement can't be written").with_source(error).in_file(path);
    let mut file = std::fs::OpenOptions::new().append(true).open(path).map_err(fail)?;
    write_line(&mut file, envelope).map_err(fail)
}

/// Pack a tree again as it was recorded, and compare
///
/// Exit status: 0 when the bytes are equal, 3 when they differ.
#[derive(Args)]
pub(crate) struct Arguments {
    /// An image of the store, or a file with its statements beside it
    image: PathBuf,
    /// The tree or disk that it was packed from
    tree: PathBuf,
    /// The directory of the templates, if it was packed with some
    #[arg(long, value_name = "DIR")]
    templates: Option<PathBuf>,
    /// Only trust what is signed by this public key (repeatable)
    #[arg(long, value_name = "FILE")]
    key: Vec<PathBuf>,
    #[command(flatten)]
    provenance: ProvenanceArguments,
    #[command(flatten)]
    which: TypeArgument,
}

/// Packs again and compares; prints the fingerprint if the bytes are equal.
///
/// # Errors
/// `NotFound` without a statement of provenance; `Mismatch` (status 3) with the first difference; those of packing.
pub(crate) fn run(arguments: &Arguments, session: &Session) -> Result<(), Failure> {
    let signer = arguments.provenance.signer()?;
    let is_file = arguments.image.exists();
    let mut keep = None;
    let (statements, image) = if is_file {
        let rootfs = root_file(&arguments.image);
        let image = session.open(&arguments.image, rootfs.as_deref(), arguments.which)?;
        (read_bundle(&bundle_path(&arguments.image), session)?, image)
    } else {
        let store = if signer.is_some() { session.store()? } else { session.existing_store_to_read()? };
        let name = arguments.image.to_str().unwrap_or_default();
        let found = crate::store::resolve(&store, name, arguments.which)?;
        let image = store.open_image(&found.fingerprint)?.open(&session.limits)?;
        let statements = store.statements(&found.fingerprint)?;
        keep = Some(store);
        (statements, image)
    };
    let (monitor, shown) = session.monitor();
    let mut verifying = VerifyOptions::new();
    if let Some(threads) = session.threads {
        verifying = verifying.threads(threads);
    }
    let fingerprint = image.verify(&verifying, &monitor)?.fingerprint;
    let keys = arguments.key.iter().map(PublicKey::read).collect::<Result<Vec<_>>>()?;
    let statement = statements
        .iter()
        .filter(|envelope| keys.is_empty() || !envelope.signers(&keys).is_empty())
        .map(Envelope::statement)
        .find(|statement| statement.is_about(&fingerprint) && packed_options(statement).is_ok())
        .ok_or_else(|| {
            let what = format!("no statement tells how the image {} was packed", fingerprint.short());
            Error::new(ErrorKind::NotFound, what)
                .with_hint("`pack --statement KEY` and `publish --statement KEY` record it")
        })?;
    let recorded = packed_options(statement)?;
    let (mut options, has_templates) = PackOptions::from_recorded(recorded, &session.limits)?;
    match (&arguments.templates, has_templates) {
        (Some(templates), true) => options = options.templates(templates),
        (None, false) => {}
        (None, true) => {
            return Err(Error::new(ErrorKind::InvalidInput, "the image was packed with templates")
                .with_hint("name their directory with `--templates`")
                .into());
        }
        (Some(_), false) => {
            return Err(Error::new(ErrorKind::InvalidInput, "the image was packed without templates").into());
        }
    }
    options = options.limits(session.limits.clone());
    if let Some(threads) = session.threads {
        options = options.threads(threads);
    }
    let scratch = Scratch::new()?;
    let out = scratch.0.join("image.tar");
    // The name says nothing about the codec that was recorded, which is no omission here.
    let out = out.with_extension("");
    let written = pack(&Rootfs::open(&arguments.tree)?, &out, &options, &monitor)?;
    drop(shown);
    if written.fingerprint == fingerprint {
        session.note(|| "equal: the tree gives the same bytes".to_owned());
        if let Some(signer) = signer {
            // The subjects are those of the statement that was reproduced.
            let envelope = signer.sign_again(statement)?;
            match keep {
                Some(store) => store.attach_statements(&fingerprint, vec![envelope])?,
                None => append(&bundle_path(&arguments.image), &envelope)?,
            }
        }
        return session.print_fingerprint(&fingerprint);
    }
    let difference = first_difference(&image, &out, &verifying, session, &monitor)?;
    let error = Error::new(
        ErrorKind::Mismatch,
        format!("the tree gives another image, {}: {difference}", written.fingerprint.short()),
    );
    Err(Failure::mismatch(error))
}

/// The rootfs file that `pack --split` writes beside the metadata.
fn root_file(image: &Path) -> Option<PathBuf> {
    let mut name = image.as_os_str().to_owned();
    name.push(".root");
    Some(PathBuf::from(name)).filter(|path| path.exists())
}

/// The first difference in content, or that only the encoding differs.
fn first_difference(
    image: &Image,
    again: &Path,
    options: &VerifyOptions,
    session: &Session,
    monitor: &Monitor,
) -> Result<String> {
    let second = Image::open_with(ImageSource::open(again, root_file(again).as_deref())?, &session.limits)?;
    let mut first = None;
    // Ends the comparison at the first difference.
    let stop = || Error::new(ErrorKind::Cancelled, "enough is known");
    let compared = for_each_difference(image, &second, options, monitor, &mut |difference| {
        let path = Escaped(difference.path()).to_string();
        first = Some(match &difference {
            Difference::OnlyInFirst(_) => format!("`{path}` is in the image only"),
            Difference::OnlyInSecond(_) => format!("`{path}` is in the tree only"),
            Difference::Changed(_, facts) => {
                let facts = facts.iter().map(|(name, image, tree)| {
                    format!(
                        "{name} {} in the image, {} in the tree",
                        Escaped(image.as_bytes()),
                        Escaped(tree.as_bytes())
                    )
                });
                format!("`{path}` differs: {}", facts.collect::<Vec<_>>().join("; "))
            }
            _ => format!("`{path}` differs"),
        });
        Err(stop())
    });
    match (first, compared) {
        (Some(first), _) => Ok(first),
        (None, Err(error)) => Err(error),
        (None, Ok(())) => {
            let forms = if image.form() == ImageForm::Split { "files" } else { "file" };
            Ok(format!("the content is the same, and the {forms} encoded differently (another version of a codec?)"))
        }
    }
}

/// A directory that goes in the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        let base = std::env::temp_dir();
        for number in 0..1000_u32 {
            let path = base.join(format!("lxd-image-reproduce-{}-{number}", std::process::id()));
            match std::fs::DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Self(path)),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => {
                    return Err(Error::new(ErrorKind::Io, "no directory can be made for the comparison")
                        .with_source(error)
                        .in_file(path));
                }
            }
        }
        Err(Error::new(ErrorKind::AlreadyExists, "no name is free for a directory").in_file(base))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
