//! `--sign`, `--passphrase-file` and `--drop-signatures`: keys that sign the lists of a tree.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use lxd_image::simplestreams::{Tree, TreeOptions};
use lxd_image::trust::{ListSigner, read_passphrase};
use lxd_image::{Error, ErrorKind, Result};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::options::Session;
use crate::remote_keys::read_file;
use crate::signals::{self, or_cancelled};

/// Keys that sign lists.
#[derive(Args, Default)]
pub(crate) struct SigningKeys {
    /// A file with a secret key (OpenPGP or minisign) that signs the lists; one of each kind can be given
    #[arg(long, value_name = "KEYFILE")]
    sign: Vec<PathBuf>,
    /// A file whose first line is the passphrase of these keys
    #[arg(long, value_name = "FILE", requires = "sign")]
    passphrase_file: Option<PathBuf>,
}

impl SigningKeys {
    /// Reads the keys.
    ///
    /// # Errors
    /// Those of reading the files and of [`ListSigner::parse`], with the file.
    pub(crate) fn signers(&self, session: &Session) -> Result<Vec<ListSigner>> {
        let passphrase = self.passphrase_file.as_ref().map(read_passphrase).transpose()?;
        self.sign.iter().map(|file| signer(file, passphrase.as_deref(), session)).collect()
    }
}

/// How the lists of a tree are signed with a change.
#[derive(Args, Default)]
pub(crate) struct Signing {
    #[command(flatten)]
    keys: SigningKeys,
    /// Remove signatures that this change would leave out of date, instead of failing
    #[arg(long)]
    drop_signatures: bool,
}

impl Signing {
    /// Whether there is a key.
    pub(crate) fn is_given(&self) -> bool {
        !self.keys.sign.is_empty()
    }

    /// Adds the keys to the options of a tree.
    ///
    /// # Errors
    /// Those of [`SigningKeys::signers`].
    pub(crate) fn apply(&self, mut options: TreeOptions, session: &Session) -> Result<TreeOptions> {
        for signer in self.keys.signers(session)? {
            options = options.sign_with(signer);
        }
        Ok(options.drop_signatures(self.drop_signatures))
    }

    /// Tells which signatures of a tree a change has removed; `before` are those that were there.
    pub(crate) fn report(before: &[String], tree: &Tree, session: &Session) {
        let after = tree.signature_files();
        let gone: Vec<&str> = before.iter().filter(|path| !after.contains(path)).map(String::as_str).collect();
        if !gone.is_empty() {
            session.note(|| {
                format!("The signatures {} are removed; who demands them can't read the tree.", gone.join(", "))
            });
        }
    }
}

/// Reads a secret key. Without a passphrase file the user is asked for the passphrase of a key that needs one.
fn signer(file: &Path, passphrase: Option<&[u8]>, session: &Session) -> Result<ListSigner> {
    let bytes = read_file(file, &session.limits)?;
    let now = crate::remote_keys::now();
    let parse = |passphrase: Option<&[u8]>| {
        ListSigner::parse(&bytes, passphrase, now, &session.limits).map_err(|error| error.in_file(file))
    };
    let needs_passphrase = |error: &Error| error.hint().is_some_and(|hint| hint.contains("--passphrase-file"));
    match parse(passphrase) {
        Err(error) if needs_passphrase(&error) && passphrase.is_none() && std::io::stdin().is_terminal() => {
            match ask(&format!("Passphrase of {}: ", file.display()))? {
                Some(text) => parse(Some(text.as_bytes())),
                None => Err(error),
            }
        }
        found => found,
    }
}

/// Asks the user for a passphrase on the terminal, which does not show it; `None` at the end of input.
fn ask(question: &str) -> Result<Option<String>> {
    let failed = |error: std::io::Error| Error::new(ErrorKind::Io, "the passphrase can't be read").with_source(error);
    eprint!("{question}");
    let _ = std::io::stderr().flush();
    let hidden = Hidden::new().map_err(failed)?;
    let answer = signals::answer();
    drop(hidden);
    eprintln!();
    answer.map_err(|error| or_cancelled(error, failed))
}

/// Standard input without echo, until it is dropped.
struct Hidden(Termios);

impl Hidden {
    fn new() -> std::io::Result<Self> {
        let stdin = std::io::stdin();
        let before = tcgetattr(&stdin)?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(&stdin, OptionalActions::Flush, &silent)?;
        Ok(Self(before))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Flush, &self.0);
    }
}
