//! The lifecycle events of images, and the paths by which these and operations name what they are about.

use serde_json::{Value, json};

use crate::protocol::escape;
use crate::server::core::client::Client;
use crate::server::core::operations::Operations;
use crate::store::StoredImage;

/// The path of an image.
pub(crate) fn image_path(image: &StoredImage) -> String {
    format!("/1.0/images/{}", image.fingerprint)
}

/// The path of an alias. Slashes in the name are escaped, as LXD's clients send them.
pub(crate) fn alias_path(name: &str) -> String {
    format!("/1.0/images/aliases/{}", escape::segment(name))
}

/// Publishes that an image and its aliases were created.
///
/// Also for an image that was fetched from the upstream; then the client is untrusted.
pub(crate) fn image_created(operations: &Operations, image: &StoredImage, client: &Client) {
    let context = json!({"type": image.image_type.name()});
    operations.lifecycle("image-created", &image_path(image), &context, client);
    for alias in &image.aliases {
        let target = json!({"target": image.fingerprint.to_string()});
        operations.lifecycle("image-alias-created", &alias_path(&alias.name), &target, client);
    }
}

/// Publishes an event about an image: that it was changed, or deleted.
pub(crate) fn image_changed(operations: &Operations, action: &str, image: &StoredImage, client: &Client) {
    operations.lifecycle(action, &image_path(image), &Value::Null, client);
}
