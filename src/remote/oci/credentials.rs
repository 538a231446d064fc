//! `OciCredentials`: credentials for a registry, and the files of docker, podman and skopeo that hold them.
//!
//! The files are JSON: `{"auths": {"REGISTRY": {"auth": "BASE64 OF USER:PASSWORD"}}}`. They may leave the password to a
//! helper program (`credsStore`, `credHelpers`). Such programs are not run; an error about missing credentials says so.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;
use crate::protocol::json_depth;

/// The most bytes of a file with credentials. Real ones have a few KiB.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// The most bytes of a password. Tokens that stand for passwords have up to 4 KiB.
const MAX_PASSWORD_BYTES: u64 = 16 << 10;

/// Credentials for a registry.
///
/// Its `Debug` text holds no secret.
///
/// ```
/// use lxd_image::remote::OciCredentials;
///
/// let robot = OciCredentials::password("robot", "secret");
/// assert_eq!(format!("{robot:?}"), "Password(\"robot\")");
/// ```
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum OciCredentials {
    /// A user name and a password, or a token that stands for one.
    Password {
        /// The user name.
        user: String,
        /// The password.
        password: String,
    },
    /// A refresh token, which a token server exchanges for others (`identitytoken` in the files).
    Identity {
        /// The token.
        token: String,
    },
    /// A token that the registry itself takes (`registrytoken` in the files).
    Token {
        /// The token.
        token: String,
    },
}

impl fmt::Debug for OciCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Password { user, .. } => write!(f, "Password({user:?})"),
            Self::Identity { .. } => f.write_str("Identity"),
            Self::Token { .. } => f.write_str("Token"),
        }
    }
}

impl OciCredentials {
    /// A user name and a password.
    #[must_use]
    pub fn password(user: impl Into<String>, password: impl Into<String>) -> Self {
        Self::Password { user: user.into(), password: password.into() }
    }

    /// A user name and the password in a file, without the end of its line.
    ///
    /// # Errors
    /// `NotFound`, `Io`; `InvalidInput` for an empty file, one of several lines, and one of more than 16 KiB.
    pub fn password_file(user: &str, path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let wrong = |why| Err(Error::invalid(format!("the file holds no password: {why}")).in_file(path));
        let bytes = read(path, MAX_PASSWORD_BYTES)?;
        let Ok(text) = String::from_utf8(bytes) else { return wrong("it is not UTF-8") };
        let text = text.strip_suffix('\n').unwrap_or(&text);
        let text = text.strip_suffix('\r').unwrap_or(text);
        if text.is_empty() {
            return wrong("it is empty");
        }
        if text.chars().any(char::is_control) {
            return wrong("it has several lines, or a control character");
        }
        Ok(Self::password(user, text))
    }

    /// The secret, to be removed from texts of servers.
    pub(super) fn secret(&self) -> &str {
        match self {
            Self::Password { password, .. } => password,
            Self::Identity { token } | Self::Token { token } => token,
        }
    }
}

/// What a file with credentials has for a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    /// Credentials.
    Credentials(OciCredentials),
    /// A credential helper, configured in this file.
    Helper(PathBuf),
    /// Nothing.
    Nothing,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AuthFile {
    #[serde(default)]
    auths: Map<String, Value>,
    #[serde(default)]
    cred_helpers: Map<String, Value>,
    #[serde(default)]
    creds_store: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Entry {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
    registrytoken: String,
}

/// The credentials in a file for a registry and what is below it, like `quay.io/team`: the longest name that fits
/// decides.
///
/// # Errors
/// `NotFound`, `Io`, `Malformed`, `InvalidInput` for a file of more than 1 MiB.
pub(super) fn in_file(path: &Path, registry: &str, prefix: &str) -> Result<Found> {
    let bytes = read(path, MAX_FILE_BYTES)?;
    // The parser's own message may quote a secret.
    let wrong = || Error::malformed("the credentials are not the JSON of docker or podman").in_file(path);
    if json_depth(&bytes) > Limits::default().json_depth {
        return Err(wrong());
    }
    // A list would pass for an object without fields.
    if !bytes.trim_ascii_start().starts_with(b"{") {
        return Err(wrong());
    }
    let file: AuthFile = serde_json::from_slice(&bytes).map_err(|_| wrong())?;
    for name in names(registry, prefix) {
        let entry = file.auths.iter().find(|(key, _)| normalized(key) == name);
        if let Some((_, entry)) = entry {
            let entry: Option<Entry> = serde_json::from_value(entry.clone()).map_err(|_| wrong())?;
            let entry = entry.unwrap_or_default();
            if let Some(found) = credentials(entry).map_err(|error| error.in_file(path))? {
                return Ok(Found::Credentials(found));
            }
        }
        if file.cred_helpers.keys().any(|key| normalized(key) == name) {
            return Ok(Found::Helper(path.to_owned()));
        }
    }
    let known = names(registry, prefix).iter().any(|name| file.auths.keys().any(|key| normalized(key) == *name));
    Ok(if known && !file.creds_store.is_empty() { Found::Helper(path.to_owned()) } else { Found::Nothing })
}

/// The credentials of this user for a registry, in the places where podman, skopeo and docker look, in this order:
/// `REGISTRY_AUTH_FILE`; `containers/auth.json` in `XDG_RUNTIME_DIR` and in the XDG configuration directory; docker's
/// `config.json` in `DOCKER_CONFIG`, else in `~/.docker`. Files that are not there or can't be read are passed over.
pub(super) fn in_user_files(registry: &str, prefix: &str) -> Result<Found> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(path) = variable("REGISTRY_AUTH_FILE") {
        return in_file(&path, registry, prefix);
    }
    let home = variable("HOME");
    let config = variable("XDG_CONFIG_HOME").or_else(|| home.as_ref().map(|home| home.join(".config")));
    let docker = variable("DOCKER_CONFIG").or_else(|| home.as_ref().map(|home| home.join(".docker")));
    let places = [
        variable("XDG_RUNTIME_DIR").map(|directory| directory.join("containers/auth.json")),
        config.map(|directory| directory.join("containers/auth.json")),
        docker.map(|directory| directory.join("config.json")),
    ];
    let mut helper = Found::Nothing;
    for path in places.into_iter().flatten() {
        match in_file(&path, registry, prefix) {
            Ok(Found::Nothing) => {}
            Ok(found @ Found::Credentials(_)) => return Ok(found),
            Ok(found) => helper = found,
            // Another user's file, say as root by `sudo`, must not keep anybody from public images.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Io) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(helper)
}

/// The names under which credentials may be stored, the most specific one first.
fn names(registry: &str, prefix: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut path = prefix;
    while !path.is_empty() {
        names.push(format!("{registry}/{path}"));
        path = path.rsplit_once('/').map_or("", |(front, _)| front);
    }
    names.push(registry.to_owned());
    if registry == "docker.io" {
        // Docker's own name for its registry is the address of its first version.
        names.extend(["index.docker.io".to_owned(), "registry-1.docker.io".to_owned()]);
    }
    names
}

/// A key of the files without its scheme and the path of an API version, which docker writes for `index.docker.io`.
fn normalized(key: &str) -> String {
    let key = key.split_once("://").map_or(key, |(_, rest)| rest).trim_end_matches('/');
    let key = key.strip_suffix("/v1").or_else(|| key.strip_suffix("/v2")).unwrap_or(key);
    key.to_ascii_lowercase()
}

/// The credentials in an entry, if there are any.
fn credentials(entry: Entry) -> Result<Option<OciCredentials>> {
    if !entry.registrytoken.is_empty() {
        return Ok(Some(OciCredentials::Token { token: entry.registrytoken }));
    }
    if !entry.identitytoken.is_empty() {
        return Ok(Some(OciCredentials::Identity { token: entry.identitytoken }));
    }
    if !entry.username.is_empty() {
        return Ok(Some(OciCredentials::password(entry.username, entry.password)));
    }
    if entry.auth.is_empty() {
        return Ok(None);
    }
    let text = decode_base64(&entry.auth).and_then(|bytes| String::from_utf8(bytes).ok());
    // Docker pads the password with NULs.
    let pair = text.as_deref().and_then(|text| text.trim_end_matches('\0').split_once(':'));
    match pair {
        Some(("<token>", token)) => Ok(Some(OciCredentials::Identity { token: token.to_owned() })),
        Some((user, password)) => Ok(Some(OciCredentials::password(user, password))),
        None => Err(Error::malformed("an `auth` is not the base64 of USER:PASSWORD")),
    }
}

/// Decodes base64 (RFC 4648) with or without padding.
fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let (mut bits, mut count) = (0_u32, 0);
    for byte in text.trim_end_matches('=').bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push(u8::try_from(bits >> count & 0xff).ok()?);
        }
    }
    Some(out)
}

/// Reads a file of at most `most` bytes.
fn read(path: &Path, most: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(most + 1).read_to_end(&mut bytes)).map_err(|error| {
        let kind = if error.kind() == std::io::ErrorKind::NotFound { ErrorKind::NotFound } else { ErrorKind::Io };
        Error::new(kind, "the credentials can't be read").with_source(error).in_file(path)
    })?;
    if bytes.len() as u64 > most {
        return Err(Error::invalid(format!("a file with credentials has at most {most} bytes")).in_file(path));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    fn found(text: &str, registry: &str, prefix: &str) -> Result<Found> {
        let directory =
            std::env::temp_dir().join(format!("lxi-auth-{}-{:?}", std::process::id(), std::thread::current().id()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("auth.json");
        std::fs::write(&path, text).unwrap();
        let found = in_file(&path, registry, prefix);
        std::fs::remove_dir_all(&directory).unwrap();
        found
    }

    #[test]
    fn credentials_are_found_in_all_forms() {
        let password = Found::Credentials(OciCredentials::password("us", "pa:ss"));
        let identity = Found::Credentials(OciCredentials::Identity { token: "t".to_owned() });
        for (text, registry, prefix, expected) in [
            (r#"{"auths":{"r.example":{"auth":"dXM6cGE6c3M="}}}"#, "r.example", "", &password),
            (r#"{"auths":{"https://r.example/v2/":{"auth":"dXM6cGE6c3M"}}}"#, "r.example", "a/b", &password),
            (
                r#"{"auths":{"https://index.docker.io/v1/":{"username":"us","password":"pa:ss"}}}"#,
                "docker.io",
                "",
                &password,
            ),
            (
                r#"{"auths":{"r.example":{"auth":"eDp5"},"r.example/a":{"auth":"dXM6cGE6c3M="}}}"#,
                "r.example",
                "a/b",
                &password,
            ),
            (r#"{"auths":{"r.example":{"identitytoken":"t","auth":"eDp5"}}}"#, "r.example", "", &identity),
            (r#"{"auths":{"r.example":{"auth":"PHRva2VuPjp0"}}}"#, "r.example", "", &identity),
            (r#"{"auths":{"other":{"auth":"eDp5"}},"credsStore":"pass"}"#, "r.example", "", &Found::Nothing),
            ("{}", "r.example", "", &Found::Nothing),
        ] {
            assert_eq!(&found(text, registry, prefix).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn helper_programs_are_named_and_not_run() {
        for text in
            [r#"{"auths":{"r.example":{}},"credsStore":"desktop"}"#, r#"{"credHelpers":{"r.example":"ecr-login"}}"#]
        {
            assert!(matches!(found(text, "r.example", "").unwrap(), Found::Helper(_)), "{text}");
        }
    }

    #[test]
    fn broken_files_are_refused_without_their_text() {
        for text in ["", "[]", "{\"auths\":1}", r#"{"auths":{"r.example":{"auth":"hunter2!"}}}"#] {
            let error = found(text, "r.example", "").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Malformed, "{text}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }
}
