//! The one error type of this library: a kind for programs, a sentence for people.
//! Everything that can go wrong in any module ends here; nothing panics on bad input.

mod discreet;
mod shown;

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};

use self::discreet::discreet;
pub use self::shown::Shown;
use crate::redact;

/// What every fallible call of this library returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, for programs to match on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The thing that was named does not exist.
    NotFound,
    /// The thing that was to be made is already there.
    AlreadyExists,
    /// The caller's own argument makes no sense.
    InvalidInput,
    /// The bytes are not what their format says they must be.
    Malformed,
    /// The bytes are well formed, but ask for something that this library does not do.
    Unsupported,
    /// The piece that would do it was compiled out; the message names the feature.
    FeatureDisabled,
    /// A digest or a size differs from the one that was expected.
    Mismatch,
    /// A name or a link would lead out of the place it belongs to.
    UnsafePath,
    /// A bound of [`Limits`](crate::Limits) was reached; the message names it.
    LimitExceeded,
    /// Several things match where exactly one is needed.
    Ambiguous,
    /// Somebody else holds the thing, and the wait that was allowed is over.
    Busy,
    /// A template could not be parsed or rendered.
    Template,
    /// A server answered wrongly, late or not at all.
    Remote,
    /// The caller asked to stop.
    Cancelled,
    /// The operating system refused; the source tells why.
    Io,
    /// There is no space left on the file system that is written to, or in the quota there.
    StorageFull,
    /// Something between here and the data failed in a way that another try may mend.
    Transient,
}

impl ErrorKind {
    /// The kind's name as the command line prints it, for example `UnsafePath`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotFound => "NotFound",
            Self::AlreadyExists => "AlreadyExists",
            Self::InvalidInput => "InvalidInput",
            Self::Malformed => "Malformed",
            Self::Unsupported => "Unsupported",
            Self::FeatureDisabled => "FeatureDisabled",
            Self::Mismatch => "Mismatch",
            Self::UnsafePath => "UnsafePath",
            Self::LimitExceeded => "LimitExceeded",
            Self::Ambiguous => "Ambiguous",
            Self::Busy => "Busy",
            Self::Template => "Template",
            Self::Remote => "Remote",
            Self::Cancelled => "Cancelled",
            Self::Io => "Io",
            Self::StorageFull => "StorageFull",
            Self::Transient => "Transient",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What to do about a full disk, where nobody has said which.
const FREE_SPACE: &str = "free some space in the file system that is written to, or write elsewhere";

/// Whether the operating system says that a file system or a quota is full.
fn is_full(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
}

type Source = Box<dyn std::error::Error + Send + Sync + 'static>;

/// An error: its [`kind`](Error::kind), one sentence, and where it happened.
///
/// `Display` gives one line: the file, the entry, the sentence and the offset, as far as they
/// are known, with every byte that a terminal could act on escaped. The cause below it, if any,
/// is [`source`](std::error::Error::source).
///
/// ```
/// use lxd_image::{ErrorKind, Fingerprint};
///
/// let error = "c0ffee".parse::<Fingerprint>().unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::InvalidInput);
/// assert_eq!(error.to_string(), "a fingerprint has 64 hex digits, this one has 6");
/// ```
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    message: Cow<'static, str>,
    hint: Option<Cow<'static, str>>,
    file: Option<PathBuf>,
    entry: Option<Vec<u8>>,
    offset: Option<u64>,
    mismatch: Option<(String, String)>,
    limit: Option<&'static str>,
    passing: Passing,
    template: Option<TemplatePlace>,
    source: Option<Source>,
}

/// Whether an error may pass by itself.
#[derive(PartialEq)]
#[cfg_attr(not(feature = "remote"), expect(dead_code, reason = "only what comes from elsewhere passes"))]
enum Passing {
    No,
    Later,
    Anew,
}

/// When a template failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TemplateStage {
    /// It is not well formed.
    Parse,
    /// It is, but could not be rendered with what it was given.
    Exec,
}

impl fmt::Display for TemplateStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Parse => "parse",
            Self::Exec => "exec",
        })
    }
}

/// Where and when a template failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct TemplatePlace {
    /// While parsing or while rendering.
    pub stage: TemplateStage,
    /// Line and column in bytes, both from 1, where they are known.
    pub position: Option<(u32, u32)>,
}

impl Error {
    /// An error of `kind` with a sentence for people: what is wrong, and what now.
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner {
            kind,
            message: discreet(message.into()),
            hint: None,
            file: None,
            entry: None,
            offset: None,
            mismatch: None,
            limit: None,
            passing: Passing::No,
            template: None,
            source: None,
        }))
    }

    pub(crate) fn malformed(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Malformed, message)
    }

    pub(crate) fn unsupported(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Unsupported, message)
    }

    pub(crate) fn unsafe_path(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::UnsafePath, message)
    }

    pub(crate) fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::InvalidInput, message)
    }

    /// A server answered wrongly, late or not at all.
    #[cfg(feature = "remote")]
    pub(crate) fn remote(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Remote, message)
    }

    /// Says that the same call may succeed a little later: for those who implement what this library asks, such as the sources
    /// of a server.
    #[must_use]
    pub fn temporary(mut self) -> Self {
        self.0.passing = Passing::Later;
        self
    }

    /// Says that what was begun can't be gone on with, and may succeed from its start.
    #[cfg(feature = "remote")]
    pub(crate) fn begin_anew(mut self) -> Self {
        self.0.passing = Passing::Anew;
        self
    }

    /// Whether [`begin_anew`](Self::begin_anew) was said.
    #[cfg(feature = "remote")]
    pub(crate) fn is_to_begin_anew(&self) -> bool {
        self.0.passing == Passing::Anew
    }

    /// The file system that is written to is full.
    pub(crate) fn storage_full(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::StorageFull, message).with_hint(FREE_SPACE)
    }

    pub(crate) fn cancelled() -> Self {
        Self::new(ErrorKind::Cancelled, "cancelled")
    }

    /// A bound was reached. `limit` is the field of [`Limits`](crate::Limits).
    pub(crate) fn limit(limit: &'static str, value: u64, what: impl fmt::Display) -> Self {
        let mut error = Self::new(ErrorKind::LimitExceeded, format!("{what} is over the limit `{limit}` of {value}"));
        error.0.limit = Some(limit);
        error.with_hint(format!(
            "raise it with `--limit {limit}=N`, or `Limits::{limit}` in a program, if the image is trusted"
        ))
    }

    /// Two values that had to be equal are not.
    pub(crate) fn mismatch(what: &str, expected: impl Into<String>, found: impl Into<String>) -> Self {
        let (expected, found) = (expected.into(), found.into());
        let mut error = Self::new(ErrorKind::Mismatch, format!("{what}: expected {expected}, found {found}"));
        error.0.mismatch = Some((expected, found));
        error
    }

    /// An operating system error on something this library named itself.
    pub(crate) fn io(what: impl Into<Cow<'static, str>>, source: impl Into<std::io::Error>) -> Self {
        let source = source.into();
        // An error of ours that travelled through `std::io::Read` comes out as itself.
        if source.get_ref().is_some_and(|inner| inner.is::<Self>()) {
            return Self::from(source);
        }
        Self::new(ErrorKind::Io, what).with_source(source)
    }

    /// What now: one more sentence, shown apart from the error.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.0.hint = Some(discreet(hint.into()));
        self
    }

    /// The error below this one. An [`ErrorKind::Io`] that a full disk or quota is below becomes
    /// [`ErrorKind::StorageFull`].
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Source>) -> Self {
        let source = source.into();
        if self.0.kind == ErrorKind::Io && source.downcast_ref::<std::io::Error>().is_some_and(is_full) {
            self.0.kind = ErrorKind::StorageFull;
            self.0.hint.get_or_insert(Cow::Borrowed(FREE_SPACE));
        }
        self.0.source = Some(source);
        self
    }

    /// For [`ErrorKind::StorageFull`]: names the directory whose file system is to be cleared.
    pub(crate) fn on_disk_of(self, directory: &Path) -> Self {
        use std::os::unix::ffi::OsStrExt;
        // One that says more already is about another file system.
        if self.0.kind != ErrorKind::StorageFull || self.hint() != Some(FREE_SPACE) {
            return self;
        }
        let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
        let shown = Shown(directory.as_os_str().as_bytes()).to_string();
        self.with_hint(format!("free some space in the file system that holds `{shown}`, or write elsewhere"))
    }

    /// The file that it happened in, unless a closer one is known already. Not noted of [`ErrorKind::Cancelled`]: where a call
    /// happened to be when its caller stopped it says nothing.
    #[must_use]
    pub fn in_file(mut self, file: impl AsRef<Path>) -> Self {
        if self.0.kind == ErrorKind::Cancelled {
            return self;
        }
        self.0.file.get_or_insert_with(|| file.as_ref().to_path_buf());
        self
    }

    /// The archive member that it happened in, as the bytes that stand in the archive. Not noted of [`ErrorKind::Cancelled`].
    #[must_use]
    pub fn in_entry(mut self, entry: &[u8]) -> Self {
        if self.0.kind == ErrorKind::Cancelled {
            return self;
        }
        self.0.entry.get_or_insert_with(|| entry.to_vec());
        self
    }

    /// The position in the (decoded) stream, in bytes. Not noted of [`ErrorKind::Cancelled`].
    #[must_use]
    pub fn at_offset(mut self, offset: u64) -> Self {
        if self.0.kind == ErrorKind::Cancelled {
            return self;
        }
        self.0.offset.get_or_insert(offset);
        self
    }

    /// Puts what it happened to before the sentence.
    pub(crate) fn before(mut self, what: impl fmt::Display) -> Self {
        if self.0.kind == ErrorKind::Cancelled {
            return self;
        }
        self.0.message = discreet(format!("{what}: {}", self.0.message).into());
        self
    }

    /// Where in a template it happened.
    pub(crate) fn in_template(mut self, stage: TemplateStage, position: Option<(u32, u32)>) -> Self {
        self.0.template = Some(TemplatePlace { stage, position });
        self
    }

    /// For errors of a template: the stage, the line and the column.
    #[must_use]
    pub fn template_place(&self) -> Option<TemplatePlace> {
        self.0.template
    }

    /// The kind, to match on.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The sentence alone, without file, entry and offset. Not escaped.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// What a person can do about it, where that is known.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// The file that it happened in.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        self.0.file.as_deref()
    }

    /// The archive member that it happened in: raw bytes of its name.
    #[must_use]
    pub fn entry(&self) -> Option<&[u8]> {
        self.0.entry.as_deref()
    }

    /// The position in the decoded stream, in bytes.
    #[must_use]
    pub fn offset(&self) -> Option<u64> {
        self.0.offset
    }

    /// For [`ErrorKind::Mismatch`]: the expected and the found value.
    #[must_use]
    pub fn expected_and_found(&self) -> Option<(&str, &str)> {
        self.0.mismatch.as_ref().map(|(a, b)| (a.as_str(), b.as_str()))
    }

    /// Whether the same call may succeed a little later, with nothing else changed: a connection
    /// broke, a server had too much to do. Always so of [`ErrorKind::Transient`].
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        self.0.passing != Passing::No || self.0.kind == ErrorKind::Transient
    }

    /// For [`ErrorKind::LimitExceeded`]: the field of [`Limits`](crate::Limits).
    #[must_use]
    pub fn limit_name(&self) -> Option<&'static str> {
        self.0.limit
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use std::os::unix::ffi::OsStrExt;
        if let Some(file) = &self.0.file {
            // People name addresses where files belong, too, with their passwords.
            match file.to_str().filter(|text| text.contains("://")) {
                Some(text) => write!(f, "{}: ", Shown(redact::address(text).as_bytes()))?,
                None => write!(f, "{}: ", Shown(file.as_os_str().as_bytes()))?,
            }
        }
        if let Some(entry) = &self.0.entry {
            write!(f, "entry {}: ", Shown(entry))?;
        }
        write!(f, "{}", Shown(self.0.message.as_bytes()))?;
        if let Some(offset) = self.0.offset {
            write!(f, " (at byte {offset})")?;
        }
        if let Some(source) = &self.0.source {
            write!(f, ": {}", Shown(redact::text(&source.to_string()).as_bytes()))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}({self})", self.0.kind)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|source| &**source as _)
    }
}

impl From<std::io::Error> for Error {
    /// Takes an error of this library out of the `io::Error` that carried it through
    /// [`std::io::Read`] or [`std::io::Write`]; anything else becomes [`ErrorKind::Io`].
    fn from(error: std::io::Error) -> Self {
        if error.get_ref().is_some_and(|inner| inner.is::<Self>()) {
            if let Some(Ok(ours)) = error.into_inner().map(|inner| inner.downcast::<Self>()) {
                return *ours;
            }
            return Self::new(ErrorKind::Io, "an input or output error");
        }
        Self::new(ErrorKind::Io, "an input or output error").with_source(error)
    }
}

impl From<Error> for std::io::Error {
    fn from(error: Error) -> Self {
        let kind = match error.kind() {
            ErrorKind::NotFound => std::io::ErrorKind::NotFound,
            ErrorKind::AlreadyExists => std::io::ErrorKind::AlreadyExists,
            ErrorKind::InvalidInput => std::io::ErrorKind::InvalidInput,
            ErrorKind::Unsupported | ErrorKind::FeatureDisabled => std::io::ErrorKind::Unsupported,
            ErrorKind::Malformed | ErrorKind::Mismatch => std::io::ErrorKind::InvalidData,
            ErrorKind::StorageFull => std::io::ErrorKind::StorageFull,
            _ => std::io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}
