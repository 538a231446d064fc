//! `edit`, `set` and the verbs for single properties: change what the catalog or a server knows of an image.
//!
//! `edit` shows the editable part as YAML in `$VISUAL` or `$EDITOR`, or takes YAML from standard input. It applies the
//! text only if the image still has the revision that was shown (locally by compare-and-set on the row, on a server by
//! `If-Match`), so that two people cannot overwrite each other's changes unnoticed. `set-property`, `unset-property`
//! and `set` change one field whatever else changed, and need no such check.
//!
//! A text that cannot be parsed is not lost: the editor opens the same file again.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;
use lxd_image::remote::Lxd;
use lxd_image::store::{Edit, StoredImage};
use lxd_image::{Error, ErrorKind, Result};

use crate::failure::Failure;
use crate::info;
use crate::location::Location;
use crate::options::Session;
use crate::output::{self, Format};
use crate::signals::{self, or_cancelled};
use crate::store::{TypeArgument, pair};

/// Edit an image in $EDITOR, or take YAML from standard input
#[derive(Args)]
pub(crate) struct Arguments {
    /// An alias, a fingerprint or a prefix of one; `REMOTE:` before it means an image of that server
    #[arg(value_name = "[REMOTE:]REF")]
    reference: String,
    #[command(flatten)]
    which: TypeArgument,
}

/// Set a property of an image
#[derive(Args)]
pub(crate) struct SetProperty {
    /// An alias, a fingerprint or a prefix of one; `REMOTE:` before it means an image of that server
    #[arg(value_name = "[REMOTE:]REF")]
    reference: String,
    #[command(flatten)]
    which: TypeArgument,
    /// The property
    key: String,
    /// Its new value
    value: String,
}

/// Print a property of an image
#[derive(Args)]
pub(crate) struct GetProperty {
    /// An alias, a fingerprint or a prefix of one; `REMOTE:` before it means an image of that server
    #[arg(value_name = "[REMOTE:]REF")]
    reference: String,
    #[command(flatten)]
    which: TypeArgument,
    /// The property
    key: String,
}

/// Remove a property of an image
#[derive(Args)]
pub(crate) struct UnsetProperty {
    /// An alias, a fingerprint or a prefix of one; `REMOTE:` before it means an image of that server
    #[arg(value_name = "[REMOTE:]REF")]
    reference: String,
    #[command(flatten)]
    which: TypeArgument,
    /// The property
    key: String,
}

/// Set public, auto_update or expires_at of an image
#[derive(Args)]
pub(crate) struct Set {
    /// An alias, a fingerprint or a prefix of one; `REMOTE:` before it means an image of that server
    #[arg(value_name = "[REMOTE:]REF")]
    reference: String,
    #[command(flatten)]
    which: TypeArgument,
    /// public=BOOL, auto_update=BOOL, expires_at=TIME
    #[arg(required = true, value_name = "KEY=VALUE", value_parser = pair)]
    values: Vec<(String, String)>,
}

/// Comment at the top of the file that the editor shows.
const COMMENT: &str = "### The image's properties and flags, as YAML. Lines that begin with # are comments.
### Architecture, dates and fingerprint can't change.
";

/// The largest text that `edit` accepts. Properties of real images need a few KiB.
const MAX_EDIT_BYTES: u64 = 1 << 20;

/// An image to change: in the local store, or on a server.
struct EditTarget<'a> {
    session: &'a Session,
    /// The server that has the image; `None` for the local store.
    server: Option<Lxd>,
    /// The image when it was looked up, with its revision.
    image: StoredImage,
}

impl<'a> EditTarget<'a> {
    /// Resolves a reference and remembers where the image is.
    ///
    /// # Errors
    /// `NotFound`, `Ambiguous`; those of connecting to the remote or of opening the store.
    fn of(reference: &str, which: TypeArgument, session: &'a Session) -> Result<Self> {
        let (server, image) = match Location::of(reference) {
            Location::Local(reference) => (None, which.find(&session.store()?, reference)?),
            Location::Remote(name, reference) => {
                let server = session.lxd(name)?;
                let (monitor, _shown) = session.monitor();
                let image = session.find_on(&server, reference, which.requested(), &monitor)?;
                (Some(server), image)
            }
        };
        Ok(Self { session, server, image })
    }

    /// Applies the edit. With `unchanged` it is refused (`Mismatch`) if the image is no longer what was shown.
    fn change(&self, edit: Edit, unchanged: bool) -> Result<()> {
        if let Some(server) = &self.server {
            let (monitor, _shown) = self.session.monitor();
            return server.edit_image(&self.image, &edit, &monitor);
        }
        let tag = self.image.etag();
        let edit = if unchanged { edit.based_on_revision(self.image.revision) } else { edit };
        self.session.store()?.edit(&self.image.fingerprint, &edit, unchanged.then_some(&tag)).map(drop)
    }
}

/// Edits the image: from standard input if that is not a terminal, otherwise in an editor.
///
/// The file is offered again until it can be applied or the user gives up; a store that changed in between is not
/// retried, because the user has to see the new state first.
///
/// # Errors
/// `InvalidInput` for empty input (nothing was changed); `Mismatch` if the image was changed by someone else;
/// `Cancelled` if the editor failed.
pub(crate) fn run(arguments: &Arguments, session: &Session) -> Result<(), Failure> {
    let target = EditTarget::of(&arguments.reference, arguments.which, session)?;
    if !std::io::stdin().is_terminal() {
        let text = signals::read(Path::new("-"), MAX_EDIT_BYTES).map_err(|error| unread("standard input", error))?;
        if text.trim_ascii().is_empty() {
            let error = Error::new(ErrorKind::InvalidInput, "standard input is empty: nothing was changed");
            return Err(error
                .with_hint("give it the YAML that `show` prints, or a terminal to start the editor")
                .into());
        }
        target.change(Edit::from_yaml(&text, &session.limits)?, true)?;
        return Ok(());
    }
    let file = Draft::create(&format!("{COMMENT}{}", info::editable(&target.image)))?;
    loop {
        let text = file.edit()?;
        match Edit::from_yaml(&text, &session.limits).and_then(|edit| target.change(edit, true)) {
            Ok(()) => return Ok(()),
            // Offer the text again, so that a mistake does not lose the user's work.
            Err(error) if matches!(error.kind(), ErrorKind::Malformed | ErrorKind::InvalidInput) => {
                eprintln!("error[{}]: {error}", error.kind());
                eprint!("press Enter to edit again, Ctrl-C to give up ");
                match signals::answer().map_err(|error| unread("the answer", error))? {
                    Some(_) => continue,
                    None => return Err(error.into()),
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// The error for input that cannot be read; a cancelled wait stays `Cancelled`.
fn unread(what: &str, error: std::io::Error) -> Error {
    or_cancelled(error, |error| Error::new(ErrorKind::Io, format!("{what} can't be read")).with_source(error))
}

/// The error for an editor that cannot be started or waited for.
fn unread_editor(error: std::io::Error) -> Error {
    or_cancelled(error, |error| Error::new(ErrorKind::Io, "the editor can't be started").with_source(error))
}

/// A temporary file that only this user can read, removed when dropped.
struct Draft(PathBuf);

impl Draft {
    /// Creates the file, readable by this user only: descriptions and properties may be private.
    fn create(text: &str) -> Result<Self> {
        use std::os::unix::fs::OpenOptionsExt;
        let name = format!("lxd-image-edit-{}-{}.yaml", std::process::id(), jiff::Timestamp::now().as_nanosecond());
        let path = std::env::temp_dir().join(name);
        let mut file =
            std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(|error| {
                Error::new(ErrorKind::Io, "a file to edit can't be made").with_source(error).in_file(&path)
            })?;
        let draft = Self(path);
        file.write_all(text.as_bytes()).map_err(|error| draft.unusable(error))?;
        Ok(draft)
    }

    /// Starts the editor and returns the content of the file when it has ended.
    ///
    /// # Errors
    /// `Cancelled` if the editor ends with a failure, which editors use to say "do nothing" (`:cq` in vi); `Io`.
    fn edit(&self) -> Result<Vec<u8>> {
        let editor = ["VISUAL", "EDITOR"].iter().find_map(std::env::var_os).unwrap_or_else(|| "vi".into());
        // As git does: the variable may contain arguments, so the shell splits it.
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!("{} \"$1\"", editor.to_string_lossy())).arg("sh").arg(&self.0);
        match signals::edit(&mut command) {
            Ok(status) if status.success() => {}
            Ok(status) => {
                return Err(Error::new(
                    ErrorKind::Cancelled,
                    format!("the editor ended with {status}; nothing was changed"),
                ));
            }
            Err(error) => return Err(unread_editor(error)),
        }
        std::fs::read(&self.0).map_err(|error| self.unusable(error))
    }

    /// The error for the draft, naming its path, which the user may need to rescue the text.
    fn unusable(&self, error: std::io::Error) -> Error {
        let path: &Path = &self.0;
        Error::new(ErrorKind::Io, "the edited file can't be used").with_source(error).in_file(path)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Applies an edit whatever the current revision is.
fn change(reference: &str, which: TypeArgument, edit: Edit, session: &Session) -> Result<(), Failure> {
    Ok(EditTarget::of(reference, which, session)?.change(edit, false)?)
}

/// Sets one property; other properties stay.
pub(crate) fn set_property(arguments: &SetProperty, session: &Session) -> Result<(), Failure> {
    change(&arguments.reference, arguments.which, Edit::new().property(&*arguments.key, &*arguments.value)?, session)
}

/// Removes one property. Removing a property that the image does not have is not an error.
pub(crate) fn unset_property(arguments: &UnsetProperty, session: &Session) -> Result<(), Failure> {
    change(&arguments.reference, arguments.which, Edit::new().remove_property(&*arguments.key), session)
}

/// Sets flags and the expiry date, all in one edit: either all of them change or none.
///
/// # Errors
/// `InvalidInput` for a key that cannot be set or a value that cannot be parsed.
pub(crate) fn set(arguments: &Set, session: &Session) -> Result<(), Failure> {
    /// Keys of `set`. Properties have verbs of their own, because a property may have any of these names too.
    const SETTABLE: [&str; 3] = ["public", "auto_update", "expires_at"];
    let mut edit = Edit::new();
    for (key, value) in &arguments.values {
        if !SETTABLE.contains(&key.as_str()) {
            return Err(Error::new(ErrorKind::InvalidInput, format!("`{key}` can't be set"))
                .with_hint("public, auto_update and expires_at can; properties with `set-property`")
                .into());
        }
        edit = edit.field(key, value)?;
    }
    change(&arguments.reference, arguments.which, edit, session)
}

/// Prints the value of one property.
///
/// # Errors
/// `NotFound` if the image does not have it (status 4), so that scripts can tell it from an empty value.
pub(crate) fn get_property(arguments: &GetProperty, session: &Session) -> Result<(), Failure> {
    let image = info::find(&arguments.reference, arguments.which, session)?;
    if matches!(session.format, Format::Json | Format::Yaml | Format::Jinja(_))
        && let Some(value) = image.properties.get(&arguments.key)
    {
        return Ok(output::value(&arguments.key, value, &session.format)?);
    }
    match image.properties.get(&arguments.key) {
        // Scripts get the exact value; on a terminal it is escaped, because the image may be hostile.
        Some(value) if std::io::stdout().is_terminal() => {
            Ok(output::line(&lxd_image::Escaped(value.as_bytes()).to_string())?)
        }
        Some(value) => Ok(output::line(value)?),
        None => Err(Error::new(ErrorKind::NotFound, format!("the image has no property `{}`", arguments.key)).into()),
    }
}
