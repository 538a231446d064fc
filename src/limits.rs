//! Every bound on hostile input, in one place, each with its reason.
//! Code that needs a bound takes it from here and names it in its error.

use crate::error::{Error, Result};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

macro_rules! limits {
    ($($(#[$doc:meta])* $name:ident = $default:expr, $trusted:expr;)*) => {
        /// What input may ask for. All values are plain numbers; bytes unless a field says otherwise.
        ///
        /// Zero never means "no limit". [`Limits::default`] suits images from anywhere;
        /// [`Limits::trusted`] lifts what only guards memory, disk and time, and never a rule about paths.
        ///
        /// ```
        /// let mut limits = lxd_image::Limits::default();
        /// limits.entries = 5_000_000;
        /// limits.set("codec_memory", 256 << 20)?;
        /// # Ok::<(), lxd_image::Error>(())
        /// ```
        #[derive(Debug, Clone, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Limits {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Default for Limits {
            fn default() -> Self {
                Self { $($name: $default,)* }
            }
        }

        impl Limits {
            /// The names of all limits, as [`set`](Self::set) and `--limit` take them.
            pub const NAMES: &[&str] = &[$(stringify!($name),)*];

            /// Limits for images whose maker is trusted: what guards resources is lifted as far as
            /// the formats themselves go.
            #[must_use]
            pub fn trusted() -> Self {
                Self { $($name: $trusted,)* }
            }

            /// Sets one limit by its name.
            ///
            /// # Errors
            /// `InvalidInput` for a name that is none, and for zero.
            pub fn set(&mut self, name: &str, value: u64) -> Result<()> {
                if value == 0 {
                    return Err(Error::invalid(format!("the limit `{name}` can't be 0: zero would refuse everything")));
                }
                match name {
                    $(stringify!($name) => self.$name = value,)*
                    _ => {
                        return Err(Error::invalid(format!("there is no limit `{name}`"))
                            .with_hint(format!("the limits are {}", Self::NAMES.join(", "))));
                    }
                }
                Ok(())
            }

            /// The value of one limit by its name; `None` for a name that is none.
            #[must_use]
            pub fn get(&self, name: &str) -> Option<u64> {
                match name {
                    $(stringify!($name) => Some(self.$name),)*
                    _ => None,
                }
            }
        }
    };
}

limits! {
    /// `metadata.yaml`, and `config.json` beside it. Real ones have 0.5 to 30 KiB; LXD and Incus refuse more than 1 MiB.
    metadata = MIB, 16 * MIB;
    /// Nesting in YAML. Real files nest 4 deep; a recursive parser has a stack to lose.
    yaml_depth = 64, 64;
    /// Nodes in a YAML document, after aliases are expanded.
    yaml_nodes = 100_000, 1_000_000;
    /// Aliases that may be expanded in a YAML document.
    alias_expansions = 1_000, 10_000;
    /// Template files in an image. Real images have fewer than 10.
    templates = 1_000, 100_000;
    /// One template file. Real ones stay below 8 KiB.
    template_file = MIB, 16 * MIB;
    /// All template files of an image together.
    template_bytes = 16 * MIB, GIB;
    /// What one template may write. A rendered file is a configuration file.
    template_output = 8 * MIB, 64 * MIB;
    /// Steps that one rendering may take: a loop's round, a node evaluated.
    template_steps = 10_000_000, 1_000_000_000;
    /// Macro calls inside macro calls.
    template_depth = 64, 64;
    /// Blocks inside blocks, and parentheses inside parentheses. Both take stack while parsing.
    template_nesting = 100, 200;
    /// Operators, filters or parts in one chain of a template.
    template_chain = 500, 10_000;
    /// Archive members. The largest real root file systems have 600,000.
    entries = 4_000_000, u64::MAX;
    /// A whole path. The kernel's `PATH_MAX` less its NUL.
    path = 4_095, 4_095;
    /// One component of a path. The kernel's `NAME_MAX`.
    component = 255, 255;
    /// The target of a symbolic link. The kernel's own bound.
    link_target = 4_095, 4_095;
    /// A PAX extended header: one 64 KiB attribute with its names, several times over.
    extended_header = MIB, 64 * MIB;
    /// A GNU long name or long link name.
    gnu_name = 64 * KIB, 64 * KIB;
    /// The value of one extended attribute. The kernel's `XATTR_SIZE_MAX`.
    xattr_value = 64 * KIB, 64 * KIB;
    /// Extended attributes of one entry.
    xattrs_per_entry = 128, 4_096;
    /// The name of an extended attribute. The kernel's `XATTR_NAME_MAX`.
    xattr_name = 255, 255;
    /// Data segments of one sparse file. GNU tar writes one for each hole.
    sparse_segments = 1_000_000, 16_000_000;
    /// The logical size of one file. ext4's own bound; a sparse disk is large in name only.
    file_size = 16 * TIB, i64::MAX as u64;
    /// Bytes written to disk by one unpacking. Real container trees stay below 20 GB.
    output = 256 * GIB, u64::MAX;
    /// While only looking for metadata: decoded bytes for each compressed byte, beyond the first 256 MiB.
    ratio = 1_000, u64::MAX;
    /// Decoded bytes after a tar's end marker. Blocking factors pad by 10 KiB, tapes by more.
    trailing = GIB, u64::MAX;
    /// What a decoder may allocate for its window or dictionary. `zstd` itself stops at 128 MiB.
    codec_memory = 128 * MIB, 4 * GIB;
    /// What comparing two images keeps of each in memory, beside what reading takes; the rest goes
    /// to a temporary file.
    diff_memory = 16 * MIB, 256 * MIB;
    /// What decoding xz blocks on several threads may use in all, beyond one thread's need.
    codec_threads_memory = 512 * MIB, 8 * GIB;
    /// One block of an lz4 frame. The format's own largest.
    lz4_block = 4 * MIB, 4 * MIB;
    /// One data block of a SquashFS. The format's own largest.
    squashfs_block = MIB, MIB;
    /// The virtual size of a disk.
    qcow2_size = 64 * TIB, i64::MAX as u64;
    /// The first table of a disk: L1 of qcow2 (QEMU's own bound), the grain directory of VMDK, the
    /// allocation table of VHD and VHDX.
    l1_table = 32 * MIB, 32 * MIB;
    /// One window of a delta (VCDIFF): its output, and each of its sections. Decoding keeps a few of them in memory.
    /// `xdelta3` writes 8 MiB and refuses more than 16 MiB.
    vcdiff_window = 64 * MIB, GIB;
    /// Instructions of one window of a delta. A real one copies or adds at least 4 bytes on average.
    vcdiff_instructions = 16 << 20, u64::MAX;
    /// The application header of a delta. `xdelta3` puts two file names there.
    vcdiff_header = 64 * KIB, 16 * MIB;
    /// The map of which clusters of a disk image's file are used: two bits for each. 16 MiB are enough
    /// for a file of 4 TiB with clusters of 64 KiB.
    disk_map = 16 * MIB, GIB;
    /// A file with a key, a keyring or a passphrase. Real keyrings have some 10 KiB.
    key_file = MIB, 16 * MIB;
    /// What deriving a key from a passphrase may allocate, in bytes, and the work that it may take, in
    /// libsodium's operations. `minisign` writes 1 GiB and 32 Mi.
    passphrase_memory = GIB, 4 * GIB;
    /// One statement about an image, with its signatures. An SBOM of a large distribution has some MiB.
    statement = 16 * MIB, 64 * MIB;
    /// All statements about one image together.
    statements = 32 * MIB, 64 * MIB;
    /// Redirects that a server's answer may lead through.
    redirects = 5, 20;
    /// The head of a server's answer: status line and headers.
    headers = 64 * KIB, MIB;
    /// Seconds that a server may be silent. Less than 1 KiB in that time counts as silence, so that a
    /// byte now and then holds nobody up for ever.
    idle = 60, 3_600;
    /// Seconds that one answer may take in all. A large image over a slow line is honest.
    total = u64::MAX, u64::MAX;
    /// What a server lists: an index, the images of a simplestreams server, an answer in JSON, decoded. The
    /// largest real `images.json` has 20 MB.
    remote_index = 64 * MIB, GIB;
    /// The signatures of one document. Real ones have 0.2 to 1.2 KB each.
    signature = 64 * KIB, MIB;
    /// How many signatures of one document are verified. Each costs a pass over the document.
    signatures = 16, 64;
    /// A manifest, an index or an image's configuration in a registry. Registries refuse more than this.
    oci_document = 4 * MIB, 64 * MIB;
    /// Layers of a container image. Docker and its storage stop at 128.
    oci_layers = 1_024, 16_384;
    /// Manifests that an index may list, and that may be read in one call. Real indexes have fewer than 30.
    oci_manifests = 10_000, 1_000_000;
    /// Indexes within indexes. Real ones nest 2 deep.
    oci_index_depth = 4, 16;
    /// Memory for the names of all layers of a container image while they become one tree. A tree of 100,000 files takes
    /// about 30 MiB.
    oci_tree = 512 * MIB, 16 * GIB;
    /// Tags of a repository, and repositories of a registry, in one list. The largest real lists have some 20,000.
    registry_tags = 100_000, 10_000_000;
    /// Nesting in JSON. Real documents nest 8 deep.
    json_depth = 64, 100;
    /// The metadata file of an image in two files, where it must be kept in memory: a server sends it before the
    /// rootfs, and the rootfs was asked for first. Real ones stay below 100 KiB.
    metadata_file = 32 * MIB, 256 * MIB;
    /// Images that a server keeps of its upstream because they were asked for, all of them together. Anybody may ask.
    cache = 100 * GIB, u64::MAX;
    /// Layers of container images that a store keeps for images with the same layers, all of them together. Each counts as
    /// 4 MiB at least.
    layer_cache = 20 * GIB, 200 * GIB;
    /// One file of an image on its way from a server. The largest real disks are stored in 20 GB.
    download = 64 * GIB, u64::MAX;
    /// A SquashFS that comes as a stream, which is kept in a temporary file while it is read, and the layers of a container
    /// image. As `download`.
    spool = 64 * GIB, u64::MAX;
    /// What a client may send to our server as an image. The largest real disks are stored in 20 GB.
    upload = 20 * GIB, u64::MAX;
    /// Uploads and imports that one client of our server may begin in an hour.
    client_uploads = 1_000, u64::MAX;
    /// Parts of one upload to our server that comes in parts. Each leaves a record in the catalog until it ends.
    upload_parts = 4_000, 1_000_000;
    /// Uploads in parts that one client of our server may have begun and not finished.
    client_unfinished = 20, 10_000;
    /// What one client of our server may have stored by uploads since the server was started.
    client_stored = TIB, u64::MAX;
    /// The images of the store to which uploads to our server may fill it, all of them together.
    stored = u64::MAX, u64::MAX;
    /// What else a client may send to our server. LXD takes as much as this of JSON.
    request = MIB, 16 * MIB;
}
