//! The API extensions that touch images, of LXD up to 6.9 and Incus up to 7.3: which this server claims, and why it does
//! not claim the others. `SERVING.md` has the same table; a test compares them.
//!
//! A client that finds an extension may rely on all of it, so one that is half there is not claimed.

use crate::protocol::rest::upload;

/// An extension of the API, and whether this server claims it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ApiExtension {
    /// Its name in `doc/api-extensions.md` of LXD and Incus.
    pub name: &'static str,
    /// Whether it is in `api_extensions` of `GET /1.0`.
    pub claimed: bool,
    /// What is answered, or why it is not claimed.
    pub note: &'static str,
}

/// A claimed extension.
const fn yes(name: &'static str, note: &'static str) -> ApiExtension {
    ApiExtension { name, claimed: true, note }
}

/// An extension that is not claimed.
const fn no(name: &'static str, note: &'static str) -> ApiExtension {
    ApiExtension { name, claimed: false, note }
}

/// All of them: those that are claimed in the order in which `GET /1.0` lists them.
pub(crate) const EXTENSIONS: &[ApiExtension] = &[
    yes("etag", "images and aliases; `If-Match` on every change"),
    yes("patch", "images and aliases"),
    yes("image_types", "`type` of images and aliases"),
    yes("image_force_refresh", "`POST /1.0/images/FP/refresh`"),
    yes("images_push_relay", "`POST /1.0/images/FP/export`, and upload tokens"),
    yes("image_create_aliases", "`aliases` of `POST /1.0/images`"),
    yes("image_compression_algorithm", "empty or `none`; any other is refused, since images are kept as they are"),
    yes("simplestreams_properties", "properties of a simplestreams source are kept"),
    yes("event_lifecycle", "`image-created`, `-updated`, `-deleted`, `-refreshed`, `image-alias-created`"),
    yes("api_filtering", "`filter` of the list of images"),
    yes("api_filtering_extended", "`filter` of aliases, operations and image registries too"),
    yes("image_import_alias", "aliases in the header `X-Incus-aliases` or `X-LXD-aliases` of an upload"),
    yes("image_extended_metadata", "`release_codename` and `release_title`, where the image has them as properties"),
    yes("images_all_projects", "`all-projects` lists the one project; objects name it then"),
    yes("image_template_permissions", "`uid`, `gid` and `mode` of rules are kept; `template apply` obeys them"),
    yes("images_expiry", "`expires_at` of `PUT` and `PATCH`"),
    yes("image_restrictions", "`requirements.*` are kept and explained"),
    yes("image_restriction_privileged", "`requirements.privileged` is kept and explained"),
    yes("image_restriction_nesting", "`requirements.nesting` is kept and explained"),
    yes(
        upload::PARTS_EXTENSION,
        "this server's own: `/1.0/images/uploads/NAME`, and the header `X-LXD-parts` of an upload",
    ),
    yes(
        upload::STATEMENTS_EXTENSION,
        "this server's own: the header `X-LXD-statements` of an upload, and `POST /1.0/images/FP/statements`",
    ),
    no(
        "image_registries",
        "answered for reading, by the server's own remotes; a client that finds the extension copies by registries only, \
         and its own remotes would no longer do",
    ),
    no("projects", "there is one project, `default`; any other is refused"),
    no("image_source_project", "a source in another project than `default` is refused"),
    no("images_target_project", "as `projects`"),
    no("image_copy_profile", "images have no profiles: there are no instances"),
    no("image_profiles", "as `image_copy_profile`"),
    no(
        "instance_publish_split",
        "there are no instances to publish; `format` is checked, and reported if it differs; `publish --split` makes split images",
    ),
    no("container_image_properties", "there are no instances"),
    no("storage_images_delete", "there are no storage pools"),
    no("dev_incus_images", "there are no instances that could ask"),
    no("instances_rebuild", "there are no instances"),
    no("instance_import_conversion", "there are no instances; `pack` and `convert` convert disks"),
    no("instance_oci", "there are no instances; the protocol `oci` is a client's"),
    no("instance_oci_entrypoint", "there are no instances; `config.json` is kept, and shown by `inspect`"),
    no("oci_network_config", "there are no networks"),
    no("image_locations", "there is no cluster; `locations` of other servers is read"),
    no("projects_restricted_image_servers", "there are no projects to restrict"),
    no("projects_images_remote_cache_expiry", "`serve --upstream` keeps unused images for ten days"),
    no("projects_images_auto_update", "`refresh` by a timer does it"),
    no("images_default_architecture", "a client asks for its own"),
    no("clustering_image_replication", "there is no cluster; servers may share a store"),
    no("cluster_links", "there is no cluster"),
    no("cluster_links_unidirectional", "there is no cluster"),
    no("cluster_links_public", "there is no cluster"),
    no("daemon_storage_per_project", "there is one project"),
    no("devlxd_images_vm", "there are no instances that could ask"),
    no("storage_lvmcluster_qcow2", "there are no storage pools"),
    no("api_fragments", "fragments are read by clients and never sent to a server"),
];

/// The names of those that are claimed.
pub(super) fn claimed() -> Vec<&'static str> {
    EXTENSIONS.iter().filter(|extension| extension.claimed).map(|extension| extension.name).collect()
}
