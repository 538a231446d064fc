//! Errors without secrets: people write passwords into addresses, servers repeat them, and errors
//! are shown, logged and sent on.

use std::borrow::Cow;

use super::Error;
use crate::redact;

impl Error {
    /// Removes a secret from the error, wherever a server or the system repeated it: in the
    /// message, the hint, the values and the file it becomes `***`. An underlying error that
    /// contains it is dropped.
    ///
    /// Escaped forms of the secret are found, too: a server quotes the URL that it was asked for.
    #[must_use]
    pub fn without_secret(mut self, secret: &str) -> Self {
        // An empty text is contained everywhere.
        if secret.is_empty() {
            return self;
        }
        // A server quotes the address that it was asked for, where it is escaped.
        let spellings = redact::spellings(secret);
        let hide = |text: &str| spellings.iter().fold(text.to_owned(), |text, one| text.replace(one.as_str(), "***"));
        let holds_it = |text: &str| spellings.iter().any(|one| text.contains(one.as_str()));
        if holds_it(&self.0.message) {
            self.0.message = hide(&self.0.message).into();
        }
        self.0.hint = self.0.hint.map(|hint| if holds_it(&hint) { hide(&hint).into() } else { hint });
        self.0.mismatch = self.0.mismatch.map(|(expected, found)| (hide(&expected), hide(&found)));
        self.0.file = self
            .0
            .file
            .map(|file| if holds_it(&file.to_string_lossy()) { hide(&file.to_string_lossy()).into() } else { file });
        if holds(self.0.source.as_deref().map(|source| source as _), &holds_it) {
            self.0.source = None;
        }
        self
    }
}

/// A message without passwords and tokens of addresses in it.
pub(super) fn redact_message(sentence: Cow<'static, str>) -> Cow<'static, str> {
    match &sentence {
        // String constants of the program contain no secrets, but may show the syntax of an address with a password.
        Cow::Borrowed(_) => sentence,
        Cow::Owned(text) => match redact::text(text) {
            Cow::Borrowed(_) => sentence,
            Cow::Owned(shown) => shown.into(),
        },
    }
}

/// Whether the message of an error, or of one below it, satisfies `such`.
fn holds(mut error: Option<&(dyn std::error::Error + 'static)>, such: &dyn Fn(&str) -> bool) -> bool {
    while let Some(here) = error {
        if such(&here.to_string()) {
            return true;
        }
        error = here.source();
    }
    false
}
