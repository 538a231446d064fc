//! Packed documents: `X.json.gz` beside `X.json`, for web servers that send a packed file in place of the plain one.
//! Only a tree that has them gets them, so that none is ever left behind as an old one.

use std::io::Write;

use super::document;
use super::tree::{INDEX, TreeWriter};
use crate::error::Result;
use crate::format::{Codec, Compression, encode};

impl TreeWriter {
    /// Writes the packed documents of a tree that has none yet. The index comes last, as everywhere.
    pub(super) fn write_packed(&self) -> Result<()> {
        for name in [&*self.tree.list(), INDEX] {
            if !self.tree.root.join(format!("{name}.gz")).exists() {
                let text = document::read(&self.tree.root.join(name), &self.tree.options.limits)?;
                self.replace_one(&format!("{name}.gz"), &packed(&text)?)?;
            }
        }
        Ok(())
    }

    /// Writes the packed form of a document that was just replaced, if the tree has packed ones.
    pub(super) fn replace_packed(&self, name: &str, text: &[u8]) -> Result<()> {
        let packed_name = format!("{name}.gz");
        if (name == INDEX || name == self.tree.list()) && self.tree.root.join(&packed_name).exists() {
            self.replace_one(&packed_name, &packed(text)?)?;
        }
        Ok(())
    }
}

/// A document as gzip; the same text gives the same bytes.
fn packed(text: &[u8]) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    let mut encoder = encode(Compression::new(Codec::Gzip), &mut out, 1)?;
    encoder.write_all(text).map_err(|error| crate::Error::io("the list can't be packed", error))?;
    encoder.finish()?;
    Ok(out)
}
