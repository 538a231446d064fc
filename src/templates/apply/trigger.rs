//! When templates are report: the four events, and the one that waits for the next start.
//! A rule's `when` may name others; nothing ever fires them.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// An event in an instance's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Trigger {
    /// The first start of an instance that was made from an image.
    Create,
    /// The first start of an instance that was made from another.
    Copy,
    /// The first start under a new name.
    Rename,
    /// Every start.
    Start,
}

impl Trigger {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Create, Self::Copy, Self::Rename, Self::Start];

    /// As `when` names it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Copy => "copy",
            Self::Rename => "rename",
            Self::Start => "start",
        }
    }
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Trigger {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|trigger| trigger.name() == text)
            .ok_or_else(|| Error::invalid(format!("`{text}` is no trigger: create, copy, rename or start")))
    }
}

/// The trigger that waits for an instance's next start. The first one stays: an instance that is renamed
/// before it ever ran is still to be created.
///
/// ```
/// use lxd_image::templates::{DeferredTrigger, Trigger};
///
/// let mut deferred = DeferredTrigger::default();
/// deferred.remember(Trigger::Create);
/// deferred.remember(Trigger::Rename);
/// assert_eq!(deferred.at_start().collect::<Vec<_>>(), [Trigger::Create, Trigger::Start]);
/// assert_eq!(deferred.at_start().collect::<Vec<_>>(), [Trigger::Start]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DeferredTrigger(Option<Trigger>);

impl DeferredTrigger {
    /// Keeps `trigger` for the next start, unless one waits already. `Start` needs no keeping.
    pub fn remember(&mut self, trigger: Trigger) {
        if trigger != Trigger::Start {
            self.0.get_or_insert(trigger);
        }
    }

    /// The one that waits.
    #[must_use]
    pub fn waiting(self) -> Option<Trigger> {
        self.0
    }

    /// What to apply at a start, in order; nothing waits afterwards.
    pub fn at_start(&mut self) -> impl Iterator<Item = Trigger> + use<> {
        self.0.take().into_iter().chain([Trigger::Start])
    }
}
