//! `Direct`: a URL that tells, to `HEAD`, which image it stands for and where that lies.
//! Static servers do it with two header lines; the peers spell the headers differently, so both are sent and taken.

use super::http::{Client, ClientOptions, Request, Url};
use super::{Download, Remote, Wanted};
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::Fingerprint;
use crate::format::ImageSource;
use crate::metadata::{Architecture, Properties};
use crate::progress::Monitor;
use crate::protocol::direct::{Answer, question};
use crate::store::{StoredImage, UpdateSource};

/// The version that servers are told: they may choose among images by it, and this is what LXD and
/// Incus images are read like.
const VERSION: &str = concat!("5.0.2 lxd-image/", env!("CARGO_PKG_VERSION"));

/// A URL for direct import, as a remote with one image.
#[derive(Debug, Clone)]
pub struct Direct {
    client: Client,
    url: Url,
    certificate: String,
}

impl Direct {
    /// What stands behind a URL. Nothing is asked yet.
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

    /// Which image the URL stands for, and where that lies.
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
            Error::remote(format!("{} says that its image lies where nobody can go", self.url)).with_source(error)
        })?;
        Ok((told.fingerprint, lies))
    }
}

impl Remote for Direct {
    fn source(&self) -> UpdateSource {
        UpdateSource::new(self.url.to_wire(), "direct", "").certificate(&*self.certificate)
    }

    fn list(&self, _: &Monitor) -> Result<Vec<StoredImage>> {
        Err(Error::unsupported(format!("{} stands for one image and has no list", self.url)))
    }

    /// Whatever the reference, unless it is a fingerprint, the one image that the URL stands for now.
    /// Its architecture is not known before it is fetched; the best one that was asked for is told.
    fn resolve(&self, wanted: &Wanted, monitor: &Monitor) -> Result<StoredImage> {
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
        Ok(image)
    }

    fn open(&self, image: &StoredImage, monitor: &Monitor) -> Result<ImageSource> {
        let (fingerprint, lies) = self.ask(&[image.architecture], monitor)?;
        if fingerprint != image.fingerprint {
            return Err(Error::remote(format!("{} stands for another image by now", self.url)).transient());
        }
        let download = Download::new(&self.client, &lies).led_by(&self.url).digest(fingerprint).monitor(monitor);
        Ok(ImageSource::unified(download.open()))
    }
}
