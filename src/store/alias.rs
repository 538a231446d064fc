//! Aliases: made, renamed, moved and removed, each in one transaction that covers both images.
//! At every moment an alias points to an image that is there.

use super::image::Alias;
use super::import::{alias_taken, touch};
use super::open::{Store, missing};
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::Fingerprint;

impl Store {
    /// All aliases with what they point to, sorted by name.
    ///
    /// # Errors
    /// `Malformed` when the catalog is damaged, `Io`.
    pub fn aliases(&self) -> Result<Vec<(Alias, Fingerprint)>> {
        let mut all: Vec<_> = self
            .catalog
            .images()?
            .into_iter()
            .flat_map(|image| image.aliases.into_iter().map(move |alias| (alias, image.fingerprint)))
            .collect();
        all.sort();
        Ok(all)
    }

    /// What one alias points to.
    ///
    /// # Errors
    /// `NotFound`, `Malformed` when the catalog is damaged, `Io`.
    pub fn alias(&self, name: &str) -> Result<(Alias, Fingerprint)> {
        self.catalog.alias(name)?.ok_or_else(|| no_alias(name))
    }

    /// Makes an alias.
    ///
    /// # Errors
    /// `InvalidInput` for a name that can't be one, `AlreadyExists` when it is taken, `NotFound`
    /// without the image, `Busy`, `Io`.
    pub fn create_alias(&self, alias: &Alias, target: &Fingerprint) -> Result<()> {
        Alias::new(&*alias.name)?;
        self.change(&mut |catalog| {
            if let Some((_, target)) = catalog.alias(&alias.name)? {
                return Err(alias_taken(&alias.name, &target));
            }
            if catalog.image(target)?.is_none() {
                return Err(missing(target));
            }
            catalog.set_alias(alias, target)?;
            touch(catalog, target)
        })
    }

    /// Points an alias to another image, whether or not it is there.
    ///
    /// # Errors
    /// `InvalidInput` for a name that can't be one, `NotFound` without the image, `Busy`, `Io`.
    pub fn move_alias(&self, alias: &Alias, target: &Fingerprint) -> Result<()> {
        Alias::new(&*alias.name)?;
        self.change(&mut |catalog| {
            if catalog.image(target)?.is_none() {
                return Err(missing(target));
            }
            if let Some((_, before)) = catalog.alias(&alias.name)?
                && before != *target
            {
                touch(catalog, &before)?;
            }
            catalog.set_alias(alias, target)?;
            touch(catalog, target)
        })
    }

    /// Points an alias to another image, or describes it otherwise, if it still is as `expected` says.
    ///
    /// # Errors
    /// `NotFound` without the alias or the image; `Mismatch` when somebody else changed it in between; `Busy`, `Io`.
    #[cfg(feature = "server")]
    pub(crate) fn change_alias(
        &self,
        name: &str,
        expected: Option<&(Alias, Fingerprint)>,
        target: Option<Fingerprint>,
        description: Option<&str>,
    ) -> Result<()> {
        self.change(&mut |catalog| {
            let before = catalog.alias(name)?.ok_or_else(|| no_alias(name))?;
            if expected.is_some_and(|expected| *expected != before) {
                return Err(Error::mismatch("the alias was changed meanwhile", "what was read of it", "another"));
            }
            let target = target.unwrap_or(before.1);
            if catalog.image(&target)?.is_none() {
                return Err(missing(&target));
            }
            if before.1 != target {
                touch(catalog, &before.1)?;
            }
            let alias = match description {
                Some(description) => before.0.described(description),
                None => before.0,
            };
            catalog.set_alias(&alias, &target)?;
            touch(catalog, &target)
        })
    }

    /// Gives an alias another name.
    ///
    /// # Errors
    /// `InvalidInput` for a name that can't be one, `NotFound` without the alias, `AlreadyExists`
    /// when the new name is taken, `Busy`, `Io`.
    pub fn rename_alias(&self, name: &str, new: &str) -> Result<()> {
        let renamed = Alias::new(new)?;
        self.change(&mut |catalog| {
            let (alias, target) = catalog.alias(name)?.ok_or_else(|| no_alias(name))?;
            if name == new {
                return Ok(());
            }
            if let Some((_, target)) = catalog.alias(new)? {
                return Err(alias_taken(new, &target));
            }
            catalog.remove_alias(name)?;
            catalog.set_alias(&renamed.clone().described(alias.description), &target)?;
            touch(catalog, &target)
        })
    }

    /// Removes an alias. The image stays.
    ///
    /// # Errors
    /// `NotFound`, `Busy`, `Io`.
    pub fn delete_alias(&self, name: &str) -> Result<()> {
        self.change_to_free(&mut |catalog| {
            let (_, target) = catalog.alias(name)?.ok_or_else(|| no_alias(name))?;
            catalog.remove_alias(name)?;
            touch(catalog, &target)
        })
    }
}

fn no_alias(name: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("there is no alias `{name}` in the store"))
}
