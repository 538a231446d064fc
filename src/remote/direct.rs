//! `Direct`: a direct-import URL, as `lxc image import URL` takes it.
//!
//! The URL answers `HEAD` with two headers, the sha256 of the image and the URL of its file (LXD: `lxd/images.go`,
//! `imgPostURLInfo`). LXD and Incus spell the headers differently, so both spellings are sent and accepted.

use super::http::{Client, ClientOptions, Request, Url};
use super::{Download, Protocol, Remote, Resolution, Wanted};
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::Fingerprint;
use crate::format::ImageSource;
use crate::metadata::{Architecture, Properties};
use crate::progress::Monitor;
use crate::protocol::direct::{Answer, question};
use crate::store::{StoredImage, UpdateSource};

/// The version that is sent to servers, which may choose an image by it. Images are read as LXD 5.0 reads them.
const VERSION: &str = concat!("5.0.2 lxd-image/", env!("CARGO_PKG_VERSION"));

/// A direct-import URL, as a remote with one image and no list.
///
/// An image that is copied from here with `auto_update` follows whatever the URL stands for later.
///
/// ```no_run
/// use lxd_image::Monitor;
/// use lxd_image::remote::{ClientOptions, Direct, Remote, Wanted};
///
/// let remote = Direct::new(ClientOptions::new(), "https://images.example/box".parse()?)?;
/// println!("{}", remote.resolve(&Wanted::new(""), &Monitor::none())?.fingerprint);
/// # Ok::<(), lxd_image::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Direct {
    client: Client,
    url: Url,
    /// In PEM, to be recorded with images; empty for none.
    certificate: String,
}

impl Direct {
    /// A client for this URL. Nothing is sent yet.
    ///
    /// # Errors
    /// Those of [`Client::new`]; `InvalidInput` for a file.
    pub fn new(options: ClientOptions, url: Url) -> Result<Self> {
        if url.host().is_empty() {
            return Err(Error::invalid(format!("{url} is a file, which no server stands behind"))
                .with_hint("give its path instead"));
        }
        Ok(Self { client: Client::new(options)?, url, certificate: String::new() })
    }

    /// The server's certificate in PEM, to be recorded with images that come from here.
    #[must_use]
    pub fn certificate(mut self, pem: impl Into<String>) -> Self {
        self.certificate = pem.into();
        self
    }

    /// Asks which image the URL stands for, and where its file is.
    fn ask(&self, architectures: &[Architecture], monitor: &Monitor) -> Result<(Fingerprint, Url)> {
        let retry = &self.client.options().retry;
        let answer = retry.run(monitor, || {
            let request = question(architectures, VERSION)
                .into_iter()
                .fold(Request::head(&self.url), |request, (name, value)| request.header(name, value));
            self.client.send(request.monitor(monitor))?.success()
        })?;
        let told = Answer::from_headers(|name| answer.header(name))?;
        let lies = answer.url().join(&told.url).map_err(|error| {
            Error::remote(format!("{} names an unusable address for its image", self.url)).with_source(error)
        })?;
        Ok((told.fingerprint, lies))
    }
}

impl Remote for Direct {
    fn source(&self) -> UpdateSource {
        UpdateSource::new(self.url.to_wire(), Protocol::Direct, "").certificate(&*self.certificate)
    }

    fn list(&self, _: &Monitor) -> Result<Vec<StoredImage>> {
        Err(Error::unsupported(format!("{} stands for one image and has no list", self.url)))
    }

    /// The one image that the URL stands for now, whatever the reference, unless that is a fingerprint. The architecture is not
    /// known before the download, so the best one that was asked for is reported.
    fn locate(&self, wanted: &Wanted, monitor: &Monitor) -> Result<Resolution> {
        let (fingerprint, _) = self.ask(&wanted.architectures, monitor)?;
        if let Some(prefix) = wanted.prefix().filter(|prefix| !prefix.matches(&fingerprint)) {
            return Err(Error::new(
                ErrorKind::NotFound,
                format!("{} stands for the image {fingerprint}, not for {prefix}", self.url),
            ));
        }
        let architecture = wanted.architectures.first().copied().unwrap_or(Architecture::X86_64);
        let mut image = StoredImage::new(fingerprint, wanted.image_type, architecture);
        image.public = true;
        image.properties = Properties::new();
        Ok(Resolution::named(image))
    }

    fn open(&self, image: &StoredImage, monitor: &Monitor) -> Result<ImageSource> {
        // Asked again: the address may be signed for a short time, and the image may have been replaced since.
        let (fingerprint, lies) = self.ask(&[image.architecture], monitor)?;
        if fingerprint != image.fingerprint {
            return Err(Error::remote(format!("{} stands for another image by now", self.url)).transient());
        }
        let download = Download::new(&self.client, &lies).referred_by(&self.url).digest(fingerprint).monitor(monitor);
        Ok(ImageSource::unified(download.open()))
    }
}
