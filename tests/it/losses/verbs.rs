//! The verbs that read or write images: each from one file, once as a call and once as a command.

use std::fs;
use std::path::{Path, PathBuf};

use lxd_image::format::{
    ConvertOptions, Image, ImageForm, ImageSource, Input, PackOptions, Rootfs, RootfsFormat, UnpackOptions,
    VerifyOptions, pack,
};
use lxd_image::simplestreams::{AddOptions, TreeOptions};
use lxd_image::store::{ImportOptions, Store};
use lxd_image::{Monitor, Omissions};

use crate::cli::run;
use crate::format::Place;

/// A verb: its name, what it does as a call, and as a command. Both leave an image to compare with the input, if any.
pub(super) struct Verb {
    pub(super) name: &'static str,
    pub(super) call: fn(&Place, &Path, &Monitor) -> Option<Vec<PathBuf>>,
    pub(super) command: fn(&Place, &str) -> String,
    /// Whether members are decoded, so that what reading alone loses must be told.
    pub(super) decodes: bool,
}

pub(super) fn open(files: &[PathBuf]) -> Image {
    let mut inputs = files.iter().map(|file| Input::open(file).unwrap());
    let first = inputs.next().unwrap();
    Image::open(match inputs.next() {
        Some(second) => ImageSource::split(first, second),
        None => ImageSource::unified(first),
    })
    .unwrap()
}

fn source(file: &Path) -> ImageSource {
    ImageSource::unified(Input::open(file).unwrap())
}

fn image(file: &Path) -> Image {
    Image::open(source(file)).unwrap()
}

fn convert(
    place: &Place,
    file: &Path,
    monitor: &Monitor,
    form: ImageForm,
    format: Option<RootfsFormat>,
) -> Vec<PathBuf> {
    let mut options = ConvertOptions::new().form(form);
    if let Some(format) = format {
        options = options.rootfs_format(format);
    }
    let written = image(file).convert(place.at("converted"), &options, monitor).unwrap();
    written.files
}

/// A tree that was unpacked as an image again, to be compared: what that loses is told, too.
fn packed_again(place: &Place, monitor: &Monitor) -> Vec<PathBuf> {
    let metadata = fs::read(place.at("unpacked/metadata.yaml")).unwrap();
    let options = PackOptions::from_metadata_bytes(metadata, &Default::default()).unwrap().all_xattrs(true);
    let rootfs = Rootfs::Directory(place.at("unpacked/rootfs"));
    pack(&rootfs, place.at("again"), &options, monitor).unwrap().files
}

/// Runs a command that must succeed; its standard error.
fn told(place: &Place, arguments: &[&str]) -> String {
    let ran = run(place, &[&["--store", "store"], arguments].concat());
    assert_eq!(ran.status, 0, "{arguments:?}: {}", ran.err);
    ran.err
}

pub(super) const VERBS: &[Verb] = &[
    Verb {
        name: "verify",
        call: |_, file, monitor| {
            image(file).verify(&VerifyOptions::new(), monitor).unwrap();
            None
        },
        command: |place, file| told(place, &["verify", file]),
        decodes: true,
    },
    Verb {
        name: "unpack",
        call: |place, file, monitor| {
            let options = UnpackOptions::new();
            image(file).unpack_unverified(place.at("unpacked"), &options, monitor).unwrap();
            Some(packed_again(place, monitor))
        },
        command: |place, file| told(place, &["unpack", file, "unpacked-too"]),
        decodes: true,
    },
    Verb {
        name: "convert to one file",
        call: |place, file, monitor| Some(convert(place, file, monitor, ImageForm::Unified, None)),
        command: |place, file| told(place, &["convert", file, "out.tar", "--to", "unified"]),
        decodes: true,
    },
    Verb {
        name: "convert to two files",
        call: |place, file, monitor| Some(convert(place, file, monitor, ImageForm::Split, None)),
        command: |place, file| told(place, &["convert", file, "out.tar", "--to", "split"]),
        decodes: true,
    },
    Verb {
        name: "convert to SquashFS",
        call: |place, file, monitor| {
            Some(convert(place, file, monitor, ImageForm::Split, Some(RootfsFormat::SquashFs)))
        },
        command: |place, file| {
            told(place, &["convert", file, "out.tar", "--to", "split", "--rootfs-format", "squashfs"])
        },
        decodes: true,
    },
    Verb {
        name: "import and export",
        call: |place, file, monitor| {
            let store = Store::open(place.at("imported")).unwrap();
            let known = store.import(source(file), &ImportOptions::new(), monitor).unwrap();
            Some(store.export(&known.fingerprint, place.at("exported"), monitor).unwrap().files)
        },
        command: |place, file| {
            let imported = told(place, &["import", file, "--alias", "x"]);
            imported + &told(place, &["export", "x", "exported-too"])
        },
        decodes: false,
    },
    Verb {
        name: "publish",
        call: |place, file, monitor| {
            image(file).unpack_unverified(place.at("unpacked"), &UnpackOptions::new(), monitor).unwrap();
            let metadata = fs::read(place.at("unpacked/metadata.yaml")).unwrap();
            let packing = PackOptions::from_metadata_bytes(metadata, &Default::default()).unwrap().all_xattrs(true);
            let rootfs = Rootfs::Directory(place.at("unpacked/rootfs"));
            let store = Store::open(place.at("published")).unwrap();
            let options = ImportOptions::new();
            let (known, _) = store.publish(&rootfs, &packing, &options, monitor).unwrap();
            Some(store.export(&known.fingerprint, place.at("exported"), monitor).unwrap().files)
        },
        command: |place, file| {
            let unpacked = told(place, &["unpack", file, "instance"]);
            unpacked + &told(place, &["publish", "instance"])
        },
        decodes: true,
    },
    Verb {
        name: "simplestreams add",
        call: |place, file, monitor| {
            let tree = TreeOptions::new().create(place.at("tree")).unwrap();
            let options = AddOptions::new();
            let added = tree.lock().unwrap().add(source(file), &options, monitor).unwrap();
            let listing = tree.listing().unwrap();
            let listed = listing.images().iter().find(|image| image.fingerprint == added.fingerprint).unwrap();
            Some(vec![place.at("tree").join(listed.first.path.as_str())])
        },
        command: |place, file| told(place, &["simplestreams", "add", "tree-too", file]),
        decodes: false,
    },
];

/// The record of a call.
pub(super) fn called(place: &Place, verb: &Verb, file: &Path) -> (Option<Vec<PathBuf>>, Omissions) {
    let monitor = Monitor::none();
    let left = (verb.call)(place, file, &monitor);
    (left, monitor.omissions())
}
