//! Members that some form of an image, or a tree on this machine, cannot hold.

use std::path::Path;

use lxd_image::format::{Difference, VerifyOptions, differences};
use lxd_image::{Escaped, Monitor, Omissions, Omitted};

use super::Told;
use super::verbs::{VERBS, called, open};
use crate::format::forge::{Member, directory, file, image, pax, symlink};
use crate::format::{Place, is_root};

/// An input with something that is lost on one way or another.
struct Input {
    name: &'static str,
    members: fn() -> Vec<Vec<u8>>,
    /// What reading alone loses, and every verb that decodes must tell: comparing what was read cannot show it.
    unread: Option<Told>,
}

const INPUTS: &[Input] = &[
    Input { name: "nothing to lose", members: || vec![file("rootfs/x", "x")], unread: None },
    Input {
        name: "a member beside the root file system",
        members: || vec![file("stray", "s")],
        unread: Some(Told { path: "stray", words: &["not part of an image"] }),
    },
    Input {
        name: "a time before 1970",
        members: || vec![Member::new(b'0', "rootfs/old").mtime(-5).bytes()],
        unread: None,
    },
    Input {
        name: "a time after 2106",
        members: || vec![Member::new(b'0', "rootfs/late").mtime(5_000_000_000).bytes()],
        unread: None,
    },
    Input {
        name: "a fraction of a second",
        members: || vec![pax(&[("mtime", "1700000000.5")]), file("rootfs/half", "")],
        unread: None,
    },
    Input {
        name: "attributes of every kind",
        members: || {
            let about = [
                ("SCHILY.xattr.user.mark", "u"),
                ("SCHILY.xattr.trusted.overlay.opaque", "y"),
                ("SCHILY.xattr.security.ima", "i"),
            ];
            vec![pax(&about), file("rootfs/attributes", "")]
        },
        unread: None,
    },
    Input {
        name: "an attribute that no file system here has",
        members: || vec![pax(&[("SCHILY.xattr.com.apple.quarantine", "q")]), file("rootfs/foreign", "")],
        unread: None,
    },
    Input {
        name: "a PAX record that nobody knows",
        members: || vec![pax(&[("VENDOR.key", "v")]), file("rootfs/vendor", "")],
        unread: Some(Told { path: "vendor", words: &["VENDOR.key"] }),
    },
    Input {
        name: "file flags of BSD",
        members: || vec![pax(&[("SCHILY.fflags", "nodump")]), file("rootfs/flags", "")],
        unread: Some(Told { path: "flags", words: &["file flags"] }),
    },
    Input {
        name: "an access control list that names owners",
        members: || {
            let list = "user::rw-,user:1000:r--,group::r--,group:50:r--,mask::r--,other::r--";
            vec![pax(&[("SCHILY.acl.access", list)]), file("rootfs/list", "")]
        },
        unread: None,
    },
    Input { name: "devices", members: || vec![Member::new(b'3', "rootfs/null").device(1, 3).bytes()], unread: None },
    Input {
        name: "set-id files of other owners",
        members: || vec![Member::new(b'0', "rootfs/su").mode(0o6755).uid(1234).gid(1234).bytes()],
        unread: None,
    },
    Input {
        name: "members of every other type",
        members: || {
            vec![
                directory("rootfs/d/"),
                symlink("rootfs/link", "d"),
                Member::new(b'6', "rootfs/pipe").bytes(),
                Member::new(b'0', b"rootfs/name\xff").bytes(),
            ]
        },
        unread: None,
    },
];

/// What a record must say of a fact that two members do not share.
fn words_of(fact: &str) -> &'static [&'static str] {
    match fact {
        "mtime" => &["time"],
        "owner" => &["owner"],
        "mode" => &["setuid"],
        "xattrs" => &["attribute", "access control list"],
        "device" | "type" => &["device"],
        // Content, sizes and targets have no excuse.
        _ => &[],
    }
}

/// Whether a record tells of a difference: under the member's own path, with a word for each fact that differs.
/// An entry without a path is about the root file system's top, and explains nothing else.
fn is_told(difference: &Difference, omissions: &Omissions) -> bool {
    let path = difference.path().strip_prefix(b"rootfs").unwrap_or(difference.path());
    let path = path.strip_prefix(b"/").unwrap_or(path);
    let told: Vec<String> =
        omissions.iter().filter(|omission| omission.path == path).map(|omission| omission.what.to_string()).collect();
    match difference {
        Difference::Changed(_, facts) => {
            facts.iter().all(|(fact, ..)| words_of(fact).iter().any(|word| told.iter().any(|what| what.contains(word))))
        }
        _ => !told.is_empty(),
    }
}

fn check(input: &Input, image: &Path) -> Vec<String> {
    let mut faults = Vec::new();
    for verb in VERBS {
        let place = Place::new();
        let (left, omissions) = called(&place, verb, image);
        let stderr = (verb.command)(&place, image.to_str().unwrap());
        let mut fault = |what: String| faults.push(format!("{} through {}: {what}", input.name, verb.name));
        if let Some(told) = input.unread.filter(|_| verb.decodes) {
            if !told.is_in(&omissions) {
                fault(format!("the record does not tell of {}: {omissions:?}", told.path));
            }
            if !told.is_on(&stderr) {
                fault(format!("standard error does not tell of {}: {stderr}", told.path));
            }
        }
        let Some(left) = left else { continue };
        let found =
            differences(&open(&[image.to_path_buf()]), &open(&left), &VerifyOptions::new(), &Monitor::none()).unwrap();
        for difference in found {
            let path = Escaped(difference.path()).to_string();
            if !is_told(&difference, &omissions) {
                fault(format!("{difference:?} is not in the record: {omissions:?}"));
            }
            let name = path.strip_prefix("rootfs/").unwrap_or(&path);
            if !stderr.contains(name) {
                fault(format!("{path} is not on standard error: {stderr}"));
            }
        }
    }
    faults
}

#[test]
fn no_verb_loses_anything_of_an_image_without_a_word() {
    if !is_root() {
        eprintln!("not done: only root owns what it unpacks as the image says");
        return;
    }
    let mut faults = Vec::new();
    for input in INPUTS {
        let place = Place::new();
        let path = place.write("input.tar", image(&(input.members)()));
        faults.extend(check(input, &path));
    }
    assert!(faults.is_empty(), "{} losses are not told:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn matrix_sees_a_loss_that_is_not_told() {
    let place = Place::new();
    let one = place.write("one.tar", image(&[Member::new(b'0', "rootfs/x").mtime(5).bytes()]));
    let other = place.write("other.tar", image(&[Member::new(b'0', "rootfs/x").mtime(6).bytes()]));
    let found = differences(&open(&[one]), &open(&[other]), &VerifyOptions::new(), &Monitor::none()).unwrap();
    assert_eq!(found.len(), 1);
    assert!(!is_told(&found[0], &Omissions::default()));
    let told = |path: &str, what: Omitted| {
        let monitor = Monitor::none();
        monitor.omit(path, what);
        is_told(&found[0], &monitor.omissions())
    };
    assert!(told("x", Omitted::Time));
    assert!(!told("", Omitted::Time), "an entry about the top explains a file");
    assert!(!told("x", Omitted::Owner), "an owner explains a time");
}
