//! The address of a database: `postgresql://user@host:port/database?parameter=value`, completed from
//! the environment as PostgreSQL's own programs do it.
//!
//! Everything is parsed here, and no error repeats a value, since any of them may be a password in
//! the wrong place.

use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use percent_encoding::percent_decode_str;

use crate::error::{Error, ErrorKind, Result};

/// The port of PostgreSQL.
const DEFAULT_PORT: u16 = 5432;

/// How a connection is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encryption {
    /// Never: for a socket or a loopback address.
    None,
    /// If the server offers it; the certificate is not verified, since an attacker would offer none.
    Opportunistic,
    /// Always, with a certificate of a trusted authority for the name of the host.
    Verified,
}

/// A host and its port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Host {
    /// A name or an IP address.
    Tcp(String, u16),
    /// The directory of a socket, and the number in its name.
    Unix(PathBuf, u16),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(name, port) if name.contains(':') => write!(f, "[{name}]:{port}"),
            Self::Tcp(name, port) => write!(f, "{name}:{port}"),
            Self::Unix(directory, port) => write!(f, "{}", directory.join(format!(".s.PGSQL.{port}")).display()),
        }
    }
}

/// A parsed address. `Debug` and `Display` do not show the password.
#[derive(Clone)]
pub(super) struct Address {
    pub(super) hosts: Vec<Host>,
    pub(super) user: String,
    pub(super) database: String,
    pub(super) password: Option<String>,
    pub(super) encryption: Encryption,
    /// A file of authorities in PEM; `None` for those of the system.
    pub(super) authorities: Option<PathBuf>,
    /// Files in PEM with the client's certificate and its key.
    pub(super) identity: Option<(PathBuf, PathBuf)>,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgreSQL database `{}` at ", self.database)?;
        for (index, host) in self.hosts.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            write!(f, "{host}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}, user `{}`, {:?}", self.user, self.encryption)
    }
}

/// The values of an address before defaults are filled in.
#[derive(Default)]
struct Given {
    hosts: Vec<String>,
    ports: Vec<u16>,
    user: Option<String>,
    database: Option<String>,
    password: Option<String>,
    mode: Option<String>,
    authorities: Option<PathBuf>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    password_file: Option<PathBuf>,
}

impl Address {
    /// Parses an address, and completes it from the environment.
    ///
    /// # Errors
    /// `InvalidInput` for an address that cannot be parsed, and for a password file that others can read.
    pub(super) fn parse(url: &str) -> Result<Self> {
        Self::parse_with(url, &|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    fn parse_with(url: &str, environment: &dyn Fn(&str) -> Option<String>) -> Result<Self> {
        let mut given = Given::of(url)?;
        given.complete(environment)?;
        let hosts = given.hosts()?;
        let is_local = hosts.iter().all(|host| match host {
            Host::Unix(..) => true,
            Host::Tcp(name, _) => is_loopback(name),
        });
        let encryption = match given.mode.as_deref() {
            Some("disable") => Encryption::None,
            Some("allow" | "prefer") => Encryption::Opportunistic,
            Some("require" | "verify-ca" | "verify-full") => Encryption::Verified,
            Some(_) => {
                return Err(Error::invalid("the `sslmode` of the database's address is unknown")
                    .with_hint("use `verify-full`, `prefer` or `disable`"));
            }
            // PostgreSQL's own default, `prefer`, would give the password to whoever pretends to be the server.
            None if is_local => Encryption::Opportunistic,
            None => Encryption::Verified,
        };
        let user = match given.user {
            Some(user) => user,
            None => environment("USER").or_else(|| environment("LOGNAME")).ok_or_else(|| {
                Error::invalid("the database's address names no user")
                    .with_hint("add `user@` before the host, or set PGUSER")
            })?,
        };
        let database = given.database.unwrap_or_else(|| user.clone());
        let identity = match (given.certificate, given.key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => {
                return Err(Error::invalid("a client certificate for the database needs both `sslcert` and `sslkey`"));
            }
        };
        let mut address = Self {
            hosts,
            user,
            database,
            password: given.password,
            encryption,
            authorities: given.authorities,
            identity,
        };
        if address.password.is_none() {
            let default = environment("HOME").map(|home| Path::new(&home).join(".pgpass"));
            let (file, named) = match given.password_file {
                Some(file) => (Some(file), true),
                None => (default, false),
            };
            if let Some(file) = file {
                address.password = password_of_file(&file, named, &address)?;
            }
        }
        Ok(address)
    }
}

/// Whether a host is this machine.
fn is_loopback(name: &str) -> bool {
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The error for an address that cannot be parsed.
fn unreadable(what: &'static str) -> Error {
    Error::invalid(what).with_hint("write it as `postgresql://user@host:port/database?sslmode=verify-full`")
}

/// Decodes `%` escapes.
fn decoded(text: &str) -> Result<String> {
    let text = percent_decode_str(text).decode_utf8();
    text.map(std::borrow::Cow::into_owned).map_err(|_| unreadable("the database's address is not in UTF-8"))
}

/// Parses a port.
fn port(text: &str) -> Result<u16> {
    match text.parse() {
        Ok(0) | Err(_) => Err(unreadable("the database's address has a port that is no number from 1 to 65535")),
        Ok(port) => Ok(port),
    }
}

impl Given {
    /// The values that a URL has.
    fn of(url: &str) -> Result<Self> {
        let rest = url
            .strip_prefix("postgresql://")
            .or_else(|| url.strip_prefix("postgres://"))
            .ok_or_else(|| unreadable("the database's address does not begin with `postgresql://`"))?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, password) = match login.split_once(':') {
            Some((user, password)) => (user, Some(password)),
            None => (login, None),
        };
        let mut given = Self {
            user: Some(decoded(user)?).filter(|user| !user.is_empty()),
            password: password.map(decoded).transpose()?,
            database: Some(decoded(path)?).filter(|name| !name.is_empty()),
            ..Self::default()
        };
        if !hosts.is_empty() {
            given.add_hosts(hosts)?;
        }
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) =
                pair.split_once('=').ok_or_else(|| unreadable("a parameter of the database's address has no value"))?;
            given.set(key, decoded(value)?)?;
        }
        Ok(given)
    }

    /// Adds the hosts of the authority, separated by commas, each with its port.
    fn add_hosts(&mut self, hosts: &str) -> Result<()> {
        for host in hosts.split(',') {
            let (name, number) = match host.strip_prefix('[') {
                Some(rest) => {
                    let (name, rest) = rest
                        .split_once(']')
                        .ok_or_else(|| unreadable("the database's address has a `[` without `]`"))?;
                    (name, rest.strip_prefix(':'))
                }
                None => match host.split_once(':') {
                    Some((name, number)) => (name, Some(number)),
                    None => (host, None),
                },
            };
            self.hosts.push(decoded(name)?);
            self.ports.push(number.filter(|text| !text.is_empty()).map_or(Ok(DEFAULT_PORT), port)?);
        }
        Ok(())
    }

    /// Sets a parameter of the query.
    fn set(&mut self, key: &str, value: String) -> Result<()> {
        match key {
            "host" => {
                self.hosts = value.split(',').map(str::to_owned).collect();
                // The ports of the authority belonged to its own hosts, except for that of an empty one.
                self.ports.truncate(self.hosts.len());
            }
            "port" => self.ports = value.split(',').map(port).collect::<Result<_>>()?,
            "user" => self.user = Some(value),
            "password" => self.password = Some(value),
            "dbname" => self.database = Some(value),
            "sslmode" => self.mode = Some(value),
            "sslrootcert" => self.authorities = Some(PathBuf::from(value)).filter(|path| path != Path::new("system")),
            "sslcert" => self.certificate = Some(PathBuf::from(value)),
            "sslkey" => self.key = Some(PathBuf::from(value)),
            "passfile" => self.password_file = Some(PathBuf::from(value)),
            _ => {
                return Err(unreadable("the database's address has an unknown parameter").with_hint(
                    "known are host, port, user, password, dbname, passfile, sslmode, sslrootcert, sslcert and sslkey; \
                     timeouts and names are options of the catalog",
                ));
            }
        }
        Ok(())
    }

    /// Fills in what the environment has.
    fn complete(&mut self, environment: &dyn Fn(&str) -> Option<String>) -> Result<()> {
        let path = |name| environment(name).map(PathBuf::from);
        if self.hosts.is_empty() {
            self.hosts =
                environment("PGHOST").map(|hosts| hosts.split(',').map(str::to_owned).collect()).unwrap_or_default();
        }
        if self.ports.is_empty()
            && let Some(ports) = environment("PGPORT")
        {
            self.ports = ports.split(',').map(port).collect::<Result<_>>()?;
        }
        self.user = self.user.take().or_else(|| environment("PGUSER"));
        self.database = self.database.take().or_else(|| environment("PGDATABASE"));
        self.password = self.password.take().or_else(|| environment("PGPASSWORD"));
        self.mode = self.mode.take().or_else(|| environment("PGSSLMODE"));
        self.authorities = self.authorities.take().or_else(|| path("PGSSLROOTCERT"));
        self.certificate = self.certificate.take().or_else(|| path("PGSSLCERT"));
        self.key = self.key.take().or_else(|| path("PGSSLKEY"));
        self.password_file = self.password_file.take().or_else(|| path("PGPASSFILE"));
        Ok(())
    }

    /// Pairs hosts with ports.
    fn hosts(&self) -> Result<Vec<Host>> {
        let names: Vec<&str> = if self.hosts.is_empty() {
            // Debian's directory for sockets, and the one that PostgreSQL is compiled with elsewhere.
            vec![if Path::new("/var/run/postgresql").is_dir() { "/var/run/postgresql" } else { "/tmp" }]
        } else {
            self.hosts.iter().map(String::as_str).collect()
        };
        if self.ports.len() > 1 && self.ports.len() != names.len() {
            return Err(unreadable("the database's address has another number of ports than of hosts"));
        }
        let hosts = names.into_iter().enumerate().map(|(index, name)| {
            let port = self.ports.get(index).or(self.ports.first()).copied().unwrap_or(DEFAULT_PORT);
            if name.starts_with('/') { Host::Unix(PathBuf::from(name), port) } else { Host::Tcp(name.to_owned(), port) }
        });
        Ok(hosts.collect())
    }
}

/// The password for an address in a file of lines `host:port:database:user:password`.
fn password_of_file(path: &Path, named: bool, address: &Address) -> Result<Option<String>> {
    let failed = |error| Error::io("the file of database passwords cannot be read", error).in_file(path);
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !named => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let about = file.metadata().map_err(failed)?;
    if about.is_file() && about.permissions().mode() & 0o077 != 0 {
        return Err(Error::new(ErrorKind::InvalidInput, "the file of database passwords can be read by others")
            .with_hint("`chmod 600` it")
            .in_file(path));
    }
    for line in BufReader::new(file).lines() {
        let line = line.map_err(failed)?;
        if line.starts_with('#') {
            continue;
        }
        let fields = fields(&line);
        let [host, port, database, user, password] = fields.as_slice() else { continue };
        let is = |pattern: &str, value: &str| pattern == "*" || pattern == value;
        let is_host = address.hosts.iter().any(|of| match of {
            Host::Tcp(name, number) => is(host, name) && is(port, &number.to_string()),
            Host::Unix(directory, number) => {
                (is(host, "localhost") || is(host, &directory.to_string_lossy())) && is(port, &number.to_string())
            }
        });
        if is_host && is(database, &address.database) && is(user, &address.user) {
            return Ok(Some(password.clone()));
        }
    }
    Ok(None)
}

/// The fields of a line, separated by colons; a backslash takes the next character as it is.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match character {
            ':' if fields.len() < 5 => fields.push(String::new()),
            '\\' => {
                if let (Some(next), Some(field)) = (characters.next(), fields.last_mut()) {
                    field.push(next);
                }
            }
            other => {
                if let Some(field) = fields.last_mut() {
                    field.push(other);
                }
            }
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    fn parse(url: &str, environment: &[(&str, &str)]) -> Result<Address> {
        Address::parse_with(url, &|name| {
            environment.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn parts_of_an_address_are_decoded() {
        let address = parse("postgresql://us%40er:pa%3Ass@db.example:6432/images%2Fa?sslmode=disable", &[]).unwrap();
        assert_eq!(address.hosts, [Host::Tcp("db.example".to_owned(), 6432)]);
        assert_eq!((&*address.user, &*address.database), ("us@er", "images/a"));
        assert_eq!(address.password.as_deref(), Some("pa:ss"));
        assert_eq!(address.encryption, Encryption::None);
    }

    #[test]
    fn password_is_not_shown() {
        let address = parse("postgresql://u:secret@h/d?password=secret", &[("PGPASSWORD", "secret")]).unwrap();
        assert!(!format!("{address} {address:?}").contains("secret"));
    }

    #[test]
    fn errors_do_not_repeat_the_address() {
        let bad = [
            "mysql://u:secret@h/d",
            "postgresql://u:secret@h:port/d",
            "postgresql://u:p@h/d?secret",
            "postgresql://u:p@h/d?secret=secret",
            "postgresql://u:p@h/d?sslmode=secret",
            "postgresql://u:p@[secret/d",
            "postgresql://u:p@h:99999999/d",
            "postgresql://u:secret@h:0/d",
            "postgresql://u:%ff@h/d",
        ];
        for url in bad {
            let error = parse(url, &[]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{url}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }

    #[test]
    fn encryption_is_verified_unless_the_host_is_this_machine() {
        let cases = [
            ("postgresql://u@db.example/d", Encryption::Verified),
            ("postgresql://u@10.0.0.1/d", Encryption::Verified),
            ("postgresql://u@localhost,db.example/d", Encryption::Verified),
            ("postgresql://u@localhost/d", Encryption::Opportunistic),
            ("postgresql://u@127.0.0.1/d", Encryption::Opportunistic),
            ("postgresql://u@[::1]/d", Encryption::Opportunistic),
            ("postgresql://u@/d?host=/run/postgresql", Encryption::Opportunistic),
            ("postgresql://u@localhost/d?sslmode=verify-full", Encryption::Verified),
            ("postgresql://u@localhost/d?sslmode=require", Encryption::Verified),
            ("postgresql://u@db.example/d?sslmode=prefer", Encryption::Opportunistic),
            ("postgresql://u@db.example/d?sslmode=disable", Encryption::None),
        ];
        for (url, expected) in cases {
            assert_eq!(parse(url, &[]).unwrap().encryption, expected, "{url}");
        }
    }

    #[test]
    fn socket_is_named_by_its_directory() {
        let address = parse("postgresql://u@/d?host=%2Frun%2Fpg&port=7000", &[]).unwrap();
        assert_eq!(address.hosts, [Host::Unix(PathBuf::from("/run/pg"), 7000)]);
        assert_eq!(address.to_string(), "PostgreSQL database `d` at /run/pg/.s.PGSQL.7000");
    }

    #[test]
    fn several_hosts_have_their_own_ports() {
        let address = parse("postgresql://u@one,two:6000,[::1]:7000/d", &[]).unwrap();
        let expected = [("one", 5432), ("two", 6000), ("::1", 7000)];
        assert_eq!(address.hosts, expected.map(|(name, port)| Host::Tcp(name.to_owned(), port)));
    }

    #[test]
    fn environment_completes_an_address() {
        let environment = [("PGHOST", "h"), ("PGPORT", "1"), ("PGUSER", "u"), ("PGPASSWORD", "p"), ("PGDATABASE", "d")];
        let address = parse("postgresql://", &environment).unwrap();
        assert_eq!(address.hosts, [Host::Tcp("h".to_owned(), 1)]);
        assert_eq!((&*address.user, &*address.database, address.password.as_deref()), ("u", "d", Some("p")));
    }

    #[test]
    fn address_overrides_the_environment() {
        let environment = [("PGHOST", "h"), ("PGPORT", "1"), ("PGUSER", "u"), ("PGPASSWORD", "p"), ("PGDATABASE", "d")];
        let address = parse("postgresql://v:q@i:2/e", &environment).unwrap();
        assert_eq!(address.hosts, [Host::Tcp("i".to_owned(), 2)]);
        assert_eq!((&*address.user, &*address.database, address.password.as_deref()), ("v", "e", Some("q")));
    }

    /// A password file, removed in the end.
    struct PasswordFile(PathBuf);

    impl PasswordFile {
        fn new(name: &str, text: &str, mode: u32) -> Self {
            let path = std::env::temp_dir().join(format!("lxd-image-pgpass-{name}-{}", std::process::id()));
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            Self(path)
        }

        fn password(&self, url: &str) -> Result<Option<String>> {
            Ok(parse(url, &[("PGPASSFILE", self.0.to_str().unwrap())])?.password)
        }
    }

    impl Drop for PasswordFile {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    #[test]
    fn first_line_that_matches_has_the_password() {
        let text =
            "# h:*:*:*:comment\nshort\nh:1:d:u:one\nh:*:*:u:t\\:wo\\\\\n*:*:*:*:any:thing\nlocalhost:*:*:*:late\n";
        let file = PasswordFile::new("lines", text, 0o600);
        let cases = [
            ("postgresql://u@h:1/d", "one"),
            ("postgresql://u@h:2/d", "t:wo\\"),
            ("postgresql://v@h:2/d", "any:thing"),
        ];
        for (url, expected) in cases {
            assert_eq!(file.password(url).unwrap().as_deref(), Some(expected), "{url}");
        }
    }

    #[test]
    fn socket_is_localhost_in_a_password_file() {
        let file = PasswordFile::new("socket", "localhost:5432:d:u:word\n", 0o600);
        assert_eq!(file.password("postgresql://u@/d?host=/run/pg").unwrap().as_deref(), Some("word"));
    }

    #[test]
    fn password_file_that_others_can_read_is_refused() {
        let file = PasswordFile::new("open", "*:*:*:*:word\n", 0o644);
        assert_eq!(file.password("postgresql://u@h/d").unwrap_err().kind(), ErrorKind::InvalidInput);
    }

    #[test]
    fn password_file_is_not_read_if_the_address_has_a_password() {
        let file = PasswordFile::new("unused", "*:*:*:*:word\n", 0o644);
        assert_eq!(file.password("postgresql://u:own@h/d").unwrap().as_deref(), Some("own"));
    }
}
