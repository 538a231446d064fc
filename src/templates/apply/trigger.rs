//! [`Trigger`]: the events at which templates are applied. [`DeferredTrigger`]: the one that waits
//! for the next start.
//!
//! | what happens | remembered | at the next start |
//! |---|---|---|
//! | made from an image | `create` | `create`, `start` |
//! | copied | `copy` | `copy`, `start` |
//! | renamed after it ran | `rename` | `rename`, `start` |
//! | made, then renamed before it ran | `create` | `create`, `start` |
//! | nothing | | `start` |
//!
//! A rule's `when` may name other events; nothing ever fires them.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// An event in an instance's life at which templates are applied.
///
/// Creating, copying and renaming do not write files at once: the instance may be of a kind whose
/// files are reachable only while it runs. The event is remembered ([`DeferredTrigger`]) and
/// applied at the next start, before `start` itself.
///
/// ```
/// use lxd_image::templates::Trigger;
///
/// assert_eq!("copy".parse::<Trigger>()?, Trigger::Copy);
/// assert_eq!(Trigger::Start.name(), "start");
/// # Ok::<(), lxd_image::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Trigger {
    /// The first start of an instance that was made from an image.
    Create,
    /// The first start of an instance that was copied from another one.
    Copy,
    /// The first start under a new name.
    Rename,
    /// Every start, after the trigger that was deferred.
    Start,
}

impl Trigger {
    /// All triggers.
    pub const ALL: [Self; 4] = [Self::Create, Self::Copy, Self::Rename, Self::Start];

    /// The name in a rule's `when`.
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

/// The trigger that an instance's next start owes. The first one remembered stays.
///
/// An instance that is renamed before it ever ran still gets `create`: LXD keeps one trigger in
/// `volatile.apply_template` and does not overwrite it.
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
    /// Remembers `trigger` for the next start, unless one is remembered already. `Start` is
    /// ignored: it happens at every start anyway.
    pub fn remember(&mut self, trigger: Trigger) {
        if trigger != Trigger::Start {
            self.0.get_or_insert(trigger);
        }
    }

    /// The remembered trigger, if any. A program that stores it between runs saves this.
    #[must_use]
    pub fn waiting(self) -> Option<Trigger> {
        self.0
    }

    /// The triggers to apply at a start, in order. Nothing is remembered afterwards.
    pub fn at_start(&mut self) -> impl Iterator<Item = Trigger> + use<> {
        self.0.take().into_iter().chain([Trigger::Start])
    }
}
