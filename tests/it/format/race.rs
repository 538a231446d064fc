//! Row 178: another process swaps a directory for a link to outside while an archive is unpacked below it.
//! Any result will do, as long as nothing outside changes.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use lxd_image::format::{Image, ImageSource, UnpackOptions};
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::forge::{Member, directory, file, hard_link, image, pax, symlink};
use super::{Place, tree};
use lxd_image::Monitor;

/// The staging directory's `rootfs/x`, once it is there.
fn victim(parent: &Path) -> Option<PathBuf> {
    fs::read_dir(parent).ok()?.flatten().map(|entry| entry.path().join("rootfs")).find(|path| path.join("x").exists())
}

#[test]
fn nothing_outside_changes_while_a_directory_is_swapped_for_a_link() {
    let members: Vec<Vec<u8>> = (0..800)
        .map(|number| {
            let mark = pax(&[("SCHILY.xattr.user.mark", "x")]);
            match number % 5 {
                0 => [mark, file(format!("rootfs/x/f{number}"), "pwned\n")].concat(),
                1 => Member::new(b'5', format!("rootfs/x/d{number}/")).mode(0o777).uid(1).mtime(1).bytes(),
                2 => symlink(&format!("rootfs/x/l{number}"), "secret"),
                3 => hard_link(&format!("rootfs/x/h{number}"), "rootfs/x/secret"),
                _ => file("rootfs/x/secret", "pwned\n"),
            }
        })
        .collect();
    let place = Place::new();
    place.directory("box");
    place.directory("outside");
    place.write("outside/secret", "secret\n");
    let first = [directory("rootfs/x/"), file("rootfs/x/secret", "pwned\n")].concat();
    let path = place.write("image", image(&[first, members.concat()]));
    let before = tree(&place.at("outside"));
    let done = AtomicBool::new(false);
    let swaps = std::thread::scope(|scope| {
        let racer = scope.spawn(|| {
            let mut swaps = 0_u32;
            while !done.load(Ordering::Relaxed) {
                let Some(root) = victim(&place.at("box")) else { continue };
                let (inside, link) = (root.join("x"), root.join("swap"));
                let _ = std::os::unix::fs::symlink(place.at("outside"), &link);
                for _ in 0..50 {
                    swaps += u32::from(renameat_with(CWD, &inside, CWD, &link, RenameFlags::EXCHANGE).is_ok());
                }
            }
            swaps
        });
        for round in 0..6 {
            let image = Image::open(ImageSource::open(&path, None).unwrap()).unwrap();
            let destination = place.at(&format!("box/dest{round}"));
            // Committed trees would be swapped too: what is unpacked is only staged.
            drop(image.stage(&destination, &UnpackOptions::new().threads(2), &Monitor::none()));
        }
        done.store(true, Ordering::Relaxed);
        racer.join().unwrap()
    });
    println!("{swaps} swaps");
    assert_eq!(tree(&place.at("outside")), before);
}

#[test]
fn directory_put_in_the_place_of_the_staging_one_is_neither_removed_nor_committed() {
    let place = Place::new();
    let around = place.directory("around");
    let archive = place.write("image.tar", image(&[]));
    let image = Image::open(ImageSource::open(archive, None).unwrap()).unwrap();
    for commit in [false, true] {
        let staged = image.stage(around.join("dest"), &UnpackOptions::new(), &Monitor::none()).unwrap();
        let staging = around.join(&place.names("around")[0]);
        std::fs::rename(&staging, place.at("aside")).unwrap();
        std::fs::create_dir(&staging).unwrap();
        std::fs::write(staging.join("keep"), "somebody's own").unwrap();
        if commit {
            let error = staged.accept_unverified().commit("dest").unwrap_err().error;
            assert_eq!(error.kind(), lxd_image::ErrorKind::UnsafePath);
        } else {
            drop(staged);
        }
        assert_eq!(std::fs::read_to_string(staging.join("keep")).unwrap(), "somebody's own");
        assert!(!around.join("dest").exists());
        std::fs::remove_dir_all(&staging).unwrap();
        std::fs::remove_dir_all(place.at("aside")).unwrap();
    }
}
