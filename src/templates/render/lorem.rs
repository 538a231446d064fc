//! `lorem` (`tags_lorem.go`): words and paragraphs of the usual filler text.
//!
//! The text is the public-domain one, in the wording that pongo2 has, since output must be equal.

use super::super::engine_error::EngineResult;
use super::super::tree::{LoremMethod, LoremTag};
use super::Renderer;

impl Renderer<'_> {
    /// Writes words or paragraphs, repeating the text from its start when it is used up.
    pub(super) fn lorem_tag(&mut self, tag: LoremTag) -> EngineResult<()> {
        let pieces: Vec<&str> = match tag.method {
            LoremMethod::Words => TEXT.split_ascii_whitespace().collect(),
            _ => TEXT.split('\n').collect(),
        };
        for index in 0..tag.count.max(0).unsigned_abs() {
            if index > 0 {
                self.write(if tag.method == LoremMethod::Words { b" " } else { b"\n" })?;
            }
            // A fixed order counts as random, and keeps renderings repeatable. The stride separates
            // neighbours.
            let index = if tag.random { index.wrapping_mul(7) + 3 } else { index };
            let piece = usize::try_from(index % pieces.len() as u64).ok().and_then(|at| pieces.get(at)).unwrap_or(&"");
            if tag.method == LoremMethod::Paragraphs {
                self.write(b"<p>")?;
                self.write(piece.as_bytes())?;
                self.write(b"</p>")?;
            } else {
                self.write(piece.as_bytes())?;
            }
        }
        Ok(())
    }
}

/// The paragraphs, separated by line breaks.
const TEXT: &str = "\
    Lorem ipsum dolor sit amet, consectetur adipisici elit, sed eiusmod tempor incidunt ut labore et dolore \
    magna aliqua. Ut enim ad minim veniam, quis nostrud exercitation ullamco laboris nisi ut aliquid ex ea \
    commodi consequat. Quis aute iure reprehenderit in voluptate velit esse cillum dolore eu fugiat nulla \
    pariatur. Excepteur sint obcaecat cupiditat non proident, sunt in culpa qui officia deserunt mollit anim id \
    est laborum.\n\
    Duis autem vel eum iriure dolor in hendrerit in vulputate velit esse molestie consequat, vel illum dolore \
    eu feugiat nulla facilisis at vero eros et accumsan et iusto odio dignissim qui blandit praesent luptatum \
    zzril delenit augue duis dolore te feugait nulla facilisi. Lorem ipsum dolor sit amet, consectetuer \
    adipiscing elit, sed diam nonummy nibh euismod tincidunt ut laoreet dolore magna aliquam erat volutpat.\n\
    Ut wisi enim ad minim veniam, quis nostrud exerci tation ullamcorper suscipit lobortis nisl ut aliquip ex \
    ea commodo consequat. Duis autem vel eum iriure dolor in hendrerit in vulputate velit esse molestie \
    consequat, vel illum dolore eu feugiat nulla facilisis at vero eros et accumsan et iusto odio dignissim qui \
    blandit praesent luptatum zzril delenit augue duis dolore te feugait nulla facilisi.\n\
    Nam liber tempor cum soluta nobis eleifend option congue nihil imperdiet doming id quod mazim placerat \
    facer possim assum. Lorem ipsum dolor sit amet, consectetuer adipiscing elit, sed diam nonummy nibh euismod \
    tincidunt ut laoreet dolore magna aliquam erat volutpat. Ut wisi enim ad minim veniam, quis nostrud exerci \
    tation ullamcorper suscipit lobortis nisl ut aliquip ex ea commodo consequat.\n\
    Duis autem vel eum iriure dolor in hendrerit in vulputate velit esse molestie consequat, vel illum dolore \
    eu feugiat nulla facilisis.\n\
    SourceOffset vero eos et accusam et justo duo dolores et ea rebum. Stet clita kasd gubergren, no sea takimata sanctus \
    est Lorem ipsum dolor sit amet. Lorem ipsum dolor sit amet, consetetur sadipscing elitr, sed diam nonumy \
    eirmod tempor invidunt ut labore et dolore magna aliquyam erat, sed diam voluptua. SourceOffset vero eos et accusam \
    et justo duo dolores et ea rebum. Stet clita kasd gubergren, no sea takimata sanctus est Lorem ipsum dolor \
    sit amet. Lorem ipsum dolor sit amet, consetetur sadipscing elitr, SourceOffset accusam aliquyam diam diam dolore \
    dolores duo eirmod eos erat, et nonumy sed tempor et et invidunt justo labore Stet clita ea et gubergren, \
    kasd magna no rebum. sanctus sea sed takimata ut vero voluptua. est Lorem ipsum dolor sit amet. Lorem ipsum \
    dolor sit amet, consetetur sadipscing elitr, sed diam nonumy eirmod tempor invidunt ut labore et dolore \
    magna aliquyam erat.\n\
    Consetetur sadipscing elitr, sed diam nonumy eirmod tempor invidunt ut labore et dolore magna aliquyam \
    erat, sed diam voluptua. SourceOffset vero eos et accusam et justo duo dolores et ea rebum. Stet clita kasd \
    gubergren, no sea takimata sanctus est Lorem ipsum dolor sit amet. Lorem ipsum dolor sit amet, consetetur \
    sadipscing elitr, sed diam nonumy eirmod tempor invidunt ut labore et dolore magna aliquyam erat, sed diam \
    voluptua. SourceOffset vero eos et accusam et justo duo dolores et ea rebum. Stet clita kasd gubergren, no sea \
    takimata sanctus est Lorem ipsum dolor sit amet. Lorem ipsum dolor sit amet, consetetur sadipscing elitr, \
    sed diam nonumy eirmod tempor invidunt ut labore et dolore magna aliquyam erat, sed diam voluptua. SourceOffset vero \
    eos et accusam et justo duo dolores et ea rebum. Stet clita kasd gubergren, no sea takimata sanctus est \
    Lorem ipsum dolor sit amet.";
