//! Which names people may have meant by one that is not there.
//! For the errors of all remotes that can list their aliases.

use crate::store::edit_distance;

/// Whether people may have meant this name by that one: one holds the other, or its first half, or
/// they are a few letters apart.
pub(super) fn is_near(name: &str, wanted: &str) -> bool {
    let (name, wanted) = (name.to_lowercase(), wanted.to_lowercase());
    let front = wanted.split(['/', '-', ':']).next().unwrap_or_default();
    if edit_distance(&wanted, &name, (wanted.chars().count() / 4).clamp(1, 3)).is_some() {
        return true;
    }
    wanted.len() >= 2 && (name.contains(&wanted) || wanted.contains(&name) || front.len() >= 2 && name.contains(front))
}
