//! A directory of its own for each test, and disks in it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use lxd_image::disk::{DiskFormat, DiskImage, DiskOptions, Qcow2WriteOptions, RawWriteOptions};
use lxd_image::io::Blob;
use lxd_image::{Monitor, Result};

/// A directory that is removed with its content.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("lxd-image-disk-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.at(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Opens a disk whose format is recognised.
pub(crate) fn open(path: &Path) -> Result<DiskImage> {
    DiskImage::open(Blob::file(File::open(path).unwrap()).unwrap(), &DiskOptions::new())
}

pub(crate) fn open_raw(path: &Path) -> DiskImage {
    let options = DiskOptions::new().format(DiskFormat::Raw);
    DiskImage::open(Blob::file(File::open(path).unwrap()).unwrap(), &options).unwrap()
}

/// A disk in memory as a raw one.
pub(crate) fn raw(bytes: Vec<u8>) -> DiskImage {
    DiskImage::open(Blob::from(bytes), &DiskOptions::new().format(DiskFormat::Raw)).unwrap()
}

/// Writes a disk as raw, and returns the bytes.
pub(crate) fn to_raw(disk: &DiskImage, path: &Path) -> Result<Vec<u8>> {
    let _ = std::fs::remove_file(path);
    disk.write_raw(&File::create_new(path).unwrap(), &RawWriteOptions::new().threads(2), &Monitor::none())?;
    Ok(std::fs::read(path).unwrap())
}

/// Writes a disk as qcow2.
pub(crate) fn to_qcow2(disk: &DiskImage, path: &Path, options: &Qcow2WriteOptions) -> u64 {
    let _ = std::fs::remove_file(path);
    disk.write_qcow2(&File::create_new(path).unwrap(), options, &Monitor::none()).unwrap().bytes
}

/// Whether `qemu-img` is there. Where it must be, its absence fails.
pub(crate) fn have_qemu() -> bool {
    let there = Command::new("qemu-img").arg("--version").output().is_ok_and(|output| output.status.success());
    assert!(there || std::env::var_os("LXD_IMAGE_REQUIRE_PEERS").is_none(), "qemu-img is not there");
    if !there {
        println!("skipped: there is no qemu-img");
    }
    there
}

/// Runs `qemu-img`; what it prints, or `None` when it fails.
pub(crate) fn try_qemu(arguments: &[&str]) -> Option<String> {
    let output = Command::new("qemu-img").args(arguments).output().unwrap();
    if !output.status.success() {
        println!("qemu-img {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

#[track_caller]
pub(crate) fn qemu(arguments: &[&str]) -> String {
    try_qemu(arguments).unwrap_or_else(|| panic!("qemu-img {arguments:?} failed"))
}

/// Numbers that look random and are the same in each run.
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// A disk with text, noise, zeros and holes, at places that are no multiple of anything.
pub(crate) fn content(size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    let mut numbers = Numbers(size as u64);
    let mut at = 0;
    while at < size {
        let end = size.min(at + 1 + usize::try_from(numbers.below(300_000)).unwrap());
        match numbers.below(4) {
            0 => {}
            1 => bytes[at..end].iter_mut().for_each(|byte| *byte = u8::try_from(numbers.next() & 255).unwrap()),
            _ => {
                let word = numbers.next().to_string().into_bytes();
                for (byte, letter) in bytes[at..end].iter_mut().zip(word.iter().cycle()) {
                    *byte = *letter;
                }
            }
        }
        at = end;
    }
    bytes
}
