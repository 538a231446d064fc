//! `copy`: an image of a remote into a store, and `Store::get_or_fetch`: one that is there, or is cached now.

use super::upstream::tells_all;
use super::{Remote, Wanted};
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::{Fingerprint, Prefix};
use crate::format::ImageType;
use crate::metadata::{Architecture, Properties};
use crate::omissions::Omitted;
use crate::progress::Monitor;
use crate::store::{Alias, ImageQuery, ImportOptions, Store, StoredImage, UpdateSource};

/// How often a copy is begun in all, where the file is replaced on the server or the image is deleted here meanwhile.
const MAX_STARTS: u32 = 3;

/// How an image is copied from a remote.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct CopyOptions {
    aliases: Vec<Alias>,
    copy_aliases: bool,
    reuse_aliases: bool,
    replace_images: bool,
    auto_update: bool,
    public: bool,
    properties: Properties,
    expected: Option<Fingerprint>,
    image_type: Option<ImageType>,
    architectures: Vec<Architecture>,
    monitor: Monitor,
}

impl CopyOptions {
    /// A private copy without an alias, of a container's image for this machine, that stays what it is.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives it one more alias.
    #[must_use]
    pub fn alias(mut self, alias: Alias) -> Self {
        self.aliases.push(alias);
        self
    }

    /// Whether it gets the aliases that it has there, too. Those that a store does not take, since
    /// they hold a colon or a control character, are left out and recorded in the monitor.
    #[must_use]
    pub fn copy_aliases(mut self, yes: bool) -> Self {
        self.copy_aliases = yes;
        self
    }

    /// Whether aliases that are taken move to it, instead of being an error.
    #[must_use]
    pub fn reuse_aliases(mut self, yes: bool) -> Self {
        self.reuse_aliases = yes;
        self
    }

    /// Whether an image goes that loses its last alias to it; see [`ImportOptions::replace_images`].
    #[must_use]
    pub fn replace_images(mut self, yes: bool) -> Self {
        self.replace_images = yes;
        self
    }

    /// Whether it is kept up to date from there. It must be named by an alias then.
    #[must_use]
    pub fn auto_update(mut self, yes: bool) -> Self {
        self.auto_update = yes;
        self
    }

    /// Whether clients that have not authenticated may read it.
    #[must_use]
    pub fn public(mut self, yes: bool) -> Self {
        self.public = yes;
        self
    }

    /// Sets a property, which wins over what image and server say.
    ///
    /// # Errors
    /// `InvalidInput` for a NUL in either text.
    pub fn property(mut self, key: impl Into<String>, value: impl Into<String>) -> Result<Self> {
        self.properties.set(key, value)?;
        Ok(self)
    }

    /// The fingerprint that it must have, whatever the server says.
    #[must_use]
    pub fn expect(mut self, fingerprint: Fingerprint) -> Self {
        self.expected = Some(fingerprint);
        self
    }

    /// Whether an alias means a container's or a virtual machine's image.
    #[must_use]
    pub fn image_type(mut self, image_type: ImageType) -> Self {
        self.image_type = Some(image_type);
        self
    }

    /// The architectures that an alias may mean, best first; this machine's if there are none.
    #[must_use]
    pub fn architectures(mut self, architectures: impl IntoIterator<Item = Architecture>) -> Self {
        self.architectures = architectures.into_iter().collect();
        self
    }

    /// Reports progress and listens for cancellation.
    #[must_use]
    pub fn monitor(mut self, monitor: Monitor) -> Self {
        self.monitor = monitor;
        self
    }

    /// Fails where the image that `reference` names is not the expected one.
    fn check_fingerprint(&self, reference: &str, found: &Fingerprint) -> Result<()> {
        match self.expected.filter(|expected| expected != found) {
            Some(expected) => {
                let what = format!("the fingerprint of `{reference}`");
                Err(Error::mismatch(&what, expected.to_string(), found.to_string()))
            }
            None => Ok(()),
        }
    }

    /// A cached image has no aliases: somebody who names it wants it to stay.
    fn refuse_aliases(&self) -> Result<()> {
        let option = match self {
            _ if !self.aliases.is_empty() => "alias",
            _ if self.copy_aliases => "copy_aliases",
            _ if self.reuse_aliases => "reuse_aliases",
            _ => return Ok(()),
        };
        Err(Error::invalid(format!("the option `{option}` has no effect: a cached image gets no aliases"))
            .with_hint("copy the image, so that it stays and has names"))
    }

    /// The image that a reference means with these options.
    #[must_use]
    pub fn wanted(&self, reference: &str) -> Wanted {
        let wanted = Wanted::new(reference).image_type(self.image_type.unwrap_or(ImageType::Container));
        if self.architectures.is_empty() { wanted } else { wanted.architectures(self.architectures.iter().copied()) }
    }

    /// How an image is imported that is named by its fingerprint, with the aliases of these options.
    pub(super) fn importing(&self, found: &StoredImage, source: UpdateSource) -> Result<ImportOptions> {
        let import = self.import(found, source)?;
        Ok(self.all_aliases(found).into_iter().fold(import, ImportOptions::alias))
    }

    fn import(&self, found: &StoredImage, source: UpdateSource) -> Result<ImportOptions> {
        let exact = tells_all(&source.protocol);
        let mut options = ImportOptions::new()
            .exact_source_properties(exact)
            .reuse_aliases(self.reuse_aliases)
            .replace_images(self.replace_images)
            .auto_update(self.auto_update)
            .public(self.public)
            .expect(found.fingerprint)
            .image_type(found.image_type)
            .source(source)
            .source_properties(found.properties.clone())
            .monitor(self.monitor.clone());
        for (key, value) in self.properties.iter() {
            options = options.property(key, value)?;
        }
        if let Some(seconds) = found.expires_at {
            options = options.expires_at(seconds);
        }
        if let Some(name) = &found.file_name {
            options = options.source_file_name(name);
        }
        Ok(options)
    }

    /// The aliases that the copy gets.
    fn all_aliases(&self, found: &StoredImage) -> Vec<Alias> {
        let mut all = self.aliases.clone();
        for alias in found.aliases.iter().filter(|_| self.copy_aliases) {
            match Alias::new(&*alias.name) {
                Ok(taken) if all.iter().any(|there| there.name == taken.name) => {}
                Ok(taken) => all.push(taken.described(&*alias.description)),
                Err(error) => report_alias(&self.monitor, &found.fingerprint, &alias.name, error.message()),
            }
        }
        all
    }
}

/// Copies the image that `reference` names on `remote` into a store.
///
/// An image that is there already gets what the options ask for, and nothing is fetched ([`Store::adopt`]). A cached one becomes
/// one that stays.
///
/// # Errors
/// Those of [`Remote::resolve`] and [`Remote::open`]; those of [`Store::import`], above all
/// `Mismatch` when the bytes are not those of the fingerprint that the server named;
/// `AlreadyExists` for an alias that is taken; `InvalidInput` for an image that is to follow its source and is named by a
/// fingerprint. The store is as it was.
pub fn copy(remote: &dyn Remote, reference: &str, store: &Store, options: &CopyOptions) -> Result<StoredImage> {
    let monitor = &options.monitor;
    let found = remote.resolve(&options.wanted(reference), monitor)?;
    options.check_fingerprint(reference, &found.fingerprint)?;
    let source = source_of(remote, reference, &found);
    if options.auto_update && !source.is_followed() {
        return Err(Error::invalid(format!(
            "`{reference}` always names the same image, so that it can't be kept up to date"
        ))
        .with_hint("name it by an alias"));
    }
    let mut import = options.import(&found, source)?;
    for alias in options.all_aliases(&found) {
        import = import.alias(alias);
    }
    // Where its bytes are here, only what is known of it changes; who deletes it meanwhile has it fetched again.
    let import = import.add_aliases_to_existing(true);
    match store.adopt(&found.fingerprint, &import) {
        Err(error) if error.kind() == ErrorKind::NotFound => fetch(remote, &found, store, &import),
        done => done,
    }
}

/// Says that an image does not get an alias that it has elsewhere.
pub(super) fn report_alias(monitor: &Monitor, image: &Fingerprint, name: &str, reason: &str) {
    let shown: String = name.chars().take(128).collect();
    let what = Omitted::Dropped { part: format!("alias `{shown}`").into(), reason: reason.to_owned().into() };
    monitor.omit(image.to_string(), what);
}

/// Where an image comes from, as it is recorded.
fn source_of(remote: &dyn Remote, reference: &str, found: &StoredImage) -> UpdateSource {
    let mut source = remote.source().image_type(found.image_type);
    // A fingerprint, or its beginning, names the same image for ever.
    let fixed = reference.parse::<Prefix>().is_ok_and(|prefix| prefix.matches(&found.fingerprint));
    if !fixed {
        reference.clone_into(&mut source.alias);
    }
    source
}

/// Brings an image that [`Remote::resolve`] found into a store, as `import` says; begins anew a few times when it is replaced
/// on the server meanwhile. For those to whom [`copy`] decides too much.
///
/// # Errors
/// Those of [`Remote::open`] and of [`Store::import`]. The store is as it was.
pub fn fetch(remote: &dyn Remote, found: &StoredImage, store: &Store, import: &ImportOptions) -> Result<StoredImage> {
    let monitor = &import.monitored();
    // A download tries again by itself; what is left is a file that was replaced meanwhile.
    restarting(monitor, || remote.open(found, monitor).and_then(|source| store.import(source, import)))
}

/// Runs what brings one image, again from its start where the file was replaced on the server meanwhile. The one place where that
/// is done: nothing that is run here restarts by itself.
pub(super) fn restarting<T>(monitor: &Monitor, mut run: impl FnMut() -> Result<T>) -> Result<T> {
    let mut starts = 1;
    loop {
        match run() {
            Err(error) if error.is_to_restart() && starts < MAX_STARTS => {
                monitor.check()?;
                starts += 1;
            }
            done => return done,
        }
    }
}

impl Store {
    /// The image that `reference` names on `remote`: from this store if it is there, else fetched
    /// and cached, to go when it is not used any more ([`prune`](Self::prune)). Marks it as used.
    ///
    /// A fingerprint, or its beginning, of an image that is here needs no server. An alias is asked
    /// for, since it may mean another image by now; when the server can't be reached, what it meant
    /// last is given, if that is here.
    ///
    /// ```no_run
    /// use lxd_image::format::UnpackOptions;
    /// use lxd_image::remote::{ClientOptions, CopyOptions, Simplestreams};
    /// use lxd_image::store::StoreOptions;
    ///
    /// # fn main() -> lxd_image::Result<()> {
    /// let store = StoreOptions::new().open("/var/lib/boxes/images")?;
    /// let server = Simplestreams::new(ClientOptions::new(), &"https://images.example.org".parse()?)?;
    /// // Fetched once; from then on the server only says what the alias means.
    /// let image = store.get_or_fetch(&server, "debian/12", &CopyOptions::new())?;
    /// let opened = store.open_image(&image.fingerprint)?;
    /// opened.open(&Default::default())?.unpack_verified("/srv/c1", &image.fingerprint, &UnpackOptions::new())?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`copy`]; `InvalidInput` for options about aliases, which a cached image does not get.
    pub fn get_or_fetch(&self, remote: &dyn Remote, reference: &str, options: &CopyOptions) -> Result<StoredImage> {
        options.refuse_aliases()?;
        if let Some(here) = self.named_by_fingerprint(reference)? {
            options.check_fingerprint(reference, &here)?;
            return self.mark_used(&here);
        }
        let wanted = options.wanted(reference);
        let found = match remote.resolve(&wanted, &options.monitor) {
            Ok(found) => found,
            Err(error) if error.is_transient() => {
                return match self.last_known(remote, &wanted)? {
                    Some(here) => {
                        options.check_fingerprint(reference, &here)?;
                        self.mark_used(&here)
                    }
                    None => Err(error),
                };
            }
            Err(error) => return Err(error),
        };
        options.check_fingerprint(reference, &found.fingerprint)?;
        let source = source_of(remote, reference, &found);
        let follow = options.auto_update && source.is_followed();
        if options.auto_update && !follow {
            let reason = format!("`{reference}` always names the same image").into();
            let what = Omitted::NotHonoured { option: "`auto_update`".into(), reason };
            options.monitor.omit(found.fingerprint.to_string(), what);
        }
        let import = options.import(&found, source)?.cached(true).auto_update(follow);
        // Somebody else may cache it or delete it between two looks.
        for _ in 0..3 {
            match self.mark_used(&found.fingerprint) {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                done => return done,
            }
            match fetch(remote, &found, self, &import) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Ok(_) => {}
                Err(error) => return Err(error),
            }
        }
        self.mark_used(&found.fingerprint)
    }

    fn named_by_fingerprint(&self, reference: &str) -> Result<Option<Fingerprint>> {
        let Ok(prefix) = reference.parse::<Prefix>() else { return Ok(None) };
        let found = self.with_prefix(&prefix, 2)?;
        Ok(if let [only] = *found { Some(only) } else { None })
    }

    /// The newest image here that came from this alias of this server.
    fn last_known(&self, remote: &dyn Remote, wanted: &Wanted) -> Result<Option<Fingerprint>> {
        let mut source = remote.source().image_type(wanted.image_type);
        wanted.reference.clone_into(&mut source.alias);
        let mut newest = None;
        let mut look = |image: StoredImage| {
            let fits = image.source.as_ref() == Some(&source)
                && (wanted.architectures.is_empty() || wanted.architectures.contains(&image.architecture));
            if fits {
                newest = StoredImage::newest(newest.take().into_iter().chain([image]));
            }
            Ok(())
        };
        // One that can't be read can't be given either.
        self.for_each(&ImageQuery::new(), &mut look, &mut |_, _| {})?;
        Ok(newest.map(|image| image.fingerprint))
    }
}
