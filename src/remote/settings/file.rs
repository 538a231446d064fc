//! `remotes.yaml`: a map of names to maps of texts, which users may read and edit.
//!
//! A change reads, modifies and replaces the file under the lock, so that no change is lost; the replacement is atomic, so that
//! readers need no lock.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{KnownRemote, Protocol, Settings, check_name};
use crate::atomic::{self, Durability};
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::metadata::{FlatValue, Properties, parse_flat_map};
use crate::remote::http::{Certificate, Url};
use crate::trust::ListKeys;

/// The file in the settings directory.
const NAME: &str = "remotes.yaml";

/// The remotes without a file. The URLs are those that `lxc` and `incus` come with.
const WELL_KNOWN: &[(&str, &str)] = &[
    ("images", "https://images.linuxcontainers.org"),
    ("ubuntu", "https://cloud-images.ubuntu.com/releases"),
    ("ubuntu-daily", "https://cloud-images.ubuntu.com/daily"),
    ("ubuntu-minimal", "https://cloud-images.ubuntu.com/minimal/releases"),
];

/// All remotes by name, sorted.
pub(super) type Remotes = BTreeMap<String, KnownRemote>;

impl Settings {
    /// Whether a remote is one of those that are there without settings.
    #[must_use]
    pub fn is_well_known(name: &str, url: &Url) -> bool {
        let (name, url) = (name, url.to_string());
        WELL_KNOWN.iter().any(|(known, there)| *known == name && url.trim_end_matches('/') == *there)
    }

    /// Reads all remotes.
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

    /// Changes the remotes under the lock. If `change` fails, nothing is written.
    pub(super) fn change(&self, change: impl FnOnce(&mut Remotes) -> Result<()>) -> Result<()> {
        make_directory(self.directory())?;
        let path = self.directory().join(NAME);
        let lock = self.directory().join("lock");
        let failed = |error| Error::io("the settings can't be locked", error).in_file(&lock);
        let held = File::options().create(true).write(true).truncate(false).mode(0o600).open(&lock).map_err(failed)?;
        // Released when the descriptor is closed, also when this process is killed.
        held.lock().map_err(failed)?;
        let mut remotes = self.read()?;
        change(&mut remotes)?;
        let text = print(&remotes)?;
        // Checked before it is written, since a file that can't be read again would lose all remotes.
        let limits = Limits::default();
        if text.len() as u64 > limits.metadata {
            return Err(Error::limit("metadata", limits.metadata, "the size of the remotes with their keys in bytes")
                .with_hint("pin fewer keys: the ones that sign, not whole keyrings"));
        }
        write_private(&path, text.as_bytes())
    }
}

/// The remotes of [`WELL_KNOWN`].
fn well_known() -> Result<Remotes> {
    WELL_KNOWN
        .iter()
        .map(|(name, url)| Ok(((*name).to_owned(), KnownRemote::new(url.parse()?, Protocol::Simplestreams))))
        .collect()
}

/// Parses the file.
fn parse(bytes: &[u8], limits: &Limits) -> Result<Remotes> {
    if bytes.iter().all(|byte| byte.is_ascii_whitespace()) {
        return Ok(Remotes::new());
    }
    let mut remotes = Remotes::new();
    for (name, value) in parse_flat_map(bytes, limits)? {
        check_name(&name)?;
        let fields = match value {
            FlatValue::Map(fields) => fields,
            // What `print` writes for no remotes, so that the file is a map all the same.
            FlatValue::Text(None) if name == "none" => continue,
            _ => return Err(Error::malformed(format!("the remote `{name}` is no map of what is known of it"))),
        };
        let remote = remote(&fields).map_err(|error| error.context(format_args!("the remote `{name}`")))?;
        remotes.insert(name, remote);
    }
    Ok(remotes)
}

/// Parses one remote.
fn remote(fields: &Properties) -> Result<KnownRemote> {
    let flag = |key: &str| match fields.get(key) {
        None | Some("false" | "no") => Ok(false),
        Some("true" | "yes") => Ok(true),
        Some(_) => Err(Error::malformed(format!("`{key}` is neither true nor false"))),
    };
    let url = fields.get("url").ok_or_else(|| Error::malformed("it has no `url`"))?;
    let mut remote = KnownRemote::new(url.parse()?, Protocol::of_server(fields.get("protocol").unwrap_or("lxd"))?);
    if fields.get("public").is_some() {
        remote.public = flag("public")?;
    }
    remote.allow_http = flag("allow_http")?;
    remote.certificate = match fields.get("certificate") {
        None | Some("") => None,
        Some(pem) => Some(Certificate::from_pem(pem)?),
    };
    // An empty text must not pass for no keys: it would switch the signatures off.
    if let Some(text) = fields.get("keys") {
        remote.keys = ListKeys::parse(text.as_bytes(), &Limits::default())?;
    }
    let path = |key: &str| fields.get(key).filter(|text| !text.is_empty()).map(PathBuf::from);
    remote.username = fields.get("username").filter(|text| !text.is_empty()).map(str::to_owned);
    remote.password_file = path("password_file");
    remote.auth_file = path("auth_file");
    Ok(remote)
}

/// Writes the file. Texts are quoted as in JSON, which YAML reads alike.
fn print(remotes: &Remotes) -> Result<String> {
    let mut text = String::from("# Image servers by name. `lxd-image remote` changes this file.\n");
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
        if !remote.keys.is_empty() {
            fields.push(("keys", remote.keys.to_text()?));
        }
        let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        let login = [
            ("username", remote.username.clone()),
            ("password_file", path(&remote.password_file)),
            ("auth_file", path(&remote.auth_file)),
        ];
        fields.extend(login.into_iter().filter_map(|(key, value)| Some((key, value?))));
        text.push_str(&format!("{}:\n", quoted(name)));
        for (key, value) in fields {
            text.push_str(&format!("  {key}: {}\n", quoted(&value)));
        }
    }
    if remotes.is_empty() {
        text.push_str("none: null\n");
    }
    Ok(text)
}

/// Creates the settings directory, readable by its owner only.
pub(super) fn make_directory(path: &Path) -> Result<()> {
    atomic::make_dirs(path, 0o700)
        .map_err(|error| Error::io("the directory of the settings can't be made", error).in_file(path))
}

/// Replaces a file that only its owner can read, atomically and durably.
pub(super) fn write_private(path: &Path, bytes: &[u8]) -> Result<()> {
    atomic::replace(path, 0o600, bytes, Durability::Durable)
        .map_err(|error| Error::io("the settings can't be written", error).in_file(path))
}
