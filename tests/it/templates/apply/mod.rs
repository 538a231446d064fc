//! Applying templates to an unpacked image: what is written, for whom, and what nothing may touch.
//! Each test has a directory of its own, with a place outside of the root that must stay as it is.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[cfg(feature = "cli")]
mod cli;
mod failures;
mod hostile;
mod life;
mod writing;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use lxd_image::templates::{
    Action, ApplyError, ApplyOptions, ApplyReport, Context, Instance, InstanceDir, Trigger, apply,
};
use lxd_image::{ErrorKind, Monitor, TemplateRule};

/// An unpacked image in `dest`, and a directory beside it that stands for the host.
pub(crate) struct Site(PathBuf);

impl Site {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let top = std::env::temp_dir().join(format!("lxi-apply-{}-{count}", std::process::id()));
        for name in ["dest/rootfs/etc", "dest/templates", "host"] {
            fs::create_dir_all(top.join(name)).unwrap();
        }
        fs::write(top.join("host/file"), "the host's").unwrap();
        let site = Self(top);
        site.template("name.tpl", "{{ instance.name }} {{ trigger }} {{ path }} {{ properties.x }}\n");
        site.template("broken.tpl", "{{ name|nosuch }}");
        site.template("failing.tpl", "half {{ 1/0 }}");
        site
    }

    pub(crate) fn dest(&self) -> PathBuf {
        self.0.join("dest")
    }

    pub(crate) fn host(&self) -> PathBuf {
        self.0.join("host")
    }

    pub(crate) fn root(&self, path: &str) -> PathBuf {
        self.dest().join("rootfs").join(path.trim_start_matches('/'))
    }

    pub(crate) fn template(&self, name: &str, text: &str) {
        fs::write(self.dest().join("templates").join(name), text).unwrap();
    }

    pub(crate) fn text(&self, path: &str) -> String {
        fs::read_to_string(self.root(path)).unwrap()
    }

    /// Applies rules at `create`.
    pub(crate) fn apply(
        &self,
        rules: &[(&str, TemplateRule)],
        options: &ApplyOptions,
        monitor: &Monitor,
    ) -> Result<ApplyReport, Box<ApplyError>> {
        let dir = InstanceDir::open(self.dest()).unwrap();
        let rules = rules.iter().map(|(path, rule)| (*path, rule));
        apply(&dir, rules, Trigger::Create, &context(), options, monitor).map_err(Box::new)
    }

    /// Applies one rule for the template `name.tpl`.
    pub(crate) fn one(&self, path: &str) -> Result<Action, ErrorKind> {
        match self.apply(&[(path, rule("name.tpl"))], &ApplyOptions::new(), &Monitor::none()) {
            Ok(mut applied) => Ok(applied.outcomes.remove(0).action),
            Err(failed) => Err(failed.error.kind()),
        }
    }

    /// Everything in it, with contents: to see that nothing changed.
    pub(crate) fn state(&self) -> Vec<String> {
        let mut found = Vec::new();
        state_of(&self.0, &mut found);
        found.sort();
        found
    }

    pub(crate) fn host_state(&self) -> Vec<String> {
        let mut found = Vec::new();
        state_of(&self.host(), &mut found);
        found
    }
}

fn state_of(dir: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let about = path.symlink_metadata().unwrap();
        let content = if about.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
        found.push(format!(
            "{} {:o} {}:{} {} {}",
            path.display(),
            about.mode(),
            about.uid(),
            about.gid(),
            about.mtime_nsec(),
            String::from_utf8_lossy(&content)
        ));
        if about.is_dir() {
            state_of(&path, found);
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn rule(template: &str) -> TemplateRule {
    TemplateRule::new(template, ["create"]).unwrap()
}

pub(crate) fn context() -> Context {
    Instance::new("c1").architecture("x86_64").context()
}

pub(crate) fn mode(path: &Path) -> u32 {
    path.symlink_metadata().unwrap().permissions().mode() & 0o7777
}

pub(crate) fn owner(path: &Path) -> (u32, u32) {
    let about = path.symlink_metadata().unwrap();
    (about.uid(), about.gid())
}

/// Owners can be given away only by root; otherwise a test says that it leaves them out.
pub(crate) fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("owners are not looked at: that needs root");
    }
    root
}
