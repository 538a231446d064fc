//! Random templates from a grammar, most of them well formed, some of them broken on purpose.
//! Left out is what Go has no answer to: endless loops, random choices, addresses in memory.

use lxd_image::templates::Dialect;

use super::words::{ARGUMENTS, FILTERS, FORMATS, LITERALS, SPACE, VARIABLES};

/// SplitMix64.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub(crate) fn one_in(&mut self, chances: usize) -> bool {
        self.below(chances) == 0
    }

    fn pick<'a>(&mut self, items: &[&'a str]) -> &'a str {
        items[self.below(items.len())]
    }
}

pub(crate) struct Generator<'r> {
    random: &'r mut Random,
    dialect: Dialect,
    macros: usize,
    blocks: usize,
}

impl<'r> Generator<'r> {
    pub(crate) fn new(random: &'r mut Random, dialect: Dialect) -> Self {
        Self { random, dialect, macros: 0, blocks: 0 }
    }

    pub(crate) fn template(mut self) -> Vec<u8> {
        let mut text = String::new();
        for _ in 0..1 + self.random.below(5) {
            text += &self.node(3);
        }
        let mut bytes = text.into_bytes();
        if self.random.one_in(6) {
            self.damage(&mut bytes);
        }
        bytes
    }

    /// Cuts, doubles or swaps some bytes. A comment's end tag with arguments would hang Go.
    fn damage(&mut self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() || String::from_utf8_lossy(bytes).contains("comment") {
            return;
        }
        let at = self.random.below(bytes.len());
        match self.random.below(4) {
            0 => drop(bytes.remove(at)),
            1 => {
                bytes.insert(at, *b"{}%#-\"'\\|:.,()[]<>=! \n\x01\xff~^9a".get(self.random.below(31)).unwrap_or(&b' '));
            }
            2 => bytes.truncate(at),
            _ => {
                let end = (at + 1 + self.random.below(12)).min(bytes.len());
                let part = bytes[at..end].to_vec();
                bytes.splice(at..at, part);
            }
        }
    }

    fn open(&mut self) -> &'static str {
        if self.random.one_in(8) { "{%- " } else { "{% " }
    }

    fn close(&mut self) -> &'static str {
        if self.random.one_in(8) { " -%}" } else { " %}" }
    }

    fn tag(&mut self, inner: &str) -> String {
        format!("{}{inner}{}", self.open(), self.close())
    }

    fn body(&mut self, depth: usize) -> String {
        (0..1 + self.random.below(2)).map(|_| self.node(depth)).collect()
    }

    fn output(&mut self) -> String {
        let expr = self.expr(2);
        match self.random.below(8) {
            0 => format!("{{{{- {expr} }}}}"),
            1 => format!("{{{{ {expr} -}}}}"),
            _ => format!("{{{{ {expr} }}}}"),
        }
    }

    fn node(&mut self, depth: usize) -> String {
        if depth == 0 || self.random.one_in(3) {
            return if self.random.one_in(3) { self.random.pick(SPACE).to_owned() } else { self.output() };
        }
        let depth = depth - 1;
        match self.random.below(24) {
            0..=2 => {
                let mut text = {
                    let e = self.expr(2);
                    self.tag(&format!("if {e}"))
                };
                text += &self.body(depth);
                while self.random.one_in(3) {
                    let expr = self.expr(1);
                    text += &if self.random.one_in(2) { self.tag("else") } else { self.tag(&format!("elif {expr}")) };
                    text += &self.body(depth);
                }
                text + &self.tag("endif")
            }
            3..=5 => {
                let over = match self.random.below(4) {
                    0 => self
                        .random
                        .pick(&["l", "li", "lm", "lol", "le", "s", "se", "su", "i5", "nil", "bytes", "trigger"])
                        .to_owned(),
                    1 => format!(
                        "{} sorted",
                        self.random.pick(&["m", "mm", "devices", "config", "l", "li", "lm", "container", "a", "b"])
                    ),
                    2 => format!(
                        "{} reversed sorted",
                        self.random.pick(&["m", "l", "li", "lm", "properties", "sn|make_list"])
                    ),
                    _ => format!(
                        "{} reversed",
                        self.random.pick(&["l", "li", "s", "su|make_list", "\"a,b,a\"|split:\",\"", "forloop"])
                    ),
                };
                let names = self.random.pick(&["x", "x", "k, v", "a, b", "y"]);
                let mut text = self.tag(&format!("for {names} in {over}"));
                text += &self.body(depth);
                if self.random.one_in(4) {
                    text += &self.tag("empty");
                    text += &self.body(depth);
                }
                text + &self.tag("endfor")
            }
            6..=7 => {
                let name = self.random.pick(&["a", "b", "c"]);
                let expr = if self.random.one_in(5) { "forloop.Counter".to_owned() } else { self.expr(2) };
                self.tag(&format!("set {name} = {expr}"))
            }
            8 => {
                let (one, two) = (self.expr(1), self.expr(1));
                let style =
                    if self.random.one_in(3) { format!("with {one} as a") } else { format!("with a={one} x={two}") };
                self.tag(&style) + &self.body(depth) + &self.tag("endwith")
            }
            9..=10 => self.macro_tag(depth),
            11 => self.tag("autoescape on") + &self.body(depth) + &self.tag("endautoescape"),
            12 => {
                let (filter, argument) = (
                    self.filter_call(),
                    self.random.pick(&["upper", "escape", "lower|capfirst", "cut:\"a\"", "nosuch"]),
                );
                let chain = if self.random.one_in(2) { filter } else { argument.to_owned() };
                self.tag(&format!("filter {chain}")) + &self.body(depth) + &self.tag("endfilter")
            }
            13 => self.tag("spaceless") + &self.body(depth) + " <a> <b>\n</b> </a>" + &self.tag("endspaceless"),
            14 => {
                let watched = match self.random.below(4) {
                    0 => {
                        self.random.pick(&["forloop.Counter", "forloop.First", "forloop.Last x", "a", "b c"]).to_owned()
                    }
                    1 => self.expr(1),
                    _ => String::new(),
                };
                let mut text = self.tag(&format!("ifchanged {watched}")) + &self.body(depth);
                if self.random.one_in(2) {
                    text += &self.tag("else");
                    text += &self.body(depth);
                }
                text + &self.tag("endifchanged")
            }
            15 => {
                let name = self.random.pick(&["ifequal", "ifnotequal"]);
                let (one, two) = (self.expr(1), self.expr(1));
                self.tag(&format!("{name} {one} {two}")) + &self.body(depth) + &self.tag(&format!("end{name}"))
            }
            16 => {
                let (one, two) = (self.expr(1), self.expr(1));
                self.tag(&format!("firstof {one} {two}"))
            }
            17 => {
                let items =
                    format!("{} {}", self.random.pick(LITERALS), self.random.pick(&["s", "\"z\"", "i5", "x", "nil"]));
                let tail = self.random.pick(&["", "", " as cy", " as cy silent"]);
                if self.random.one_in(3) { self.tag("cycle cy") } else { self.tag(&format!("cycle {items}{tail}")) }
            }
            18 => {
                let values: Vec<_> = (0..3)
                    .map(|_| self.random.pick(&["i5", "1", "2", "10", "100", "f25", "i0", "sf", "im3", "nope"]))
                    .collect();
                let tail = self.random.pick(&["", " as wr"]);
                self.tag(&format!("widthratio {}{tail}", values.join(" ")))
            }
            19 => {
                let layout = self.random.pick(&[
                    "Mon Jan _2 15:04:05 2006",
                    "2006-01-02T15:04:05Z07:00",
                    "02/01/06 03:04PM",
                    "Monday, 2. January",
                    "__2 002 pm Z0700 -07:00 MST",
                    ".000 .999 ,00 05.00 _2006",
                    "Janet Jan Mono 1 2 3 4 5",
                ]);
                self.tag(&format!("now \"{layout}\" fake"))
            }
            20 => {
                let what = self.random.pick(&["openblock", "closevariable", "opencomment", "nothing"]);
                self.tag(&format!("templatetag {what}"))
            }
            21 => {
                let count = self.random.pick(&["", "0", "3 w", "2 b", "1 p", "12 w"]);
                self.tag(&format!("lorem {count}"))
            }
            22 => self
                .random
                .pick(&[
                    "{# c #}",
                    "{% verbatim %} {{ x }} {% endverbatim %}",
                    "{% comment %}{{ ( }}{% endcomment %}",
                    "{##}",
                ])
                .to_owned(),
            _ => {
                self.blocks += 1;
                let name = format!("b{}", self.blocks);
                self.tag(&format!("block {name}")) + &self.body(depth) + &self.tag("endblock")
            }
        }
    }

    fn macro_tag(&mut self, depth: usize) -> String {
        let head = self.random.pick(&["()", "(a)", "(a, x=\"d\")", "(k=i5, v=s|upper)", "(x,)"]);
        // The body can call the macros before, not itself.
        let body = self.body(depth);
        self.macros += 1;
        let name = format!("mac{}", self.macros);
        self.tag(&format!("macro {name}{head}")) + &body + &self.tag("endmacro")
    }

    fn expr(&mut self, depth: usize) -> String {
        if depth == 0 || self.random.one_in(3) {
            return self.filtered();
        }
        let depth = depth - 1;
        match self.random.below(10) {
            0..=1 => {
                let op = self.random.pick(&["and", "or", "&&", "||"]);
                format!("{} {op} {}", self.expr(depth), self.expr(depth))
            }
            2..=4 => {
                let op = self.random.pick(&["==", "!=", "<>", "<", ">", "<=", ">=", "in", "in"]);
                format!("{} {op} {}", self.expr(depth), self.expr(depth))
            }
            5..=6 => {
                let op = self.random.pick(&["+", "-", "*", "/", "%", "^", "+"]);
                format!("{} {op} {}", self.expr(depth), self.expr(depth))
            }
            7 => format!("({})", self.expr(depth)),
            8 => format!("{}{}", self.random.pick(&["-", "not ", "!", "+", "-not "]), self.filtered()),
            _ => self.filtered(),
        }
    }

    fn atom(&mut self) -> String {
        match self.random.below(12) {
            0..=3 => self.random.pick(LITERALS).to_owned(),
            4 => {
                let key = self.random.pick(&["\"user.empty\"", "\"user.meta-data\"", "\"nope\"", "s", "i5"]);
                let default = self.random.pick(&["\"d\"", "i5", "nil", "l", "properties.foo", "m"]);
                format!("config_get({key}, {default})")
            }
            5 if self.macros > 0 => {
                let name = 1 + self.random.below(self.macros);
                let arguments = self.random.pick(&["()", "(1)", "", "(s, 2)", "(l)", "(nope)", "(sh)", "(m, )"]);
                format!("mac{name}{arguments}")
            }
            6 if self.dialect == Dialect::Incus => {
                let of = self.random.pick(&["l", "m", "s", "li", "config", "devices", "i5", "nope", "lol", "mm"]);
                let by = self.random.pick(&[
                    "0",
                    "1",
                    "\"a\"",
                    "i1",
                    "im3",
                    "\"eth0\"",
                    "\"limits.memory\"",
                    "nil",
                    "x",
                    "1 + 1",
                    "trigger",
                ]);
                format!("{of}[{by}]")
            }
            _ => self.random.pick(VARIABLES).to_owned(),
        }
    }

    fn filtered(&mut self) -> String {
        let mut text = self.atom();
        while self.random.one_in(3) {
            text += "|";
            text += &self.filter_call();
        }
        text
    }

    fn filter_call(&mut self) -> String {
        let filter = self.random.pick(FILTERS);
        if filter == "stringformat" {
            return format!("stringformat:\"{}\"", self.format());
        }
        if filter == "removetags" {
            let names = [
                "b",
                "b,i",
                "p|b",
                "[bi]",
                "(i|b)+",
                "a.*",
                "a[^>]*?",
                "",
                "b?",
                "\\\\w+",
                "(",
                ".",
                "^b",
                "p$",
                "b|",
                "b{1}",
                "[ib]{1,2}",
                "i{0,}",
                "p{2}",
                "x{,2}",
                "b{2,1}",
                "a.{3,12}?",
                "x",
            ];
            return format!("removetags:\"{}\"", self.random.pick(&names));
        }
        if self.random.one_in(2) { format!("{filter}:{}", self.random.pick(ARGUMENTS)) } else { filter.to_owned() }
    }

    fn format(&mut self) -> String {
        let mut text = self.random.pick(&["", "", "<", "%%"]).to_owned();
        for _ in 0..1 + self.random.below(8) / 7 {
            text.push('%');
            while self.random.one_in(3) {
                text += self.random.pick(&["#", "0", "+", "-", " "]);
            }
            text += self.random.pick(&["", "", "", "5", "12", "[1]", "*", "[2]", "[x]"]);
            text += self.random.pick(&["", "", "", ".2", ".0", ".", ".12", ".*", ".[1]"]);
            text += self.random.pick(FORMATS);
        }
        text
    }
}
