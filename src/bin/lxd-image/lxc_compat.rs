//! Compatibility with `lxc image`: the word `image` before a verb is accepted and ignored.
//!
//! `lxd-image image list` works like `lxd-image list`. Only a word in the place of the verb is dropped: values of
//! global options and later arguments may be called `image` too.

use std::ffi::OsString;

/// Global options whose value is a separate argument, which must not be taken for the verb.
const WITH_VALUE: [&str; 6] = ["--format", "-f", "--progress", "--store", "--limit", "--threads"];

/// The arguments without `image` in the place of the verb. Arguments that are not UTF-8 end the search: they cannot be
/// verbs.
pub(crate) fn without_image(words: impl Iterator<Item = OsString>) -> Vec<OsString> {
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
    use super::without_image;

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
