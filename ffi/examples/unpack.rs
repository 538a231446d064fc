//! `unpack IMAGE DESTINATION FINGERPRINT [PACKED]` without the C interface: what `benches/ffi.py` compares `benches/ffi.c` with.
//! With PACKED the image is verified before, and what was unpacked is packed again after it.

use std::path::Path;
use std::process::ExitCode;

use lxd_image::format::{Image, ImageSource, PackOptions, Rootfs, UnpackOptions, VerifyOptions, pack};
use lxd_image::{Monitor, Result};

fn run(image: &str, destination: &str, fingerprint: &str, packed: Option<&str>) -> Result<()> {
    let expected = fingerprint.parse()?;
    let image = Image::open(ImageSource::open(image, None)?)?;
    if packed.is_some() {
        image.verify(&VerifyOptions::new(), &Monitor::none())?;
    }
    let unpacked = image.unpack_verified(destination, &expected, &UnpackOptions::new(), &Monitor::none())?;
    if let Some(packed) = packed {
        let tree = Rootfs::Directory(Path::new(destination).join("rootfs"));
        pack(&tree, packed, &PackOptions::new(unpacked.metadata), &Monitor::none())?;
    }
    Ok(())
}

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let done = match arguments.as_slice() {
        [image, destination, fingerprint] => run(image, destination, fingerprint, None),
        [image, destination, fingerprint, packed] => run(image, destination, fingerprint, Some(packed)),
        _ => return ExitCode::from(2),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
