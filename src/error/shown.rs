//! `Shown`: bytes of strangers as a terminal or a log may have them.

use std::fmt;

/// Bytes as they may be shown: control characters, quotes of the terminal and what is no UTF-8
/// become `\xNN`, `\n`, `\t`; a backslash becomes two. Also cuts nothing and hides nothing.
///
/// ```
/// assert_eq!(lxd_image::Shown(b"caf\xe9\x1b[31m").to_string(), "caf\\xe9\\x1b[31m");
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Shown<'a>(pub &'a [u8]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        for chunk in self.0.utf8_chunks() {
            for character in chunk.valid().chars() {
                match character {
                    '\n' => f.write_str("\\n")?,
                    '\t' => f.write_str("\\t")?,
                    '\\' => f.write_str("\\\\")?,
                    // Control characters, and those that reorder or hide text on a terminal.
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
