//! `for` (`tags_for.go`): over lists, maps and the bytes of a text. Numbers and other values have
//! no items.
//!
//! One scope serves all rounds, so a variable that is `set` in one round is seen in the next and
//! gone after the loop.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::super::engine_error::{EngineError, EngineResult};
use super::super::parser::FORLOOP;
use super::super::tree::ForTag;
use super::super::value::{GoValue, List, LoopInfo, Value};
use super::{Renderer, weight};

impl<'t> Renderer<'t> {
    /// Runs a loop, with `forloop` in a new scope.
    pub(super) fn for_tag(&mut self, tag: &'t ForTag) -> EngineResult<()> {
        // pongo2 asserts the type of an outer `forloop` and panics if a template has replaced it.
        let parent = match self.private(FORLOOP)? {
            None => None,
            Some(slot) => match slot.value.data {
                GoValue::Loop(info) if !slot.wrapped => Some(info),
                GoValue::Nil | GoValue::NoLoop if !slot.wrapped => None,
                _ => return Err(EngineError::wrong("`forloop` has been set to something else")),
            },
        };
        // The scope opens before the expression is evaluated: `forloop` in it is the new loop's
        // own.
        let before = self.open(self.scope);
        let info = Arc::new(LoopInfo::new(parent));
        self.assign_raw(FORLOOP, GoValue::Loop(info.clone()).into());
        let over = self.expr(&tag.over)?;
        self.rounds(tag, &info, &over)?;
        self.close(before);
        Ok(())
    }

    /// Chooses how to iterate by the type of the value (`Value.IterateOrder`).
    fn rounds(&mut self, tag: &'t ForTag, info: &LoopInfo, over: &Value) -> EngineResult<()> {
        match &over.data {
            GoValue::List(list) if !list.items.is_empty() => self.list(tag, info, list),
            GoValue::Map(map) if !map.entries.is_empty() => {
                // Go iterates maps in random order unless `sorted` is given. The order of the keys
                // is one of the possible orders, and repeatable.
                let backwards = tag.sorted && tag.reversed;
                let count = map.entries.len();
                for index in 0..count {
                    let entry = if backwards { count - 1 - index } else { index };
                    let Some((key, value)) = map.entries.get(entry) else { break };
                    self.round(tag, info, (index, count), Value::bytes(key.clone()), Some(value.clone()))?;
                }
                Ok(())
            }
            GoValue::Str(_) | GoValue::Trigger(_) if tag.sorted => Err(EngineError::wrong("a string can't be sorted")),
            GoValue::Str(text) | GoValue::Trigger(text) if !text.is_empty() => {
                let named = matches!(over.data, GoValue::Trigger(_));
                for position in 0..text.len() {
                    let index = if tag.reversed { text.len() - 1 - position } else { position };
                    // pongo2 indexes the Go string, which gives bytes, while `length` and `item`
                    // count runes.
                    let byte: Arc<[u8]> = text.get(index..=index).unwrap_or(&[]).into();
                    let data = if named { GoValue::Trigger(byte) } else { GoValue::Str(byte) };
                    self.round(tag, info, (index, text.len()), data.into(), None)?;
                }
                Ok(())
            }
            _ => match &tag.empty {
                Some(nodes) => self.nodes(nodes),
                None => Ok(()),
            },
        }
    }

    /// Iterates a list, sorted if that is asked for.
    fn list(&mut self, tag: &'t ForTag, info: &LoopInfo, list: &List) -> EngineResult<()> {
        let count = list.items.len();
        if !(tag.sorted && list.strings) {
            for index in 0..count {
                // `sorted` compares through `valuesList`, to which items of other types are all
                // equal: the order stays, and `reversed` is lost with it.
                let item = if tag.reversed && !tag.sorted { count - 1 - index } else { index };
                let value = list.items.get(item).cloned().unwrap_or(Value::NIL);
                self.round(tag, info, (index, count), value, None)?;
            }
            return Ok(());
        }
        let total: usize = list.items.iter().map(weight).sum();
        // A sort compares each item about log2(count) times.
        self.spend((total + count * 16).saturating_mul(count.ilog2() as usize + 1))?;
        let mut items: Vec<_> = list.items.iter().map(|item| (item.text(), item)).collect();
        items.sort_by(|(a, _), (b, _)| a.cmp(b));
        if tag.reversed {
            items.reverse();
        }
        for (index, (_, item)) in items.into_iter().enumerate() {
            self.round(tag, info, (index, count), item.clone(), None)?;
        }
        Ok(())
    }

    /// Runs the body once. A loop variable is not safe from autoescape, whatever the item was.
    fn round(
        &mut self,
        tag: &'t ForTag,
        info: &LoopInfo,
        (index, count): (usize, usize),
        key: Value,
        value: Option<Value>,
    ) -> EngineResult<()> {
        // A second name over a list or a text is nil, so it is not assigned at all.
        self.assign(tag.key, Value { safe: false, ..key });
        if let (Some(name), Some(value)) = (tag.value, value) {
            self.assign(name, Value { safe: false, ..value });
        }
        info.counter.store(index + 1, Ordering::Relaxed);
        info.counter0.store(index, Ordering::Relaxed);
        info.revcounter.store(count - index, Ordering::Relaxed);
        info.revcounter0.store(count - index - 1, Ordering::Relaxed);
        // Both flags change only once (`tags_for.go`). It shows in a reversed text, whose indexes
        // go down.
        if index == 1 {
            info.first.store(false, Ordering::Relaxed);
        }
        if index + 1 == count {
            info.last.store(true, Ordering::Relaxed);
        }
        self.spend(0)?;
        self.nodes(&tag.body)
    }
}
