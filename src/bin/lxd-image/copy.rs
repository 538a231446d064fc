//! `copy`: images from a remote into the store, from the store to a server, or from one to the other.

use clap::Args;
use lxd_image::remote::{CopyOptions, Remote, UploadOptions, copy};
use lxd_image::store::{Alias, Store, StoredImage};
use lxd_image::{Architecture, Error, ErrorKind, Monitor, Result};

use crate::failure::Failure;
use crate::options::Session;
use crate::place::Place;
use crate::store::Which;

/// Copy images between remotes and the store
#[derive(Args)]
pub(crate) struct Arguments {
    /// What to copy: an alias, a fingerprint or the beginning of one, behind the remote's name and a colon
    #[arg(value_name = "[REMOTE:]REF")]
    reference: String,
    /// Where to (default: the local store)
    #[arg(value_name = "[REMOTE:]", default_value = "local:")]
    target: String,
    /// A name for the copy (repeatable)
    #[arg(long, value_name = "NAME")]
    alias: Vec<String>,
    /// Give it the aliases that it has there, too
    #[arg(long)]
    copy_aliases: bool,
    /// Keep it up to date from there
    #[arg(long)]
    auto_update: bool,
    /// Let everyone read it
    #[arg(long)]
    public: bool,
    #[command(flatten)]
    which: Which,
    /// Copy the image of each of these architectures, instead of this machine's; aliases get `/ARCH` behind them
    #[arg(long, value_name = "ARCH", num_args = 1..)]
    all: Vec<Architecture>,
    /// Move an alias that is taken; an image that loses its last alias by that is deleted, unless its property `keep` is `true`
    #[arg(long)]
    reuse: bool,
    /// The secret of a private image, as its owner gave it
    #[arg(long)]
    secret: Option<String>,
}

impl Arguments {
    fn options(&self, monitor: &Monitor) -> CopyOptions {
        CopyOptions::new()
            .copy_aliases(self.copy_aliases)
            .auto_update(self.auto_update)
            .public(self.public)
            .reuse_aliases(self.reuse)
            .replace_images(self.reuse)
            .image_type(self.which.image_type())
            .monitor(monitor.clone())
    }

    fn upload(&self, monitor: &Monitor) -> Result<UploadOptions> {
        let mut options = UploadOptions::new()
            .copy_aliases(self.copy_aliases)
            .reuse_aliases(self.reuse)
            .replace_images(self.reuse)
            .public(self.public)
            .monitor(monitor.clone());
        for name in &self.alias {
            options = options.alias(Alias::new(&**name)?);
        }
        Ok(options)
    }

    fn source(&self, name: &str, session: &Session) -> Result<Box<dyn Remote>> {
        match &self.secret {
            Some(secret) => Ok(Box::new(session.lxd(name)?.secret(&**secret))),
            None => session.remote(name),
        }
    }

    /// Copies what a reference of a remote names into the store: one image, or one for each architecture.
    fn fetch(&self, remote: &dyn Remote, name: &str, store: &Store, monitor: &Monitor) -> Result<Vec<StoredImage>> {
        if self.all.is_empty() {
            let mut options = self.options(monitor);
            for name in &self.alias {
                options = options.alias(Alias::new(&**name)?);
            }
            return Ok(vec![copy(remote, name, store, &options)?]);
        }
        let mut copied = Vec::new();
        for (index, architecture) in self.all.iter().enumerate() {
            let mut options = self.options(monitor).architectures([*architecture]);
            for name in &self.alias {
                options = options.alias(Alias::new(format!("{name}/{}", architecture.debian_name()))?);
                // The first one is what the name alone means.
                if index == 0 {
                    options = options.alias(Alias::new(&**name)?);
                }
            }
            copied.push(copy(remote, name, store, &options)?);
        }
        Ok(copied)
    }
}

pub(crate) fn run(arguments: &Arguments, session: &Session) -> Result<(), Failure> {
    let (from, to) = (Place::of(&arguments.reference), Place::of(&arguments.target));
    let (target, rest) = match to {
        Place::Local(rest) => (None, rest),
        Place::Remote(name, rest) => (Some(name), rest),
    };
    if !rest.is_empty() {
        let sentence = format!("cannot copy to `{}`", arguments.target);
        return Err(Error::new(ErrorKind::InvalidInput, sentence)
            .with_hint("write the name of a remote and a colon; `--alias` names the copy")
            .into());
    }
    if target.is_some() && (arguments.auto_update || !arguments.all.is_empty()) {
        let sentence = "an image that is sent to a server can't be kept up to date by it, nor several be sent at once";
        return Err(Error::new(ErrorKind::InvalidInput, sentence).with_hint("copy to the local store first").into());
    }
    if matches!(from, Place::Local(_)) && (!arguments.all.is_empty() || arguments.secret.is_some()) {
        let sentence = "`--all` and `--secret` choose among the images of a remote, and this is one of the store";
        return Err(Error::new(ErrorKind::InvalidInput, sentence).into());
    }
    let (monitor, shown) = session.monitor();
    let done = match (from, target) {
        (Place::Local(_), None) => Err(Error::new(ErrorKind::InvalidInput, "this copies from the store to itself")
            .with_hint("`lxd-image alias create` gives an image another name")),
        (Place::Remote(name, reference), None) => arguments.source(name, session).and_then(|remote| {
            let store = session.store()?;
            arguments.fetch(&*remote, reference, &store, &monitor)
        }),
        (Place::Local(reference), Some(target)) => session.lxd(target).and_then(|server| {
            let store = session.store_to_read()?;
            let image = arguments.which.find(&store, reference)?;
            server.upload(&store.open_image(&image.fingerprint)?, &arguments.upload(&monitor)?)?;
            Ok(vec![image])
        }),
        (Place::Remote(name, reference), Some(target)) => arguments.source(name, session).and_then(|remote| {
            let server = session.lxd(target)?;
            let store = session.store()?;
            // By way of the store, which keeps it for a while as one that was used.
            // Its aliases and who may read it are for the server that it is sent to.
            let cached = arguments.options(&monitor).copy_aliases(false).reuse_aliases(false).public(false);
            let image = store.get_or_fetch(&*remote, reference, &cached)?;
            let mut options = arguments.upload(&monitor)?.copy_aliases(false);
            if arguments.copy_aliases {
                let there = remote.resolve(&arguments.options(&monitor).wanted(reference), &monitor)?;
                for alias in there.aliases.iter().filter(|alias| !arguments.alias.contains(&alias.name)) {
                    options = options.alias(Alias::new(&*alias.name)?.described(&*alias.description));
                }
            }
            server.upload(&store.open_image(&image.fingerprint)?, &options)?;
            Ok(vec![image])
        }),
    };
    drop(shown);
    for image in done? {
        session.print_fingerprint(&image.fingerprint)?;
    }
    Ok(())
}
