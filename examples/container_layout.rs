//! Writes a container image of one layer as an OCI layout in a tar, as `skopeo`, `podman load` and `docker load` read it.
//!
//! ```text
//! cargo run --example container_layout --features oci -- CONFIG.json LAYER.tar LAYER.tar.gz NAME OUT.tar
//! ```
//!
//! `CONFIG.json` is the image's configuration (OCI image specification, `config.md`) without `rootfs`; the layer is given
//! twice, since its DiffID is the digest of the tar, and what is stored is compressed. The same input gives the same bytes.

use std::error::Error;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use lxd_image::Monitor;
use lxd_image::oci::{
    BlobSink, Descriptor, Digest, DigestHasher, LayoutWriter, Manifest, REF_NAME, Tag, media_type, to_json,
};
use serde_json::{Value, json};

/// A layer that is a tar behind gzip.
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// The digest and the size of a file in bytes.
fn digest_of(path: &Path) -> Result<(Digest, u64), Box<dyn Error>> {
    let (mut file, mut hasher, mut size) = (File::open(path)?, DigestHasher::new(), 0);
    let mut buffer = vec![0; 64 << 10];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok((hasher.finish(), size));
        }
        hasher.update(&buffer[..count]);
        size += count as u64;
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [config, layer, compressed, name, out] = &arguments[..] else {
        return Err("usage: container_layout CONFIG.json LAYER.tar LAYER.tar.gz NAME OUT.tar".into());
    };
    let mut config: Value = serde_json::from_slice(&std::fs::read(config)?)?;
    let (diff_id, _) = digest_of(Path::new(layer))?;
    config["rootfs"] = json!({"type": "layers", "diff_ids": [diff_id.to_string()]});
    let config = serde_json::to_vec(&config)?;

    let (digest, size) = digest_of(Path::new(compressed))?;
    let layer = Descriptor::new(LAYER, digest, size);
    let manifest = Manifest::new(Descriptor::of(media_type::IMAGE_CONFIG, &config), vec![layer.clone()]);
    let document = to_json(&manifest)?;

    let monitor = Monitor::none();
    let mut layout = LayoutWriter::tar(out, &monitor)?;
    layout.put_blob(&layer, &mut || Ok(Box::new(File::open(compressed)?)), &monitor)?;
    layout.put_blob(&manifest.config, &mut || Ok(Box::new(std::io::Cursor::new(config.clone()))), &monitor)?;
    let tag: Tag = name.parse()?;
    layout.put_document(&Descriptor::of(media_type::IMAGE_MANIFEST, &document), &document, Some(&tag), &monitor)?;
    println!("{}", layout.finish()?.display());
    println!("{REF_NAME}: {name}");
    Ok(())
}
