//! Maps errors of PostgreSQL and of connections to errors of this library, and decides what may be repeated.

use tokio_postgres::error::SqlState;

use super::address::Address;
use super::runtime::GaveUp;
use crate::error::{Error, ErrorKind};

/// Why a statement failed, and so whether its transaction may run again.
#[derive(Debug)]
pub(super) enum Failure {
    /// It met another transaction: the same work may succeed a little later.
    Conflict(Error),
    /// The connection is gone, or is one to a server that no longer takes changes: the same work may
    /// succeed on another one.
    Broken(Error),
    /// There are too many transactions or connections at the moment.
    Overloaded(Error),
    /// It would fail again.
    Final(Error),
}

pub(super) type Outcome<T> = std::result::Result<T, Failure>;

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Final(error)
    }
}

impl Failure {
    /// The error for the caller.
    pub(super) fn into_error(self) -> Error {
        match self {
            Self::Conflict(error) | Self::Broken(error) | Self::Overloaded(error) | Self::Final(error) => error,
        }
    }

    /// A call that was not answered in time, or whose caller cancelled it. Nothing is known about its effect.
    pub(super) fn gave_up(why: GaveUp, address: &Address) -> Self {
        match why {
            GaveUp::Cancelled => Self::Final(Error::cancelled()),
            GaveUp::TimedOut => Self::Broken(
                Error::new(ErrorKind::Transient, format!("the {address} does not answer in time"))
                    .with_hint("check the load of the server and the network to it"),
            ),
        }
    }

    /// The failure of a statement or of an attempt to connect.
    pub(super) fn of(error: tokio_postgres::Error, address: &Address) -> Self {
        let Some(code) = error.code().cloned() else { return Self::of_connection(error, address) };
        let at = |kind, what: &str| Error::new(kind, format!("the {address} {what}"));
        let text = code.code();
        match &code {
            &SqlState::T_R_SERIALIZATION_FAILURE | &SqlState::T_R_DEADLOCK_DETECTED | &SqlState::LOCK_NOT_AVAILABLE => {
                let error =
                    at(ErrorKind::Busy, "is changed by other writers, and the wait is over").with_source(cause(error));
                Self::Conflict(error)
            }
            &SqlState::READ_ONLY_SQL_TRANSACTION => {
                let error = at(ErrorKind::Transient, "takes no changes: it is a standby, or is being switched over")
                    .with_hint("connect to the primary; name several hosts in the address to have it found")
                    .with_source(cause(error));
                Self::Broken(error)
            }
            &SqlState::ADMIN_SHUTDOWN
            | &SqlState::CRASH_SHUTDOWN
            | &SqlState::CANNOT_CONNECT_NOW
            | &SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT => {
                Self::Broken(at(ErrorKind::Transient, "ended the connection").with_source(cause(error)))
            }
            // The class of connections: pgbouncer reports a server that is gone so.
            _ if text.starts_with("08") => {
                Self::Broken(at(ErrorKind::Transient, "cannot be reached").with_source(cause(error)))
            }
            &SqlState::TOO_MANY_CONNECTIONS => {
                let error = at(ErrorKind::Busy, "has no connection left")
                    .with_hint("raise `max_connections` of the server, or lower the pool size of its clients")
                    .with_source(cause(error));
                Self::Overloaded(error)
            }
            &SqlState::DISK_FULL => {
                let error = Error::storage_full(format!("the disk of the {address} is full"))
                    .with_hint("free some space on the database's disk")
                    .with_source(cause(error));
                Self::Final(error)
            }
            &SqlState::QUERY_CANCELED => {
                let error = at(ErrorKind::Transient, "took longer than the timeout of a statement")
                    .with_hint("check the load of the server, or raise the timeout")
                    .with_source(cause(error));
                Self::Final(error)
            }
            _ if text.starts_with("28") => {
                let what = format!("refuses the user `{}`", address.user);
                let hint = "check the user's name and password (PGPASSWORD, PGPASSFILE or ~/.pgpass), and `pg_hba.conf` \
                            of the server";
                Self::Final(at(ErrorKind::InvalidInput, &what).with_hint(hint).with_source(cause(error)))
            }
            &SqlState::INVALID_CATALOG_NAME => {
                let error = at(ErrorKind::NotFound, "does not exist")
                    .with_hint("check the name of the database, or create it with `createdb`")
                    .with_source(cause(error));
                Self::Final(error)
            }
            &SqlState::INSUFFICIENT_PRIVILEGE => {
                let what = format!("does not permit this to the user `{}`", address.user);
                let hint = "grant the user the rights that LAYOUT.md lists";
                Self::Final(at(ErrorKind::Io, &what).with_hint(hint).with_source(cause(error)))
            }
            &SqlState::UNDEFINED_TABLE
            | &SqlState::UNDEFINED_COLUMN
            | &SqlState::UNDEFINED_FUNCTION
            | &SqlState::INVALID_SCHEMA_NAME
            | &SqlState::DATA_CORRUPTED
            | &SqlState::INDEX_CORRUPTED => {
                Self::Final(at(ErrorKind::Malformed, "has a damaged catalog").with_source(cause(error)))
            }
            // Out of memory, too many locks: the class of resources.
            _ if text.starts_with("53") => {
                Self::Overloaded(at(ErrorKind::Transient, "lacks resources at the moment").with_source(cause(error)))
            }
            _ if text.starts_with("23") || text.starts_with("22") || text.starts_with("54") => {
                Self::Final(at(ErrorKind::InvalidInput, "refuses the change").with_source(cause(error)))
            }
            _ => Self::Final(at(ErrorKind::Io, "cannot be used").with_source(cause(error))),
        }
    }

    /// The failure of a connection, without an answer of the server.
    fn of_connection(error: tokio_postgres::Error, address: &Address) -> Self {
        use std::error::Error as _;
        let source = error.source();
        let is_tls = source.is_some_and(|source| {
            source
                .downcast_ref::<std::io::Error>()
                .and_then(std::io::Error::get_ref)
                .is_some_and(|inner| inner.is::<rustls::Error>())
        });
        if is_tls {
            let error = Error::new(ErrorKind::Remote, format!("the certificate of the {address} is not accepted"))
                .with_hint("name a file with its authority in PGSSLROOTCERT, or check the host's name in the address")
                .with_source(cause(error));
            return Self::Final(error);
        }
        let is_io = error.is_closed() || source.is_some_and(|source| source.is::<std::io::Error>());
        let text = error.to_string();
        if is_io || text.starts_with("error connecting") || text.starts_with("error communicating") {
            let error = Error::new(ErrorKind::Transient, format!("the {address} cannot be reached"))
                .with_hint("check that the server runs, its address and the network to it")
                .with_source(cause(error));
            return Self::Broken(error);
        }
        // A password that the server wants and the address lacks, an encryption that the server does
        // not offer, an answer that is no answer of PostgreSQL.
        let error = Error::new(ErrorKind::InvalidInput, format!("the {address} cannot be used by `{}`", address.user))
            .with_hint("check the password (PGPASSWORD, PGPASSFILE or ~/.pgpass) and `sslmode`")
            .with_source(cause(error));
        Self::Final(error)
    }
}

/// The cause of an error of the driver: what the server said, rather than that it said something.
fn cause(error: tokio_postgres::Error) -> Box<dyn std::error::Error + Send + Sync> {
    use std::error::Error as _;
    if error.source().is_none() {
        return error.into();
    }
    error.into_source().unwrap_or_else(|| "no cause is known".into())
}
