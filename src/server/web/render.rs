//! Fills the templates: every value is escaped. Adds the headers that forbid a browser everything
//! but to show the page.
//!
//! Templates are compiled into the program and parsed once. A template that names a value that does
//! not exist is an error, found by the tests, instead of a gap in the page.

use std::sync::OnceLock;

use http::{HeaderValue, StatusCode, header};
use minijinja::value::Serde;
use minijinja::{Environment, UndefinedBehavior};
use serde::Serialize;

use super::site::Site;
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::Fingerprint;
use crate::server::message::Response;

/// The style sheet, an asset with an address of its own, as the policy forbids styles in pages.
const STYLE: &str = include_str!("style.css");
/// The icon, for browser tabs.
const ICON: &str = include_str!("icon.svg");

/// The templates. The extension `.html` makes the engine escape every value.
const TEMPLATES: &[(&str, &str)] = &[
    ("base.html", include_str!("templates/base.html")),
    ("commands.html", include_str!("templates/commands.html")),
    ("image.html", include_str!("templates/image.html")),
    ("index.html", include_str!("templates/index.html")),
    ("problem.html", include_str!("templates/problem.html")),
];

/// The content security policy: nothing is loaded from elsewhere, no script runs, and no other site
/// can put the page into a frame.
const POLICY: &str =
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// The values of a template: those that all pages have, and its own.
#[derive(Serialize)]
struct Page<'a, T: Serialize> {
    site: &'a Site,
    style: String,
    icon: String,
    #[serde(flatten)]
    own: &'a T,
}

/// The values of the template `problem.html`.
#[derive(Serialize)]
struct Problem<'a> {
    title: &'a str,
    sentence: &'a str,
}

/// The page of a template with these values.
///
/// # Errors
/// `Template` when the template can't be filled, which is a defect.
pub(super) fn page<T: Serialize>(site: &Site, template: &str, own: &T) -> Result<Response> {
    let html = html(site, template, own)
        .map_err(|error| Error::new(ErrorKind::Template, "a page can't be made").with_source(error))?;
    Ok(framed(StatusCode::OK, html))
}

/// The page of an error: a title and a sentence, both constants of this program.
pub(super) fn problem(site: &Site, status: StatusCode, title: &str, sentence: &str) -> Response {
    match html(site, "problem.html", &Problem { title, sentence }) {
        Ok(html) => framed(status, html),
        // The sentence is ours: it holds nothing to be escaped.
        Err(_) => framed(status, format!("<!doctype html><title>{title}</title><p>{sentence}")),
    }
}

/// Fills a template.
fn html<T: Serialize>(site: &Site, template: &str, own: &T) -> std::result::Result<String, minijinja::Error> {
    // A new text has a new address, so that each may be kept.
    let named = |name| format!("/static/{name}?v={}", asset(name).map_or("", |(_, _, tag)| tag));
    let page = Page { site, style: named("style.css"), icon: named("icon.svg"), own };
    environment()?.get_template(template)?.render(Serde(&page))
}

/// The parsed templates. Two threads may both parse them at first; one result is kept.
fn environment() -> std::result::Result<&'static Environment<'static>, minijinja::Error> {
    static ENVIRONMENT: OnceLock<Environment<'static>> = OnceLock::new();
    if let Some(environment) = ENVIRONMENT.get() {
        return Ok(environment);
    }
    let mut made = Environment::new();
    // A missing value is a defect of this program, and an empty gap would hide it.
    made.set_undefined_behavior(UndefinedBehavior::Strict);
    for (name, source) in TEMPLATES {
        made.add_template(name, source)?;
    }
    Ok(ENVIRONMENT.get_or_init(|| made))
}

/// A page with the headers that all pages have.
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

/// An asset of the pages: its type, its text and its tag.
pub(super) fn asset(name: &str) -> Option<(&'static str, &'static str, &'static str)> {
    static TAGS: OnceLock<[String; 2]> = OnceLock::new();
    let [style, icon] = TAGS.get_or_init(|| [STYLE, ICON].map(|text| Fingerprint::of(text.as_bytes()).short()));
    match name {
        "style.css" => Some(("text/css; charset=utf-8", STYLE, style)),
        "icon.svg" => Some(("image/svg+xml", ICON, icon)),
        _ => None,
    }
}
