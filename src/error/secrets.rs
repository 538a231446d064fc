//! Errors without secrets: what people and servers put into sentences that are shown, logged and sent on.

use std::borrow::Cow;

use super::Error;
use crate::redact;

impl Error {
    /// This error without a secret that may stand in it, in whatever a server or the system said:
    /// wherever it stood there is `***`. A cause that holds it is dropped.
    #[must_use]
    pub fn without_secret(mut self, secret: &str) -> Self {
        // Nothing can be looked for in what is empty.
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

/// A sentence without the passwords and tokens of addresses that stand in it: people write them
/// where a name belongs, and errors say again what was written.
pub(super) fn redact_message(sentence: Cow<'static, str>) -> Cow<'static, str> {
    match &sentence {
        // Constants of programs hold no secrets, and may say how a password is written.
        Cow::Borrowed(_) => sentence,
        Cow::Owned(text) => match redact::text(text) {
            Cow::Borrowed(_) => sentence,
            Cow::Owned(shown) => shown.into(),
        },
    }
}

/// Whether one of the sentences of an error and of those below it is such a one.
fn holds(mut error: Option<&(dyn std::error::Error + 'static)>, such: &dyn Fn(&str) -> bool) -> bool {
    while let Some(here) = error {
        if such(&here.to_string()) {
            return true;
        }
        error = here.source();
    }
    false
}
