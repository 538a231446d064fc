//! The verb `serve`: what it prints, the sockets it is given, the rights it gives up, and how it ends.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, ChildStdout, Command, Stdio};

use super::*;
use crate::store::{import, reads};

/// A server in a process of its own, killed when it is dropped.
pub(super) struct Process {
    pub(super) child: Child,
    /// What it printed until it was ready.
    pub(super) told: Vec<String>,
    pub(super) address: SocketAddr,
    _out: BufReader<ChildStdout>,
}

impl Process {
    /// `serve` with a store and settings below `scratch`; up to the line that tells how to add it.
    pub(super) fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut told = Vec::new();
        while told.last().is_none_or(|line: &String| !line.starts_with("add it with ")) {
            let mut line = String::new();
            assert!(out.read_line(&mut line).unwrap() > 0, "it ended: {told:?}");
            told.push(line.trim_end().to_owned());
        }
        let address = told[0].strip_prefix("listening at https://").unwrap().parse().unwrap();
        Self { child, told, address, _out: out }
    }

    /// Asks it to end, and waits.
    pub(super) fn end(mut self) -> std::process::ExitStatus {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.child.wait().unwrap()
    }

    pub(super) fn get(&self, path: &str) -> Answer {
        let stream = StreamOwned::new(client(None, &[b"http/1.1"]), connect(self.address).unwrap());
        let mut talk = Talk::new(stream);
        talk.ask("GET", path, &[]);
        talk.answer("GET").unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(super) fn serve(scratch: &Scratch, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lxd-image"));
    command.args(["-q", "serve"]).args(arguments);
    surroundings(&mut command, scratch);
    command
}

fn surroundings(command: &mut Command, scratch: &Scratch) {
    command
        .env("LXD_IMAGE_STORE", scratch.join("store"))
        .env("LXD_IMAGE_CONFIG", scratch.join("settings"))
        .env_remove("NOTIFY_SOCKET")
        .env_remove("LISTEN_FDS")
        .stdin(Stdio::null());
}

fn output(mut command: Command) -> (i32, String) {
    let output = command.output().unwrap();
    (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn serve_prints_address_and_certificate_and_stops_on_a_signal() {
    let scratch = Scratch::new();
    let store = Store::open(scratch.join("store")).unwrap();
    let process =
        Process::start(serve(&scratch, &["--listen", "127.0.0.1:0", "--base-url", "https://images.example/"]));
    let certificate = CertificateDer::from_pem_file(scratch.join("settings/server/server.crt")).unwrap();
    assert_eq!(process.told[1], format!("certificate {}", Fingerprint::of(&certificate)));
    assert!(process.told[2].ends_with(&format!(":{} --public`", process.address.port())), "{:?}", process.told);
    assert!(certificate.windows(14).any(|name| name == b"images.example"));
    assert_eq!(process.get("/health").text(), "ok\n");
    // What others do with the store is seen.
    let image = import(&store, "one", &[]);
    store.edit(&image.fingerprint, &lxd_image::store::Edit::new().public(true), None).unwrap();
    let answer = process.get(&format!("/1.0/images/{}/export", image.fingerprint));
    assert_eq!(answer.body, reads(&store, &image.fingerprint));
    assert!(process.end().success());
    // With a certificate from elsewhere.
    let other = Identity::new();
    fs::write(scratch.join("other.crt"), &other.pem).unwrap();
    fs::write(scratch.join("other.key"), &other.key_pem).unwrap();
    let at = |name: &str| scratch.join(name).to_str().unwrap().to_owned();
    let arguments = ["--listen", "127.0.0.1:0", "--cert", &at("other.crt"), "--key", &at("other.key")];
    let process = Process::start(serve(&scratch, &arguments));
    assert_eq!(process.told[1], format!("certificate {}", other.fingerprint()));
    // A key that belongs to another certificate.
    let arguments = ["--listen", "127.0.0.1:0", "--cert", &at("other.crt"), "--key", &at("settings/server/server.key")];
    let (status, told) = output(serve(&scratch, &arguments));
    assert!(status == 1 && told.starts_with("error[Malformed]: "), "{status}: {told}");
}

#[test]
fn plain_http_beyond_this_machine_needs_to_be_allowed_and_an_address_that_is_taken_is_named() {
    let scratch = Scratch::new();
    let (status, told) = output(serve(&scratch, &["--listen", "http://0.0.0.0:0"]));
    assert!(status == 1 && told.contains("--allow-http"), "{status}: {told}");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (status, told) = output(serve(&scratch, &["--listen", &address]));
    assert!(status == 1 && told.starts_with("error[Io]: ") && told.contains(&address), "{status}: {told}");
    let (status, told) = output(serve(&scratch, &["--listen", "nowhere"]));
    assert!(status == 1 && told.starts_with("error[InvalidInput]: `nowhere` "), "{status}: {told}");
}

#[test]
fn serve_accepts_a_systemd_socket_and_notifies_readiness() {
    let scratch = Scratch::new();
    let given = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = given.local_addr().unwrap();
    let told = UnixDatagram::bind(scratch.join("notify")).unwrap();
    told.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut command = Command::new("sh");
    let script = "exec 3<&0 0</dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" -q serve";
    command.args(["-c", script, env!("CARGO_BIN_EXE_lxd-image")]);
    surroundings(&mut command, &scratch);
    command.env("NOTIFY_SOCKET", scratch.join("notify")).stdin(Stdio::from(OwnedFd::from(given)));
    let process = Process::start(command);
    assert_eq!(process.address, address);
    let mut state = [0; 64];
    let count = told.recv(&mut state).unwrap();
    assert_eq!(&state[..count], b"READY=1");
    assert_eq!(process.get("/health").status, 200);
    assert!(process.end().success());
    let count = told.recv(&mut state).unwrap();
    assert_eq!(&state[..count], b"STOPPING=1");
}

#[test]
fn serve_drops_privileges_or_explains_why_it_can_not() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let scratch = Scratch::new();
    Store::open(scratch.join("store")).unwrap();
    let (status, told) = output(serve(&scratch, &["--listen", "127.0.0.1:0", "--user", "nobody"]));
    assert!(status == 1 && told.contains("the store must belong to the user `nobody`"), "{status}: {told}");
    let (status, told) = output(serve(&scratch, &["--listen", "127.0.0.1:0", "--user", "no-such-user"]));
    assert!(status == 4 && told.contains("no-such-user"), "{status}: {told}");
    let owned = Command::new("chown").args(["-R", "nobody"]).arg(scratch.join("store")).status().unwrap();
    assert!(owned.success());
    let process = Process::start(serve(&scratch, &["--listen", "127.0.0.1:0", "--user", "nobody"]));
    assert_eq!(process.get("/health").status, 200);
    let mut about = String::new();
    File::open(format!("/proc/{}/status", process.child.id())).unwrap().read_to_string(&mut about).unwrap();
    let nobody = crate::peers::run(Command::new("id").args(["-u", "nobody"]));
    let ids = about.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap();
    assert!(ids.split_whitespace().all(|id| id == nobody), "{about}");
    let groups = about.lines().find_map(|line| line.strip_prefix("Groups:")).unwrap();
    assert_eq!(groups.split_whitespace().count(), 1, "{about}");
}
