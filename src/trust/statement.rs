//! [`Statement`]: what somebody says about an image, as an in-toto statement of version 1.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::error::{Error, Result};
use crate::fingerprint::Fingerprint;

/// The version of statements that is read and written.
const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";

/// The type of the predicate that says how an image was built.
pub const PROVENANCE: &str = "https://slsa.dev/provenance/v1";

/// The type of a predicate that says no more than that the signer vouches for the image: `{"vouched": true}`.
pub const VOUCH: &str = "urn:x-lxd-image:vouch:v1";

/// The name of the subject whose digest is the fingerprint of an image.
pub const FINGERPRINT_SUBJECT: &str = "lxd-image-fingerprint";

/// How many subjects a statement may have. An image has two files and a fingerprint.
const MAX_SUBJECTS: usize = 1024;

/// A statement: subjects, which are files with their digests, and a predicate, which says something about them.
///
/// The subject of an image has the name [`FINGERPRINT_SUBJECT`] and the fingerprint as its sha256; each file of the
/// image is a subject, too, so that other tools of in-toto can use the statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    subjects: Vec<Subject>,
    predicate_type: String,
    predicate: Value,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Subject {
    name: String,
    /// In lower case hex; `None` for a subject with digests of other kinds only.
    sha256: Option<String>,
}

/// Fields that are not known are ignored, as in-toto demands.
#[derive(Deserialize)]
struct Written {
    #[serde(rename = "_type")]
    kind: String,
    subject: Vec<WrittenSubject>,
    #[serde(rename = "predicateType")]
    predicate_type: String,
    #[serde(default)]
    predicate: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
struct WrittenSubject {
    #[serde(default)]
    name: String,
    digest: Map<String, Value>,
}

impl Statement {
    /// A statement with a predicate of this type, about nothing yet. The type is a URI.
    #[must_use]
    pub fn new(predicate_type: impl Into<String>, predicate: Value) -> Self {
        Self { subjects: Vec::new(), predicate_type: predicate_type.into(), predicate }
    }

    /// The same subjects with another predicate of the same type.
    #[must_use]
    pub fn with_predicate(mut self, predicate: Value) -> Self {
        self.predicate = predicate;
        self
    }

    /// Makes an image a subject, by its fingerprint.
    #[must_use]
    pub fn image(self, fingerprint: &Fingerprint) -> Self {
        self.file(FINGERPRINT_SUBJECT, fingerprint)
    }

    /// Makes a file a subject, by its sha256.
    #[must_use]
    pub fn file(mut self, name: &str, sha256: &Fingerprint) -> Self {
        self.subjects.push(Subject { name: name.to_owned(), sha256: Some(sha256.to_string()) });
        self
    }

    /// Parses a statement: the payload of an envelope.
    ///
    /// # Errors
    /// `Malformed` for text that is no statement, a digest that is none, and subjects that contradict each other;
    /// `Unsupported` for another version.
    pub fn parse(payload: &[u8]) -> Result<Self> {
        let written: Written = serde_json::from_slice(payload)
            .map_err(|error| Error::malformed("the payload is not a statement of in-toto").with_source(error))?;
        if written.kind != STATEMENT_TYPE {
            let found: String = written.kind.chars().take(64).collect();
            return Err(Error::unsupported(format!("the statement has the type `{found}`, not `{STATEMENT_TYPE}`")));
        }
        if written.subject.is_empty() || written.subject.len() > MAX_SUBJECTS {
            let found = written.subject.len();
            return Err(Error::malformed(format!("the statement has {found} subjects, not 1 to {MAX_SUBJECTS}")));
        }
        check_predicate_type(&written.predicate_type).map_err(|error| Error::malformed(error.message().to_owned()))?;
        let mut subjects: Vec<Subject> = Vec::new();
        for subject in written.subject {
            let name = subject.name;
            if !name.is_empty() && subjects.iter().any(|other| other.name == name) {
                let shown: String = name.chars().take(64).collect();
                return Err(Error::malformed(format!("the statement has the subject `{shown}` twice")));
            }
            let sha256 = match subject.digest.get("sha256") {
                None => None,
                Some(digest) => {
                    let digest = digest.as_str().and_then(|text| text.parse::<Fingerprint>().ok());
                    Some(digest.ok_or_else(|| Error::malformed("a subject has a sha256 that is none"))?.to_string())
                }
            };
            if name == FINGERPRINT_SUBJECT && sha256.is_none() {
                return Err(Error::malformed(format!("the subject `{FINGERPRINT_SUBJECT}` has no sha256")));
            }
            subjects.push(Subject { name, sha256 });
        }
        let predicate = Value::Object(written.predicate.unwrap_or_default());
        Ok(Self { subjects, predicate_type: written.predicate_type, predicate })
    }

    /// The statement in JSON.
    ///
    /// # Errors
    /// `InvalidInput` for a statement about nothing, a predicate that is not a map, or a type that is not a URI.
    pub fn to_json(&self) -> Result<Vec<u8>> {
        check_predicate_type(&self.predicate_type)?;
        if self.subjects.is_empty() || !self.predicate.is_object() {
            return Err(Error::invalid("a statement has a subject, and a map as its predicate"));
        }
        let subjects: Vec<Value> = self
            .subjects
            .iter()
            // A subject with digests of other kinds only is not written again.
            .filter(|subject| subject.sha256.is_some())
            .map(|subject| json!({"name": subject.name, "digest": {"sha256": subject.sha256}}))
            .collect();
        let statement = json!({
            "_type": STATEMENT_TYPE, "subject": subjects,
            "predicateType": self.predicate_type, "predicate": self.predicate,
        });
        Ok(statement.to_string().into_bytes())
    }

    /// The type of the predicate, a URI.
    #[must_use]
    pub fn predicate_type(&self) -> &str {
        &self.predicate_type
    }

    /// The predicate, a map.
    #[must_use]
    pub fn predicate(&self) -> &Value {
        &self.predicate
    }

    /// Whether it is about the image with this fingerprint.
    ///
    /// If it has a subject [`FINGERPRINT_SUBJECT`], that one decides. Otherwise any subject with this sha256 does: the
    /// file of a unified image is a subject of statements of other tools.
    #[must_use]
    pub fn is_about(&self, fingerprint: &Fingerprint) -> bool {
        let wanted = Some(fingerprint.to_string());
        match self.subjects.iter().find(|subject| subject.name == FINGERPRINT_SUBJECT) {
            Some(subject) => subject.sha256 == wanted,
            None => self.subjects.iter().any(|subject| subject.sha256 == wanted),
        }
    }

    /// Fails unless it is about the image with this fingerprint.
    ///
    /// # Errors
    /// `Mismatch`.
    pub fn check_subject(&self, fingerprint: &Fingerprint) -> Result<()> {
        if self.is_about(fingerprint) {
            return Ok(());
        }
        let named = self.subjects.iter().find(|subject| subject.name == FINGERPRINT_SUBJECT);
        let found = named.or(self.subjects.first()).and_then(|subject| subject.sha256.clone());
        let found = found.unwrap_or_else(|| "other subjects".to_owned());
        Err(Error::mismatch("the subject of the statement", fingerprint.to_string(), found))
    }
}

/// Fails with `InvalidInput` for a type of predicate that is not a URI.
fn check_predicate_type(text: &str) -> Result<()> {
    let scheme = text.split_once(':').map(|(scheme, _)| scheme).unwrap_or_default();
    let is_uri = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
        && text.len() <= 1024
        && text.chars().all(|c| !c.is_whitespace() && !c.is_control());
    if is_uri { Ok(()) } else { Err(Error::invalid("the type of a predicate is a URI of at most 1024 bytes")) }
}
