//! `fmt.Sprintf` with one argument, for the filters `stringformat` and `rjust` (`fmt/print.go`).
//!
//! All verbs, flags and error texts are Go's, since they end up in the output:
//!
//! | format and argument | output |
//! |---|---|
//! | `%.2f`, 3.14159 | `3.14` |
//! | `%d`, a text | `%!d(string=x)` |
//! | `%s %s`, one argument | `x %!s(MISSING)` |
//! | no verb | `%!(EXTRA string=x)` behind the text |
//! | `%` at the end | `%!(NOVERB)` |
//! | `%[2]d` | `%!d(BADINDEX)` |
//!
//! The output is bounded while it is written: a width may be a million and occur a thousand times
//! in one format.

use super::super::value::{GoValue, Value};
use super::runes;

/// The largest width and precision; Go reads larger ones as missing (`tooLarge` in `fmt/print.go`).
const MAX_WIDTH: usize = 1_000_000;

/// `fmt.Sprintf(format, argument)`, or `None` if more than `cap` bytes would come out.
pub(crate) fn sprintf(format: &[u8], argument: &Value, cap: usize) -> Option<Vec<u8>> {
    let mut printer = Printer { out: Vec::new(), cap, over: false, flags: Flags::default() };
    printer.run(format, argument);
    (!printer.over).then_some(printer.out)
}

/// The flags of one verb. `plus_v` and `sharp_v` replace `plus` and `sharp` under `%v`.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Flags {
    pub(super) width: Option<usize>,
    pub(super) precision: Option<usize>,
    pub(super) minus: bool,
    pub(super) plus: bool,
    pub(super) sharp: bool,
    pub(super) space: bool,
    pub(super) zero: bool,
    pub(super) plus_v: bool,
    pub(super) sharp_v: bool,
}

/// The output so far, its bound, and the flags of the present verb.
pub(super) struct Printer {
    out: Vec<u8>,
    pub(super) cap: usize,
    /// Set once the output would exceed `cap`. Nothing is written after that.
    pub(super) over: bool,
    pub(super) flags: Flags,
}

/// Reads decimal digits (`fmt.parsenum`). A number that is too large consumes the rest of the
/// format.
fn parse_number(format: &[u8], start: usize, end: usize) -> (Option<usize>, usize) {
    let (mut at, mut value) = (start, None);
    while at < end && format[at].is_ascii_digit() {
        let so_far = value.unwrap_or(0);
        if so_far > MAX_WIDTH {
            return (None, end);
        }
        value = Some(so_far * 10 + usize::from(format[at] - b'0'));
        at += 1;
    }
    (value, at)
}

/// A position in a format, and what Go tracks about the arguments.
struct FormatCursor {
    at: usize,
    /// The number of the next argument. The only one is number 0.
    argument: usize,
    /// Whether the format has used an explicit index, which switches the check for extra arguments
    /// off.
    reordered: bool,
    /// Whether the last explicit index was valid.
    good: bool,
}

impl FormatCursor {
    /// Reads an explicit index, `[n]` (`pp.argNumber`), and returns whether one was found.
    fn index(&mut self, format: &[u8]) -> bool {
        if format.get(self.at) != Some(&b'[') {
            return false;
        }
        self.reordered = true;
        let rest = &format[self.at..];
        let close = if rest.len() < 3 { None } else { rest.iter().position(|&byte| byte == b']') };
        let Some(close) = close else {
            self.good = false;
            self.at += 1;
            return false;
        };
        let (value, end) = parse_number(rest, 1, close);
        self.at += close + 1;
        let ok = value.is_some() && end == close;
        if ok && value == Some(1) {
            self.argument = 0;
            return true;
        }
        self.good = false;
        ok
    }

    /// Takes the argument as the number for a `*` (`fmt.intFromArg`).
    fn star(&mut self, argument: &Value) -> Option<i64> {
        if self.argument > 0 {
            return None;
        }
        self.argument += 1;
        let number = argument.is_integer().then(|| argument.integer())?;
        (number.unsigned_abs() <= MAX_WIDTH as u64).then_some(number)
    }
}

impl Printer {
    /// Appends bytes, or marks the output as too large.
    pub(super) fn write(&mut self, bytes: &[u8]) {
        if self.over || self.out.len() + bytes.len() > self.cap {
            self.over = true;
        } else {
            self.out.extend_from_slice(bytes);
        }
    }

    /// Appends fill characters: zeros under the flag `0`, else spaces.
    pub(super) fn padding(&mut self, count: usize) {
        if self.over || count > self.cap.saturating_sub(self.out.len()) {
            self.over = true;
        } else {
            let fill = if self.flags.zero { b'0' } else { b' ' };
            self.out.resize(self.out.len() + count, fill);
        }
    }

    /// Appends bytes, padded to the width in runes (`fmt.pad`).
    pub(super) fn pad(&mut self, bytes: &[u8]) {
        let missing = self.flags.width.map_or(0, |width| width.saturating_sub(runes::count(bytes)));
        if !self.flags.minus {
            self.padding(missing);
        }
        self.write(bytes);
        if self.flags.minus {
            self.padding(missing);
        }
    }

    /// Formats the whole text (`pp.doPrintf`).
    fn run(&mut self, format: &[u8], argument: &Value) {
        let mut state = FormatCursor { at: 0, argument: 0, reordered: false, good: true };
        while state.at < format.len() && !self.over {
            state.good = true;
            let percent = format[state.at..].iter().position(|&byte| byte == b'%');
            let stop = percent.map_or(format.len(), |offset| state.at + offset);
            self.write(&format[state.at..stop]);
            state.at = stop;
            if percent.is_none() {
                break;
            }
            state.at += 1;
            if !self.verb(format, argument, &mut state) {
                break;
            }
        }
        // Go reports an argument that no verb has used.
        if !state.reordered && state.argument == 0 {
            self.flags = Flags::default();
            self.write(b"%!(EXTRA ");
            if !matches!(argument.data, GoValue::Nil) {
                self.write(argument.type_name().as_bytes());
                self.write(b"=");
            }
            self.argument(argument, 'v');
            self.write(b")");
        }
    }

    /// Reads the flags in front of width and precision. `-` switches `0` off.
    fn read_flags(&mut self, format: &[u8], state: &mut FormatCursor) {
        self.flags = Flags::default();
        while let Some(byte) = format.get(state.at) {
            match byte {
                b'#' => self.flags.sharp = true,
                // `-` wins over `0` in any order: "only allow zero padding to the left" in
                // `doPrintf`.
                b'0' => self.flags.zero = !self.flags.minus,
                b'+' => self.flags.plus = true,
                b'-' => {
                    self.flags.minus = true;
                    self.flags.zero = false;
                }
                b' ' => self.flags.space = true,
                _ => break,
            }
            state.at += 1;
        }
    }

    /// Formats one verb. Returns `false` if the format ends in it.
    fn verb(&mut self, format: &[u8], argument: &Value, state: &mut FormatCursor) -> bool {
        self.read_flags(format, state);
        let mut after_index = state.index(format);
        if format.get(state.at) == Some(&b'*') {
            state.at += 1;
            match state.star(argument) {
                Some(width) => {
                    self.flags.width = usize::try_from(width.unsigned_abs()).ok();
                    if width < 0 {
                        self.flags.minus = true;
                        self.flags.zero = false;
                    }
                }
                None => self.write(b"%!(BADWIDTH)"),
            }
            after_index = false;
        } else {
            (self.flags.width, state.at) = parse_number(format, state.at, format.len());
            if after_index && self.flags.width.is_some() {
                state.good = false;
            }
        }
        if state.at + 1 < format.len() && format[state.at] == b'.' {
            state.at += 1;
            if after_index {
                state.good = false;
            }
            after_index = state.index(format);
            if format.get(state.at) == Some(&b'*') {
                state.at += 1;
                self.flags.precision = state.star(argument).and_then(|number| usize::try_from(number).ok());
                if self.flags.precision.is_none() {
                    self.write(b"%!(BADPREC)");
                }
                after_index = false;
            } else {
                let (precision, end) = parse_number(format, state.at, format.len());
                self.flags.precision = Some(precision.unwrap_or(0));
                state.at = end;
            }
        }
        if !after_index {
            state.index(format);
        }
        if state.at >= format.len() {
            self.write(b"%!(NOVERB)");
            return false;
        }
        let (verb, width) = runes::decode(&format[state.at..]);
        state.at += width;
        if verb == '%' {
            self.write(b"%");
        } else if !state.good {
            self.error(verb, b"(BADINDEX)");
        } else if state.argument > 0 {
            self.error(verb, b"(MISSING)");
        } else {
            if verb == 'v' {
                self.flags.sharp_v = std::mem::take(&mut self.flags.sharp);
                self.flags.plus_v = std::mem::take(&mut self.flags.plus);
            }
            self.argument(argument, verb);
            state.argument += 1;
        }
        true
    }

    /// Appends Go's notation for a formatting error, `%!v(…)`.
    pub(super) fn error(&mut self, verb: char, what: &[u8]) {
        self.write(b"%!");
        self.write(&runes::string(verb));
        self.write(what);
    }
}
