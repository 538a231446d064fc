//! What became of each rule, for people and programs; also when it went wrong half way.
//! `Display` gives the reason in one line.

use std::fmt;

use super::Trigger;
use crate::error::{Error, Escaped};

/// What became of all rules, in their order.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Applied {
    /// One for each rule that was looked at.
    pub outcomes: Vec<Outcome>,
}

impl Applied {
    /// The paths that were written, or would be by a dry run.
    pub fn written(&self) -> impl Iterator<Item = &str> {
        self.outcomes
            .iter()
            .filter(|outcome| matches!(outcome.action, Action::Created(_) | Action::Replaced(_)))
            .map(|outcome| outcome.path.as_str())
    }
}

/// What became of one rule.
#[derive(Debug)]
#[non_exhaustive]
pub struct Outcome {
    /// The rule's path, as the metadata has it.
    pub path: String,
    /// The rule's template.
    pub template: String,
    /// What was done, or would be by a dry run, and why.
    pub action: Action,
    /// After a dry run: what would change.
    pub change: Option<Change>,
}

/// What was done with a rule.
#[derive(Debug)]
#[non_exhaustive]
pub enum Action {
    /// The file was not there.
    Created(Target),
    /// The file was there with another content.
    Replaced(Target),
    /// The file was there with this very content.
    Unchanged(Target),
    /// The rule did not apply.
    Skipped(Skip),
    /// The rule failed, and its file is as it was.
    Failed(Error),
}

/// A file, as it is afterwards: with the host's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Target {
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
pub enum Skip {
    /// Its `when` does not name the trigger.
    Trigger(Trigger, Vec<String>),
    /// It is `create_only`, and something is there.
    CreateOnly,
}

/// The content of a file before and after.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Change {
    /// `None` if there was no file. Of a larger one the first `template_output` bytes.
    pub old: Option<Vec<u8>>,
    /// What the template gives.
    pub new: Vec<u8>,
}

impl Action {
    /// What was done, in one lower-case word.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Created(_) => "created",
            Self::Replaced(_) => "replaced",
            Self::Unchanged(_) => "unchanged",
            Self::Skipped(_) => "skipped",
            Self::Failed(_) => "failed",
        }
    }

    /// The file, unless the rule was skipped or failed.
    #[must_use]
    pub const fn target(&self) -> Option<Target> {
        match self {
            Self::Created(target) | Self::Replaced(target) | Self::Unchanged(target) => Some(*target),
            Self::Skipped(_) | Self::Failed(_) => None,
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Created(_) => f.write_str("there was no file"),
            Self::Replaced(_) => f.write_str("the content differed"),
            Self::Unchanged(_) => f.write_str("the content is the same"),
            Self::Skipped(skip) => write!(f, "{skip}"),
            Self::Failed(error) => write!(f, "{error}"),
        }
    }
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Trigger(trigger, when) if when.is_empty() => write!(f, "not at {trigger}, never at all"),
            Self::Trigger(trigger, when) => {
                write!(f, "not at {trigger}, only at {}", Escaped(when.join(", ").as_bytes()))
            }
            Self::CreateOnly => f.write_str("create_only, and the file is there"),
        }
    }
}

/// A rule failed. Tells what became of the others; turns into the plain [`Error`] by `?`.
#[derive(Debug)]
#[non_exhaustive]
pub struct ApplyFailed {
    /// The first failure: the rule, the reason, and what was written before it.
    pub error: Error,
    /// What became of the rules, up to the one that failed or, if that was asked for, of all.
    pub applied: Applied,
}

impl fmt::Display for ApplyFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for ApplyFailed {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&self.error)
    }
}

impl From<ApplyFailed> for Error {
    fn from(failed: ApplyFailed) -> Self {
        failed.error
    }
}
