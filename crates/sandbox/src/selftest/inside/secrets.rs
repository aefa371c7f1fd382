//! Reading what is none of a call's business, and the kernel's switches.

use std::{fs, io, path::Path};

use super::{Outcome, Tried};

pub fn files(tried: &Tried) {
    for path in
        ["/etc/shadow", "/etc/gshadow", "/etc/sudoers", "/etc/machine-id", "/proc/kcore", "/proc/keys", "/proc/kmsg"]
    {
        tried.denied(&format!("read {path}"), fs::File::open(path));
    }
    for path in ["/root", "/home", "/boot", "/sys/kernel", "/sys/fs/cgroup", "/var/log", "/var/lib"] {
        tried.denied(&format!("list {path}"), fs::read_dir(path));
    }
}

/// The journal's folder, where keys and what other runs saw lie.
pub fn state(tried: &Tried) {
    tried.denied("read the state", fs::read(tried.place.state.join("secret")));
    tried.denied("list the state", fs::read_dir(&tried.place.state));
}

pub fn workspace(tried: &Tried) {
    for path in [".ssh/id_ed25519", ".aws/credentials", ".netrc", ".bashrc"] {
        tried.denied(&format!("read {path}"), fs::read(path));
    }
    tried.denied("read by /proc/self/cwd", fs::read("/proc/self/cwd/.netrc"));
}

/// Every process there is but this one.
fn processes() -> Vec<String> {
    let own = std::process::id().to_string();
    let listing = fs::read_dir("/proc").into_iter().flatten().flatten();
    let names = listing.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()) && *name != own).collect()
}

pub fn environments(tried: &Tried) {
    look_into(tried, &["environ", "auxv", "maps"]);
    tried.denied("the driver's environment", fs::read(format!("/proc/{}/environ", tried.place.driver)));
    let own: Vec<String> = environment_names();
    let expected = ["HOME", "LANG", "PATH", "TERM", "TMPDIR"];
    match own.iter().find(|name| !expected.contains(&name.as_str())) {
        None => tried.note("variables of our own", Outcome::Denied { how: "only what the sandbox sets".to_owned() }),
        Some(name) => tried.through("variables of our own", &format!("{name} came in")),
    }
}

/// Read as a file, since it is this process's own that is asked for.
fn environment_names() -> Vec<String> {
    let text = fs::read("/proc/self/environ").unwrap_or_default();
    let entries = text.split(|byte| *byte == 0).filter(|entry| !entry.is_empty());
    entries.map(|entry| String::from_utf8_lossy(entry).split('=').next().unwrap_or_default().to_owned()).collect()
}

pub fn memory(tried: &Tried) {
    look_into(tried, &["mem", "stack", "syscall"]);
    tried.denied("the driver's memory", fs::File::open(format!("/proc/{}/mem", tried.place.driver)));
}

pub fn links(tried: &Tried) {
    for process in processes() {
        for name in ["root", "cwd", "exe"] {
            tried.denied(&format!("/proc/{process}/{name}"), fs::read_link(format!("/proc/{process}/{name}")));
        }
        // Numbers alone may be seen; what they lead to may not.
        for name in ["fd", "map_files"] {
            let folder = format!("/proc/{process}/{name}");
            let reached = fs::read_dir(&folder).and_then(|entries| {
                let mut links = entries.flatten().map(|entry| fs::read_link(entry.path()));
                links.find(Result::is_ok).unwrap_or_else(|| Err(rustix::io::Errno::ACCESS.into()))
            });
            tried.denied(&folder, reached);
        }
    }
}

/// Inside, these are only the sandbox's own first process; outside, at least the one that started this.
fn look_into(tried: &Tried, names: &[&str]) {
    let all = processes();
    if all.is_empty() {
        return tried.untried("other processes", "none is seen");
    }
    for process in all.iter().take(64) {
        for name in names {
            let read = fs::File::open(format!("/proc/{process}/{name}")).and_then(|mut file| {
                let mut some = [0u8; 16];
                io::Read::read(&mut file, &mut some).map(drop)
            });
            tried.denied(&format!("/proc/{process}/{name}"), read);
        }
    }
}

/// Writes the value that is there already: a success is seen by what the call answers, and harms nothing.
fn rewrite(path: impl AsRef<Path>) -> io::Result<()> {
    let now = fs::read(&path)?;
    fs::OpenOptions::new().write(true).open(path).and_then(|mut file| io::Write::write_all(&mut file, &now))
}

pub fn switches(tried: &Tried) {
    for name in [
        "kernel/hostname",
        "kernel/modprobe",
        "kernel/randomize_va_space",
        "kernel/pid_max",
        "kernel/shmmax",
        "vm/swappiness",
        "vm/overcommit_memory",
        "fs/protected_symlinks",
        "fs/mqueue/queues_max",
        "user/max_user_namespaces",
        "net/ipv4/ip_forward",
    ] {
        tried.denied(name, rewrite(Path::new("/proc/sys").join(name)));
    }
}

pub fn core_pattern(tried: &Tried) {
    tried.denied("rewrite core_pattern", rewrite("/proc/sys/kernel/core_pattern"));
    let file = fs::OpenOptions::new().write(true).open("/proc/sys/kernel/core_pattern");
    tried.denied("open core_pattern", file);
}

/// Opened, never written to.
pub fn sysrq(tried: &Tried) {
    tried.denied("open sysrq-trigger", fs::OpenOptions::new().write(true).open("/proc/sysrq-trigger"));
    tried.denied("rewrite kernel/sysrq", rewrite("/proc/sys/kernel/sysrq"));
}

pub fn release_agent(tried: &Tried) {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let groups = table.lines().filter(|line| line.contains(" - cgroup"));
    let mut seen = 0;
    for path in groups.filter_map(|line| line.split(' ').nth(4)) {
        seen += 1;
        for name in ["release_agent", "notify_on_release", "cgroup.procs"] {
            let file = fs::OpenOptions::new().write(true).open(Path::new(path).join(name));
            tried.denied(&format!("open {path}/{name}"), file);
        }
    }
    if seen == 0 {
        tried.note("find a control group", Outcome::Denied { how: "none is mounted".to_owned() });
    }
    for path in ["/sys/fs/cgroup/release_agent", "/sys/fs/cgroup/memory/release_agent", "/sys/kernel/uevent_helper"] {
        tried.denied(&format!("open {path}"), fs::OpenOptions::new().write(true).open(path));
    }
}

pub fn other_switches(tried: &Tried) {
    tried.denied("a lower oom_score_adj", fs::write("/proc/self/oom_score_adj", "-1000"));
    if !tried.place.control {
        tried.denied("oom_score_adj of process 1", fs::write("/proc/1/oom_score_adj", "1000"));
    }
    for path in ["/proc/irq/default_smp_affinity", "/proc/mtrr", "/proc/acpi/wakeup", "/proc/fs/xfs/stat"] {
        tried.denied(&format!("open {path}"), fs::OpenOptions::new().write(true).open(path));
    }
    for name in ["uid_map", "gid_map", "setgroups", "projid_map"] {
        let path = format!("/proc/self/{name}");
        tried.denied(&format!("write {name}"), fs::write(path, "0 0 4294967295"));
    }
}
