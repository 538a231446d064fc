//! `info` and `show`: one image of the store or of a remote, for people and as the YAML that `edit` accepts.
//!
//! `info` prints everything that is known, in the layout of `lxc image info`. `show` prints only the part that can be
//! changed, so that its output can be edited and given back to `edit`. Texts of the image are escaped for the terminal
//! in `info`; in the YAML they are quoted.

use clap::Args;
use lxd_image::remote::{Resolution, Wanted};
use lxd_image::store::StoredImage;
use lxd_image::{Escaped, Result};
use serde_json::{Map, Value};

use crate::failure::Failure;
use crate::location::Location;
use crate::options::Session;
use crate::output::{self, Format, Records};
use crate::registry;
use crate::store::{self, TypeArgument};

/// Show everything about an image
#[derive(Args)]
pub(crate) struct Info {
    /// An alias, a fingerprint or a prefix of one; `REMOTE:` before it means an image of that remote
    #[arg(value_name = "[REMOTE:]REF")]
    reference: String,
    #[command(flatten)]
    which: TypeArgument,
}

/// Show the editable part of an image, as YAML
#[derive(Args)]
pub(crate) struct Show {
    /// An alias, a fingerprint or a prefix of one; `REMOTE:` before it means an image of that remote
    #[arg(value_name = "[REMOTE:]REF")]
    reference: String,
    #[command(flatten)]
    which: TypeArgument,
}

/// The image that a reference names, in the store or on a remote.
///
/// A remote is asked for this machine's architecture, like `copy`: `info images:debian/12` describes the image that a
/// copy would fetch.
pub(crate) fn find(reference: &str, which: TypeArgument, session: &Session) -> Result<StoredImage> {
    let (name, reference) = match Location::of(reference) {
        Location::Local(reference) => return which.find(&session.store_to_read()?, reference),
        Location::Remote(name, reference) => (name, reference),
    };
    let wanted = Wanted::new(reference).image_type(which.image_type());
    let (monitor, shown) = session.monitor();
    let found = session.remote(name).and_then(|remote| remote.resolve(&wanted, &monitor));
    drop(shown);
    found
}

/// Prints everything that is known of an image.
pub(crate) fn info(arguments: &Info, session: &Session) -> Result<(), Failure> {
    if let Location::Remote(name, reference) = Location::of(&arguments.reference)
        && let Some(registry) = session.registry(name)?
    {
        let wanted = Wanted::new(reference).image_type(arguments.which.image_type());
        return match registry::locate(&registry, &wanted, session)? {
            Resolution::AfterDownload { image } => registry::info(&image, &arguments.reference, session),
            found => print(&found.into_named()?, session),
        };
    }
    print(&find(&arguments.reference, arguments.which, session)?, session)
}

/// Prints an image for people, or as the object of the REST API.
fn print(image: &StoredImage, session: &Session) -> Result<(), Failure> {
    if matches!(session.format, Format::Table | Format::Compact) {
        return Ok(output::write(for_people(image).as_bytes())?);
    }
    Ok(output::show(Records::One(store::object(image)), &session.format)?)
}

/// Prints the editable part of an image as YAML, or in the selected format.
pub(crate) fn show(arguments: &Show, session: &Session) -> Result<(), Failure> {
    let image = find(&arguments.reference, arguments.which, session)?;
    if session.format == Format::Table {
        return Ok(output::write(editable(&image).as_bytes())?);
    }
    Ok(output::show(Records::One(editable_part(&image)), &session.format)?)
}

/// The fields that `edit` accepts, by the names of LXD's REST API (PUT /1.0/images/<fingerprint>).
fn editable_part(image: &StoredImage) -> Map<String, Value> {
    let mut object = store::object(image);
    object.retain(|key, _| matches!(key.as_str(), "auto_update" | "properties" | "public" | "expires_at" | "profiles"));
    object
}

/// The editable part as YAML, in the form that `edit` accepts.
pub(crate) fn editable(image: &StoredImage) -> String {
    output::to_yaml(&Value::Object(editable_part(image)), 0)
}

/// An image in the layout of `lxc image info`. Every text of the image is escaped, and secrets in the source's URL are
/// removed.
fn for_people(image: &StoredImage) -> String {
    let yes = |flag| if flag { "yes" } else { "no" };
    let safe = |text: &str| Escaped(text.as_bytes()).to_string();
    let mut lines = vec![
        format!("Fingerprint: {}", image.fingerprint),
        format!("Size: {}", store::size(image.size)),
        format!("Architecture: {}", image.architecture),
        format!("Type: {}", image.image_type.name()),
        format!("Public: {}", yes(image.public)),
        "Timestamps:".to_owned(),
        format!("    Created: {}", store::time(Some(image.created_at), "")),
        format!("    Uploaded: {}", store::time(Some(image.uploaded_at), "")),
        format!("    Expires: {}", store::time(image.expires_at, "never")),
        format!("    Last used: {}", store::time(image.last_used_at, "never")),
        "Properties:".to_owned(),
    ];
    lines.extend(image.properties.iter().map(|(key, value)| format!("    {}: {}", safe(key), safe(value))));
    lines.push("Aliases:".to_owned());
    lines.extend(image.aliases.iter().map(|alias| match alias.description.as_str() {
        "" => format!("    - {}", safe(&alias.name)),
        description => format!("    - {} ({})", safe(&alias.name), safe(description)),
    }));
    lines.push(format!("Cached: {}", yes(image.cached)));
    lines.push(format!("Auto update: {}", if image.auto_update { "enabled" } else { "disabled" }));
    if let Some(source) = &image.source {
        lines.push("Source:".to_owned());
        let source = &source.redacted();
        let facts = [("Server", &source.server), ("Protocol", &source.protocol), ("Alias", &source.alias)];
        lines.extend(facts.iter().map(|(what, value)| format!("    {what}: {}", safe(value))));
    }
    if let Some(rootfs) = image.rootfs_size {
        lines.push("Files:".to_owned());
        lines.push(format!("    Metadata: {}", store::size(image.first_size())));
        lines.push(format!("    Rootfs: {}", store::size(rootfs)));
    }
    lines.extend(image.file_name.iter().map(|name| format!("File name: {}", safe(name))));
    lines.join("\n") + "\n"
}
