//! A place to unpack in, beside things that must never change: what a hostile image aims at.
//! Every fact that the kernel keeps of them is compared, the time of the last change included.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Two trees of canaries and a destination, private to this process.
#[derive(Debug)]
pub struct Arena {
    canary: PathBuf,
    within: PathBuf,
    before: Vec<Facts>,
}

type Facts = (PathBuf, [u64; 7], [i64; 4], Vec<u8>);

impl Arena {
    /// Makes one, and removes those of processes that are gone: a fuzzer never ends by returning.
    ///
    /// # Panics
    /// When the directories can't be made: then nothing can be tested.
    #[must_use]
    pub fn new() -> Self {
        // In memory where there is such a place: a run makes and removes a hundred files.
        let fast = if Path::new("/dev/shm").is_dir() { Path::new("/dev/shm") } else { Path::new("/tmp") };
        for entry in [Path::new("/tmp"), fast].into_iter().flat_map(fs::read_dir).flatten().flatten() {
            let name = entry.file_name();
            let pid = name.to_str().and_then(|name| name.strip_prefix("lxf-").or_else(|| name.strip_prefix("lxb-")));
            if let Some(pid) = pid.and_then(|pid| u32::from_str_radix(pid, 16).ok())
                && !Path::new(&format!("/proc/{pid}")).exists()
            {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        // As long as the canary of the seeds, which stands in their links.
        let canary = PathBuf::from(format!("/tmp/lxf-{:06x}", std::process::id()));
        let within = fast.join(format!("lxb-{:06x}", std::process::id()));
        for place in [&canary, &within] {
            let _ = fs::remove_dir_all(place);
            fs::DirBuilder::new().mode(0o700).create(place).expect("a private directory");
        }
        for place in [canary.clone(), within.join("outside")] {
            fs::create_dir_all(place.join("dir")).expect("a directory");
            for (name, mode) in [("secret", 0o600), ("victim", 0o644), ("dir/keep", 0o640)] {
                fs::write(place.join(name), name).expect("a file");
                fs::set_permissions(place.join(name), fs::Permissions::from_mode(mode)).expect("a mode");
            }
        }
        let mut arena = Self { canary, within, before: Vec::new() };
        arena.before = arena.facts();
        arena
    }

    /// The canary's path: 15 bytes.
    #[must_use]
    pub fn canary(&self) -> &[u8] {
        self.canary.as_os_str().as_encoded_bytes()
    }

    /// Where to unpack to: not there before, and a sibling of `outside`.
    #[must_use]
    pub fn destination(&self) -> PathBuf {
        self.within.join("dest")
    }

    /// Checks that nothing outside of the destination changed.
    ///
    /// # Panics
    /// When something did.
    pub fn check(&self) {
        let now = self.facts();
        for (before, now) in self.before.iter().zip(&now) {
            assert_eq!(before, now, "something outside of the destination was changed");
        }
        assert_eq!(self.before.len(), now.len(), "something outside of the destination came or went");
        let beside: Vec<_> =
            fs::read_dir(&self.within).expect("the arena").flatten().map(|entry| entry.file_name()).collect();
        assert!(
            beside.iter().all(|name| name == "outside" || name == "dest"),
            "left beside the destination: {beside:?}"
        );
    }

    /// Checks that the destination is not there.
    ///
    /// # Panics
    /// When it is.
    pub fn check_nothing_left(&self) {
        assert!(self.destination().symlink_metadata().is_err(), "a failed run left its destination");
    }

    /// Removes what a run that went well made.
    ///
    /// # Panics
    /// When it can't be removed.
    pub fn clean(&self) {
        fs::remove_dir_all(self.destination()).expect("the destination can be removed");
    }

    fn facts(&self) -> Vec<Facts> {
        let mut facts = Vec::new();
        let mut open = vec![self.canary.clone(), self.within.join("outside")];
        while let Some(path) = open.pop() {
            let about = path.symlink_metadata().expect("a canary is there");
            let content = if about.is_file() { fs::read(&path).expect("a canary can be read") } else { Vec::new() };
            if about.is_dir() {
                let mut names: Vec<_> =
                    fs::read_dir(&path).expect("a canary can be read").flatten().map(|entry| entry.path()).collect();
                names.sort();
                open.extend(names);
            }
            let numbers = [
                about.ino(),
                about.mode().into(),
                about.uid().into(),
                about.gid().into(),
                about.nlink(),
                about.size(),
                about.rdev(),
            ];
            facts.push((
                path,
                numbers,
                [about.mtime(), about.mtime_nsec(), about.ctime(), about.ctime_nsec()],
                content,
            ));
        }
        facts
    }
}

impl Default for Arena {
    fn default() -> Self {
        Self::new()
    }
}
