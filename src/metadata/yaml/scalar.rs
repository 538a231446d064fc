//! One scalar: its text, whether it was quoted, its tag, and what LXD's YAML reader takes it for.
//!
//! The rules are those of Go's `yaml.v2` (`resolve.go`, `decode.go`), a mixture of YAML 1.1 and
//! 1.2. What a scalar means depends on the field that it is read into:
//!
//! | written | text field | boolean field | integer field |
//! |---|---|---|---|
//! | `12.10` | `12.10` | error | 12 |
//! | `yes`, `on`, `y` | as written | true | error |
//! | `"yes"` | `yes` | error | error |
//! | `012`, `0o12`, `0xa` | as written | error | 10 |
//! | `1_000` | as written | error | 1000 |
//! | `~`, `null`, nothing | empty | unset | 0 |
//! | `2024-01-01` | as written | error | error |
//! | `!!binary YQ==` | `a` | error | error |
//!
//! A scalar is therefore kept as text and converted only when a field asks for it.

use std::borrow::Cow;

use super::number;

/// The tags for scalars that LXD knows. Others are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ScalarTag {
    Binary,
    Bool,
    Float,
    Int,
    Null,
    Str,
    Timestamp,
    Merge,
}

impl ScalarTag {
    /// The tag, or `None` if it is unknown.
    pub(super) fn of(tag: &granit_parser::Tag) -> Option<Self> {
        if matches!(tag.parts(), ("" | "!", "!") | ("!", "")) {
            // The "non-specific" tag: a string, whatever it looks like.
            return Some(Self::Str);
        }
        Some(match tag.suffix_in_namespace("tag:yaml.org,2002:")?.as_ref() {
            "binary" => Self::Binary,
            "bool" => Self::Bool,
            "float" => Self::Float,
            "int" => Self::Int,
            "null" => Self::Null,
            "str" => Self::Str,
            "timestamp" => Self::Timestamp,
            "merge" => Self::Merge,
            _ => return None,
        })
    }

    /// The tag's name behind `!!`.
    const fn name(self) -> &'static str {
        match self {
            Self::Binary => "binary",
            Self::Bool => "bool",
            Self::Float => "float",
            Self::Int => "int",
            Self::Null => "null",
            Self::Str => "str",
            Self::Timestamp => "timestamp",
            Self::Merge => "merge",
        }
    }
}

/// A scalar in a normal form: writing and reading it again gives an equal one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Scalar {
    text: String,
    /// Stands without quotes, and would be another value with them, to some reader.
    plain: bool,
    tag: Option<ScalarTag>,
}

impl Scalar {
    /// Brings a scalar into normal form, in which quotes that change nothing are gone.
    pub(super) fn new(text: Cow<'_, str>, plain: bool, tag: Option<ScalarTag>) -> Self {
        match tag {
            // A string needs no tag, only its quotes.
            Some(ScalarTag::Str) => return Self { text: text.into_owned(), plain: false, tag: None },
            Some(ScalarTag::Null) if is_null_word(&text) => {
                return Self { text: "~".to_owned(), plain: true, tag: None };
            }
            None if plain && text.is_empty() => return Self { text: "~".to_owned(), plain: true, tag: None },
            _ => {}
        }
        // Remember quoting only where it matters. Other text is a string either way, and must be
        // equal either way.
        let plain = plain && tag.is_none() && is_plain(&text) && !is_plain_string(&text);
        Self { text: text.into_owned(), plain, tag }
    }

    /// The text as written.
    pub(super) fn raw(&self) -> &str {
        &self.text
    }

    /// Whether it must be written without quotes.
    pub(super) const fn is_plain(&self) -> bool {
        self.plain
    }

    /// The tag to write, if any.
    pub(super) fn tag_name(&self) -> Option<&'static str> {
        self.tag.map(ScalarTag::name)
    }

    /// Whether it is the merge key `<<`, unquoted or tagged.
    pub(super) fn is_merge(&self) -> bool {
        self.text == "<<" && (self.plain || self.tag == Some(ScalarTag::Merge))
    }

    /// Whether it is null.
    pub(in super::super) fn is_null(&self) -> bool {
        self.plain && is_null_word(&self.text)
    }

    /// The value of a text field: the text as written, empty for null. Fails if the text does not
    /// fit its tag.
    pub(in super::super) fn text(&self) -> Result<Cow<'_, str>, String> {
        let fits = match self.tag {
            None if self.is_null() => return Ok(Cow::Borrowed("")),
            None | Some(ScalarTag::Str | ScalarTag::Timestamp) => true,
            Some(ScalarTag::Binary) => {
                let bytes = decode_base64(&self.text).ok_or("the text is not valid base64")?;
                let text = String::from_utf8(bytes).map_err(|_| "binary data is not UTF-8")?;
                return Ok(Cow::Owned(text));
            }
            Some(ScalarTag::Bool) => bool_word(&self.text).is_some(),
            Some(ScalarTag::Int) => number::is_integer(&self.text),
            Some(ScalarTag::Float) => number::is_number(&self.text),
            Some(ScalarTag::Null | ScalarTag::Merge) => false,
        };
        if fits {
            return Ok(Cow::Borrowed(&self.text));
        }
        Err(format!("the text does not fit the tag !!{}", self.tag.map_or("str", ScalarTag::name)))
    }

    /// The value of a boolean field, `None` if it is not one. Quoted text never is.
    pub(in super::super) fn boolean(&self) -> Option<bool> {
        if self.plain || self.tag == Some(ScalarTag::Bool) { bool_word(&self.text) } else { None }
    }

    /// The value of an integer field, `None` if it is not one. Fractions are cut, as `yaml.v2`
    /// does.
    pub(in super::super) fn integer(&self) -> Option<i64> {
        match self.tag {
            None if self.plain => number::integer(&self.text),
            Some(ScalarTag::Int) if number::is_integer(&self.text) => number::integer(&self.text),
            Some(ScalarTag::Float) => number::integer(&self.text),
            _ => None,
        }
    }
}

/// The spellings of null.
fn is_null_word(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

/// YAML 1.1's booleans, in the cases that `yaml.v2` accepts.
fn bool_word(text: &str) -> Option<bool> {
    match text {
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => Some(true),
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => Some(false),
        _ => None,
    }
}

/// Whether a text can stand without quotes as a value in block style. Narrower than YAML is: it
/// needs to hold for everything that some reader takes for a number, a boolean, null or a date.
pub(super) fn is_plain(text: &str) -> bool {
    let mut characters = text.chars().peekable();
    let Some(first) = characters.next() else { return false };
    let starts = match first {
        '-' => characters.peek().is_some_and(|next| *next != ' '),
        '_' | '.' | '/' | '+' | '(' | '~' | '=' | '<' => true,
        other => other.is_alphanumeric(),
    };
    // A document marker would begin or end a document at the start of a line.
    if !starts || text.ends_with(' ') || text.starts_with("---") || text.starts_with("...") {
        return false;
    }
    while let Some(character) = characters.next() {
        let good = match character {
            ':' => characters.peek().is_some_and(|next| *next != ' '),
            ' ' | '_' | '.' | '/' | '+' | '@' | '(' | ')' | '=' | ';' | '~' | '-' | '<' => true,
            other => other.is_alphanumeric(),
        };
        if !good {
            return false;
        }
    }
    true
}

/// Whether every reader, of YAML 1.1 or 1.2, takes the unquoted text for a string.
pub(super) fn is_plain_string(text: &str) -> bool {
    const WORDS: &[&str] = &["y", "n", "yes", "no", "true", "false", "on", "off", "null", "nan", "inf"];
    text.starts_with(|first: char| first.is_alphabetic() || first == '/')
        && is_plain(text)
        && !WORDS.iter().any(|word| text.eq_ignore_ascii_case(word))
}

/// Decodes standard base64 with padding. White space between the digits is skipped, as in
/// `!!binary`.
pub(crate) fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut digits, mut padding) = (0_u32, 0_u32, 0_u32);
    for byte in text.bytes() {
        let value = match byte {
            b' ' | b'\t' | b'\r' | b'\n' => continue,
            b'=' => {
                padding += 1;
                continue;
            }
            _ if padding > 0 => return None,
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        digits += 1;
        if digits == 4 {
            out.extend_from_slice(&bits.to_be_bytes()[1..]);
            (bits, digits) = (0, 0);
        }
    }
    match (digits, padding) {
        (0, 0) => {}
        (2, 2) => out.push(bits.to_be_bytes()[3] >> 4 | bits.to_be_bytes()[2] << 4),
        (3, 1) => out.extend_from_slice(&(bits >> 2).to_be_bytes()[2..]),
        _ => return None,
    }
    Some(out)
}
