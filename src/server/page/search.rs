//! What people look for: words, choices, an order, a page of what is found. All of it from the query of an address.
//! A choice that is none is no choice.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use serde::Serialize;

use super::super::address::Address;
use super::text;
use crate::metadata::{Architecture, ImageType};
use crate::protocol::escape;
use crate::store::StoredImage;

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

    /// Whether an image is looked for.
    pub(super) fn finds(&self, image: &StoredImage) -> bool {
        self.architecture.is_none_or(|wanted| image.architecture == wanted)
            && self.image_type.is_none_or(|wanted| image.image_type == wanted)
            && self.os.as_deref().is_none_or(|wanted| image.properties.get("os") == Some(wanted))
            && self.has_words(image)
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

    /// Puts what was found into its order.
    pub(super) fn sort(&self, images: &mut [&StoredImage]) {
        let name = |image: &&StoredImage| {
            let first = image.aliases.first();
            // Those without a name are last.
            (first.is_none(), first.map(|alias| alias.name.to_lowercase()), image.fingerprint)
        };
        match self.order {
            Order::Newest => images.sort_by_key(|image| (Reverse(image.created_at), image.fingerprint)),
            Order::Name => images.sort_by_cached_key(name),
            Order::Largest => images.sort_by_key(|image| (Reverse(image.size), image.fingerprint)),
            Order::Smallest => images.sort_by_key(|image| (image.size, image.fingerprint)),
        }
    }

    /// The part of so many found images that is shown, and the ways to the others.
    pub(super) fn part(&self, found: usize) -> (std::ops::Range<usize>, Place) {
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
    pub(super) fn form(&self, images: &[StoredImage]) -> Form {
        let systems: BTreeSet<&str> = images
            .iter()
            .filter_map(|image| image.properties.get("os"))
            .filter(|os| !os.trim().is_empty() && os.len() <= SYSTEM)
            .chain(self.os.as_deref())
            .collect();
        let architectures: BTreeSet<&str> = images
            .iter()
            .map(|image| image.architecture)
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
