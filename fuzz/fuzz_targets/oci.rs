//! Any bytes as what registries and layouts say: documents, configurations, references, challenges, layouts and layers.
//! What is read is read the same after it was written; layers change nothing outside of the target, leave nothing of a
//! failure, and make one tree, whether they are unpacked or written as an image that is unpacked. The first byte says
//! what the others are.
#![no_main]

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{Cursor, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex};

use libfuzzer_sys::fuzz_target;
use lxd_image::format::{
    Codec, Compression, Image as ImageFiles, ImageForm, ImageSource, Input, UnpackOptions, VerifyOptions,
};
use lxd_image::io::Blob;
use lxd_image::oci::{
    BlobSource, Challenge, ContainerImage, ContainerOptions, Descriptor, Digest, Document, Image, ImageArtifact,
    ImageConfig, Layout, Manifest, OciReference, RawDocument, Reference, media_type, to_json,
};
use lxd_image::{Architecture, Error, ErrorKind, Limits, Monitor, Result};
use lxd_image_fuzz::{Arena, fix_checksums, layers, limits, point_at_canary};

static ARENA: LazyLock<Arena> = LazyLock::new(Arena::new);

fuzz_target!(|data: &[u8]| {
    let Some((&mode, data)) = data.split_first() else { return };
    match mode & 7 {
        0 => document(data, mode >> 3),
        1 => configuration(data, mode >> 3),
        2 => texts(data),
        3 => layout(data),
        4 => tree(&raw_layers(data), mode & 8 != 0),
        _ => tree(&layers(data), mode & 8 != 0),
    }
});

/// A manifest or an index, whose type is stated in one of a few ways.
fn document(data: &[u8], stated: u8) {
    let stated = match stated % 4 {
        0 => None,
        1 => Some(media_type::IMAGE_MANIFEST),
        2 => Some(media_type::IMAGE_INDEX),
        _ => Some(media_type::DOCKER_MANIFEST),
    };
    let parse = |bytes: &[u8]| Document::parse(bytes, stated, &limits());
    let Ok(parsed) = parse(data) else {
        assert!(parse(data).is_err(), "two verdicts");
        return;
    };
    let written = match &parsed {
        Document::Manifest(manifest) => to_json(manifest),
        Document::Index(index) => to_json(index),
    };
    // Numbers may get longer by writing them.
    let again = Document::parse(&written.expect("text for keys"), stated, &Limits::trusted()).expect("written by us");
    match (&parsed, &again) {
        (Document::Index(index), Document::Index(same)) => {
            assert_eq!(index, same);
            for architecture in Architecture::ALL {
                let chosen = index.for_architecture(*architecture).map(|entry| entry.digest).ok();
                let then = same.for_architecture(*architecture).map(|entry| entry.digest).ok();
                assert_eq!(chosen, then);
                assert!(chosen.is_none_or(|digest| index.manifests.iter().any(|entry| entry.digest == digest)));
            }
        }
        (Document::Manifest(manifest), Document::Manifest(same)) => {
            assert_eq!(manifest, same);
            let Ok(Some(artifact)) = ImageArtifact::of(manifest) else { return };
            assert!(
                matches!(artifact.files.len(), 1 | 2)
                    && artifact.files.iter().all(|(_, file)| manifest.layers.contains(file))
            );
            if let [(_, only)] = &artifact.files[..] {
                assert_eq!(artifact.fingerprint, only.digest.as_fingerprint().or(artifact.fingerprint));
            }
            assert!(artifact.file_name().is_none_or(|name| !name.contains('/') && !name.starts_with('.')));
        }
        _ => panic!("a manifest became an index"),
    }
}

/// The configuration of an image of a few layers.
fn configuration(data: &[u8], count: u8) {
    let layer = Descriptor::of("application/vnd.oci.image.layer.v1.tar", b"");
    let config = Descriptor::of(media_type::IMAGE_CONFIG, data);
    let manifest = Manifest::new(config, vec![layer; usize::from(count)]);
    let Ok(parsed) = ImageConfig::parse(data, &manifest, &limits()) else { return };
    assert_eq!(parsed.rootfs.diff_ids.len(), usize::from(count));
    let written = to_json(&parsed).expect("text for keys");
    let again = ImageConfig::parse(&written, &manifest, &Limits::trusted()).expect("written by us");
    assert_eq!(parsed, again);
}

/// A reference, a digest, a tag, and the header of a challenge.
fn texts(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(reference) = text.parse::<OciReference>() {
        assert_eq!(reference.to_string().parse::<OciReference>().expect("printed by us"), reference);
        let path = format!("{}/{}", reference.repository(), reference.reference());
        assert!(path.split('/').all(|part| !matches!(part, "" | "." | "..")), "{path}");
        assert!(path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-:".contains(&byte)), "{path}");
    }
    if let Ok(reference) = text.parse::<Reference>() {
        assert_eq!(reference.to_string(), text);
    }
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(digest.to_string(), text);
    }
    let found = Challenge::parse(text);
    assert_eq!(found, Challenge::parse(text));
    assert!(found.len() <= text.len());
    for challenge in &found {
        if let Challenge::Bearer { realm, service, scope, .. } = challenge {
            let taken = [Some(realm), service.as_ref(), scope.as_ref()];
            assert!(taken.into_iter().flatten().all(|value| value.len() <= text.len()));
        }
    }
    let chosen = Challenge::choose([text]);
    assert_eq!(chosen.is_some(), !found.is_empty());
}

/// A tar as a layout, of which every entry is followed.
fn layout(data: &[u8]) {
    let mut data = data.to_vec();
    fix_checksums(&mut data);
    let (limits, monitor) = (limits(), Monitor::none());
    let Ok(layout) = Layout::tar(Blob::from(data), &limits, &monitor) else { return };
    let _ = layout.find(None);
    for entry in layout.entries() {
        if let Some(name) = Layout::name_of(entry) {
            let found = layout.find(Some(name)).map(|found| found.digest);
            assert!(found.is_err() || found.is_ok_and(|digest| digest == entry.digest), "another image of this name");
        }
        let referrers = layout.referrers(&entry.digest, None, &limits, &monitor);
        assert!(referrers.is_err() || referrers.is_ok_and(|all| all.len() <= 64));
        let Ok(image) = Image::resolve(&layout, entry, Architecture::X86_64, &limits, &monitor) else { continue };
        if let Ok(Some(artifact)) = ImageArtifact::of(image.manifest()) {
            let _ = artifact.open(&layout, &monitor);
        } else {
            let _ = ContainerImage::read(&layout, &image, &options(false), &Monitor::none());
        }
    }
}

/// Up to three layers of bytes as they are, each header with the checksum that it needs. The first bytes say where they end.
fn raw_layers(data: &[u8]) -> Vec<Vec<u8>> {
    let Some((&[first, second], rest)) = data.split_first_chunk() else { return Vec::new() };
    let (one, rest) = rest.split_at(rest.len().min(usize::from(first) * 512));
    let (two, three) = rest.split_at(rest.len().min(usize::from(second) * 512));
    let mut all: Vec<Vec<u8>> =
        [one, two, three].into_iter().filter(|layer| !layer.is_empty()).map(<[u8]>::to_vec).collect();
    all.iter_mut().for_each(|layer| fix_checksums(layer));
    all
}

fn options(system: bool) -> ContainerOptions {
    ContainerOptions::new()
        .threads(1)
        .limits(limits())
        .system(system)
        .form(ImageForm::Unified)
        .compression(Compression::new(Codec::None))
}

/// Blobs in memory.
#[derive(Default)]
struct Memory(HashMap<Digest, Vec<u8>>);

impl Memory {
    fn add(&mut self, media_type: &str, bytes: Vec<u8>) -> Descriptor {
        let descriptor = Descriptor::of(media_type, &bytes);
        self.0.insert(descriptor.digest, bytes);
        descriptor
    }
}

impl BlobSource for Memory {
    fn document(&self, reference: &Reference, limits: &Limits, _: &Monitor) -> Result<RawDocument> {
        let Reference::Digest(digest) = reference else {
            return Err(Error::new(ErrorKind::NotFound, "there are no tags"));
        };
        let bytes =
            self.0.get(digest).cloned().ok_or_else(|| Error::new(ErrorKind::NotFound, "there is no such document"))?;
        RawDocument::verified(bytes, reference, None, limits)
    }

    fn blob(&self, descriptor: &Descriptor, _: &Monitor) -> Result<Box<dyn Read + Send>> {
        let bytes = self.0.get(&descriptor.digest).cloned();
        let bytes = bytes.ok_or_else(|| Error::new(ErrorKind::NotFound, "there is no such blob"))?;
        Ok(Box::new(Cursor::new(bytes)))
    }
}

/// A sink that can be read in the end.
#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no thread panics").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The tree of layers, by both ways.
fn tree(layers: &[Vec<u8>], system: bool) {
    let mut source = Memory::default();
    let mut descriptors = Vec::new();
    let mut config = ImageConfig { architecture: "amd64".into(), os: "linux".into(), ..ImageConfig::default() };
    config.rootfs.kind = "layers".into();
    for layer in layers {
        let mut layer = layer.clone();
        point_at_canary(&mut layer, ARENA.canary());
        fix_checksums(&mut layer);
        config.rootfs.diff_ids.push(Digest::of(&layer));
        descriptors.push(source.add("application/vnd.oci.image.layer.v1.tar", layer));
    }
    let config = source.add(media_type::IMAGE_CONFIG, to_json(&config).expect("text for keys"));
    let manifest = to_json(&Manifest::new(config, descriptors)).expect("text for keys");
    let entry = source.add(media_type::IMAGE_MANIFEST, manifest);
    let (limits, monitor) = (limits(), Monitor::none());
    let image = Image::resolve(&source, &entry, Architecture::X86_64, &limits, &monitor).expect("it is there");
    let read = ContainerImage::read(&source, &image, &options(system), &Monitor::none());
    ARENA.check();
    let Ok(container) = read else {
        assert!(ContainerImage::read(&source, &image, &options(system), &Monitor::none()).is_err(), "two verdicts");
        return;
    };
    let unpacking = UnpackOptions::new().threads(1);
    let unpacked = container.unpack(ARENA.destination(), &unpacking, &Monitor::none());
    ARENA.check();
    let made = match &unpacked {
        Ok(_) => {
            let made = listing(&ARENA.destination());
            ARENA.clean();
            Some(made)
        }
        Err(_) => {
            ARENA.check_nothing_left();
            None
        }
    };
    let sink = Sink::default();
    let written = container.write_to(sink.clone(), &Monitor::none());
    let (written, made) = match (written, made) {
        (Ok(written), Some(made)) => (written, made),
        (Err(_), None) => return,
        (Ok(_), None) => {
            let refused = unpacked.expect_err("nothing was made");
            assert!(is_of_this_machine(&refused), "unpacking refuses what is written: {refused:?}");
            return;
        }
        (Err(refused), Some(_)) => panic!("writing refuses what is unpacked: {refused:?}"),
    };
    let bytes = sink.0.lock().expect("no thread panics").clone();
    let open = || {
        let input = Input::stream(Cursor::new(bytes.clone()));
        // Several layers may make more members than one may have.
        ImageFiles::open_with(ImageSource::unified(input), &Limits::default()).expect("written by us")
    };
    let verified = open().verify(&VerifyOptions::new().threads(1), &Monitor::none()).expect("written by us");
    assert_eq!((verified.fingerprint, verified.findings.len()), (written.fingerprint, 0), "{:?}", verified.findings);
    match open().unpack_unverified(ARENA.destination(), &unpacking, &Monitor::none()) {
        Ok(_) => {
            let again = listing(&ARENA.destination());
            ARENA.clean();
            assert_eq!(made, again, "two trees");
        }
        Err(refused) => panic!("what was written cannot be unpacked: {refused:?}"),
    }
    ARENA.check();
}

/// What reading can't know: the disk, and how much may be written to it.
fn is_of_this_machine(error: &Error) -> bool {
    error.kind() == ErrorKind::Io || error.limit_name() == Some("output")
}

/// What is below a directory: mode, owner, size, time, and the target or the number of names.
type Listing = BTreeMap<PathBuf, ([u64; 6], PathBuf)>;

fn listing(top: &Path) -> Listing {
    let mut found = Listing::new();
    let mut open = vec![top.to_path_buf()];
    while let Some(path) = open.pop() {
        let about = path.symlink_metadata().expect("it was just made");
        let (mut size, mut names) = (about.size(), about.nlink());
        if about.is_dir() {
            open.extend(fs::read_dir(&path).expect("it was just made").flatten().map(|entry| entry.path()));
            // The file system's business.
            (size, names) = (0, 0);
        }
        let target = fs::read_link(&path).unwrap_or_default();
        // What is beside the root file system is made anew each time.
        let time = if path.starts_with(top.join("rootfs")) { about.mtime().unsigned_abs() } else { 0 };
        let facts = [about.mode().into(), about.uid().into(), about.gid().into(), size, names, time];
        found.insert(path.strip_prefix(top).expect("it is below").to_path_buf(), (facts, target));
    }
    found
}
