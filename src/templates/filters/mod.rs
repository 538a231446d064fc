//! The filters (`filters_builtin.go`): one table of names, and a file for each kind.
//!
//! | file | filters |
//! |---|---|
//! | `html` | `escape` `e` `escapejs` `linebreaks` `linebreaksbr` `striptags` `removetags` (with `tag_pattern`) |
//! | `links` | `urlencode` `iriencode` `urlize` `urlizetrunc` |
//! | `lists` | `first` `last` `random` `length` `length_is` `join` `make_list` `split` `slice` |
//! | `numbers` | `add` `divisibleby` `float` `integer` `floatformat` `get_digit` `pluralize` |
//! | `strings` | case, padding, words, `cut`, `stringformat`, `linenumbers`, `phone2numeric` |
//! | `truncate` | `truncatechars` `truncatewords` and their `_html` forms |
//! | here | `default` `default_if_none` `yesno` `safe` `date` `time` |
//!
//! A filter is a function of its value, its argument (nil if there is none) and a [`FilterContext`]
//! with the dialect and the budget. A filter that takes no argument ignores one. Filters that can
//! produce more than they read check the size before they build the result.
//!
//! To add one: write the function, add it to the table in the order of names, and add cases with
//! pongo2's answers to `tests/data/templates`.

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

/// What a filter may use beside value and argument.
pub(crate) struct FilterContext<'m> {
    pub(crate) dialect: Dialect,
    /// The largest value in bytes.
    pub(crate) cap: usize,
    /// Steps that are left, for filters whose work is not proportional to their output.
    pub(crate) steps: &'m mut u64,
}

impl FilterContext<'_> {
    /// Creates the error for a value above the bound.
    pub(crate) fn too_large(&self) -> Box<EngineError> {
        EngineError::limit("template_output", self.cap as u64, "a value of the template")
    }

    /// Fails if a value of `length` bytes is too large.
    pub(crate) fn fits(&self, length: usize) -> EngineResult<()> {
        if length > self.cap { Err(self.too_large()) } else { Ok(()) }
    }

    /// Pays for work that the sizes of input and output do not show.
    pub(crate) fn spend(&mut self, steps: usize) -> EngineResult<()> {
        let left = self.steps.checked_sub(steps as u64);
        *self.steps = left.unwrap_or(0);
        if left.is_some() { Ok(()) } else { Err(EngineError::limit("template_steps", 0, "the work of a filter")) }
    }
}

/// The signature of a filter: value, argument, context.
type Function = fn(&Value, &Value, &mut FilterContext<'_>) -> EngineResult<Value>;

/// A filter, as an index into the table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Filter(u8);

impl Filter {
    /// The filter of this name in this dialect.
    pub(crate) fn named(name: &[u8], dialect: Dialect) -> Option<Self> {
        let at = FILTERS.binary_search_by(|(known, _)| known.as_bytes().cmp(name)).ok()?;
        // The only name that pongo2 6 has and pongo2 4 has not.
        if name == b"e" && dialect == Dialect::Lxd {
            return None;
        }
        u8::try_from(at).ok().map(Self)
    }

    /// The filter's name.
    pub(crate) fn name(self) -> &'static str {
        FILTERS.get(usize::from(self.0)).map_or("", |(name, _)| name)
    }

    /// Whether this is `safe`, which exempts an output from autoescape.
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

/// The table, sorted by name for binary search.
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

/// `safe`: returns the value. Its effect is decided from the syntax tree, see `Expr::is_safe`.
fn safe(value: &Value, _: &Value, _: &mut FilterContext<'_>) -> EngineResult<Value> {
    Ok(value.clone())
}

/// `default`: the argument if the value is false. Keeps the type of the value.
fn default(value: &Value, argument: &Value, _: &mut FilterContext<'_>) -> EngineResult<Value> {
    Ok(if value.truth() { value.clone() } else { argument.clone() })
}

/// `default_if_none`: the argument if the value is nil.
fn default_if_none(value: &Value, argument: &Value, _: &mut FilterContext<'_>) -> EngineResult<Value> {
    Ok(if value.is_nil() { argument.clone() } else { value.clone() })
}

/// `date` and `time`: pongo2 requires a `time.Time`, which no image's context contains.
fn date(_: &Value, _: &Value, _: &mut FilterContext<'_>) -> EngineResult<Value> {
    Err(EngineError::wrong("this filter takes a time, and an image's context holds none"))
}

/// `yesno`: one of two or three words, for true, false and nil. With two words nil is still
/// `maybe`.
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
