//! [`UploadSpec`]: what a client asks for an image that it uploads or imports, and the ID of an upload in parts.

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::Fingerprint;
use crate::format::ImageForm;
use crate::metadata::ImageType;
use crate::omissions::Omitted;
use crate::progress::Monitor;
use crate::server::core::client::Client;
use crate::store::{Alias, ImportOptions, StoredImage};

/// The properties, aliases and other settings of an image that a client uploads or imports: from
/// headers, from a JSON body, or from the request that issued an upload token.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct UploadSpec {
    /// The fingerprint that the image must have.
    pub(crate) fingerprint: Option<Fingerprint>,
    /// The name of the file that the client uploads, for later downloads.
    pub(crate) file_name: Option<String>,
    /// Whether everybody may see the image.
    pub(crate) public: bool,
    /// Properties that are added to those of the image's metadata, in the order in which they were
    /// sent.
    pub(crate) properties: Vec<(String, String)>,
    /// Aliases that the image gets. One that is taken fails the upload.
    #[serde(with = "alias_pairs")]
    pub(crate) aliases: Vec<Alias>,
    /// The expiry date in seconds since 1970; from a JSON body only.
    pub(crate) expires_at: Option<i64>,
    /// The type that the client names. The image itself determines its type; a difference is reported as an omission.
    #[serde(skip)]
    pub(crate) image_type: Option<ImageType>,
    /// One file or two, as the client names it. An image is stored as it comes; a difference is reported as an omission.
    #[serde(with = "form_name")]
    pub(crate) form: Option<ImageForm>,
    /// Headers that ask for something that the upload token does not allow.
    #[serde(skip)]
    pub(crate) refused: Vec<&'static str>,
}

/// The form by its name, in the same record.
mod form_name {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::format::ImageForm;

    pub(super) fn serialize<S: Serializer>(form: &Option<ImageForm>, serializer: S) -> Result<S::Ok, S::Error> {
        form.map(ImageForm::name).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<ImageForm>, D::Error> {
        Ok(Option::<String>::deserialize(deserializer)?.as_deref().and_then(ImageForm::from_name))
    }
}

/// Aliases as pairs of name and description, in the record of a token that all servers of a store read.
mod alias_pairs {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::store::Alias;

    pub(super) fn serialize<S: Serializer>(aliases: &[Alias], serializer: S) -> Result<S::Ok, S::Error> {
        let pairs: Vec<(&str, &str)> = aliases.iter().map(|alias| (&*alias.name, &*alias.description)).collect();
        pairs.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Alias>, D::Error> {
        let pairs: Vec<(String, String)> = Vec::deserialize(deserializer)?;
        Ok(pairs.into_iter().map(|(name, description)| Alias { name, description }).collect())
    }
}

impl UploadSpec {
    /// Restricts the headers of an untrusted client to what its upload token allows: the settings of the token win.
    ///
    /// What the headers ask for beyond that is not an error: a server that pushes sends the settings of the
    /// original image with each push. It is reported in the operation instead.
    ///
    /// # Errors
    /// `Mismatch` when the headers name another fingerprint than the token.
    pub(crate) fn narrowed(self, headers: Self) -> Result<Self> {
        if let (Some(allowed), Some(named)) = (self.fingerprint, headers.fingerprint)
            && allowed != named
        {
            return Err(Error::mismatch("the fingerprint", allowed.to_string(), named.to_string()));
        }
        let mut refused = Vec::new();
        if headers.public && !self.public {
            refused.push("public");
        }
        if headers.aliases.iter().any(|alias| !self.aliases.iter().any(|own| own.name == alias.name)) {
            refused.push("aliases");
        }
        if !self.properties.is_empty() && !headers.properties.is_empty() && headers.properties != self.properties {
            refused.push("properties");
        }
        Ok(Self {
            refused,
            image_type: headers.image_type,
            fingerprint: self.fingerprint.or(headers.fingerprint),
            file_name: self.file_name.or(headers.file_name),
            properties: if self.properties.is_empty() { headers.properties } else { self.properties },
            ..self
        })
    }

    /// Reports, as omissions, what the client asked for and the stored image does not have.
    pub(crate) fn report(&self, image: &StoredImage, monitor: &Monitor) {
        let omit =
            |option, reason| monitor.omit(image.fingerprint.to_string(), Omitted::NotHonoured { option, reason });
        for header in &self.refused {
            omit(format!("the header `{header}`").into(), "the secret of the upload does not allow it".into());
        }
        if let Some(said) = self.image_type.filter(|said| *said != image.image_type) {
            omit(
                format!("the type `{}`", said.name()).into(),
                format!("the image is a {}", image.image_type.name()).into(),
            );
        }
        if let Some(said) = self.form.filter(|said| *said != image.form()) {
            omit(
                format!("the format `{}`", said.name()).into(),
                format!("the image is {}, and kept as it is", image.form().name()).into(),
            );
        }
    }

    /// The options to import the image with.
    ///
    /// # Errors
    /// `InvalidInput` for invalid properties.
    pub(crate) fn options(&self) -> Result<ImportOptions> {
        let mut options = ImportOptions::new().public(self.public);
        if let Some(fingerprint) = self.fingerprint {
            options = options.expected_fingerprint(fingerprint);
        }
        if let Some(name) = &self.file_name {
            options = options.source_file_name(&**name);
        }
        if let Some(seconds) = self.expires_at {
            options = options.expires_at(seconds);
        }
        for (key, value) in &self.properties {
            options = options.property(&**key, &**value)?;
        }
        Ok(self.aliases.iter().cloned().fold(options, ImportOptions::alias))
    }
}

/// The ID of an upload in the store: made of the name that the client chose, and of its certificate.
///
/// # Errors
/// `InvalidInput` for a name that is not a digest; `Untrusted` for a client without a certificate.
pub(crate) fn upload_id(client: &Client, name: &str) -> Result<Fingerprint> {
    let Client::Trusted(certificate) = client else {
        return Err(Error::new(ErrorKind::Untrusted, "only trusted clients upload in parts"));
    };
    let name: Fingerprint = name.parse().map_err(|error: Error| error.context("the name of an upload"))?;
    Ok(Fingerprint::of(format!("upload {certificate} {name}").as_bytes()))
}
