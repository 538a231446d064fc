//! What random templates found: the smallest input of each, with the answer of a real pongo2.
//! Kept so that it is not found again.

use lxd_image::Limits;
use lxd_image::templates::{Context, Dialect, Template, Value};

fn renders(source: &str, expected: &str) {
    let limits = Limits::default();
    let context = Context::new().variable("l", Value::list(["x", "y"].map(Value::from)));
    for dialect in [Dialect::Lxd, Dialect::Incus] {
        let template = Template::parse(source.as_bytes(), dialect, &limits).expect("a template");
        let output = template.render(&context, &limits).expect("output");
        assert_eq!(String::from_utf8_lossy(&output), expected, "{source}");
    }
}

#[test]
fn a_kept_counter_of_a_loop_counts_on() {
    renders("{% for x in l %}{% ifchanged forloop.Counter %}a{% else %}b{% endifchanged %}{% endfor %}", "ab");
    renders("{% for x in l %}{% if forloop.First %}{% set n = forloop.Counter %}{% endif %}{{ n }}{% endfor %}", "12");
}

#[test]
fn a_word_that_a_tag_cuts_short_does_not_count() {
    renders("{% filter truncatewords_html:2 %}a<i>b<i>c d {% endfilter %}", "a<i>b<i>c d ...</i></i>");
}

#[test]
fn the_argument_of_removetags_is_an_expression() {
    renders("{{ \"<b>1</b><i>2<i/><p>\"|removetags:\"[bi]\" }}", "12<p>");
    renders("{{ \"<bb><b>\"|removetags:\"b{2}\" }}", "<b>");
    renders("{{ \"<a>x</b>\"|removetags:\"a|b\" }}", ">x</");
}
