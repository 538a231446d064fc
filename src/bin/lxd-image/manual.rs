//! `help TOPIC`: the pages of the manual, as they stand in `docs/`.
//!
//! A topic is looked for before the words are parsed, since `help VERB` belongs to the parser. No verb has the name of a
//! topic: a test of the manual would find out.

use std::ffi::OsString;

use crate::output;

/// The pages, in the order of the manual.
pub(crate) const TOPICS: &[(&str, &str)] = &[
    ("concepts", include_str!("../../../docs/concepts.md")),
    ("install", include_str!("../../../docs/install.md")),
    ("tasks", include_str!("../../../docs/tasks.md")),
    ("server", include_str!("../../../docs/server.md")),
    ("scaling", include_str!("../../../docs/scaling.md")),
    ("embedding", include_str!("../../../docs/embedding.md")),
    ("troubleshooting", include_str!("../../../docs/troubleshooting.md")),
    ("faq", include_str!("../../../docs/faq.md")),
];

/// The page that the command line asks for, if it is `help TOPIC` and nothing else.
pub(crate) fn asked(words: &[OsString]) -> Option<&'static str> {
    let [_, help, topic] = words else { return None };
    let topic = topic.to_str().filter(|_| help == "help")?;
    TOPICS.iter().find(|(name, _)| *name == topic).map(|(_, text)| *text)
}

/// Prints a page as it is: it reads well in a terminal and in a pager.
///
/// # Errors
/// Those of standard output.
pub(crate) fn print(page: &str) -> lxd_image::Result<()> {
    output::write(page.as_bytes())
}

/// The line of the program's help that names all topics.
pub(crate) fn topics() -> String {
    let names: Vec<&str> = TOPICS.iter().map(|(name, _)| *name).collect();
    format!("The manual: `lxd-image help TOPIC`, where TOPIC is one of {}.", names.join(", "))
}
