//! The main job in one run: make an image, look at it, fingerprint it, unpack it verified, keep it in a store.
//! `cargo run --release -p tour [IMAGE [ROOTFS]]`: without a path it packs the small tree in `examples/root`.

use std::io::Write;
use std::path::{Path, PathBuf};

use lxd_image::format::{
    Compression, EntryKind, Image, ImageForm, ImageSource, PackOptions, Rootfs, UnpackOptions, VerifyOptions, pack,
};
use lxd_image::{Escaped, Metadata, Monitor, Result, TemplateRule};

fn main() -> std::process::ExitCode {
    let mut paths = std::env::args_os().skip(1).map(PathBuf::from);
    let done = match paths.next() {
        Some(image) => tour(&image, paths.next().as_deref()),
        None => own_image().and_then(|scratch| {
            let done = tour(&scratch.0.join("tour.tar"), None);
            drop(scratch);
            done
        }),
    };
    match done {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error[{}]: {error}", error.kind());
            if let Some(hint) = error.hint() {
                eprintln!("hint: {hint}");
            }
            std::process::ExitCode::FAILURE
        }
    }
}

/// A directory that goes away with the run.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Result<Self> {
        let path = std::env::temp_dir().join(format!("lxd-image-tour-{name}-{}", std::process::id()));
        std::fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Packs the small tree of the repository.
fn own_image() -> Result<Scratch> {
    let scratch = Scratch::new("image")?;
    let mut metadata = Metadata::new("x86_64", 1_700_000_000)?;
    metadata.properties_mut().set("os", "Tour")?;
    metadata.properties_mut().set("description", "A small tree that shows the way")?;
    metadata.set_template("/etc/hostname", TemplateRule::new("hostname.tpl", ["create", "copy"])?)?;
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let options = PackOptions::new(metadata)
        .templates(here.join("root-templates"))
        .compression(Compression::NONE)
        .newest_mtime(Some(1_700_000_000));
    let written = pack(&Rootfs::open(here.join("root"))?, scratch.0.join("tour.tar"), &options, &Monitor::none())?;
    say("1. pack", &format!("examples/root became an image of {} bytes", written.size));
    Ok(scratch)
}

fn tour(path: &Path, rootfs: Option<&Path>) -> Result<()> {
    let image = Image::open(ImageSource::open(path, rootfs)?)?;
    let form = match image.form() {
        ImageForm::Unified => "one file",
        ImageForm::Split => "metadata and rootfs apart",
    };
    let containers: Vec<_> = image
        .containers()
        .map(|container| match container.codec() {
            Some(codec) => format!("{} ({codec})", container.name()),
            None => container.name().to_owned(),
        })
        .collect();
    say("2. open", &format!("{form}: {}; nothing but a few KiB was read", containers.join(" and ")));

    let metadata = image.metadata()?;
    say(
        "3. metadata",
        &format!("{}, made at {}", Escaped(metadata.architecture().as_bytes()), metadata.creation_date()),
    );
    for (key, value) in metadata.properties().iter() {
        println!("     {} = {}", Escaped(key.as_bytes()), Escaped(value.as_bytes()));
    }

    let fingerprint = image.fingerprint(&Monitor::none())?;
    say("4. fingerprint", &fingerprint.to_string());
    if let (None, Ok(output)) = (rootfs, std::process::Command::new("sha256sum").arg(path).output())
        && output.status.success()
    {
        let theirs = String::from_utf8_lossy(&output.stdout);
        let same = theirs.trim_start_matches('\\').starts_with(&fingerprint.to_string());
        println!("     sha256sum says {}", if same { "the same" } else { "SOMETHING ELSE" });
    }

    let verified = image.verify(&VerifyOptions::new(), &Monitor::none())?;
    let counts = &verified.counts;
    say(
        "5. verify",
        &format!(
            "{} members: {} files, {} directories, {} links; {} rules broken",
            counts.entries(),
            counts.files,
            counts.directories,
            counts.symlinks + counts.hard_links,
            verified.findings.len()
        ),
    );

    let scratch = Scratch::new("unpacked")?;
    let destination = scratch.0.join("image");
    let started = std::time::Instant::now();
    let unpacked = image.unpack_verified(&destination, &fingerprint, &UnpackOptions::new(), &Monitor::none())?;
    let rate = verified.size as f64 / started.elapsed().as_secs_f64() / 1e6;
    say(
        "6. unpack",
        &format!(
            "{} bytes of files, hashed, checked and written in one pass ({rate:.0} MB/s of image)",
            unpacked.report.bytes
        ),
    );
    for (what, count) in unpacked.report.omissions.counts() {
        println!("     {count} × {what}");
    }

    say("7. the tree", "its first members");
    let mut left = 12;
    image.survey(&VerifyOptions::new(), &Monitor::none(), &mut |entry, _| {
        if left > 0 {
            left -= 1;
            let kind = match &entry.kind {
                EntryKind::Directory => 'd',
                EntryKind::Symlink { .. } => 'l',
                EntryKind::File { .. } => '-',
                _ => '+',
            };
            println!("     {kind}{:04o} {}:{} /{}", entry.mode, entry.uid, entry.gid, Escaped(&entry.path));
        }
        Ok(())
    })?;

    through_the_store(path, rootfs)?;

    println!();
    println!("Next: `cargo run --release --features cli -- inspect IMAGE` on an image of yours,");
    println!(
        "      `… -- unpack IMAGE DEST --fingerprint {}…`, `… -- pack ROOTFS OUT --architecture x86_64`.",
        fingerprint.short()
    );
    std::io::stdout().flush()?;
    Ok(())
}

/// The same image in a store: named, found again, used, taken out, and expired.
fn through_the_store(path: &Path, rootfs: Option<&Path>) -> Result<()> {
    use lxd_image::store::{Alias, CheckOptions, Filter, ImportOptions, PruneOptions, Store};

    let scratch = Scratch::new("store")?;
    let store = Store::open(scratch.0.join("store"))?;
    // Cached and long past its date, so that the last step has something to do.
    let options = ImportOptions::new().alias(Alias::new("tour/first")?).cached(true).expires_at(1);
    let image = store.import(ImageSource::open(path, rootfs)?, &options, &Monitor::none())?;
    say("8. import", &format!("{} is `tour/first` in a new store", image.fingerprint.short()));

    let filter: Filter = "architecture=x86_64".parse()?;
    say(
        "9. list",
        &format!(
            "{} of {} images match {filter}",
            store.list(std::slice::from_ref(&filter))?.len(),
            store.images()?.len()
        ),
    );
    let found = store.resolve("tour/first")?;
    println!(
        "     {}, {}, {} bytes, made at {}",
        found.architecture,
        found.image_type.name(),
        found.size,
        found.created_at
    );

    let exported = store.export(&found.fingerprint, &scratch.0, &Monitor::none())?;
    say(
        "10. export",
        &format!("{} bytes in {} file(s), compared with the fingerprint", exported.size, exported.files.len()),
    );
    let clean = store.check(&CheckOptions::new(), &Monitor::none())?.is_clean();
    say("11. check", if clean { "every byte is as it came" } else { "SOMETHING IS DAMAGED" });

    let pruned = store.prune(&PruneOptions::default(), &Monitor::none())?;
    say("12. prune", &format!("{} image(s) went, {} bytes are free again", pruned.images.len(), pruned.bytes));
    Ok(())
}

fn say(step: &str, what: &str) {
    println!("{step:15} {what}");
}
