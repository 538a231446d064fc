//! The front page: how to use this server, a search form, and the images that were found.
//!
//! Its size is bounded whatever the images contain: 50 images on a page, a few aliases and
//! properties of each, and short texts.

use serde::Serialize;

use super::commands::Commands;
use super::search::{Form, Place, Search};
use super::site::Site;
use super::{render, text};
use crate::error::{ErrorKind, Result};
use crate::metadata::ImageType;
use crate::server::api::address::Address;
use crate::server::core::access;
use crate::server::core::client::Client;
use crate::server::message::Response;
use crate::server::state::ServerState;
use crate::store::StoredImage;

/// Aliases of one image that are shown here; the others are on its own page.
const ALIASES: usize = 4;
/// Properties of one image that are shown here.
const PROPERTIES: usize = 8;
/// The longest name or description here, in characters.
const LONGEST: usize = 160;
/// The longest further alias here, in characters.
const ALIAS: usize = 48;
/// The longest key or value of a property here, in characters.
const VALUE: usize = 80;

/// The values of the template `index.html`.
#[derive(Serialize)]
struct Index {
    /// How many public images there are.
    total: usize,
    /// How many of them were found.
    found: usize,
    /// Whether somebody looks for something, and knows this server already.
    searched: bool,
    add: Vec<Commands>,
    streams: Vec<Commands>,
    form: Form,
    place: Place,
    rows: Vec<Row>,
}

/// An image in the list.
#[derive(Serialize)]
struct Row {
    href: String,
    name: String,
    /// Its other names, and how many there are besides.
    others: Vec<String>,
    more: usize,
    description: String,
    architecture: &'static str,
    type_name: &'static str,
    size: String,
    created: String,
    properties: Vec<(String, String)>,
    launch: Vec<Commands>,
}

/// The page for the search in the query of the address.
///
/// # Errors
/// Those of the catalog.
pub(super) fn page(server: &ServerState, site: &Site, address: &Address) -> Result<Response> {
    let public = server.services.public_images()?;
    let search = Search::of(address);
    let (total, form) = (public.len(), search.form(&public));
    let found = search.run(server, &public)?;
    let mut rows = Vec::new();
    for index in found.shown {
        if let Some(image) = public.whole().and_then(|images| images.get(index)) {
            rows.push(row(site, image));
            continue;
        }
        let Some(entry) = public.entries().get(index) else { continue };
        match access::find_local_image(&server.services, &Client::Untrusted, &entry.fingerprint.to_string(), None) {
            Ok(image) => rows.push(row(site, &image)),
            // It went since the catalog was looked at.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    let (searched, found, place) = (search.is_one(), found.count, found.place);
    let (add, streams) = (site.remote.add(), site.remote.add_streams());
    render::page(site, "index.html", &Index { total, found, searched, add, streams, form, place, rows })
}

/// An image as a row of the list.
fn row(site: &Site, image: &StoredImage) -> Row {
    let mut names = image.aliases.iter().map(|alias| text::short(&alias.name, LONGEST));
    let name = names.next().unwrap_or_else(|| image.fingerprint.short());
    let properties = image.properties.iter().filter(|(key, _)| *key != "description").take(PROPERTIES);
    Row {
        href: format!("/images/{}", image.fingerprint),
        name,
        others: names.by_ref().take(ALIASES).map(|name| text::short(&name, ALIAS)).collect(),
        more: names.count(),
        description: text::short(&describe(image), LONGEST),
        architecture: image.architecture.kernel_name(),
        type_name: type_name(image.image_type),
        size: text::size(image.size),
        created: text::day(image.created_at),
        properties: properties.map(|(key, value)| (text::short(key, VALUE), text::short(value, VALUE))).collect(),
        launch: site.remote.launch(image),
    }
}

/// The description of an image: its property, or operating system, release and variant.
pub(super) fn describe(image: &StoredImage) -> String {
    if let Some(description) = image.properties.get("description").filter(|text| !text.trim().is_empty()) {
        return description.to_owned();
    }
    let parts = ["os", "release", "variant"].map(|key| image.properties.get(key).unwrap_or_default());
    parts.into_iter().filter(|part| !part.is_empty() && *part != "default").collect::<Vec<_>>().join(" ")
}

/// The image type in words.
pub(super) fn type_name(image_type: ImageType) -> &'static str {
    match image_type {
        ImageType::Container => "Container",
        ImageType::VirtualMachine => "Virtual machine",
    }
}
