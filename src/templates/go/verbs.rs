//! The verbs of `fmt.Sprintf`: how each Go type prints under each verb (`fmt/print.go`,
//! `fmt/format.go`).
//!
//! A verb that does not fit the type is no failure: the output says so, as Go's does.

use super::super::value::{GoValue, LoopInfo, Value};
use super::sprintf::Printer;
use super::{number, quote, runes};

impl Printer {
    /// Prints the argument under a verb (`pp.printArg`).
    pub(super) fn argument(&mut self, value: &Value, verb: char) {
        match (&value.data, verb) {
            // The only verbs for which `printArg` accepts an untyped nil.
            (GoValue::Nil, 'T' | 'v') => self.pad(b"<nil>"),
            (_, 'T') => self.text(value.type_name().as_bytes()),
            _ => self.value(value, verb, false),
        }
    }

    /// Prints that the verb does not fit, with type and value (`pp.badVerb`). The flags stay in
    /// force.
    fn bad_verb(&mut self, value: &Value, verb: char) {
        self.error(verb, b"(");
        if matches!(value.data, GoValue::Nil) {
            self.write(b"<nil>");
        } else {
            self.write(value.type_name().as_bytes());
            self.write(b"=");
            self.value(value, 'v', false);
        }
        self.write(b")");
    }

    /// Prints a value by its type (`pp.printValue`). `inner` is set inside a list or map.
    fn value(&mut self, value: &Value, verb: char, inner: bool) {
        if self.over {
            return;
        }
        match &value.data {
            GoValue::Nil if inner && verb == 'v' => {
                self.write(if self.flags.sharp_v { b"interface {}(nil)" } else { b"<nil>" });
            }
            // A nil inside a list or map prints like this under every verb.
            GoValue::Nil if inner => self.write(b"<nil>"),
            GoValue::Nil => self.bad_verb(value, verb),
            GoValue::NoLoop if verb == 'v' => self.pad(b"<nil>"),
            GoValue::NoLoop | GoValue::Block | GoValue::Function(_) | GoValue::Field(..) => self.bad_verb(value, verb),
            GoValue::Bool(truth) => match verb {
                't' | 'v' => self.pad(if *truth { b"true" } else { b"false" }),
                _ => self.bad_verb(value, verb),
            },
            GoValue::Int(number) => self.integer(value, number.unsigned_abs(), *number < 0, verb),
            // `%#v` prints a `uint8` in hexadecimal with prefix (`fmt.fmt0x64`).
            GoValue::Byte(number) if verb == 'v' && self.flags.sharp_v => {
                self.flags.sharp = true;
                self.digits(u64::from(*number), false, 16, verb, false);
                self.flags.sharp = false;
            }
            GoValue::Byte(number) => self.integer(value, u64::from(*number), false, verb),
            GoValue::Float(number) => self.float(value, *number, verb),
            GoValue::Str(text) | GoValue::Trigger(text) => self.string(value, text, verb),
            GoValue::List(list) => {
                let (open, separator, close): (&[u8], &[u8], &[u8]) =
                    if self.flags.sharp_v { (b"{", b", ", b"}") } else { (b"[", b" ", b"]") };
                if self.flags.sharp_v {
                    self.write(value.type_name().as_bytes());
                }
                self.write(open);
                for (index, item) in list.items.iter().enumerate() {
                    if index > 0 {
                        self.write(separator);
                    }
                    self.value(item, verb, true);
                }
                self.write(close);
            }
            GoValue::Map(map) => {
                let separator: &[u8] = if self.flags.sharp_v { b", " } else { b" " };
                if self.flags.sharp_v {
                    self.write(value.type_name().as_bytes());
                }
                self.write(if self.flags.sharp_v { b"{" } else { b"map[" });
                for (index, (key, item)) in map.entries.iter().enumerate() {
                    if index > 0 {
                        self.write(separator);
                    }
                    self.value(&Value::bytes(key.clone()), verb, true);
                    self.write(b":");
                    self.value(item, verb, true);
                }
                self.write(if self.flags.sharp_v { b"}" } else { b"]" });
            }
            GoValue::Loop(info) => self.structure(info, verb),
            GoValue::Cycle(cycle) => self.string(value, &cycle.current().text(), verb),
        }
    }

    /// Prints `forloop`. Go would print an outer loop as an address; a fixed one stands in for it.
    fn structure(&mut self, info: &LoopInfo, verb: char) {
        self.write(b"&");
        if self.flags.sharp_v {
            self.write(b"pongo2.tagForLoopInformation");
        }
        self.write(b"{");
        for (index, name) in LoopInfo::FIELDS.iter().enumerate() {
            if index > 0 {
                self.write(if self.flags.sharp_v { b", " } else { b" " });
            }
            if self.flags.plus_v || self.flags.sharp_v {
                self.write(name);
                self.write(b":");
            }
            match info.field(name) {
                Some(GoValue::Loop(_)) => self.write(b"0xc000000000"),
                Some(data) => self.value(&Value::from(data), verb, false),
                None => {}
            }
        }
        self.write(b"}");
    }

    /// Prints text, cut to the precision in runes and padded (`fmt.fmtS`).
    fn text(&mut self, bytes: &[u8]) {
        let end = match self.flags.precision {
            Some(count) => runes::runes(bytes).take(count).map(|(_, width)| width).sum(),
            None => bytes.len(),
        };
        self.pad(&bytes[..end]);
    }

    /// Prints a string under `%v`, `%s`, `%x`, `%X` or `%q`.
    fn string(&mut self, value: &Value, bytes: &[u8], verb: char) {
        match verb {
            'v' if self.flags.sharp_v => self.quoted(bytes),
            'v' | 's' => self.text(bytes),
            'x' | 'X' => self.hex(bytes, verb == 'X'),
            'q' => self.quoted(bytes),
            _ => self.bad_verb(value, verb),
        }
    }

    /// Prints `%q`; with `#`, in back quotes if possible (`fmt.fmtQ`).
    fn quoted(&mut self, bytes: &[u8]) {
        let end =
            self.flags.precision.map_or(bytes.len(), |count| runes::runes(bytes).take(count).map(|(_, w)| w).sum());
        let bytes = &bytes[..end];
        if self.flags.sharp && quote::can_backquote(bytes) {
            return self.pad(&[b"`", bytes, b"`"].concat());
        }
        self.pad(&quote::string(bytes, self.flags.plus));
    }

    /// Prints bytes in hexadecimal (`fmt.fmtSbx`).
    fn hex(&mut self, bytes: &[u8], upper: bool) {
        let bytes = &bytes[..self.flags.precision.map_or(bytes.len(), |p| p.min(bytes.len()))];
        let digits: &[u8; 16] = if upper { b"0123456789ABCDEF" } else { b"0123456789abcdef" };
        let prefix: &[u8] = if !self.flags.sharp {
            b""
        } else if upper {
            b"0X"
        } else {
            b"0x"
        };
        if bytes.is_empty() {
            return self.padding(self.flags.width.unwrap_or(0));
        }
        let mut text = prefix.to_vec();
        for (index, byte) in bytes.iter().enumerate() {
            if self.flags.space && index > 0 {
                text.push(b' ');
                text.extend_from_slice(prefix);
            }
            text.push(digits[usize::from(byte >> 4)]);
            text.push(digits[usize::from(byte & 15)]);
        }
        self.pad(&text);
    }

    /// Prints an integer under any integer verb (`pp.fmtInteger`).
    fn integer(&mut self, value: &Value, magnitude: u64, negative: bool, verb: char) {
        match verb {
            'v' | 'd' => self.digits(magnitude, negative, 10, verb, false),
            'b' => self.digits(magnitude, negative, 2, verb, false),
            'o' | 'O' => self.digits(magnitude, negative, 8, verb, false),
            'x' => self.digits(magnitude, negative, 16, verb, false),
            'X' => self.digits(magnitude, negative, 16, verb, true),
            'c' | 'q' | 'U' => {
                // Go converts to `uint64` before it checks the range of a rune.
                let bits = if negative { magnitude.wrapping_neg() } else { magnitude };
                let rune = u32::try_from(bits).ok().and_then(char::from_u32);
                match verb {
                    'c' => self.pad(&runes::string(rune.unwrap_or(runes::REPLACEMENT))),
                    'q' => self.pad(&quote::rune(rune.unwrap_or(runes::REPLACEMENT), self.flags.plus)),
                    _ => self.unicode(bits, rune),
                }
            }
            _ => self.bad_verb(value, verb),
        }
    }

    /// Prints `%U`: `U+0041`, and with `#` the character itself (`fmt.fmtUnicode`).
    fn unicode(&mut self, bits: u64, rune: Option<char>) {
        let precision = self.flags.precision.unwrap_or(0).max(4);
        let mut text = format!("{bits:X}");
        text = format!("U+{}{text}", "0".repeat(precision.saturating_sub(text.len())));
        if let Some(rune) = rune.filter(|&rune| self.flags.sharp && quote::is_print(rune)) {
            text.push_str(&format!(" '{rune}'"));
        }
        self.unfilled(text.as_bytes());
    }

    /// Pads with spaces even if zeros are asked for: the zeros are part of the digits already.
    fn unfilled(&mut self, bytes: &[u8]) {
        let zero = std::mem::take(&mut self.flags.zero);
        self.pad(bytes);
        self.flags.zero = zero;
    }

    /// Prints an integer in a base, with sign, prefix and minimum digits (`fmt.fmtInteger`).
    fn digits(&mut self, magnitude: u64, negative: bool, base: u32, verb: char, upper: bool) {
        let flags = self.flags;
        let mut least = 0;
        if let Some(precision) = flags.precision {
            least = precision;
            if precision == 0 && magnitude == 0 {
                let zero = std::mem::take(&mut self.flags.zero);
                self.padding(flags.width.unwrap_or(0));
                self.flags.zero = zero;
                return;
            }
        } else if flags.zero
            && let Some(width) = flags.width
        {
            least = width.saturating_sub(usize::from(negative || flags.plus || flags.space));
        }
        let digits = match base {
            2 => format!("{magnitude:b}"),
            8 => format!("{magnitude:o}"),
            16 if upper => format!("{magnitude:X}"),
            16 => format!("{magnitude:x}"),
            _ => magnitude.to_string(),
        };
        let mut body = "0".repeat(least.saturating_sub(digits.len())) + &digits;
        if flags.sharp {
            match base {
                2 => body.insert_str(0, "0b"),
                8 if !body.starts_with('0') => body.insert(0, '0'),
                16 => body.insert_str(0, if upper { "0X" } else { "0x" }),
                _ => {}
            }
        }
        if verb == 'O' {
            body.insert_str(0, "0o");
        }
        if negative {
            body.insert(0, '-');
        } else if flags.plus {
            body.insert(0, '+');
        } else if flags.space {
            body.insert(0, ' ');
        }
        self.unfilled(body.as_bytes());
    }

    /// Prints a float (`fmt.fmtFloat`).
    fn float(&mut self, value: &Value, number: f64, verb: char) {
        let (format, default) = match verb {
            'v' => (b'g', None),
            'b' | 'g' | 'G' | 'x' | 'X' => (u8::try_from(verb).unwrap_or(b'g'), None),
            'f' | 'F' => (b'f', Some(6)),
            'e' | 'E' => (u8::try_from(verb).unwrap_or(b'e'), Some(6)),
            _ => return self.bad_verb(value, verb),
        };
        let precision = self.flags.precision.or(default);
        // Refused before formatting, since the digits would be built in memory first.
        if precision.is_some_and(|p| p > self.cap) {
            self.over = true;
            return;
        }
        let mut text = number::format(number, format, precision);
        if !text.starts_with(['-', '+']) {
            text.insert(0, '+');
        }
        let flags = self.flags;
        if flags.space && text.starts_with('+') && !flags.plus {
            text.replace_range(..1, " ");
        }
        if !number.is_finite() {
            let bare = number.is_nan() && !flags.space && !flags.plus;
            // Plus infinity keeps its sign, NaN has none.
            return self.unfilled(text.as_bytes().get(usize::from(bare)..).unwrap_or(b""));
        }
        if flags.sharp && format != b'b' {
            text = with_point(&text, format, precision);
        }
        if flags.plus || !text.starts_with('+') {
            let width = flags.width.unwrap_or(0);
            if flags.zero && width > text.len() {
                self.write(&text.as_bytes()[..1]);
                self.padding(width - text.len());
                return self.write(&text.as_bytes()[1..]);
            }
            return self.pad(text.as_bytes());
        }
        self.pad(&text.as_bytes()[1..]);
    }
}

/// Applies `#` to a float: always a point, and under `%g` the trailing zeros that the shortest text
/// drops.
fn with_point(text: &str, format: u8, precision: Option<usize>) -> String {
    let mut missing = match format {
        b'g' | b'G' | b'x' => precision.map_or(6, |p| i64::try_from(p).unwrap_or(i64::MAX)),
        _ => 0,
    };
    let hex = matches!(format, b'x' | b'X');
    let tail_at = text.find(|c| matches!(c, 'p' | 'P') || !hex && matches!(c, 'e' | 'E')).unwrap_or(text.len());
    let (head, tail) = text.split_at(tail_at);
    let (mut point, mut nonzero) = (false, false);
    for byte in head.bytes().skip(1) {
        if byte == b'.' {
            point = true;
            continue;
        }
        nonzero |= byte != b'0';
        missing -= i64::from(nonzero);
    }
    let mut out = head.to_owned();
    if !point {
        if head.len() == 2 && head.ends_with('0') {
            missing -= 1;
        }
        out.push('.');
    }
    out.extend(std::iter::repeat_n('0', usize::try_from(missing.max(0)).unwrap_or(0)));
    out + tail
}
