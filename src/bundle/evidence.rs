//! What a layout has beside an image: statements, which are kept, and the rest, which is reported.

use crate::error::Result;
use crate::limits::Limits;
use crate::oci::{Descriptor, Digest, Image, ImageArtifact, Layout, STATEMENT, read_statements};
use crate::omissions::Omitted;
use crate::progress::Monitor;
use crate::trust::Evidence;

/// The statements about an image that a layout has beside it. Those that can't be used are recorded in the monitor.
///
/// # Errors
/// Those of the layout, above all `Mismatch` where it is damaged.
pub(super) fn evidence(
    layout: &Layout,
    image: &Image,
    artifact: &ImageArtifact,
    limits: &Limits,
    monitor: &Monitor,
) -> Result<Evidence> {
    let digest = image.digest();
    let found = layout.referrers(&digest, Some(STATEMENT), limits, monitor)?;
    omit_referrers(layout, &digest, &found, "only statements are kept beside an image", limits, monitor)?;
    if found.is_empty() {
        return Ok(Evidence::new());
    }
    let Some(fingerprint) = &artifact.fingerprint else {
        let part = "statements about it".into();
        let reason = "its fingerprint is not known before it is imported".into();
        monitor.omit(digest.to_string(), Omitted::Dropped { part, reason });
        return Ok(Evidence::new());
    };
    Ok(Evidence::new().statements(read_statements(layout, &digest, &found, fingerprint, limits, monitor)?))
}

/// Why what refers to a container image is left out.
pub(super) const ABOUT_CONTAINER: &str = "the image that is made of a container image has another fingerprint";

/// Records what refers to a manifest, but for those that are `taken`, as left out.
///
/// # Errors
/// Those of the layout.
pub(super) fn omit_referrers(
    layout: &Layout,
    digest: &Digest,
    taken: &[Descriptor],
    reason: &'static str,
    limits: &Limits,
    monitor: &Monitor,
) -> Result<()> {
    for other in layout.referrers(digest, None, limits, monitor)? {
        if taken.iter().all(|one| one.digest != other.digest) {
            let kind: String = other.artifact_type.as_deref().unwrap_or("unknown").chars().take(100).collect();
            let part = format!("{} of the type `{kind}`", other.digest).into();
            monitor.omit(digest.to_string(), Omitted::Dropped { part, reason: reason.into() });
        }
    }
    Ok(())
}
