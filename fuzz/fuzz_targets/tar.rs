//! Any bytes as a whole image, read to the end: verifying it ends, and says the same each time.
//! How the bytes are taken is said by the first of them, see `Mode`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lxd_image::format::VerifyOptions;
use lxd_image::{Fingerprint, Monitor};
use lxd_image_fuzz::Mode;

fuzz_target!(|data: &[u8]| {
    let Some((mode, data)) = Mode::take(data) else { return };
    let files = mode.files(data);
    let Ok(image) = lxd_image_fuzz::open(&files) else { return };
    let mut members = 0;
    let surveyed = image.survey_contents(&VerifyOptions::new().threads(1), &Monitor::none(), &mut |entry, _| {
        members += 1;
        assert!(
            !entry.path.split(|&byte| byte == b'/').any(|name| name == b".." || name == b"."),
            "a path that climbs"
        );
        assert!(!entry.path.starts_with(b"/") && !entry.path.contains(&0), "a path that can't be");
        assert!(entry.mode <= 0o7777, "a mode of more bits than there are");
        Ok(())
    });
    if let Ok(verified) = surveyed {
        assert_eq!(verified.counts.entries(), members);
        // A split image that was given in the other order has the digest of the right one.
        let whole = files.concat();
        let turned: Vec<u8> = files.iter().rev().flatten().copied().collect();
        assert!(
            [Fingerprint::of(&whole), Fingerprint::of(&turned)].contains(&verified.fingerprint),
            "a wrong fingerprint"
        );
    }
});
