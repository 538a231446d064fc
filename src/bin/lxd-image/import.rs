//! `import`: files, a directory that holds an image's parts, or what a URL stands for, into the store.

use std::path::{Path, PathBuf};

use clap::Args;
use lxd_image::format::Source;
use lxd_image::remote::{CopyOptions, Direct, copy};
use lxd_image::store::{Alias, ImportOptions};
use lxd_image::{Error, ErrorKind, Result};

use crate::failure::Failure;
use crate::options::{Session, input};
use crate::owners::TreeArguments;
use crate::store::{is_url, local, pair};
use crate::{output, publish};

/// Import an image into the store
#[derive(Args)]
pub(crate) struct Arguments {
    /// The image, one file of a split image, a directory with metadata.yaml and rootfs, or a URL that answers with
    /// the hash and the place of an image; `-` is standard input
    image: PathBuf,
    /// The other file of a split image
    rootfs: Option<PathBuf>,
    /// Where to: the local store
    #[arg(value_name = "REMOTE:", hide = true)]
    target: Option<String>,
    #[command(flatten)]
    about: About,
    /// Speak plain http with other machines than this one
    #[arg(long)]
    allow_http: bool,
}

/// What import and publish say of the new image.
#[derive(Args)]
pub(crate) struct About {
    /// A name for it (repeatable)
    #[arg(long, value_name = "NAME")]
    alias: Vec<String>,
    /// Let everyone read it
    #[arg(long)]
    public: bool,
    /// Keep it up to date from its source
    #[arg(long)]
    auto_update: bool,
    /// A property, which wins over the image's own (repeatable)
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    property: Vec<(String, String)>,
    /// The fingerprint that it must have
    #[arg(long, value_name = "HEX")]
    fingerprint: Option<String>,
    /// Move an alias that is taken
    #[arg(long)]
    reuse: bool,
}

impl About {
    pub(crate) fn options(&self) -> Result<ImportOptions> {
        if self.auto_update {
            return Err(Error::new(ErrorKind::InvalidInput, "an image from files has no source to be updated from"));
        }
        let mut options = ImportOptions::new().public(self.public).reuse_aliases(self.reuse);
        for name in &self.alias {
            options = options.alias(Alias::new(&**name)?);
        }
        for (key, value) in &self.property {
            options = options.property(key, value)?;
        }
        if let Some(digits) = &self.fingerprint {
            options = options.expect(digits.parse()?);
        }
        Ok(options)
    }
}

/// What a URL tells, to whoever asks for its head, is imported.
fn from_url(arguments: &Arguments, rootfs: Option<&Path>, session: &Session) -> Result<()> {
    let about = &arguments.about;
    if rootfs.is_some() {
        return Err(Error::new(ErrorKind::InvalidInput, "what a URL stands for is one file: there can't be another"));
    }
    let url = arguments.image.to_string_lossy().parse()?;
    let remote = Direct::new(session.client_options().allow_http(arguments.allow_http), url)?;
    let (monitor, shown) = session.monitor();
    let mut options = CopyOptions::new()
        .public(about.public)
        .auto_update(about.auto_update)
        .reuse_aliases(about.reuse)
        .monitor(monitor);
    for name in &about.alias {
        options = options.alias(Alias::new(&**name)?);
    }
    for (key, value) in &about.property {
        options = options.property(key, value)?;
    }
    if let Some(digits) = &about.fingerprint {
        options = options.expect(digits.parse()?);
    }
    let imported = copy(&remote, "", &session.store()?, &options);
    drop(shown);
    output::line(&imported?.fingerprint.to_string())
}

pub(crate) fn run(arguments: &Arguments, session: &Session) -> Result<(), Failure> {
    let mut rootfs = arguments.rootfs.as_deref();
    // As with `lxc`, the last word may name where to; `local:` is the only place there is.
    if let Some(last) = rootfs.and_then(Path::to_str).filter(|last| last.ends_with(':') && !Path::new(last).exists()) {
        local(last)?;
        rootfs = None;
    }
    if let Some(target) = &arguments.target {
        local(target)?;
    }
    if is_url(&arguments.image) {
        return Ok(from_url(arguments, rootfs, session)?);
    }
    let options = arguments.about.options()?;
    if arguments.image.is_dir() {
        return publish::directory(&arguments.image, None, &TreeArguments::default(), &options, None, session);
    }
    let source = match rootfs {
        None => Source::unified(input(&arguments.image)?),
        Some(rootfs) => Source::split(input(&arguments.image)?, input(rootfs)?),
    };
    let store = session.store()?;
    let (monitor, shown) = session.monitor();
    let imported = store.import(source, &options.monitor(monitor));
    drop(shown);
    Ok(output::line(&imported?.fingerprint.to_string())?)
}
