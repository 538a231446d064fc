//! A container manager's life of an instance: an image verified and unpacked, its templates applied.
//! Run with an image and its fingerprint, or without: then it packs a small image of its own first.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use lxd_image::format::{Image, ImageSource, PackOptions, Rootfs, UnpackOptions, pack};
use lxd_image::templates::{ApplyOptions, DeferredTrigger, Instance, InstanceDir, Trigger, apply};
use lxd_image::{Error, ErrorKind, Escaped, Fingerprint, Limits, Metadata, Monitor, Result, TemplateRule};

fn main() -> ExitCode {
    let work = std::env::temp_dir().join(format!("lxd-image-example-{}", std::process::id()));
    let done = run(&work);
    if let Err(error) = std::fs::remove_dir_all(&work) {
        eprintln!("{}: {error}", work.display());
    }
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error[{}]: {error}", error.kind());
            ExitCode::FAILURE
        }
    }
}

fn run(work: &Path) -> Result<()> {
    std::fs::create_dir(work)?;
    let mut arguments = std::env::args_os().skip(1);
    let (image, fingerprint) = match (arguments.next(), arguments.next()) {
        (None, _) => small_image(work)?,
        (Some(image), Some(fingerprint)) => {
            let digits = fingerprint.to_str().unwrap_or_default();
            (PathBuf::from(image), digits.parse()?)
        }
        (Some(_), None) => {
            return Err(Error::new(ErrorKind::InvalidInput, "give an image and its fingerprint, or nothing"));
        }
    };

    // Nothing is visible at `c1` before all of it is unpacked and the fingerprint is the right one.
    let instance = work.join("c1");
    let image = Image::open(ImageSource::open(&image, None)?)?;
    let unpacked = image.unpack_verified(&instance, &fingerprint, &UnpackOptions::new(), &Monitor::none())?;
    println!("unpacked {}: {} entries", unpacked.fingerprint, unpacked.report.entries);

    // What waits for the first start. A manager keeps it with the instance.
    let mut deferred = DeferredTrigger::default();
    deferred.remember(Trigger::Create);

    start("c1", &instance, &mut deferred)?;
    // Renamed while it is stopped, and started again.
    deferred.remember(Trigger::Rename);
    start("web", &instance, &mut deferred)
}

/// What a manager does just before it runs an instance's init.
fn start(name: &str, directory: &Path, deferred: &mut DeferredTrigger) -> Result<()> {
    println!("\nstart of {name}");
    let directory = InstanceDir::open(directory)?;
    let metadata = directory.metadata(&Limits::default())?;
    let context = Instance::new(name)
        .architecture(std::env::consts::ARCH)
        .config("user.motd", "be nice")
        .device("eth0", [("type", "nic"), ("network", "lxdbr0")])
        .context();
    for trigger in deferred.at_start() {
        // The rules in the image are a stranger's. Whatever they say, nothing outside of the root is touched.
        let applied =
            apply(&directory, metadata.templates(), trigger, &context, &ApplyOptions::new(), &Monitor::none())?;
        for outcome in applied.outcomes {
            let path = Escaped(outcome.path.as_bytes()).to_string();
            println!("  {trigger:<7} {path:<15} {:<9} {}", outcome.action.name(), outcome.action);
        }
    }
    Ok(())
}

/// A tree of two files, packed with rules for two more.
fn small_image(work: &Path) -> Result<(PathBuf, Fingerprint)> {
    let write = |path: &str, text: &str| {
        let path = work.join(path);
        std::fs::create_dir_all(path.parent().unwrap_or(work)).and_then(|()| std::fs::write(path, text))
    };
    write("tree/etc/os-release", "ID=example\n")?;
    write("tree/etc/hostname", "image\n")?;
    write("templates/hostname.tpl", "{{ container.name }}\n")?;
    write("templates/motd.tpl", "{{ config_get('user.motd', properties.default) }}\n")?;

    let mut metadata = Metadata::new(std::env::consts::ARCH, 1_700_000_000)?;
    metadata.set_template("/etc/hostname", TemplateRule::new("hostname.tpl", ["create", "copy", "rename"])?)?;
    let motd = TemplateRule::new("motd.tpl", ["start"])?.with_property("default", "welcome")?;
    metadata.set_template("/etc/motd", motd)?;

    let image = work.join("image.tar.xz");
    let options = PackOptions::new(metadata).templates(work.join("templates"));
    let written = pack(&Rootfs::open(work.join("tree"))?, &image, &options, &Monitor::none())?;
    Ok((image, written.fingerprint))
}
