//! Filters of lists as the API has them: `properties.os eq "Debian" and not public eq false`.
//! Evaluated from left to right, as LXD does; a value is a pattern that the whole field matches,
//! without regard to case.
//!
//! # Grammar
//!
//! ```text
//! filter    = condition *( ("and" / "or") condition )
//! condition = *"not" field ("eq" / "ne") value
//! value     = word / quoted text; a regular expression if it has characters of one; alternatives if it has commas
//! ```
//!
//! `and` and `or` have the same precedence, as in LXD. There are no parentheses around conditions.
//!
//! # Limits
//!
//! Anonymous clients can filter, and a list has any number of images. So the length of a filter,
//! the number of its conditions and the number and size of its regular expressions are bounded. The
//! engine of the expressions takes time linear in the text, without the exponential cases of
//! others.

use std::str::FromStr;

use regex_lite::{Regex, RegexBuilder};
use serde_json::Value;

use crate::error::{Error, Result};

/// The longest filter in bytes.
const LONGEST: usize = 4 << 10;
/// The most conditions in one filter.
const MOST: usize = 32;
/// The most regular expressions in one filter. Each costs its size times the length of the text,
/// for each image.
const PATTERNS: usize = 4;
/// The largest compiled expression, in bytes of memory.
const LARGEST: usize = 4 << 10;
/// The longest text, in bytes, that an expression is compared with. Longer fields match only as a
/// whole.
const TEXT: usize = 256;

/// A parsed filter. Parse it by [`FromStr`].
#[derive(Debug)]
pub(super) struct Expression(Vec<Clause>);

/// One condition.
#[derive(Debug)]
struct Clause {
    /// Whether it is joined by `or` to the conditions before it.
    or: bool,
    /// Whether it holds for objects that it does not match: an odd number of `not` and `ne`.
    negated: bool,
    /// The path of the field, with dots.
    field: String,
    /// The value as it was written.
    value: String,
    /// The value as a regular expression, if it is one.
    pattern: Option<Regex>,
}

impl FromStr for Expression {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text.len() > LONGEST {
            return Err(Error::invalid(format!("a filter has at most {LONGEST} bytes")));
        }
        let mut words = words(text)?.into_iter().peekable();
        let mut clauses = Vec::new();
        let mut or = false;
        loop {
            let mut negated = false;
            while words.next_if(|word| word == "not").is_some() {
                negated = !negated;
            }
            let (Some(field), Some(operator), Some(value)) = (words.next(), words.next(), words.next()) else {
                return Err(Error::invalid("a filter is made of `field eq value`, joined by `and` and `or`"));
            };
            match operator.as_str() {
                "eq" => {}
                "ne" => negated = !negated,
                _ => return Err(Error::invalid("a filter compares with `eq` and `ne`")),
            }
            let pattern = pattern(&value)?;
            clauses.push(Clause { or, negated, field, value, pattern });
            if clauses.len() > MOST {
                return Err(Error::invalid(format!("a filter has at most {MOST} conditions")));
            }
            if clauses.iter().filter(|clause| clause.pattern.is_some()).count() > PATTERNS {
                return Err(Error::invalid(format!("a filter has at most {PATTERNS} patterns")));
            }
            or = match words.next().as_deref() {
                None => return Ok(Self(clauses)),
                Some("and") => false,
                Some("or") => true,
                Some(_) => return Err(Error::invalid("conditions of a filter are joined by `and` and `or`")),
            };
        }
    }
}

impl Expression {
    /// Whether it holds for an object.
    pub(super) fn holds(&self, object: &Value) -> bool {
        let mut holds = true;
        for clause in &self.0 {
            // What decides nothing any more is not looked at.
            if holds != clause.or {
                holds = clause.matches(object) != clause.negated;
            }
        }
        holds
    }
}

impl Clause {
    /// Whether the field has this value. A field that is missing or is an object matches nothing.
    fn matches(&self, object: &Value) -> bool {
        match field(object, &self.field) {
            Some(Value::String(text)) => {
                // A value with a dot, such as a version, is compared as text first, and as an
                // expression then.
                // Commas separate alternatives, as on Incus; a text may hold commas itself.
                text.eq_ignore_ascii_case(&self.value)
                    || self.value.split(',').any(|one| text.eq_ignore_ascii_case(one))
                    || text.len() <= TEXT && self.pattern.as_ref().is_some_and(|pattern| pattern.is_match(text))
            }
            Some(Value::Bool(yes)) => self.value.parse() == Ok(*yes),
            Some(Value::Number(number)) => number.to_string() == self.value,
            _ => false,
        }
    }
}

/// The value at a path of keys. A key may contain dots itself, as keys of properties do, so the
/// longest one is tried first.
fn field<'a>(object: &'a Value, path: &str) -> Option<&'a Value> {
    if let Some(value) = object.get(path) {
        return Some(value);
    }
    let (first, rest) = path.split_once('.')?;
    field(object.get(first)?, rest)
}

/// The value as a regular expression, if it has characters of one. A value that does not compile as an
/// expression is compared as text.
///
/// # Errors
/// `InvalidInput` for one that is too large.
fn pattern(value: &str) -> Result<Option<Regex>> {
    if !value.contains(['\\', '.', '+', '*', '?', '(', ')', '|', '[', ']', '{', '}', '^', '$']) {
        return Ok(None);
    }
    let whole = if value.contains(['^', '$']) { value.to_owned() } else { format!("^(?:{value})$") };
    let build = |size| RegexBuilder::new(&whole).case_insensitive(true).size_limit(size).build().ok();
    match build(LARGEST) {
        None if build(64 * LARGEST).is_some() => Err(Error::invalid("a pattern in the filter is too large")),
        pattern => Ok(pattern),
    }
}

/// Words between blanks; quotes hold blanks together.
fn words(text: &str) -> Result<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            ' ' => words.extend(word.take()),
            '"' | '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match characters.next() {
                        Some(end) if end == character => break,
                        Some(inside) => word.push(inside),
                        None => return Err(Error::invalid("a quote in a filter has no end")),
                    }
                }
            }
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn holds(filter: &str) -> bool {
        let object = json!({
            "public": true, "size": 7, "type": "container",
            "properties": {"os": "Debian", "release.title": "12 (bookworm)"},
        });
        filter.parse::<Expression>().expect("a filter").holds(&object)
    }

    #[test]
    fn conditions_are_joined_from_left_to_right() {
        for filter in [
            "properties.os eq Debian",
            "properties.os eq \"debian\" and public eq true",
            "properties.release.title eq '12 .bookworm.'",
            "size eq 7 and not public eq false",
            "type ne virtual-machine",
            "public eq false and size eq 7 or properties.os eq deb.*",
            "not not public eq true",
            "properties.os eq Ubuntu,debian",
        ] {
            assert!(holds(filter), "{filter}");
        }
        for filter in [
            "properties.os eq Deb,Ubuntu",
            "properties.os eq Deb",
            "nothing eq 1",
            "size eq 8",
            "properties eq Debian",
            "public ne true",
        ] {
            assert!(!holds(filter), "{filter}");
        }
    }

    #[test]
    fn what_is_no_filter_is_refused() {
        for filter in ["public", "public eq", "public is true", "a eq b xor c eq d", "a eq \"b", "a eq b and", "not"] {
            assert!(filter.parse::<Expression>().is_err(), "{filter}");
        }
        assert!("a eq b and ".repeat(100).parse::<Expression>().is_err());
        assert!("a eq ([^~]?){600}".parse::<Expression>().is_err(), "a pattern that costs seconds");
        assert!(format!("{} a eq b", "a eq b.* or ".repeat(5)).parse::<Expression>().is_err(), "too many patterns");
        assert!(
            format!("a eq {}", "(".repeat(3000)).parse::<Expression>().is_ok_and(|filter| !filter.holds(&json!({})))
        );
    }
}
