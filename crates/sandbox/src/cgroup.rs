//! Control groups, where this process may make them: version 2, or version 1's memory and pids.
//!
//! Each call gets groups of its own. The outer stage enters them itself; when the call is over they
//! are removed. Groups left by a killed host are removed by the next start.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use homarus_contract::sandbox::Limits;

const PREFIX: &str = "homarus-";
/// What the two stages need themselves, on top of the call's own memory.
const OWN_MEMORY_BYTES: u64 = 24 << 20;
const OWN_PROCESSES: u32 = 6;

/// Which control groups this process can use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Groups {
    /// Version 2: the folder new groups are made in.
    V2(PathBuf),
    /// Version 1: those of the memory and pids controllers.
    V1 { memory: PathBuf, pids: PathBuf },
    /// None: resource limits of the process instead.
    None,
}

/// The groups of one call; removed on drop.
#[derive(Debug, Default)]
pub struct CallGroups {
    folders: Vec<PathBuf>,
    /// Files to write one's id to.
    pub join: Vec<PathBuf>,
    /// Limit name → mechanism.
    pub limits: BTreeMap<String, String>,
    kind: &'static str,
    /// With whether the file must be there: swap is not accounted for everywhere.
    memory_files: Vec<(PathBuf, bool)>,
    processes_file: Option<PathBuf>,
    oom: Option<PathBuf>,
    /// What is set: bytes of memory and processes.
    bounds: Option<(u64, u32)>,
}

impl Groups {
    /// Finds the best that really works, by making a group and setting a limit in it.
    pub fn find() -> Self {
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let candidates = candidates(&own, &mounts);
        for groups in candidates {
            groups.sweep();
            if groups.create(&Limits::default()).is_ok() {
                return groups;
            }
        }
        Groups::None
    }

    /// The folders that groups are made in.
    pub fn folders(&self) -> Vec<&Path> {
        match self {
            Groups::V2(parent) => vec![parent],
            Groups::V1 { memory, pids } => vec![memory, pids],
            Groups::None => Vec::new(),
        }
    }

    pub fn name(&self) -> &'static str {
        match self {
            Groups::V2(_) => "cgroup-v2",
            Groups::V1 { .. } => "cgroup-v1",
            Groups::None => "rlimit",
        }
    }

    pub fn create(&self, limits: &Limits) -> io::Result<CallGroups> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = format!("{PREFIX}{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let mut made = CallGroups::default();
        made.kind = self.name();
        match self {
            Groups::V2(parent) => {
                let folder = made.folder(parent.join(name))?;
                made.join.push(folder.join("cgroup.procs"));
                made.memory_files = vec![(folder.join("memory.max"), true)];
                made.processes_file = Some(folder.join("pids.max"));
                made.oom = Some(folder.join("memory.events"));
                // Absent without swap accounting; then there is no swap to bound.
                let _ = fs::write(folder.join("memory.swap.max"), "0");
                let _ = fs::write(folder.join("memory.oom.group"), "1");
            }
            Groups::V1 { memory, pids } => {
                let folder = made.folder(memory.join(&name))?;
                made.join.push(folder.join("tasks"));
                made.memory_files = vec![
                    (folder.join("memory.limit_in_bytes"), true),
                    (folder.join("memory.memsw.limit_in_bytes"), false),
                ];
                made.oom = Some(folder.join("memory.oom_control"));
                let folder = made.folder(pids.join(&name))?;
                made.processes_file = Some(folder.join("pids.max"));
                made.join.push(folder.join("tasks"));
            }
            Groups::None => {}
        }
        made.set(limits)?;
        Ok(made)
    }

    /// Removes groups whose host process is gone. One in use cannot be removed, so this is safe.
    fn sweep(&self) {
        for parent in self.folders() {
            for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
                let name = entry.file_name();
                let Some(owner) = name.to_str().and_then(owner) else { continue };
                if !Path::new("/proc").join(owner.to_string()).exists() {
                    let _ = fs::remove_dir(entry.path());
                }
            }
        }
    }
}

impl CallGroups {
    /// Sets the limits; again, for groups that were made before their call was known.
    pub fn set(&mut self, limits: &Limits) -> io::Result<()> {
        let bounds = Some((limits.memory_bytes, limits.processes_max));
        if self.bounds == bounds {
            return Ok(());
        }
        let memory_bytes = (limits.memory_bytes + OWN_MEMORY_BYTES).to_string();
        let lowered = self.set_memory(&memory_bytes);
        if lowered.is_err() {
            // Version 1 wants memory <= memory and swap at each step, so going up goes the other way.
            self.memory_files.reverse();
            let raised = self.set_memory(&memory_bytes);
            self.memory_files.reverse();
            raised?;
        }
        if let Some(file) = &self.processes_file {
            fs::write(file, (limits.processes_max + OWN_PROCESSES).to_string())?;
            for limit in ["memory", "processes"] {
                self.limits.insert(limit.to_owned(), self.kind.to_owned());
            }
        }
        self.bounds = bounds;
        Ok(())
    }

    fn set_memory(&self, bytes: &str) -> io::Result<()> {
        for (file, needed) in &self.memory_files {
            match fs::write(file, bytes) {
                Err(error) if *needed || error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether the kernel ended something in it for lack of memory.
    pub fn ran_out_of_memory(&self) -> bool {
        let text = self.oom.as_ref().and_then(|path| fs::read_to_string(path).ok()).unwrap_or_default();
        text.lines().any(|line| line.strip_prefix("oom_kill ").is_some_and(|count| count.trim() != "0"))
    }

    fn folder(&mut self, path: PathBuf) -> io::Result<PathBuf> {
        fs::create_dir(&path)?;
        self.folders.push(path.clone());
        Ok(path)
    }
}

impl Drop for CallGroups {
    fn drop(&mut self) {
        for folder in &self.folders {
            // A just ended process may be counted for a moment still.
            for wait_ms in [0, 1, 5, 20, 50] {
                std::thread::sleep(Duration::from_millis(wait_ms));
                if fs::remove_dir(folder).is_ok() {
                    break;
                }
            }
        }
    }
}

/// The process id in a group's name.
fn owner(name: &str) -> Option<u32> {
    name.strip_prefix(PREFIX)?.split('-').next()?.parse().ok()
}

/// What could be used, best first, from `/proc/self/cgroup` and `/proc/self/mounts`.
fn candidates(own: &str, mounts: &str) -> Vec<Groups> {
    let mut found = Vec::new();
    if let Some(root) = mount_of(mounts, "cgroup2", None) {
        for path in [own_path(own, ""), Some("/")].into_iter().flatten() {
            found.push(Groups::V2(join(&root, path)));
        }
    }
    let v1 = |controller: &str| {
        let root = mount_of(mounts, "cgroup", Some(controller))?;
        Some(join(&root, own_path(own, controller)?))
    };
    if let (Some(memory), Some(pids)) = (v1("memory"), v1("pids")) {
        found.push(Groups::V1 { memory, pids });
    }
    found
}

fn mount_of(mounts: &str, kind: &str, option: Option<&str>) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (path, mounted, options) = (fields.next()?, fields.next()?, fields.next()?);
        let fits = mounted == kind && option.is_none_or(|wanted| options.split(',').any(|option| option == wanted));
        fits.then(|| PathBuf::from(path))
    })
}

/// Our own group of a controller; of version 2 for the empty name.
fn own_path<'a>(own: &'a str, controller: &str) -> Option<&'a str> {
    own.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (names, path) = (fields.next()?, fields.next()?);
        names.split(',').any(|name| name == controller).then_some(path)
    })
}

fn join(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_are_read_from_both_versions() {
        let own = "9:pids:/\n4:memory:/a/b\n0::/user.slice\n";
        let mounts = "cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0\n\
                      cgroup /sys/fs/cgroup/pids cgroup rw,pids 0 0\n\
                      cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        let expected = vec![
            Groups::V2("/sys/fs/cgroup/unified/user.slice".into()),
            Groups::V2("/sys/fs/cgroup/unified/".into()),
            Groups::V1 { memory: "/sys/fs/cgroup/memory/a/b".into(), pids: "/sys/fs/cgroup/pids/".into() },
        ];
        assert_eq!(candidates(own, mounts), expected);
        assert_eq!(candidates("", ""), vec![]);
    }

    #[test]
    fn a_group_names_its_owner() {
        assert_eq!(owner("homarus-12-3"), Some(12));
        assert_eq!(owner("other-12-3"), None);
    }
}
