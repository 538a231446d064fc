//! What people type to use this server and an image of it, with each client.
//! Every word of a stranger is quoted for a shell; one that would not look like what it is, is not used.

use serde::Serialize;

use super::text;
use crate::metadata::ImageType;
use crate::protocol::escape;
use crate::store::StoredImage;

/// Names of remotes that clients have from the beginning, or that mean something else.
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
    /// The address; for people who look at a server that does not know it, words in its place.
    url: String,
    /// A name that nobody has yet.
    name: String,
}

/// Lines for one client.
#[derive(Serialize)]
pub(super) struct Commands {
    client: &'static str,
    lines: Vec<String>,
}

impl Remote {
    pub(super) fn at(url: Option<&str>) -> Self {
        let url = url.unwrap_or("https://this.server.example").to_owned();
        let host = host_of(&url);
        let numeric =
            host.starts_with('[') || host.split('.').all(|part| part.bytes().all(|byte| byte.is_ascii_digit()));
        let label = host.split('.').next().unwrap_or_default().to_ascii_lowercase();
        let plain = !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        let name = if numeric || !plain || TAKEN.contains(&label.as_str()) { "ours".to_owned() } else { label };
        Self { url, name }
    }

    /// The name or address of the machine.
    pub(super) fn host(&self) -> &str {
        host_of(&self.url)
    }

    /// How each client gets to know this server by its API.
    pub(super) fn add(&self) -> Vec<Commands> {
        let (name, url) = (&self.name, quote(&self.url));
        each(|program| vec![format!("{program} remote add {name} {url} --public")])
    }

    /// The same by simplestreams.
    pub(super) fn add_streams(&self) -> Vec<Commands> {
        let (name, url) = (&self.name, quote(&self.url));
        each(|program| vec![format!("{program} remote add {name} {url} --protocol simplestreams")])
    }

    /// How each client uses an image.
    pub(super) fn launch(&self, image: &StoredImage) -> Vec<Commands> {
        let reference = quote(&format!("{}:{}", self.name, reference(image)));
        let vm = if image.image_type == ImageType::VirtualMachine { " --vm" } else { "" };
        vec![
            Commands { client: "LXD", lines: vec![format!("lxc launch {reference}{vm}")] },
            Commands { client: "Incus", lines: vec![format!("incus launch {reference}{vm}")] },
            Commands { client: "lxd-image", lines: vec![format!("lxd-image copy {reference}{vm}")] },
        ]
    }

    /// How an image is had by its address alone, without a remote.
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

fn each(lines: impl Fn(&str) -> Vec<String>) -> Vec<Commands> {
    [("LXD", "lxc"), ("Incus", "incus"), ("lxd-image", "lxd-image")]
        .map(|(client, program)| Commands { client, lines: lines(program) })
        .into()
}

fn host_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or_default();
    if authority.starts_with('[') {
        return authority.split_inclusive(']').next().unwrap_or_default();
    }
    authority.split(':').next().unwrap_or_default()
}

/// An alias that looks like what it is, or the beginning of the fingerprint.
fn reference(image: &StoredImage) -> String {
    let alias = image.aliases.iter().find(|alias| is_plain(&alias.name));
    alias.map_or_else(|| image.fingerprint.short(), |alias| alias.name.clone())
}

fn is_plain(name: &str) -> bool {
    !name.chars().any(text::is_hidden)
}

/// Whether an address of this server that is something else begins like it.
fn is_ours(alias: &str) -> bool {
    let first = alias.split('/').next().unwrap_or_default();
    matches!(first, "1.0" | "streams" | "metrics" | "health" | "static" | "images" | "" | "." | "..")
}

/// One word for a shell.
pub(super) fn quote(word: &str) -> String {
    let plain = |byte: u8| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'+' | b'/' | b':' | b'@' | b',' | b'%')
    };
    if !word.is_empty() && word.bytes().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_for_a_shell_is_one_word_whatever_is_in_it() {
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
    fn a_remote_has_a_name_that_clients_do_not_have_yet() {
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
