//! Lists of a registry: the tags of a repository, and the repositories.
//!
//! A list comes in pages, each of which names the next one by a header `Link`. A registry could go on for ever: so
//! pages stay on its host, each of a few must bring something new, and all of them are bounded by
//! `Limits::registry_tags`.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::repository::OciRepository;
use super::token::Scope;
use super::{OciRegistry, errors};
use crate::error::{Error, Escaped, Result};
use crate::oci::Tag;
use crate::omissions::Omitted;
use crate::progress::Monitor;
use crate::protocol::nullable;
use crate::remote::http::{Request, Response, Url};

/// Entries that are asked for in a page. Registries may send fewer.
const PAGE: u32 = 1000;
/// The most bytes of a page: entries have at most 255 bytes.
const MAX_PAGE_BYTES: u64 = 8 << 20;
/// How many pages in a row may bring nothing new. A registry may filter what a client can't see.
const MAX_EMPTY_PAGES: u32 = 16;

#[derive(Deserialize)]
struct Page {
    #[serde(default, deserialize_with = "nullable")]
    tags: Vec<String>,
    #[serde(default, deserialize_with = "nullable")]
    repositories: Vec<String>,
}

impl OciRepository {
    /// All tags, sorted. A name that is no tag is left out and recorded in the monitor.
    ///
    /// # Errors
    /// `NotFound` for a repository that is not there; `LimitExceeded` for `registry_tags`; `Remote` for a list without
    /// end or on another host; `Malformed`; those of [`Client::send`](crate::remote::Client::send).
    pub fn tags(&self, monitor: &Monitor) -> Result<Vec<Tag>> {
        let start = self.endpoint("tags/list")?.with_query(&format!("n={PAGE}"));
        let names = self.registry().pages(start, &Scope::pull(self.name()), self.name(), monitor, |page| page.tags)?;
        let mut tags = Vec::new();
        for name in names {
            match name.parse::<Tag>() {
                Ok(tag) => tags.push(tag),
                Err(error) => {
                    let shown: String = name.chars().take(128).collect();
                    monitor.omit(shown, Omitted::Skipped { reason: error.message().to_owned().into() });
                }
            }
        }
        Ok(tags)
    }
}

impl OciRegistry {
    /// The names of all repositories that this client may list, sorted. Many registries don't offer this.
    ///
    /// # Errors
    /// `Unsupported` or `NotFound` where there is no such list; otherwise as [`OciRepository::tags`].
    pub fn repositories(&self, monitor: &Monitor) -> Result<Vec<String>> {
        let start = self.endpoint("_catalog")?.with_query(&format!("n={PAGE}"));
        let names =
            self.pages(start, &Scope::catalog(), "a list of its repositories", monitor, |page| page.repositories)?;
        let prefix = &self.inner.prefix;
        let below = |name: String| match name.strip_prefix(&**prefix) {
            Some(rest) if prefix.is_empty() => Some(rest.to_owned()),
            Some(rest) => rest.strip_prefix('/').map(str::to_owned),
            None => None,
        };
        Ok(names.into_iter().filter_map(below).filter(|name| crate::oci::check_repository(name).is_ok()).collect())
    }

    /// Reads a list page by page.
    fn pages(
        &self,
        start: Url,
        scope: &Scope,
        what: &str,
        monitor: &Monitor,
        entries: impl Fn(Page) -> Vec<String>,
    ) -> Result<BTreeSet<String>> {
        let inner = &self.inner;
        let most = inner.client.limits().registry_tags;
        let mut found = BTreeSet::new();
        let (mut next, mut empty) = (Some(start), 0);
        while let Some(url) = next.take() {
            let answer = inner.client.options().retry.run(monitor, || {
                let request = Request::get(&url).accept_gzip().monitor(monitor);
                let answer = inner.auth.send(&inner.client, request, scope)?;
                if answer.status() == 200 { Ok(answer) } else { Err(errors::failure(answer, what)) }
            })?;
            next = self.next_page(&answer)?;
            let bytes = answer.contents("remote_index", MAX_PAGE_BYTES.min(inner.client.limits().remote_index))?;
            let page: Page = serde_json::from_slice(&bytes)
                .map_err(|error| Error::malformed(format!("the list of {what} can't be read: {error}")))?;
            let before = found.len();
            found.extend(entries(page));
            if found.len() as u64 > most {
                return Err(Error::limit(
                    "registry_tags",
                    most,
                    format_args!("the number of entries in the list of {what}"),
                ));
            }
            empty = if found.len() == before { empty + 1 } else { 0 };
            if empty > MAX_EMPTY_PAGES {
                let host = inner.base.authority();
                return Err(Error::remote(format!("the list of {what} on {host} goes on without anything new")));
            }
        }
        Ok(found)
    }

    /// The URL of the next page, from a header `Link: <URL>; rel="next"` (RFC 8288).
    ///
    /// # Errors
    /// `Remote` for a URL of another host, which would get the token.
    pub(super) fn next_page(&self, answer: &Response) -> Result<Option<Url>> {
        let next = answer.header_values("link").find_map(|value| {
            let (target, parameters) = value.trim().strip_prefix('<')?.split_once('>')?;
            let is_next = parameters.split(';').any(|part| {
                let part: String = part.chars().filter(|c| !matches!(c, ' ' | '"' | '\t')).collect();
                part.eq_ignore_ascii_case("rel=next")
            });
            is_next.then(|| target.to_owned())
        });
        let Some(next) = next else { return Ok(None) };
        let shown: String = next.chars().take(128).collect();
        let joined = answer.url().join(&next).map_err(|error| {
            let shown = Escaped(shown.as_bytes()).to_string();
            Error::remote(format!("a list goes on at `{shown}`, which is not a usable address")).with_source(error)
        })?;
        if !joined.same_server(&self.inner.base) {
            return Err(Error::remote(format!(
                "a list of {} goes on at another host, {}",
                self.inner.base.authority(),
                joined.authority()
            )));
        }
        Ok(Some(joined))
    }
}
