//! Global options, and the [`Session`] that a verb works with: limits, threads, progress, cancellation, the store's
//! path.
//!
//! Every image that a verb reads is opened here ([`Session::open`]): from files, from standard input, or by its name
//! in the store or on a remote. So every verb accepts the same inputs and applies the same limits.

use std::cell::RefCell;
use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use clap::{ArgAction, Args};
use lxd_image::format::{Image, ImageSource, Input};
use lxd_image::remote::{ClientOptions, CopyOptions};
use lxd_image::{Cancel, Error, ErrorKind, Fingerprint, Limits, Monitor, Result};

use crate::failure::Failure;
use crate::location::Location;
use crate::output::{self, Format};
use crate::progress::{Mode, ProgressGuard};
use crate::signals;
use crate::store::TypeArgument;

/// How many omissions are printed one by one; the rest is printed as counts by kind.
///
/// An unpacking as an ordinary user may have thousands, which would hide the result.
const NAMED_OMISSIONS: usize = 5;
/// The heading of these options in every verb's help, so that they are separate from the verb's own.
const HEADING: &str = "Global options";

/// Help of `--limit` with the names and defaults of all limits, taken from the library so that it cannot be outdated.
fn limit_help() -> String {
    let limits = Limits::default();
    let names = Limits::NAMES.iter().map(|name| format!("{name} ({})", limits.get(name).unwrap_or_default()));
    let names = names.collect::<Vec<_>>().join(", ");
    format!(
        "Change a safety limit on input (repeatable). Units KiB, MiB, GiB and TiB are accepted. The limits and their defaults: {names}"
    )
}

#[derive(Args)]
#[command(next_help_heading = HEADING)]
pub(crate) struct Global {
    /// The format of results: table (the default), json, yaml, csv, compact, markdown, or a Jinja template such as '{{
    /// fingerprint }}'; `,noheader` behind it leaves the header of a list out, `csv,header` adds one
    #[arg(short, long, global = true, value_name = "FORMAT", help_heading = HEADING)]
    pub(crate) format: Option<Format>,
    /// When to show progress
    #[arg(long, global = true, help_heading = HEADING, value_enum, default_value_t = Mode::Auto, value_name = "WHEN")]
    progress: Mode,
    /// Print only results and errors
    #[arg(short, long, global = true, help_heading = HEADING, conflicts_with = "verbose")]
    quiet: bool,
    /// Show more detail
    #[arg(short, long, global = true, help_heading = HEADING, action = ArgAction::Count)]
    verbose: u8,
    /// The directory of the store, or the TOML file that describes it (default: /var/lib/lxd-image for root,
    /// ~/.local/share/lxd-image for others)
    #[arg(long, global = true, help_heading = HEADING, env = "LXD_IMAGE_STORE", value_name = "DIR|FILE.toml")]
    store: Option<PathBuf>,
    /// Change a safety limit on input (repeatable); `--help` lists them
    #[arg(long = "limit", long_help = limit_help(), global = true, help_heading = HEADING, value_name = "NAME=VALUE", value_parser = parse_limit)]
    limits: Vec<(String, u64)>,
    /// The maximum number of threads (default: one per core)
    #[arg(long, global = true, help_heading = HEADING, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
}

/// Parses `NAME=VALUE`, where the value may have a binary unit.
///
/// # Errors
/// A sentence for clap, which makes it wrong usage (status 2).
fn parse_limit(text: &str) -> std::result::Result<(String, u64), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    let (digits, unit) = match value.find(|character: char| !character.is_ascii_digit()) {
        Some(at) => value.split_at(at),
        None => (value, ""),
    };
    let shift = match unit.to_ascii_lowercase().trim_end_matches("ib") {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return Err(format!("unknown unit `{unit}`: KiB, MiB, GiB or TiB")),
    };
    let number: u64 = digits.parse().map_err(|_| format!("`{value}` is not a number"))?;
    let value = number.checked_mul(1 << shift).ok_or_else(|| format!("`{value}` is too large"))?;
    // Check the name here, so that clap reports an unknown one as wrong usage (status 2).
    Limits::default().set(name, value).map_err(|error| error.to_string())?;
    Ok((name.to_owned(), value))
}

/// The library's default limits with the changes from the command line.
///
/// # Errors
/// `InvalidInput` for unknown names; clap has refused these already.
fn limits(raised: &[(String, u64)]) -> Result<Limits> {
    let mut limits = Limits::default();
    for (name, value) in raised {
        limits.set(name, *value)?;
    }
    Ok(limits)
}

/// State of one run of the program, passed to every verb.
///
/// Everything that verbs share is here, so that a global option works the same for all of them. The record of omissions
/// is one for the whole run: calls add to it through their monitors, and `main` prints it at the end.
pub(crate) struct Session {
    /// The format of results.
    pub(crate) format: Format,
    /// Limits on untrusted input: the library's defaults with the changes of `--limit`.
    pub(crate) limits: Limits,
    /// The maximum number of threads; `None` for one per core.
    pub(crate) threads: Option<usize>,
    /// Print only results and errors.
    pub(crate) quiet: bool,
    /// Print details and all omissions.
    pub(crate) verbose: bool,
    /// The directory of `--store`, if given; [`Session::store_path`] has the defaults.
    pub(crate) store: Option<PathBuf>,
    /// The policy of `--policy`, if given; [`Session::policy`] has the default.
    pub(crate) policy: RefCell<Option<PathBuf>>,
    /// When and how progress is printed.
    progress: Mode,
    /// The monitor that all monitors of this run are clones of: stopped by Ctrl-C, with the record of omissions.
    base: Monitor,
}

impl Global {
    /// Installs signal handling and builds the session. Must run before any thread is started (see
    /// [`signals::listen`]).
    ///
    /// # Errors
    /// `InvalidInput` for a limit; `Io` if signals cannot be caught.
    pub(crate) fn start(self) -> Result<Session, Failure> {
        signals::listen()?;
        Ok(Session {
            format: self.format.unwrap_or(Format::Table),
            limits: limits(&self.limits)?,
            threads: self.threads.map(usize::from),
            quiet: self.quiet,
            verbose: self.verbose > 0,
            store: self.store,
            policy: RefCell::default(),
            progress: self.progress,
            base: Monitor::none().with_cancel(signals::cancel().clone()),
        })
    }
}

impl Session {
    /// How many threads a call takes that has no default of its own.
    pub(crate) fn thread_count(&self) -> usize {
        self.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
    }

    /// A monitor for one long call, and the guard of its progress display if there is one.
    ///
    /// Drop the guard before printing results: a bar and a table would overwrite each other on a terminal.
    pub(crate) fn monitor(&self) -> (Monitor, Option<ProgressGuard>) {
        let monitor = self.base.clone();
        let wanted = match self.progress {
            Mode::Auto => !self.quiet && std::io::stderr().is_terminal(),
            Mode::Always | Mode::Json => true,
            Mode::Never => false,
        };
        if !wanted {
            return (monitor, None);
        }
        let shown = ProgressGuard::new(self.progress);
        (monitor.with_progress(shown.receiver()), Some(shown))
    }

    /// The switch that the first signal sets.
    pub(crate) fn cancel(&self) -> Cancel {
        self.base.cancel().clone()
    }

    /// Prints to standard error what the calls of this run left out or changed.
    ///
    /// The first [`NAMED_OMISSIONS`] are named and the rest is counted by kind; `-v` and `--format json` name all that
    /// were recorded. Nothing is printed with `--quiet`.
    pub(crate) fn report_omissions(&self) {
        let omissions = self.base.omissions();
        if self.quiet || omissions.is_empty() {
            return;
        }
        if self.format == Format::Json {
            for omission in &omissions {
                let path = lxd_image::Escaped(&omission.path).to_string();
                let line = serde_json::json!({"omitted": {"path": path, "what": omission.what.to_string()}});
                eprintln!("{line}");
            }
        }
        let all = self.verbose || self.format == Format::Json;
        let mut left = omissions.counts().clone();
        for omission in omissions.iter().take(if all { usize::MAX } else { NAMED_OMISSIONS }) {
            if self.format != Format::Json {
                eprintln!("note: {omission}");
            }
            if let Some(count) = left.get_mut(&omission.what.to_string()) {
                *count = count.saturating_sub(1);
            }
        }
        left.retain(|_, count| *count > 0);
        let total: u64 = left.values().sum();
        if total > 0 {
            let kinds: Vec<String> = left.iter().map(|(what, count)| format!("{count} × {what}")).collect();
            let hint = if all { "" } else { " (`-v` names them)" };
            eprintln!("note: and {total} more: {}{hint}", kinds.join("; "));
        }
    }

    /// Options for connections to servers: the limits of this run on what a server may send.
    pub(crate) fn client_options(&self) -> ClientOptions {
        ClientOptions::new().limits(self.limits.clone())
    }

    /// Opens an image from one or two paths, or by its name in the store or on a remote; `-` is standard input.
    ///
    /// # Errors
    /// Those of the files, the store or the remote, and of recognising the image (`Malformed`, `Unsupported`,
    /// `Ambiguous`).
    pub(crate) fn open(&self, image: &Path, rootfs: Option<&Path>, which: TypeArgument) -> Result<Image> {
        Image::open_with(self.source(image, rootfs, which)?, &self.limits)
    }

    /// The files of an image, or of the stored or remote image with this name if there is no such file.
    ///
    /// A file takes precedence over a name, as in a shell: what a command does must not depend on the content of the
    /// store when a file is there.
    fn source(&self, image: &Path, rootfs: Option<&Path>, which: TypeArgument) -> Result<ImageSource> {
        match rootfs {
            None => match self.named(image, which)? {
                Some(source) => Ok(source),
                None => Ok(ImageSource::unified(input(image).map_err(|error| nowhere(error, image))?)),
            },
            Some(_) if which.vm => Err(has_no_type()),
            Some(rootfs) => Ok(ImageSource::split(input(image)?, input(rootfs)?)),
        }
    }

    /// Finds the stored or remote image that a word names; `None` for a file and for an unknown name.
    ///
    /// An image of a remote is fetched into the store as a cached image, so that the next use needs no download.
    /// Looking up a name never creates a store. A note on standard error says which image was used, because the word
    /// could have been meant as a file name.
    ///
    /// # Errors
    /// Those of resolving; `InvalidInput` for `--vm` with a file, whose type is fixed.
    pub(crate) fn named(&self, word: &Path, which: TypeArgument) -> Result<Option<ImageSource>> {
        let there = word == Path::new("-") || std::fs::symlink_metadata(word).is_ok();
        if there && which.vm {
            return Err(has_no_type());
        }
        let Some(text) = word.to_str().filter(|_| !there) else { return Ok(None) };
        let (store, image, from) = match Location::of(text) {
            Location::Local(reference) => {
                // Opening creates a store, and a lookup must not.
                if !self.store_path().is_ok_and(|path| path.exists()) {
                    return Ok(None);
                }
                let store = self.store_to_read()?;
                match which.find(&store, reference) {
                    Ok(image) => (store, image, "the store"),
                    Err(error) if error.kind() == ErrorKind::NotFound && !text.starts_with("local:") && !which.vm => {
                        return Ok(None);
                    }
                    Err(error) => return Err(error),
                }
            }
            Location::Remote(name, reference) => {
                let remote = self.remote(name)?;
                let (monitor, shown) = self.monitor();
                let store = self.store()?;
                let options = CopyOptions::new().image_type(which.image_type());
                let image = store.get_or_fetch(&*remote, reference, &options, &monitor);
                drop(shown);
                (store, image?, name)
            }
        };
        self.note(|| {
            format!(
                "note: there is no file {}; taken from {from}: {}",
                lxd_image::Escaped(text.as_bytes()),
                image.fingerprint.short()
            )
        });
        Ok(Some(store.open_image(&image.fingerprint)?.source()))
    }

    /// Prints a fingerprint as the result: the digits alone, or an object in formats with names.
    pub(crate) fn print_fingerprint(&self, fingerprint: &Fingerprint) -> std::result::Result<(), Failure> {
        Ok(output::value("fingerprint", &fingerprint.to_string(), &self.format)?)
    }

    /// Prints a line of detail to standard error, with `--verbose` only. The text is built only if it is printed.
    pub(crate) fn explain(&self, text: impl FnOnce() -> String) {
        if self.verbose {
            eprintln!("{}", text());
        }
    }

    /// Prints a line for people to standard error, unless `--quiet` is given.
    pub(crate) fn note(&self, text: impl FnOnce() -> String) {
        if !self.quiet {
            eprintln!("{}", text());
        }
    }
}

/// The error for a choice among images of one name where files were given.
fn has_no_type() -> Error {
    let sentence = "`--vm` chooses among images of the store or a remote, and this is a file";
    Error::new(ErrorKind::InvalidInput, sentence).with_hint("leave `--vm` out")
}

/// The error for a word that names no file, where it may also name an image.
fn nowhere(error: Error, word: &Path) -> Error {
    if error.kind() != ErrorKind::NotFound || error.hint().is_some() || word.components().count() > 1 {
        return error;
    }
    error.with_hint("no image of the store has this name either; `lxd-image list` shows what is there")
}

/// A file by its path, or standard input.
pub(crate) fn input(path: &Path) -> Result<Input> {
    if path == Path::new("-") {
        let stdin = std::io::stdin()
            .as_fd()
            .try_clone_to_owned()
            .map_err(|error| Error::new(ErrorKind::Io, "standard input can't be read").with_source(error))?;
        return Ok(Input::descriptor(stdin).named("standard input").with_cancel(signals::cancel().clone()));
    }
    let opened = Input::open(path).map_err(|error| {
        let scheme = path.to_str().and_then(|text| text.split_once("://")).map(|(scheme, _)| scheme);
        match scheme.filter(|_| error.kind() == ErrorKind::NotFound) {
            None => error,
            Some("http" | "https") => error.with_hint(
                "`import` takes an address; other verbs take a file, or an image of the store or of a remote",
            ),
            Some(_) => {
                error.with_hint("addresses begin with https://; what lies elsewhere is to be fetched to a file first")
            }
        }
    });
    Ok(opened?.with_cancel(signals::cancel().clone()))
}
