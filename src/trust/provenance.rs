//! Provenance: who built an image, from what and how, as a predicate of SLSA version 1.

use serde_json::{Value, json};

use super::statement::Statement;
use crate::error::{Error, Result};
use crate::fingerprint::Fingerprint;

/// The type of builds that pack a tree: what the parameters in a provenance mean.
pub const PACK_BUILD: &str = "urn:x-lxd-image:build:pack:v1";

/// The predicate of an image that was packed here, for a statement of the type [`PROVENANCE`](super::PROVENANCE).
///
/// `options` are the recorded options of packing, `builder` is a URI that names who packed, and `materials` are names
/// and digests of what went in.
#[must_use]
pub fn pack_provenance(builder: &str, options: &Value, materials: &[(String, Fingerprint)]) -> Value {
    let materials: Vec<Value> = materials
        .iter()
        .map(|(name, digest)| json!({"name": name, "digest": {"sha256": digest.to_string()}}))
        .collect();
    json!({
        "buildDefinition": {
            "buildType": PACK_BUILD,
            "externalParameters": options,
            "internalParameters": {},
            "resolvedDependencies": materials,
        },
        "runDetails": {
            "builder": {"id": builder, "version": {"lxd-image": env!("CARGO_PKG_VERSION")}},
        },
    })
}

/// The recorded options of packing in a statement of provenance.
///
/// # Errors
/// `Unsupported` for another predicate, and for a build of another type.
pub fn packed_options(statement: &Statement) -> Result<&Value> {
    let build = &statement.predicate()["buildDefinition"];
    if statement.predicate_type() != super::PROVENANCE || build["buildType"] != PACK_BUILD {
        return Err(Error::unsupported("the statement is not about an image that lxd-image packed"));
    }
    Ok(&build["externalParameters"])
}
