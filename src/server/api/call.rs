//! [`Call`]: a request on its way to the function of its route, with what the access check found.

use crate::server::api::address::Address;
use crate::server::core::upload_spec::UploadSpec;
use crate::server::message::Request;

/// What the access check found that the function needs to know, besides who the client is.
#[derive(Debug)]
pub(crate) enum Grant {
    /// Nothing more than the request says.
    Plain,
    /// The upload that a token allows.
    Upload(Box<UploadGrant>),
}

/// A request on its way to the function of its route.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    /// The request. The function may consume its body.
    pub(crate) request: Request,
    /// The parsed target of the request.
    pub(crate) address: &'a Address,
    /// What the placeholders of the pattern matched, in order. Segments of `{name...}` are joined by slashes.
    pub(crate) parameters: Vec<String>,
    /// What the access check found; `Grant::Plain` for most routes.
    pub(crate) grant: Grant,
}

impl Call<'_> {
    /// What the placeholder with this index matched; empty where the pattern has no such placeholder.
    pub(crate) fn parameter(&self, index: usize) -> &str {
        self.parameters.get(index).map_or("", String::as_str)
    }
}

/// The upload that a token allowed to a client that is not trusted.
#[derive(Debug)]
pub(crate) struct UploadGrant {
    /// What the token was issued for, which restricts the headers of the request.
    pub(in crate::server::api) spec: UploadSpec,
    /// The secret of the token, by which the client may follow the operation.
    pub(in crate::server::api) secret: String,
}
