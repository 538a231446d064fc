//! The mapping between rows and values.

use tokio_postgres::Row;
use tokio_postgres::types::FromSql;

use crate::error::{Error, Result};
use crate::fingerprint::Fingerprint;
use crate::format::ImageType;
use crate::store::catalog::attachment::Attachment;
use crate::store::catalog::columns::{BadValue, Decoded, ImageColumns, ObjectColumns, fingerprint, image_type};
use crate::store::catalog::object::Object;
use crate::store::image::{Alias, AliasTarget, StoredImage};

/// The error for a row with a value that this library never writes.
pub(super) fn damaged(BadValue(what): BadValue) -> Error {
    Error::malformed(what).with_hint("`lxd-image check` looks for more damage")
}

/// A value of a row.
fn value<'a, T: FromSql<'a>>(row: &'a Row, index: usize) -> Decoded<T> {
    row.try_get(index).map_err(|error| BadValue(format!("the catalog's columns are not as expected: {error}")))
}

/// A value of a row that every statement has.
pub(super) fn whole<'a, T: FromSql<'a>>(row: &'a Row, index: usize) -> Result<T> {
    value(row, index).map_err(damaged)
}

/// The image in a row of [`COLUMNS`](super::select::COLUMNS), with its aliases.
pub(super) fn image(row: &Row) -> Decoded<StoredImage> {
    let columns = ImageColumns {
        fingerprint: value(row, 0)?,
        image_type: value(row, 2)?,
        architecture: value(row, 3)?,
        size: value(row, 4)?,
        rootfs_size: value(row, 5)?,
        created_at: value(row, 6)?,
        expires_at: value(row, 7)?,
        uploaded_at: value(row, 8)?,
        last_used_at: value(row, 9)?,
        public: value(row, 10)?,
        auto_update: value(row, 11)?,
        cached: value(row, 12)?,
        file_name: value(row, 13)?,
        rootfs_name: value(row, 14)?,
        source: value(row, 15)?,
        properties: value(row, 16)?,
        original_properties: value(row, 17)?,
        revision: value(row, 18)?,
        object: value(row, 19)?,
        rootfs_object: value(row, 20)?,
        sidecar_object: value(row, 21)?,
    };
    let mut image = columns.decode()?;
    let (names, descriptions): (Vec<String>, Vec<String>) = (value(row, 22)?, value(row, 23)?);
    image.aliases =
        names.into_iter().zip(descriptions).map(|(name, description)| Alias { name, description }).collect();
    Ok(image)
}

/// The fingerprint in the first column, as it is.
pub(super) fn fingerprint_text(row: &Row) -> &str {
    row.try_get(0).unwrap_or("an image without a fingerprint")
}

/// The fingerprint in the first column.
pub(super) fn row_fingerprint(row: &Row) -> Decoded<Fingerprint> {
    fingerprint(value(row, 0)?)
}

/// The columns of an alias.
pub(super) const ALIAS: &str = "name, type, target, description";

/// The alias in a row of [`ALIAS`].
pub(super) fn alias(row: &Row) -> Decoded<(Alias, AliasTarget)> {
    let target = AliasTarget::new(fingerprint(value(row, 2)?)?, image_type(value(row, 1)?)?);
    Ok((Alias { name: value(row, 0)?, description: value(row, 3)? }, target))
}

/// The name and the type in a row of [`ALIAS`], as a position.
pub(super) fn alias_position(row: &Row) -> Decoded<(String, ImageType)> {
    Ok((value(row, 0)?, image_type(value(row, 1)?)?))
}

/// Selects the texts beside an image.
pub(super) const ATTACHMENTS: &str =
    "SELECT name, content, added_at FROM @.attachment WHERE fingerprint = $1 ORDER BY name";

/// The text in a row of [`ATTACHMENTS`].
pub(super) fn attachment(row: &Row) -> Decoded<Attachment> {
    Ok(Attachment { name: value(row, 0)?, content: value(row, 1)?, added_at: value(row, 2)? })
}

/// The columns of a note.
pub(super) const OBJECT: &str = "key, fingerprint, state, holder, revision, time";

/// The note in a row of [`OBJECT`].
pub(super) fn object(row: &Row) -> Decoded<Object> {
    let columns = ObjectColumns {
        key: value(row, 0)?,
        fingerprint: value(row, 1)?,
        state: value(row, 2)?,
        holder: value(row, 3)?,
        revision: value(row, 4)?,
        time: value(row, 5)?,
    };
    columns.decode()
}
