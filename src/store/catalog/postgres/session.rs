//! [`Session`]: one connection, with calls that block their caller.
//!
//! Statements are unnamed and carry their types (`query_typed`): they need no state on the server
//! beyond one round trip, so each may run on another connection of pgbouncer in transaction mode.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::runtime::Handle;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Config, NoTls, Row, SimpleQueryMessage, config};

use super::address::{Address, Encryption, Host};
use super::failure::{Failure, Outcome};
use super::options::PostgresOptions;
use super::runtime::{Patience, wait};
use super::tls::Tls;
use crate::error::Result;

/// How connections are made.
pub(super) struct Endpoint {
    pub(super) address: Address,
    pub(super) options: PostgresOptions,
    config: Config,
    /// `None` for connections that are never encrypted.
    tls: Option<Tls>,
    runtime: Handle,
}

/// A parameter of a statement and its type.
pub(super) type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);

/// A connection. Dropping it ends it, and rolls back the transaction that is open.
pub(super) struct Session {
    client: Client,
    endpoint: Arc<Endpoint>,
    /// Whether an answer is missing or a transaction is open: nobody else may use the connection.
    is_dirty: AtomicBool,
}

impl Endpoint {
    pub(super) fn new(address: Address, options: PostgresOptions) -> Result<Self> {
        let mut config = Config::new();
        config
            .user(&address.user)
            .dbname(&address.database)
            .application_name(&options.application_name)
            .connect_timeout(options.connect_timeout)
            // The server or the network may vanish without a word.
            .keepalives_idle(std::time::Duration::from_secs(30))
            .tcp_user_timeout(options.statement_timeout.max(std::time::Duration::from_secs(10)));
        for host in &address.hosts {
            match host {
                Host::Tcp(name, port) => config.host(name).port(*port),
                Host::Unix(directory, port) => config.host_path(directory).port(*port),
            };
        }
        if address.hosts.len() > 1 {
            // The primary is whichever takes changes.
            config.target_session_attrs(config::TargetSessionAttrs::ReadWrite);
        }
        if let Some(password) = &address.password {
            config.password(password);
        }
        config.ssl_mode(match address.encryption {
            Encryption::None => config::SslMode::Disable,
            Encryption::Opportunistic => config::SslMode::Prefer,
            Encryption::Verified => config::SslMode::Require,
        });
        let tls = if address.encryption == Encryption::None { None } else { Some(Tls::of(&address)?) };
        Ok(Self { address, options, config, tls, runtime: super::runtime::handle()? })
    }

    /// Opens a connection.
    pub(super) fn connect(self: &Arc<Self>) -> Outcome<Session> {
        let patience = Patience::new(self.options.connect_timeout, &self.options.cancel);
        let endpoint = Arc::clone(self);
        let connecting = self.runtime.spawn(async move {
            match &endpoint.tls {
                Some(tls) => {
                    let (client, connection) = endpoint.config.connect(tls.clone()).await?;
                    tokio::spawn(connection);
                    Ok(client)
                }
                None => {
                    let (client, connection) = endpoint.config.connect(NoTls).await?;
                    tokio::spawn(connection);
                    Ok(client)
                }
            }
        });
        let abort = connecting.abort_handle();
        match wait(connecting, &patience) {
            Ok(Ok(Ok(client))) => Ok(Session { client, endpoint: Arc::clone(self), is_dirty: AtomicBool::new(false) }),
            Ok(Ok(Err(error))) => Err(Failure::of(error, &self.address)),
            Ok(Err(panicked)) => {
                Err(crate::error::Error::io("a database connection failed", std::io::Error::other(panicked)).into())
            }
            Err(why) => {
                abort.abort();
                Err(Failure::gave_up(why, &self.address))
            }
        }
    }
}

impl Session {
    /// Whether another caller may use the connection.
    pub(super) fn is_reusable(&self) -> bool {
        !self.is_dirty.load(Ordering::Relaxed) && !self.client.is_closed()
    }

    /// Marks that the connection is in a transaction, or that it is no longer.
    pub(super) fn set_dirty(&self, dirty: bool) {
        self.is_dirty.store(dirty, Ordering::Relaxed);
    }

    pub(super) fn address(&self) -> &Address {
        &self.endpoint.address
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Waits for an answer. Without one, the connection is of no use to anybody, and the server is
    /// asked to stop what it does.
    fn answer<T>(
        &self,
        call: impl Future<Output = Result<T, tokio_postgres::Error>>,
        patience: &Patience,
    ) -> Outcome<T> {
        match wait(call, patience) {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => {
                let failure = Failure::of(error, self.address());
                if matches!(failure, Failure::Broken(_)) {
                    self.set_dirty(true);
                }
                Err(failure)
            }
            Err(why) => {
                self.set_dirty(true);
                self.interrupt();
                Err(Failure::gave_up(why, self.address()))
            }
        }
    }

    /// Asks the server to stop the statement that runs. Best effort.
    fn interrupt(&self) {
        let (token, endpoint) = (self.client.cancel_token(), Arc::clone(&self.endpoint));
        self.endpoint.runtime.spawn(async move {
            let asked = async {
                match &endpoint.tls {
                    Some(tls) => token.cancel_query(tls.clone()).await,
                    None => token.cancel_query(NoTls).await,
                }
            };
            let _ = tokio::time::timeout(endpoint.options.connect_timeout, asked).await;
        });
    }

    /// Runs statements without parameters in one round trip. Returns the values of all rows, as texts.
    pub(super) fn batch(&self, sql: &str, patience: &Patience) -> Outcome<Vec<Option<String>>> {
        Ok(texts(&self.answer(self.client.simple_query(sql), patience)?))
    }

    /// Runs a statement.
    pub(super) fn query(&self, sql: &str, parameters: &[Parameter<'_>], patience: &Patience) -> Outcome<Vec<Row>> {
        self.answer(self.client.query_typed(sql, parameters), patience)
    }

    /// Runs a statement between two batches, all in one round trip. If an earlier part fails, so do
    /// the later ones, and the failure of the first is returned.
    pub(super) fn query_between(
        &self,
        before: &str,
        (sql, parameters): (&str, &[Parameter<'_>]),
        after: &str,
        patience: &Patience,
    ) -> Outcome<Vec<Row>> {
        let calls = async {
            let all = futures_util::future::join3(
                self.client.simple_query(before),
                self.client.query_typed(sql, parameters),
                self.client.simple_query(after),
            );
            let (before, rows, after) = all.await;
            before?;
            let rows = rows?;
            after?;
            Ok(rows)
        };
        self.answer(calls, patience)
    }

    /// Runs a batch and then a statement, in one round trip. Returns the values of the batch and the
    /// rows of the statement. If the batch fails, so does the statement, and the failure of the batch
    /// is returned.
    pub(super) fn query_after(
        &self,
        before: &str,
        (sql, parameters): (&str, &[Parameter<'_>]),
        patience: &Patience,
    ) -> Outcome<(Vec<Option<String>>, Vec<Row>)> {
        let calls = async {
            let both =
                futures_util::future::join(self.client.simple_query(before), self.client.query_typed(sql, parameters));
            let (before, rows) = both.await;
            Ok((texts(&before?), rows?))
        };
        self.answer(calls, patience)
    }
}

/// The values of all rows of a batch.
fn texts(messages: &[SimpleQueryMessage]) -> Vec<Option<String>> {
    let rows = messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    rows.flat_map(|row| (0..row.len()).map(|index| row.get(index).map(str::to_owned))).collect()
}
