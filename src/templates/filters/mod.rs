//! The filters: one table of names, and a file for each kind.
//! A filter is a function of the value, its argument and what it may spend.

mod html;
mod links;
mod lists;
mod numbers;
mod strings;
mod tag_pattern;
mod truncate;

pub(crate) use html::escape;

use super::Dialect;
use super::engine_error::{EngineError, EngineResult};
use super::value::Value;

/// What a filter may know and spend beside its value.
pub(crate) struct FilterContext<'m> {
    pub(crate) dialect: Dialect,
    /// The most bytes that one value may have.
    pub(crate) cap: usize,
    /// Steps that are left, for filters whose time is not their output's length.
    pub(crate) steps: &'m mut u64,
}

impl FilterContext<'_> {
    pub(crate) fn too_large(&self) -> Box<EngineError> {
        EngineError::limit("template_output", self.cap as u64, "a value of the template")
    }

    /// Fails unless `length` more bytes are allowed in a value.
    pub(crate) fn fits(&self, length: usize) -> EngineResult<()> {
        if length > self.cap { Err(self.too_large()) } else { Ok(()) }
    }

    /// Pays for work that the lengths of values don't tell of.
    pub(crate) fn spend(&mut self, steps: usize) -> EngineResult<()> {
        let left = self.steps.checked_sub(steps as u64);
        *self.steps = left.unwrap_or(0);
        if left.is_some() { Ok(()) } else { Err(EngineError::limit("template_steps", 0, "the work of a filter")) }
    }
}

type Function = fn(&Value, &Value, &mut FilterContext<'_>) -> EngineResult<Value>;

/// A filter of the table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Filter(u8);

impl Filter {
    /// The filter of this name in this dialect.
    pub(crate) fn named(name: &[u8], dialect: Dialect) -> Option<Self> {
        let at = FILTERS.binary_search_by(|(known, _)| known.as_bytes().cmp(name)).ok()?;
        // The one name that pongo2 6 added.
        if name == b"e" && dialect == Dialect::Lxd {
            return None;
        }
        u8::try_from(at).ok().map(Self)
    }

    pub(crate) fn name(self) -> &'static str {
        FILTERS.get(usize::from(self.0)).map_or("", |(name, _)| name)
    }

    pub(crate) fn is_safe(self) -> bool {
        self.name() == "safe"
    }

    pub(crate) fn apply(self, value: &Value, argument: &Value, context: &mut FilterContext<'_>) -> EngineResult<Value> {
        match FILTERS.get(usize::from(self.0)) {
            Some((_, function)) => function(value, argument, context),
            None => Err(EngineError::wrong("no such filter")),
        }
    }
}

/// In the order of their names.
const FILTERS: &[(&str, Function)] = &[
    ("add", numbers::add),
    ("addslashes", strings::addslashes),
    ("capfirst", strings::capfirst),
    ("center", strings::center),
    ("cut", strings::cut),
    ("date", date),
    ("default", default),
    ("default_if_none", default_if_none),
    ("divisibleby", numbers::divisibleby),
    ("e", html::escape),
    ("escape", html::escape),
    ("escapejs", html::escapejs),
    ("first", lists::first),
    ("float", numbers::float),
    ("floatformat", numbers::floatformat),
    ("get_digit", numbers::get_digit),
    ("integer", numbers::integer),
    ("iriencode", links::iriencode),
    ("join", lists::join),
    ("last", lists::last),
    ("length", lists::length),
    ("length_is", lists::length_is),
    ("linebreaks", html::linebreaks),
    ("linebreaksbr", html::linebreaksbr),
    ("linenumbers", strings::linenumbers),
    ("ljust", strings::ljust),
    ("lower", strings::lower),
    ("make_list", lists::make_list),
    ("phone2numeric", strings::phone2numeric),
    ("pluralize", numbers::pluralize),
    ("random", lists::random),
    ("removetags", html::removetags),
    ("rjust", strings::rjust),
    ("safe", safe),
    ("slice", lists::slice),
    ("split", lists::split),
    ("stringformat", strings::stringformat),
    ("striptags", html::striptags),
    ("time", date),
    ("title", strings::title),
    ("truncatechars", truncate::truncatechars),
    ("truncatechars_html", truncate::truncatechars_html),
    ("truncatewords", truncate::truncatewords),
    ("truncatewords_html", truncate::truncatewords_html),
    ("upper", strings::upper),
    ("urlencode", links::urlencode),
    ("urlize", links::urlize),
    ("urlizetrunc", links::urlizetrunc),
    ("wordcount", strings::wordcount),
    ("wordwrap", strings::wordwrap),
    ("yesno", yesno),
];

/// The value as it is; that `safe` was there is known from the tree.
fn safe(value: &Value, _: &Value, _: &mut FilterContext<'_>) -> EngineResult<Value> {
    Ok(value.clone())
}

fn default(value: &Value, argument: &Value, _: &mut FilterContext<'_>) -> EngineResult<Value> {
    Ok(if value.truth() { value.clone() } else { argument.clone() })
}

fn default_if_none(value: &Value, argument: &Value, _: &mut FilterContext<'_>) -> EngineResult<Value> {
    Ok(if value.is_nil() { argument.clone() } else { value.clone() })
}

fn date(_: &Value, _: &Value, _: &mut FilterContext<'_>) -> EngineResult<Value> {
    Err(EngineError::wrong("this filter takes a time, and an image's context holds none"))
}

fn yesno(value: &Value, argument: &Value, _: &mut FilterContext<'_>) -> EngineResult<Value> {
    let text = argument.text();
    let mut choices: [&[u8]; 3] = [b"yes", b"no", b"maybe"];
    if !text.is_empty() {
        let given = super::go::runes::split(&text, b",");
        if !(2..=3).contains(&given.len()) {
            return Err(EngineError::wrong("`yesno` takes two or three words"));
        }
        for (choice, word) in choices.iter_mut().zip(given) {
            *choice = word;
        }
    }
    let index = if value.is_nil() { 2 } else { usize::from(!value.truth()) };
    Ok(Value::bytes(choices[index]))
}
