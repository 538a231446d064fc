//! Trees through pack, convert and unpack, made at random: what comes out is what went in.
//! And the bytes of an image depend on nothing but its tree.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;

use lxd_image::format::{
    Codec, Compression, ConvertOptions, Image, ImageForm, ImageSource, PackOptions, Rootfs, RootfsFormat,
    UnpackOptions, VerifyOptions, differences, fingerprint_of, pack, pack_to,
};
use lxd_image::{Fingerprint, Metadata, Monitor};
use proptest::prelude::*;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, XattrFlags, setxattr, utimensat};

use super::{Place, is_root, tree};

#[derive(Debug, Clone)]
enum Node {
    File(Vec<u8>),
    Sparse(Vec<(u16, u8)>),
    Directory,
    Link(String),
    HardLink(usize),
    Fifo,
}

#[derive(Debug, Clone)]
struct Planned {
    node: Node,
    mode: u32,
    owner: (u32, u32),
    time: (i64, u32),
    xattrs: BTreeMap<String, Vec<u8>>,
    parent: usize,
    name: Vec<u8>,
}

fn planned() -> impl Strategy<Value = Planned> {
    let node = prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..2000).prop_map(Node::File),
        1 => prop::collection::vec((any::<u16>(), any::<u8>()), 0..4).prop_map(Node::Sparse),
        3 => Just(Node::Directory),
        2 => "[a-z/.]{1,150}".prop_map(Node::Link),
        2 => any::<usize>().prop_map(Node::HardLink),
        1 => Just(Node::Fifo),
    ];
    let name = prop_oneof![
        4 => prop::collection::vec(prop_oneof![Just(b'a'), Just(b'b'), Just(b' '), Just(b'-')], 1..4),
        2 => prop::collection::vec(any::<u8>().prop_filter("no slash, no NUL", |byte| ![0, b'/'].contains(byte)), 1..20),
        1 => prop::collection::vec(Just(b'n'), 90..255),
    ];
    let xattrs = prop::collection::btree_map("user[.][a-z=%]{1,8}", prop::collection::vec(any::<u8>(), 0..30), 0..3);
    let time = (-1_000_000_000..1_690_000_000_i64, 0..1_000_000_000_u32);
    let owner = (prop_oneof![Just(0), 1..70_000_u32, Just(2_100_000)], prop_oneof![Just(0), Just(4_294_967_294_u32)]);
    (node, 0..0o10000_u32, owner, time, xattrs, any::<usize>(), name).prop_map(
        |(node, mode, owner, time, xattrs, parent, name)| Planned { node, mode, owner, time, xattrs, parent, name },
    )
}

/// Makes the tree; what can't be made (a name that is taken) is left out.
fn plant(root: &Path, plan: &[Planned]) {
    std::fs::create_dir(root).unwrap();
    let mut directories = vec![root.to_path_buf()];
    let mut files = Vec::new();
    let mut made = Vec::new();
    for one in plan {
        let name = std::ffi::OsStr::from_bytes(&one.name);
        let path = directories[one.parent % directories.len()].join(name);
        if one.name == b"." || one.name == b".." || path.symlink_metadata().is_ok() {
            continue;
        }
        match &one.node {
            Node::File(content) => std::fs::write(&path, content).unwrap(),
            Node::Sparse(pieces) => {
                let file = std::fs::File::create(&path).unwrap();
                for &(at, byte) in pieces {
                    file.write_all_at(&[byte; 700], u64::from(at) * 64).unwrap();
                }
                file.set_len(5 << 20).unwrap();
            }
            Node::Directory => {
                std::fs::create_dir(&path).unwrap();
                directories.push(path.clone());
            }
            Node::Link(target) => std::os::unix::fs::symlink(target, &path).unwrap(),
            Node::HardLink(which) => {
                let Some(target): Option<&std::path::PathBuf> = files.get(which % files.len().max(1)) else { continue };
                std::fs::hard_link(target, &path).unwrap();
                continue;
            }
            Node::Fifo => {
                let kind = rustix::fs::FileType::Fifo;
                rustix::fs::mknodat(CWD, &path, kind, rustix::fs::Mode::from_raw_mode(0o600), 0).unwrap();
            }
        }
        if !matches!(one.node, Node::Directory) {
            files.push(path.clone());
        }
        made.push((path, one));
    }
    for (path, one) in made.iter().rev() {
        let link = matches!(one.node, Node::Link(_));
        if is_root() {
            std::os::unix::fs::lchown(path, Some(one.owner.0), Some(one.owner.1)).unwrap();
        }
        if !link {
            if !matches!(one.node, Node::Fifo) {
                for (name, value) in &one.xattrs {
                    setxattr(path, name.as_str(), value, XattrFlags::empty()).unwrap();
                }
            }
            // An ordinary user must be able to read the tree again.
            let mode = if is_root() { one.mode } else { one.mode & 0o777 | 0o700 };
            std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        }
        let time = Timespec { tv_sec: one.time.0, tv_nsec: i64::from(one.time.1) };
        let times = Timestamps { last_access: time, last_modification: time };
        utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
}

fn about() -> Metadata {
    Metadata::new("x86_64", 1_700_000_000).unwrap()
}

fn open(place: &Place, name: &str, root: bool) -> Image {
    let rootfs = root.then(|| place.at(&format!("{name}.root")));
    Image::open(ImageSource::open(place.at(name), rootfs.as_deref()).unwrap()).unwrap()
}

/// Packs to a stream: nothing waits for the disk.
fn packed(root: &Path, options: &PackOptions) -> (Vec<u8>, Fingerprint) {
    #[derive(Clone, Default)]
    struct Shared(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);
    impl std::io::Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let out = Shared::default();
    let written = pack_to(&Rootfs::open(root).unwrap(), out.clone(), options, &Monitor::none()).unwrap();
    assert!(written.omissions.is_empty());
    let bytes = out.0.lock().unwrap().clone();
    (bytes, written.fingerprint)
}

fn codecs() -> Vec<Codec> {
    Codec::ALL.iter().copied().filter(|codec| codec.is_enabled() && *codec != Codec::Lzma).collect()
}

/// A codec of this build that SquashFS has too.
fn squashing() -> Option<Compression> {
    [Codec::Zstd, Codec::Xz, Codec::Gzip].into_iter().find(|codec| codec.is_enabled()).map(Compression::new)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn packed_tree_is_unpacked_unchanged(plan in prop::collection::vec(planned(), 0..25), codec in any::<usize>()) {
        let place = Place::new();
        plant(&place.at("tree"), &plan);
        let owed = tree(&place.at("tree"));
        let codec = Compression::new(codecs()[codec % codecs().len()]);
        let options = PackOptions::new(about()).compression(codec);
        let (bytes, fingerprint) = packed(&place.at("tree"), &options.clone().threads(1));
        prop_assert_eq!(fingerprint, Fingerprint::of(&bytes));
        prop_assert!(packed(&place.at("tree"), &options.clone().threads(4)).0 == bytes);
        place.write("unified", &bytes);
        let done = open(&place, "unified", false)
            .unpack_verified(place.at("out"), &fingerprint, &UnpackOptions::new(), &Monitor::none())
            .unwrap();
        prop_assert!(done.report.is_complete(), "{:?}", done.report);
        prop_assert_eq!(&tree(&place.at("out/rootfs")), &owed);
        // The tree that came out gives the same bytes, whatever order its directories have.
        prop_assert!(packed(&place.at("out/rootfs"), &options).0 == bytes);
    }

    #[test]
    fn any_bytes_after_a_good_start_are_read_or_refused_alike(tail: Vec<u8>, at in 0..2048_usize, flip: u8) {
        let mut bytes = super::forge::image(&[super::forge::file("rootfs/a", "x")]);
        bytes[at] ^= flip;
        bytes.extend(tail);
        let _ = super::verdict::unified(bytes).run();
    }
}

fn sample(place: &Place) -> Vec<String> {
    let root = place.directory("tree");
    for (name, content) in [("a", &b"text\n"[..]), ("b", &[7; 70_000]), ("empty", b"")] {
        std::fs::write(root.join(name), content).unwrap();
    }
    std::fs::create_dir_all(root.join("d/e/f")).unwrap();
    std::fs::write(root.join("d/e/f/deep"), "deep\n").unwrap();
    std::fs::hard_link(root.join("a"), root.join("d/hard")).unwrap();
    std::os::unix::fs::symlink("../a", root.join("d/link")).unwrap();
    let sparse = std::fs::File::create(root.join("sparse")).unwrap();
    sparse.write_all_at(b"end", 3 << 20).unwrap();
    setxattr(root.join("a"), "user.x", b"\0\n=", XattrFlags::empty()).unwrap();
    let whole_second = Timespec { tv_sec: 1_600_000_000, tv_nsec: 0 };
    let times = Timestamps { last_access: whole_second, last_modification: whole_second };
    for path in ["a", "b", "empty", "sparse", "d/link", "d/e/f/deep", "d/e/f", "d/e", "d", ""] {
        utimensat(CWD, root.join(path), &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
    place.directory("templates");
    place.write("templates/t.tpl", "{{ trigger }}\n");
    tree(&root)
}

#[test]
fn split_images_of_both_formats_come_out_again() {
    let place = Place::new();
    let owed = sample(&place);
    let forms = [("tar", RootfsFormat::Tar, Some(Compression::NONE)), ("sfs", RootfsFormat::SquashFs, squashing())];
    for (name, format, compression) in forms {
        let Some(compression) = compression else { return };
        let options = PackOptions::new(about())
            .compression(compression)
            .form(ImageForm::Split)
            .rootfs_format(format)
            .templates(place.at("templates"));
        let written =
            pack(&Rootfs::open(place.at("tree")).unwrap(), place.at(name), &options.threads(2), &Monitor::none())
                .unwrap();
        let bytes = [name.to_owned(), format!("{name}.root")].map(|name| std::fs::read(place.at(&name)).unwrap());
        assert_eq!(written.fingerprint, Fingerprint::of(&bytes.concat()));
        let out = place.at(&format!("out-{name}"));
        open(&place, name, true)
            .unpack_verified(&out, &written.fingerprint, &UnpackOptions::new(), &Monitor::none())
            .unwrap();
        assert_eq!(tree(&out.join("rootfs")), owed, "{name}");
        assert_eq!(std::fs::read(out.join("templates/t.tpl")).unwrap(), b"{{ trigger }}\n");
    }
    assert_eq!(
        differences(&open(&place, "tar", true), &open(&place, "sfs", true), &VerifyOptions::new(), &Monitor::none())
            .unwrap(),
        []
    );
}

#[test]
fn converting_there_and_back_changes_nothing() {
    let place = Place::new();
    sample(&place);
    let options = PackOptions::new(about()).templates(place.at("templates")).compression(Compression::NONE);
    pack(&Rootfs::open(place.at("tree")).unwrap(), place.at("first"), &options, &Monitor::none()).unwrap();
    for (index, codec) in codecs().into_iter().enumerate() {
        let (there, back) = (format!("there{index}"), format!("back{index}"));
        let convert = ConvertOptions::new().threads(2);
        let split = convert.clone().form(ImageForm::Split).compression(Compression::new(codec));
        open(&place, "first", false).convert(place.at(&there), &split, &Monitor::none()).unwrap();
        let unified = convert.form(ImageForm::Unified).compression(Compression::NONE);
        open(&place, &there, true).convert(place.at(&back), &unified, &Monitor::none()).unwrap();
        let found = differences(
            &open(&place, "first", false),
            &open(&place, &there, true),
            &VerifyOptions::new(),
            &Monitor::none(),
        );
        assert_eq!(found.unwrap(), [], "{codec}");
        assert!(std::fs::read(place.at(&back)).unwrap() == std::fs::read(place.at("first")).unwrap(), "{codec}");
    }
    let Some(compression) = squashing() else { return };
    let squashed =
        ConvertOptions::new().compression(compression).form(ImageForm::Split).rootfs_format(RootfsFormat::SquashFs);
    open(&place, "first", false).convert(place.at("squashed"), &squashed, &Monitor::none()).unwrap();
    let found = differences(
        &open(&place, "first", false),
        &open(&place, "squashed", true),
        &VerifyOptions::new(),
        &Monitor::none(),
    );
    assert_eq!(found.unwrap(), []);
}

#[test]
fn fingerprint_is_the_sha256_of_the_file_or_of_both_in_order() {
    let place = Place::new();
    let (meta, root) = (super::forge::archive(&[super::forge::metadata()]), super::forge::rootfs(&[]));
    let paths = [place.write("root", &root), place.write("meta", &meta)];
    let image = super::verdict::open(&paths, &lxd_image::Limits::default()).unwrap();
    assert_eq!(image.fingerprint(&Monitor::none()).unwrap(), Fingerprint::of(&[meta, root.clone()].concat()));
    let alone = lxd_image::format::Input::open(&paths[0]).unwrap();
    assert_eq!(fingerprint_of([&alone], None, &Monitor::none()).unwrap(), Fingerprint::of(&root));
}

#[test]
fn output_that_is_there_stays_and_nothing_is_left_beside_it() {
    let place = Place::new();
    sample(&place);
    place.directory("box");
    place.write("box/out", "mine");
    place.write("box/two.root", "mine");
    let rootfs = || Rootfs::open(place.at("tree")).unwrap();
    let options = PackOptions::new(about()).compression(Compression::NONE);
    for (name, form) in [("box/out", ImageForm::Unified), ("box/out", ImageForm::Split), ("box/two", ImageForm::Split)]
    {
        let error = pack(&rootfs(), place.at(name), &options.clone().form(form), &Monitor::none()).unwrap_err();
        assert_eq!(error.kind(), lxd_image::ErrorKind::AlreadyExists);
        assert_eq!(place.names("box"), ["out", "two.root"]);
    }
    assert_eq!(std::fs::read(place.at("box/out")).unwrap(), b"mine");
}
