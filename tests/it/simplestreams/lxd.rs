//! A real LXD over our trees: it makes new versions out of the deltas that we made, with its own `xdelta3`.

use std::fs;

use lxd_image::disk::DiskFormat;
use lxd_image::format::{ImageForm, ImageSource, PackOptions, Rootfs, pack};
use lxd_image::simplestreams::{AddOptions, Added, Tree};

use super::deltas::{add, metadata};
use super::mirroring::serve;
use super::peers::on_path;
use super::tree;
use crate::peers::Lxd;
use crate::remote::server::Server;
use crate::store::Scratch;
use lxd_image::Monitor;

/// A tree that is served, and an LXD that has it as the remote `ours`.
struct Served {
    scratch: Scratch,
    tree: Tree,
    server: Server,
    lxd: Lxd,
}

impl Served {
    /// `None` where there is no LXD, or no `xdelta3`, without which LXD downloads whole files.
    fn start(first: impl FnOnce(&Scratch, &Tree)) -> Option<Self> {
        on_path("xdelta3")?;
        let scratch = Scratch::new();
        let (tree, _) = tree(&scratch.join("www"));
        first(&scratch, &tree);
        let server = serve(tree.path());
        let authority = scratch.join("ca.pem");
        fs::write(&authority, server.pem()).unwrap();
        let lxd = Lxd::start_trusting(Some(&authority))?;
        lxd.lxc(&["remote", "add", "ours", &server.text(""), "--protocol", "simplestreams"]);
        Some(Self { scratch, tree, server, lxd })
    }

    /// The endings of the rootfs files and deltas that were asked for since the last call.
    fn fetched(&self) -> Vec<&'static str> {
        let asked = self.server.asked();
        self.server.forget();
        let kinds = ["squashfs", "vcdiff", "qcow2"];
        let found = asked.iter().filter(|asked| asked.method == "GET").filter_map(|asked| {
            let ending = asked.path.rsplit('.').next();
            kinds.into_iter().find(|kind| Some(*kind) == ending)
        });
        found.collect()
    }

    /// LXD keeps lists for an hour, each server's in a directory of its cache.
    fn forget_lists(&self) {
        for entry in fs::read_dir(self.lxd.dir().join("cache")).unwrap() {
            fs::remove_dir_all(entry.unwrap().path()).unwrap();
        }
    }

    #[track_caller]
    fn has(&self, alias: &str, version: &Added) {
        assert_eq!(self.lxd.fingerprint(alias), version.fingerprint.to_string());
    }
}

#[test]
fn real_lxd_that_has_one_version_copies_the_next_one_by_our_delta() {
    let mut added = Vec::new();
    let Some(served) = Served::start(|scratch, tree| added.extend([1, 2].map(|number| add(scratch, tree, number, 1))))
    else {
        return;
    };
    for (version, alias) in added.iter().zip(["first", "second"]) {
        let image = format!("ours:{}", version.fingerprint);
        served.lxd.lxc(&["image", "copy", &image, "local:", "--alias", alias]);
        served.has(alias, version);
        assert_eq!(served.fetched(), [if alias == "first" { "squashfs" } else { "vcdiff" }]);
    }
}

#[test]
fn real_lxd_refreshes_an_image_by_our_delta() {
    let mut first = None;
    let Some(served) = Served::start(|scratch, tree| first = Some(add(scratch, tree, 1, 1))) else { return };
    served.lxd.lxc(&["image", "copy", "ours:Box/1/default/amd64", "local:", "--alias", "follows", "--auto-update"]);
    served.has("follows", &first.unwrap());
    assert_eq!(served.fetched(), ["squashfs"]);

    let second = add(&served.scratch, &served.tree, 2, 1);
    served.forget_lists();
    served.lxd.lxc(&["image", "refresh", "follows"]);
    served.has("follows", &second);
    assert_eq!(served.fetched(), ["vcdiff"]);
}

/// Adds the virtual machine of a version whose container was added: both have the same metadata, and so are one version of
/// one product.
fn add_machine(scratch: &Scratch, tree: &Tree, number: u8) -> Added {
    let mut disk: Vec<u8> = (0..1_u32 << 20).map(|at| at.wrapping_mul(at).to_be_bytes()[1]).collect();
    disk[usize::from(number) * 1000] ^= 1;
    fs::write(scratch.join("disk.img"), disk).unwrap();
    let options = PackOptions::new(metadata(number.into()))
        .compression("xz".parse().unwrap())
        .form(ImageForm::Split)
        .disk_input(DiskFormat::Raw);
    let out = scratch.join(&format!("vm{number}.tar.xz"));
    pack(&Rootfs::open(scratch.join("disk.img")).unwrap(), &out, &options, &Monitor::none()).unwrap();
    let source = ImageSource::open(&out, Some(&scratch.join(&format!("vm{number}.tar.xz.root")))).unwrap();
    tree.lock().unwrap().add(source, &AddOptions::new().delta_from(1), &Monitor::none()).unwrap()
}

/// A client that takes the container for the base of the machine's delta fails, and does not try the whole file
/// (canonical/lxd#13264).
#[test]
fn real_lxd_that_has_the_container_of_a_version_copies_the_next_virtual_machine() {
    let mut machine = None;
    let mut first = None;
    let served = Served::start(|scratch, tree| {
        for number in [1, 2] {
            let container = add(scratch, tree, number.into(), 1);
            first.get_or_insert(container);
            machine = Some(add_machine(scratch, tree, number));
        }
    });
    let Some(served) = served else { return };
    let (first, machine) = (first.unwrap(), machine.unwrap());
    assert_eq!(machine.deltas.len(), 1);
    for (alias, version, more) in [("container", &first, &[][..]), ("machine", &machine, &["--vm"])] {
        let image = format!("ours:{}", version.fingerprint);
        served.lxd.lxc(&[&["image", "copy", &image, "local:", "--alias", alias], more].concat());
        served.has(alias, version);
    }
}
