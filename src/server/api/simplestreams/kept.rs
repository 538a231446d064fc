//! [`Streams`]: what is kept of the tree between requests.

use super::bundles::Bundles;
use super::digests::Digests;
use super::documents::Newest;
use super::turn::Turn;

/// The state of the simplestreams tree of one server.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    /// The digests of the files of split images.
    pub(super) digests: Digests,
    /// The statements about images, as files of the list.
    pub(super) bundles: Bundles,
    /// The documents that were made last.
    pub(super) newest: Newest,
    /// Makes long lists one at a time.
    pub(super) turn: Turn,
}
