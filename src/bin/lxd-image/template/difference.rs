//! Unified diff of two texts, for `template apply --dry-run`.
//!
//! One hunk from the first differing line to the last is enough here: templates are small, and a minimal diff is not
//! worth its cost. Lines are escaped, because they come from an image and go to a terminal.

use lxd_image::Escaped;
use lxd_image::templates::ContentChange;

/// Unchanged lines around a change, as `diff -u` shows them.
const CONTEXT_LINES: usize = 3;

/// The change of a file in the form of `diff -u`: one hunk from the first differing line to the last.
pub(super) fn difference(path: &str, change: &ContentChange) -> String {
    let old = change.old.as_deref().map(lines).unwrap_or_default();
    let new = lines(&change.new);
    let path = Escaped(path.as_bytes());
    let mut text = match change.old {
        Some(_) => format!("--- {path}\n+++ {path}\n"),
        None => format!("--- nothing\n+++ {path}\n"),
    };
    let before = old.iter().zip(&new).take_while(|(old, new)| old == new).count();
    let room = old.len().min(new.len()) - before;
    let after = old.iter().rev().zip(new.iter().rev()).take(room).take_while(|(old, new)| old == new).count();
    let first = before.saturating_sub(CONTEXT_LINES);
    let more = after.min(CONTEXT_LINES);
    let (old_end, new_end) = (old.len() - after, new.len() - after);
    let range = |end: usize| {
        let count = end + more - first;
        format!("{},{count}", if count == 0 { first } else { first + 1 })
    };
    text.push_str(&format!("@@ -{} +{} @@\n", range(old_end), range(new_end)));
    let mut push = |mark: char, lines: &[&[u8]]| {
        for line in lines {
            let (line, ended) = line.strip_suffix(b"\n").map_or((*line, false), |line| (line, true));
            text.push_str(&format!("{mark}{}\n", Escaped(line)));
            if !ended {
                text.push_str("\\ No newline at end of file\n");
            }
        }
    };
    push(' ', &old[first..before]);
    push('-', &old[before..old_end]);
    push('+', &new[before..new_end]);
    push(' ', &old[old_end..old_end + more]);
    text
}

/// Lines with their terminators; a missing last newline stays visible, as diff(1) shows it.
fn lines(text: &[u8]) -> Vec<&[u8]> {
    text.split_inclusive(|&byte| byte == b'\n').collect()
}
