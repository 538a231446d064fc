//! Layouts in directories and tars.

use std::process::Command;

use lxd_image::oci::{ContainerOptions, Layout};
use lxd_image::{Limits, Monitor};

use super::{Forged, files, unpack};
use crate::format::forge::{directory, file};
use crate::format::{Place, tree};
use crate::peers::available;

#[test]
fn layout_in_a_tar_of_skopeo_is_the_one_in_a_directory() {
    if !available(&["skopeo"]) {
        return;
    }
    let place = Place::new();
    let layout = Forged::new(&[&[directory("./"), file("a", "x")], &[file("b", "y")]]).layout(&place, "layout");
    let tar = place.at("layout.tar");
    let (from, to) = (format!("oci:{}:box", layout.display()), format!("oci-archive:{}:box", tar.display()));
    let ran = Command::new("skopeo").args(["--insecure-policy", "copy", "-q", &from, &to]).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    assert!(Layout::is_at(&tar) && Layout::is_at(&layout));
    unpack(&layout, &place.at("one"), &ContainerOptions::new(), &Limits::default(), &Monitor::none()).unwrap();
    unpack(&tar, &place.at("other"), &ContainerOptions::new(), &Limits::default(), &Monitor::none()).unwrap();
    assert_eq!(tree(&place.at("one/rootfs")), tree(&place.at("other/rootfs")));
    assert_eq!(
        files(&place.at("one"))["metadata.yaml".as_ref() as &std::path::Path],
        files(&place.at("other"))["metadata.yaml".as_ref() as &std::path::Path]
    );
}

#[test]
fn name_chooses_among_several_images() {
    let place = Place::new();
    let layout = Forged::new(&[&[file("a", "x")]]).layout(&place, "layout");
    let layout = Layout::open(&layout, &Limits::default(), &Monitor::none()).unwrap();
    assert_eq!(layout.find(None).unwrap(), layout.find(Some("box")).unwrap());
    let error = layout.find(Some("other")).unwrap_err();
    assert_eq!(error.hint(), Some("it has box"));
}
