//! Any bytes as an image: recognising them and looking for their metadata ends, in an error or not.
//! The bytes are the file's own, so that a found input can be given to the command line as it is.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let files = [data.to_vec()];
    if let Ok(image) = lxd_image_fuzz::open(&files) {
        // How far damaged data can be decoded depends on how its bytes come, and the first look has
        // them from the stream itself; from then on they come from what is kept of it.
        let _ = image.metadata();
        let first = image.metadata().map(|metadata| metadata.to_yaml());
        // A look must not use the stream up.
        let again = image.metadata().map(|metadata| metadata.to_yaml());
        assert_eq!(first.map_err(|error| error.to_string()), again.map_err(|error| error.to_string()));
    }
});
