//! The front page: how to use this server, a form to search with, and what is found.

use serde::Serialize;

use super::super::address::Address;
use super::super::handler::Handler;
use super::super::message::Response;
use super::super::sight;
use super::commands::Commands;
use super::search::{Form, Place, Search};
use super::{Site, render, text};
use crate::error::Result;
use crate::metadata::ImageType;
use crate::store::StoredImage;

/// Aliases and properties of one image that are shown here; the others are on its own page.
const ALIASES: usize = 4;
const PROPERTIES: usize = 8;
/// The longest texts here, in characters.
const LONGEST: usize = 160;
const ALIAS: usize = 48;
const VALUE: usize = 80;

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

pub(super) fn page(handler: &Handler, site: &Site, address: &Address) -> Result<Response> {
    let all = sight::all(handler, &sight::anybody())?;
    let search = Search::of(address);
    let (total, form) = (all.len(), search.form(&all));
    let mut images: Vec<&StoredImage> = all.iter().filter(|image| search.finds(image)).collect();
    search.sort(&mut images);
    let (part, place) = search.part(images.len());
    let rows = images.get(part).unwrap_or_default().iter().map(|image| row(site, image)).collect();
    let searched = search.is_one();
    let (add, streams) = (site.remote.add(), site.remote.add_streams());
    render::page(site, "index.html", &Index { total, found: images.len(), searched, add, streams, form, place, rows })
}

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

/// What an image says of itself, or what it is.
pub(super) fn describe(image: &StoredImage) -> String {
    if let Some(description) = image.properties.get("description").filter(|text| !text.trim().is_empty()) {
        return description.to_owned();
    }
    let parts = ["os", "release", "variant"].map(|key| image.properties.get(key).unwrap_or_default());
    parts.into_iter().filter(|part| !part.is_empty() && *part != "default").collect::<Vec<_>>().join(" ")
}

pub(super) fn type_name(image_type: ImageType) -> &'static str {
    match image_type {
        ImageType::Container => "Container",
        ImageType::VirtualMachine => "Virtual machine",
    }
}
