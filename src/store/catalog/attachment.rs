//! Texts that are kept beside an image: the statements about it, and who vouched for it.

/// A text that is kept beside an image, under a name that is unique for the image.
///
/// A catalog doesn't know what it says. It goes when its image goes.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct Attachment {
    /// The name.
    pub name: String,
    /// The text.
    pub content: String,
    /// When it was added, in seconds since 1970.
    pub added_at: i64,
}

impl Attachment {
    /// A text with its name and the time at which it was added.
    #[must_use]
    pub fn new(name: impl Into<String>, content: impl Into<String>, added_at: i64) -> Self {
        Self { name: name.into(), content: content.into(), added_at }
    }
}
