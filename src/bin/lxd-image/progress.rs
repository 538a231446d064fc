//! Progress on standard error: a bar for people, lines where there is no terminal, or one JSON object per line.
//!
//! The library reports at least once per MiB of input and from several threads at once; what is printed is limited by
//! time here. Short work shows no bar at all. The bar disappears when its [`ProgressGuard`] is dropped, which verbs do
//! before they print results, so that the two never mix on a terminal.

use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};
use lxd_image::{Progress, Update};

use crate::store::size;

/// When and how progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// A bar, when standard error is a terminal
    Auto,
    /// A bar, or lines where standard error is no terminal
    Always,
    /// Nothing
    Never,
    /// One JSON object a line
    Json,
}

/// Work that takes less than this shows no bar: a bar that only flashes is noise.
const BAR_DELAY: Duration = Duration::from_millis(300);
/// The shortest time between two JSON lines, so that a program can follow without parsing megabytes.
const JSON_INTERVAL: Duration = Duration::from_millis(100);
/// The shortest time between two lines for people.
const LINE_INTERVAL: Duration = Duration::from_secs(1);

/// Progress that is being shown; the bar goes away when this is dropped.
pub(crate) struct ProgressGuard(Arc<ProgressPrinter>);

/// Receives the library's reports from any thread and prints some of them.
struct ProgressPrinter {
    style: Style,
    /// When the work began, for the delay of the bar and the times of lines.
    started: Instant,
    /// The last line; its lock also keeps the lines of several threads in order.
    last: Mutex<Option<WrittenLine>>,
    /// The bar, created when the work has lasted for [`BAR_DELAY`].
    bar: OnceLock<ProgressBar>,
}

/// What is printed, once the mode and the terminal are known.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    /// A bar that is drawn over itself.
    Bar,
    /// A line per [`LINE_INTERVAL`], for logs.
    Lines,
    /// A JSON object per [`JSON_INTERVAL`], for programs.
    Json,
}

/// The last line that was printed, to skip lines that are too early or repeat it.
struct WrittenLine {
    /// When, since the start of the work.
    at: Duration,
    /// Phase, bytes done, bytes in total.
    values: (&'static str, u64, Option<u64>),
}

impl ProgressGuard {
    /// Starts the clock; the style depends on the mode and on whether standard error is a terminal.
    pub(crate) fn new(mode: Mode) -> Self {
        let style = match mode {
            Mode::Json => Style::Json,
            Mode::Auto | Mode::Always | Mode::Never if std::io::stderr().is_terminal() => Style::Bar,
            // indicatif prints nothing without a terminal, so print lines there.
            Mode::Auto | Mode::Always | Mode::Never => Style::Lines,
        };
        Self(Arc::new(ProgressPrinter { style, started: Instant::now(), last: Mutex::default(), bar: OnceLock::new() }))
    }

    /// The receiver to put into a `Monitor`.
    pub(crate) fn receiver(&self) -> Arc<dyn Progress> {
        Arc::clone(&self.0) as Arc<dyn Progress>
    }
}

impl Drop for ProgressGuard {
    /// Removes the bar from the terminal.
    fn drop(&mut self) {
        if let Some(bar) = self.0.bar.get() {
            bar.finish_and_clear();
        }
    }
}

impl Progress for ProgressPrinter {
    /// Prints a report if one is due. Never stops the call: that is the signal's task.
    fn report(&self, update: &Update) -> ControlFlow<()> {
        let elapsed = self.started.elapsed();
        match self.style {
            Style::Json => self.line(update, elapsed, JSON_INTERVAL),
            Style::Lines => self.line(update, elapsed, LINE_INTERVAL),
            Style::Bar if elapsed >= BAR_DELAY => {
                let bar = self.bar.get_or_init(|| self.make_bar(update));
                bar.set_message(update.phase.name());
                bar.set_position(update.done);
            }
            Style::Bar => {}
        }
        ControlFlow::Continue(())
    }
}

impl ProgressPrinter {
    /// Prints a line if it is time for one, and always when a phase is complete.
    fn line(&self, update: &Update, elapsed: Duration, interval: Duration) {
        let values = (update.phase.name(), update.done, update.total);
        let complete = update.total == Some(update.done);
        // Several threads report at once: the lock keeps the lines in the order of their times.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let due = last
            .as_ref()
            .is_none_or(|last| last.values != values && (complete || elapsed.saturating_sub(last.at) >= interval));
        if !due {
            return;
        }
        *last = Some(WrittenLine { at: elapsed, values });
        if self.style == Style::Json {
            let now = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
            let line = serde_json::json!({
                "phase": update.phase.name(), "done": update.done, "total": update.total, "milliseconds": now,
            });
            eprintln!("{line}");
        } else {
            let total = update.total.map_or_else(String::new, |total| format!(" of {}", size(total)));
            eprintln!("{}: {}{total}", update.phase.name(), size(update.done));
        }
    }

    /// A bar with the total, or a spinner where the total is unknown (streams). Its clock starts when the work did.
    fn make_bar(&self, update: &Update) -> ProgressBar {
        let (bar, template) = match update.total {
            Some(total) => {
                (ProgressBar::new(total), "{msg:8} {bar:30} {bytes}/{total_bytes} {binary_bytes_per_sec} {eta} left")
            }
            None => (ProgressBar::new_spinner(), "{msg:8} {spinner} {bytes} {binary_bytes_per_sec}"),
        };
        match ProgressStyle::with_template(template) {
            Ok(style) => bar.with_style(style),
            Err(_) => bar,
        }
        .with_elapsed(self.started.elapsed())
    }
}
