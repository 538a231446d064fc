//! What an error says: stage, line, column and the line itself, in the author's own file.
//! And the warnings about what is allowed but surely not meant.

use lxd_image::templates::{Context, Dialect, Template};
use lxd_image::{ErrorKind, Limits, TemplateStage};

fn parse_error(source: &str) -> lxd_image::Error {
    Template::parse(source.as_bytes(), Dialect::Lxd, &Limits::default()).expect_err("a wrong template")
}

#[test]
fn parse_error_names_line_column_and_source_line() {
    let error = parse_error("one\ntwo {{ name|nosuch }}\n");
    let place = error.template_place().expect("a place");
    assert_eq!((error.kind(), place.stage, place.position), (ErrorKind::Template, TemplateStage::Parse, Some((2, 13))));
    assert_eq!(
        error.to_string(),
        "the template can't be parsed: line 2, column 13 of `two {{ name|nosuch }}`: there is no filter `nosuch`"
    );
}

#[test]
fn columns_of_the_first_line_are_those_of_the_file() {
    let place = parse_error("{{ | }}").template_place().expect("a place");
    assert_eq!(place.position, Some((1, 4)));
    let place = parse_error("{% if true %}").template_place().expect("a place");
    assert_eq!(place.position, Some((1, 4)));
}

#[test]
fn execution_error_names_line_and_column() {
    let limits = Limits::default();
    let template = Template::parse(b"\n\n {{ 1 / 0 }}", Dialect::Incus, &limits).expect("well formed");
    let error = template.render(&Context::new(), &limits).expect_err("a division by zero");
    let place = error.template_place().expect("a place");
    assert_eq!((place.stage, place.position), (TemplateStage::Exec, Some((3, 2))));
    assert_eq!(
        error.to_string(),
        "the template can't be rendered: line 3, column 2 of ` {{ 1 / 0 }}`: division by zero"
    );
}

#[test]
fn comparing_the_trigger_with_a_string_gives_a_warning() {
    let source =
        b"{% if trigger == \"create\" %}{% endif %}\n{{ \"copy\" != trigger|safe }}{{ trigger|lower == \"x\" }}";
    let template = Template::parse(source, Dialect::Lxd, &Limits::default()).expect("a template");
    let places: Vec<_> = template.warnings().into_iter().map(|warning| (warning.line, warning.column)).collect();
    assert_eq!(places, [(1, 4), (2, 1)]);
}

#[test]
fn typical_template_renders() {
    let source = b"{{ container.name }} {{ config_get(\"user.x\", properties.default) }}{% for n, d in devices %} {{ n }}={{ d.type }}{% endfor %}";
    let context = Context::new()
        .trigger("create")
        .instance([("name", "c1")])
        .config([("user.y", "1")])
        .device("root", [("type", "disk")])
        .device("eth0", [("type", "nic")])
        .properties([("default", "none")]);
    let limits = Limits::default();
    let template = Template::parse(source, Dialect::Lxd, &limits).expect("a template");
    assert_eq!(template.render(&context, &limits).expect("output"), b"c1 none eth0=nic root=disk");
}
