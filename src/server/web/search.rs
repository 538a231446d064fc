//! What people look for: words, choices, an order, a page of what is found. All of it from the query of an address. A
//! choice that is none is no choice. Choices and orders are answered by what is kept of all public images; words are
//! looked for in the images that are kept, or in the catalog, page by page.

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
use crate::server::handler::Handler;
use crate::store::{ImageQuery, StoredImage};

/// Images on one page.
const PAGE: usize = 50;
/// Words that are looked for; more of them narrow nothing down any more.
const WORDS: usize = 16;
/// Systems that can be chosen. More of them nobody reads; they are found by their words.
const SYSTEMS: usize = 100;
/// The longest name of a system that can be chosen.
const SYSTEM: usize = 64;

/// What is looked for.
pub(super) struct Search {
    q: String,
    words: Vec<String>,
    os: Option<String>,
    architecture: Option<Architecture>,
    image_type: Option<ImageType>,
    order: Order,
    page: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Newest,
    Name,
    Largest,
    Smallest,
}

const ORDERS: [(Order, &str, &str); 4] = [
    (Order::Newest, "newest", "Newest first"),
    (Order::Name, "name", "By name"),
    (Order::Largest, "largest", "Largest first"),
    (Order::Smallest, "smallest", "Smallest first"),
];

/// A choice in a form.
#[derive(Serialize)]
pub(super) struct Choice {
    value: String,
    label: String,
    chosen: bool,
}

/// The form as it was sent.
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

/// Which part of what was found is shown.
#[derive(Serialize)]
pub(super) struct Place {
    page: usize,
    pages: usize,
    previous: Option<String>,
    next: Option<String>,
}

/// What was found.
pub(super) struct Found {
    /// How many images.
    pub(super) count: usize,
    /// Those that are shown: their places among all, in the order that was asked for.
    pub(super) shown: Vec<usize>,
    pub(super) place: Place,
}

impl Search {
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

    fn narrows(&self) -> bool {
        !self.words.is_empty() || self.os.is_some() || self.architecture.is_some() || self.image_type.is_some()
    }

    /// Finds, and puts what is shown of it into its order.
    ///
    /// # Errors
    /// Those of reading the catalog.
    pub(super) fn run(&self, handler: &Handler, public: &PublicImages) -> Result<Found> {
        let with_words = if self.words.is_empty() { None } else { Some(self.with_words(handler, public)?) };
        let entries = public.entries();
        let has_words = |entry: &Entry| {
            with_words.as_ref().is_none_or(|with_words| with_words.binary_search(&entry.fingerprint).is_ok())
        };
        let found = entries.iter().enumerate().filter(|(_, entry)| self.chooses(entry, public) && has_words(entry));
        let mut found: Vec<(usize, &Entry)> = found.collect();
        let count = found.len();
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

    /// Whether an image is among what was chosen, whatever its words.
    fn chooses(&self, entry: &Entry, public: &PublicImages) -> bool {
        self.architecture.is_none_or(|wanted| entry.architecture == wanted)
            && self.image_type.is_none_or(|wanted| entry.image_type == wanted)
            && self.os.as_deref().is_none_or(|wanted| public.system(entry) == Some(wanted))
    }

    /// The images that have all words, in the order of their fingerprints.
    fn with_words(&self, handler: &Handler, public: &PublicImages) -> Result<Vec<Fingerprint>> {
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
        handler.store.for_each(&query, &mut look, &mut |name, error| handler.notes.skipped(name, error))?;
        Ok(found)
    }

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

    /// The part of so many found images that is shown, and the ways to the others.
    fn part(&self, found: usize) -> (std::ops::Range<usize>, Place) {
        let pages = found.div_ceil(PAGE).max(1);
        let page = self.page.clamp(1, pages);
        let from = (page - 1) * PAGE;
        let to = (from + PAGE).min(found);
        let previous = (page > 1).then(|| self.address(page - 1));
        let next = (page < pages).then(|| self.address(page + 1));
        (from..to, Place { page, pages, previous, next })
    }

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

    /// The form, with what can be chosen of these images.
    pub(super) fn form(&self, public: &PublicImages) -> Form {
        let systems: BTreeSet<&str> = public
            .systems()
            .filter(|os| !os.trim().is_empty() && os.len() <= SYSTEM)
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
