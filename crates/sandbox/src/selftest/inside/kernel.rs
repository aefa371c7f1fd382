//! Parts of the kernel that a call has no need of: the filter must stop each before it looks at its arguments.

use std::{fs, io, os::fd::AsRawFd};

use rustix::io::Errno;

use super::{Outcome, Tried};

const PERM: &[Errno] = &[Errno::PERM];

/// Makes one call of the table.
pub fn raw(tried: &Tried, name: &str, given: i32, wanted: &[Errno]) {
    match homarus_attack::find(name) {
        Some(call) => tried.denied_as(name, call.make(given), wanted),
        None => tried.untried(name, "this processor has no such call"),
    }
}

fn all(tried: &Tried, names: &[&str]) {
    for name in names {
        raw(tried, name, 0, PERM);
    }
}

pub fn keys(tried: &Tried) {
    all(tried, &["keyctl", "add_key", "request_key"]);
}

pub fn bpf(tried: &Tried) {
    all(tried, &["bpf"]);
}

pub fn perf(tried: &Tried) {
    all(tried, &["perf_event_open"]);
}

pub fn page_faults(tried: &Tried) {
    all(tried, &["userfaultfd"]);
    tried.denied("open /dev/userfaultfd", fs::File::open("/dev/userfaultfd"));
}

pub fn io_uring(tried: &Tried) {
    all(tried, &["io_uring_setup"]);
}

/// On a ring that a careless parent left open, if one came in; else on none: the filter must not care.
pub fn inherited_ring(tried: &Tried) {
    let listing = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let ring = listing
        .filter(|entry| fs::read_link(entry.path()).is_ok_and(|target| target.to_string_lossy().contains("io_uring")))
        .find_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    match ring {
        Some(fd) => tried.through("find the ring", &format!("it came in as descriptor {fd}")),
        None => tried.note("find the ring", Outcome::Denied { how: "none is there".to_owned() }),
    }
    for name in ["io_uring_enter", "io_uring_register"] {
        raw(tried, name, ring.unwrap_or(-1), PERM);
    }
}

pub fn machine(tried: &Tried) {
    all(
        tried,
        &[
            "reboot",
            "kexec_load",
            "init_module",
            "finit_module",
            "delete_module",
            "swapon",
            "swapoff",
            "acct",
            "quotactl",
            "quotactl_fd",
            "syslog",
            "settimeofday",
            "clock_settime",
            "sethostname",
            "setdomainname",
            "fanotify_init",
        ],
    );
    #[cfg(target_arch = "x86_64")]
    all(tried, &["modify_ldt", "iopl"]);
}

/// Standard input is a terminal here.
pub fn typing(tried: &Tried) {
    use std::io::IsTerminal;
    if !io::stdin().is_terminal() {
        return tried.untried("type into the terminal", "standard input is none");
    }
    // To be the one that may type into it; already the leader of a session: no matter.
    let _ = nix::unistd::setsid();
    let _ = rustix::process::ioctl_tiocsctty(io::stdin());
    all(tried, &["TIOCSTI", "TIOCSTI with a high bit", "TIOCLINUX"]);
    tried.denied("open /dev/tty", fs::File::open("/dev/tty"));
}

/// Ends the process where it is stopped: so only the first line is reached.
#[cfg(target_arch = "x86_64")]
pub fn x32(tried: &Tried) {
    ending(tried, "x32 getpid");
}

#[cfg(target_arch = "x86_64")]
pub fn x32_unshare(tried: &Tried) {
    ending(tried, "x32 unshare");
}

#[cfg(target_arch = "x86_64")]
pub fn x32_ptrace(tried: &Tried) {
    ending(tried, "x32 ptrace");
}

#[cfg(target_arch = "x86_64")]
fn ending(tried: &Tried, name: &str) {
    tried.begun(name);
    raw(tried, name, 0, &[]);
}

#[cfg(target_arch = "x86_64")]
pub fn entry_of_32_bit(tried: &Tried) {
    tried.begun("int 0x80");
    tried.denied_as("int 0x80", homarus_attack::getpid_by_32_bit_entry(), &[]);
}

pub fn privileges(tried: &Tried) {
    use rustix::{
        process::{Gid, Uid},
        thread::{
            CapabilitySet, CapabilitySets, set_capabilities, set_no_new_privs, set_thread_res_gid, set_thread_res_uid,
        },
    };
    let errno = |result: rustix::io::Result<()>| result.map_err(io::Error::from);
    tried.denied("switch no_new_privs off", errno(set_no_new_privs(false)));
    let admin = CapabilitySet::SYS_ADMIN | CapabilitySet::SYS_PTRACE;
    let sets = CapabilitySets { effective: admin, permitted: admin, inheritable: admin };
    tried.denied("raise capabilities", errno(set_capabilities(None, sets)));
    let (uid, gid) = (Uid::from_raw(12_345), Gid::from_raw(12_345));
    tried.denied("become another user", errno(set_thread_res_uid(uid, uid, uid)));
    tried.denied("become another group", errno(set_thread_res_gid(gid, gid, gid)));
    tried.denied("join groups", errno(rustix::thread::set_thread_groups(&[Gid::from_raw(4)])));
    tried.denied("become faster", setpriority());
    let more = rustix::process::Rlimit { current: Some(1 << 20), maximum: Some(1 << 20) };
    let raised = rustix::process::setrlimit(rustix::process::Resource::Nofile, more);
    tried.denied("raise a limit", errno(raised));
}

fn setpriority() -> io::Result<()> {
    rustix::process::nice(-10).map(drop).map_err(io::Error::from)
}

/// A descriptor of another process: of process 1, and of a child of our own, which is denied as well.
pub fn descriptors(tried: &Tried) {
    let pid = rustix::process::Pid::from_raw(1);
    match pid.map(|pid| rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())) {
        Some(Ok(fd)) => {
            raw(tried, "pidfd_getfd", fd.as_raw_fd(), PERM);
            let killed = rustix::process::pidfd_send_signal(&fd, rustix::process::Signal::KILL);
            match killed {
                // The kernel takes the signal and drops it: process 1 of a namespace is immune to those in it.
                Ok(()) => tried.confined("kill process 1 by its descriptor", "it is immune"),
                Err(error) => tried.denied("kill process 1 by its descriptor", Err::<(), _>(error.into())),
            }
        }
        Some(Err(error)) => tried.denied("a descriptor of process 1", Err::<(), _>(error.into())),
        None => tried.untried("a descriptor of process 1", "no such number"),
    }
    let driver = rustix::process::Pid::from_raw(tried.place.driver);
    let found =
        driver.map_or(Err(Errno::SRCH), |pid| rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()));
    tried.denied_as("a descriptor of the driver", found.map_err(io::Error::from), &[Errno::SRCH]);
}
