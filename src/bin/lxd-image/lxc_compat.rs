//! Compatibility with `lxc image` and `incus`: the word `image` before a verb is accepted and ignored, and
//! `publish --format split` means a split image, as `incus publish` has it.
//!
//! `lxd-image image list` works like `lxd-image list`. Only a word in the place of the verb is dropped: values of
//! global options and later arguments may be called `image` too. No format of results is called `split` or `unified`,
//! so that `--format` of `publish` can mean both.

use std::ffi::OsString;

/// Global options whose value is a separate argument, which must not be taken for the verb.
const WITH_VALUE: [&str; 6] = ["--format", "-f", "--progress", "--store", "--limit", "--threads"];

/// The arguments as this program has them.
pub(crate) fn translated(words: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut words = without_image(words);
    if let Some(at) = verb(&words).filter(|at| words.get(*at).is_some_and(|word| word == "publish")) {
        form_of_publish(&mut words, at);
    }
    words
}

/// Where the verb stands.
fn verb(words: &[OsString]) -> Option<usize> {
    let mut at = 1;
    while let Some(word) = words.get(at)?.to_str() {
        match word {
            option if WITH_VALUE.contains(&option) => at += 2,
            option if option.starts_with('-') => at += 1,
            _ => return Some(at),
        }
    }
    None
}

/// Writes `--format split` as `--split` and leaves `--format unified` out, after the verb at `at`.
fn form_of_publish(words: &mut Vec<OsString>, mut at: usize) {
    let form = |name: &str| match name {
        "split" => Some(Some(OsString::from("--split"))),
        "unified" => Some(None),
        _ => None,
    };
    while let Some(word) = words.get(at).and_then(|word| word.to_str()).filter(|word| *word != "--") {
        let (found, length) = match word.strip_prefix("--format=") {
            Some(name) => (form(name), 1),
            None if word == "--format" => (words.get(at + 1).and_then(|name| name.to_str()).and_then(form), 2),
            None => (None, 1),
        };
        match found {
            Some(option) => drop(words.splice(at..at + length, option)),
            None => at += 1,
        }
    }
}

/// The arguments without `image` in the place of the verb. Arguments that are not UTF-8 end the search: they cannot be
/// verbs.
fn without_image(words: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut words: Vec<OsString> = words.collect();
    let mut at = 1;
    while let Some(word) = words.get(at).and_then(|word| word.to_str()) {
        match word {
            "image" => {
                words.remove(at);
                break;
            }
            option if WITH_VALUE.contains(&option) => at += 2,
            option if option.starts_with('-') => at += 1,
            _ => break,
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::{translated, without_image};

    #[test]
    fn format_of_publish_may_be_the_form_of_the_image() {
        for (typed, meant) in [
            ("lxd-image publish --format split c1", "lxd-image publish --split c1"),
            ("lxd-image image publish c1 --format=split", "lxd-image publish c1 --split"),
            ("lxd-image publish --format unified c1 --format json", "lxd-image publish c1 --format json"),
            ("lxd-image -f json publish c1", "lxd-image -f json publish c1"),
            ("lxd-image list --format split", "lxd-image list --format split"),
            ("lxd-image publish -- --format split", "lxd-image publish -- --format split"),
            ("lxd-image publish --format", "lxd-image publish --format"),
        ] {
            assert_eq!(translated(typed.split(' ').map(Into::into)).join(" ".as_ref()), meant, "{typed}");
        }
    }

    #[test]
    fn image_is_left_out_where_a_verb_stands() {
        for (typed, meant) in [
            ("lxd-image image list", "lxd-image list"),
            ("lxd-image -q --store image image list image", "lxd-image -q --store image list image"),
            ("lxd-image inspect image", "lxd-image inspect image"),
            ("lxd-image --format=csv image list", "lxd-image --format=csv list"),
            ("lxd-image image", "lxd-image"),
        ] {
            assert_eq!(without_image(typed.split(' ').map(Into::into)).join(" ".as_ref()), meant, "{typed}");
        }
    }
}
