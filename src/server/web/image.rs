//! The page of one image: its properties and aliases, how to use it with each client, and its
//! files.
//!
//! Everything about the image is shown as text of untrusted origin. Long values are folded, so that
//! one of a megabyte does not push the rest off the page.

use serde::Serialize;

use super::commands::Commands;
use super::index::{describe, type_name};
use super::site::Site;
use super::{render, text};
use crate::error::{ErrorKind, Result};
use crate::format::Container;
use crate::server::api::simplestreams::names;
use crate::server::core::access;
use crate::server::core::client::Client;
use crate::server::message::Response;
use crate::server::state::ServerState;
use crate::store::StoredImage;

/// A value that is longer, in bytes, is folded.
const LONG: usize = 400;
/// The characters of a folded value that are visible.
const BEGINNING: usize = 120;

/// The values of the template `image.html`.
#[derive(Serialize)]
struct Shown {
    name: String,
    description: String,
    fingerprint: String,
    architecture: &'static str,
    architecture_name: &'static str,
    type_name: &'static str,
    size: String,
    bytes: u64,
    split: bool,
    created: String,
    uploaded: String,
    expires: Option<String>,
    aliases: Vec<(String, String)>,
    properties: Vec<Property>,
    add: Vec<Commands>,
    launch: Vec<Commands>,
    direct: Option<Vec<Commands>>,
    files: Vec<File>,
}

/// A property of the image.
#[derive(Serialize)]
struct Property {
    key: String,
    /// The beginning of a value that would be longer than the rest of the page; people open it.
    beginning: Option<String>,
    value: String,
}

/// A file that can be downloaded.
#[derive(Serialize)]
struct File {
    label: &'static str,
    href: String,
    size: String,
}

/// The page of the public image with this fingerprint or prefix.
///
/// # Errors
/// `NotFound`, also for an ambiguous prefix; those of the catalog.
pub(super) fn page(server: &ServerState, site: &Site, name: &str) -> Result<Response> {
    let image = find(server, name)?;
    let own = Shown {
        name: image.aliases.first().map_or_else(|| image.fingerprint.short(), |alias| text::short(&alias.name, 255)),
        description: text::visible(&describe(&image)),
        fingerprint: image.fingerprint.to_string(),
        architecture: image.architecture.kernel_name(),
        architecture_name: image.architecture.debian_name(),
        type_name: type_name(image.image_type),
        size: text::size(image.size),
        bytes: image.size,
        split: image.rootfs_size.is_some(),
        created: text::minute(image.created_at),
        uploaded: text::minute(image.uploaded_at),
        expires: image.expires_at.map(text::minute),
        aliases: image
            .aliases
            .iter()
            .map(|alias| (text::visible(&alias.name), text::visible(&alias.description)))
            .collect(),
        properties: image.properties.iter().map(|(key, value)| property(key, value)).collect(),
        add: site.remote.add(),
        launch: site.remote.launch(&image),
        direct: site.remote.direct(&image),
        files: files(server, &image),
    };
    render::page(site, "image.html", &own)
}

/// A property as the page shows it.
fn property(key: &str, value: &str) -> Property {
    let beginning = (value.len() > LONG).then(|| text::short(value, BEGINNING));
    Property { key: text::short(key, LONG), beginning, value: text::visible(value) }
}

/// The public image whose fingerprint begins with these digits. The upstream is not asked: browsing
/// must not download images.
fn find(server: &ServerState, digits: &str) -> Result<StoredImage> {
    access::find_local_image(&server.services, &Client::Untrusted, digits, None).map_err(|error| match error.kind() {
        // No fingerprint, and the beginning of several: there is no such page.
        ErrorKind::InvalidInput | ErrorKind::Ambiguous => access::not_found(),
        _ => error,
    })
}

/// The files of an image, with the addresses at which everybody can download them.
fn files(server: &ServerState, image: &StoredImage) -> Vec<File> {
    let Some(rootfs_size) = image.rootfs_size else {
        let href = format!("/1.0/images/{}/export", image.fingerprint);
        return vec![File { label: "Image file", href, size: text::size(image.size) }];
    };
    let mut files = vec![File {
        label: "Metadata file",
        href: names::metadata_path(&image.fingerprint),
        size: text::size(image.first_size()),
    }];
    // The rootfs is opened for its kind, which the address of its file contains.
    let opened = server.services.store.open_image(&image.fingerprint);
    // What can't be opened can't be downloaded; the rest of the page is as right as before.
    let container = opened
        .and_then(|opened| opened.open(&server.services.options.limits))
        .ok()
        .and_then(|image| image.containers().nth(1));
    if let Some(container) = container {
        let label = match container {
            Container::SquashFs => "Root file system (SquashFS)",
            Container::Tar(_) => "Root file system (tar)",
            Container::Qcow2 => "Disk (qcow2)",
        };
        let href = names::rootfs_path(&image.fingerprint, container);
        files.push(File { label, href, size: text::size(rootfs_size) });
    }
    files
}
