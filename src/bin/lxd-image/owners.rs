//! Options about owners and extended attributes of a tree, shared by `unpack`, `pack`, `import` and `publish`.
//!
//! A map is written INSIDE:OUTSIDE:COUNT: owner INSIDE in the image is owner OUTSIDE on this host. Once there is a
//! map, an owner outside of all its ranges is an error (`InvalidInput`), never kept silently.

use clap::Args;
use lxd_image::Result;
use lxd_image::format::{IdMap, PackOptions};

/// How owners are shifted.
#[derive(Args, Default)]
pub(crate) struct IdArguments {
    /// Shift owners and groups, as INSIDE:OUTSIDE:COUNT, several by commas; `u:` or `g:` before one is for users or
    /// groups only
    #[arg(long, value_name = "MAP")]
    map_ids: Option<String>,
    /// Shift users only, as INSIDE:OUTSIDE:COUNT, several by commas
    #[arg(long, value_name = "MAP")]
    map_uids: Option<String>,
    /// Shift groups only, as INSIDE:OUTSIDE:COUNT, several by commas
    #[arg(long, value_name = "MAP")]
    map_gids: Option<String>,
}

impl IdArguments {
    /// The map of all three options together; the identity without any.
    ///
    /// # Errors
    /// `InvalidInput` for a malformed, empty or overlapping range.
    pub(crate) fn map(&self) -> Result<IdMap> {
        let sided = |side: &str, text: &Option<String>| -> Vec<String> {
            text.iter().flat_map(|text| text.split(',')).map(|range| format!("{side}{range}")).collect()
        };
        let ranges =
            [sided("", &self.map_ids), sided("u:", &self.map_uids), sided("g:", &self.map_gids)].concat().join(",");
        if ranges.is_empty() { Ok(IdMap::identity()) } else { ranges.parse() }
    }
}

/// What of a tree goes into an image, and whose it is there.
#[derive(Args, Default)]
pub(crate) struct TreeArguments {
    /// Take trusted.* and all security.* attributes too
    #[arg(long)]
    all_xattrs: bool,
    #[command(flatten)]
    ids: IdArguments,
    /// Set this owner and group on everything, such as 0:0
    #[arg(long, value_name = "UID:GID", value_parser = owner, conflicts_with_all = ["map_ids", "map_uids", "map_gids"])]
    owner: Option<(u32, u32)>,
}

impl TreeArguments {
    /// Puts them into the options of packing.
    pub(crate) fn apply(&self, options: PackOptions) -> Result<PackOptions> {
        let options = options.all_xattrs(self.all_xattrs).map_ids(self.ids.map()?);
        Ok(match self.owner {
            Some((uid, gid)) => options.owner(uid, gid),
            None => options,
        })
    }
}

/// Parses `UID:GID`. The highest number is reserved: it means "no change" to chown(2).
fn owner(text: &str) -> std::result::Result<(u32, u32), String> {
    let numbers = text.split_once(':').and_then(|(uid, gid)| Some((uid.parse().ok()?, gid.parse().ok()?)));
    numbers
        .filter(|&(uid, gid)| uid != u32::MAX && gid != u32::MAX)
        .ok_or_else(|| "write UID:GID, two numbers from 0 to 4294967294".to_owned())
}
