//! Unpacking and verifying one image, and what must hold of the two whatever the image is.
//! Nothing outside changes, nothing is left of a failure, and both come to one verdict.

use lxd_image::format::{Image, UnpackOptions, VerifyOptions};
use lxd_image::{Error, ErrorKind, Monitor, Result};

use crate::{Arena, Mode};

/// Unpacks what `open` opens, and verifies it: opened a second time, since a stream was used up.
///
/// # Panics
/// When something outside of the destination changed, when a failed run left anything, and when
/// unpacking and verifying differ.
pub fn compare(arena: &Arena, mode: Mode, open: impl Fn() -> Result<Image>) {
    let Ok(image) = open() else { return };
    let options = UnpackOptions::new().threads(1).rootfs_only(mode.rootfs_only()).skip_devices(mode.skip_devices());
    let unpacked = image.unpack_unverified(arena.destination(), &options, &Monitor::none());
    arena.check();
    match &unpacked {
        Ok(_) => arena.clean(),
        Err(_) => arena.check_nothing_left(),
    }
    let Ok(image) = open() else { panic!("opened once and not again") };
    let verified = image.verify(&VerifyOptions::new().threads(1), &Monitor::none());
    let verdict = match &verified {
        Err(error) => Err(error),
        // Whether a rule's template is there is no business of unpacking.
        Ok(verified) => match verified.findings.iter().find(|error| !error.message().starts_with("the rule for")) {
            Some(first) => Err(first),
            None => Ok(()),
        },
    };
    match (&unpacked, verdict) {
        (Ok(unpacked), Ok(())) => {
            assert_eq!(
                Some(unpacked.fingerprint),
                verified.ok().map(|verified| verified.fingerprint),
                "two fingerprints"
            );
        }
        (Err(refused), Ok(())) => {
            assert!(is_of_this_machine(refused), "unpacking refuses what verifying accepts: {refused:?}");
        }
        (Ok(_), Err(found)) => panic!("unpacking accepts what verifying refuses: {found:?}"),
        (Err(_), Err(_)) => {}
    }
}

/// What verifying can't know: the disk, and how much may be written to it.
fn is_of_this_machine(error: &Error) -> bool {
    error.kind() == ErrorKind::Io || error.limit_name() == Some("output")
}
