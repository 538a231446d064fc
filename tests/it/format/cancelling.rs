//! Calls that are cancelled while they wait: they return soon, say nothing but that, and leave nothing.

use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use lxd_image::format::{
    Compression, Image, ImageForm, ImageSource, Input, PackOptions, Rootfs, RootfsFormat, UnpackOptions, VerifyOptions,
    encode, pack, pack_to,
};
use lxd_image::{Cancel, ErrorKind, Limits, Metadata, Monitor, Result};
use rustix::fs::{FlockOperation, flock};

use super::Place;
use super::forge::{file, image};

/// A second is promised; the rest is for machines that have too much to do.
const SOON: Duration = Duration::from_secs(3);

/// Runs a call that is cancelled a little later, and checks how it ends.
#[track_caller]
fn cancelled<T: std::fmt::Debug>(call: impl FnOnce(Monitor, Cancel) -> Result<T>) {
    let cancel = Cancel::new();
    let switch = cancel.clone();
    let switching = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        switch.cancel();
        Instant::now()
    });
    let error = call(Monitor::none().with_cancel(cancel.clone()), cancel).unwrap_err();
    let after = switching.join().unwrap().elapsed();
    assert!(after < SOON, "{after:?}");
    assert_eq!((error.kind(), &*error.to_string()), (ErrorKind::Cancelled, "cancelled"));
}

/// Never gives a byte, and never takes one.
struct Silent;

impl Read for Silent {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        std::thread::sleep(Duration::from_secs(3600));
        Ok(0)
    }
}

impl Write for Silent {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        std::thread::sleep(Duration::from_secs(3600));
        Ok(0)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Words in no order, which no codec makes much smaller.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 7_u64;
    let mut noise = Vec::with_capacity(bytes);
    while noise.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        noise.extend_from_slice(format!("{:x} ", (state >> 20) % 50_000).as_bytes());
    }
    noise
}

fn tree(place: &Place, bytes: usize) -> Rootfs {
    fs::write(place.directory("tree").join("noise"), noise(bytes)).unwrap();
    Rootfs::open(place.at("tree")).unwrap()
}

fn options(codec: &str) -> PackOptions {
    PackOptions::new(Metadata::new("x86_64", 1_700_000_000).unwrap()).compression(codec.parse::<Compression>().unwrap())
}

#[test]
fn cancelled_encoder_is_not_waited_for() {
    let place = Place::new();
    let rootfs = tree(&place, 24 << 20);
    for codec in ["zstd:19", "xz:9"] {
        cancelled(|monitor, _| pack(&rootfs, place.at("out"), &options(codec), &monitor));
        assert_eq!(place.names(""), ["tree"]);
    }
}

/// A decoder that gives up at once leaves the thread that reads ahead with all of its buffers in the queue.
#[test]
fn call_that_was_cancelled_before_it_began_ends() {
    let bytes = image(&[file("rootfs/file", noise(16 << 20))]);
    let mut packed = Vec::new();
    let mut encoder = encode("lz4".parse().unwrap(), &mut packed, 1).unwrap();
    encoder.write_all(&bytes).unwrap();
    encoder.finish().unwrap();
    let place = Place::new();
    let path = place.write("image.tar.lz4", &packed);
    for _ in 0..20 {
        let cancel = Cancel::new();
        let opened = Image::open(ImageSource::open(&path, None).unwrap()).unwrap();
        cancel.cancel();
        let error = opened.verify(&VerifyOptions::new(), &Monitor::none().with_cancel(cancel)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled);
    }
}

#[test]
fn output_that_takes_nothing_does_not_hold_a_cancelled_call() {
    let place = Place::new();
    let rootfs = tree(&place, 4 << 20);
    cancelled(|monitor, _| pack_to(&rootfs, Silent, &options("none"), &monitor));
}

#[test]
fn silent_stream_does_not_hold_a_call_with_a_switch() {
    cancelled(|_, cancel| Image::open(ImageSource::unified(Input::stream(Silent).with_cancel(cancel))));
    let (reader, _writer) = io::pipe().unwrap();
    let input = Input::descriptor(OwnedFd::from(reader));
    cancelled(|_, cancel| Image::open(ImageSource::unified(input.with_cancel(cancel))));
}

#[test]
fn stream_that_falls_silent_does_not_hold_a_cancelled_call() {
    let bytes = image(&[file("rootfs/file", vec![b'x'; 1 << 20])]);
    let begun = io::Cursor::new(bytes[..200_000].to_vec());
    let opened = Image::open(ImageSource::unified(Input::stream(begun.clone().chain(Silent)))).unwrap();
    cancelled(|monitor, _| opened.verify(&VerifyOptions::new(), &monitor));
    let place = Place::new();
    let opened = Image::open(ImageSource::unified(Input::stream(begun.chain(Silent)))).unwrap();
    cancelled(|monitor, _| opened.unpack_unverified(place.at("out"), &UnpackOptions::new(), &monitor));
    assert!(place.names("").is_empty());
}

/// A split image with a SquashFS: both files' paths.
fn squashfs(place: &Place) -> (std::path::PathBuf, std::path::PathBuf) {
    let rootfs = tree(place, 1 << 20);
    let options = options("gzip").form(ImageForm::Split).rootfs_format(RootfsFormat::SquashFs);
    pack(&rootfs, place.at("image"), &options, &Monitor::none()).unwrap();
    (place.at("image"), place.at("image.root"))
}

#[test]
fn what_follows_a_squashfs_in_a_stream_counts_and_is_not_kept() {
    let place = Place::new();
    let (meta, root) = squashfs(&place);
    let mut bytes = fs::read(&root).unwrap();
    bytes.extend_from_slice(&[0; 300_000]);
    fs::write(&root, &bytes).unwrap();
    let kept = Image::open(ImageSource::open(&meta, Some(&root)).unwrap()).unwrap();
    let wanted = kept.verify(&VerifyOptions::new(), &Monitor::none()).unwrap().fingerprint;
    let mut limits = Limits::default();
    limits.spool = bytes.len() as u64 - 200_000;
    let streamed = ImageSource::split(Input::open(&meta).unwrap(), Input::stream(io::Cursor::new(bytes)));
    let image = Image::open_with(streamed, &limits).unwrap();
    assert_eq!(image.verify(&VerifyOptions::new(), &Monitor::none()).unwrap().fingerprint, wanted);
}

#[test]
fn squashfs_that_claims_too_much_is_refused_before_it_is_kept() {
    let place = Place::new();
    let (meta, root) = squashfs(&place);
    let mut head = fs::read(root).unwrap()[..96].to_vec();
    head[40..48].copy_from_slice(&(1_u64 << 40).to_le_bytes());
    let source =
        ImageSource::split(Input::open(meta).unwrap(), Input::stream(io::Cursor::new(head).chain(io::repeat(0))));
    let error = Image::open(source).unwrap().verify(&VerifyOptions::new(), &Monitor::none()).unwrap_err();
    assert_eq!((error.kind(), error.limit_name()), (ErrorKind::LimitExceeded, Some("spool")));
}

#[test]
fn squashfs_stream_that_falls_silent_does_not_hold_a_cancelled_call() {
    let place = Place::new();
    let (meta, root) = squashfs(&place);
    let bytes = io::Cursor::new(fs::read(root).unwrap());
    let source = ImageSource::split(Input::open(meta).unwrap(), Input::stream(bytes.chain(Silent)));
    let image = Image::open(source).unwrap();
    cancelled(|monitor, _| image.verify(&VerifyOptions::new(), &monitor));
}

#[test]
fn leftovers_are_told_from_the_living_by_their_lock() {
    let place = Place::new();
    let bytes = image(&[file("rootfs/file", "text")]);
    let dead = place.directory(".out.lxd-image-00000000000000aa/rootfs/deep");
    fs::write(dead.join("file"), "left").unwrap();
    place.write(".other.tar.lxd-image-00000000000000bb", "left");
    let living = fs::File::open(place.directory(".out.lxd-image-00000000000000cc")).unwrap();
    flock(&living, FlockOperation::LockExclusive).unwrap();
    // Names of somebody else.
    place.directory(".out.lxd-image-backup");
    place.directory("out.lxd-image-00000000000000dd");
    let opened = Image::open(ImageSource::open(place.write("image.tar", bytes), None).unwrap()).unwrap();
    opened.unpack_unverified(place.at("out"), &UnpackOptions::new(), &Monitor::none()).unwrap();
    assert_eq!(
        place.names(""),
        [
            ".out.lxd-image-00000000000000cc",
            ".out.lxd-image-backup",
            "image.tar",
            "out",
            "out.lxd-image-00000000000000dd"
        ]
    );
}

#[test]
fn leftovers_in_a_directory_of_strangers_are_left_alone() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    let shared = place.directory("shared");
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o777)).unwrap();
    place.directory("shared/.out.lxd-image-00000000000000aa");
    let bytes = image(&[file("rootfs/file", "text")]);
    let opened = Image::open(ImageSource::open(place.write("image.tar", bytes), None).unwrap()).unwrap();
    opened.unpack_unverified(shared.join("out"), &UnpackOptions::new(), &Monitor::none()).unwrap();
    assert_eq!(place.names("shared"), [".out.lxd-image-00000000000000aa", "out"]);
}

#[test]
fn removal_goes_on_while_somebody_moves_directories_inside() {
    let place = Place::new();
    let members: Vec<_> = (0..2_000).map(|number| file(format!("rootfs/a/b/{number}"), "text")).collect();
    let bytes = io::Cursor::new(image(&members));
    let stop = Cancel::new();
    let (stopped, top) = (stop.clone(), place.at(""));
    let moving = std::thread::spawn(move || {
        while !stopped.is_cancelled() {
            for entry in fs::read_dir(&top).unwrap().flatten() {
                let root = entry.path().join("rootfs");
                let _ = fs::create_dir(root.join("x"));
                let _ = fs::rename(root.join("a/b"), root.join("x/b"));
                let _ = fs::rename(root.join("x/b"), root.join("a/b"));
            }
        }
    });
    let opened = Image::open(ImageSource::unified(Input::stream(bytes.chain(Silent)))).unwrap();
    let cancel = Cancel::new();
    let switch = cancel.clone();
    let switching = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        switch.cancel();
    });
    let options = UnpackOptions::new();
    let error = opened.unpack_unverified(place.at("out"), &options, &Monitor::none().with_cancel(cancel)).unwrap_err();
    let left = place.names("");
    stop.cancel();
    moving.join().unwrap();
    switching.join().unwrap();
    // Either it is gone, or the error says what is left.
    assert!(left.is_empty() || error.hint().is_some_and(|hint| hint.contains(&left[0])), "{left:?}: {error:?}");
}
