//! From values to pages: templates with autoescape, style, and the headers that let a browser do nothing but show them.

use std::sync::OnceLock;

use http::{HeaderValue, StatusCode, header};
use minijinja::value::Serde;
use minijinja::{Environment, UndefinedBehavior};
use serde::Serialize;

use super::Site;
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::Fingerprint;
use crate::server::message::Response;

const STYLE: &str = include_str!("style.css");
const ICON: &str = include_str!("icon.svg");

/// The names of templates decide: in those of HTML every value is escaped.
const TEMPLATES: &[(&str, &str)] = &[
    ("base.html", include_str!("templates/base.html")),
    ("commands.html", include_str!("templates/commands.html")),
    ("image.html", include_str!("templates/image.html")),
    ("index.html", include_str!("templates/index.html")),
    ("problem.html", include_str!("templates/problem.html")),
];

/// Nothing is loaded from elsewhere, no script runs, and nobody puts the page into a frame.
const POLICY: &str =
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// What a template is given.
#[derive(Serialize)]
struct Page<'a, T: Serialize> {
    site: &'a Site,
    style: String,
    icon: String,
    #[serde(flatten)]
    own: &'a T,
}

#[derive(Serialize)]
struct Problem<'a> {
    title: &'a str,
    sentence: &'a str,
}

/// A page of a template.
pub(super) fn page<T: Serialize>(site: &Site, template: &str, own: &T) -> Result<Response> {
    let html = html(site, template, own)
        .map_err(|error| Error::new(ErrorKind::Template, "a page can't be made").with_source(error))?;
    Ok(framed(StatusCode::OK, html))
}

/// A page that says what went wrong.
pub(super) fn problem(site: &Site, status: StatusCode, title: &str, sentence: &str) -> Response {
    match html(site, "problem.html", &Problem { title, sentence }) {
        Ok(html) => framed(status, html),
        // The sentence is ours: it holds nothing to be escaped.
        Err(_) => framed(status, format!("<!doctype html><title>{title}</title><p>{sentence}")),
    }
}

fn html<T: Serialize>(site: &Site, template: &str, own: &T) -> std::result::Result<String, minijinja::Error> {
    // A new text has a new address, so that each may be kept.
    let named = |name| format!("/static/{name}?v={}", asset(name).map_or("", |(_, _, tag)| tag));
    let page = Page { site, style: named("style.css"), icon: named("icon.svg"), own };
    environment()?.get_template(template)?.render(Serde(&page))
}

fn environment() -> std::result::Result<&'static Environment<'static>, minijinja::Error> {
    static ENVIRONMENT: OnceLock<Environment<'static>> = OnceLock::new();
    if let Some(environment) = ENVIRONMENT.get() {
        return Ok(environment);
    }
    let mut made = Environment::new();
    made.set_undefined_behavior(UndefinedBehavior::Strict);
    for (name, source) in TEMPLATES {
        made.add_template(name, source)?;
    }
    Ok(ENVIRONMENT.get_or_init(|| made))
}

fn framed(status: StatusCode, html: String) -> Response {
    let mut response = Response::text(status, "text/html; charset=utf-8", html);
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::VARY, "Accept"),
        (header::CACHE_CONTROL, "no-cache"),
    ] {
        response.headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// A file that pages name: its type, its text, its tag.
pub(super) fn asset(name: &str) -> Option<(&'static str, &'static str, &'static str)> {
    static TAGS: OnceLock<[String; 2]> = OnceLock::new();
    let [style, icon] = TAGS.get_or_init(|| [STYLE, ICON].map(|text| Fingerprint::of(text.as_bytes()).short()));
    match name {
        "style.css" => Some(("text/css; charset=utf-8", STYLE, style)),
        "icon.svg" => Some(("image/svg+xml", ICON, icon)),
        _ => None,
    }
}
