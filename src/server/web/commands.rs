//! The commands to use this server and its images with each client, as the pages show them.
//!
//! Names come from images and are untrusted. Every word is quoted for a shell, and a name that
//! looks different from what it is, because it has invisible characters, is replaced by a
//! fingerprint.

use serde::Serialize;

use super::text;
use crate::metadata::ImageType;
use crate::protocol::escape;
use crate::store::StoredImage;

/// Names that clients have for other remotes from the beginning, or that mean something else.
const TAKEN: &[&str] = &[
    "images",
    "local",
    "ubuntu",
    "ubuntu-daily",
    "ubuntu-minimal",
    "ubuntu-minimal-daily",
    "default",
    "localhost",
    "www",
];

/// This server as a remote of a client.
#[derive(Serialize, Default)]
pub(super) struct Remote {
    /// The URL; a placeholder if the server does not know its own.
    url: String,
    /// The name that the commands give the remote: the first label of the host, or `ours`.
    name: String,
}

/// Lines for one client.
#[derive(Serialize)]
pub(super) struct Commands {
    /// The client's name as people know it.
    client: &'static str,
    /// The lines, ready to be pasted into a shell.
    lines: Vec<String>,
}

impl Remote {
    /// The remote with this URL.
    pub(super) fn at(url: Option<&str>) -> Self {
        let url = url.unwrap_or("https://this.server.example").to_owned();
        let host = host_of(&url);
        // The first label of an address is a number, which says nothing as a name.
        let numeric =
            host.starts_with('[') || host.split('.').all(|part| part.bytes().all(|byte| byte.is_ascii_digit()));
        let label = host.split('.').next().unwrap_or_default().to_ascii_lowercase();
        let plain = !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        let name = if numeric || !plain || TAKEN.contains(&label.as_str()) { "ours".to_owned() } else { label };
        Self { url, name }
    }

    /// The host name or address of the server.
    pub(super) fn host(&self) -> &str {
        host_of(&self.url)
    }

    /// How each client adds this server by its API.
    pub(super) fn add(&self) -> Vec<Commands> {
        let (name, url) = (&self.name, quote(&self.url));
        each(|program| vec![format!("{program} remote add {name} {url} --public")])
    }

    /// How each client adds this server by simplestreams.
    pub(super) fn add_streams(&self) -> Vec<Commands> {
        let (name, url) = (&self.name, quote(&self.url));
        each(|program| vec![format!("{program} remote add {name} {url} --protocol simplestreams")])
    }

    /// How each client creates an instance of an image.
    pub(super) fn launch(&self, image: &StoredImage) -> Vec<Commands> {
        let reference = quote(&format!("{}:{}", self.name, reference(image)));
        let vm = if image.image_type == ImageType::VirtualMachine { " --vm" } else { "" };
        vec![
            Commands { client: "LXD", lines: vec![format!("lxc launch {reference}{vm}")] },
            Commands { client: "Incus", lines: vec![format!("incus launch {reference}{vm}")] },
            Commands { client: "lxd-image", lines: vec![format!("lxd-image copy {reference}{vm}")] },
        ]
    }

    /// How an image is imported by its URL, without a remote. `None` if it has no alias that can be
    /// one, or is split.
    pub(super) fn direct(&self, image: &StoredImage) -> Option<Vec<Commands>> {
        if image.rootfs_size.is_some() {
            return None;
        }
        let alias = image.aliases.iter().find(|alias| is_plain(&alias.name) && !is_ours(&alias.name))?;
        let url = quote(&format!("{}/{}", self.url, escape::path(&alias.name)));
        Some(each(|program| match program {
            "lxd-image" => vec![format!("lxd-image import {url}")],
            _ => vec![format!("{program} image import {url}")],
        }))
    }
}

/// The commands of the three clients, which differ by the name of the program.
fn each(lines: impl Fn(&str) -> Vec<String>) -> Vec<Commands> {
    [("LXD", "lxc"), ("Incus", "incus"), ("lxd-image", "lxd-image")]
        .map(|(client, program)| Commands { client, lines: lines(program) })
        .into()
}

/// The host in a URL, without a port. Brackets around an IPv6 address stay.
fn host_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or_default();
    if authority.starts_with('[') {
        return authority.split_inclusive(']').next().unwrap_or_default();
    }
    authority.split(':').next().unwrap_or_default()
}

/// The first alias that looks like what it is, or the beginning of the fingerprint.
fn reference(image: &StoredImage) -> String {
    let alias = image.aliases.iter().find(|alias| is_plain(&alias.name));
    alias.map_or_else(|| image.fingerprint.short(), |alias| alias.name.clone())
}

/// Whether a name has no invisible characters.
fn is_plain(name: &str) -> bool {
    !name.chars().any(text::is_hidden)
}

/// Whether a path of this server that is no alias begins like it, so that it can't be imported by
/// its URL.
fn is_ours(alias: &str) -> bool {
    let first = alias.split('/').next().unwrap_or_default();
    matches!(first, "1.0" | "streams" | "metrics" | "health" | "static" | "images" | "" | "." | "..")
}

/// A text as one word for a shell: as it is, or between single quotes (POSIX, Shell Command
/// Language, section 2.2.2).
pub(super) fn quote(word: &str) -> String {
    let plain = |byte: u8| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'+' | b'/' | b':' | b'@' | b',' | b'%')
    };
    if !word.is_empty() && word.bytes().all(plain) {
        return word.to_owned();
    }
    // A single quote can't be inside of single quotes: it is written between two quoted parts.
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn word_for_a_shell_is_one_word_whatever_is_in_it() {
        for (word, quoted) in [
            ("ours:debian/12", "ours:debian/12"),
            ("", "''"),
            ("a b", "'a b'"),
            ("a'b", "'a'\\''b'"),
            ("$(reboot)", "'$(reboot)'"),
            ("a;b", "'a;b'"),
            ("~", "'~'"),
            ("é", "'é'"),
        ] {
            assert_eq!(quote(word), quoted);
        }
    }

    #[test]
    fn remote_has_a_name_that_clients_do_not_have_yet() {
        for (url, name) in [
            ("https://mirror.example.org:8443", "mirror"),
            ("https://images.example.org", "ours"),
            ("https://10.0.0.1:8443", "ours"),
            ("https://[::1]:8443", "ours"),
            ("https://a_b.example", "ours"),
            ("https://BOX", "box"),
        ] {
            assert_eq!(Remote::at(Some(url)).name, name, "{url}");
        }
        assert_eq!(Remote::at(Some("https://[::1]:8443/x")).host(), "[::1]");
    }
}
