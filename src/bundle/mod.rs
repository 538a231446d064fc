//! Images between stores and OCI layouts: bundles that carry images where no network leads, and single images of a
//! layout.
//!
//! A bundle is an OCI layout, a tar or a directory, with images of LXD and Incus as artifacts, their aliases as names,
//! and the statements about them beside them. Other tools read and write it as well. [`BundleWriter`] writes one,
//! [`Bundle`] imports all of one, and [`LayoutImage`] takes one image, which may be a container image.
//!
//! ```no_run
//! use lxd_image::bundle::{Bundle, BundleImportOptions, BundleWriter};
//! use lxd_image::store::Store;
//! use lxd_image::{Limits, Monitor};
//!
//! let monitor = Monitor::none();
//! let store = Store::open("/var/lib/lxd-image")?;
//! let mut bundle = BundleWriter::tar("images.tar", &monitor)?;
//! bundle.add(&store, &store.resolve("debian/12")?, &monitor)?;
//! bundle.finish(&monitor)?;
//!
//! let elsewhere = Store::open("/srv/images")?;
//! let options = BundleImportOptions::new().public(true);
//! let bundle = Bundle::open("images.tar", &Limits::default(), &monitor)?;
//! for fingerprint in bundle.import(&elsewhere, &options, &monitor)? {
//!     println!("{fingerprint}");
//! }
//! # Ok::<(), lxd_image::Error>(())
//! ```

mod evidence;
mod image;
mod import;
mod writer;

pub use image::{LayoutImage, LayoutOptions};
pub use import::{Bundle, BundleImportOptions};
pub use writer::BundleWriter;
