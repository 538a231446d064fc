//! `info` and `show`: one image of the store or of a remote, for people and as the YAML that `edit` accepts.
//!
//! `info` prints everything that is known, in the layout of `lxc image info`. `show` prints only the part that can be
//! changed, so that its output can be edited and given back to `edit`. Texts of the image are escaped for the terminal
//! in `info`; in the YAML they are quoted.

use clap::Args;
use lxd_image::remote::{Resolution, Wanted};
use lxd_image::store::{StoredImage, Vouched};
use lxd_image::trust::Envelope;
use lxd_image::{Escaped, Result};
use serde_json::{Map, Value, json};

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
            found => print(&found.into_named()?, &Trust::default(), session),
        };
    }
    let image = find(&arguments.reference, arguments.which, session)?;
    let trust = match Location::of(&arguments.reference) {
        Location::Local(_) => {
            let store = session.store_to_read()?;
            Trust { vouched: store.vouched(&image.fingerprint)?, statements: store.statements(&image.fingerprint)? }
        }
        Location::Remote(..) => Trust::default(),
    };
    print(&image, &trust, session)
}

/// Prints an image for people, or as the object of the REST API.
fn print(image: &StoredImage, trust: &Trust, session: &Session) -> Result<(), Failure> {
    if matches!(session.format, Format::Table | Format::Compact) {
        let text = for_people(image) + &trust.for_people();
        return Ok(output::write(text.as_bytes())?);
    }
    let mut object = store::object(image);
    trust.add_to(&mut object);
    Ok(output::show(Records::One(object), &session.format)?)
}

/// Who vouches for an image of the store.
#[derive(Default)]
struct Trust {
    vouched: Vouched,
    statements: Vec<Envelope>,
}

impl Trust {
    /// The lines of `info`; nothing if nobody vouches.
    fn for_people(&self) -> String {
        let safe = |text: &str| Escaped(text.as_bytes()).to_string();
        let mut lines = Vec::new();
        if let Some((admission, at)) = &self.vouched.admission {
            let rule = admission
                .rule
                .as_deref()
                .map_or_else(|| "no rule is for it".to_owned(), |rule| format!("rule `{rule}`"));
            lines.push(format!("Admitted: {} ({})", store::time(Some(*at), ""), safe(&rule)));
            lines.extend(admission.vouched.iter().map(|by| format!("    - {}", safe(by))));
        }
        if let Some((list, at)) = &self.vouched.list {
            lines.push(format!("Listed by: key {} ({})", safe(&list.key), store::time(Some(*at), "")));
        }
        if !self.statements.is_empty() {
            lines.push("Statements:".to_owned());
            let kinds = self.statements.iter().map(|envelope| envelope.statement().predicate_type());
            lines.extend(kinds.map(|kind| format!("    - {}", safe(kind))));
        }
        lines.into_iter().map(|line| line + "\n").collect()
    }

    /// Adds the same to the object for programs.
    fn add_to(&self, object: &mut Map<String, Value>) {
        if let Some((admission, at)) = &self.vouched.admission {
            let at = store::time(Some(*at), "");
            object.insert("admission".into(), json!({"rule": admission.rule, "vouched": admission.vouched, "at": at}));
        }
        if let Some((list, at)) = &self.vouched.list {
            object.insert("signed_list".into(), json!({"key": list.key, "at": store::time(Some(*at), "")}));
        }
        if !self.statements.is_empty() {
            let kinds: Vec<_> = self.statements.iter().map(|envelope| envelope.statement().predicate_type()).collect();
            object.insert("statements".into(), json!(kinds));
        }
    }
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
    let requirements: Vec<String> = image
        .properties
        .requirements()
        .map(|requirement| {
            let meaning = requirement.meaning().unwrap_or("no daemon is known to check it");
            format!("    {}={}: {meaning}", safe(requirement.name), safe(requirement.value))
        })
        .collect();
    if !requirements.is_empty() {
        lines.push("Requirements:".to_owned());
        lines.extend(requirements);
    }
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
