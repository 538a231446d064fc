//! What programs did to a store, and whether the end is one that their answers allow: some order of
//! the calls, in which each one took effect at one moment between its begin and its end, explains all
//! answers and the end.

use std::collections::{BTreeMap, BTreeSet};

/// The images of a store with whether each is a cached one, and its aliases.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Model {
    pub(crate) images: BTreeMap<&'static str, bool>,
    pub(crate) aliases: BTreeMap<&'static str, &'static str>,
    /// The properties that edits have set.
    pub(crate) properties: BTreeSet<(&'static str, &'static str)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    /// The image `cached` comes as one of the cache.
    Import(&'static str, Option<&'static str>),
    /// Imports an image to stay, whether or not it is in the cache.
    Keep(&'static str),
    Delete(&'static str),
    /// Sets a property.
    Edit(&'static str, &'static str),
    Move(&'static str, &'static str),
    Read(&'static str),
    Prune(&'static str),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    Done,
    /// Nothing happened, for the image is there.
    Exists,
    /// Nothing happened, for the image is not there.
    Absent,
    /// It failed: whether it happened is not known.
    Failed(String),
}

/// A call with its answer, and the steps of the run between which it was made.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) call: Call,
    pub(crate) answer: Answer,
    pub(crate) begin: u64,
    pub(crate) end: u64,
}

impl Model {
    /// The state after a call took effect; `None` if the call can't have been answered so in this state.
    fn after(&self, call: Call, answer: &Answer) -> Option<Self> {
        let mut next = self.clone();
        let (Call::Import(tag, _)
        | Call::Keep(tag)
        | Call::Delete(tag)
        | Call::Edit(tag, _)
        | Call::Read(tag)
        | Call::Prune(tag)
        | Call::Move(_, tag)) = call;
        let there = self.images.get(tag).copied();
        // What the call needs to find, to take effect.
        let fits = match call {
            Call::Import(..) => there.is_none(),
            Call::Keep(_) => there != Some(false),
            Call::Prune(_) => there == Some(true),
            Call::Delete(_) | Call::Edit(..) | Call::Read(_) | Call::Move(..) => there.is_some(),
        };
        let is_import = matches!(call, Call::Import(..) | Call::Keep(_));
        match answer {
            Answer::Exists if is_import => return (!fits).then_some(next),
            Answer::Absent if !is_import => return (!fits).then_some(next),
            Answer::Exists | Answer::Absent => return None,
            Answer::Done | Answer::Failed(_) if !fits => return None,
            Answer::Done | Answer::Failed(_) => {}
        }
        match call {
            Call::Import(tag, alias) => {
                next.images.insert(tag, tag == "cached");
                next.aliases.extend(alias.map(|alias| (alias, tag)));
            }
            Call::Keep(tag) => _ = next.images.insert(tag, false),
            Call::Delete(tag) | Call::Prune(tag) => {
                next.images.remove(tag);
                next.aliases.retain(|_, target| *target != tag);
                next.properties.retain(|(of, _)| *of != tag);
            }
            Call::Edit(tag, key) => _ = next.properties.insert((tag, key)),
            Call::Move(alias, tag) => _ = next.aliases.insert(alias, tag),
            Call::Read(_) => {}
        }
        Some(next)
    }

    /// Whether some order of `calls` leads from this state to `end`.
    pub(crate) fn leads_to(&self, end: &Self, calls: &[Record]) -> bool {
        if calls.is_empty() {
            return self == end;
        }
        calls.iter().enumerate().any(|(index, record)| {
            // What ended before this began comes first.
            if calls.iter().any(|other| other.end < record.begin) {
                return false;
            }
            let mut rest = calls.to_vec();
            rest.remove(index);
            let happened = self.after(record.call, &record.answer).is_some_and(|next| next.leads_to(end, &rest));
            happened || matches!(record.answer, Answer::Failed(_)) && self.leads_to(end, &rest)
        })
    }
}

fn record(call: Call, answer: Answer, begin: u64, end: u64) -> Record {
    Record { call, answer, begin, end }
}

fn holding(images: &[&'static str]) -> Model {
    Model { images: images.iter().map(|tag| (*tag, false)).collect(), ..Model::default() }
}

#[test]
fn acknowledged_import_that_is_gone_is_found() {
    let calls = [record(Call::Import("a", None), Answer::Done, 0, 5)];
    assert!(Model::default().leads_to(&holding(&["a"]), &calls));
    assert!(!Model::default().leads_to(&Model::default(), &calls));
}

#[test]
fn failed_import_may_have_happened() {
    let calls = [record(Call::Import("a", None), Answer::Failed("lost".to_owned()), 0, 5)];
    assert!(Model::default().leads_to(&holding(&["a"]), &calls));
    assert!(Model::default().leads_to(&Model::default(), &calls));
}

#[test]
fn delete_after_the_import_wins() {
    let calls = [record(Call::Delete("a"), Answer::Done, 6, 9), record(Call::Import("a", None), Answer::Done, 0, 5)];
    assert!(Model::default().leads_to(&Model::default(), &calls));
    assert!(!Model::default().leads_to(&holding(&["a"]), &calls));
}

#[test]
fn two_imports_of_one_image_are_not_both_acknowledged() {
    let calls = [(); 2].map(|()| record(Call::Import("a", None), Answer::Done, 0, 5));
    assert!(!Model::default().leads_to(&holding(&["a"]), &calls));
}

#[test]
fn pruned_image_that_was_kept_is_found() {
    let cached = Model { images: [("cached", true)].into(), ..Model::default() };
    let calls = [record(Call::Keep("cached"), Answer::Done, 0, 5), record(Call::Prune("cached"), Answer::Done, 6, 9)];
    assert!(!cached.leads_to(&Model::default(), &calls));
}

#[test]
fn lost_edit_is_found() {
    let edit = |key| record(Call::Edit("a", key), Answer::Done, 0, 5);
    let end =
        |keys: &[&'static str]| Model { properties: keys.iter().map(|key| ("a", *key)).collect(), ..holding(&["a"]) };
    assert!(holding(&["a"]).leads_to(&end(&["k", "l"]), &[edit("k"), edit("l")]));
    assert!(!holding(&["a"]).leads_to(&end(&["k"]), &[edit("k"), edit("l")]));
}

#[test]
fn image_that_appears_by_itself_is_found() {
    assert!(!Model::default().leads_to(&holding(&["a"]), &[]));
}
