//! Images whose bytes lie in no file: every operation on every form, over sources that read little, fail, change or are slow.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lxd_image::format::{
    Compression, ConvertOptions, Image, ImageForm, ImageSource, Input, PackOptions, Rootfs, RootfsFormat, SquashFs,
    UnpackOptions, VerifyOptions, differences, fingerprint_of, pack,
};
use lxd_image::io::{Blob, ReadAt, Version};
use lxd_image::{Cancel, ErrorKind, Fingerprint, Limits, Metadata, Monitor};

use super::forge::{file, image};
use super::{Place, tree};

/// Bytes in memory that come as a test wants them.
#[derive(Clone)]
struct Object {
    bytes: Arc<[u8]>,
    /// The most that one read gives.
    most: usize,
    /// Reads that reach this offset fail.
    broken_at: u64,
    /// How many reads there were.
    reads: Arc<AtomicU64>,
    /// Whether each look at the version gives another one.
    restless: bool,
    /// What each read waits.
    slow: Duration,
}

impl Object {
    fn new(bytes: &[u8]) -> Self {
        Self {
            bytes: bytes.into(),
            most: usize::MAX,
            broken_at: u64::MAX,
            reads: Arc::default(),
            restless: false,
            slow: Duration::ZERO,
        }
    }
}

impl ReadAt for Object {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        // Whatever may come in between is tried again.
        if self.reads.fetch_add(1, Ordering::Relaxed) % 5 == 1 {
            return Err(io::ErrorKind::Interrupted.into());
        }
        std::thread::sleep(self.slow);
        let most = self.most.min(buffer.len());
        let count = self.bytes.read_at(&mut buffer[..most], offset)?;
        if offset + count as u64 > self.broken_at {
            return Err(io::Error::other("the bucket is on fire"));
        }
        Ok(count)
    }

    fn len(&self) -> u64 {
        ReadAt::len(&*self.bytes)
    }

    fn version(&self) -> io::Result<Option<Version>> {
        let looked = if self.restless { self.reads.fetch_add(1, Ordering::Relaxed) } else { 0 };
        Ok(Some(Version::new(format!("etag {looked}"))))
    }
}

/// The files of an image in one form.
type Files = Vec<Vec<u8>>;

/// One image as a unified tar, a split tar and a split SquashFS; where it came from is gone.
fn forms() -> Vec<(&'static str, Files)> {
    let place = Place::new();
    let root = place.directory("tree");
    fs::write(root.join("large"), (0..600_000_u32).flat_map(|n| (n / 7).to_le_bytes()).collect::<Vec<u8>>()).unwrap();
    for number in 0..300 {
        fs::write(root.join(format!("small-{number}")), format!("{number}").repeat(number)).unwrap();
    }
    std::os::unix::fs::symlink("large", root.join("link")).unwrap();
    let rootfs = Rootfs::open(&root).unwrap();
    let options = || {
        let options = PackOptions::new(Metadata::new("x86_64", 1_700_000_000).unwrap());
        options.compression(Compression::new("gzip".parse().unwrap()))
    };
    let mut forms = Vec::new();
    for (name, options) in [
        ("unified", options()),
        ("split", options().form(ImageForm::Split)),
        ("squashfs", options().form(ImageForm::Split).rootfs_format(RootfsFormat::SquashFs)),
    ] {
        let written = pack(&rootfs, place.at(name), &options, &Monitor::none()).unwrap();
        forms.push((name, written.files.iter().map(|path| fs::read(path).unwrap()).collect()));
    }
    forms
}

fn source(files: &Files, change: impl Fn(&mut Object)) -> ImageSource {
    let mut inputs = files.iter().map(|bytes| {
        let mut object = Object::new(bytes);
        change(&mut object);
        Input::blob(Blob::new(object))
    });
    match (inputs.next(), inputs.next()) {
        (Some(one), None) => ImageSource::unified(one),
        (Some(one), Some(other)) => ImageSource::split(one, other),
        _ => panic!("one file or two"),
    }
}

fn open(files: &Files, change: impl Fn(&mut Object)) -> Image {
    Image::open(source(files, change)).unwrap()
}

fn fingerprint(files: &Files) -> Fingerprint {
    Fingerprint::of(&files.concat())
}

#[test]
fn object_is_inspected_as_a_file_is() {
    for (form, files) in forms() {
        let image = open(&files, |_| {});
        assert_eq!(image.metadata().unwrap().architecture(), "x86_64", "{form}");
        assert_eq!(image.size(), Some(files.concat().len() as u64), "{form}");
        assert_eq!(image.fingerprint(&Monitor::none()).unwrap(), fingerprint(&files), "{form}");
    }
}

#[test]
fn object_is_verified_as_a_file_is() {
    for (form, files) in forms() {
        let verified = open(&files, |_| {}).verify(&VerifyOptions::new(), &Monitor::none()).unwrap();
        assert_eq!(verified.fingerprint, fingerprint(&files), "{form}");
        assert!(verified.findings.is_empty(), "{form}: {:?}", verified.findings);
    }
}

#[test]
fn object_is_unpacked_as_a_file_is() {
    let place = Place::new();
    for (form, files) in forms() {
        let paths: Vec<_> =
            files.iter().zip(["first", "second"]).map(|(bytes, name)| place.write(name, bytes)).collect();
        let from_files =
            Image::open(ImageSource::open(&paths[0], paths.get(1).map(PathBuf::as_path)).unwrap()).unwrap();
        let (one, other) = (place.at(&format!("{form}-file")), place.at(&format!("{form}-object")));
        from_files.unpack_verified(&one, &fingerprint(&files), &UnpackOptions::new(), &Monitor::none()).unwrap();
        open(&files, |_| {})
            .unpack_verified(&other, &fingerprint(&files), &UnpackOptions::new(), &Monitor::none())
            .unwrap();
        assert_eq!(tree(&one), tree(&other), "{form}");
    }
}

#[test]
fn object_is_converted_to_an_image_with_the_same_content() {
    let place = Place::new();
    for (form, files) in forms() {
        let out = place.at(form);
        let options = ConvertOptions::new().compression(Compression::NONE).form(ImageForm::Unified);
        open(&files, |_| {}).convert(&out, &options, &Monitor::none()).unwrap();
        let converted = Image::open(ImageSource::open(&out, None).unwrap()).unwrap();
        assert_eq!(
            differences(&open(&files, |_| {}), &converted, &VerifyOptions::new(), &Monitor::none()).unwrap(),
            [],
            "{form}"
        );
    }
}

#[test]
fn short_reads_change_no_answer() {
    for (form, files) in forms() {
        let image = open(&files, |object| object.most = 1021);
        let verified = image.verify(&VerifyOptions::new(), &Monitor::none()).unwrap();
        assert_eq!(verified.fingerprint, fingerprint(&files), "{form}");
    }
}

#[test]
fn object_that_fails_is_an_input_error() {
    for (form, files) in forms() {
        let last = files.last().unwrap().len() as u64;
        for at in [0, 3, last / 2, last - 1] {
            let failed = Image::open(source(&files, |object| object.broken_at = at))
                .and_then(|image| image.verify(&VerifyOptions::new(), &Monitor::none()));
            assert_eq!(failed.unwrap_err().kind(), ErrorKind::Io, "{form}, at {at}");
        }
    }
}

#[test]
fn object_that_fails_leaves_nothing_of_what_was_unpacked() {
    let place = Place::new();
    for (form, files) in forms() {
        let last = files.last().unwrap().len() as u64;
        for at in [last / 2, last - 1] {
            let image = Image::open(source(&files, |object| object.broken_at = at));
            let failed = image
                .and_then(|image| image.unpack_unverified(place.at("out"), &UnpackOptions::new(), &Monitor::none()));
            assert_eq!(failed.unwrap_err().kind(), ErrorKind::Io, "{form}, at {at}");
            assert_eq!(place.names(""), [""; 0], "{form}, at {at}");
        }
    }
}

#[test]
fn error_of_an_object_says_what_its_engine_said() {
    let files = vec![image(&[file("rootfs/large", vec![b'x'; 1 << 20])])];
    let opened = open(&files, |object| object.broken_at = (1 << 20) - 1);
    let error = opened.verify(&VerifyOptions::new(), &Monitor::none()).unwrap_err();
    assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "the bucket is on fire");
}

#[test]
fn squashfs_that_changes_while_it_is_read_is_an_input_error() {
    let (_, files) = forms().remove(2);
    let error =
        open(&files, |object| object.restless = true).verify(&VerifyOptions::new(), &Monitor::none()).unwrap_err();
    assert_eq!((error.kind(), &*error.to_string()), (ErrorKind::Io, "the file was changed while it was read"));
}

#[test]
fn call_on_a_slow_object_is_cancelled_between_reads() {
    for (form, files) in forms() {
        let cancel = Cancel::new();
        let image = open(&files, |_| {});
        cancel.cancel();
        let options = VerifyOptions::new();
        assert_eq!(
            image.verify(&options, &Monitor::none().with_cancel(cancel.clone())).unwrap_err().kind(),
            ErrorKind::Cancelled,
            "{form}"
        );
    }
    let (_, files) = forms().remove(1);
    let cancel = Cancel::new();
    let image = open(&files, |object| (object.most, object.slow) = (512, Duration::from_millis(1)));
    let switch = cancel.clone();
    let switching = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        switch.cancel();
        std::time::Instant::now()
    });
    let options = VerifyOptions::new();
    let failed = image.verify(&options, &Monitor::none().with_cancel(cancel)).unwrap_err();
    let after = switching.join().unwrap().elapsed();
    assert_eq!(failed.kind(), ErrorKind::Cancelled);
    assert!(after < Duration::from_secs(3), "{after:?}");
}

#[test]
fn fingerprint_of_buffers_is_that_of_their_bytes() {
    let (one, other) = (Input::blob(b"one".to_vec().into()), Input::blob(b"other".to_vec().into()));
    let found = fingerprint_of([&one, &other], None, &Monitor::none()).unwrap();
    assert_eq!(found, Fingerprint::of(b"oneother"));
}

#[test]
fn squashfs_in_memory_is_looked_into() {
    let (_, files) = forms().remove(2);
    let looked = SquashFs::open(files[1].clone(), &Limits::default()).unwrap();
    assert_eq!(looked.read_small_file(b"small-3", 100).unwrap(), b"333");
}

#[test]
fn engine_that_tells_more_bytes_than_there_is_room_for_is_an_input_error() {
    struct Boaster;
    impl ReadAt for Boaster {
        fn read_at(&self, buffer: &mut [u8], _: u64) -> io::Result<usize> {
            Ok(buffer.len() + 1)
        }

        fn len(&self) -> u64 {
            1 << 20
        }
    }
    let error = Image::open(ImageSource::unified(Input::blob(Blob::new(Boaster)))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
}

#[test]
fn reader_of_a_part_ends_with_it_and_with_the_bytes() {
    let blob = Blob::from(b"0123456789".to_vec());
    let read = |offset, length| io::read_to_string(blob.reader_from(offset, length)).unwrap();
    assert_eq!(
        (read(2, 3), read(8, 100), read(10, 1), read(u64::MAX, 1)),
        ("234".into(), "89".into(), "".into(), "".into())
    );
    assert_eq!(io::read_to_string(blob.reader()).unwrap(), "0123456789");
}

#[test]
fn version_of_a_file_changes_with_its_bytes_and_not_with_its_opening() {
    let place = Place::new();
    let path = place.write("file", "one");
    let version = || Blob::file(fs::File::open(&path).unwrap()).unwrap().version().unwrap().unwrap();
    let before = version();
    assert_eq!(before, version());
    std::thread::sleep(Duration::from_millis(20));
    fs::write(&path, "two").unwrap();
    assert_ne!(before, version());
}

#[test]
fn blob_of_a_directory_or_a_pipe_is_refused() {
    let place = Place::new();
    let error = Blob::file(fs::File::open(place.directory("d")).unwrap()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    let (reader, _writer) = io::pipe().unwrap();
    let error = Blob::file(fs::File::from(std::os::fd::OwnedFd::from(reader))).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
}
