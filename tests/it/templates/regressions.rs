//! Cases that random templates found: the smallest input of each, with the answer of a real pongo2.
//! Each guards against the same defect coming back.

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
fn loop_counter_kept_in_a_variable_keeps_counting() {
    renders("{% for x in l %}{% ifchanged forloop.Counter %}a{% else %}b{% endifchanged %}{% endfor %}", "ab");
    renders("{% for x in l %}{% if forloop.First %}{% set n = forloop.Counter %}{% endif %}{{ n }}{% endfor %}", "12");
}

#[test]
fn truncatewords_html_does_not_count_a_word_cut_by_a_tag() {
    renders("{% filter truncatewords_html:2 %}a<i>b<i>c d {% endfilter %}", "a<i>b<i>c d ...</i></i>");
}

#[test]
fn argument_of_removetags_is_a_regular_expression() {
    renders("{{ \"<b>1</b><i>2<i/><p>\"|removetags:\"[bi]\" }}", "12<p>");
    renders("{{ \"<bb><b>\"|removetags:\"b{2}\" }}", "<b>");
    renders("{{ \"<a>x</b>\"|removetags:\"a|b\" }}", ">x</");
}
