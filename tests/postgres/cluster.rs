//! A private PostgreSQL server, and pgbouncer before it. Both end with the test process, however that ends.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use lxd_image::store::{PostgresCatalog, PostgresOptions};

/// The password of the user `images` over TCP.
pub(crate) const PASSWORD: &str = "correct horse";

/// The directory with `initdb` and others; `None`, after saying so, where PostgreSQL is not installed.
fn programs() -> Option<PathBuf> {
    let has = |directory: &Path| directory.join("initdb").is_file() && directory.join("pg_ctl").is_file();
    let mut found = std::env::var_os("POSTGRES_BIN").map(PathBuf::from).filter(|path| has(path));
    if found.is_none() {
        let mut versions: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
            .into_iter()
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
            .filter(|path| has(path))
            .collect();
        versions.sort();
        found = versions.pop();
    }
    if found.is_none() {
        skip("PostgreSQL");
    }
    found
}

/// Says that a program is missing, or fails if it must be there.
fn skip(program: &str) {
    let reason = format!("no {program} here; tests/peers/install.sh brings it");
    assert!(
        std::env::var_os("LXD_IMAGE_REQUIRE_PEERS").is_none_or(|value| value != "1"),
        "peers are required: {reason}"
    );
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    // Past the capture of output, so that whoever runs the tests sees it.
    let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("{test} skips: {reason}\n").as_bytes());
}

/// A command that runs as a user who may run PostgreSQL: it refuses root.
fn as_user(program: impl AsRef<std::ffi::OsStr>) -> Command {
    if rustix::process::geteuid().is_root() {
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--"]).arg(program);
        command
    } else {
        Command::new(program)
    }
}

#[track_caller]
fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?} failed:\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

/// A port that nobody uses now.
pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A shell that does something as soon as this process is gone.
struct Guard(Child);

impl Guard {
    fn new(work: &str) -> Self {
        let mut command = as_user("sh");
        // Of its own process group, so that an interrupt from the terminal does not end it first.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let child = command
            .args(["-c", &format!("read -r _; {work}")])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// A server with a directory of its own.
pub(crate) struct Cluster {
    directory: PathBuf,
    programs: PathBuf,
    pub(crate) port: u16,
    _guard: Guard,
}

impl Cluster {
    /// Starts a server of its own, with more settings.
    pub(crate) fn start(settings: &str) -> Option<Self> {
        let cluster = Self::empty(programs()?);
        let data = cluster.directory.join("data");
        // A default order that is not that of bytes, as most servers have it.
        run(as_user(cluster.programs.join("initdb"))
            .args(["--no-sync", "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8"])
            .args(["--locale-provider=icu", "--icu-locale=en"])
            .arg("-D")
            .arg(&data));
        cluster.configure(settings);
        let hba = "local all,replication all trust\nhost all all 127.0.0.1/32 scram-sha-256\n";
        cluster.write("data/pg_hba.conf", hba);
        cluster.resume();
        let statement = format!("CREATE ROLE images LOGIN PASSWORD '{PASSWORD}'");
        cluster.sql("postgres", &statement);
        Some(cluster)
    }

    fn empty(programs: PathBuf) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("lxi-pg-{}-{count}", std::process::id()));
        fs::create_dir(&directory).unwrap();
        if rustix::process::geteuid().is_root() {
            run(Command::new("chown").arg("postgres:").arg(&directory));
        }
        let work = format!(
            "{}/pg_ctl -D '{d}/data' -m immediate stop; rm -rf '{d}'/*",
            programs.display(),
            d = directory.display()
        );
        Self { _guard: Guard::new(&work), directory, programs, port: free_port() }
    }

    fn configure(&self, settings: &str) {
        let socket = self.directory.display();
        let text = format!(
            "listen_addresses = '127.0.0.1'\nport = {}\nunix_socket_directories = '{socket}'\nmax_connections = 60\n\
             shared_buffers = 64MB\nlogging_collector = off\nlog_line_prefix = '[%d] '\nwal_level = replica\n\
             autovacuum_naptime = 5s\n{settings}\n",
            self.port
        );
        self.write("data/postgresql.auto.conf", &text);
    }

    /// Writes a file as the user of the server.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.directory.join(name);
        fs::write(&path, text).unwrap();
        if rustix::process::geteuid().is_root() {
            run(Command::new("chown").arg("postgres:").arg(&path));
        }
        std::os::unix::fs::PermissionsExt::set_mode(&mut fs::metadata(&path).unwrap().permissions(), 0o600);
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Starts the server again.
    pub(crate) fn resume(&self) {
        run(as_user(self.programs.join("pg_ctl"))
            .args(["-w", "-s", "start", "-D"])
            .arg(self.directory.join("data"))
            .arg("-l")
            .arg(self.directory.join("log")));
    }

    /// Stops the server.
    pub(crate) fn stop(&self) {
        run(as_user(self.programs.join("pg_ctl"))
            .args(["-w", "-s", "-m", "fast", "stop", "-D"])
            .arg(self.directory.join("data")));
    }

    /// A server that follows this one, with a copy of all it has.
    pub(crate) fn standby(&self) -> Self {
        let other = Self::empty(self.programs.clone());
        run(as_user(self.programs.join("pg_basebackup"))
            .args(["-R", "-X", "stream", "-c", "fast", "--no-sync", "-U", "postgres", "-h"])
            .arg(&self.directory)
            .args(["-p", &self.port.to_string(), "-D"])
            .arg(other.directory.join("data")));
        let settings = format!(
            "primary_conninfo = 'host={} port={} user=postgres'\nhot_standby = on",
            self.directory.display(),
            self.port
        );
        other.configure(&settings);
        other.resume();
        other
    }

    /// Makes a standby the primary.
    pub(crate) fn promote(&self) {
        run(as_user(self.programs.join("pg_ctl")).args(["-w", "-s", "promote", "-D"]).arg(self.directory.join("data")));
    }

    /// What the server has logged.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.directory.join("log")).unwrap()).into_owned()
    }

    /// Runs SQL as the administrator; the rows with `|` between columns.
    #[track_caller]
    pub(crate) fn sql(&self, database: &str, sql: &str) -> String {
        run(Command::new(self.programs.join("psql"))
            .args(["-XqAt", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-h"])
            .arg(&self.directory)
            .args(["-p", &self.port.to_string(), "-d", database, "-c", sql]))
    }

    /// A program that runs SQL from its standard input as the administrator.
    pub(crate) fn psql(&self, database: &str) -> Child {
        Command::new(self.programs.join("psql"))
            .args(["-XqAt", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-h"])
            .arg(&self.directory)
            .args(["-p", &self.port.to_string(), "-d", database])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// A new database that belongs to the user `images`.
    pub(crate) fn database(&self) -> String {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("d{}", COUNT.fetch_add(1, Ordering::Relaxed));
        self.sql("postgres", &format!("CREATE DATABASE {name} OWNER images"));
        name
    }

    /// The address of a database by the socket.
    pub(crate) fn socket_url(&self, database: &str) -> String {
        format!("postgresql://images@/{database}?host={}&port={}", self.directory.display(), self.port)
    }

    /// The address of a database by TCP at a port, for a proxy may be there.
    pub(crate) fn tcp_url(&self, database: &str, port: u16) -> String {
        format!("postgresql://images:{}@127.0.0.1:{port}/{database}?sslmode=disable", PASSWORD.replace(' ', "%20"))
    }

    /// A catalog in a new database.
    pub(crate) fn catalog(&self) -> PostgresCatalog {
        self.catalog_with(&PostgresOptions::new()).0
    }

    /// A catalog in a new database, and the name of that.
    pub(crate) fn catalog_with(&self, options: &PostgresOptions) -> (PostgresCatalog, String) {
        let database = self.database();
        (PostgresCatalog::init(&self.socket_url(&database), "store-1", options).unwrap(), database)
    }
}

/// The server that tests share which do not stop it.
pub(crate) fn shared() -> Option<&'static Cluster> {
    static SHARED: OnceLock<Option<Cluster>> = OnceLock::new();
    SHARED.get_or_init(|| Cluster::start("")).as_ref()
}

/// pgbouncer before a server, in transaction mode, with fewer connections than clients have.
pub(crate) struct Bouncer {
    pub(crate) port: u16,
    _guard: Guard,
}

impl Bouncer {
    pub(crate) fn start(cluster: &Cluster) -> Option<Self> {
        let program = std::env::var_os("PGBOUNCER").map_or_else(|| PathBuf::from("/usr/sbin/pgbouncer"), PathBuf::from);
        if !program.is_file() {
            skip("pgbouncer");
            return None;
        }
        let port = free_port();
        let directory = cluster.directory.display();
        let text = format!(
            "[databases]\n* = host={directory} port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             unix_socket_dir =\nauth_type = any\npool_mode = transaction\ndefault_pool_size = 5\nmax_client_conn = 100\n\
             server_round_robin = 1\nlogfile = {directory}/bouncer-{port}.log\n",
            cluster.port
        );
        let text = text.replace("* = host", "* = user=images host");
        let name = format!("bouncer-{port}.ini");
        cluster.write(&name, &text);
        let path = cluster.path(&name);
        let mut command = as_user("sh");
        let work = format!("'{}' -q '{}' & read -r _; kill $!", program.display(), path.display());
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let child = command.args(["-c", &work]).stdin(Stdio::piped()).spawn().unwrap();
        let bouncer = Self { port, _guard: Guard(child) };
        let until = Instant::now() + Duration::from_secs(10);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < until, "pgbouncer does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(bouncer)
    }
}
