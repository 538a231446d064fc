//! The error type of this library, [`Error`]: a kind for programs to match on, and a sentence for people.
//!
//! Every fallible call of every module returns it; no input makes the library panic. An error
//! collects where it happened on its way up: the code that reads an archive adds the member and the
//! offset, its caller the file. Each of those is set once, by the innermost caller that knows it.
//! Messages, hints and causes are redacted: passwords and tokens in addresses become `***`.

mod escaped;
mod secrets;

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};

pub use self::escaped::Escaped;
use self::secrets::redact_message;
use crate::redact;

/// The result of every fallible call of this library.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The kind of an [`Error`], for programs to match on.
///
/// The kinds are few and stable; new ones may be added, so a `match` needs a wildcard arm. The
/// command line prints the [`name`](Self::name), and its exit status follows from the kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The named object does not exist.
    NotFound,
    /// The object to create exists already.
    AlreadyExists,
    /// An argument of the caller is invalid.
    InvalidInput,
    /// The data violates its format.
    Malformed,
    /// The data is well formed, but uses a feature that this library does not implement.
    Unsupported,
    /// The code for it was compiled out; the message names the Cargo feature.
    FeatureDisabled,
    /// A digest or a size differs from the expected one.
    Mismatch,
    /// A path or a link leads out of the directory that it must stay in.
    UnsafePath,
    /// A bound of [`Limits`](crate::Limits) is exceeded; the message names it, as does [`Error::limit_name`].
    LimitExceeded,
    /// Several objects match where exactly one must.
    Ambiguous,
    /// Another process or thread holds a lock, and the allowed wait has ended.
    Busy,
    /// A template cannot be parsed or rendered; [`Error::template_place`] has the position.
    Template,
    /// A server answered incorrectly, too late or not at all.
    Remote,
    /// The caller cancelled the call.
    Cancelled,
    /// The operating system reported an error, which is the [`source`](std::error::Error::source).
    Io,
    /// The file system that is written to, or the quota on it, is full.
    StorageFull,
    /// A backend failed in a way that a retry may cure, such as an object store that is overloaded.
    Transient,
    /// A signature is not valid, or the policy does not admit the image.
    Untrusted,
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
            Self::Untrusted => "Untrusted",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The hint for a full disk whose path is not known (yet): see [`Error::on_disk_of`].
const FREE_SPACE: &str = "free some space in the file system that is written to, or write elsewhere";

/// Whether the operating system reported a full file system (`ENOSPC`) or quota (`EDQUOT`).
fn is_full(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
}

type Source = Box<dyn std::error::Error + Send + Sync + 'static>;

/// An error: its [`kind`](Error::kind), one sentence, and where it happened.
///
/// `Display` writes one line: the file, the entry, the sentence, the offset and the cause, as far
/// as they are known, with every control byte [escaped](Escaped). A [`hint`](Error::hint), if there
/// is one, says what to do; it is shown apart. The underlying error is the
/// [`source`](std::error::Error::source). An error that travels through [`std::io::Read`] or
/// [`std::io::Write`] as a [`std::io::Error`] is taken out again by `From`, so that nothing is lost
/// at that boundary.
///
/// It is one pointer wide, so that a `Result` costs no more than its value.
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
    retry: Retry,
    template: Option<TemplatePlace>,
    source: Option<Source>,
}

/// Whether and how a failed call may be retried.
#[derive(PartialEq)]
#[cfg_attr(not(feature = "remote"), expect(dead_code, reason = "only remote transfers have to restart"))]
enum Retry {
    /// The same call fails again.
    Never,
    /// The same call may succeed a little later, and may resume where it stopped.
    Transient,
    /// The call may succeed if it restarts from the beginning: what was transferred so far is of no
    /// use, for example because the file was replaced at its server.
    Restart,
}

/// The stage in which a template failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TemplateStage {
    /// While it was parsed: its syntax is wrong.
    Parse,
    /// While it was rendered with the values of its context.
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

/// Where and in which stage a template failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct TemplatePlace {
    /// The stage that failed.
    pub stage: TemplateStage,
    /// Line, and column in bytes, both counted from 1, where they are known.
    pub position: Option<(u32, u32)>,
}

impl Error {
    /// Makes an error of `kind` with a sentence for people: the object first, then what is wrong
    /// with it, without a full stop.
    ///
    /// Passwords and tokens of addresses in a formatted message are replaced by `***`; string
    /// constants are taken as they are. For what to do about it use [`with_hint`](Self::with_hint).
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner {
            kind,
            message: redact_message(message.into()),
            hint: None,
            file: None,
            entry: None,
            offset: None,
            mismatch: None,
            limit: None,
            retry: Retry::Never,
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

    /// An [`ErrorKind::Remote`] error.
    #[cfg(feature = "remote")]
    pub(crate) fn remote(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Remote, message)
    }

    /// Marks the error as transient: the same call may succeed a little later. For implementations
    /// of this library's traits, such as the sources of a server;
    /// [`is_transient`](Self::is_transient) asks for it.
    #[must_use]
    pub fn transient(mut self) -> Self {
        self.0.retry = Retry::Transient;
        self
    }

    /// Marks the error as one after which a transfer must restart from its beginning: it cannot be resumed.
    #[cfg(feature = "remote")]
    pub(crate) fn needs_restart(mut self) -> Self {
        self.0.retry = Retry::Restart;
        self
    }

    /// Whether a transfer may succeed if it restarts from its beginning.
    #[cfg(feature = "remote")]
    pub(crate) fn is_to_restart(&self) -> bool {
        self.0.retry == Retry::Restart
    }

    /// An [`ErrorKind::StorageFull`] error.
    pub(crate) fn storage_full(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::StorageFull, message).with_hint(FREE_SPACE)
    }

    /// The error of every call that ends because its caller cancelled it.
    pub(crate) fn cancelled() -> Self {
        Self::new(ErrorKind::Cancelled, "cancelled")
    }

    /// The bound `value` of `limit`, a field of [`Limits`](crate::Limits), is exceeded by `what`.
    /// The hint says how to raise it.
    pub(crate) fn limit(limit: &'static str, value: u64, what: impl fmt::Display) -> Self {
        let mut error = Self::new(ErrorKind::LimitExceeded, format!("{what} is over the limit `{limit}` of {value}"));
        error.0.limit = Some(limit);
        error.with_hint(format!(
            "raise it with `--limit {limit}=N`, or `Limits::{limit}` in a program, if the image is trusted"
        ))
    }

    /// Two values that must be equal differ: `what` names them, in the terms of the caller.
    pub(crate) fn mismatch(what: &str, expected: impl Into<String>, found: impl Into<String>) -> Self {
        let (expected, found) = (expected.into(), found.into());
        let mut error = Self::new(ErrorKind::Mismatch, format!("{what}: expected {expected}, found {found}"));
        error.0.mismatch = Some((expected, found));
        error
    }

    /// An operating system error with a sentence that says what failed. An error of this library that travelled as an
    /// [`std::io::Error`] comes out as itself, without `what`.
    pub(crate) fn io(what: impl Into<Cow<'static, str>>, source: impl Into<std::io::Error>) -> Self {
        let source = source.into();
        if source.get_ref().is_some_and(|inner| inner.is::<Self>()) {
            return Self::from(source);
        }
        Self::new(ErrorKind::Io, what).with_source(source)
    }

    /// Sets the hint: what a person can do about the error. It is shown on a line of its own.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.0.hint = Some(redact_message(hint.into()));
        self
    }

    /// Sets the underlying error. An [`ErrorKind::Io`] error whose source is a full disk or quota becomes
    /// [`ErrorKind::StorageFull`], with a hint.
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

    /// For [`ErrorKind::StorageFull`]: names in the hint the directory whose file system is full.
    pub(crate) fn on_disk_of(self, directory: &Path) -> Self {
        use std::os::unix::ffi::OsStrExt;
        // A more specific hint is about another file system: keep it.
        if self.0.kind != ErrorKind::StorageFull || self.hint() != Some(FREE_SPACE) {
            return self;
        }
        let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
        let shown = Escaped(directory.as_os_str().as_bytes()).to_string();
        self.with_hint(format!("free some space in the file system that holds `{shown}`, or write elsewhere"))
    }

    /// Sets the file that it happened in, unless an inner call has set one.
    /// [`ErrorKind::Cancelled`] gets no position: where a call was when its caller cancelled it
    /// says nothing.
    #[must_use]
    pub fn in_file(mut self, file: impl AsRef<Path>) -> Self {
        if self.0.kind == ErrorKind::Cancelled {
            return self;
        }
        self.0.file.get_or_insert_with(|| file.as_ref().to_path_buf());
        self
    }

    /// Sets the archive member that it happened in, with the raw bytes of its name, under the same rules as
    /// [`in_file`](Self::in_file).
    #[must_use]
    pub fn in_entry(mut self, entry: &[u8]) -> Self {
        if self.0.kind == ErrorKind::Cancelled {
            return self;
        }
        self.0.entry.get_or_insert_with(|| entry.to_vec());
        self
    }

    /// Sets the position in the decoded stream, in bytes, under the same rules as [`in_file`](Self::in_file).
    #[must_use]
    pub fn at_offset(mut self, offset: u64) -> Self {
        if self.0.kind == ErrorKind::Cancelled {
            return self;
        }
        self.0.offset.get_or_insert(offset);
        self
    }

    /// Prefixes the message with what the failed call was about: `{what}: {message}`. Not for
    /// [`ErrorKind::Cancelled`].
    pub(crate) fn context(mut self, what: impl fmt::Display) -> Self {
        if self.0.kind == ErrorKind::Cancelled {
            return self;
        }
        self.0.message = redact_message(format!("{what}: {}", self.0.message).into());
        self
    }

    /// Sets the stage and the position in a template.
    pub(crate) fn in_template(mut self, stage: TemplateStage, position: Option<(u32, u32)>) -> Self {
        self.0.template = Some(TemplatePlace { stage, position });
        self
    }

    /// For [`ErrorKind::Template`]: the stage, the line and the column.
    #[must_use]
    pub fn template_place(&self) -> Option<TemplatePlace> {
        self.0.template
    }

    /// The kind of error, to match on.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The sentence alone, without file, entry and offset. It is not escaped: wrap it in [`Escaped`] for a terminal.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// What a person can do about the error, if known.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// The file that it happened in, if known.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        self.0.file.as_deref()
    }

    /// The archive member that it happened in, if known: the raw bytes of its name.
    #[must_use]
    pub fn entry(&self) -> Option<&[u8]> {
        self.0.entry.as_deref()
    }

    /// The position in the decoded stream, in bytes, if known.
    #[must_use]
    pub fn offset(&self) -> Option<u64> {
        self.0.offset
    }

    /// For [`ErrorKind::Mismatch`]: the expected and the found value, in this order.
    #[must_use]
    pub fn expected_and_found(&self) -> Option<(&str, &str)> {
        self.0.mismatch.as_ref().map(|(a, b)| (a.as_str(), b.as_str()))
    }

    /// Whether the same call may succeed a little later, with nothing else changed: a connection
    /// broke, or a server was overloaded. Always true for [`ErrorKind::Transient`].
    #[must_use]
    pub fn is_transient(&self) -> bool {
        self.0.retry != Retry::Never || self.0.kind == ErrorKind::Transient
    }

    /// For [`ErrorKind::LimitExceeded`]: the name of the field of [`Limits`](crate::Limits), as `--limit` takes it.
    #[must_use]
    pub fn limit_name(&self) -> Option<&'static str> {
        self.0.limit
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use std::os::unix::ffi::OsStrExt;
        if let Some(file) = &self.0.file {
            // Callers pass addresses as files, too, and these may hold passwords.
            match file.to_str().filter(|text| text.contains("://")) {
                Some(text) => write!(f, "{}: ", Escaped(redact::address(text).as_bytes()))?,
                None => write!(f, "{}: ", Escaped(file.as_os_str().as_bytes()))?,
            }
        }
        if let Some(entry) = &self.0.entry {
            write!(f, "entry {}: ", Escaped(entry))?;
        }
        write!(f, "{}", Escaped(self.0.message.as_bytes()))?;
        if let Some(offset) = self.0.offset {
            write!(f, " (at byte {offset})")?;
        }
        if let Some(source) = &self.0.source {
            write!(f, ": {}", Escaped(redact::text(&source.to_string()).as_bytes()))?;
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
    /// Takes an error of this library out of the [`std::io::Error`] that carried it; any other error becomes
    /// [`ErrorKind::Io`] or [`ErrorKind::StorageFull`].
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
    /// Carries an error of this library through [`std::io::Read`] or [`std::io::Write`], with the nearest
    /// [`std::io::ErrorKind`]. Converting back returns the same error.
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
