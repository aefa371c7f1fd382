//! The host as the trusted side sees it, before an attack and after it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use super::{inside::files::MARK, world::World};
use crate::cgroup::Groups;

/// Settings that an attack may try to change. Each is one for the whole machine, or for the host's namespaces.
const SETTINGS: [&str; 20] = [
    "kernel/core_pattern",
    "kernel/hostname",
    "kernel/domainname",
    "kernel/modprobe",
    "kernel/sysrq",
    "kernel/pid_max",
    "kernel/randomize_va_space",
    "kernel/shmmax",
    "kernel/shmall",
    "kernel/perf_event_paranoid",
    "kernel/unprivileged_bpf_disabled",
    "vm/swappiness",
    "vm/overcommit_memory",
    "fs/protected_symlinks",
    "fs/protected_hardlinks",
    "fs/suid_dumpable",
    "fs/mqueue/queues_max",
    "user/max_user_namespaces",
    "net/ipv4/ip_forward",
    "net/core/somaxconn",
];
/// Where a mark of an attack could have been left.
const FOLDERS: [&str; 14] = [
    "/",
    "/usr",
    "/usr/bin",
    "/usr/lib",
    "/etc",
    "/dev",
    "/dev/shm",
    "/run",
    "/var",
    "/tmp",
    "/var/tmp",
    "/home",
    "/root",
    "/sys/fs/cgroup",
];

/// What is looked at, and how it is.
#[derive(Debug, PartialEq, Eq)]
pub struct Snapshot(BTreeMap<String, String>);

impl Snapshot {
    pub fn take(world: &World, groups: &Groups, token: &str) -> Self {
        let mut all = BTreeMap::new();
        all.extend(world.look().into_iter().map(|(path, what)| (format!("file {path}"), what)));
        for name in SETTINGS {
            if let Ok(value) = fs::read_to_string(Path::new("/proc/sys").join(name)) {
                all.insert(format!("setting {name}"), value);
            }
        }
        for folder in FOLDERS {
            let path = Path::new(folder).join(MARK);
            if fs::symlink_metadata(&path).is_ok() {
                all.insert(format!("mark {}", path.display()), "is there".to_owned());
            }
        }
        // Also what a remount changes.
        for line in fs::read_to_string("/proc/self/mountinfo").unwrap_or_default().lines() {
            all.insert(format!("mount {line}"), "is there".to_owned());
        }
        for kind in ["shm", "sem", "msg"] {
            let text = fs::read_to_string(format!("/proc/sysvipc/{kind}")).unwrap_or_default();
            for line in text.lines().skip(1) {
                let key: Vec<&str> = line.split_whitespace().take(2).collect();
                all.insert(format!("System V {kind} {}", key.join(" ")), "is there".to_owned());
            }
        }
        for path in control_groups(groups) {
            all.insert(format!("control group {}", path.display()), "is there".to_owned());
        }
        for parent in groups.folders() {
            for name in ["release_agent", "notify_on_release"] {
                if let Ok(value) = fs::read_to_string(parent.join(name)) {
                    all.insert(format!("control group {}/{name}", parent.display()), value);
                }
            }
        }
        for (pid, name) in processes_of(token) {
            all.insert(format!("process {pid}"), name);
        }
        Self(all)
    }

    /// What is not as it was, in words.
    pub fn changes(&self, after: &Self) -> Vec<String> {
        let gone =
            self.0.iter().filter(|(key, _)| !after.0.contains_key(*key)).map(|(key, _)| format!("{key} is gone"));
        let new = after.0.iter().filter_map(|(key, value)| match self.0.get(key) {
            None => Some(format!("{key} is new: {value}")),
            Some(before) if before != value => Some(format!("{key} was {before} and is {value}")),
            Some(_) => None,
        });
        gone.chain(new).collect()
    }
}

/// Processes with this mark in their command line, with the attack they belong to. Never the one that looks.
pub fn processes_of(token: &str) -> Vec<(i32, String)> {
    let own = std::process::id().cast_signed();
    let listing = fs::read_dir("/proc").into_iter().flatten().flatten();
    listing
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| *pid != own)
        .filter_map(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
            let text = String::from_utf8_lossy(&line).replace('\0', " ");
            text.contains(token).then_some((pid, text))
        })
        .collect()
}

/// The groups this process made for its calls.
fn control_groups(groups: &Groups) -> Vec<PathBuf> {
    let own = format!("homarus-{}-", std::process::id());
    let entries = groups.folders().into_iter().flat_map(|parent| fs::read_dir(parent).into_iter().flatten().flatten());
    entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(&own)).map(|entry| entry.path()).collect()
}
