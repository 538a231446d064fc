//! `--vm`: which image is meant where a container's and a virtual machine's share a name.

use std::process::{Command, Output};

use lxd_image::format::ImageForm;
use lxd_image::store::{Alias, Catalog, ImageObjects, SqliteCatalog, Store, StoredImage, Transaction};
use lxd_image::{Architecture, Fingerprint, ImageType};

use crate::store::Scratch;

/// A store with rows of two images that are called `web`.
struct Shared {
    scratch: Scratch,
    container: String,
    machine: String,
}

impl Shared {
    fn new() -> Self {
        let scratch = Scratch::new();
        Store::open(scratch.join("store")).unwrap();
        let catalog = SqliteCatalog::of_store(scratch.join("store")).unwrap();
        let mut add = |catalog: &mut dyn Transaction| {
            for image_type in ImageType::ALL {
                let fingerprint = Fingerprint::of(image_type.name().as_bytes());
                let mut image = StoredImage::new(fingerprint, image_type, Architecture::X86_64);
                image.objects = ImageObjects::new(&fingerprint, ImageForm::Unified);
                catalog.insert(&image)?;
                catalog.set_alias(&Alias::new("web")?, &image.target())?;
            }
            Ok(())
        };
        catalog.write(&mut add).unwrap();
        let [container, machine] = ImageType::ALL.map(|of| Fingerprint::of(of.name().as_bytes()).to_string());
        Self { scratch, container, machine }
    }

    fn run(&self, words: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lxd-image"));
        command.args(words).env("LXD_IMAGE_STORE", self.scratch.join("store")).output().unwrap()
    }

    #[track_caller]
    fn ok(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

const SHOW: &str = "{{ fingerprint }}";

#[test]
fn shared_alias_means_the_container_without_vm() {
    let shared = Shared::new();
    assert!(shared.ok(&["info", "web", "--format", SHOW]).contains(&shared.container));
}

#[test]
fn shared_alias_means_the_virtual_machine_with_vm() {
    let shared = Shared::new();
    assert!(shared.ok(&["info", "web", "--vm", "--format", SHOW]).contains(&shared.machine));
}

#[test]
fn alias_list_has_the_type_of_each_alias() {
    let shared = Shared::new();
    let listed = shared.ok(&["alias", "list", "--format", "csv"]);
    let types: Vec<&str> = listed.lines().filter_map(|line| line.split(',').nth(2)).collect();
    assert!(types.ends_with(&["CONTAINER", "VIRTUAL-MACHINE"]), "{listed}");
}

#[test]
fn deleting_the_alias_of_a_virtual_machine_keeps_the_containers() {
    let shared = Shared::new();
    shared.ok(&["alias", "delete", "web", "--vm"]);
    assert!(shared.ok(&["info", "web", "--format", SHOW]).contains(&shared.container));
    assert_eq!(shared.run(&["alias", "delete", "web", "--vm"]).status.code(), Some(4));
}

#[test]
fn container_alias_is_not_found_with_vm() {
    let shared = Shared::new();
    shared.ok(&["alias", "rename", "web", "box"]);
    assert_eq!(shared.run(&["info", "box", "--vm"]).status.code(), Some(4));
}
