//! Downloads an image in two files: one `multipart/form-data` body with the metadata first.
//!
//! Unlike a single file it can't be resumed: the boundary is new in each response, so that ranges of two responses don't fit
//! together. A transient error therefore asks for a restart of the whole image.

use std::io::{self, Read};

use crate::error::{Error, Result};
use crate::format::{ImageSource, Input};
use crate::progress::{Cancel, Monitor};
use crate::protocol::split_body::{SplitBounds, SplitFile, split_files};
use crate::remote::http::Response;
use crate::remote::read_ahead::read_ahead;

/// Opens the two files in a response. `announced` is the size of both in bytes according to the description of the image, which
/// bounds what is read; 0 if it is unknown.
pub(super) fn open(
    mut answer: Response,
    kind: &str,
    announced: u64,
    stop: Cancel,
    monitor: &Monitor,
) -> Result<ImageSource> {
    answer.set_monitor(Monitor::none().with_cancel(stop.clone()));
    let (name, limits, length) = (answer.url().to_string(), answer.limits().clone(), answer.length());
    if let Some(length) = length.filter(|length| *length > limits.download) {
        return Err(Error::limit("download", limits.download, format!("{length} bytes of {name}")));
    }
    let body = read_ahead(answer.into_body(), stop, monitor.clone());
    let announced = Some(announced).filter(|size| *size > 0);
    let bounds = SplitBounds { limits: &limits, limit_name: "download", announced, sender: "the server" };
    let (metadata, rootfs, _) = split_files(Box::new(body), kind, &bounds)?;
    let rootfs = Input::attached_stream(RestartReader(rootfs)).named(&*name);
    let metadata = Input::attached_stream(RestartReader(metadata)).named(name);
    // Nearly all of the body is the rootfs, so that its length serves as the total of the progress.
    Ok(ImageSource::split(
        metadata.announced(0),
        match length {
            Some(length) => rootfs.announced(length),
            None => rootfs,
        },
    ))
}

/// Turns transient errors into errors that ask for a restart.
struct RestartReader(SplitFile);

impl Read for RestartReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.0.read(out).map_err(|error| {
            let error = Error::from(error);
            io::Error::from(if error.is_transient() { error.needs_restart() } else { error })
        })
    }
}
