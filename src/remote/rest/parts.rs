//! An image in two files on its way from a server: one body, of which the metadata comes first.
//! Read ahead as it comes, within a bound, and from its start again when it breaks.

use std::io::{self, Read};

use crate::error::{Error, Result};
use crate::format::{ImageSource, Input};
use crate::progress::{Cancel, Monitor};
use crate::protocol::two_files::{Bounds, Half, two_files};
use crate::remote::ahead::read_ahead;
use crate::remote::http::Response;

/// The two files of the image that an answer brings.
///
/// `announced` is the size of both in bytes that the server told before, 0 where it told none: no more is taken.
pub(super) fn open(
    mut answer: Response,
    kind: &str,
    announced: u64,
    stop: Cancel,
    monitor: &Monitor,
) -> Result<ImageSource> {
    answer.watched_by(Monitor::none().with_cancel(stop.clone()));
    let (name, limits, length) = (answer.url().to_string(), answer.limits().clone(), answer.length());
    if let Some(length) = length.filter(|length| *length > limits.download) {
        return Err(Error::limit("download", limits.download, format!("{length} bytes of {name}")));
    }
    let body = read_ahead(answer.into_body(), stop, monitor.clone());
    let announced = Some(announced).filter(|size| *size > 0);
    let bounds = Bounds { limits: &limits, most: "download", announced, sender: "the server" };
    let (metadata, rootfs, _) = two_files(Box::new(body), kind, &bounds)?;
    let rootfs = Input::attached_stream(Anew(rootfs)).named(&*name);
    let metadata = Input::attached_stream(Anew(metadata)).named(name);
    // Nearly all of it is the rootfs.
    Ok(ImageSource::split(
        metadata.announced(0),
        match length {
            Some(length) => rootfs.announced(length),
            None => rootfs,
        },
    ))
}

/// Such a body can't be gone on with where it broke: its boundaries are new each time.
struct Anew(Half);

impl Read for Anew {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.0.read(out).map_err(|error| {
            let error = Error::from(error);
            io::Error::from(if error.is_transient() { error.needs_restart() } else { error })
        })
    }
}
