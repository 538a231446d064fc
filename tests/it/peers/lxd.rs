//! What a real LXD reads and writes, against what this library makes of the same files.
//! Each test has an LXD of its own, which is gone when the test ends.

use std::fs;
use std::path::Path;
use std::process::Command;

use lxd_image::disk::{DiskFormat, DiskOutput};
use lxd_image::format::{
    Codec, Compression, ConvertOptions, Image, ImageForm, ImageSource, ImageType, PackOptions, Rootfs, RootfsFormat,
    UnpackOptions, VerifyOptions, differences, pack,
};
use lxd_image::{Fingerprint, Metadata, Monitor};

use super::{Lxd, listing, run, small_root};

const METADATA: &str = "architecture: x86_64\ncreation_date: 1700000000\nproperties:\n  description: a small box\n";

/// An image as GNU tar makes it, beside the tree that it holds.
fn packed_by_tar(work: &Path) -> std::path::PathBuf {
    small_root(&work.join("rootfs"));
    fs::write(work.join("metadata.yaml"), METADATA).unwrap();
    let image = work.join("box.tar.xz");
    run(Command::new("tar")
        .args(["--numeric-owner", "--xattrs", "-cJf"])
        .arg(&image)
        .args(["metadata.yaml", "rootfs"])
        .current_dir(work));
    image
}

fn open(path: &Path) -> Image {
    Image::open(ImageSource::open(path, None).unwrap()).unwrap()
}

/// The fingerprint of an image without a fault.
#[track_caller]
fn verified(image: &Image) -> Fingerprint {
    let verified = image.verify(&VerifyOptions::new(), &Monitor::none()).unwrap();
    assert!(verified.findings.is_empty(), "{:?}", verified.findings);
    assert_eq!(verified.image_type, ImageType::Container);
    verified.fingerprint
}

/// The only file in a directory, by which an export's name need not be known.
fn only_file(dir: &Path) -> std::path::PathBuf {
    let mut files: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files.remove(0)
}

#[test]
fn real_lxd_gives_an_image_the_fingerprint_that_we_give_it_and_exports_it_unchanged() {
    let Some(lxd) = Lxd::start() else { return };
    let image = packed_by_tar(lxd.work());
    let ours = verified(&open(&image));
    lxd.lxc(&["image", "import", image.to_str().unwrap(), "--alias", "box"]);
    assert_eq!(lxd.fingerprint("box"), ours.to_string());

    fs::create_dir(lxd.work().join("out")).unwrap();
    lxd.lxc(&["image", "export", "box", "out/"]);
    let exported = open(&only_file(&lxd.work().join("out")));
    assert_eq!(exported.form(), ImageForm::Unified);
    assert_eq!(verified(&exported), ours);
    assert_eq!(exported.metadata().unwrap().properties().get("description"), Some("a small box"));
}

#[test]
fn image_that_a_real_lxd_published_verifies_and_unpacks_to_the_container_s_tree() {
    let Some(lxd) = Lxd::start() else { return };
    let image = packed_by_tar(lxd.work());
    lxd.lxc(&["image", "import", image.to_str().unwrap(), "--alias", "box"]);
    lxd.lxc(&["init", "box", "c1"]);
    lxd.lxc(&["publish", "c1", "--alias", "published"]);
    fs::create_dir(lxd.work().join("out")).unwrap();
    lxd.lxc(&["image", "export", "published", "out/"]);

    let published = open(&only_file(&lxd.work().join("out")));
    let fingerprint = verified(&published);
    assert_eq!(lxd.fingerprint("published"), fingerprint.to_string());
    let tree = lxd.work().join("unpacked");
    let unpacked = published.unpack_verified(&tree, &fingerprint, &UnpackOptions::new(), &Monitor::none()).unwrap();
    assert!(unpacked.report.is_complete(), "{:?}", unpacked.report);
    // Where LXD maps users it shifts the container's owners, and publishes them shifted back.
    assert_eq!(listing(&tree.join("rootfs")), listing(&lxd.work().join("rootfs")));
}

#[test]
fn real_lxd_refuses_and_verifying_finds_an_image_without_metadata() {
    let Some(lxd) = Lxd::start() else { return };
    small_root(&lxd.work().join("rootfs"));
    let image = lxd.work().join("bare.tar");
    run(Command::new("tar").arg("-cf").arg(&image).arg("rootfs").current_dir(lxd.work()));
    assert!(!lxd.try_lxc(&["image", "import", image.to_str().unwrap()]).status.success());
    assert!(open(&image).verify(&VerifyOptions::new(), &Monitor::none()).is_err());
}

/// Packs the small root as `options` say, imports it, and starts a container of it.
fn runs_in_lxd(lxd: &Lxd, name: &str, options: &PackOptions) {
    let work = lxd.work();
    let root = work.join(format!("root-{name}"));
    super::script("mkroot.sh", &[root.as_os_str()]);
    fs::write(root.join("etc/hostname"), "box\n").unwrap();
    let written = pack(&Rootfs::open(&root).unwrap(), work.join(name), options, &Monitor::none()).unwrap();
    let mut import = vec!["image", "import"];
    import.extend(written.files.iter().map(|file| file.to_str().unwrap()));
    import.extend(["--alias", name]);
    lxd.lxc(&import);
    assert_eq!(lxd.fingerprint(name), written.fingerprint.to_string(), "{name}");
    let container = format!("c-{name}");
    lxd.lxc(&["launch", name, &container]);
    assert_eq!(lxd.lxc(&["exec", &container, "--", "cat", "/etc/hostname"]), "box", "{name}");
    lxd.lxc(&["delete", "--force", &container]);
}

#[test]
fn real_lxd_imports_every_form_that_we_pack_and_starts_a_container_of_it() {
    let Some(lxd) = Lxd::start() else { return };
    let metadata = |text: &str| {
        let mut metadata = Metadata::new("amd64", 1_700_000_000).unwrap();
        metadata.properties_mut().set("description", text).unwrap();
        PackOptions::new(metadata)
    };
    for codec in [Codec::None, Codec::Gzip, Codec::Bzip2, Codec::Xz, Codec::Zstd] {
        let options = metadata(codec.name()).compression(Compression::new(codec));
        runs_in_lxd(&lxd, &format!("unified-{codec}"), &options);
    }
    runs_in_lxd(&lxd, "split-tar", &metadata("split").form(ImageForm::Split).compression(Compression::new(Codec::Xz)));
    for codec in [Codec::Gzip, Codec::Xz, Codec::Zstd] {
        let options = metadata(&format!("squashfs {codec}"))
            .form(ImageForm::Split)
            .rootfs_format(RootfsFormat::SquashFs)
            .compression(Compression::new(codec));
        runs_in_lxd(&lxd, &format!("squashfs-{codec}"), &options);
    }
}

#[test]
fn disk_that_we_write_comes_back_unchanged_from_a_real_lxd() {
    let Some(lxd) = Lxd::start() else { return };
    let work = lxd.work();
    let mut disk = vec![0; 24 << 20];
    for (at, byte) in disk.iter_mut().enumerate().skip(1 << 20).take(3_000_000) {
        *byte = u8::try_from((at * at / 7) % 251).unwrap();
    }
    fs::write(work.join("disk.img"), &disk).unwrap();
    for (form, name) in [(ImageForm::Unified, "unified"), (ImageForm::Split, "split")] {
        let options = PackOptions::new(Metadata::new("amd64", 1_700_000_000).unwrap())
            .form(form)
            .disk_input(DiskFormat::Raw)
            .compression(if form == ImageForm::Split {
                Compression::new(Codec::Xz)
            } else {
                Compression::new(Codec::Zstd)
            });
        let written =
            pack(&Rootfs::open(work.join("disk.img")).unwrap(), work.join(name), &options, &Monitor::none()).unwrap();
        let files: Vec<_> = written.files.iter().map(|file| file.to_str().unwrap()).collect();
        lxd.lxc(&[&["image", "import"], &files[..], &["--alias", name]].concat());
        assert_eq!(lxd.fingerprint(name), written.fingerprint.to_string());
        let listed = lxd.lxc(&["image", "list", name, "--format", "csv", "-c", "t"]);
        assert_eq!(listed, "VIRTUAL-MACHINE");

        let out = work.join(format!("{name}-out"));
        fs::create_dir(&out).unwrap();
        lxd.lxc(&["image", "export", name, &format!("{}/", out.display())]);
        let mut exported: Vec<_> = fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().path()).collect();
        exported.sort();
        assert_eq!(exported.len(), files.len(), "{exported:?}");
        let source = ImageSource::open(&exported[0], exported.get(1).map(std::path::PathBuf::as_path)).unwrap();
        let image = Image::open(source).unwrap();
        let tree = work.join(format!("{name}-tree"));
        image
            .unpack_verified(
                &tree,
                &written.fingerprint,
                &UnpackOptions::new().disk_format(DiskOutput::Raw),
                &Monitor::none(),
            )
            .unwrap();
        assert!(fs::read(tree.join("rootfs.img")).unwrap() == disk, "{name}");
    }
}

#[test]
fn image_of_a_real_lxd_is_the_same_image_in_any_form_that_we_convert_it_to() {
    let Some(lxd) = Lxd::start() else { return };
    let image = packed_by_tar(lxd.work());
    let first = open(&image);
    let split = lxd.work().join("split");
    let written = first.convert(&split, &ConvertOptions::new().form(ImageForm::Split), &Monitor::none()).unwrap();
    lxd.lxc(&[
        "image",
        "import",
        written.files[0].to_str().unwrap(),
        written.files[1].to_str().unwrap(),
        "--alias",
        "s",
    ]);
    assert_eq!(lxd.fingerprint("s"), written.fingerprint.to_string());
    let second = Image::open(ImageSource::open(&written.files[0], Some(&written.files[1])).unwrap()).unwrap();
    assert_eq!(differences(&first, &second, &VerifyOptions::new(), &Monitor::none()).unwrap(), []);
}
