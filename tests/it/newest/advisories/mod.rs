//! This year's advisories about images, each by its id at every place where it could bite: unpacking, verifying, converting,
//! importing, publishing, templates, clients, the server, names of exported files.
//! The inputs are written from the descriptions of the advisories; none is taken from an exploit.

mod archives;
mod clients;
mod servers;

use std::collections::BTreeSet;

/// The advisories, and the tests here that are about each.
const ADVISORIES: &[(&str, &[&str])] = &[
    (
        "CVE-2026-23954",
        &[
            "template_that_leaves_its_directory_is_refused_cve_2026_23954",
            "template_target_that_leaves_the_root_is_refused_cve_2026_23954",
        ],
    ),
    ("CVE-2026-48749", &["hostile_member_writes_nothing_outside", "publish_of_a_directory_follows_no_link"]),
    ("CVE-2026-48752", &["hostile_member_writes_nothing_outside", "publish_of_a_directory_follows_no_link"]),
    ("CVE-2026-48750", &["hostile_member_writes_nothing_outside"]),
    ("GHSA-j825-cg34-5fr5", &["hostile_member_writes_nothing_outside", "publish_of_a_directory_follows_no_link"]),
    ("GHSA-fv82-v4fj-mm4m", &["hostile_member_writes_nothing_outside"]),
    (
        "CVE-2026-33542",
        &[
            "parts_of_two_images_are_no_image_cve_2026_33542",
            "upload_under_another_fingerprint_is_refused_cve_2026_33542",
        ],
    ),
    ("CVE-2026-48769", &["hash_in_a_header_is_no_file_name_cve_2026_48769"]),
    (
        "CVE-2026-81500",
        &["file_name_of_a_server_is_no_path_cve_2026_81500", "file_name_of_an_upload_is_no_path_cve_2026_81500"],
    ),
    ("CVE-2026-81501", &["private_image_is_not_taken_over_by_its_fingerprint_cve_2026_81501"]),
    ("CVE-2026-41685", &["upload_cannot_fill_the_disk_cve_2026_41685"]),
    ("CVE-2026-28384", &["compression_is_a_name_and_no_argument_cve_2026_28384"]),
    ("GHSA-ccjc-4qc3-jxqc", &["id_that_a_client_chooses_is_no_path_ghsa_ccjc"]),
    ("LXD #16687", &["concurrent_downloads_of_a_changing_file_store_what_was_hashed_lxd_16687"]),
];

#[test]
fn security_md_has_a_row_for_each_advisory_and_each_names_tests_that_exist() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/SECURITY.md")).unwrap();
    let sources = [include_str!("archives.rs"), include_str!("clients.rs"), include_str!("servers.rs")].concat();
    for (id, tests) in ADVISORIES {
        let row = page.lines().find(|line| line.starts_with("| ") && line.contains(id));
        let row = row.unwrap_or_else(|| panic!("SECURITY.md has no row for {id}"));
        for test in *tests {
            assert!(sources.contains(&format!("fn {test}()")), "{id}: no test {test}");
            assert!(row.contains(&format!("`{test}`")), "the row of {id} does not name {test}");
        }
    }
    let ids: BTreeSet<_> = ADVISORIES.iter().map(|(id, _)| id).collect();
    assert_eq!(ids.len(), 14);
}
