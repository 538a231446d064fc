//! Any bytes as an image, unpacked beside canaries: nothing outside changes, nothing is left of a
//! failure, and verifying comes to the same verdict. Devices are made only where root runs it.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::{Corpus, fuzz_target};
use lxd_image::format::{UnpackOptions, VerifyOptions};
use lxd_image::{Error, ErrorKind};
use lxd_image_fuzz::{Arena, Mode};

static ARENA: LazyLock<Arena> = LazyLock::new(Arena::new);

fuzz_target!(|data: &[u8]| -> Corpus {
    let Some((mode, data)) = Mode::take(data) else { return Corpus::Reject };
    let mut files = mode.files(data);
    files.iter_mut().for_each(|file| lxd_image_fuzz::point_at_canary(file, ARENA.canary()));
    if mode.repaired() {
        files.iter_mut().for_each(|file| lxd_image_fuzz::fix_checksums(file));
    }
    let Ok(image) = lxd_image_fuzz::open(&files) else { return Corpus::Keep };
    let options = UnpackOptions::new().threads(1).rootfs_only(mode.rootfs_only()).skip_devices(mode.skip_devices());
    let unpacked = image.unpack_unverified(ARENA.destination(), &options);
    ARENA.check();
    match &unpacked {
        Ok(_) => ARENA.clean(),
        Err(_) => ARENA.check_nothing_left(),
    }
    // The stream was used up.
    let Ok(image) = lxd_image_fuzz::open(&files) else { panic!("opened once and not again") };
    let verified = image.verify(&VerifyOptions::new().threads(1));
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
            assert!(is_of_this_machine(refused), "unpacking refuses what verifying accepts: {refused:?}")
        }
        (Ok(_), Err(found)) => panic!("unpacking accepts what verifying refuses: {found:?}"),
        (Err(_), Err(_)) => {}
    }
    Corpus::Keep
});

/// What verifying can't know: the disk, and how much may be written to it.
fn is_of_this_machine(error: &Error) -> bool {
    error.kind() == ErrorKind::Io || error.limit_name() == Some("output")
}
