//! `Tree`: a static tree that is read; `TreeWriter`: the right to change it, held by one process at a time.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{FlockOperation, flock};

use super::document;
use super::signing::message_path;
use crate::atomic;
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::Fingerprint;
use crate::limits::Limits;
use crate::protocol::simplestreams::{Index, Listing, Product, Products, StreamImage};
use crate::trust::ListSigner;

/// The index.
pub(super) const INDEX: &str = "streams/v1/index.json";
/// The stream of a tree, unless another one is chosen.
pub(super) const STREAM: &str = "images";
/// Files of this library that web servers should not offer; nothing in it is secret.
pub(super) const PRIVATE: &str = ".lxd-image";
/// Files that are being written. On the same file system as the tree, so that a rename publishes them.
pub(super) const STAGING: &str = ".lxd-image/staging";

/// Options of a [`Tree`].
///
/// ```no_run
/// use lxd_image::simplestreams::TreeOptions;
///
/// let tree = TreeOptions::new().threads(2).open("/srv/www")?;
/// for image in tree.listing()?.images() {
///     println!("{} {}", image.fingerprint, image.product);
/// }
/// # Ok::<(), lxd_image::Error>(())
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub struct TreeOptions {
    /// The name of the stream, which is also the directory of its files.
    stream: String,
    pub(super) limits: Limits,
    /// For verifying; `None` for one per core.
    pub(super) threads: Option<usize>,
    /// Injected, so that tests need not wait.
    clock: Arc<dyn Fn() -> i64 + Send + Sync>,
    /// At most one of each kind.
    pub(super) signers: Vec<ListSigner>,
    /// Whether a change without them removes signatures.
    pub(super) drop_signatures: bool,
}

impl Default for TreeOptions {
    fn default() -> Self {
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs().cast_signed());
        Self {
            stream: STREAM.to_owned(),
            limits: Limits::default(),
            threads: None,
            clock: Arc::new(now),
            signers: Vec::new(),
            drop_signatures: false,
        }
    }
}

impl fmt::Debug for TreeOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TreeOptions").field("threads", &self.threads).finish_non_exhaustive()
    }
}

impl TreeOptions {
    /// Default limits, all cores, the clock of the system.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Chooses one of several streams of a tree: its files are in the directory `name`, its list is `streams/v1/NAME.json`.
    /// All are in one index. The usual one is `images`.
    ///
    /// # Errors
    /// `InvalidInput` for a name that is no plain directory, and for `streams` and `index`.
    pub fn stream(mut self, name: impl Into<String>) -> Result<Self> {
        let name = name.into();
        let is_plain = !name.is_empty()
            && !name.starts_with('.')
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
        if !is_plain || name.len() > 64 || matches!(name.as_str(), "streams" | "index") {
            let shown: String = name.chars().take(64).collect();
            return Err(Error::invalid(format!("`{shown}` can't be the name of a stream")).with_hint(
                "it has letters, digits, dashes, underscores and dots, and is neither `streams` nor `index`",
            ));
        }
        self.stream = name;
        Ok(self)
    }

    /// The limits on lists (`remote_index`, `json_depth`) and on images that are added.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// How many threads verify an image that is added, at least 1.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads.max(1));
        self
    }

    /// The clock, in seconds since 1970: for tests.
    #[must_use]
    pub fn clock(mut self, clock: impl Fn() -> i64 + Send + Sync + 'static) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Signs index and list with each change: an OpenPGP key makes messages (`.sjson`) and signatures beside the documents
    /// (`.json.gpg`), a minisign key `.json.minisig`. One key of each kind; another one of a kind takes its place.
    ///
    /// A tree that is signed can't be changed without a key for each kind of signature that it has, since signatures that are out
    /// of date would shut out the readers who demand them; see [`drop_signatures`](Self::drop_signatures).
    #[must_use]
    pub fn sign_with(mut self, signer: ListSigner) -> Self {
        self.signers.retain(|other| other.suffix() != signer.suffix());
        self.signers.push(signer);
        self
    }

    /// Whether a change removes the signatures that it can't renew, instead of failing. Readers who demand them are shut out.
    #[must_use]
    pub fn drop_signatures(mut self, yes: bool) -> Self {
        self.drop_signatures = yes;
        self
    }

    /// The time, in seconds since 1970.
    pub(super) fn now(&self) -> i64 {
        (self.clock)()
    }

    /// Opens an existing tree.
    ///
    /// # Errors
    /// `NotFound` without a list of images; `Malformed` and `LimitExceeded` for a list that can't be read; `Io`.
    pub fn open(self, path: impl Into<PathBuf>) -> Result<Tree> {
        let tree = Tree { root: path.into(), options: self };
        tree.products()?;
        Ok(tree)
    }

    /// Opens a tree, or creates an empty one. Other files in the directory stay as they are.
    ///
    /// # Errors
    /// As [`open`](Self::open); `Busy` while another process writes into the tree.
    pub fn create(self, path: impl Into<PathBuf>) -> Result<Tree> {
        let tree = Tree { root: path.into(), options: self };
        match tree.products() {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            found => return found.map(|_| tree),
        }
        make_dir(&tree.root, 0o755)?;
        tree.lock()?.commit(|_| Ok(()))?;
        Ok(tree)
    }
}

/// A tree of static files.
#[derive(Debug, Clone)]
pub struct Tree {
    pub(super) root: PathBuf,
    pub(super) options: TreeOptions,
}

impl Tree {
    /// Opens a tree that is there, with the usual options.
    ///
    /// # Errors
    /// As [`TreeOptions::open`].
    pub fn open(path: impl Into<PathBuf>) -> Result<Self> {
        TreeOptions::new().open(path)
    }

    /// Opens a tree or makes an empty one, with the usual options.
    ///
    /// # Errors
    /// As [`TreeOptions::create`].
    pub fn create(path: impl Into<PathBuf>) -> Result<Self> {
        TreeOptions::new().create(path)
    }

    /// The name of its stream: the directory with its files.
    pub(super) fn stream(&self) -> &str {
        &self.options.stream
    }

    /// The path of its list of products.
    pub(super) fn list(&self) -> String {
        format!("streams/v1/{}.json", self.options.stream)
    }

    /// The path of one of its records below the private directory. Streams have their own.
    pub(super) fn record(&self, name: &str) -> String {
        match self.stream() {
            STREAM => format!("{PRIVATE}/{name}"),
            stream => format!("{PRIVATE}/{stream}.{name}"),
        }
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// Reads the list as it is now.
    ///
    /// # Errors
    /// As [`TreeOptions::open`].
    pub fn products(&self) -> Result<Products> {
        let path = self.root.join(self.list());
        let text = document::read(&path, &self.options.limits).map_err(|error| {
            let what = "a tree for a web server has its list there; `simplestreams add` makes one";
            if error.kind() == ErrorKind::NotFound { error.with_hint(what) } else { error }
        })?;
        Products::from_json(&text, &self.options.limits).map_err(|error| error.in_file(path))
    }

    /// The images in the list, newest first.
    ///
    /// # Errors
    /// As [`TreeOptions::open`].
    pub fn listing(&self) -> Result<Listing> {
        Ok(Listing::within(&self.products()?, &self.options.limits))
    }

    /// The limits on lists.
    #[cfg(feature = "remote")]
    pub(crate) fn limits(&self) -> &Limits {
        &self.options.limits
    }

    /// Reads the index; an empty one if there is none.
    pub(super) fn index(&self) -> Result<Index> {
        let path = self.root.join(INDEX);
        match document::read(&path, &self.options.limits) {
            Ok(text) => Index::from_json(&text, &self.options.limits).map_err(|error| error.in_file(path)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(document::empty_index()),
            Err(error) => Err(error),
        }
    }

    /// Whether an index names lists beside that of this tree.
    pub(super) fn names_others(&self, index: &Index) -> bool {
        let list = self.list();
        let message = message_path(&list);
        !index.index.odd().is_empty() || index.index.values().any(|entry| entry.path != list && entry.path != message)
    }

    /// Locks the tree for writing until the writer is dropped, and removes staged files of a writer that was killed. Readers need no
    /// lock.
    ///
    /// # Errors
    /// `Busy` while there is another writer; `Unsupported` on a file system without locks; `Io`.
    pub fn lock(&self) -> Result<TreeWriter> {
        let private = self.root.join(PRIVATE);
        make_dir(&private, 0o700)?;
        let path = private.join("lock");
        // Removed only with the tree, so that all processes lock the same inode.
        let lock = File::options().read(true).append(true).create(true).mode(0o600).open(&path).map_err(fail(&path))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::AGAIN) => {
                return Err(Error::new(ErrorKind::Busy, "another process writes into this tree")
                    .with_hint("try again when it is done")
                    .in_file(&self.root));
            }
            Err(error) => {
                return Err(Error::unsupported("the tree's file system has no file locks (`flock`)")
                    .with_source(std::io::Error::from(error))
                    .in_file(&self.root));
            }
        }
        // If the tree was discarded between opening and locking, this lock is on a removed file and protects nothing.
        let is_there = fs::metadata(&path)
            .is_ok_and(|there| lock.metadata().is_ok_and(|own| (own.dev(), own.ino()) == (there.dev(), there.ino())));
        if !is_there {
            return Err(Error::new(ErrorKind::Busy, "another process has just removed this tree")
                .with_hint("try again")
                .in_file(&self.root));
        }
        make_dir(&self.root.join(self.stream()), 0o755)?;
        make_dir(&self.root.join("streams/v1"), 0o755)?;
        let staging = self.root.join(STAGING);
        make_dir(&staging, 0o700)?;
        for entry in fs::read_dir(&staging).map_err(fail(&staging))? {
            let path = entry.map_err(fail(&staging))?.path();
            fs::remove_file(&path).map_err(fail(&path))?;
        }
        Ok(TreeWriter { tree: self.clone(), sealed: Mutex::default(), _lock: WriterLock(lock) })
    }
}

/// The right to change a tree, until it is dropped. From [`Tree::lock`].
#[derive(Debug)]
pub struct TreeWriter {
    pub(super) tree: Tree,
    /// The digests of documents that this writer signed, or whose signatures it verified: they are not verified with each change.
    pub(super) sealed: Mutex<BTreeMap<String, Fingerprint>>,
    _lock: WriterLock,
}

/// The lock file of a writer.
#[derive(Debug)]
struct WriterLock(File);

impl Drop for WriterLock {
    fn drop(&mut self) {
        // Unlocked explicitly: a child that another thread forks may hold a copy of the descriptor until it execs, and `flock` ends
        // only with the last copy.
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

impl TreeWriter {
    /// The tree.
    #[must_use]
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Takes images out of the list. Their files stay until [`prune`](Self::prune) removes them, by default an hour later at the
    /// earliest, so that readers of the old list still find them.
    ///
    /// # Errors
    /// `NotFound` if one of them is not listed; then none is removed. `InvalidInput` for a signed tree without a key. `Io`.
    pub fn remove(&mut self, fingerprints: &[Fingerprint]) -> Result<()> {
        self.check_renewable()?;
        self.commit(|products| {
            for fingerprint in fingerprints {
                if !products.withdraw(fingerprint) {
                    return Err(Error::new(ErrorKind::NotFound, format!("the tree lists no image {fingerprint}")));
                }
            }
            Ok(())
        })
    }

    /// Signs index and list as they are, where they have no valid signature by the keys of [`TreeOptions::sign_with`]: for a tree
    /// that was not signed before, with a new key, or after another tool changed it.
    ///
    /// # Errors
    /// `InvalidInput` for signatures of a kind that no key renews; those of [`remove`](Self::remove).
    pub fn sign(&mut self) -> Result<()> {
        self.remove_stale()?;
        self.commit(|_| Ok(()))
    }

    /// Removes the tree if it lists nothing: for a caller that created it for an image that could not be added. Files of others,
    /// and directories that hold any, stay. A tree whose index names other lists stays as it is, since they share the index and
    /// the lock.
    ///
    /// # Errors
    /// `Malformed` or `Io` when the list can't be read. Files that can't be removed are left.
    pub fn discard_if_empty(self) -> Result<()> {
        if !self.tree.products()?.products.is_empty() || self.tree.names_others(&self.tree.index()?) {
            return Ok(());
        }
        let at = |name: &str| self.tree.root.join(name);
        self.remove_signatures();
        for file in [&*self.tree.list(), INDEX, ".lxd-image/lock"] {
            let _ = fs::remove_file(at(file));
        }
        // From the inside out; `remove_dir` refuses a directory that is not empty.
        for directory in ["streams/v1", "streams", self.tree.stream(), STAGING, PRIVATE, ""] {
            let _ = fs::remove_dir(at(directory));
        }
        Ok(())
    }

    /// Copies the descriptions of products (names, dates, requirements, aliases, not versions) from another list. Products that
    /// this list does not have are ignored.
    ///
    /// # Errors
    /// `Io`; `Malformed` when the list can't be read any more.
    pub fn describe<'a>(&mut self, about: impl IntoIterator<Item = (&'a str, &'a Product)>) -> Result<()> {
        self.commit(|products| {
            for (key, product) in about {
                products.describe(key, product);
            }
            Ok(())
        })
    }

    /// Copies what another list says of the versions and files of images (labels, fields that are not known here). Images that
    /// this list does not have with the same files are ignored.
    ///
    /// # Errors
    /// As [`describe`](Self::describe).
    pub fn describe_images<'a>(&mut self, images: impl IntoIterator<Item = &'a StreamImage>) -> Result<()> {
        self.commit(|products| {
            for image in images {
                products.describe_image(image);
            }
            Ok(())
        })
    }
}

/// Creates a directory and its parents, if they are missing.
pub(super) fn make_dir(path: &Path, mode: u32) -> Result<()> {
    atomic::make_dirs(path, mode).map_err(fail(path))
}

/// Turns an I/O error into one about this path of the tree.
pub(super) fn fail(path: &Path) -> impl Fn(std::io::Error) -> Error + '_ {
    move |error| Error::io("the tree can't be read or written", error).in_file(path)
}
