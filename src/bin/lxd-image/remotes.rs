//! What stands behind `REMOTE:` on the command line: an address for now.

use lxd_image::remote::{Remote, Simplestreams, Url};
use lxd_image::{Error, ErrorKind, Result};

use crate::options::Session;

/// The remote that a name or an address means.
pub(crate) fn remote(text: &str, allow_http: bool, session: &Session) -> Result<Box<dyn Remote>> {
    if !["https://", "http://", "file://"].iter().any(|scheme| text.starts_with(scheme)) {
        return Err(Error::new(ErrorKind::NotFound, format!("there is no remote `{}`", text.trim_end_matches(':')))
            .with_hint("name a simplestreams server by its address: https://HOST/ or file:///DIR"));
    }
    let url: Url = text.parse()?;
    Ok(Box::new(Simplestreams::new(session.client_options().allow_http(allow_http), &url)?))
}
