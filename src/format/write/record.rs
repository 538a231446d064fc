//! The options of packing as a value: what a statement about an image records, so that others can pack it again.

use serde_json::{Map, Value, json};

use super::archive::DEFAULT_CODEC;
use super::pack::{PackOptions, RootfsFormat};
use crate::error::{Error, Result};
use crate::format::codec::{Codec, Compression};
use crate::format::image::ImageForm;
use crate::limits::Limits;

impl PackOptions {
    /// The options that decide about the bytes of the image, as a JSON object; [`from_recorded`](Self::from_recorded)
    /// reads it. `out` is the name of the file that is written, whose ending may choose the compression.
    #[must_use]
    pub fn recorded(&self, out: Option<&std::path::Path>) -> Value {
        let by_name = out.and_then(Codec::from_path).map(Compression::new);
        let compression = self.compression.or(by_name).unwrap_or(Compression::new(DEFAULT_CODEC));
        let mut record = Map::new();
        record.insert("metadata".into(), json!(String::from_utf8_lossy(&self.metadata_bytes)));
        record.insert("form".into(), json!(self.form.name()));
        let squashfs = self.rootfs_format == RootfsFormat::SquashFs;
        record.insert("rootfsFormat".into(), json!(if squashfs { "squashfs" } else { "tar" }));
        record.insert("compression".into(), json!(compression.to_string()));
        record.insert("newestMtime".into(), json!(self.newest));
        record.insert("allXattrs".into(), json!(self.all_xattrs));
        record.insert("mapIds".into(), json!(self.ids.to_string()));
        record.insert("owner".into(), json!(self.owner.map(|(uid, gid)| format!("{uid}:{gid}"))));
        record.insert("templates".into(), json!(self.templates.is_some()));
        // Only where there are such: earlier versions refuse records with options that they do not know.
        if let Some(config) = &self.config_json {
            record.insert("configJson".into(), json!(String::from_utf8_lossy(config)));
        }
        if let Some(format) = self.disk_input {
            record.insert("diskInput".into(), json!(format.name()));
        }
        if let Some(compression) = self.disk_compression {
            record.insert("diskCompression".into(), json!(compression.to_string()));
        }
        Value::Object(record)
    }

    /// The options that [`recorded`](Self::recorded) wrote, without the directory of the templates: whether there was
    /// one is returned, too.
    ///
    /// # Errors
    /// `Malformed` for anything else; `Unsupported` for options that this version does not know.
    pub fn from_recorded(record: &Value, limits: &Limits) -> Result<(Self, bool)> {
        const KNOWN: &[&str] = &[
            "metadata",
            "form",
            "rootfsFormat",
            "compression",
            "newestMtime",
            "allXattrs",
            "mapIds",
            "owner",
            "templates",
            "configJson",
            "diskInput",
            "diskCompression",
        ];
        let record = record.as_object().ok_or_else(|| Error::malformed("the recorded options are not a map"))?;
        if let Some(unknown) = record.keys().find(|key| !KNOWN.contains(&key.as_str())) {
            let shown: String = unknown.chars().take(64).collect();
            return Err(Error::unsupported(format!("the recorded option `{shown}` of packing is unknown")));
        }
        let wrong = |key: &str| Error::malformed(format!("the recorded option `{key}` of packing is not usable"));
        let text = |key: &str| record.get(key).and_then(Value::as_str).ok_or_else(|| wrong(key));
        let truth = |key: &str| record.get(key).and_then(Value::as_bool).ok_or_else(|| wrong(key));
        let mut options = Self::from_metadata_bytes(text("metadata")?.as_bytes().to_vec(), limits)?
            .form(ImageForm::from_name(text("form")?).ok_or_else(|| wrong("form"))?)
            .rootfs_format(text("rootfsFormat")?.parse()?)
            .compression(text("compression")?.parse()?)
            .all_xattrs(truth("allXattrs")?);
        if record.contains_key("configJson") {
            options = options.config_json(text("configJson")?.as_bytes().to_vec());
        }
        if record.contains_key("diskInput") {
            options = options.disk_input(text("diskInput")?.parse()?);
        }
        if record.contains_key("diskCompression") {
            options = options.disk_compression(text("diskCompression")?.parse()?);
        }
        options = match record.get("newestMtime") {
            None | Some(Value::Null) => options,
            Some(seconds) => options.newest_mtime(Some(seconds.as_i64().ok_or_else(|| wrong("newestMtime"))?)),
        };
        if !text("mapIds")?.is_empty() {
            options = options.map_ids(text("mapIds")?.parse()?);
        }
        if record.get("owner").is_some_and(|owner| !owner.is_null()) {
            let ids =
                text("owner")?.split_once(':').and_then(|(uid, gid)| Some((uid.parse().ok()?, gid.parse().ok()?)));
            let (uid, gid) = ids.ok_or_else(|| wrong("owner"))?;
            options = options.owner(uid, gid);
        }
        Ok((options, truth("templates")?))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;
    use crate::disk::{ClusterCompression, DiskFormat};
    use crate::metadata::Metadata;

    #[test]
    fn config_and_disk_are_among_what_is_recorded() {
        let options = PackOptions::new(Metadata::new("x86_64", 1).unwrap());
        let options = options.config_json(b"{}".to_vec()).disk_input(DiskFormat::Raw);
        let options = options.disk_compression(ClusterCompression::Zstd(9));
        let record = options.recorded(None);
        let (again, _) = PackOptions::from_recorded(&record, &Limits::default()).unwrap();
        assert_eq!(again.recorded(None), record);
        assert_eq!((&record["configJson"], &record["diskInput"]), (&json!("{}"), &json!("raw")));
        assert_eq!(record["diskCompression"], "zstd:9");
    }

    #[test]
    fn options_that_are_not_given_are_not_recorded() {
        let record = PackOptions::new(Metadata::new("x86_64", 1).unwrap()).recorded(None);
        for key in ["configJson", "diskInput", "diskCompression"] {
            assert!(record.get(key).is_none(), "{key}");
        }
    }
}
