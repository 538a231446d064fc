//! `unpack IMAGE DESTINATION FINGERPRINT` without the C interface: what `benches/ffi.py` compares `benches/ffi.c` with.

use std::process::ExitCode;

use lxd_image::format::{Image, ImageSource, UnpackOptions};
use lxd_image::{Monitor, Result};

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [image, destination, fingerprint] = arguments.as_slice() else { return ExitCode::from(2) };
    let unpack = || -> Result<()> {
        let expected = fingerprint.parse()?;
        let image = Image::open(ImageSource::open(image, None)?)?;
        image.unpack_verified(destination, &expected, &UnpackOptions::new(), &Monitor::none()).map(drop)
    };
    match unpack() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
