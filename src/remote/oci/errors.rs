//! What a registry's refusal means: `{"errors": [{"code": …, "message": …}]}` of the distribution specification.

use std::io::Read;

use serde::Deserialize;

use crate::error::{Error, ErrorKind, Escaped};
use crate::protocol::nullable;
use crate::remote::http::Response;

/// The most bytes that are read of a refusal.
const MAX_BYTES: u64 = 16 << 10;
/// The most characters of a registry's message that are shown.
const MAX_SHOWN: usize = 300;

#[derive(Deserialize)]
struct Refusal {
    #[serde(default, deserialize_with = "nullable")]
    errors: Vec<Item>,
    /// Token servers have this.
    #[serde(default, deserialize_with = "nullable")]
    details: String,
}

#[derive(Deserialize)]
struct Item {
    #[serde(default, deserialize_with = "nullable")]
    code: String,
    #[serde(default, deserialize_with = "nullable")]
    message: String,
}

/// The error that an answer means; `what` names what was asked for.
pub(super) fn failure(answer: Response, what: &str) -> Error {
    let (status, url) = (answer.status(), answer.url().clone());
    let secrets = url.secrets();
    let mut said = Vec::new();
    // The message is a courtesy; an error in reading it must not hide the status.
    let _ = answer.into_body().take(MAX_BYTES).read_to_end(&mut said);
    let refusal = serde_json::from_slice(&said).unwrap_or(Refusal { errors: Vec::new(), details: String::new() });
    let said = match refusal.errors.first() {
        Some(Item { code, message }) if message.is_empty() => code.clone(),
        Some(Item { code, message }) => format!("{message} ({code})"),
        None => refusal.details,
    };
    let said = secrets.iter().fold(said, |said, secret| said.replace(secret.as_str(), "***"));
    let said: String = said.chars().take(MAX_SHOWN).collect();
    let said = if said.is_empty() { said } else { format!(": {}", Escaped(said.as_bytes())) };
    let host = url.authority();
    let error = match status {
        404 | 410 => Error::new(ErrorKind::NotFound, format!("{host} does not have {what}{said}")),
        401 | 403 => Error::remote(format!("{host} does not allow it (status {status}){said}")),
        429 => Error::remote(format!("{host} was asked too often (status 429){said}"))
            .with_hint("wait, or ask with credentials, which are counted apart"),
        405 | 415 | 501 => Error::unsupported(format!("{host} does not offer this (status {status}){said}")),
        _ => Error::remote(format!("{host} answers with status {status} when asked for {what}{said}")),
    };
    if matches!(status, 408 | 425 | 429 | 500 | 502 | 503 | 504) { error.transient() } else { error }
}
