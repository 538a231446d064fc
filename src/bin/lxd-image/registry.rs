//! What registries (`--protocol oci`) have that other remotes don't: tags instead of a list of images, container images
//! whose fingerprint is known only after their conversion, and pushes to `NAME:REPOSITORY:TAG`.
//!
//! `list`, `info`, `copy` and `mirror` come here when a remote is a registry. A reference is everything after the first
//! colon.

use lxd_image::oci::Tag;
use lxd_image::remote::{OciPushOptions, OciRegistry, Protocol, Remote, Resolution, UnverifiedImage, Wanted};
use lxd_image::store::{Store, StoredImage};
use lxd_image::{Error, ErrorKind, Escaped, Monitor, Result};
use serde_json::{Map, Value, json};

use crate::failure::Failure;
use crate::options::Session;
use crate::output::{self, Format, Records};
use crate::store::{size, time};

impl Session {
    /// The registry with this name; `None` if the remote has another protocol, or does not exist.
    ///
    /// # Errors
    /// Those of reading the settings and the credentials.
    pub(crate) fn registry(&self, name: &str) -> Result<Option<OciRegistry>> {
        let settings = self.settings()?;
        match settings.get(name) {
            Ok(known) if known.protocol == Protocol::Oci => settings.registry(&known, self.client_options()).map(Some),
            // Whoever needs the remote says what is wrong with its name.
            _ => Ok(None),
        }
    }
}

/// Lists the tags of images in `NAME:REPOSITORY/`, or the repositories of `NAME:` and below `NAME:PATH/`.
///
/// `words` are parts of names; all must match.
///
/// # Errors
/// `NotFound` for a repository; `InvalidInput` for filters by property; those of the registry.
pub(crate) fn list(
    registry: &OciRegistry,
    name: &str,
    path: &str,
    words: &[String],
    session: &Session,
) -> Result<(), Failure> {
    if let Some(word) = words.iter().find(|word| word.contains('=')) {
        let sentence = format!("`{word}`: the tags of a registry have no properties to filter by");
        return Err(Error::new(ErrorKind::InvalidInput, sentence).with_hint("`info` shows those of one image").into());
    }
    let matches = |text: &str| words.iter().all(|word| text.contains(&**word));
    let (monitor, shown) = session.monitor();
    let repository = path.trim_end_matches('/');
    let found = listed(registry, repository, &monitor);
    drop(shown);
    let (column, all) = match found? {
        Listed::Tags(tags) => {
            let images = tags.iter().filter(|tag| !tag.is_about_manifest());
            ("tag", images.map(|tag| tag.as_str().to_owned()).collect::<Vec<_>>())
        }
        Listed::Repositories(names) => ("repository", names),
    };
    let rows = all
        .into_iter()
        .filter(|text| matches(text))
        .map(|text| {
            let reference = match column {
                "tag" => format!("{name}:{repository}:{text}"),
                _ => format!("{name}:{text}/"),
            };
            let mut row = Map::new();
            row.insert(column.to_owned(), Value::String(text));
            row.insert("reference".to_owned(), Value::String(reference));
            row
        })
        .collect();
    Ok(output::show(Records::Many(&[column, "reference"], rows), &session.format)?)
}

/// What a path of a registry holds.
enum Listed {
    Tags(Vec<Tag>),
    Repositories(Vec<String>),
}

/// The tags of a repository, or the repositories below a path that is none.
fn listed(registry: &OciRegistry, path: &str, monitor: &Monitor) -> Result<Listed> {
    if path.is_empty() {
        return registry.repositories(monitor).map(Listed::Repositories).map_err(|error| {
            error.with_hint("many registries list no repositories: name one, as in `NAME:REPOSITORY/`")
        });
    }
    let error = match registry.repository(path)?.tags(monitor) {
        Ok(tags) => return Ok(Listed::Tags(tags)),
        Err(error) if error.kind() == ErrorKind::NotFound => error,
        Err(error) => return Err(error),
    };
    let front = format!("{path}/");
    let below: Vec<String> = match registry.repositories(monitor) {
        Ok(all) => all.into_iter().filter(|name| name.starts_with(&front)).collect(),
        Err(other) if other.kind() == ErrorKind::Cancelled => return Err(other),
        // That there is no repository of this name says more.
        Err(_) => Vec::new(),
    };
    if below.is_empty() { Err(error) } else { Ok(Listed::Repositories(below)) }
}

/// The image of a registry that a reference names: with its fingerprint, or as far as it is known.
///
/// # Errors
/// Those of [`Remote::locate`].
pub(crate) fn locate(registry: &OciRegistry, wanted: &Wanted, session: &Session) -> Result<Resolution> {
    let (monitor, shown) = session.monitor();
    let found = registry.locate(wanted, &monitor);
    drop(shown);
    found
}

/// Prints what is known of a container image before its layers are fetched.
pub(crate) fn info(image: &UnverifiedImage, reference: &str, session: &Session) -> Result<(), Failure> {
    if matches!(session.format, Format::Table | Format::Compact) {
        return Ok(output::write(for_people(image, reference).as_bytes())?);
    }
    let properties: Map<String, Value> =
        image.properties.iter().map(|(key, value)| (key.to_owned(), Value::from(value))).collect();
    let fields = [
        ("reference", json!(reference)),
        ("digest", json!(image.content_digest)),
        ("incus_fingerprint", json!(image.incus_fingerprint.map(|fingerprint| fingerprint.to_string()))),
        ("architecture", json!(image.architecture.kernel_name())),
        ("type", json!(image.image_type.name())),
        ("size", json!(image.size)),
        ("created_at", json!(time(image.created_at, ""))),
        ("properties", Value::Object(properties)),
    ];
    let object = fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    Ok(output::show(Records::One(object), &session.format)?)
}

/// A container image in the layout of `lxc image info`.
fn for_people(image: &UnverifiedImage, reference: &str) -> String {
    let safe = |text: &str| Escaped(text.as_bytes()).to_string();
    let mut lines = vec![
        format!("Reference: {}", safe(reference)),
        format!("Digest: {}", safe(image.content_digest.as_deref().unwrap_or_default())),
        match &image.incus_fingerprint {
            Some(incus) => format!("Fingerprint: known after the download (Incus: {incus})"),
            None => "Fingerprint: known after the download".to_owned(),
        },
        format!("Size: {} (to download)", size(image.size)),
        format!("Architecture: {}", image.architecture),
        format!("Type: {}", image.image_type.name()),
        "Timestamps:".to_owned(),
        format!("    Created: {}", time(image.created_at, "")),
        "Properties:".to_owned(),
    ];
    lines.extend(image.properties.iter().map(|(key, value)| format!("    {}: {}", safe(key), safe(value))));
    lines.join("\n") + "\n"
}

/// What `copy` says of an image that it pushes.
pub(crate) struct Push<'a> {
    /// `REPOSITORY[:TAG]`.
    pub(crate) reference: &'a str,
    /// More tags.
    pub(crate) tags: &'a [String],
    /// Whether the image's aliases in the store become tags, too.
    pub(crate) copy_aliases: bool,
    /// Whether tags that are taken move.
    pub(crate) reuse: bool,
    /// A repository of the same registry that the image came from.
    pub(crate) mount_from: Option<String>,
}

/// Pushes an image of the store to a registry.
///
/// # Errors
/// `InvalidInput` for a tag that registries don't take; those of [`OciRegistry::push`].
pub(crate) fn push(
    registry: &OciRegistry,
    store: &Store,
    image: &StoredImage,
    push: &Push<'_>,
    session: &Session,
    monitor: &Monitor,
) -> Result<()> {
    if push.reference.is_empty() {
        let sentence = "a registry needs a repository to copy to";
        return Err(Error::new(ErrorKind::InvalidInput, sentence).with_hint("write NAME:REPOSITORY:TAG"));
    }
    let mut options = OciPushOptions::new().reuse_tags(push.reuse);
    for tag in push.tags {
        options = options.tag(tag.parse()?);
    }
    if push.copy_aliases {
        options = options.alias_tags(image, monitor);
    }
    if let Some(from) = &push.mount_from {
        options = options.mount_from(&**from);
    }
    options = options.statements(store.statements(&image.fingerprint)?);
    let digest = registry.push(&store.open_image(&image.fingerprint)?, push.reference, &options, monitor)?;
    session.explain(|| format!("the manifest is {digest}"));
    Ok(())
}

/// The repository in a reference, without tag and digest.
pub(crate) fn repository_of(reference: &str) -> &str {
    let front = reference.split('@').next().unwrap_or_default();
    front.rsplit_once(':').map_or(front, |(repository, _)| repository)
}
