//! `is_similar`: which names a user may have meant, for the hints of errors about aliases and remotes that don't exist.

use crate::store::edit_distance;

/// Whether `name` may have been meant by `wanted`: one contains the other, or its first part (`debian` of `debian/12`), or they
/// are at most three edits apart. Case is ignored.
pub(super) fn is_similar(name: &str, wanted: &str) -> bool {
    let (name, wanted) = (name.to_lowercase(), wanted.to_lowercase());
    let front = wanted.split(['/', '-', ':']).next().unwrap_or_default();
    if edit_distance(&wanted, &name, (wanted.chars().count() / 4).clamp(1, 3)).is_some() {
        return true;
    }
    wanted.len() >= 2 && (name.contains(&wanted) || wanted.contains(&name) || front.len() >= 2 && name.contains(front))
}
