//! The columns of a list of images, as `lxc image list` has them: their letters, their names, and what they show.
//!
//! Lists and filters share them, so that a value that a list shows can be typed as a filter.

use super::image::{Alias, StoredImage};
use crate::error::{Error, Result};

/// A column of a list of images.
///
/// ```
/// use lxd_image::store::Column;
///
/// let columns = Column::parse("l,F")?;
/// assert_eq!(columns, [Column::Alias, Column::WholeFingerprint]);
/// assert_eq!(columns[0].name(), "alias");
/// # Ok::<(), lxd_image::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Column {
    /// `l`: the shortest alias, and how many more there are.
    Alias,
    /// `L`: all aliases, one a line.
    Aliases,
    /// `f`: the first digits of the fingerprint.
    Fingerprint,
    /// `F`: the whole fingerprint.
    WholeFingerprint,
    /// `p`: whether it is public.
    Public,
    /// `d`: the property `description`.
    Description,
    /// `a`: the architecture.
    Architecture,
    /// `t`: whether it is for containers or virtual machines.
    Type,
    /// `s`: the size.
    Size,
    /// `u`: when it was imported.
    UploadDate,
    /// `e`: when it expires.
    ExpiresAt,
    /// `c`: whether it is cached.
    Cached,
    /// `U`: when it was used last.
    LastUsedAt,
}

impl Column {
    /// All columns, in the order of their description.
    pub const ALL: [Self; 13] = [
        Self::Alias,
        Self::Aliases,
        Self::Fingerprint,
        Self::WholeFingerprint,
        Self::Public,
        Self::Description,
        Self::Architecture,
        Self::Type,
        Self::Size,
        Self::UploadDate,
        Self::ExpiresAt,
        Self::Cached,
        Self::LastUsedAt,
    ];

    /// The columns that letters name; commas and blanks may stand between them.
    ///
    /// # Errors
    /// `InvalidInput` for a letter that no column has, and for none at all.
    pub fn parse(letters: &str) -> Result<Vec<Self>> {
        const HINT: &str = "the columns are l L f F p d a t s u e c U";
        let columns: Vec<Self> = letters
            .chars()
            .filter(|letter| !matches!(letter, ',' | ' '))
            .map(|letter| {
                let unknown = || Error::invalid(format!("unknown column `{letter}`")).with_hint(HINT);
                Self::ALL.into_iter().find(|column| column.letter() == letter).ok_or_else(unknown)
            })
            .collect::<Result<_>>()?;
        if columns.is_empty() { Err(Error::invalid("no column is named").with_hint(HINT)) } else { Ok(columns) }
    }

    /// The letter that stands for it in a list of columns.
    #[must_use]
    pub const fn letter(self) -> char {
        match self {
            Self::Alias => 'l',
            Self::Aliases => 'L',
            Self::Fingerprint => 'f',
            Self::WholeFingerprint => 'F',
            Self::Public => 'p',
            Self::Description => 'd',
            Self::Architecture => 'a',
            Self::Type => 't',
            Self::Size => 's',
            Self::UploadDate => 'u',
            Self::ExpiresAt => 'e',
            Self::Cached => 'c',
            Self::LastUsedAt => 'U',
        }
    }

    /// Its heading, in lower case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Alias => "alias",
            Self::Aliases => "aliases",
            Self::Fingerprint | Self::WholeFingerprint => "fingerprint",
            Self::Public => "public",
            Self::Description => "description",
            Self::Architecture => "architecture",
            Self::Type => "type",
            Self::Size => "size",
            Self::UploadDate => "upload date",
            Self::ExpiresAt => "expires at",
            Self::Cached => "cached",
            Self::LastUsedAt => "last used at",
        }
    }

    /// The values that it shows of an image: one, none or several, each on a line of its own. They are not escaped.
    #[must_use]
    pub fn values(self, image: &StoredImage) -> Vec<String> {
        vec![match self {
            Self::Aliases => return image.aliases.iter().map(|alias| alias.name.clone()).collect(),
            Self::Alias => match image.shortest_alias() {
                Some(alias) if image.aliases.len() > 1 => {
                    format!("{} ({} more)", alias.name, image.aliases.len() - 1)
                }
                Some(alias) => alias.name.clone(),
                None => String::new(),
            },
            Self::Fingerprint => image.fingerprint.short(),
            Self::WholeFingerprint => image.fingerprint.to_string(),
            Self::Public => yes(image.public),
            Self::Description => image.properties.get("description").unwrap_or_default().to_owned(),
            Self::Architecture => image.architecture.to_string(),
            Self::Type => image.image_type.name().to_uppercase(),
            Self::Size => size_text(image.size),
            Self::UploadDate => time_text(Some(image.uploaded_at), ""),
            Self::ExpiresAt => time_text(image.expires_at, "never"),
            Self::Cached => yes(image.cached),
            Self::LastUsedAt => time_text(image.last_used_at, "never"),
        }]
    }
}

/// A flag as a list shows it.
fn yes(flag: bool) -> String {
    (if flag { "yes" } else { "no" }).to_owned()
}

impl StoredImage {
    /// The shortest alias, the first in order among equals: for lists with space for one.
    #[must_use]
    pub fn shortest_alias(&self) -> Option<&Alias> {
        self.aliases.iter().min_by_key(|alias| (alias.name.chars().count(), &alias.name))
    }
}

/// Formats a size as `lxc` does: in units of 1024, with two decimals.
///
/// ```
/// assert_eq!(lxd_image::store::size_text(1_536), "1.50KiB");
/// ```
#[must_use]
pub fn size_text(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes}B");
    }
    #[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
    let mut value = bytes as f64 / 1024.0;
    let mut units = UNITS.iter();
    let mut unit = units.next();
    while value >= 1024.0
        && let Some(next) = units.next()
    {
        value /= 1024.0;
        unit = Some(next);
    }
    format!("{value:.2}{}", unit.unwrap_or(&"KiB"))
}

/// Formats seconds since 1970 for people, in UTC, to the minute; `otherwise` if there is no time.
///
/// ```
/// assert_eq!(lxd_image::store::time_text(Some(0), "never"), "1970/01/01 00:00 UTC");
/// ```
#[must_use]
pub fn time_text(seconds: Option<i64>, otherwise: &str) -> String {
    let Some(seconds) = seconds else { return otherwise.to_owned() };
    // Computed from the civil time: jiff's `Timestamp` ends some hours before the end of the year 9999.
    let epoch = jiff::civil::DateTime::constant(1970, 1, 1, 0, 0, 0, 0);
    match epoch.checked_add(jiff::SignedDuration::from_secs(seconds)) {
        Ok(time) => time.strftime("%Y/%m/%d %H:%M UTC").to_string(),
        Err(_) => seconds.to_string(),
    }
}
