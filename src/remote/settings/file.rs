//! `remotes.yaml`: a map of names to maps of texts, so that people can read and mend it.
//! Written beside and renamed, under a lock, so that a reader sees the old or the new and no change is lost.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde_json::Value;

use super::{KnownRemote, Protocol, Settings, check_name};
use crate::atomic::{self, Durability};
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::metadata::{Plain, Properties, plain_map};
use crate::remote::http::Certificate;

const NAME: &str = "remotes.yaml";

/// The public servers that everybody knows. The addresses are those that the peers come with.
const WELL_KNOWN: &[(&str, &str)] = &[
    ("images", "https://images.linuxcontainers.org"),
    ("ubuntu", "https://cloud-images.ubuntu.com/releases"),
    ("ubuntu-daily", "https://cloud-images.ubuntu.com/daily"),
    ("ubuntu-minimal", "https://cloud-images.ubuntu.com/minimal/releases"),
];

pub(super) type Remotes = BTreeMap<String, KnownRemote>;

impl Settings {
    pub(super) fn read(&self) -> Result<Remotes> {
        let path = self.directory().join(NAME);
        let limits = Limits::default();
        let mut bytes = Vec::new();
        match File::open(&path) {
            Ok(file) => file.take(limits.metadata + 1).read_to_end(&mut bytes),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return well_known(),
            Err(error) => Err(error),
        }
        .map_err(|error| Error::io("the remotes can't be read", error).in_file(&path))?;
        parse(&bytes, &limits).map_err(|error| error.in_file(&path))
    }

    /// Changes the remotes: all or nothing, one process at a time.
    pub(super) fn change(&self, change: impl FnOnce(&mut Remotes) -> Result<()>) -> Result<()> {
        make_directory(self.directory())?;
        let path = self.directory().join(NAME);
        let lock = self.directory().join("lock");
        let failed = |error| Error::io("the settings can't be locked", error).in_file(&lock);
        let held = File::options().create(true).write(true).truncate(false).mode(0o600).open(&lock).map_err(failed)?;
        // Gone with the file's descriptor, whatever happens.
        held.lock().map_err(failed)?;
        let mut remotes = self.read()?;
        change(&mut remotes)?;
        write_private(&path, print(&remotes).as_bytes())
    }
}

fn well_known() -> Result<Remotes> {
    WELL_KNOWN
        .iter()
        .map(|(name, url)| Ok(((*name).to_owned(), KnownRemote::new(url.parse()?, Protocol::Simplestreams))))
        .collect()
}

fn parse(bytes: &[u8], limits: &Limits) -> Result<Remotes> {
    if bytes.iter().all(|byte| byte.is_ascii_whitespace()) {
        return Ok(Remotes::new());
    }
    let mut remotes = Remotes::new();
    for (name, value) in plain_map(bytes, limits)? {
        check_name(&name)?;
        let fields = match value {
            Plain::Map(fields) => fields,
            // What no remote is left in.
            Plain::Text(None) if name == "none" => continue,
            _ => return Err(Error::malformed(format!("the remote `{name}` is no map of what is known of it"))),
        };
        let remote = remote(&fields).map_err(|error| error.context(format_args!("the remote `{name}`")))?;
        remotes.insert(name, remote);
    }
    Ok(remotes)
}

fn remote(fields: &Properties) -> Result<KnownRemote> {
    let flag = |key: &str| match fields.get(key) {
        None | Some("false" | "no") => Ok(false),
        Some("true" | "yes") => Ok(true),
        Some(_) => Err(Error::malformed(format!("`{key}` is neither true nor false"))),
    };
    let url = fields.get("url").ok_or_else(|| Error::malformed("it has no `url`"))?;
    let mut remote = KnownRemote::new(url.parse()?, fields.get("protocol").unwrap_or("lxd").parse()?);
    if fields.get("public").is_some() {
        remote.public = flag("public")?;
    }
    remote.allow_http = flag("allow_http")?;
    remote.certificate = match fields.get("certificate") {
        None | Some("") => None,
        Some(pem) => Some(Certificate::from_pem(pem)?),
    };
    Ok(remote)
}

fn print(remotes: &Remotes) -> String {
    let mut text = String::from("# Image servers by name. `lxd-image remote` changes this file.\n");
    // JSON's strings are YAML's, too.
    let quoted = |text: &str| Value::String(text.to_owned()).to_string();
    for (name, remote) in remotes {
        let mut fields = vec![("url", remote.url.to_wire()), ("protocol", remote.protocol.to_string())];
        fields.push(("public", remote.public.to_string()));
        if remote.allow_http {
            fields.push(("allow_http", "true".to_owned()));
        }
        if let Some(certificate) = &remote.certificate {
            fields.push(("certificate", certificate.to_pem()));
        }
        text.push_str(&format!("{}:\n", quoted(name)));
        for (key, value) in fields {
            text.push_str(&format!("  {key}: {}\n", quoted(&value)));
        }
    }
    if remotes.is_empty() {
        text.push_str("none: null\n");
    }
    text
}

pub(super) fn make_directory(path: &Path) -> Result<()> {
    atomic::make_dirs(path, 0o700)
        .map_err(|error| Error::io("the directory of the settings can't be made", error).in_file(path))
}

/// Writes a file that only its owner reads, as a whole or not at all; it is on the disk when this returns.
pub(super) fn write_private(path: &Path, bytes: &[u8]) -> Result<()> {
    atomic::replace(path, 0o600, bytes, Durability::Durable)
        .map_err(|error| Error::io("the settings can't be written", error).in_file(path))
}
