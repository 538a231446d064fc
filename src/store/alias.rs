//! Aliases: created, renamed, moved and deleted, each in one transaction that covers all images concerned.
//!
//! At any time an alias points to an image that exists. An alias is unique per image type: a
//! container's and a virtual machine's image may share a name. Every change of an alias increases
//! the revision of the images that lose or get it, so that their sidecars are written again.

use super::catalog::Transaction;
use super::image::{Alias, AliasTarget};
use super::import::alias_taken;
use super::open::{Store, missing};
use super::reconcile::bump_revision;
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::Fingerprint;
use crate::format::ImageType;

/// The types to look at: the given one, or all in their order of precedence.
fn types(image_type: Option<ImageType>) -> impl Iterator<Item = ImageType> {
    ImageType::ALL.into_iter().filter(move |of| image_type.is_none_or(|wanted| wanted == *of))
}

/// The alias of the given type; without a type the container's takes precedence.
fn find(catalog: &mut dyn Transaction, name: &str, image_type: Option<ImageType>) -> Result<(Alias, AliasTarget)> {
    for of in types(image_type) {
        if let Some(found) = catalog.alias(name, of)? {
            return Ok(found);
        }
    }
    Err(no_alias(name))
}

impl Store {
    /// Looks up an alias: the container's, or the virtual machine's if no container has this name.
    ///
    /// # Errors
    /// `NotFound`; `Malformed` if the catalog is damaged; `Io`.
    pub fn alias(&self, name: &str) -> Result<(Alias, AliasTarget)> {
        for image_type in ImageType::ALL {
            if let Some(found) = self.catalog.alias(name, image_type)? {
                return Ok(found);
            }
        }
        Err(no_alias(name))
    }

    /// Looks up the alias of images of one type.
    ///
    /// # Errors
    /// As [`alias`](Self::alias).
    pub fn alias_of(&self, name: &str, image_type: ImageType) -> Result<(Alias, AliasTarget)> {
        self.catalog.alias(name, image_type)?.ok_or_else(|| no_alias(name))
    }

    /// Creates an alias that points to `target`.
    ///
    /// ```no_run
    /// use lxd_image::store::{Alias, Store};
    ///
    /// # fn main() -> lxd_image::Result<()> {
    /// let store = Store::open("/var/lib/lxd-image")?;
    /// let image = store.resolve("c0ffee42")?;
    /// store.create_alias(&Alias::new("debian/12")?.described("the stable release"), &image.fingerprint)?;
    /// store.rename_alias("debian/12", "debian/bookworm", None)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `InvalidInput` for an invalid name; `AlreadyExists` if an image of the same type has the
    /// alias; `NotFound` without the image; `Busy`; `Io`.
    pub fn create_alias(&self, alias: &Alias, target: &Fingerprint) -> Result<()> {
        Alias::new(&*alias.name)?;
        self.change(&mut |catalog| {
            let image = catalog.image(target)?.ok_or_else(|| missing(target))?;
            if let Some((_, taken)) = catalog.alias(&alias.name, image.image_type)? {
                return Err(alias_taken(&alias.name, &taken.fingerprint));
            }
            catalog.set_alias(alias, &image.target())?;
            bump_revision(catalog, target)
        })
    }

    /// Points an alias to `target`, whether or not it exists; only aliases of the type of the target are concerned.
    ///
    /// # Errors
    /// `InvalidInput` for an invalid name; `NotFound` without the image; `Busy`; `Io`.
    pub fn move_alias(&self, alias: &Alias, target: &Fingerprint) -> Result<()> {
        Alias::new(&*alias.name)?;
        self.change(&mut |catalog| {
            let image = catalog.image(target)?.ok_or_else(|| missing(target))?;
            if let Some((_, before)) = catalog.alias(&alias.name, image.image_type)?
                && before.fingerprint != *target
            {
                bump_revision(catalog, &before.fingerprint)?;
            }
            catalog.set_alias(alias, &image.target())?;
            bump_revision(catalog, target)
        })
    }

    /// Changes the target or the description of an alias, if it still is as `expected` says. If the
    /// new target has another type, the alias moves to that type.
    ///
    /// # Errors
    /// `NotFound` without the alias or the image; `Mismatch` if it was changed meanwhile;
    /// `AlreadyExists` if the name is taken for the other type; `Busy`; `Io`.
    #[cfg(feature = "server")]
    pub(crate) fn change_alias(
        &self,
        name: &str,
        image_type: Option<ImageType>,
        expected: Option<&(Alias, AliasTarget)>,
        target: Option<Fingerprint>,
        description: Option<&str>,
    ) -> Result<()> {
        self.change(&mut |catalog| {
            let before = find(catalog, name, image_type)?;
            if expected.is_some_and(|expected| *expected != before) {
                return Err(Error::mismatch("the alias was changed meanwhile", "what was read of it", "another"));
            }
            let fingerprint = target.unwrap_or(before.1.fingerprint);
            let image = catalog.image(&fingerprint)?.ok_or_else(|| missing(&fingerprint))?;
            let alias = match description {
                Some(description) => before.0.clone().described(description),
                None => before.0.clone(),
            };
            if image.image_type != before.1.image_type {
                if let Some((_, taken)) = catalog.alias(name, image.image_type)? {
                    return Err(alias_taken(name, &taken.fingerprint));
                }
                catalog.remove_alias(name, before.1.image_type)?;
            }
            if before.1.fingerprint != fingerprint {
                bump_revision(catalog, &before.1.fingerprint)?;
            }
            catalog.set_alias(&alias, &image.target())?;
            bump_revision(catalog, &fingerprint)
        })
    }

    /// Renames an alias. Without a type the container's takes precedence.
    ///
    /// # Errors
    /// `InvalidInput` for an invalid name; `NotFound` without the alias; `AlreadyExists` if the new
    /// name is taken; `Busy`; `Io`.
    pub fn rename_alias(&self, name: &str, new: &str, image_type: Option<ImageType>) -> Result<()> {
        let renamed = Alias::new(new)?;
        self.change(&mut |catalog| {
            let (alias, target) = find(catalog, name, image_type)?;
            if name == new {
                return Ok(());
            }
            if let Some((_, taken)) = catalog.alias(new, target.image_type)? {
                return Err(alias_taken(new, &taken.fingerprint));
            }
            catalog.remove_alias(name, target.image_type)?;
            catalog.set_alias(&renamed.clone().described(alias.description), &target)?;
            bump_revision(catalog, &target.fingerprint)
        })
    }

    /// Deletes an alias; the image stays. Without a type the container's takes precedence.
    ///
    /// # Errors
    /// `NotFound`, `Busy`, `Io`.
    pub fn delete_alias(&self, name: &str, image_type: Option<ImageType>) -> Result<()> {
        self.change(&mut |catalog| {
            let (_, target) = find(catalog, name, image_type)?;
            catalog.remove_alias(name, target.image_type)?;
            bump_revision(catalog, &target.fingerprint)
        })
    }
}

/// The error for an alias that does not exist.
fn no_alias(name: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("there is no alias `{name}` in the store"))
}
