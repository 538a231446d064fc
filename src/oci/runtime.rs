//! `config.json`: the OCI runtime configuration of a container image, as umoci makes it and Incus reads it.
//!
//! Incus takes the environment, the arguments, the working directory and the user from it; the rest is what a runtime
//! wants to have there.

use serde_json::{Map, Value, json};

use super::config::ImageConfig;
use super::document::to_json;
use super::users::User;
use crate::error::Result;
use crate::omissions::Omitted;
use crate::progress::Monitor;

/// The version of the runtime specification.
const VERSION: &str = "1.2.1";

/// Writes the runtime configuration.
pub(super) fn runtime_config(image: &ImageConfig, user: &User, monitor: &Monitor) -> Result<Vec<u8>> {
    let run = &image.config;
    let mut args: Vec<&str> = run.entrypoint.iter().chain(&run.cmd).map(String::as_str).collect();
    if args.is_empty() {
        args.push("sh");
    }
    let cwd = if run.working_dir.is_empty() { "/" } else { &run.working_dir };
    let mut process_user = json!({"uid": user.uid, "gid": user.gid});
    if !user.groups.is_empty() {
        process_user["additionalGids"] = json!(user.groups);
    }
    let few = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];
    let ordinary = ["nosuid", "noexec", "nodev"];
    let config = json!({
        "ociVersion": VERSION,
        "process": {
            "terminal": true,
            "user": process_user,
            "args": args,
            "env": environment(image, user, monitor),
            "cwd": cwd,
            "capabilities": {
                "bounding": few, "effective": few, "inheritable": few, "permitted": few, "ambient": few,
            },
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": true,
        },
        "root": {"path": "rootfs"},
        "hostname": "umoci-default",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
                "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
                "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
                "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ordinary},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
                "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]},
        ],
        "annotations": annotations(image),
        "linux": {
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "namespaces": [
                {"type": "cgroup"}, {"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"},
                {"type": "mount"},
            ],
            "maskedPaths": [
                "/proc/kcore", "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug",
                "/sys/firmware", "/proc/scsi",
            ],
            "readonlyPaths": [
                "/proc/asound", "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger",
            ],
        },
    });
    to_json(&config)
}

/// `NAME=value` of the image upon the defaults, and the home of the user.
fn environment(image: &ImageConfig, user: &User, monitor: &Monitor) -> Vec<String> {
    let mut environment = vec![
        ("PATH".to_owned(), "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()),
        ("TERM".to_owned(), "xterm".to_owned()),
    ];
    // Positions by name: a configuration may have very many.
    let mut positions: std::collections::HashMap<String, usize> =
        environment.iter().enumerate().map(|(at, (name, _))| (name.clone(), at)).collect();
    for text in &image.config.env {
        match text.split_once('=').filter(|(name, _)| !name.is_empty()) {
            Some((name, value)) => match positions.get(name) {
                Some(at) => value.clone_into(&mut environment[*at].1),
                None => {
                    positions.insert(name.to_owned(), environment.len());
                    environment.push((name.to_owned(), value.to_owned()));
                }
            },
            None => {
                let reason = "it has no name and value".to_owned();
                let part = format!("environment variable `{}`", super::document::shorten(text));
                monitor.omit(*b"config.json", Omitted::Dropped { part: part.into(), reason: reason.into() });
            }
        }
    }
    if !user.home.is_empty() && !positions.contains_key("HOME") {
        environment.push(("HOME".to_owned(), user.home.clone()));
    }
    environment.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
}

/// What the runtime configuration has no field for, and the labels, which override it.
fn annotations(image: &ImageConfig) -> Value {
    let ports = image.config.exposed_ports.keys().map(String::as_str).collect::<Vec<_>>().join(",");
    let created = image.created.as_deref().unwrap_or("0001-01-01T00:00:00Z");
    let mut all = std::collections::BTreeMap::new();
    for (name, value) in [
        ("os", image.os.as_str()),
        ("architecture", &image.architecture),
        ("variant", image.variant.as_deref().unwrap_or_default()),
        ("author", image.author.as_deref().unwrap_or_default()),
        ("created", created),
        ("stopSignal", &image.config.stop_signal),
        ("exposedPorts", &ports),
    ] {
        if !value.is_empty() {
            all.insert(format!("org.opencontainers.image.{name}"), value.to_owned());
        }
    }
    all.extend(image.config.labels.clone());
    Value::Object(all.into_iter().map(|(name, value)| (name, Value::String(value))).collect::<Map<_, _>>())
}
