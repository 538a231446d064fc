//! Any bytes as `metadata.yaml`: what parses comes out of writing and parsing again as it was.
//! And the text that is written is written the same again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lxd_image::Limits;
use lxd_image::metadata::Metadata;

fuzz_target!(|data: &[u8]| {
    let Ok(metadata) = Metadata::parse(data, &lxd_image_fuzz::limits()) else { return };
    let text = metadata.to_yaml();
    // Escapes and expanded aliases may make it longer than what it was read from.
    let again = match Metadata::parse(text.as_bytes(), &Limits::trusted()) {
        Ok(again) => again,
        Err(error) => panic!("what was written is refused: {error}\n{text}"),
    };
    assert_eq!(metadata, again, "{text}");
    assert_eq!(text, again.to_yaml());
});
