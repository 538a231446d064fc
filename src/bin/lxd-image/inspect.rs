//! `inspect`: shows what an image is and what it contains, from one pass over it.
//!
//! The whole image is read and checked as `verify` does it, since counts and the list of `--entries` need every
//! member. A finding that makes the image unusable is an error; what is only missing (no metadata, for example) is a
//! warning, so that incomplete images can be looked at.
//!
//! A disk alone, which is no image, is shown as a disk: sizes and what its tables say. Partitions are not looked at.

use std::path::PathBuf;

use clap::Args;
use lxd_image::disk::{DiskFormat, DiskOptions};
use lxd_image::format::{self, Container, EntryKind, Image, Input, VerifyOptions, VerifyReport};
use lxd_image::{Error, ErrorKind, Escaped, Result};
use serde_json::{Map, Value, json};

use crate::disk;
use crate::failure::Failure;
use crate::options::Session;
use crate::output::{self, Records};
use crate::store::TypeArgument;

/// Show what an image is and what it holds
#[derive(Args)]
pub(crate) struct Arguments {
    /// The image, or one file of a split image, or the name of an image of the store or a remote; `-` is standard input.
    /// Or a virtual machine's disk, which is no image
    image: PathBuf,
    /// The other file of a split image
    rootfs: Option<PathBuf>,
    #[command(flatten)]
    which: TypeArgument,
    /// List every member of the root file system
    #[arg(long)]
    entries: bool,
    /// The file is a disk in this format: raw, qcow2, vmdk, ova, vhd or vhdx (default: recognised, and raw never is)
    #[arg(long, value_name = "FORMAT", conflicts_with_all = ["rootfs", "entries"])]
    disk_input: Option<String>,
}

/// Reads the whole image and prints what it is, or with `--entries` one row per member.
///
/// # Errors
/// The first finding that makes the image unusable; damage of the archive itself.
pub(crate) fn run(arguments: &Arguments, session: &Session) -> Result<(), Failure> {
    let disk_input = arguments.disk_input.as_deref().map(str::parse).transpose()?;
    if arguments.rootfs.is_none() && disk::is_lone_disk(&arguments.image, disk_input, &session.limits)? {
        if arguments.entries {
            let sentence = "the option `--entries` has no effect: this is a disk, whose partitions are not looked at";
            return Err(Error::new(ErrorKind::InvalidInput, sentence).into());
        }
        return Ok(output::show(Records::One(disk_facts(arguments, disk_input, session)?), &session.format)?);
    }
    let image = session.open(&arguments.image, arguments.rootfs.as_deref(), arguments.which)?;
    let (monitor, shown) = session.monitor();
    let mut options = VerifyOptions::new();
    if let Some(threads) = session.threads {
        options = options.threads(threads);
    }
    let mut rows = Vec::new();
    let verified = image.survey(&options, &monitor, &mut |entry, _| {
        if arguments.entries {
            rows.push(row(entry));
        }
        Ok(())
    })?;
    drop(shown);
    // An image that cannot be unpacked is an error; missing parts are only warnings.
    let unusable = |kind| !matches!(kind, ErrorKind::NotFound);
    let mut verified = verified;
    if let Some(at) = verified.findings.iter().position(|finding| unusable(finding.kind())) {
        return Err(verified.findings.swap_remove(at).into());
    }
    for finding in &verified.findings {
        session.note(|| format!("warning: {finding}"));
    }
    if let Some(metadata) = verified.metadata.as_ref().filter(|metadata| metadata.known_architecture().is_none()) {
        session
            .note(|| format!("warning: the architecture {} is not known", Escaped(metadata.architecture().as_bytes())));
    }
    if arguments.entries {
        /// Columns of `--entries`.
        const COLUMNS: &[&str] = &["type", "mode", "owner", "size", "modified", "path", "target"];
        return Ok(output::show(Records::Many(COLUMNS, rows), &session.format)?);
    }
    Ok(output::show(Records::One(facts(&image, &verified)), &session.format)?)
}

/// A disk that is no image as one record.
///
/// # Errors
/// Those of reading all of its tables.
fn disk_facts(arguments: &Arguments, format: Option<DiskFormat>, session: &Session) -> Result<Map<String, Value>> {
    let input = Input::open(&arguments.image)?;
    let mut options = DiskOptions::new().limits(session.limits.clone());
    if let Some(format) = format {
        options = options.format(format);
    }
    let (monitor, shown) = session.monitor();
    let disk = format::open_disk(&input, std::env::temp_dir(), &options, session.thread_count(), &monitor)?;
    let allocated = disk.allocated_bytes(&monitor).map_err(|error| error.in_file(&arguments.image))?;
    drop(shown);
    let mut facts = Map::new();
    facts.insert("type".into(), json!("disk"));
    facts.insert("format".into(), json!(disk.format().name()));
    if disk.disk_format() != disk.format() {
        facts.insert("disk_format".into(), json!(disk.disk_format().name()));
    }
    if !disk.variant().is_empty() {
        facts.insert("variant".into(), json!(disk.variant()));
    }
    facts.insert("size".into(), json!(input.len()));
    facts.insert("virtual_size".into(), json!(disk.virtual_size()));
    if let Some(cluster) = disk.cluster_size() {
        facts.insert("cluster_size".into(), json!(cluster));
    }
    facts.insert("allocated_bytes".into(), json!(allocated));
    Ok(facts)
}

/// The image as one record. The keys are stable: scripts read them from JSON.
fn facts(image: &Image, verified: &VerifyReport) -> Map<String, Value> {
    let containers: Vec<Container> = image.containers().collect();
    let compressions: Vec<&str> = image
        .compressions()
        .zip(&containers)
        .map(|(compression, container)| compression.unwrap_or(container.name()))
        .collect();
    let mut facts = Map::new();
    facts.insert("fingerprint".into(), json!(verified.fingerprint));
    facts.insert("form".into(), json!(image.form().name()));
    facts.insert("type".into(), json!(verified.image_type.name()));
    facts.insert("compression".into(), json!(compressions.first()));
    if let Some(rootfs) = containers.get(1) {
        facts.insert("rootfs_format".into(), json!(rootfs.name()));
        facts.insert("rootfs_compression".into(), json!(compressions.get(1)));
    }
    facts.insert("size".into(), json!(verified.size));
    if let Some(metadata) = &verified.metadata {
        facts.insert("architecture".into(), json!(metadata.architecture()));
        facts.insert("created_at".into(), json!(date(metadata.creation_date())));
        if let Some(expiry) = metadata.expiry_date() {
            facts.insert("expires_at".into(), json!(date(expiry)));
        }
        let properties: Map<String, Value> =
            metadata.properties().iter().map(|(key, value)| (key.to_owned(), json!(value))).collect();
        facts.insert("properties".into(), Value::Object(properties));
        let rules: Map<String, Value> = metadata
            .templates()
            .map(|(path, rule)| {
                let when: Vec<&str> = rule.when().collect();
                (path.to_owned(), json!(format!("{} ({})", rule.template(), when.join(", "))))
            })
            .collect();
        facts.insert("rules".into(), Value::Object(rules));
    }
    if let Some(config) = &verified.config_json {
        facts.insert("config_json".into(), config_facts(config));
    }
    let templates: Vec<String> = verified.templates.iter().map(|name| Escaped(name).to_string()).collect();
    facts.insert("templates".into(), json!(templates));
    if let Some(disk) = &verified.disk {
        facts.insert(
            "disk".into(),
            json!({
                "format": format!("qcow2 version {}", disk.version), "virtual_size": disk.virtual_size,
                "cluster_size": disk.cluster_size, "allocated_bytes": verified.disk_allocated, "snapshots": disk.snapshots,
            }),
        );
    } else {
        let counts = &verified.counts;
        facts.insert(
            "entries".into(),
            json!({
                "all": counts.entries(), "files": counts.files, "directories": counts.directories,
                "symlinks": counts.symlinks, "hard_links": counts.hard_links, "devices": counts.devices,
                "others": counts.others, "bytes": counts.bytes,
            }),
        );
    }
    if !verified.strays.is_empty() {
        let strays: Vec<String> = verified.strays.iter().map(|path| Escaped(path).to_string()).collect();
        facts.insert("strays".into(), json!(strays));
    }
    facts
}

/// What Incus takes of a `config.json` into the configuration of an instance: `oci.entrypoint`, `oci.cwd`, `oci.uid` and
/// `oci.gid`.
fn config_facts(config: &[u8]) -> Value {
    let Ok(config) = serde_json::from_slice::<Value>(config) else {
        return json!("it is no JSON");
    };
    let process = |pointer: &str| config.pointer(&format!("/process{pointer}")).cloned().unwrap_or_default();
    json!({
        "entrypoint": process("/args"), "cwd": process("/cwd"), "uid": process("/user/uid"), "gid": process("/user/gid"),
    })
}

/// Seconds since 1970 as LXD's API writes times (RFC 3339, UTC); the number itself outside of the calendar's range.
fn date(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |time| time.to_string())
}

/// One member as a record. A device number stands in the column of link targets, which devices do not have.
fn row(entry: &lxd_image::format::Entry) -> Map<String, Value> {
    let (kind, size, target) = match &entry.kind {
        EntryKind::File { size } => ("file", json!(size), Value::Null),
        EntryKind::Directory => ("directory", Value::Null, Value::Null),
        EntryKind::Symlink { target } => ("symlink", Value::Null, json!(Escaped(target).to_string())),
        EntryKind::HardLink { target } => ("link", Value::Null, json!(Escaped(target).to_string())),
        EntryKind::CharDevice(number) => ("char", Value::Null, json!(format!("{}:{}", number.major, number.minor))),
        EntryKind::BlockDevice(number) => ("block", Value::Null, json!(format!("{}:{}", number.major, number.minor))),
        EntryKind::Fifo => ("fifo", Value::Null, Value::Null),
        _ => ("socket", Value::Null, Value::Null),
    };
    let mut row = Map::new();
    row.insert("type".into(), json!(kind));
    row.insert("mode".into(), json!(format!("{:04o}", entry.mode)));
    row.insert("owner".into(), json!(format!("{}:{}", entry.uid, entry.gid)));
    row.insert("size".into(), size);
    row.insert("modified".into(), json!(date(entry.mtime.seconds)));
    row.insert("path".into(), json!(format!("/{}", Escaped(&entry.path))));
    row.insert("target".into(), target);
    row
}
