//! Which names people may have meant by one that is not there.
//! For the errors of all remotes that can list their aliases.

/// Whether people may have meant this name by that one: one holds the other, or its first half.
pub(super) fn is_near(name: &str, wanted: &str) -> bool {
    let (name, wanted) = (name.to_lowercase(), wanted.to_lowercase());
    let front = wanted.split(['/', '-', ':']).next().unwrap_or_default();
    wanted.len() >= 2 && (name.contains(&wanted) || wanted.contains(&name) || front.len() >= 2 && name.contains(front))
}
