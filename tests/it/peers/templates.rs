//! What a real LXD's templates write, against what `apply` writes, through an instance's life.
//! Content, owner and mode of each file, and of the directories that had to be made for it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use lxd_image::format::{IdMap, Image, ImageSource, PackOptions, Rootfs, UnpackOptions, pack};
use lxd_image::templates::{ApplyOptions, DeferredTrigger, Instance, InstanceDir, Trigger, apply};
use lxd_image::{Limits, Metadata, Monitor};

use super::{Lxd, run, small_root};

const METADATA: &str = r"architecture: x86_64
creation_date: 1700000000
templates:
  /etc/hostname: {when: [create, copy, rename], template: facts.tpl, properties: {x: one, y: two}}
  /new/deep/er/file: {when: [create], template: facts.tpl}
  /etc/existing: {when: [create, rename], template: facts.tpl}
  /etc/once: {when: [create, start], template: facts.tpl, create_only: true}
  /etc/kept: {when: [create], template: facts.tpl, create_only: true}
  /on/create: {when: [create], template: facts.tpl}
  /on/copy: {when: [copy], template: facts.tpl}
  /on/rename: {when: [rename], template: facts.tpl}
  /on/start: {when: [start], template: facts.tpl}
  /on/never: {when: [reboot], template: facts.tpl}
  /etc/numbers: {when: [create], template: facts.tpl, uid: '5', gid: '6', mode: '0600'}
";

const TEMPLATE: &str = r#"{{ container.name }} {{ container.type }} {{ container.architecture }}
{{ container.privileged }} {{ container.ephemeral }} {{ trigger }} {{ path }} {{ trigger == "create" }}
{{ config_get("user.greeting", "none") }} {{ config_get("user.absent", "none") }} {{ properties.x }}{{ properties.y }}
{% for name, device in devices sorted %}{{ name }}={{ device.type }}:{{ device.path }} {% endfor %}{{ "<&>" }}
"#;

/// Every path that a rule names, and what had to be made for it.
const PATHS: &[&str] = &[
    "etc/hostname",
    "new",
    "new/deep",
    "new/deep/er",
    "new/deep/er/file",
    "etc/existing",
    "etc/once",
    "etc/kept",
    "on",
    "on/create",
    "on/copy",
    "on/rename",
    "on/start",
    "on/never",
    "etc/numbers",
];

/// Mode, owner, group and content of what is there.
type Files = BTreeMap<&'static str, (u32, u32, u32, String)>;

fn files(root: &Path) -> Files {
    let mut found = Files::new();
    for path in PATHS {
        let Ok(about) = root.join(path).symlink_metadata() else { continue };
        let content = if about.is_file() { fs::read_to_string(root.join(path)).unwrap() } else { String::new() };
        found.insert(path, (about.mode() & 0o7777, about.uid(), about.gid(), content));
    }
    found
}

/// An instance of ours, beside LXD's of the same name.
struct Ours {
    dir: PathBuf,
    deferred: DeferredTrigger,
    base: u32,
}

impl Ours {
    fn start(&mut self, name: &str) {
        let context = Instance::new(name)
            .architecture(std::env::consts::ARCH)
            .config("user.greeting", "hello\r\n")
            .device("root", [("type", "disk"), ("path", "/"), ("pool", "pool")])
            .context();
        let dir = InstanceDir::open(&self.dir).unwrap();
        let metadata = dir.metadata(&Limits::default()).unwrap();
        let base = self.base;
        let options = ApplyOptions::new().shift_owners(move |id| Ok(base + id));
        for trigger in self.deferred.at_start() {
            apply(&dir, metadata.templates(), trigger, &context, &options, &Monitor::none()).unwrap();
        }
    }
}

fn packed(work: &Path) -> PathBuf {
    let root = work.join("rootfs");
    small_root(&root);
    for (name, mode, owner) in [("existing", "4640", "1000:1001"), ("kept", "0600", "7:8")] {
        let file = root.join("etc").join(name);
        fs::write(&file, "from the image, and longer than what comes: ".repeat(20)).unwrap();
        run(Command::new("chown").arg(owner).arg(&file));
        run(Command::new("chmod").arg(mode).arg(&file));
    }
    fs::create_dir(work.join("templates")).unwrap();
    fs::write(work.join("templates/facts.tpl"), TEMPLATE).unwrap();
    let metadata = Metadata::parse(METADATA.as_bytes(), &Limits::default()).unwrap();
    let image = work.join("box.tar.xz");
    let options = PackOptions::new(metadata).templates(work.join("templates"));
    pack(&Rootfs::open(&root).unwrap(), &image, &options, &Monitor::none()).unwrap();
    image
}

/// Where LXD keeps a container's root, and the host's number for its root user.
fn theirs(lxd: &Lxd, name: &str) -> (PathBuf, u32) {
    let root = lxd.dir().join("storage-pools/pool/containers").join(name).join("rootfs");
    let base = fs::metadata(root.join("bin/busybox")).unwrap().uid();
    (root, base)
}

#[test]
fn what_apply_writes_is_what_a_real_lxd_writes_at_create_start_rename_and_copy() {
    let Some(lxd) = Lxd::start() else { return };
    let image = packed(lxd.work());
    lxd.lxc(&["image", "import", image.to_str().unwrap(), "--alias", "box"]);
    lxd.lxc(&["init", "box", "c1", "-c", "user.greeting=hello\r\n"]);
    lxd.lxc(&["start", "c1"]);
    let (root, base) = theirs(&lxd, "c1");
    let mut ours = Ours { dir: lxd.work().join("ours"), deferred: DeferredTrigger::default(), base };
    let map = IdMap::identity().with_range(0, base, 65_536).unwrap();
    Image::open(ImageSource::open(&image, None).unwrap())
        .unwrap()
        .unpack_unverified(&ours.dir, &UnpackOptions::new().map_ids(map), &Monitor::none())
        .unwrap();
    ours.deferred.remember(Trigger::Create);
    ours.start("c1");
    let written = files(&ours.dir.join("rootfs"));
    assert_eq!(written, files(&root), "created and started");
    assert!(written["etc/hostname"].3.contains("hello none onetwo"), "{written:?}");
    assert!(!written.contains_key("on/copy") && !written.contains_key("on/never"));

    lxd.lxc(&["stop", "-f", "c1"]);
    lxd.lxc(&["rename", "c1", "c2"]);
    lxd.lxc(&["start", "c2"]);
    ours.deferred.remember(Trigger::Rename);
    ours.start("c2");
    let written = files(&ours.dir.join("rootfs"));
    assert_eq!(written, files(&theirs(&lxd, "c2").0), "renamed and started");
    assert!(written.contains_key("on/rename"));

    lxd.lxc(&["stop", "-f", "c2"]);
    lxd.lxc(&["copy", "c2", "c3"]);
    lxd.lxc(&["start", "c3"]);
    let copy = lxd.work().join("copy");
    run(Command::new("cp").arg("-a").arg(&ours.dir).arg(&copy));
    let mut ours = Ours { dir: copy, deferred: DeferredTrigger::default(), base };
    ours.deferred.remember(Trigger::Copy);
    ours.start("c3");
    let written = files(&ours.dir.join("rootfs"));
    assert_eq!(written, files(&theirs(&lxd, "c3").0), "copied and started");
    assert!(written.contains_key("on/copy"));

    // Renamed before it ever ran: still to be created.
    lxd.lxc(&["init", "box", "c4", "-c", "user.greeting=hello\r\n"]);
    lxd.lxc(&["rename", "c4", "c5"]);
    lxd.lxc(&["start", "c5"]);
    let written = files(&theirs(&lxd, "c5").0);
    assert!(written.contains_key("on/create") && !written.contains_key("on/rename"), "{written:?}");
}
