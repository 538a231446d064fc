//! `import`: imports files, a directory with an image's parts, or the image behind a URL, to the store or a server.
//!
//! The arguments after the options are read as `lxc` reads them (see [`Positionals`]): files, then a remote with a
//! colon, then `KEY=VALUE` properties. The input decides what happens:
//!
//! - one or two files: imported as they are, byte for byte, so the fingerprint stays;
//! - a directory with `metadata.yaml` and `rootfs`: packed first, as `publish` does;
//! - an OCI layout, a directory or a tar: a container image in it is converted, see [`oci_layout`];
//! - a URL: a direct import. The server answers with headers that name the hash and the URL of the image.
//!
//! An image for a server is imported into the local store first, as a cached image, and uploaded from there: the upload
//! then sends verified bytes. Whether the server trusts this client is asked before anything is read.
//!
//! `publish` shares the options and everything after packing ([`NewImageArguments`]).

use std::path::{Path, PathBuf};

use clap::Args;
use lxd_image::format::{ImageForm, ImageSource, RootfsFormat};
use lxd_image::oci::Layout;
use lxd_image::remote::{CopyOptions, UploadOptions, copy};
use lxd_image::store::{Alias, ImportOptions, StoredImage};
use lxd_image::trust::{Envelope, Evidence};
use lxd_image::{Error, ErrorKind, Omitted, Result};

use crate::disk::DiskInput;
use crate::failure::Failure;
use crate::location::Location;
use crate::oci_layout::{self, LayoutArguments};
use crate::options::{Session, input};
use crate::owners::TreeArguments;
use crate::policy::PolicyArgument;
use crate::publish;
use crate::statement::{bundle_path, read_bundle};
use crate::store::{counted, is_url, pair};

/// Import an image into the store, or to a server
#[derive(Args)]
#[command(override_usage = "lxd-image import [OPTIONS] <IMAGE> [ROOTFS] [REMOTE:] [KEY=VALUE]...")]
pub(crate) struct Arguments {
    /// The image (or both files of a split image, in either order; or a directory with metadata.yaml and rootfs; or a
    /// URL that answers with the hash and the place of an image; `-` is standard input), then a server's name and a
    /// colon, and properties
    #[arg(required = true, value_name = "IMAGE")]
    words: Vec<PathBuf>,
    #[command(flatten)]
    about: NewImageArguments,
    #[command(flatten)]
    layout: LayoutArguments,
    /// Allow plain HTTP to other machines
    #[arg(long)]
    allow_http: bool,
    #[command(flatten)]
    policy: PolicyArgument,
}

/// What import and publish say of the new image.
#[derive(Args)]
pub(crate) struct NewImageArguments {
    /// An alias for the image (repeatable)
    #[arg(long, value_name = "NAME")]
    alias: Vec<String>,
    /// Make the image public
    #[arg(long)]
    public: bool,
    /// Update the image when its source has a newer one
    #[arg(long)]
    auto_update: bool,
    /// A property, which overrides the image's own (repeatable)
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    property: Vec<(String, String)>,
    /// The fingerprint that the image must have
    #[arg(long, value_name = "HEX")]
    fingerprint: Option<String>,
    /// Move an alias that exists already; an image that thereby loses its last alias is deleted, unless its property
    /// `keep` is `true`
    #[arg(long)]
    reuse: bool,
}

/// Arguments of `import` and `publish` after the options: files, target, and properties, in any order.
pub(crate) struct Positionals {
    /// The input, in the order of the command line.
    pub(crate) files: Vec<PathBuf>,
    /// The server that the image goes to; the store without one.
    pub(crate) remote: Option<String>,
    /// Properties, in the order of the command line.
    pub(crate) properties: Vec<(String, String)>,
}

impl Positionals {
    /// Sorts the arguments as `lxc` does: `KEY=VALUE` is a property and `NAME:` a remote, unless a file has that name.
    ///
    /// # Errors
    /// `InvalidInput` for a property without a name and for a second target.
    pub(crate) fn of(words: &[PathBuf]) -> Result<Self> {
        let mut read = Self { files: Vec::new(), remote: None, properties: Vec::new() };
        for word in words {
            let there = || std::fs::symlink_metadata(word).is_ok();
            match word.to_str() {
                Some(text) if text.contains('=') && !is_url(word) && !there() => {
                    let (key, value) = text.split_once('=').unwrap_or((text, ""));
                    if key.is_empty() {
                        return Err(Error::new(ErrorKind::InvalidInput, format!("the property `{text}` has no name")));
                    }
                    read.properties.push((key.to_owned(), value.to_owned()));
                }
                Some(text) if text.ends_with(':') && !there() => match Location::of(text) {
                    Location::Remote(name, "") if read.remote.is_none() => read.remote = Some(name.to_owned()),
                    Location::Local("") => {}
                    _ => {
                        let sentence = format!("`{text}` is a second target of the import");
                        return Err(Error::new(ErrorKind::InvalidInput, sentence));
                    }
                },
                _ => read.files.push(word.clone()),
            }
        }
        Ok(read)
    }
}

impl NewImageArguments {
    /// Properties from `--property` and from the arguments, in this order; a later one wins.
    fn properties<'a>(&'a self, words: &'a Positionals) -> impl Iterator<Item = &'a (String, String)> {
        self.property.iter().chain(&words.properties)
    }

    /// Import options for the local store.
    ///
    /// An image on its way to a server is cached locally and gets its aliases and properties there. What is packed
    /// here gets its properties now, because they become part of its own metadata.
    ///
    /// # Errors
    /// `InvalidInput` for `--auto-update` (files have no source) and for malformed aliases, properties and
    /// fingerprints.
    pub(crate) fn options(&self, words: &Positionals, packed: bool) -> Result<ImportOptions> {
        if self.auto_update {
            return Err(Error::new(ErrorKind::InvalidInput, "an image from files has no source to be updated from"));
        }
        let mut options = ImportOptions::new().add_aliases_to_existing(true);
        if let Some(digits) = &self.fingerprint {
            options = options.expected_fingerprint(digits.parse()?);
        }
        for (key, value) in self.properties(words).filter(|_| packed || words.remote.is_none()) {
            options = options.property(key, value)?;
        }
        if words.remote.is_some() {
            return Ok(options.cached(true));
        }
        options = options.public(self.public).reuse_aliases(self.reuse).replace_images(self.reuse);
        for name in &self.alias {
            options = options.alias(Alias::new(&**name)?);
        }
        Ok(options)
    }

    /// Checks that the target server trusts this client, before anything is packed or downloaded.
    pub(crate) fn preflight(&self, words: &Positionals, session: &Session) -> Result<()> {
        let Some(remote) = &words.remote else { return Ok(()) };
        let (monitor, _shown) = session.monitor();
        session.lxd(remote)?.require_trust(&monitor)
    }

    /// Uploads the image if it is for a server, and prints its fingerprint.
    pub(crate) fn finish(&self, image: &StoredImage, words: &Positionals, session: &Session) -> Result<(), Failure> {
        if let Some(remote) = &words.remote {
            let (monitor, shown) = session.monitor();
            let mut options =
                UploadOptions::new().public(self.public).reuse_aliases(self.reuse).replace_images(self.reuse);
            for name in &self.alias {
                options = options.alias(Alias::new(&**name)?);
            }
            for (key, value) in self.properties(words) {
                options = options.property(key, value)?;
            }
            let server = session.lxd(remote)?;
            let store = session.store()?;
            let options = options.statements(store.statements(&image.fingerprint)?);
            let sent = store.open_image(&image.fingerprint).and_then(|image| server.upload(&image, &options, &monitor));
            drop(shown);
            sent?;
        }
        session.print_fingerprint(&image.fingerprint)
    }
}

/// The statements in the file beside an image's file, which `export` and `pack` write there.
fn statements_beside(image: &Path, session: &Session) -> Result<Vec<Envelope>> {
    let bundle = bundle_path(image);
    if image == Path::new("-") || bundle.symlink_metadata().is_err() {
        return Ok(Vec::new());
    }
    let statements = match read_bundle(&bundle, session) {
        // Such files are beside many downloads, in older versions too: they must not keep an image from being imported.
        Err(error) if error.kind() == ErrorKind::Unsupported => {
            let what = Omitted::Skipped { reason: error.message().to_owned().into() };
            session.monitor().0.omit(bundle.as_os_str().as_encoded_bytes(), what);
            return Ok(Vec::new());
        }
        read => read?,
    };
    session.explain(|| format!("{} beside the file", counted(statements.len() as u64, "statement")));
    Ok(statements)
}

/// Imports the image that a URL's headers name (LXD's direct import: `LXD-Image-Hash` and `LXD-Image-URL`).
fn from_url(url: &Path, arguments: &Arguments, words: &Positionals, session: &Session) -> Result<StoredImage> {
    let about = &arguments.about;
    let url = url.to_string_lossy().parse()?;
    let remote = session.settings()?.direct(url, session.client_options().allow_http(arguments.allow_http))?;
    let (monitor, shown) = session.monitor();
    let mut options = CopyOptions::new();
    if let Some(digits) = &about.fingerprint {
        options = options.expected_fingerprint(digits.parse()?);
    }
    let store = session.store()?;
    let imported = if words.remote.is_some() {
        if about.auto_update {
            let sentence = "an uploaded image cannot be updated automatically by the server";
            return Err(Error::new(ErrorKind::InvalidInput, sentence).with_hint("import it into the local store"));
        }
        store.get_or_fetch(&remote, "", &options, &monitor)
    } else {
        options = options
            .public(about.public)
            .auto_update(about.auto_update)
            .reuse_aliases(about.reuse)
            .replace_images(about.reuse);
        for name in &about.alias {
            options = options.alias(Alias::new(&**name)?);
        }
        for (key, value) in about.properties(words) {
            options = options.property(key, value)?;
        }
        copy(&remote, "", &store, &options, &monitor)
    };
    drop(shown);
    imported
}

/// Imports the image and prints its fingerprint.
///
/// The checks run from cheap to expensive: the arguments, then the trust of the target server, then the bytes.
///
/// # Errors
/// `InvalidInput` for arguments that do not form an image; those of importing, packing, downloading and uploading.
pub(crate) fn run(arguments: &Arguments, session: &Session) -> Result<(), Failure> {
    arguments.policy.apply(session);
    let words = Positionals::of(&arguments.words)?;
    let refuse = |sentence: &str| Error::new(ErrorKind::InvalidInput, sentence.to_owned());
    let Some((image, rest)) = words.files.split_first() else {
        return Err(refuse("no image is given")
            .with_hint("name a file, a directory or a URL before the properties")
            .into());
    };
    let is_directory = image.is_dir();
    match rest {
        [] => {}
        [_] if !is_url(image) && !is_directory => {}
        [_] if is_directory => {
            return Err(refuse("a directory is a complete image: a second file is not allowed").into());
        }
        [_] => return Err(refuse("a URL stands for a unified image: a second file is not allowed").into()),
        _ => return Err(refuse("an image is one file or two").into()),
    }
    let is_layout = image != Path::new("-") && !is_url(image) && rest.is_empty() && Layout::is_at(image);
    if !is_layout {
        arguments.layout.refuse()?;
    }
    arguments.about.preflight(&words, session)?;
    if is_url(image) {
        let imported = from_url(image, arguments, &words, session)?;
        return arguments.about.finish(&imported, &words, session);
    }
    if arguments.allow_http {
        return Err(refuse("`--allow-http` is for URLs, and this is a file").into());
    }
    if is_layout {
        let options = arguments.about.options(&words, false)?;
        let imported = oci_layout::import(image, &arguments.layout, &options, session)?;
        return arguments.about.finish(&imported, &words, session);
    }
    let options = arguments.about.options(&words, is_directory)?;
    if is_directory {
        let (tree, disk) = (TreeArguments::default(), DiskInput::default());
        let source = publish::Source {
            path: image,
            metadata: None,
            form: ImageForm::Unified,
            rootfs_format: RootfsFormat::Tar,
            tree: &tree,
            disk: &disk,
        };
        let imported = publish::directory(&source, &options, None, None, session)?;
        return arguments.about.finish(&imported, &words, session);
    }
    let source = match rest.first() {
        None => ImageSource::unified(input(image)?),
        Some(rootfs) => ImageSource::split(input(image)?, input(rootfs)?),
    };
    let store = session.store()?;
    let options = options.evidence(Evidence::new().statements(statements_beside(image, session)?));
    let (monitor, shown) = session.monitor();
    let imported = store.import(source, &options, &monitor);
    drop(shown);
    arguments.about.finish(&imported?, &words, session)
}
