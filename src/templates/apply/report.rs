//! [`ApplyReport`] and its parts: what became of each rule, also when the call failed half way.
//!
//! `Display` of an [`Action`] gives the reason in one line, as `template apply` prints it.

use std::fmt;

use super::Trigger;
use crate::error::{Error, Escaped};

/// What became of the rules, in their order.
///
/// ```no_run
/// use lxd_image::templates::{Action, ApplyReport, SkipReason};
///
/// fn summary(report: &ApplyReport) {
///     for outcome in &report.outcomes {
///         match &outcome.action {
///             Action::Created { file, .. } => println!("{}: new, {} bytes", outcome.path, file.size),
///             Action::Skipped { reason: SkipReason::CreateOnly, .. } => println!("{}: kept", outcome.path),
///             other => println!("{}: {}", outcome.path, other.name()),
///         }
///     }
/// }
/// ```
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct ApplyReport {
    /// One for each rule up to the last that was looked at.
    pub outcomes: Vec<RuleOutcome>,
}

impl ApplyReport {
    /// The paths that were written, or would be by a dry run.
    pub fn written(&self) -> impl Iterator<Item = &str> {
        self.outcomes
            .iter()
            .filter(|outcome| matches!(outcome.action, Action::Created { .. } | Action::Replaced { .. }))
            .map(|outcome| outcome.path.as_str())
    }
}

/// What became of one rule.
#[derive(Debug)]
#[non_exhaustive]
pub struct RuleOutcome {
    /// The rule's path, as the metadata has it.
    pub path: String,
    /// The name of the rule's template.
    pub template: String,
    /// What was done, or would be by a dry run, and why.
    pub action: Action,
    /// In a dry run, old and new content of a file that would change; else `None`.
    pub change: Option<ContentChange>,
}

/// What was done with a rule.
#[derive(Debug)]
#[non_exhaustive]
pub enum Action {
    /// There was no file.
    Created {
        /// The file after the call.
        file: RenderedFile,
    },
    /// There was a file with another content.
    Replaced {
        /// The file after the call.
        file: RenderedFile,
    },
    /// There was a file with this content. It was not touched.
    Unchanged {
        /// The file, which was not written.
        file: RenderedFile,
    },
    /// The rule did not apply.
    Skipped {
        /// Why.
        reason: SkipReason,
    },
    /// The rule failed, and its file is as it was.
    Failed {
        /// Why, as the call returns it for the first rule that fails.
        error: Error,
    },
}

/// A file after the call, with the host's ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct RenderedFile {
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its permissions.
    pub mode: u32,
    /// Its size in bytes.
    pub size: u64,
}

/// Why a rule did not apply.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SkipReason {
    /// Its `when` does not name the trigger.
    Trigger {
        /// The trigger of this call.
        trigger: Trigger,
        /// The events of the rule.
        when: Vec<String>,
    },
    /// It is `create_only`, and something exists at the path.
    CreateOnly,
}

/// The content of a file before and after, from a dry run.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ContentChange {
    /// `None` if there was no file. Of a large file the first `Limits::template_output` bytes.
    pub old: Option<Vec<u8>>,
    /// What the template gives.
    pub new: Vec<u8>,
}

impl Action {
    /// The action in one lower-case word, as the command line prints it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Created { .. } => "created",
            Self::Replaced { .. } => "replaced",
            Self::Unchanged { .. } => "unchanged",
            Self::Skipped { .. } => "skipped",
            Self::Failed { .. } => "failed",
        }
    }

    /// The file with its owner, mode and size; `None` if the rule was skipped or failed.
    #[must_use]
    pub const fn file(&self) -> Option<RenderedFile> {
        match self {
            Self::Created { file } | Self::Replaced { file } | Self::Unchanged { file } => Some(*file),
            Self::Skipped { .. } | Self::Failed { .. } => None,
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Created { .. } => f.write_str("there was no file"),
            Self::Replaced { .. } => f.write_str("the content differed"),
            Self::Unchanged { .. } => f.write_str("the content is the same"),
            Self::Skipped { reason } => write!(f, "{reason}"),
            Self::Failed { error } => write!(f, "{error}"),
        }
    }
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Trigger { trigger, when } if when.is_empty() => write!(f, "not at {trigger}, never at all"),
            Self::Trigger { trigger, when } => {
                write!(f, "not at {trigger}, only at {}", Escaped(when.join(", ").as_bytes()))
            }
            Self::CreateOnly => f.write_str("create_only, and the file is there"),
        }
    }
}

/// The error of [`apply`](super::apply): a rule failed. Holds what became of the other rules, and
/// converts to the plain [`Error`] with `?`.
#[derive(Debug)]
#[non_exhaustive]
pub struct ApplyError {
    /// The first failure. Its message names the rule, the reason, and the files written before it.
    pub error: Error,
    /// What became of the rules up to the failed one, or of all with
    /// [`keep_going`](super::ApplyOptions::keep_going).
    pub report: ApplyReport,
}

impl fmt::Display for ApplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for ApplyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&self.error)
    }
}

impl From<ApplyError> for Error {
    fn from(failed: ApplyError) -> Self {
        failed.error
    }
}
