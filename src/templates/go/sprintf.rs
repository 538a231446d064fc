//! `fmt.Sprintf` with one argument, for `stringformat` and `rjust`: verbs, flags and Go's error texts.
//! What it writes is bounded, for a width may be a million and stand there a thousand times.

use super::super::value::{GoValue, Value};
use super::runes;

/// Larger widths and precisions are no numbers to Go.
const MAX_WIDTH: usize = 1_000_000;

/// `fmt.Sprintf(format, argument)`, or `None` if more than `cap` bytes would come out.
pub(crate) fn sprintf(format: &[u8], argument: &Value, cap: usize) -> Option<Vec<u8>> {
    let mut printer = Printer { out: Vec::new(), cap, over: false, flags: Flags::default() };
    printer.run(format, argument);
    (!printer.over).then_some(printer.out)
}

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

/// What is printed, and the flags of the verb that is being printed.
pub(super) struct Printer {
    out: Vec<u8>,
    pub(super) cap: usize,
    pub(super) over: bool,
    pub(super) flags: Flags,
}

/// Reads digits; a number that is too large takes the rest of the format with it.
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

/// Where the reading of a format stands.
struct FormatCursor {
    at: usize,
    /// The next argument; there is one, number 0.
    argument: usize,
    reordered: bool,
    good: bool,
}

impl FormatCursor {
    /// Reads `[n]` and tells whether there was one.
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

    /// Takes the argument as the number that a `*` asks for.
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
    pub(super) fn write(&mut self, bytes: &[u8]) {
        if self.over || self.out.len() + bytes.len() > self.cap {
            self.over = true;
        } else {
            self.out.extend_from_slice(bytes);
        }
    }

    pub(super) fn padding(&mut self, count: usize) {
        if self.over || count > self.cap.saturating_sub(self.out.len()) {
            self.over = true;
        } else {
            let fill = if self.flags.zero { b'0' } else { b' ' };
            self.out.resize(self.out.len() + count, fill);
        }
    }

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

    fn read_flags(&mut self, format: &[u8], state: &mut FormatCursor) {
        self.flags = Flags::default();
        while let Some(byte) = format.get(state.at) {
            match byte {
                b'#' => self.flags.sharp = true,
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

    /// One verb; `false` ends the format.
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

    pub(super) fn error(&mut self, verb: char, what: &[u8]) {
        self.write(b"%!");
        self.write(&runes::string(verb));
        self.write(what);
    }
}
