//! Reads one image in a response of a server, leniently: a field that is wrong and dispensable is left out and recorded, so that
//! one bad field hides no image and one bad image hides no other.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::omissions::Omitted;
use crate::progress::Monitor;
use crate::protocol::rest::{AliasEntry, Image};

/// Fields that an image can do without.
const OPTIONAL: [&str; 11] = [
    "created_at",
    "uploaded_at",
    "expires_at",
    "last_used_at",
    "update_source",
    "profiles",
    "filename",
    "size",
    "release_codename",
    "release_title",
    "locations",
];
/// How many characters of untrusted text an omission repeats.
const MAX_REASON_CHARS: usize = 200;

/// The name of a list entry in omissions: its fingerprint if it has one, else its position.
pub(super) fn name(value: &Value, place: usize) -> String {
    match value.get("fingerprint").and_then(Value::as_str) {
        Some(text) if !text.is_empty() => text.chars().take(64).collect(),
        _ => format!("images/{place}"),
    }
}

/// Reads the description of an image. A wrong field that is dispensable is left out and recorded.
///
/// # Errors
/// `Malformed`, naming the field that is wrong and needed.
pub(super) fn image(value: Value, name: &str, monitor: &Monitor) -> Result<Image> {
    let Value::Object(mut fields) = value else { return Err(Error::malformed("it is no JSON object")) };
    let drop_part = |part: String, reason: String| {
        monitor.omit(name, Omitted::Dropped { part: part.into(), reason: reason.into() });
    };
    if let Some(Value::Array(aliases)) = fields.get_mut("aliases") {
        aliases.retain(|alias| match serde_json::from_value::<AliasEntry>(alias.clone()) {
            Ok(alias) if !alias.name.is_empty() => true,
            Ok(_) => {
                drop_part("an alias".to_owned(), "it has no name".to_owned());
                false
            }
            Err(error) => {
                drop_part("an alias".to_owned(), clipped(&error.to_string()));
                false
            }
        });
    }
    if let Some(Value::Object(properties)) = fields.get_mut("properties") {
        properties.retain(|key, value| {
            let is_text = value.is_string();
            if !is_text {
                drop_part(format!("property `{}`", clipped(key)), "it is not a string".to_owned());
            }
            is_text
        });
    }
    let whole = serde_json::from_value::<Image>(Value::Object(fields.clone()));
    let error = match whole {
        Ok(image) => return Ok(image),
        Err(error) => error,
    };
    let wrong = wrong_fields(&fields);
    for (key, reason) in &wrong {
        if !OPTIONAL.contains(&key.as_str()) {
            return Err(Error::malformed(format!("its `{}` is wrong: {}", clipped(key), clipped(reason))));
        }
        fields.remove(key);
    }
    let read =
        serde_json::from_value(Value::Object(fields)).map_err(|_| Error::malformed(clipped(&error.to_string())))?;
    for (key, reason) in wrong {
        drop_part(format!("`{key}`"), clipped(&reason));
    }
    Ok(read)
}

/// The fields that are wrong, and why. `serde` stops at the first error, so each field is tried alone in a minimal image.
fn wrong_fields(fields: &Map<String, Value>) -> BTreeMap<String, String> {
    let no_image = Value::String("0".repeat(64));
    let try_alone = |(key, value): (&String, &Value)| {
        let mut alone = Map::from_iter([("fingerprint".to_owned(), no_image.clone())]);
        alone.insert(key.clone(), value.clone());
        let error = serde_json::from_value::<Image>(Value::Object(alone)).err()?;
        Some((key.clone(), error.to_string()))
    };
    fields.iter().filter_map(try_alone).collect()
}

/// Untrusted text, short enough for an omission.
fn clipped(text: &str) -> String {
    text.chars().take(MAX_REASON_CHARS).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use serde_json::json;

    use super::*;

    #[test]
    fn parts_that_an_image_can_do_without_are_left_out() {
        let monitor = Monitor::none();
        let value = json!({"fingerprint": "1".repeat(64), "expires_at": "soon", "size": -1, "aliases": [{"name": "a"}, 5, null],
            "properties": {"os": "Box", "n": 5}});
        let image = image(value, "one", &monitor).unwrap();
        assert_eq!((image.expires_at, image.size, image.aliases.len(), image.properties.len()), (None, 0, 1, 1));
        assert_eq!(monitor.omissions().total(), 5);
    }

    #[test]
    fn image_without_a_fingerprint_is_wrong() {
        for value in [json!({}), json!(null), json!("x"), json!({"fingerprint": "../x"}), json!({"fingerprint": 5})] {
            assert!(image(value.clone(), "one", &Monitor::none()).is_err(), "{value}");
        }
    }
}
