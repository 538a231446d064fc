//! Signals that ask the program to stop, and waits that they interrupt: SIGINT, SIGTERM and SIGHUP, all alike.
//!
//! The first signal sets [`cancel`], which every long call of the library checks; the call then undoes its work and
//! fails with `Cancelled`. The second signal ends the process at once. Signals are blocked and read from a signalfd on
//! a thread of its own: a handler could do next to nothing safely, and no system call needs to be restarted after
//! `EINTR`.
//!
//! Everything that may wait for ever (standard input, a FIFO, a pipe that nobody reads) is polled with a timeout, so
//! that a signal ends the wait within [`POLL_INTERVAL`].

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lxd_image::{Cancel, Error, ErrorKind, Result};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::process::{Pid, kill_process};

/// How often a wait looks whether it is over.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// How long an editor may take to end after SIGTERM.
const EDITOR_EXIT_TIMEOUT: Duration = Duration::from_millis(500);
/// The exit status after a second signal: 128 + SIGINT, as shells report it.
const CANCELLED_STATUS: i32 = 130;

/// `si_code` of a signal that the kernel itself sent, such as Ctrl-C on the terminal (sigaction(2)).
const SI_KERNEL: i32 = 0x80;

/// Whether an editor has the terminal. Ctrl-C then belongs to the editor, although the whole foreground process group
/// gets it.
static EDITING: AtomicBool = AtomicBool::new(false);

/// The cancellation switch of this process, set by the first signal.
pub(crate) fn cancel() -> &'static Cancel {
    static CANCEL: OnceLock<Cancel> = OnceLock::new();
    CANCEL.get_or_init(Cancel::new)
}

/// Blocks the signals and starts the thread that waits for them.
///
/// Must be called before any other thread is started, because threads inherit the signal mask of their creator. An
/// ignored SIGHUP stays ignored, so that `nohup lxd-image serve` keeps running.
///
/// # Errors
/// `Io` if the signals cannot be blocked or the thread cannot be started.
pub(crate) fn listen() -> Result<()> {
    let failed =
        |error: nix::Error| Error::new(ErrorKind::Io, "signals can't be caught").with_source(io::Error::from(error));
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGTERM);
    // `nohup` ignores SIGHUP for its child; catching it would undo that.
    if !is_ignored(Signal::SIGHUP) {
        signals.add(Signal::SIGHUP);
    }
    signals.thread_block().map_err(failed)?;
    let source = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC).map_err(failed)?;
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            loop {
                match source.read_signal() {
                    Ok(Some(signal)) => {
                        let from_terminal = signal.ssi_code == SI_KERNEL;
                        if !(from_terminal && EDITING.load(Ordering::Relaxed)) {
                            stop();
                        }
                    }
                    Ok(None) | Err(nix::Error::EINTR) => {}
                    Err(_) => return,
                }
            }
        })
        .map_err(|error| Error::new(ErrorKind::Io, "signals can't be waited for").with_source(error))?;
    Ok(())
}

/// Handles a signal: the first one cancels, the second one exits.
fn stop() {
    if cancel().is_cancelled() {
        // The second request does not wait for cleanup. Unfinished files have staging names, and the next run that
        // writes to the same directory removes them.
        std::process::exit(CANCELLED_STATUS);
    }
    cancel().cancel();
}

/// Whether the parent process made a signal ignored, as nohup(1) does. Read from procfs, since asking with sigaction(2)
/// needs `unsafe`.
fn is_ignored(signal: Signal) -> bool {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else { return false };
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask & (1 << (signal as i32 - 1)) != 0
}

/// Waits until a descriptor is ready; a signal ends the wait.
///
/// A descriptor that is ready is used even after a signal, so that the result of completed work is still printed.
///
/// # Errors
/// `Cancelled`, inside of the I/O error (see [`or_cancelled`]); those of poll(2). Hang-ups and errors of the descriptor
/// count as ready: the following read or write reports them.
pub(crate) fn wait_for(fd: impl AsFd, what: PollFlags) -> io::Result<()> {
    let timeout = Timespec::try_from(POLL_INTERVAL).unwrap_or_default();
    loop {
        match poll(&mut [PollFd::new(&fd, what)], Some(&timeout)) {
            // Check for cancellation only after a wait: a ready descriptor is used, so that finished results are
            // printed.
            Ok(0) | Err(rustix::io::Errno::INTR) => cancel().check()?,
            // Hang-up and error conditions are reported by the following read or write.
            Ok(_) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Reads a descriptor; a signal ends the wait.
pub(crate) struct CancellableReader<F>(F);

impl CancellableReader<File> {
    /// A file by its path, or standard input for `-`. A FIFO that nobody writes to is waited for when it is read.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        if path == Path::new("-") {
            return Ok(Self(File::from(io::stdin().as_fd().try_clone_to_owned()?)));
        }
        use std::os::unix::fs::OpenOptionsExt;
        let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
        File::options().read(true).custom_flags(flags).open(path).map(Self)
    }
}

impl<F: Read + AsFd> Read for CancellableReader<F> {
    /// Waits with a timeout, then reads. The descriptor may be non-blocking: an empty FIFO is waited for again.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            cancel().check()?;
            wait_for(&self.0, PollFlags::IN)?;
            match self.0.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return done,
            }
        }
    }
}

/// Reads a file of the command line, or standard input for `-`, up to `most` bytes.
///
/// A caller with a limit asks for one byte more, and refuses the result if it gets that byte.
pub(crate) fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    CancellableReader::open(path)?.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The text of a file that was named on the command line.
pub(crate) fn read_text(path: &Path) -> io::Result<String> {
    String::from_utf8(read(path, u64::MAX)?).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Converts the error of a wait: `Cancelled` stays what it is, `otherwise` converts the rest.
pub(crate) fn or_cancelled(error: io::Error, otherwise: impl FnOnce(io::Error) -> Error) -> Error {
    if error.get_ref().is_some_and(|inner| inner.is::<Error>()) { Error::from(error) } else { otherwise(error) }
}

/// Reads a line from the user, without its newline; `None` at the end of input. A signal ends the wait.
pub(crate) fn answer() -> io::Result<Option<String>> {
    let mut input = CancellableReader::open(Path::new("-"))?;
    let mut line = Vec::new();
    let mut byte = [0];
    // Byte by byte: buffering would swallow the input of the next question.
    while input.read(&mut byte)? > 0 {
        if byte == *b"\n" {
            return Ok(Some(String::from_utf8_lossy(&line).into_owned()));
        }
        line.extend_from_slice(&byte);
    }
    Ok((!line.is_empty()).then(|| String::from_utf8_lossy(&line).into_owned()))
}

/// Runs an editor to its end. The terminal's Ctrl-C belongs to the editor meanwhile; other signals end it.
pub(crate) fn edit(command: &mut Command) -> io::Result<ExitStatus> {
    EDITING.store(true, Ordering::Relaxed);
    let done = command.spawn().and_then(|mut editor| wait(&mut editor));
    EDITING.store(false, Ordering::Relaxed);
    done
}

/// Waits for the editor. After a signal it gets SIGTERM and [`EDITOR_EXIT_TIMEOUT`] to end; it is then left alone.
fn wait(editor: &mut Child) -> io::Result<ExitStatus> {
    let mut until: Option<Instant> = None;
    loop {
        if let Some(status) = editor.try_wait()? {
            return Ok(status);
        }
        match until {
            None if cancel().is_cancelled() => {
                let pid = i32::try_from(editor.id()).ok().and_then(Pid::from_raw);
                if let Some(pid) = pid {
                    let _ = kill_process(pid, rustix::process::Signal::TERM);
                }
                until = Some(Instant::now() + EDITOR_EXIT_TIMEOUT);
            }
            Some(until) if Instant::now() >= until => {
                return Err(cancel().check().map_or_else(Into::into, |()| io::ErrorKind::TimedOut.into()));
            }
            _ => {}
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}
