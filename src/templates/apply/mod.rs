//! Applying templates: what LXD and Incus do to an instance's files when it is created, copied,
//! renamed and started.
//!
//! For each rule, in the order of `metadata.yaml`: does it fire at this trigger → resolve the
//! target below the instance's root (`resolve`) → decide owner and mode (`new_file`, or the
//! existing file's) → render → write a new file beside the target and rename it (`write`). The
//! result for each rule is recorded (`report`), also if the call fails.
//!
//! Invariants, each with a test in `tests/it/templates/apply`:
//!
//! - nothing outside of the root is opened for writing, even if the tree changes during the call;
//! - a file has its old or its new content at every moment, and its old one if the rule fails;
//! - a dry run writes nothing;
//! - directories made for a rule that then fails are removed.

mod instance_dir;
mod new_file;
mod report;
mod resolve;
mod trigger;
mod write;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::new_file::NewFile;
use self::resolve::{CreatedParents, ResolvedTarget};
use self::write::{ExistingFile, FileAttributes, Replace};
use super::{Context, Dialect, Template};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;
use crate::metadata::TemplateRule;
use crate::omissions::Omitted;
use crate::progress::Monitor;
use crate::rooted::Dir;

pub use instance_dir::InstanceDir;
pub use report::{Action, ApplyError, ApplyReport, ContentChange, RenderedFile, RuleOutcome, SkipReason};
pub use trigger::{DeferredTrigger, Trigger};

/// Maps an id inside the instance to the host's. Shared, so that the options can be cloned.
type OwnerShift = Arc<dyn Fn(u32) -> Result<u32> + Send + Sync>;

/// How [`apply`] works. The default is LXD's behaviour.
///
/// ```
/// use lxd_image::templates::{ApplyOptions, Dialect};
///
/// // An unprivileged Incus container whose ids start at 1000000 on the host; report, but do not write.
/// let options = ApplyOptions::new()
///     .dialect(Dialect::Incus)
///     .shift_owners(|id| Ok(id + 1_000_000))
///     .dry_run(true);
/// # let _ = options;
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub struct ApplyOptions {
    dialect: Dialect,
    limits: Limits,
    shift: Option<OwnerShift>,
    keep_going: bool,
    dry_run: bool,
    output: Option<PathBuf>,
}

impl Default for ApplyOptions {
    fn default() -> Self {
        Self {
            dialect: Dialect::Lxd,
            limits: Limits::default(),
            shift: None,
            keep_going: false,
            dry_run: false,
            output: None,
        }
    }
}

impl ApplyOptions {
    /// Options as LXD applies templates: its dialect, ids as they are, and the first failure stops.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the dialect of the templates. Only Incus reads a rule's `uid`, `gid` and `mode`.
    #[must_use]
    pub fn dialect(mut self, dialect: Dialect) -> Self {
        self.dialect = dialect;
        self
    }

    /// Sets the bounds on templates: sizes, work, output.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets how an id inside the instance maps to the host's, as the instance's id map does. Files
    /// and directories that are made get the mapped ids. Cannot be combined with
    /// [`output`](Self::output).
    #[must_use]
    pub fn shift_owners(mut self, shift: impl Fn(u32) -> Result<u32> + Send + Sync + 'static) -> Self {
        self.shift = Some(Arc::new(shift));
        self
    }

    /// Sets whether the rules after a failed one are applied too. LXD and Incus stop. The call
    /// fails in both cases.
    #[must_use]
    pub fn keep_going(mut self, yes: bool) -> Self {
        self.keep_going = yes;
        self
    }

    /// Sets whether to report what would change, with old and new content, and write nothing.
    #[must_use]
    pub fn dry_run(mut self, yes: bool) -> Self {
        self.dry_run = yes;
        self
    }

    /// For a virtual machine: writes `<template>.out` files and a copy of `metadata.yaml` into
    /// `directory`, where the agent inside the machine picks them up and puts them in place.
    ///
    /// The agent decides about `create_only`, because only it sees the machine's files.
    #[must_use]
    pub fn output(mut self, directory: impl Into<PathBuf>) -> Self {
        self.output = Some(directory.into());
        self
    }

    /// The host's id for an id inside the instance.
    fn shifted(&self, id: u32) -> Result<u32> {
        self.shift.as_ref().map_or(Ok(id), |shift| shift(id))
    }
}

impl fmt::Debug for ApplyOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApplyOptions")
            .field("dialect", &self.dialect)
            .field("shift_owners", &self.shift.is_some())
            .field("keep_going", &self.keep_going)
            .field("dry_run", &self.dry_run)
            .field("output", &self.output)
            .finish_non_exhaustive()
    }
}

/// Applies the rules that fire at `trigger`, in their order, as LXD and Incus do.
///
/// Each path is resolved below the instance's root as a process in the instance would resolve it: a
/// link may lead elsewhere in the root, never out of it. A file is replaced by a new one with the
/// same owner, mode and extended attributes, in one step; if anything fails, it stays as it was.
/// `context` holds what all templates of the instance see; `trigger`, `path` and `properties` are
/// set for each rule.
///
/// ```no_run
/// use lxd_image::templates::{ApplyOptions, Instance, InstanceDir, Trigger, apply};
/// use lxd_image::{Limits, Monitor, Result};
///
/// # fn main() -> Result<()> {
/// let dir = InstanceDir::open("/srv/containers/c1")?;
/// let metadata = dir.metadata(&Limits::default())?;
/// let context = Instance::new("c1").architecture("x86_64").context();
/// let report = apply(&dir, metadata.templates(), Trigger::Create, &context, &ApplyOptions::new(), &Monitor::none())?;
/// for outcome in &report.outcomes {
///     println!("{}: {} ({})", outcome.path, outcome.action.name(), outcome.action);
/// }
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// The first failure, with what became of the rules: `UnsafePath` for a template name that is not
/// plain and for a target that leads out of the root or is not a regular file, `NotFound` for a
/// missing template, `Template` and `LimitExceeded` from rendering, `InvalidInput` for bad numbers
/// in a rule and for options that exclude each other, `Io`, `Cancelled`.
pub fn apply<'r>(
    instance: &InstanceDir,
    rules: impl IntoIterator<Item = (&'r str, &'r TemplateRule)>,
    trigger: Trigger,
    context: &Context,
    options: &ApplyOptions,
    monitor: &Monitor,
) -> Result<ApplyReport, ApplyError> {
    let mut run = ApplyRun {
        instance,
        trigger,
        context,
        options,
        monitor,
        output: None,
        fired: 0,
        source_bytes: 0,
        shown_bytes: 0,
    };
    let mut report = ApplyReport::default();
    let (mut first, mut stop) = (None, false);
    if let Some(directory) = &options.output {
        // The output is for the agent, which runs inside the machine and knows no id map.
        if options.shift.is_some() {
            let error = Error::invalid(
                "the option `shift_owners` has no effect: the files for a virtual machine belong to the user who runs it",
            );
            return Err(ApplyError { error, report });
        }
        match open_output(directory) {
            Ok(dir) => run.output = Some(dir),
            Err(error) => return Err(ApplyError { error, report }),
        }
    }
    for (path, rule) in rules {
        let mut outcome = RuleOutcome {
            path: path.to_owned(),
            template: rule.template().to_owned(),
            action: Action::Skipped { reason: SkipReason::CreateOnly },
            change: None,
        };
        match run.rule(path, rule, &mut outcome.change) {
            Ok(action) => outcome.action = action,
            Err(error) => {
                let cancelled = error.kind() == ErrorKind::Cancelled;
                let (template, before) = (rule.template(), written_before(&report, options));
                // The error itself goes to the caller; the report gets a copy.
                outcome.action = Action::Failed { error: copy(&error) };
                first.get_or_insert(
                    error.context(format_args!("the rule for `{path}` (template `{template}`{before})")),
                );
                stop = cancelled || !options.keep_going;
            }
        }
        report.outcomes.push(outcome);
        if stop {
            break;
        }
    }
    // The agent must not act on rules whose output is incomplete.
    if first.is_none()
        && let Err(error) = run.copy_metadata()
    {
        first = Some(error);
    }
    match first {
        Some(error) => Err(ApplyError { error, report }),
        None => Ok(report),
    }
}

/// Opens the directory for a virtual machine's files. The caller made it and is trusted with its
/// path.
fn open_output(directory: &Path) -> Result<Dir> {
    Dir::open(directory).map_err(|error| {
        Error::io("the directory for a virtual machine's files can't be opened", error).in_file(directory)
    })
}

/// Lists the files that were written before a rule failed, for the error's text.
fn written_before(report: &ApplyReport, options: &ApplyOptions) -> String {
    const MAX_LISTED: usize = 10;
    if options.dry_run {
        return String::new();
    }
    let written: Vec<String> = report.written().map(|path| format!("`{path}`")).collect();
    match written.len() {
        0 => "; nothing was written before".to_owned(),
        count if count > MAX_LISTED => {
            format!("; written before: {} and {} more", written[..MAX_LISTED].join(", "), count - MAX_LISTED)
        }
        _ => format!("; written before: {}", written.join(", ")),
    }
}

/// Copies an error, which cannot be cloned, for the report. Its source becomes part of the message.
fn copy(error: &Error) -> Error {
    let message = match std::error::Error::source(error) {
        Some(source) => format!("{}: {source}", error.message()),
        None => error.message().to_owned(),
    };
    Error::new(error.kind(), message)
}

/// The state of one call of [`apply`].
struct ApplyRun<'a> {
    instance: &'a InstanceDir,
    trigger: Trigger,
    context: &'a Context,
    options: &'a ApplyOptions,
    monitor: &'a Monitor,
    output: Option<Dir>,
    /// Rules that fired, bounded by `Limits::templates`.
    fired: u64,
    /// Size of all templates read, bounded by `Limits::template_bytes`.
    source_bytes: u64,
    /// Bytes that a dry run holds for its report.
    shown_bytes: u64,
}

impl ApplyRun<'_> {
    /// Applies one rule. `change` is set in a dry run if the file would change.
    fn rule(&mut self, path: &str, rule: &TemplateRule, change: &mut Option<ContentChange>) -> Result<Action> {
        self.monitor.check()?;
        if !rule.fires_on(self.trigger.name()) {
            let when = rule.when().map(str::to_owned).collect();
            return Ok(Action::Skipped { reason: SkipReason::Trigger { trigger: self.trigger, when } });
        }
        let limits = &self.options.limits;
        self.fired += 1;
        if self.fired > limits.templates {
            return Err(Error::limit("templates", limits.templates, "the number of rules"));
        }
        // Checked before the target, so that a bad rule fails even if its file would be skipped.
        instance_dir::check_template_name(rule.template().as_bytes())?;
        let components = resolve::components(path, limits)?;
        if let Some(output) = &self.output {
            let output = output.try_clone().map_err(|error| Error::io("a directory can't be kept open", error))?;
            return self.write_for_agent(&output, path, rule, change);
        }
        let found = resolve::find(self.instance.rootfs()?, &components, rule.create_only())?;
        if found.exists && rule.create_only() {
            return Ok(Action::Skipped { reason: SkipReason::CreateOnly });
        }
        let existing = if found.exists { ExistingFile::open(&found.dir, &found.name)? } else { None };
        let wanted = match self.options.dialect {
            Dialect::Lxd => {
                self.report_unknown_keys(path, rule);
                NewFile::DEFAULT
            }
            Dialect::Incus => NewFile::of(rule)?,
        };
        let attributes = match &existing {
            Some(existing) => existing.attributes.clone(),
            None => {
                FileAttributes::new(self.options.shifted(wanted.uid)?, self.options.shifted(wanted.gid)?, wanted.mode)
            }
        };
        let content = self.render(path, rule)?;
        let file = RenderedFile {
            uid: attributes.uid,
            gid: attributes.gid,
            mode: attributes.mode,
            size: content.len() as u64,
        };
        // An equal file keeps its inode: no needless write, and other hard links stay linked.
        if existing.as_ref().is_some_and(|existing| existing.holds(&content)) {
            return Ok(Action::Unchanged { file });
        }
        let done = if existing.is_some() { Action::Replaced { file } } else { Action::Created { file } };
        if self.options.dry_run {
            *change = Some(self.change(existing.as_ref(), content)?);
            return Ok(done);
        }
        // Something may have taken the name since it was looked at; `create_only` must not
        // overwrite it.
        let replace = if rule.create_only() { Replace::No } else { Replace::Yes };
        let taken = !self.put(&found, &content, &attributes, replace)?;
        Ok(if taken { Action::Skipped { reason: SkipReason::CreateOnly } } else { done })
    }

    /// Records that LXD ignores the keys `uid`, `gid` and `mode` of a rule.
    fn report_unknown_keys(&self, path: &str, rule: &TemplateRule) {
        for (key, value) in [("uid", rule.uid()), ("gid", rule.gid()), ("mode", rule.mode())] {
            if value.is_some_and(|value| !value.is_empty()) {
                let what = Omitted::NotHonoured {
                    option: format!("`{key}` of the rule").into(),
                    reason: "only Incus knows it".into(),
                };
                self.monitor.omit(path, what);
            }
        }
    }

    /// Creates missing parents and writes the file. Returns `false` if the name was taken
    /// meanwhile.
    fn put(
        &self,
        found: &ResolvedTarget,
        content: &[u8],
        attributes: &FileAttributes,
        replace: Replace,
    ) -> Result<bool> {
        let mut made = CreatedParents::default();
        let written = self
            .options
            .shifted(0)
            .and_then(|root| made.parents(found, root, root))
            .and_then(|dir| write::write(&dir, &found.name, content, attributes, replace));
        if written.is_err() {
            made.undo();
        }
        written
    }

    /// Writes the output for the agent of a virtual machine. The file belongs to the user who runs
    /// the machine, since the agent reads it through a share.
    fn write_for_agent(
        &mut self,
        output: &Dir,
        path: &str,
        rule: &TemplateRule,
        change: &mut Option<ContentChange>,
    ) -> Result<Action> {
        let name = format!("{}.out", rule.template());
        let existing = ExistingFile::open(output, name.as_bytes())?;
        let content = self.render(path, rule)?;
        let file = RenderedFile {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            mode: 0o644,
            size: content.len() as u64,
        };
        let done = match &existing {
            Some(existing) if existing.holds(&content) => Action::Unchanged { file },
            Some(_) => Action::Replaced { file },
            None => Action::Created { file },
        };
        if self.options.dry_run {
            if !matches!(done, Action::Unchanged { .. }) {
                *change = Some(self.change(existing.as_ref(), content)?);
            }
            return Ok(done);
        }
        let attributes = FileAttributes::new(file.uid, file.gid, file.mode);
        write::write(output, name.as_bytes(), &content, &attributes, Replace::Yes)?;
        Ok(done)
    }

    /// Copies `metadata.yaml` beside the output: the agent reads the rules from it
    /// (`lxd-agent/templates.go`).
    fn copy_metadata(&self) -> Result<()> {
        let Some(output) = self.output.as_ref().filter(|_| !self.options.dry_run) else { return Ok(()) };
        let Some(metadata) = self.instance.metadata_bytes(&self.options.limits)? else { return Ok(()) };
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let attributes = FileAttributes::new(uid, gid, 0o644);
        write::write(output, b"metadata.yaml", &metadata, &attributes, Replace::Yes)
            .map(drop)
            .map_err(|error| error.context("the copy of `metadata.yaml`"))
    }

    /// Reads and renders the template of a rule, within the bounds of the whole call.
    fn render(&mut self, path: &str, rule: &TemplateRule) -> Result<Vec<u8>> {
        let limits = &self.options.limits;
        let source = self.instance.template(rule.template().as_bytes(), limits)?;
        self.source_bytes = self.source_bytes.saturating_add(source.len() as u64);
        if self.source_bytes > limits.template_bytes {
            return Err(Error::limit("template_bytes", limits.template_bytes, "the size of all templates"));
        }
        // Set for each rule, over whatever the caller's context has under these names.
        let context = self.context.clone().trigger(self.trigger.name()).path(path).properties(rule.properties().iter());
        Template::parse(&source, self.options.dialect, limits)?.render_until(&context, limits, self.monitor.cancel())
    }

    /// Takes old and new content for a dry run's report. All of it is held at once, so it has a
    /// bound of its own.
    fn change(&mut self, existing: Option<&ExistingFile>, new: Vec<u8>) -> Result<ContentChange> {
        const DRY_RUN_FILES: u64 = 16;
        let limits = &self.options.limits;
        let old = existing
            .map(|existing| existing.content(limits.template_output))
            .transpose()
            .map_err(|error| Error::io("the target can't be read", error))?;
        let bytes = old.as_ref().map_or(0, Vec::len) + new.len();
        self.shown_bytes = self.shown_bytes.saturating_add(bytes as u64);
        if self.shown_bytes > limits.template_output.saturating_mul(DRY_RUN_FILES) {
            return Err(Error::limit(
                "template_output",
                limits.template_output,
                format_args!("what a dry run shows, {DRY_RUN_FILES} times as much as one file,"),
            ));
        }
        Ok(ContentChange { old, new })
    }
}
