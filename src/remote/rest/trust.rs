//! Becoming one of those whom a server trusts: its owner's password, or a token that was made for this client.
//! The certificate itself is shown in the handshake; this only asks that it be remembered.

use serde_json::json;

use super::Lxd;
use crate::error::{Error, ErrorKind, Result};
use crate::progress::Monitor;
use crate::protocol::rest::Server;
use crate::remote::http::{Method, Request};

impl Lxd {
    /// Asks the server to trust the certificate of this client from now on. `word` is the server's trust
    /// password, or a token that its owner made for this client; `name` is what it is called there.
    ///
    /// # Errors
    /// `InvalidInput` without an identity; `Remote` when the server refuses; those of [`server`](Self::server).
    pub fn ask_for_trust(&self, word: &str, name: &str, monitor: &Monitor) -> Result<()> {
        if self.client.options().identity.is_none() {
            return Err(Error::invalid("a server can't trust a client that has no certificate"));
        }
        // LXD reads `password`, Incus and newer LXDs `trust_token`; both ignore unknown keys.
        let body = json!({ "type": "client", "name": name, "password": word, "trust_token": word });
        let request = Request::new(Method::Post, &self.base.join("1.0/certificates")?).json(&body).monitor(monitor);
        match self.send(request, "trust in this client") {
            // The certificate is trusted already, which is what was asked for.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error.without_secret(word)),
            Ok(_) => Ok(()),
        }
    }

    /// Fails unless the server trusts this client. Called before expensive work that it would refuse.
    ///
    /// # Errors
    /// `Remote` when it does not; those of [`server`](Self::server).
    pub fn require_trust(&self, monitor: &Monitor) -> Result<()> {
        self.trusting_server(monitor).map(|_| ())
    }

    /// The description of the server, if it trusts this client.
    pub(super) fn trusting_server(&self, monitor: &Monitor) -> Result<Server> {
        let server = self.server(monitor)?;
        if server.auth == "trusted" {
            return Ok(server);
        }
        Err(Error::remote(format!(
            "{} does not trust this client, and takes images only from those it does",
            self.base
        ))
        .with_hint("have the server's owner add this client's certificate, or give the trust password to `remote add`"))
    }
}
