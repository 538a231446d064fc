//! `copy`: copies images from a remote to the store, from the store to a server, or between two remotes.
//!
//! There are four ways for the bytes:
//!
//! - remote to store: [`copy`](lxd_image::remote::copy), once for each architecture of `--all`;
//! - store to server: an upload, in which the server computes the fingerprint again;
//! - store to registry: a push, in which the registry checks each digest ([`registry`]);
//! - remote to server or registry: through the local store, where the image stays as a cached one. The two servers never talk to
//!   each other, so it does not matter whether they can reach or trust each other.
//!
//! Options that one of these ways cannot honour (`--auto-update` and `--all` for a server, `--all` and `--secret` for a
//! source that is the local store) are refused before the first request.

use clap::Args;
use lxd_image::remote::{CopyOptions, OciRegistry, Remote, UploadOptions, copy};
use lxd_image::store::{Alias, Store, StoredImage};
use lxd_image::{Architecture, Error, ErrorKind, Monitor, Result};

use crate::failure::Failure;
use crate::location::Location;
use crate::options::Session;
use crate::policy::PolicyArgument;
use crate::registry;
use crate::store::TypeArgument;

/// Copy images between remotes and the store
#[derive(Args)]
pub(crate) struct Arguments {
    /// The image to copy: an alias, a fingerprint or a prefix of one; `REMOTE:` before it means an image of that remote
    #[arg(value_name = "[REMOTE:]REF")]
    reference: String,
    /// The target (default: the local store); of a registry with repository and tag, like `NAME:team/debian:12`
    #[arg(value_name = "[REMOTE:[REPOSITORY:TAG]]", default_value = "local:")]
    target: String,
    /// An alias for the copy, in a registry a tag (repeatable)
    #[arg(long, value_name = "NAME")]
    alias: Vec<String>,
    /// Also copy the aliases of the source
    #[arg(long)]
    copy_aliases: bool,
    /// Update the copy when the source has a newer image
    #[arg(long)]
    auto_update: bool,
    /// Make the image public
    #[arg(long)]
    public: bool,
    #[command(flatten)]
    which: TypeArgument,
    /// Copy the image of each of these architectures, instead of this machine's; `/ARCH` is appended to each alias
    #[arg(long, value_name = "ARCH", num_args = 1..)]
    all: Vec<Architecture>,
    /// Move an alias that exists already; an image that thereby loses its last alias is deleted, unless its property
    /// `keep` is `true`
    #[arg(long)]
    reuse: bool,
    /// Make an image for system containers of a registry's container image: it boots its own init
    #[arg(long)]
    system: bool,
    /// The secret that opens a private image
    #[arg(long)]
    secret: Option<String>,
    #[command(flatten)]
    policy: PolicyArgument,
}

impl Arguments {
    /// Options for copying into the store.
    fn options(&self) -> CopyOptions {
        CopyOptions::new()
            .copy_aliases(self.copy_aliases)
            .auto_update(self.auto_update)
            .public(self.public)
            .reuse_aliases(self.reuse)
            .replace_images(self.reuse)
            .image_type(self.which.image_type())
            .system(self.system)
    }

    /// Options for uploading to a server.
    fn upload(&self) -> Result<UploadOptions> {
        let mut options = UploadOptions::new()
            .copy_aliases(self.copy_aliases)
            .reuse_aliases(self.reuse)
            .replace_images(self.reuse)
            .public(self.public);
        for name in &self.alias {
            options = options.alias(Alias::new(&**name)?);
        }
        Ok(options)
    }

    /// Connects to the remote that images come from, with `--secret` for a private image of an LXD or Incus server.
    fn source(&self, name: &str, session: &Session) -> Result<Box<dyn Remote>> {
        match &self.secret {
            Some(secret) => Ok(Box::new(session.lxd(name)?.secret(&**secret))),
            None => session.remote(name),
        }
    }

    /// Pushes an image of the store to a registry; one of a remote by way of the store, where it stays as a cached one.
    fn push(
        &self,
        registry: &OciRegistry,
        from: Location<'_>,
        (target, reference): (&str, &str),
        session: &Session,
        monitor: &Monitor,
    ) -> Result<StoredImage> {
        let (store, image, mount_from) = match from {
            Location::Local(name) => {
                let store = session.store_to_read()?;
                let image = self.which.find(&store, name)?;
                (store, image, None)
            }
            Location::Remote(name, from) => {
                let (remote, store) = (self.source(name, session)?, session.store()?);
                let cached = self.options().copy_aliases(false).reuse_aliases(false).public(false);
                let image = store.get_or_fetch(&*remote, from, &cached, monitor)?;
                let mount_from = (name == target).then(|| registry::repository_of(from).to_owned());
                (store, image, mount_from)
            }
        };
        let push = registry::Push {
            reference,
            tags: &self.alias,
            copy_aliases: self.copy_aliases,
            reuse: self.reuse,
            mount_from,
        };
        registry::push(registry, &store, &image, &push, session, monitor)?;
        Ok(image)
    }

    /// Copies what a reference names into the store: one image, or one for each architecture of `--all`.
    ///
    /// With several architectures each alias gets the architecture appended (`debian/12/arm64`); the image of the first
    /// architecture also gets the alias itself. Images that were copied before an error stay.
    fn fetch(&self, remote: &dyn Remote, name: &str, store: &Store, monitor: &Monitor) -> Result<Vec<StoredImage>> {
        if self.all.is_empty() {
            let mut options = self.options();
            for name in &self.alias {
                options = options.alias(Alias::new(&**name)?);
            }
            return Ok(vec![copy(remote, name, store, &options, monitor)?]);
        }
        let mut copied = Vec::new();
        for (index, architecture) in self.all.iter().enumerate() {
            let mut options = self.options().architectures([*architecture]);
            for name in &self.alias {
                options = options.alias(Alias::new(format!("{name}/{}", architecture.debian_name()))?);
                // The alias without an architecture means the image of the first one.
                if index == 0 {
                    options = options.alias(Alias::new(&**name)?);
                }
            }
            copied.push(copy(remote, name, store, &options, monitor)?);
        }
        Ok(copied)
    }
}

/// Copies the image and prints the fingerprint of each copy.
///
/// # Errors
/// `InvalidInput` for combinations of source, target and options that have no meaning; those of resolving the
/// reference, downloading and uploading.
pub(crate) fn run(arguments: &Arguments, session: &Session) -> Result<(), Failure> {
    arguments.policy.apply(session);
    let (from, to) = (Location::of(&arguments.reference), Location::of(&arguments.target));
    let (target, rest) = match to {
        Location::Local(rest) => (None, rest),
        Location::Remote(name, rest) => (Some(name), rest),
    };
    let registry = match target {
        Some(name) => session.registry(name)?,
        None => None,
    };
    if registry.is_some() && arguments.public {
        let sentence = "`--public` has no effect on a registry, which decides by itself who may read";
        return Err(Error::new(ErrorKind::InvalidInput, sentence).into());
    }
    if registry.is_none() && !rest.is_empty() {
        let sentence = format!("cannot copy to `{}`", arguments.target);
        return Err(Error::new(ErrorKind::InvalidInput, sentence)
            .with_hint("write the name of a remote and a colon; `--alias` names the copy")
            .into());
    }
    if target.is_some() && (arguments.auto_update || !arguments.all.is_empty()) {
        let sentence = "`--auto-update` and `--all` are not available for uploads to a server";
        return Err(Error::new(ErrorKind::InvalidInput, sentence).with_hint("copy to the local store first").into());
    }
    if matches!(from, Location::Local(_)) && (!arguments.all.is_empty() || arguments.secret.is_some()) {
        let sentence = "`--all` and `--secret` need a remote as the source, not the local store";
        return Err(Error::new(ErrorKind::InvalidInput, sentence).into());
    }
    if arguments.system {
        let is_registry = match from {
            Location::Remote(name, _) => session.registry(name)?.is_some(),
            Location::Local(_) => false,
        };
        if !is_registry {
            let sentence = "`--system` is for container images of a registry";
            return Err(Error::new(ErrorKind::InvalidInput, sentence).into());
        }
    }
    let (monitor, shown) = session.monitor();
    let done = if let (Some(registry), Some(target)) = (&registry, target) {
        arguments.push(registry, from, (target, rest), session, &monitor).map(|image| vec![image])
    } else {
        match (from, target) {
            (Location::Local(_), None) => {
                Err(Error::new(ErrorKind::InvalidInput, "source and target are both the local store")
                    .with_hint("`lxd-image alias create` gives an image another name"))
            }
            (Location::Remote(name, reference), None) => arguments.source(name, session).and_then(|remote| {
                let store = session.store()?;
                arguments.fetch(&*remote, reference, &store, &monitor)
            }),
            (Location::Local(reference), Some(target)) => session.lxd(target).and_then(|server| {
                let store = session.store_to_read()?;
                let image = arguments.which.find(&store, reference)?;
                let options = arguments.upload()?.statements(store.statements(&image.fingerprint)?);
                server.upload(&store.open_image(&image.fingerprint)?, &options, &monitor)?;
                Ok(vec![image])
            }),
            (Location::Remote(name, reference), Some(target)) => arguments.source(name, session).and_then(|remote| {
                let server = session.lxd(target)?;
                let store = session.store()?;
                // Through the local store, which keeps the image as a cached one.
                // Aliases and visibility are for the target server, not for the local copy.
                let cached = arguments.options().copy_aliases(false).reuse_aliases(false).public(false);
                let image = store.get_or_fetch(&*remote, reference, &cached, &monitor)?;
                let mut options = arguments.upload()?.copy_aliases(false);
                options = options.statements(store.statements(&image.fingerprint)?);
                if arguments.copy_aliases {
                    let there = remote.resolve(&arguments.options().wanted(reference), &monitor)?;
                    for alias in there.aliases.iter().filter(|alias| !arguments.alias.contains(&alias.name)) {
                        options = options.alias(Alias::new(&*alias.name)?.described(&*alias.description));
                    }
                }
                server.upload(&store.open_image(&image.fingerprint)?, &options, &monitor)?;
                Ok(vec![image])
            }),
        }
    };
    drop(shown);
    for image in done? {
        session.print_fingerprint(&image.fingerprint)?;
    }
    Ok(())
}
