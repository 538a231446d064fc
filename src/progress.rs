//! How a long call tells what it does, and how its caller stops it.
//! Every call that reads or writes a whole image takes a [`Monitor`].

use std::fmt;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::omissions::{Omission, Omissions, Omitted};

/// What a long call is busy with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// Reading and hashing.
    Hash,
    /// Reading, decoding and checking.
    Verify,
    /// Reading, decoding and writing a tree.
    Unpack,
    /// Reading a tree and writing an archive.
    Pack,
    /// Reading one archive and writing another.
    Convert,
    /// Sending to a server.
    Upload,
    /// Making or applying a delta.
    Delta,
}

impl Phase {
    /// The phase in one lower-case word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hash => "hash",
            Self::Verify => "verify",
            Self::Unpack => "unpack",
            Self::Pack => "pack",
            Self::Convert => "convert",
            Self::Upload => "upload",
            Self::Delta => "delta",
        }
    }
}

/// One report of a long call.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Update {
    /// What the call is busy with.
    pub phase: Phase,
    /// Bytes of the input consumed so far.
    pub done: u64,
    /// Bytes of the input in all, where that is known.
    pub total: Option<u64>,
}

/// Receives reports, from any thread and often: at least once for each MiB of input.
pub trait Progress: Send + Sync {
    /// Takes a report. `Break` stops the call, which then fails with `Cancelled`.
    fn report(&self, update: &Update) -> ControlFlow<()>;
}

impl<F> Progress for F
where
    F: Fn(&Update) -> ControlFlow<()> + Send + Sync,
{
    fn report(&self, update: &Update) -> ControlFlow<()> {
        self(update)
    }
}

/// How often whoever waits looks whether it was cancelled: a fraction of the second in which a call must end.
pub(crate) const CANCEL_POLL: Duration = Duration::from_millis(50);

/// A switch that stops the calls it was given to, within a second whatever they wait for. Clones are the same switch.
///
/// Two things take longer: waiting for the disk (`fsync`), which no program can interrupt, and
/// removing a large tree that was being unpacked. Encoders may finish blocks that they have begun
/// on threads of their own, after the call has returned; what they make goes nowhere.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// A switch that is off.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Stops the calls, soon: each undoes what it began and fails with `Cancelled`.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether [`cancel`](Self::cancel) was called.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Fails when [`cancel`](Self::cancel) was called.
    ///
    /// # Errors
    /// `Cancelled`.
    pub fn check(&self) -> Result<()> {
        if self.is_cancelled() { Err(Error::cancelled()) } else { Ok(()) }
    }
}

/// What a call leaves out, and the record of the call around it.
#[derive(Default)]
struct Record {
    omissions: Mutex<Omissions>,
    outer: Option<Arc<Record>>,
}

impl Record {
    fn add(&self, omission: &Omission) {
        // A panic elsewhere leaves a record that is whole: each entry is added in one step.
        self.omissions.lock().unwrap_or_else(PoisonError::into_inner).add(omission.clone());
        if let Some(outer) = &self.outer {
            outer.add(omission);
        }
    }

    fn extend(&self, omissions: &Omissions) {
        self.omissions.lock().unwrap_or_else(PoisonError::into_inner).extend(omissions);
        if let Some(outer) = &self.outer {
            outer.extend(omissions);
        }
    }
}

/// Progress, cancellation and the record of what is left out: the last parameter of every long call, before a closure if it
/// takes one.
///
/// ```
/// use std::ops::ControlFlow;
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU64, Ordering};
///
/// use lxd_image::format::{Image, Input, ImageSource, VerifyOptions};
/// use lxd_image::{Cancel, ErrorKind, Monitor, Update};
///
/// # fn main() -> lxd_image::Result<()> {
/// # let file = std::env::temp_dir().join(format!("lxd-image-monitor-{}", std::process::id()));
/// # let dir = file.with_extension("d");
/// # std::fs::create_dir_all(dir.join("etc"))?;
/// # let about = lxd_image::Metadata::new("x86_64", 1_700_000_000)?;
/// # let options = lxd_image::format::PackOptions::new(about);
/// # lxd_image::format::pack(&lxd_image::format::Rootfs::open(&dir)?, &file, &options, &Monitor::none())?;
/// let cancel = Cancel::new();
/// let seen = Arc::new(AtomicU64::new(0));
/// let shown = Arc::clone(&seen);
/// let monitor = Monitor::none().with_cancel(cancel.clone()).with_progress(Arc::new(move |update: &Update| {
///     shown.store(update.done, Ordering::Relaxed); // called from any thread, so a bar is drawn elsewhere
///     ControlFlow::Continue(()) // `Break` stops the call, too
/// }));
/// let image = Image::open(ImageSource::unified(Input::open(&file)?))?;
/// image.verify(&VerifyOptions::new(), &monitor)?;
/// assert!(seen.load(Ordering::Relaxed) > 0);
/// assert!(monitor.omissions().is_empty()); // nothing of the image would be left out
///
/// cancel.cancel(); // as a handler of Ctrl-C does, from any thread
/// let stopped = image.verify(&VerifyOptions::new(), &monitor).unwrap_err();
/// assert_eq!(stopped.kind(), ErrorKind::Cancelled);
/// # std::fs::remove_file(&file)?;
/// # std::fs::remove_dir_all(&dir)?;
/// # Ok(())
/// # }
/// ```
///
/// Clones share all three: what any call given a clone leaves out stands in [`omissions`](Self::omissions).
#[derive(Clone, Default)]
pub struct Monitor {
    progress: Option<Arc<dyn Progress>>,
    cancel: Cancel,
    record: Arc<Record>,
}

impl Monitor {
    /// Reports to nobody and is never cancelled.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Reports to `progress`.
    #[must_use]
    pub fn with_progress(mut self, progress: Arc<dyn Progress>) -> Self {
        self.progress = Some(progress);
        self
    }

    /// Stops when `cancel` is switched on.
    #[must_use]
    pub fn with_cancel(mut self, cancel: Cancel) -> Self {
        self.cancel = cancel;
        self
    }

    /// The same progress and cancellation with a record of its own, for the result of one call
    /// among several. What is recorded there is recorded here, too.
    #[must_use]
    pub fn nested(&self) -> Self {
        let record = Record { omissions: Mutex::default(), outer: Some(Arc::clone(&self.record)) };
        Self { progress: self.progress.clone(), cancel: self.cancel.clone(), record: Arc::new(record) }
    }

    /// Records that something was left out of the object named `path` (raw bytes).
    pub fn omit(&self, path: impl Into<Vec<u8>>, what: Omitted) {
        self.record.add(&Omission::new(path, what));
    }

    /// Records all of another record, for example of a list that was read before.
    pub fn omit_all(&self, omissions: &Omissions) {
        if !omissions.is_empty() {
            self.record.extend(omissions);
        }
    }

    /// What was left out so far by all calls that this monitor or a clone of it was given to.
    #[must_use]
    pub fn omissions(&self) -> Omissions {
        self.record.omissions.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The switch that stops the calls.
    #[must_use]
    pub fn cancel(&self) -> &Cancel {
        &self.cancel
    }

    /// Fails when the caller asked to stop.
    ///
    /// # Errors
    /// `Cancelled`.
    pub fn check(&self) -> Result<()> {
        self.cancel.check()
    }

    /// Reports `done` of `total` bytes, and fails when the caller asked to stop.
    ///
    /// # Errors
    /// `Cancelled`.
    pub fn report(&self, phase: Phase, done: u64, total: Option<u64>) -> Result<()> {
        self.cancel.check()?;
        if let Some(progress) = &self.progress
            && progress.report(&Update { phase, done, total }).is_break()
        {
            self.cancel.cancel();
            return Err(Error::cancelled());
        }
        Ok(())
    }
}

impl fmt::Debug for Monitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Monitor").field("progress", &self.progress.is_some()).field("cancel", &self.cancel).finish()
    }
}
