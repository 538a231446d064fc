//! Steps about registries, layouts and bundles, and about disks.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use lxd_image::bundle::{Bundle, BundleImportOptions, BundleWriter, LayoutImage, LayoutOptions};
use lxd_image::disk::{
    ClusterCompression, DiskFormat, DiskImage, DiskOptions, DiskOutput, Qcow2WriteOptions, RawWriteOptions,
};
use lxd_image::format::{
    Compression, ConvertOptions, Image, Input, PackOptions, Rootfs, UnpackOptions, open_disk, pack, pack_metadata,
};
use lxd_image::io::ReadAt;
use lxd_image::oci::Layout;
use lxd_image::remote::{ClientOptions, OciLogin, OciPushOptions, OciRegistry};
use lxd_image::store::ImportOptions;
use lxd_image::{Error, ErrorKind, Fingerprint, Result};

use super::images::from_files;
use super::stores::print;
use super::{Lines, Outcome, Place, quoted, text};

/// The registry and the disk of a case.
#[derive(Default)]
pub(crate) struct Oci {
    process: Option<Child>,
    url: String,
    /// The remote of the case, if it is a registry.
    registry: Option<OciRegistry>,
    disk: Option<DiskImage>,
}

impl Oci {
    /// The remote of the case is another one from now on.
    pub(super) fn disconnect(&mut self) {
        self.registry = None;
    }
}

impl Drop for Oci {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            // It ends when its input does.
            drop(process.stdin.take());
            process.wait().unwrap();
        }
    }
}

/// Starts a registry.
fn start(place: &mut Place) -> Lines {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/registry.py");
    let mut process =
        Command::new("python3").arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("python3");
    let mut url = String::new();
    BufReader::new(process.stdout.take().unwrap()).read_line(&mut url).unwrap();
    place.oci.url = url.trim_end().to_owned();
    place.oci.process = Some(process);
    Ok(Vec::new())
}

/// Connects to the case's registry, or to one repository of it.
pub(super) fn connect(place: &mut Place, repository: Option<&&[u8]>) -> Result<OciRegistry> {
    let registry = OciRegistry::new(ClientOptions::new(), &place.oci.url.parse()?, &OciLogin::Anonymous)?;
    let registry = match repository {
        Some(name) => registry.within(text(name))?,
        None => registry,
    };
    place.oci.registry = Some(registry.clone());
    Ok(registry)
}

fn registry(place: &Place) -> Result<&OciRegistry> {
    place.oci.registry.as_ref().ok_or_else(|| Error::new(ErrorKind::Unsupported, "this remote is no registry"))
}

fn push(place: &Place, flags: &[u8], tags: &[u8], of: &[u8], reference: &[u8]) -> Lines {
    let registry = registry(place)?;
    let (store, of) = (place.store.as_ref().unwrap(), text(of).parse::<Fingerprint>()?);
    let mut options = OciPushOptions::new().reuse_tags(flags.contains(&b'r'));
    for tag in text(tags).split(',').filter(|tag| *tag != "-") {
        options = options.tag(tag.parse()?);
    }
    let image = store.open_image(&of)?;
    if flags.contains(&b'a') {
        options = options.alias_tags(image.image(), &place.monitor);
    }
    let options = options.statements(store.statements(&of)?);
    Ok(vec![registry.push(&image, text(reference), &options, &place.monitor)?.to_string()])
}

fn tags(place: &Place, repository: &[u8]) -> Lines {
    if repository == b"-" {
        return registry(place)?.repositories(&place.monitor);
    }
    let tags = registry(place)?.repository(text(repository))?.tags(&place.monitor)?;
    Ok(tags.iter().filter(|tag| !tag.is_about_manifest()).map(|tag| tag.as_str().to_owned()).collect())
}

fn layout_options(place: &Place, flags: &[u8], name: Option<&&[u8]>) -> LayoutOptions {
    let options = LayoutOptions::new()
        .system(flags.contains(&b's'))
        .architecture(lxd_image::Architecture::X86_64)
        .compression("none".parse().unwrap())
        .limits(place.limits.clone());
    match name {
        Some(name) => options.image(text(name)),
        None => options,
    }
}

fn import_layout(place: &Place, flags: &[u8], path: &[u8], name: Option<&&[u8]>) -> Lines {
    let store = place.store.as_ref().unwrap();
    let image = LayoutImage::open(place.path(path), &layout_options(place, flags, name), &place.monitor)?;
    let (stored, incus) = image.import(store, &ImportOptions::new(), &place.monitor)?;
    Ok(print(&stored).into_iter().chain(incus.map(|incus| format!("incus {incus}"))).collect())
}

fn bundle(place: &Place, path: &[u8], images: &[&[u8]]) -> Lines {
    let store = place.store.as_ref().unwrap();
    let mut sorted = Vec::new();
    for of in images {
        sorted.push(store.image(&text(of).parse()?)?);
    }
    sorted.sort_by_key(|image| image.fingerprint);
    let file = place.path(path);
    let mut writer = if path.ends_with(b"/") {
        BundleWriter::directory(file, &place.monitor)?
    } else {
        BundleWriter::tar(file, &place.monitor)?
    };
    for image in &sorted {
        writer.add(store, image, &place.monitor)?;
    }
    writer.finish(&place.monitor).map(|_| Vec::new())
}

fn bundle_import(place: &Place, flags: &[u8], path: &[u8]) -> Lines {
    let options = BundleImportOptions::new().public(flags.contains(&b'p')).reuse_aliases(flags.contains(&b'r'));
    let bundle = Bundle::open(place.path(path), &place.limits, &place.monitor)?;
    let imported = bundle.import(place.store.as_ref().unwrap(), &options, &place.monitor)?;
    Ok(imported.iter().map(ToString::to_string).collect())
}

fn given<T: std::str::FromStr<Err = Error>>(word: &[u8]) -> Result<Option<T>> {
    if word == b"-" { Ok(None) } else { text(word).parse().map(Some) }
}

fn disk(place: &mut Place, format: &[u8], file: &[u8]) -> Lines {
    place.oci.disk = None;
    let mut options = DiskOptions::new().limits(place.limits.clone());
    if let Some(format) = given::<DiskFormat>(format)? {
        options = options.format(format);
    }
    let disk = open_disk(&Input::open(place.path(file))?, &place.dir, &options, 2, &place.monitor)?;
    let lines = vec![
        format!("{} {} {}", disk.format().name(), disk.disk_format().name(), quoted(disk.variant())),
        format!(
            "size {} cluster {} allocated {}",
            disk.virtual_size(),
            disk.cluster_size().unwrap_or(0),
            disk.allocated_bytes(&place.monitor)?
        ),
    ];
    place.oci.disk = Some(disk);
    Ok(lines)
}

fn disk_read(place: &Place, offset: &[u8], length: &[u8]) -> Lines {
    let disk = place.oci.disk.as_ref().unwrap();
    let offset: u64 = text(offset).parse().unwrap();
    let left = disk.virtual_size().saturating_sub(offset);
    let mut buffer = vec![0; usize::try_from(left.min(text(length).parse().unwrap())).unwrap()];
    disk.read_exact_at(&mut buffer, offset)?;
    Ok(vec![quoted(buffer)])
}

fn disk_write(place: &Place, format: &[u8], compression: &[u8], out: &[u8]) -> Lines {
    let disk = place.oci.disk.as_ref().unwrap();
    let (to, compression) = (given::<DiskOutput>(format)?, given::<ClusterCompression>(compression)?);
    let file = || {
        fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(place.path(out))
            .map_err(|error| Error::new(ErrorKind::AlreadyExists, "it is there").with_source(error))
    };
    let done = match to {
        Some(DiskOutput::Keep) => return Err(Error::new(ErrorKind::InvalidInput, "not kept")),
        Some(DiskOutput::Raw) if compression.is_some() => {
            return Err(Error::new(ErrorKind::InvalidInput, "a raw disk has no clusters"));
        }
        Some(DiskOutput::Raw) => disk.write_raw(&file()?, &RawWriteOptions::new(), &place.monitor)?,
        _ => {
            let options = Qcow2WriteOptions::new().compression(compression.unwrap_or_default());
            disk.write_qcow2(&file()?, &options, &place.monitor)?
        }
    };
    Ok(vec![format!("virtual {} bytes {}", done.virtual_size, done.bytes)])
}

fn pack_options(place: &Place, yaml: &[u8]) -> Result<PackOptions> {
    let options = PackOptions::from_metadata_bytes(yaml.to_vec(), &place.limits)?;
    Ok(options.compression("none".parse::<Compression>()?))
}

fn pack_disk(place: &Place, format: &[u8], compression: &[u8], disk: &[u8], yaml: &[u8], out: &[u8]) -> Lines {
    let mut options = pack_options(place, yaml)?;
    if let Some(format) = given(format)? {
        options = options.disk_input(format);
    }
    if let Some(compression) = given(compression)? {
        options = options.disk_compression(compression);
    }
    let rootfs = Rootfs::Disk(Input::open(place.path(disk))?);
    Ok(vec![pack(&rootfs, place.path(out), &options, &place.monitor)?.fingerprint.to_string()])
}

fn move_disk(place: &Place, out: &[u8], destination: &[u8], files: &[&[u8]]) -> Lines {
    let image = Image::open(from_files(place, files))?;
    let options = UnpackOptions::new();
    let staged = image.stage(place.path(destination), &options, &place.monitor)?.accept_unverified();
    let file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(place.path(out))
        .map_err(|error| Error::new(ErrorKind::AlreadyExists, "it is there").with_source(error))?;
    let done = staged.move_disk_to(&file, &RawWriteOptions::new(), &place.monitor).inspect_err(|_| {
        fs::remove_file(place.path(out)).unwrap();
    })?;
    staged.commit(text(destination))?;
    Ok(vec![format!("virtual {} bytes {}", done.virtual_size, done.bytes)])
}

fn unpack_disk(place: &Place, format: &[u8], destination: &[u8], files: &[&[u8]]) -> Lines {
    let image = Image::open(from_files(place, files))?;
    let format = text(format).parse()?;
    let options = UnpackOptions::new().disk_format(format);
    image.unpack_unverified(place.path(destination), &options, &place.monitor).map(|_| Vec::new())
}

fn convert_disk(place: &Place, format: &[u8], compression: &[u8], out: &[u8], files: &[&[u8]]) -> Lines {
    let image = Image::open(from_files(place, files))?;
    let mut options =
        ConvertOptions::new().compression("none".parse::<Compression>()?).disk_format(text(format).parse()?);
    if let Some(compression) = given(compression)? {
        options = options.disk_compression(compression);
    }
    Ok(vec![image.convert(place.path(out), &options, &place.monitor)?.fingerprint.to_string()])
}

fn disk_step(place: &mut Place, name: &str, words: &[&[u8]]) -> Option<Lines> {
    Some(match (name, words) {
        ("disk", [format, file]) => disk(place, format, file),
        ("disk-read", [offset, length]) => disk_read(place, offset, length),
        ("disk-write", [format, compression, out]) => disk_write(place, format, compression, out),
        ("pack-disk", [format, compression, disk, yaml, out]) => pack_disk(place, format, compression, disk, yaml, out),
        ("unpack-disk", [format, destination, files @ ..]) => unpack_disk(place, format, destination, files),
        ("move-disk", [out, destination, files @ ..]) => move_disk(place, out, destination, files),
        ("convert-disk", [format, compression, out, files @ ..]) => {
            convert_disk(place, format, compression, out, files)
        }
        ("pack-metadata", [yaml, out]) => pack_options(place, yaml)
            .and_then(|options| pack_metadata(place.path(out), &options, &place.monitor))
            .map(|written| vec![written.fingerprint.to_string()]),
        _ => return None,
    })
}

pub(super) fn step(place: &mut Place, name: &str, words: &[&[u8]]) -> Option<Outcome> {
    let lines = match (name, words) {
        ("registry", []) => start(place),
        ("push", [flags, tags, of, reference]) => push(place, flags, tags, of, reference),
        ("tags", [repository]) => tags(place, repository),
        ("layout-names", [path]) => Layout::open(place.path(path), &place.limits, &place.monitor).map(|layout| {
            let entries = layout.entries().iter().filter(|entry| !Layout::lists_referrers(entry));
            entries.filter_map(Layout::name_of).map(str::to_owned).collect()
        }),
        ("import-layout", [flags, path, rest @ ..]) => import_layout(place, flags, path, rest.first()),
        ("layout-write", [flags, path, out, rest @ ..]) => {
            LayoutImage::open(place.path(path), &layout_options(place, flags, rest.first()), &place.monitor)
                .and_then(|image| image.write(place.path(out), &place.monitor))
                .map(|written| vec![written.fingerprint.to_string()])
        }
        ("bundle", [path, images @ ..]) => bundle(place, path, images),
        ("bundle-import", [flags, path]) => bundle_import(place, flags, path),
        _ => disk_step(place, name, words)?,
    };
    Some(lines.map(|lines| (lines, None)))
}
