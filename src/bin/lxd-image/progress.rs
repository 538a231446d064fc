//! Progress on standard error: a bar for people once work lasts, or one JSON object a line for programs.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};
use lxd_image::{Progress, Update};

/// When and how progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// A bar, when standard error is a terminal
    Auto,
    /// A bar, wherever standard error goes
    Always,
    /// Nothing
    Never,
    /// One JSON object a line
    Json,
}

/// Work that is done sooner than this shows no bar.
const PATIENCE: Duration = Duration::from_millis(300);
/// The time between two lines of JSON.
const INTERVAL_MS: u64 = 100;

/// Progress that is being shown; the bar goes away when this is dropped.
pub(crate) struct Shown(Arc<Receiver>);

struct Receiver {
    mode: Mode,
    started: Instant,
    last_line_ms: AtomicU64,
    bar: OnceLock<ProgressBar>,
}

impl Shown {
    pub(crate) fn new(mode: Mode) -> Self {
        Self(Arc::new(Receiver {
            mode,
            started: Instant::now(),
            last_line_ms: AtomicU64::new(0),
            bar: OnceLock::new(),
        }))
    }

    pub(crate) fn receiver(&self) -> Arc<dyn Progress> {
        Arc::clone(&self.0) as Arc<dyn Progress>
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        if let Some(bar) = self.0.bar.get() {
            bar.finish_and_clear();
        }
    }
}

impl Progress for Receiver {
    fn report(&self, update: &Update) -> ControlFlow<()> {
        let elapsed = self.started.elapsed();
        if self.mode == Mode::Json {
            let now = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
            let last = self.last_line_ms.load(Ordering::Relaxed);
            let finished = update.total == Some(update.done);
            if finished || last == 0 || now.saturating_sub(last) >= INTERVAL_MS {
                self.last_line_ms.store(now.max(1), Ordering::Relaxed);
                let line = serde_json::json!({
                    "phase": update.phase.name(), "done": update.done, "total": update.total, "milliseconds": now,
                });
                eprintln!("{line}");
            }
        } else if elapsed >= PATIENCE {
            let bar = self.bar.get_or_init(|| self.make_bar(update));
            bar.set_message(update.phase.name());
            bar.set_position(update.done);
        }
        ControlFlow::Continue(())
    }
}

impl Receiver {
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
