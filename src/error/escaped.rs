//! [`Escaped`]: untrusted bytes, displayed safely on a terminal or in a log.

use std::fmt;

/// Untrusted bytes, displayed so that they cannot control a terminal or forge a line of a log.
///
/// Control characters, characters that reorder or hide text (bidirectional overrides, zero-width
/// characters) and bytes that are not UTF-8 are displayed as `\xNN`, a newline as `\n`, a tab as
/// `\t`, and a backslash as two. Nothing is cut or dropped, so different input has different
/// output.
///
/// ```
/// assert_eq!(lxd_image::Escaped(b"caf\xe9\x1b[31m").to_string(), "caf\\xe9\\x1b[31m");
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Escaped<'a>(pub &'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        for chunk in self.0.utf8_chunks() {
            for character in chunk.valid().chars() {
                match character {
                    '\n' => f.write_str("\\n")?,
                    '\t' => f.write_str("\\t")?,
                    '\\' => f.write_str("\\\\")?,
                    // `is_control` is category Cc only; the ranges are those of Cf that change how
                    // other text appears.
                    c if c.is_control()
                        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}') =>
                    {
                        let mut bytes = [0; 4];
                        for byte in c.encode_utf8(&mut bytes).bytes() {
                            write!(f, "\\x{byte:02x}")?;
                        }
                    }
                    c => f.write_char(c)?,
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}
