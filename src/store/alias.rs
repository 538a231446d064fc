//! Aliases: made, renamed, moved and removed, each in one transaction that covers both images. At every moment an alias points to
//! an image that is there. They are unique for each type of image: a container's and a virtual machine's may share a name.

use super::catalog::Transaction;
use super::image::{Alias, AliasTarget};
use super::import::alias_taken;
use super::open::{Store, missing};
use super::reconcile::bump_revision;
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::Fingerprint;
use crate::format::ImageType;

/// The types that may be meant, in the order in which they are looked up.
fn types(image_type: Option<ImageType>) -> impl Iterator<Item = ImageType> {
    ImageType::ALL.into_iter().filter(move |of| image_type.is_none_or(|wanted| wanted == *of))
}

/// The alias of this type or, where none is said, the container's before the virtual machine's.
fn find(catalog: &mut dyn Transaction, name: &str, image_type: Option<ImageType>) -> Result<(Alias, AliasTarget)> {
    for of in types(image_type) {
        if let Some(found) = catalog.alias(name, of)? {
            return Ok(found);
        }
    }
    Err(no_alias(name))
}

impl Store {
    /// What an alias points to: the container of this name or, where there is none, the virtual machine.
    ///
    /// # Errors
    /// `NotFound`, `Malformed` when the catalog is damaged, `Io`.
    pub fn alias(&self, name: &str) -> Result<(Alias, AliasTarget)> {
        for image_type in ImageType::ALL {
            if let Some(found) = self.catalog.alias(name, image_type)? {
                return Ok(found);
            }
        }
        Err(no_alias(name))
    }

    /// What an alias of images of this type points to.
    ///
    /// # Errors
    /// As [`alias`](Self::alias).
    pub fn alias_of(&self, name: &str, image_type: ImageType) -> Result<(Alias, AliasTarget)> {
        self.catalog.alias(name, image_type)?.ok_or_else(|| no_alias(name))
    }

    /// Makes an alias for images of the target's type.
    ///
    /// # Errors
    /// `InvalidInput` for a name that can't be one, `AlreadyExists` when it is taken, `NotFound`
    /// without the image, `Busy`, `Io`.
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

    /// Points an alias of the target's type to another image, whether or not it is there.
    ///
    /// # Errors
    /// `InvalidInput` for a name that can't be one, `NotFound` without the image, `Busy`, `Io`.
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

    /// Points an alias to another image, or describes it otherwise, if it still is as `expected` says. An image of another type
    /// takes the alias with it to that type.
    ///
    /// # Errors
    /// `NotFound` without the alias or the image; `Mismatch` when somebody else changed it in between; `AlreadyExists` when the
    /// name is taken for the other type; `Busy`, `Io`.
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

    /// Gives an alias of this type, or without one the container's before the virtual machine's, another name.
    ///
    /// # Errors
    /// `InvalidInput` for a name that can't be one, `NotFound` without the alias, `AlreadyExists`
    /// when the new name is taken, `Busy`, `Io`.
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

    /// Removes an alias of this type, or without one the container's before the virtual machine's. The image stays.
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

fn no_alias(name: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("there is no alias `{name}` in the store"))
}
