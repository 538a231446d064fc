//! Results on standard output: tables for people, and the same records as JSON, YAML, CSV or by a template.
//!
//! A verb builds [`Records`] once and [`show`] prints them in the format that `--format` selects. Text from images and
//! servers is untrusted: every format escapes what a terminal could interpret (control characters, bidirectional
//! overrides, zero-width characters). JSON and YAML use their own escapes, so that programs get the exact value back.
//!
//! ```text
//! --format        one record                    several records
//! table           indented lines                table with header and lines, as `lxc` draws it
//! compact         indented lines                table without lines
//! markdown        table of keys and values      table with header
//! csv             key and value per line        rows without header
//! json, yaml      an object                     a list of objects
//! '{{ key }}'     the template once             the template once per record
//! ```
//!
//! As with `lxc` and `incus`, `,noheader` behind table, compact and markdown leaves the header of a list out, and
//! `,header` behind csv adds one.
//!
//! Standard output is written in pieces that never block for longer than one poll, so that Ctrl-C works while a pager
//! or a slow pipe does not read.

use std::io::Write;
use std::str::FromStr;

use comfy_table::{ContentLineStyle, LineStyle, Table, TableStyle, presets};
use lxd_image::{Error, ErrorKind, Escaped, Result};
use rustix::event::PollFlags;
use rustix::io::Errno;
use serde_json::{Map, Value};

use crate::signals::{or_cancelled, wait_for};

/// The formats of `--format`.
///
/// Tables are for people. Programs read JSON, YAML, CSV or a template, whose keys for
/// images are those of the REST API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Format {
    /// Tables with lines, as `lxc` draws them; a single record as indented lines.
    Table,
    /// An object, or a list of objects.
    Json,
    /// The same as block YAML.
    Yaml,
    /// The cells of the table, without a header.
    Csv,
    /// The table without lines.
    Compact,
    /// A table in Markdown, as GitHub and others read it.
    Markdown,
    /// A list in a layout whose header is there or missing against the layout's default.
    List { layout: Layout, header: bool },
    /// A Jinja template, rendered once per record.
    Jinja(String),
}

/// The layouts of a list that have columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    Table,
    Compact,
    Markdown,
    Csv,
}

impl Layout {
    /// The layout with or without its header; the plain format where that is its default.
    fn with_header(self, header: bool) -> Format {
        match (self, header) {
            (Self::Table, true) => Format::Table,
            (Self::Compact, true) => Format::Compact,
            (Self::Markdown, true) => Format::Markdown,
            (Self::Csv, false) => Format::Csv,
            (layout, header) => Format::List { layout, header },
        }
    }
}

impl Format {
    /// Whether a list must be printed in one piece: its columns are as wide as the widest cell, or it has a header.
    pub(crate) fn needs_all_rows(&self) -> bool {
        matches!(self, Self::Compact | Self::Markdown | Self::List { .. })
    }

    /// A format with `,header` or `,noheader` behind it.
    fn of_words(format: &str, header: bool) -> std::result::Result<Self, String> {
        let layout = match format {
            "table" => Layout::Table,
            "compact" => Layout::Compact,
            "markdown" => Layout::Markdown,
            "csv" => Layout::Csv,
            "json" | "yaml" => return Err(format!("`{format}` has no header: write `{format}` alone")),
            other => return Err(unknown(other)),
        };
        Ok(layout.with_header(header))
    }
}

/// The sentence for a format that does not exist.
fn unknown(format: &str) -> String {
    format!(
        "unknown format `{format}`: table, json, yaml, csv, compact, markdown (with `,header` or `,noheader`), or a text \
         with {{{{ key }}}}"
    )
}

impl FromStr for Format {
    type Err = String;

    /// Parses the value of `--format`; a text with `{{` or `{%` is a template.
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        Ok(match text {
            "table" => Self::Table,
            "json" => Self::Json,
            "yaml" => Self::Yaml,
            "csv" => Self::Csv,
            "compact" => Self::Compact,
            "markdown" => Self::Markdown,
            template if template.contains("{{") || template.contains("{%") => Self::Jinja(template.to_owned()),
            other => match other.split_once(',') {
                Some((format, "header")) => Self::of_words(format, true)?,
                Some((format, "noheader")) => Self::of_words(format, false)?,
                _ => return Err(unknown(other)),
            },
        })
    }
}

/// Tables as `lxc` draws them.
const LXC: TableStyle = TableStyle::new()
    .top_border(LineStyle::new('+', '-', '+', '+'))
    .header_lines(ContentLineStyle::new('|', '|', '|'))
    .header_separator(LineStyle::new('+', '-', '+', '+'))
    .content_lines(ContentLineStyle::new('|', '|', '|'))
    .row_separator(LineStyle::new('+', '-', '+', '+'))
    .bottom_border(LineStyle::new('+', '-', '+', '+'));

/// The result of a verb, independent of the format: one record or a table of them.
pub(crate) enum Records<'a> {
    /// Key and value, in the order in which people read them.
    One(Map<String, Value>),
    /// The columns, then one object a row.
    Many(&'a [&'a str], Vec<Map<String, Value>>),
}

/// Writes a line of result.
pub(crate) fn line(text: &str) -> Result<()> {
    write(format!("{text}\n").as_bytes())
}

/// Writes bytes as they are. Only for texts that are results themselves, such as a template.
///
/// # Errors
/// `Cancelled`; `Io`, whose source is `BrokenPipe` where the reader has gone, which
/// [`Failure`](crate::failure::Failure) treats as success without a message.
pub(crate) fn write(bytes: &[u8]) -> Result<()> {
    let mut out = Stdout;
    out.write_all(bytes).and_then(|()| out.flush()).map_err(|error| or_cancelled(error, unwritable))
}

/// The error for standard output.
fn unwritable(error: std::io::Error) -> Error {
    Error::new(ErrorKind::Io, "standard output can't be written").with_source(error)
}

/// Standard output, unbuffered. A signal ends a wait for its reader; the write then fails with `Cancelled`.
///
/// The standard library's lock is not used: it blocks in write(2) and would restart it after a signal.
pub(crate) struct Stdout;

/// What a pipe that polls as writable accepts without blocking (PIPE_BUF of pipe(7) on Linux).
const PIPE_BUF: usize = 4096;

impl Write for Stdout {
    /// Writes at most [`PIPE_BUF`] bytes: a pipe that polls as writable takes that much without blocking (pipe(7)).
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let stdout = std::io::stdout();
        loop {
            wait_for(&stdout, PollFlags::OUT)?;
            match rustix::io::write(&stdout, &bytes[..bytes.len().min(PIPE_BUF)]) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                done => return Ok(done?),
            }
        }
    }

    /// Nothing is buffered.
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Shows one value: alone on a line, or by its name in the formats that have names.
pub(crate) fn value(name: &str, text: &str, format: &Format) -> Result<()> {
    match format {
        Format::Table | Format::Compact | Format::Csv => line(text),
        Format::Json | Format::Yaml | Format::Jinja(_) | Format::Markdown | Format::List { .. } => {
            let one = std::iter::once((name.to_owned(), Value::from(text)));
            show(Records::One(one.collect()), format)
        }
    }
}

/// Prints records in the selected format.
///
/// # Errors
/// `InvalidInput` for a template that cannot be rendered; those of [`write`].
pub(crate) fn show(facts: Records, format: &Format) -> Result<()> {
    let text = match format {
        Format::Json => json(&into_value(facts))? + "\n",
        Format::Yaml => to_yaml(&into_value(facts), 0),
        Format::Table | Format::Compact => table(facts, *format == Format::Compact, true),
        Format::Csv => csv(facts, false)?,
        Format::Markdown => markdown(facts, true),
        Format::List { .. } if matches!(facts, Records::One(_)) => {
            let sentence = "`header` and `noheader` are for lists, and this is a single record";
            return Err(Error::new(ErrorKind::InvalidInput, sentence));
        }
        Format::List { layout: Layout::Csv, header } => csv(facts, *header)?,
        Format::List { layout: Layout::Markdown, header } => markdown(facts, *header),
        Format::List { layout, header } => table(facts, *layout == Layout::Compact, *header),
        Format::Jinja(template) => jinja(facts, template)?,
    };
    write(text.as_bytes())
}

/// A value as indented JSON, with all characters escaped that a terminal could interpret.
pub(crate) fn json(value: &Value) -> Result<String> {
    Ok(terminal_safe(&serde_json::to_string_pretty(value).map_err(unexpected)?))
}

/// The error for a record that a format cannot express.
fn unexpected(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::Io, "the result can't be written in this format").with_source(error)
}

/// Records as one JSON value: an object, or a list of objects.
fn into_value(facts: Records) -> Value {
    match facts {
        Records::One(facts) => Value::Object(facts),
        Records::Many(_, rows) => Value::Array(rows.into_iter().map(Value::Object).collect()),
    }
}

/// A table as `lxc` draws it, or without lines for `compact`; a single record as indented lines.
fn table(facts: Records, compact: bool, header: bool) -> String {
    let mut table = Table::new();
    table.load_style(if compact { presets::NOTHING } else { LXC });
    match facts {
        Records::One(facts) => {
            let mut text = String::new();
            for (key, value) in facts {
                people(&mut text, &label(&key), &value, 0);
            }
            return text;
        }
        Records::Many(columns, rows) => {
            if header {
                table.set_header(columns.iter().map(|column| column.to_uppercase()));
            }
            // Without a header and without rows there is nothing that lines could be drawn around.
            if !header && rows.is_empty() {
                return String::new();
            }
            for row in rows {
                table.add_row(columns.iter().map(|column| cell(column, row.get(*column))));
            }
        }
    }
    format!("{table}\n")
}

/// `creation_date` as `Creation date`.
fn label(key: &str) -> String {
    let mut text = key.replace('_', " ");
    if let Some(first) = text.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    text
}

/// Appends key and value as `lxc image info` shows them: nested values indented below their key, empty ones as `none`.
fn people(text: &mut String, key: &str, value: &Value, depth: usize) {
    let indent = "    ".repeat(depth);
    match value {
        Value::Object(map) if !map.is_empty() => {
            text.push_str(&format!("{indent}{}:\n", escaped(key)));
            for (key, value) in map {
                people(text, key, value, depth + 1);
            }
        }
        Value::Array(list) if !list.is_empty() => {
            text.push_str(&format!("{indent}{}:\n", escaped(key)));
            for value in list {
                text.push_str(&format!("{indent}    - {}\n", plain(Some(value))));
            }
        }
        Value::Object(_) | Value::Array(_) => text.push_str(&format!("{indent}{}: none\n", escaped(key))),
        other => text.push_str(&format!("{indent}{}: {}\n", escaped(key), plain(Some(other)))),
    }
}

/// Escapes what a terminal could interpret. Backslashes stay: some names arrive here with their bytes escaped already,
/// and would be escaped twice.
fn escaped(text: &str) -> String {
    text.split('\\').map(|piece| Escaped(piece.as_bytes()).to_string()).collect::<Vec<_>>().join("\\")
}

/// A value as people read it: no quotes, `yes` and `no`, lists joined by commas.
fn plain(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => escaped(text),
        Some(Value::Bool(yes)) => (if *yes { "yes" } else { "no" }).to_owned(),
        Some(Value::Array(list)) => list.iter().map(|value| plain(Some(value))).collect::<Vec<_>>().join(", "),
        Some(other) => escaped(&other.to_string()),
    }
}

/// A table cell. Aliases stand one per line, so that people and CSV readers get each of them unchanged.
fn cell(column: &str, value: Option<&Value>) -> String {
    match value {
        Some(Value::Array(list)) if column == "aliases" => {
            list.iter().map(|value| plain(Some(value))).collect::<Vec<_>>().join("\n")
        }
        other => plain(other),
    }
}

/// A table in Markdown; a single record as a table of keys and values.
///
/// The columns are aligned for people who read the text as it is. A header must be there for Markdown to see a table:
/// without one the rows are for pasting below another's.
fn markdown(facts: Records, header: bool) -> String {
    let (head, rows): (Vec<String>, Vec<Vec<String>>) = match facts {
        Records::One(facts) => {
            let rows =
                facts.into_iter().map(|(key, value)| vec![in_markdown(&escaped(&key)), markdown_cell(&key, &value)]);
            (vec!["KEY".to_owned(), "VALUE".to_owned()], rows.collect())
        }
        Records::Many(columns, rows) => {
            let cells = |row: Map<String, Value>| {
                columns.iter().map(|column| markdown_cell(column, row.get(*column).unwrap_or(&Value::Null))).collect()
            };
            (columns.iter().map(|column| column.to_uppercase()).collect(), rows.into_iter().map(cells).collect())
        }
    };
    let widths: Vec<usize> = (0..head.len())
        .map(|at| {
            let cells = rows.iter().filter_map(|row| row.get(at)).chain(head.get(at).filter(|_| header));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0).max(3)
        })
        .collect();
    let line = |cells: &[String]| {
        let cells = cells.iter().zip(&widths).map(|(cell, width)| format!(" {cell:width$} |"));
        format!("|{}\n", cells.collect::<String>())
    };
    let mut text = String::new();
    if header {
        text.push_str(&line(&head));
        text.push_str(&format!("|{}\n", widths.iter().map(|width| "-".repeat(width + 2) + "|").collect::<String>()));
    }
    rows.iter().for_each(|row| text.push_str(&line(row)));
    text
}

/// A cell of a Markdown table: lines become `<br>`, since a row is one line of text.
fn markdown_cell(column: &str, value: &Value) -> String {
    cell(column, Some(value)).lines().map(in_markdown).collect::<Vec<_>>().join("<br>")
}

/// Text that neither ends its cell nor begins HTML of its own.
fn in_markdown(text: &str) -> String {
    text.replace('\\', "\\\\").replace('|', "\\|").replace('<', "&lt;")
}

/// Rows, by default without a header, as `lxc image list --format csv` prints them (RFC 4180 quoting); a single record as
/// key and value.
fn csv(facts: Records, header: bool) -> Result<String> {
    let mut writer = csv::WriterBuilder::new().from_writer(Vec::new());
    match facts {
        Records::One(facts) => {
            for (key, value) in facts {
                writer.write_record([escaped(&key), plain(Some(&value))]).map_err(unexpected)?;
            }
        }
        Records::Many(columns, rows) => {
            if header {
                writer.write_record(columns.iter().map(|column| column.to_uppercase())).map_err(unexpected)?;
            }
            for row in rows {
                writer.write_record(columns.iter().map(|column| cell(column, row.get(*column)))).map_err(unexpected)?;
            }
        }
    }
    let bytes = writer.into_inner().map_err(|error| unexpected(error.into_error()))?;
    String::from_utf8(bytes).map_err(unexpected)
}

/// Renders the template once per record, one line each. The template comes from the user, the values are untrusted; it
/// can neither read files nor include others, since the environment has no loader.
///
/// # Errors
/// `InvalidInput` for a template that cannot be parsed or rendered.
fn jinja(facts: Records, template: &str) -> Result<String> {
    let environment = minijinja::Environment::new();
    let rows = match facts {
        Records::One(facts) => vec![facts],
        Records::Many(_, rows) => rows,
    };
    let mut text = String::new();
    for row in rows {
        let line = environment
            .render_str(template, minijinja::value::Serde(&row))
            .map_err(|error| Error::new(ErrorKind::InvalidInput, format!("the format can't be used: {error:#}")))?;
        text.push_str(&line);
        text.push('\n');
    }
    Ok(text)
}

/// JSON values as block YAML.
///
/// Every string is quoted that some YAML version reads as another type (`no`, `1e3`, `~`): the output is input of
/// `edit`, and of other tools.
pub(crate) fn to_yaml(value: &Value, depth: usize) -> String {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(map) if !map.is_empty() => map
            .iter()
            .map(|(key, value)| match value {
                Value::Object(inner) if !inner.is_empty() => {
                    format!("{indent}{}:\n{}", yaml_text(key), to_yaml(value, depth + 1))
                }
                Value::Array(inner) if !inner.is_empty() => {
                    format!("{indent}{}:\n{}", yaml_text(key), to_yaml(value, depth))
                }
                other => format!("{indent}{}: {}\n", yaml_text(key), yaml_scalar(other)),
            })
            .collect(),
        Value::Array(list) if !list.is_empty() => list
            .iter()
            .map(|value| match value {
                Value::Object(inner) if !inner.is_empty() => {
                    let block = to_yaml(value, depth + 1);
                    format!("{indent}- {}", block.trim_start())
                }
                other => format!("{indent}- {}\n", yaml_scalar(other)),
            })
            .collect(),
        other => format!("{indent}{}\n", yaml_scalar(other)),
    }
}

/// A value on one line, empty collections in flow style.
fn yaml_scalar(value: &Value) -> String {
    match value {
        Value::String(text) => yaml_text(text),
        Value::Object(_) => "{}".to_owned(),
        Value::Array(_) => "[]".to_owned(),
        other => other.to_string(),
    }
}

/// A string, quoted unless it is a plain word that no YAML version reads as something else.
fn yaml_text(text: &str) -> String {
    let plain = text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/'))
        && !matches!(
            text.to_ascii_lowercase().as_str(),
            "y" | "n" | "yes" | "no" | "on" | "off" | "true" | "false" | "null"
        );
    // A quoted JSON string is a valid double-quoted YAML scalar, escapes included (YAML 1.2).
    if plain { text.to_owned() } else { terminal_safe(&Value::String(text.to_owned()).to_string()) }
}

/// JSON in which every character that a terminal could interpret is an escape.
///
/// JSON itself escapes control characters below U+0020 only. Outside of strings it consists of ASCII, so replacing
/// characters anywhere keeps its meaning.
fn terminal_safe(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for character in json.chars() {
        match character {
            '\u{7f}'..='\u{9f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{2069}'
            | '\u{feff}' => text.push_str(&format!("\\u{:04x}", u32::from(character))),
            other => text.push(other),
        }
    }
    text
}
