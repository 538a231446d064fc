//! `Authenticator`: sends requests to a registry and proves who asks, as the registry's answers want it.
//!
//! A request goes out with what is known: a token from before, or the password where the registry took it. A 401 names
//! what is missing; that is fetched, and the request is sent once more. A second 401 is the answer: nothing here asks a
//! third time, whatever a registry says.
//!
//! Credentials go to the registry, and to the token server that it names over a connection that is protected as well as
//! the registry's own. Redirects to other hosts don't take them along (`http/mod.rs`).

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::credentials::OciCredentials;
use super::errors;
use crate::error::{Error, Escaped, Result};
use crate::oci::Challenge;
use crate::progress::Monitor;
use crate::protocol::escape::query;
use crate::protocol::nullable;
use crate::remote::http::{Client, Method, Request, Response, Scheme, Url, base64};

/// The most bytes of a token server's answer. Real ones have a few KiB.
const MAX_ANSWER_BYTES: u64 = 1 << 20;
/// The most bytes of a token: it has to fit into the head of a request.
const MAX_TOKEN_BYTES: usize = 32 << 10;
/// How long a token can be used that does not say so itself (distribution's token specification).
const DEFAULT_LIFETIME: u64 = 60;
/// A token is replaced this long before it expires, since a request takes time.
const MARGIN: Duration = Duration::from_secs(5);
/// Tokens that are kept. A client rarely uses more than two repositories.
const MAX_TOKENS: usize = 256;
/// The name of this client for token servers.
const CLIENT_ID: &str = "lxd-image";

/// What a request is about to do, as registries name it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Scope(String);

impl Scope {
    /// Nothing but to be known.
    pub(super) fn none() -> Self {
        Self(String::new())
    }

    /// Reading a repository.
    pub(super) fn pull(repository: &str) -> Self {
        Self(format!("repository:{repository}:pull"))
    }

    /// Reading and writing a repository.
    pub(super) fn push(repository: &str) -> Self {
        Self(format!("repository:{repository}:pull,push"))
    }

    /// Writing a repository and reading another one, whose blobs are mounted.
    pub(super) fn mount(repository: &str, from: &str) -> Self {
        Self(format!("repository:{repository}:pull,push repository:{from}:pull"))
    }

    /// Listing the repositories.
    pub(super) fn catalog() -> Self {
        Self("registry:catalog:*".to_owned())
    }
}

/// Knows who asks, and keeps tokens.
pub(super) struct Authenticator {
    /// Who asks; `None` for nobody in particular.
    credentials: Option<OciCredentials>,
    /// What to say where credentials are missing.
    hint: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Whether the registry takes the password itself.
    basic: bool,
    tokens: HashMap<Scope, Token>,
}

struct Token {
    text: String,
    expires: Instant,
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authenticator").field("credentials", &self.credentials).finish_non_exhaustive()
    }
}

impl Authenticator {
    /// Asks as `credentials` say. `hint` is added to errors about missing credentials.
    pub(super) fn new(credentials: Option<OciCredentials>, hint: String) -> Self {
        Self { credentials, hint, state: Mutex::default() }
    }

    /// Whether there are credentials.
    pub(super) fn is_anonymous(&self) -> bool {
        self.credentials.is_none()
    }

    /// Sends a request, and once more if the registry wants to know who asks. A stream can be sent only once: its
    /// caller sends a request without one before, so that the token is there.
    ///
    /// # Errors
    /// Those of [`Client::send`]; `Remote` where the registry or its token server refuses, or asks for what can't be
    /// given.
    pub(super) fn send(&self, client: &Client, request: Request<'_>, scope: &Scope) -> Result<Response> {
        let (again, url, monitor) = (request.again(), request.url.clone(), request.monitor.clone());
        let answer = client.send(match self.known(scope) {
            Some(header) => request.header("authorization", header),
            None => request,
        })?;
        // An answer that came by a redirect is another server's, which gets nothing.
        if answer.status() != 401 || !answer.url().same_server(&url) {
            return Ok(answer);
        }
        let challenge = Challenge::choose(answer.header_values("www-authenticate"));
        let Some(again) = again else { return Err(self.refused(answer)) };
        let Some(challenge) = challenge else { return Err(self.refused(answer)) };
        let header = match &challenge {
            Challenge::Basic => match &self.credentials {
                Some(credentials @ OciCredentials::Password { .. }) => {
                    self.state().basic = true;
                    basic(credentials)
                }
                _ => None,
            },
            Challenge::Bearer { realm, service, scope: wanted } => {
                let token = self.token(client, &url, realm, service.as_deref(), wanted.as_deref(), scope, &monitor)?;
                Some(format!("Bearer {token}"))
            }
        };
        let Some(header) = header else { return Err(self.refused(answer)) };
        // The body of the refusal is not needed; reading it would only keep a connection.
        drop(answer);
        let answer = client.send(again.header("authorization", header))?;
        if answer.status() == 401 && answer.url().same_server(&url) {
            let mut state = self.state();
            state.tokens.remove(scope);
            state.basic = false;
            drop(state);
            return Err(self.refused(answer));
        }
        Ok(answer)
    }

    /// The header that is known to be right, without asking anybody.
    fn known(&self, scope: &Scope) -> Option<String> {
        if let Some(OciCredentials::Token { token }) = &self.credentials {
            return Some(format!("Bearer {token}"));
        }
        let mut state = self.state();
        if state.basic {
            return self.credentials.as_ref().and_then(basic);
        }
        let now = Instant::now();
        state.tokens.retain(|_, token| token.expires > now);
        state.tokens.get(scope).map(|token| format!("Bearer {}", token.text))
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gets a token from the server that the registry names, and keeps it.
    #[expect(clippy::too_many_arguments, reason = "the parts of a challenge and of the request that met it")]
    fn token(
        &self,
        client: &Client,
        registry: &Url,
        realm: &str,
        service: Option<&str>,
        wanted: Option<&str>,
        scope: &Scope,
        monitor: &Monitor,
    ) -> Result<String> {
        let shown = || Escaped(realm.chars().take(128).collect::<String>().as_bytes()).to_string();
        let url: Url = registry.join(realm).map_err(|error| {
            Error::remote(format!("{} sends for a token to `{}`", registry.authority(), shown())).with_source(error)
        })?;
        if registry.scheme() == Scheme::Https && url.scheme() != Scheme::Https {
            return Err(Error::remote(format!(
                "{} sends for a token to {url}, which is not encrypted",
                registry.authority()
            )));
        }
        let scopes = scopes(wanted, scope);
        let mut pairs: Vec<(&str, &str)> = Vec::new();
        pairs.extend(service.map(|service| ("service", service)));
        let request = match &self.credentials {
            Some(OciCredentials::Identity { token }) => {
                let all = scopes.join(" ");
                pairs.extend([("grant_type", "refresh_token"), ("refresh_token", token), ("client_id", CLIENT_ID)]);
                pairs.push(("scope", &all));
                Request::new(Method::Post, &url).bytes("application/x-www-form-urlencoded", query(pairs).into_bytes())
            }
            credentials => {
                pairs.extend(scopes.iter().map(|scope| ("scope", scope.as_str())));
                if let Some(OciCredentials::Password { user, .. }) = credentials {
                    pairs.push(("account", user));
                }
                let request = Request::get(&url.and_query(&query(pairs)));
                match credentials.as_ref().and_then(basic) {
                    Some(header) => request.header("authorization", header),
                    None => request,
                }
            }
        };
        // Who gives out tokens was named by the registry, and not by the user.
        let request = request.referred_by(registry).accept_gzip().monitor(monitor);
        let answer = client.send(request)?;
        let server = answer.url().authority().to_owned();
        if matches!(answer.status(), 400 | 401 | 403) {
            return Err(self.refused(answer));
        }
        if !(200..300).contains(&answer.status()) {
            return Err(errors::failure(answer, "a token"));
        }
        let bytes = answer.contents("remote_index", MAX_ANSWER_BYTES.min(client.limits().remote_index))?;
        // The parser's own message may quote the token.
        let given: Given = serde_json::from_slice(&bytes)
            .map_err(|_| Error::malformed(format!("{server} answers with no token when asked for one")))?;
        let text = [given.token, given.access_token].into_iter().find(|text| !text.is_empty()).unwrap_or_default();
        if text.is_empty() || text.len() > MAX_TOKEN_BYTES || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Error::malformed(format!("{server} answers with no token when asked for one")));
        }
        let lifetime = Duration::from_secs(given.expires_in.unwrap_or(DEFAULT_LIFETIME).clamp(1, 24 * 3600));
        let now = Instant::now();
        let mut state = self.state();
        if state.tokens.len() >= MAX_TOKENS {
            state.tokens.clear();
        }
        let expires = now.checked_add(lifetime.saturating_sub(MARGIN)).unwrap_or(now);
        state.tokens.insert(scope.clone(), Token { text: text.clone(), expires });
        Ok(text)
    }

    /// The error for a refusal, with what the user can do.
    fn refused(&self, answer: Response) -> Error {
        let error = errors::failure(answer, "the request");
        let error = match &self.credentials {
            Some(credentials) => {
                error.without_secret(credentials.secret()).with_hint("the registry does not take these credentials")
            }
            None => error.with_hint(self.hint.clone()),
        };
        // A refusal by a name that does not exist looks the same: registries hide private repositories so.
        if self.is_anonymous() { error.context("the request was anonymous") } else { error }
    }
}

/// The header for a user and a password.
fn basic(credentials: &OciCredentials) -> Option<String> {
    match credentials {
        OciCredentials::Password { user, password } => {
            Some(format!("Basic {}", base64(format!("{user}:{password}").as_bytes())))
        }
        _ => None,
    }
}

/// What the token must allow: what the registry asks for, and what the request needs beyond it.
fn scopes(wanted: Option<&str>, scope: &Scope) -> Vec<String> {
    let wanted: Vec<&str> = wanted.unwrap_or_default().split_ascii_whitespace().take(16).collect();
    let own = scope.0.split(' ').filter(|scope| !scope.is_empty());
    if wanted.is_empty() {
        return own.map(str::to_owned).collect();
    }
    // Of its own resources the registry knows the actions better.
    let resource = |scope: &str| scope.rsplit_once(':').map_or(scope, |(front, _)| front).to_owned();
    let missing = own.filter(|own| !wanted.iter().any(|wanted| resource(wanted) == resource(own)));
    wanted.iter().copied().chain(missing).map(str::to_owned).collect()
}

/// A token server's answer.
#[derive(Deserialize)]
struct Given {
    #[serde(default, deserialize_with = "nullable")]
    token: String,
    #[serde(default, deserialize_with = "nullable")]
    access_token: String,
    #[serde(default)]
    expires_in: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registry_decides_over_actions_and_mounts_add_a_scope() {
        let scope = Scope::mount("a/b", "c");
        assert_eq!(scopes(None, &scope), ["repository:a/b:pull,push", "repository:c:pull"]);
        assert_eq!(scopes(Some("repository:a/b:push"), &scope), ["repository:a/b:push", "repository:c:pull"]);
        assert_eq!(scopes(Some("repository:a/b:pull,push"), &Scope::pull("a/b")), ["repository:a/b:pull,push"]);
    }
}
