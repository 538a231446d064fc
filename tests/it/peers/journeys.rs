//! The journeys 1 to 11 of people who name and fetch images, each against real servers; the README's table has their commands.
//! An LXD stands for the remotes `ubuntu:` and `images:`, nginx for the web server of journey 11.

use std::fs;
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use lxd_image::remote::{ClientOptions, CopyOptions, RetryPolicy, Settings};
use lxd_image::store::{Alias, Store};

use super::remotes::{Ours, address, packed, same};
use super::{Lxd, available, run, small_root};
use lxd_image::Monitor;

/// An LXD with public images, known as `ubuntu:`.
fn ubuntu(lxd: &Lxd) -> (Ours<'_>, String, String) {
    let (one, two) = packed(lxd);
    lxd.lxc(&["image", "import", "one.tar.xz", "--alias", "14.04", "--alias", "trusty", "--public"]);
    lxd.lxc(&["image", "import", "two", "two.root", "--alias", "15.10", "--alias", "wily", "--public"]);
    let ours = Ours(lxd.work());
    ours.ok(&["remote", "remove", "ubuntu"]);
    ours.ok(&["remote", "add", "ubuntu", &address(lxd), "--public", "--accept-certificate"]);
    (ours, one, two)
}

/// Another image under an alias that another one has.
fn newer(lxd: &Lxd, alias: &str) -> String {
    let ours = Ours(lxd.work());
    fs::write(lxd.work().join("root/etc/newer"), "newer").unwrap();
    let new = ours.ok(&["pack", "root", "newer.tar.xz", "--architecture", "amd64"]);
    lxd.lxc(&["image", "alias", "delete", alias]);
    lxd.lxc(&["image", "import", "newer.tar.xz", "--alias", alias, "--public"]);
    new
}

#[test]
fn journey_1_an_image_of_a_remote_by_alias_and_2_by_fingerprint_or_its_first_digits() {
    let Some(lxd) = Lxd::start() else { return };
    let (ours, one, two) = ubuntu(&lxd);
    assert_eq!(ours.ok(&["copy", "ubuntu:14.04", "local:"]), one);
    ours.ok(&["delete", &one]);
    assert_eq!(ours.ok(&["copy", &format!("ubuntu:{one}"), "local:"]), one);
    assert_eq!(ours.ok(&["copy", &format!("ubuntu:{}", &two[..12]), "local:"]), two);
    ours.ok(&["check"]);
}

#[test]
fn journey_3_first_use_caches_and_asks_only_for_aliases_and_4_later_use_needs_no_server() {
    let Some(lxd) = Lxd::start() else { return };
    let (_, one, two) = ubuntu(&lxd);
    let settings = Settings::open(lxd.work().join("settings"));
    let once = ClientOptions::new().retry(RetryPolicy::new().tries(1));
    let remote = settings.connect("ubuntu", once).unwrap();
    let store = Store::open(lxd.work().join("store")).unwrap();
    let options = CopyOptions::new();
    let first = store.get_or_fetch(&*remote, "14.04", &options, &Monitor::none()).unwrap();
    assert_eq!((first.fingerprint.to_string(), first.cached), (one.clone(), true));
    assert!(first.last_used_at.is_some());
    assert_eq!(store.get_or_fetch(&*remote, "15.10", &options, &Monitor::none()).unwrap().fingerprint.to_string(), two);
    // An alias means what it means now, a fingerprint what it always meant. A store counts whole seconds.
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    let new = newer(&lxd, "14.04");
    assert_eq!(store.get_or_fetch(&*remote, "14.04", &options, &Monitor::none()).unwrap().fingerprint.to_string(), new);
    assert_eq!(
        store.get_or_fetch(&*remote, &one[..12], &options, &Monitor::none()).unwrap().fingerprint.to_string(),
        one
    );
    store.create_alias(&Alias::new("mine").unwrap(), &first.fingerprint).unwrap();
    // Nobody answers any more.
    run(Command::new("bash").arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/lxd-down.sh")).arg(lxd.dir()));
    assert_eq!(store.get_or_fetch(&*remote, &one, &options, &Monitor::none()).unwrap().fingerprint.to_string(), one);
    assert_eq!(store.get_or_fetch(&*remote, "14.04", &options, &Monitor::none()).unwrap().fingerprint.to_string(), new);
    assert_eq!(store.resolve("mine").unwrap().fingerprint.to_string(), one);
    assert_eq!(store.open_image(&first.fingerprint).unwrap().image().fingerprint, first.fingerprint);
}

#[test]
fn journey_5_a_copy_has_a_name_to_remember_and_6_all_the_aliases_it_has_there() {
    let Some(lxd) = Lxd::start() else { return };
    let (ours, one, two) = ubuntu(&lxd);
    ours.ok(&["copy", "ubuntu:14.04", "local:", "--alias", "old-ubuntu"]);
    ours.ok(&["copy", "ubuntu:15.10", "local:", "--copy-aliases"]);
    for (name, fingerprint) in [("old-ubuntu", &one), ("15.10", &two), ("wily", &two)] {
        assert!(ours.ok(&["info", name]).contains(fingerprint), "{name}");
    }
    ours.fails(&["info", "14.04"], 4, "NotFound");
    let file = ours.ok(&["export", "old-ubuntu", "back"]);
    same(lxd.work(), &file, "one.tar.xz");
}

#[test]
fn journey_7_a_copy_follows_its_remote_and_8_a_one_off_copy_stays_what_it_was() {
    let Some(lxd) = Lxd::start() else { return };
    let (ours, one, two) = ubuntu(&lxd);
    ours.ok(&["copy", "ubuntu:14.04", "local:", "--alias", "follows", "--auto-update"]);
    ours.ok(&["copy", "ubuntu:15.10", "local:", "--alias", "stays"]);
    ours.fails(&["copy", &format!("ubuntu:{one}"), "local:", "--auto-update", "--alias", "x"], 1, "InvalidInput");
    assert_eq!(ours.ok(&["refresh"]), "");
    let new = newer(&lxd, "14.04");
    lxd.lxc(&["image", "alias", "delete", "15.10"]);
    lxd.lxc(&["image", "alias", "create", "15.10", &new]);
    let told = format!("follows: {} → {}", &one[..12], &new[..12]);
    assert_eq!(ours.ok(&["refresh", "--dry-run"]), told);
    assert_eq!(ours.ok(&["refresh"]), told);
    assert!(ours.ok(&["info", "follows"]).contains(&new));
    assert!(ours.ok(&["info", "stays"]).contains(&two));
    ours.fails(&["info", &one], 4, "NotFound");
}

#[test]
fn journey_9_an_archive_with_an_alias_and_10_two_archives_either_of_which_may_come_first() {
    let Some(lxd) = Lxd::start() else { return };
    let (one, two) = packed(&lxd);
    let ours = Ours(lxd.work());
    assert_eq!(ours.ok(&["import", "one.tar.xz", "--alias", "random-image"]), one);
    assert!(ours.ok(&["info", "random-image"]).contains(&one));
    assert_eq!(ours.ok(&["import", "two", "two.root"]), two);
    ours.ok(&["delete", &two]);
    assert_eq!(ours.ok(&["import", "two.root", "two"]), two);
    // As LXD itself names them.
    lxd.lxc(&["image", "import", "two", "two.root", "--alias", "two"]);
    assert_eq!(lxd.fingerprint("two"), two);
}

/// A real nginx, which ends with the test.
pub(super) struct Nginx(Child, pub(super) u16);

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Nginx {
    /// Serves `web` below a directory by TLS, with a certificate of its own, `web.crt`; what is asked for is in `asked.log` and
    /// `agents.log`.
    pub(super) fn start(work: &Path, location: impl FnOnce(u16) -> String) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (place, location) = (work.display(), location(port));
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        fs::write(work.join("web.crt"), made.cert.pem()).unwrap();
        fs::write(work.join("web.key"), made.signing_key.serialize_pem()).unwrap();
        let config = format!(
            "daemon off; master_process off; user root; pid {place}/nginx.pid; error_log {place}/nginx.log;
             events {{}}
             http {{
               log_format asked '$request_method $uri $http_lxd_server_architectures|$http_incus_server_architectures|$http_lxd_server_version';
               access_log {place}/asked.log asked;
               log_format agents '$request_method $status $uri $http_user_agent';
               access_log {place}/agents.log agents;
               client_body_temp_path {place}/tmp; proxy_temp_path {place}/tmp; fastcgi_temp_path {place}/tmp;
               uwsgi_temp_path {place}/tmp; scgi_temp_path {place}/tmp;
               server {{
                 listen 127.0.0.1:{port} ssl; ssl_certificate {place}/web.crt; ssl_certificate_key {place}/web.key;
                 ssl_protocols TLSv1.2 TLSv1.3;
                 root {place}/web;
                 {location}
               }}
             }}"
        );
        fs::write(work.join("nginx.conf"), config).unwrap();
        let child = Command::new("/usr/sbin/nginx")
            .args(["-p", work.to_str().unwrap(), "-c", work.join("nginx.conf").to_str().unwrap()])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let mut nginx = Self(child, port);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let ended = nginx.0.try_wait().unwrap();
            assert!(ended.is_none(), "nginx: {}", fs::read_to_string(work.join("nginx.log")).unwrap_or_default());
            std::thread::yield_now();
        }
        nginx
    }
}

#[test]
fn journey_11_a_web_server_with_two_header_lines_gives_an_image_to_import_and_to_follow() {
    if !available(&["lxd", "busybox"]) || !Path::new("/usr/sbin/nginx").exists() {
        available(&["nginx-of-tests/peers"]);
        return;
    }
    let dir = super::TempDir::new();
    let (work, ours) = (dir.path(), Ours(dir.path()));
    small_root(&work.join("root"));
    fs::create_dir(work.join("web")).unwrap();
    let image = ours.ok(&["pack", "root", "web/busybox.tar.xz", "--architecture", "amd64"]);
    let nginx = Nginx::start(work, |port| {
        format!(
            "location = /lxd {{ add_header LXD-Image-Hash {image};
             add_header LXD-Image-URL https://127.0.0.1:{port}/busybox.tar.xz; return 200; }}"
        )
    });
    let url = format!("https://127.0.0.1:{}/lxd", nginx.1);
    ours.fails(&["import", &url, "--alias", "busybox-amd64"], 1, "Remote");
    let trusting = |words: &[&str]| run(ours.command(words).env("SSL_CERT_FILE", work.join("web.crt")));
    assert_eq!(trusting(&["import", &url, "--alias", "busybox-amd64", "--auto-update"]), image);
    let info = ours.ok(&["info", "busybox-amd64"]);
    assert!(info.contains(&url) && info.contains("direct"), "{info}");
    assert_eq!(trusting(&["refresh"]), "");
    drop(nginx);
    let mut asked = String::new();
    fs::File::open(work.join("asked.log")).unwrap().read_to_string(&mut asked).unwrap();
    let native = rustix::system::uname().machine().to_string_lossy().into_owned();
    let head = asked.lines().find(|line| line.starts_with("HEAD /lxd")).unwrap();
    assert!(head.matches(&native).count() == 2 && head.contains("5.0"), "{asked}");
}
