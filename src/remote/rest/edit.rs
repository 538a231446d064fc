//! Changes of a server's images and aliases, for which it must trust this client.
//!
//! Each change is one request that is sent once. An edit replaces the whole object (`PUT`), so it carries the `ETag` that the
//! object had when it was read (`If-Match`), and the server refuses it if another client changed the image meanwhile.

use serde_json::{Value, json};

use super::Lxd;
use crate::error::{Error, ErrorKind, Result};
use crate::progress::Monitor;
use crate::protocol::escape::segment;
use crate::protocol::rest::{Envelope, Image};
use crate::remote::http::{Method, Request};
use crate::store::{Alias, Edit, SET_BY_SERVER, StoredImage};
use crate::time::rfc3339;

/// Further fields that some servers set themselves. A change leaves all of these out, to say only what is meant.
const SET_BY_NEWER_SERVERS: [&str; 4] = ["locations", "project", "release_codename", "release_title"];

impl Lxd {
    /// Changes an image that was resolved or listed here.
    ///
    /// # Errors
    /// `NotFound`; `Remote` where the server does not trust this client, or refuses; `Mismatch` when another client changed the
    /// image meanwhile; those of [`server`](Self::server).
    pub fn edit_image(&self, image: &StoredImage, edit: &Edit, monitor: &Monitor) -> Result<()> {
        self.require_trust(monitor)?;
        let url = self.image_url(&image.fingerprint.to_string(), "")?;
        let answer = self.checked(self.client.send(Request::get(&url).monitor(monitor))?, "image")?;
        let tag = answer.header("etag").map(str::to_owned);
        let limits = self.client.limits();
        let object: Value =
            Envelope::from_json(&answer.contents("remote_index", limits.remote_index)?, limits)?.object("image")?;
        let about: Image = serde_json::from_value(object.clone()).map_err(|error| {
            Error::malformed(format!("{} describes an image in a way that is not understood", self.base))
                .with_source(error)
        })?;
        let before = self.stored(&about, monitor)?;
        let mut after = before.clone();
        edit.apply(&mut after)?;
        // `PUT` replaces the object: fields that an edit does not know, of newer servers too, must be sent back as they came.
        let Value::Object(mut body) = object else { return Err(Error::malformed("the image is not a JSON object")) };
        body.retain(|key, value| {
            let is_set_by_server = SET_BY_SERVER.iter().chain(&SET_BY_NEWER_SERVERS).any(|name| name == key);
            !is_set_by_server && !value.is_null()
        });
        body.insert("public".to_owned(), json!(after.public));
        body.insert("auto_update".to_owned(), json!(after.auto_update));
        body.insert("properties".to_owned(), json!(after.properties));
        if after.expires_at != before.expires_at {
            let never = "0001-01-01T00:00:00Z".to_owned();
            let time = after.expires_at.map_or(never, |seconds| rfc3339(Some(seconds)));
            body.insert("expires_at".to_owned(), json!(time));
        }
        let mut request = Request::new(Method::Put, &url).json(&Value::Object(body));
        if let Some(tag) = tag {
            request = request.header("If-Match", tag);
        }
        self.send(request.monitor(monitor), "image").map(|_| ())
    }

    /// Removes an image that was resolved or listed here, with its aliases.
    ///
    /// # Errors
    /// As [`edit_image`](Self::edit_image).
    pub fn delete_image(&self, image: &StoredImage, monitor: &Monitor) -> Result<()> {
        self.require_trust(monitor)?;
        let url = self.image_url(&image.fingerprint.to_string(), "")?;
        let began = self.send(Request::new(Method::Delete, &url).monitor(monitor), "image")?;
        if began.kind == "async" { self.wait_for_operation(began, "image", monitor).map(|_| ()) } else { Ok(()) }
    }

    /// Points an alias to an image that was resolved or listed here. An image that loses its last alias by that is deleted, unless
    /// its property `keep` is `true`; the monitor records it.
    ///
    /// # Errors
    /// `AlreadyExists` for an alias that is taken, unless it may be moved; those of [`edit_image`](Self::edit_image).
    pub fn create_alias(&self, alias: &Alias, image: &StoredImage, reuse: bool, monitor: &Monitor) -> Result<()> {
        self.require_trust(monitor)?;
        let there = self.alias(&alias.name, monitor)?;
        if there.is_some() && !reuse {
            let sentence = format!("the alias `{}` is taken on {}", alias.name, self.base);
            return Err(Error::new(ErrorKind::AlreadyExists, sentence).with_hint("`--reuse` moves it"));
        }
        self.point_alias(alias, image, there.is_some(), monitor)?;
        match &there {
            Some(there) => self.remove_unaliased(there, image, monitor),
            None => Ok(()),
        }
    }

    /// Removes an alias; the image stays.
    ///
    /// # Errors
    /// As [`edit_image`](Self::edit_image).
    pub fn delete_alias(&self, name: &str, monitor: &Monitor) -> Result<()> {
        self.require_trust(monitor)?;
        let url = self.alias_url(name)?;
        self.send(Request::new(Method::Delete, &url).monitor(monitor), "alias").map(|_| ())
    }

    /// Gives an alias another name.
    ///
    /// # Errors
    /// `AlreadyExists` when the new name is taken; those of [`edit_image`](Self::edit_image).
    pub fn rename_alias(&self, name: &str, new: &str, monitor: &Monitor) -> Result<()> {
        self.require_trust(monitor)?;
        let new = Alias::new(new)?.name;
        let request = Request::new(Method::Post, &self.alias_url(name)?).json(&json!({ "name": new }));
        self.send(request.monitor(monitor), "alias").map(|_| ())
    }

    /// The URL of an alias, whose name must be valid in a store.
    fn alias_url(&self, name: &str) -> Result<crate::remote::http::Url> {
        Alias::new(name)?;
        self.base.join(&format!("1.0/images/aliases/{}", segment(name)))
    }
}
