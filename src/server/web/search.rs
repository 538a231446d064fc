//! The search of the front page: words, choices, an order and a page number, all from the query of
//! the address, so that a search can be linked.
//!
//! A value that is not valid is ignored, not refused: people edit addresses. Choices and orders are
//! answered from the index of public images. Words are looked for in the images that are kept
//! whole, or, in a large store, in the catalog, page by page.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use serde::Serialize;

use super::text;
use crate::error::Result;
use crate::fingerprint::Fingerprint;
use crate::metadata::{Architecture, ImageType};
use crate::protocol::escape;
use crate::server::api::address::Address;
use crate::server::core::public::{Entry, PublicImages};
use crate::server::state::ServerState;
use crate::store::{ImageQuery, StoredImage};

/// Images on one page.
const PAGE: usize = 50;
/// The most words of a search. More of them hardly narrow it down, and each is looked for in each
/// image.
const WORDS: usize = 16;
/// The most operating systems in the form. Nobody reads more; others are found by words.
const SYSTEMS: usize = 100;
/// The longest name of an operating system in the form, in characters.
const SYSTEM: usize = 64;

/// A search.
pub(super) struct Search {
    /// The words as they were typed.
    q: String,
    /// The words in lower case. An image must have all of them.
    words: Vec<String>,
    /// The operating system, exactly as in the property.
    os: Option<String>,
    architecture: Option<Architecture>,
    image_type: Option<ImageType>,
    order: Order,
    /// The page number, from 1; corrected if there are fewer pages.
    page: usize,
}

/// The order of the results. Ties are broken by the fingerprint, so that pages don't overlap.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Newest,
    Name,
    Largest,
    Smallest,
}

/// The orders with their names in the query and in the form.
const ORDERS: [(Order, &str, &str); 4] = [
    (Order::Newest, "newest", "Newest first"),
    (Order::Name, "name", "By name"),
    (Order::Largest, "largest", "Largest first"),
    (Order::Smallest, "smallest", "Smallest first"),
];

/// An option of a list in the form.
#[derive(Serialize)]
pub(super) struct Choice {
    value: String,
    label: String,
    chosen: bool,
}

/// The form with the current search filled in.
#[derive(Serialize)]
pub(super) struct Form {
    q: String,
    systems: Vec<Choice>,
    architectures: Vec<Choice>,
    types: Vec<Choice>,
    orders: Vec<Choice>,
    /// Whether it narrows anything down.
    narrows: bool,
}

/// The position of a page among the pages of results, with links to its neighbours.
#[derive(Serialize)]
pub(super) struct Place {
    page: usize,
    pages: usize,
    previous: Option<String>,
    next: Option<String>,
}

/// The results of a search.
pub(super) struct Found {
    /// How many images.
    pub(super) count: usize,
    /// Those that are shown: their places among all, in the order that was asked for.
    pub(super) shown: Vec<usize>,
    pub(super) place: Place,
}

impl Search {
    /// The search in the query of an address.
    pub(super) fn of(address: &Address) -> Self {
        let q = address.query("q").unwrap_or_default().trim().to_owned();
        let order = ORDERS.iter().find(|(_, name, _)| address.query("sort") == Some(name));
        Self {
            words: q.split_whitespace().take(WORDS).map(str::to_lowercase).collect(),
            q,
            os: address.query("os").map(str::to_owned),
            architecture: address.query("architecture").and_then(|name| name.parse().ok()),
            image_type: address.query("type").and_then(|name| name.parse().ok()),
            order: order.map_or(Order::Newest, |(order, ..)| *order),
            page: address.query("page").and_then(|page| page.parse().ok()).unwrap_or(1),
        }
    }

    /// Whether anything but the first page of all images is asked for.
    pub(super) fn is_one(&self) -> bool {
        self.narrows() || self.page > 1 || self.order != Order::Newest
    }

    /// Whether the search excludes any image.
    fn narrows(&self) -> bool {
        !self.words.is_empty() || self.os.is_some() || self.architecture.is_some() || self.image_type.is_some()
    }

    /// Finds the images, and sorts those that are shown.
    ///
    /// # Errors
    /// Those of reading the catalog.
    pub(super) fn run(&self, server: &ServerState, public: &PublicImages) -> Result<Found> {
        let with_words = if self.words.is_empty() { None } else { Some(self.with_words(server, public)?) };
        let entries = public.entries();
        let has_words = |entry: &Entry| {
            with_words.as_ref().is_none_or(|with_words| with_words.binary_search(&entry.fingerprint).is_ok())
        };
        let found = entries.iter().enumerate().filter(|(_, entry)| self.chooses(entry, public) && has_words(entry));
        let mut found: Vec<(usize, &Entry)> = found.collect();
        let count = found.len();
        // The page number is corrected by the number of results, so it comes after the search.
        let (part, place) = self.part(count);
        // Only what is shown, and what is before it, is sorted.
        if part.end < count {
            found.select_nth_unstable_by(part.end, |(_, one), (_, other)| self.compare(one, other));
            found.truncate(part.end);
        }
        found.sort_unstable_by(|(_, one), (_, other)| self.compare(one, other));
        let shown = found.get(part).unwrap_or_default().iter().map(|(index, _)| *index).collect();
        Ok(Found { count, shown, place })
    }

    /// Whether an image matches the choices, whatever its words.
    fn chooses(&self, entry: &Entry, public: &PublicImages) -> bool {
        self.architecture.is_none_or(|wanted| entry.architecture == wanted)
            && self.image_type.is_none_or(|wanted| entry.image_type == wanted)
            && self.os.as_deref().is_none_or(|wanted| public.system(entry) == Some(wanted))
    }

    /// The images that have all words, in the order of their fingerprints.
    ///
    /// # Errors
    /// Those of reading the catalog.
    fn with_words(&self, server: &ServerState, public: &PublicImages) -> Result<Vec<Fingerprint>> {
        if let Some(images) = public.whole() {
            return Ok(images.iter().filter(|image| self.has_words(image)).map(|image| image.fingerprint).collect());
        }
        let mut query = ImageQuery::new().public(true);
        (query.architecture, query.image_type) = (self.architecture, self.image_type);
        if let Some(os) = &self.os {
            query = query.property("os", os);
        }
        let mut found = Vec::new();
        let mut look = |image: StoredImage| {
            if self.has_words(&image) {
                found.push(image.fingerprint);
            }
            Ok(())
        };
        server
            .services
            .store
            .for_each(&query, &mut look, &mut |name, error| server.services.notes.skipped(name, error))?;
        Ok(found)
    }

    /// Whether an image has all words, in its names, values of properties, fingerprint,
    /// architecture or type.
    fn has_words(&self, image: &StoredImage) -> bool {
        if self.words.is_empty() {
            return true;
        }
        let mut all = format!("{} {} {}", image.fingerprint, image.architecture, image.architecture.debian_name());
        let texts = image
            .aliases
            .iter()
            .map(|alias| alias.name.as_str())
            .chain(image.properties.iter().map(|(_, value)| value));
        for text in texts.chain([image.image_type.name()]) {
            // No word reaches from one into another.
            all.push('\n');
            all.push_str(text);
        }
        let all = all.to_lowercase();
        self.words.iter().all(|word| all.contains(word.as_str()))
    }

    /// Which of two images comes first.
    fn compare(&self, one: &Entry, other: &Entry) -> Ordering {
        let order = match self.order {
            Order::Newest => other.created_at.cmp(&one.created_at),
            Order::Name => one.rank.cmp(&other.rank),
            Order::Largest => other.size.cmp(&one.size),
            Order::Smallest => one.size.cmp(&other.size),
        };
        order.then_with(|| one.fingerprint.cmp(&other.fingerprint))
    }

    /// The range of results on this page, and its position.
    fn part(&self, found: usize) -> (std::ops::Range<usize>, Place) {
        let pages = found.div_ceil(PAGE).max(1);
        let page = self.page.clamp(1, pages);
        let from = (page - 1) * PAGE;
        let to = (from + PAGE).min(found);
        let previous = (page > 1).then(|| self.address(page - 1));
        let next = (page < pages).then(|| self.address(page + 1));
        (from..to, Place { page, pages, previous, next })
    }

    /// The address of this search with another page.
    fn address(&self, page: usize) -> String {
        let page = page.to_string();
        let order = ORDERS.iter().find(|(order, ..)| *order == self.order && *order != Order::Newest);
        let pairs = [
            ("q", Some(self.q.as_str())),
            ("os", self.os.as_deref()),
            ("architecture", self.architecture.map(Architecture::kernel_name)),
            ("type", self.image_type.map(ImageType::name)),
            ("sort", order.map(|(_, name, _)| *name)),
            ("page", Some(page.as_str()).filter(|page| *page != "1")),
        ];
        let pairs = pairs.into_iter().filter_map(|(key, value)| Some((key, value.filter(|value| !value.is_empty())?)));
        format!("/?{}", escape::query(pairs))
    }

    /// The form, with the operating systems and architectures that these images have.
    pub(super) fn form(&self, public: &PublicImages) -> Form {
        let systems: BTreeSet<&str> = public
            .systems()
            .filter(|os| !os.trim().is_empty() && os.len() <= SYSTEM)
            // What is chosen stays in the form, also if no image has it any more.
            .chain(self.os.as_deref())
            .collect();
        let architectures: BTreeSet<&str> = public
            .entries()
            .iter()
            .map(|entry| entry.architecture)
            .chain(self.architecture)
            .map(Architecture::kernel_name)
            .collect();
        let choice = |value: &str, label: &str, chosen: bool| Choice {
            value: value.to_owned(),
            label: text::short(label, SYSTEM),
            chosen,
        };
        let any = |chosen: bool| choice("", "Any", chosen);
        let mut form = Form {
            q: self.q.clone(),
            systems: vec![any(self.os.is_none())],
            architectures: vec![any(self.architecture.is_none())],
            types: vec![any(self.image_type.is_none())],
            orders: ORDERS.iter().map(|(order, value, label)| choice(value, label, *order == self.order)).collect(),
            narrows: self.narrows(),
        };
        let chosen = self.os.as_deref();
        form.systems.extend(systems.into_iter().take(SYSTEMS).map(|os| choice(os, os, chosen == Some(os))));
        let chosen = self.architecture.map(Architecture::kernel_name);
        form.architectures.extend(architectures.into_iter().map(|name| choice(name, name, chosen == Some(name))));
        for (image_type, label) in
            [(ImageType::Container, "Containers"), (ImageType::VirtualMachine, "Virtual machines")]
        {
            form.types.push(choice(image_type.name(), label, self.image_type == Some(image_type)));
        }
        form
    }
}
