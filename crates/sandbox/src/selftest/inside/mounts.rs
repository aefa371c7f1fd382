//! The mount table, and namespaces to get a new one.

use std::{fs, io, os::fd::AsRawFd};

use nix::sched::CloneFlags;
use rustix::{
    io::Errno,
    mount::{
        MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind_recursive, mount_change, mount_remount,
        unmount,
    },
};

use super::{Tried, kernel::raw};

const PERM: &[Errno] = &[Errno::PERM];
/// A call that does not exist here for a sandbox, whether the kernel has it or not.
const PERM_OR_NONE: &[Errno] = &[Errno::PERM, Errno::NOSYS];

fn errno<T>(result: rustix::io::Result<T>) -> io::Result<T> {
    result.map_err(io::Error::from)
}

pub fn mounts(tried: &Tried) {
    let flags = MountFlags::empty();
    tried.denied_as("mount a tmpfs", errno(mount("x", "/tmp", "tmpfs", flags, None)), PERM);
    tried.denied_as("mount proc", errno(mount("x", "/tmp", "proc", flags, None)), PERM);
    tried.denied_as("mount a control group", errno(mount("x", "/tmp", "cgroup2", flags, None)), PERM);
    tried.denied_as(
        "mount an overlay of /",
        errno(mount("x", "/tmp", "overlay", flags, Some(c"lowerdir=/:/usr"))),
        PERM,
    );
    tried.denied_as("bind / elsewhere", errno(mount_bind_recursive("/", "/tmp")), PERM);
    tried.denied_as("make /usr writable", errno(mount_remount("/usr", MountFlags::BIND, c"")), PERM);
    tried.denied_as("make /proc writable", errno(mount_remount("/proc", MountFlags::empty(), c"")), PERM);
    tried.denied_as("change propagation", errno(mount_change("/", MountPropagationFlags::SHARED)), PERM);
}

pub fn unmounts(tried: &Tried) {
    for path in ["/tmp", "/proc", "/usr", "/proc/kcore", "."] {
        tried.denied_as(&format!("unmount {path}"), errno(unmount(path, UnmountFlags::DETACH)), PERM);
    }
}

pub fn roots(tried: &Tried) {
    tried.denied_as("pivot_root", errno(rustix::process::pivot_root("/tmp", "/tmp")), PERM);
    tried.denied_as("chroot", errno(rustix::process::chroot("/tmp")), PERM);
}

pub fn new_api(tried: &Tried) {
    for name in ["open_tree", "move_mount", "fsopen", "fsconfig", "fsmount", "fspick", "mount_setattr"] {
        raw(tried, name, 0, PERM);
    }
}

/// Calls newer than the filter's list of names, and one that does not exist.
pub fn unknown_calls(tried: &Tried) {
    for name in ["open_tree_attr", "a call no kernel has yet"] {
        raw(tried, name, 0, &[Errno::NOSYS]);
    }
}

pub fn namespaces(tried: &Tried) {
    for (name, flag) in KINDS {
        let result = nix::sched::unshare(flag).map_err(io::Error::from);
        tried.denied_as(&format!("unshare {name}"), result, PERM);
    }
    raw(tried, "unshare with a high bit", 0, PERM);
}

const KINDS: [(&str, CloneFlags); 7] = [
    ("user", CloneFlags::CLONE_NEWUSER),
    ("mount", CloneFlags::CLONE_NEWNS),
    ("pid", CloneFlags::CLONE_NEWPID),
    ("net", CloneFlags::CLONE_NEWNET),
    ("ipc", CloneFlags::CLONE_NEWIPC),
    ("uts", CloneFlags::CLONE_NEWUTS),
    ("cgroup", CloneFlags::CLONE_NEWCGROUP),
];

pub fn clones(tried: &Tried) {
    for (name, flag) in KINDS {
        let child = homarus_attack::clone(flag.bits());
        reap(&child);
        tried.denied_as(&format!("clone into a new {name} namespace"), child, PERM);
    }
}

pub fn clone3(tried: &Tried) {
    for (name, flag) in [("user", CloneFlags::CLONE_NEWUSER), ("no", CloneFlags::empty())] {
        let child = homarus_attack::clone3(flag.bits());
        reap(&child);
        tried.denied_as(&format!("clone3 into {name} namespace"), child, &[Errno::NOSYS]);
    }
}

fn reap(child: &io::Result<i32>) {
    if let Ok(child) = child {
        // Only to leave no dead child; how it ended says nothing.
        let _ = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(*child), None);
    }
}

pub fn set_namespace(tried: &Tried) {
    for process in ["self", "1"] {
        for name in ["user", "mnt", "net"] {
            let what = format!("enter the {name} namespace of {process}");
            match fs::File::open(format!("/proc/{process}/ns/{name}")) {
                Ok(file) => tried.denied_as(&what, raw_set(file.as_raw_fd()), PERM),
                Err(error) => tried.denied(&what, Err::<(), _>(error)),
            }
        }
    }
}

fn raw_set(fd: i32) -> io::Result<i64> {
    match homarus_attack::find("setns") {
        Some(call) => call.make(fd),
        None => Err(io::Error::other("the call is not in the table")),
    }
}

/// Files by handle lead past every folder and mount.
pub fn handles(tried: &Tried) {
    for name in ["name_to_handle_at", "open_by_handle_at"] {
        raw(tried, name, 0, PERM_OR_NONE);
    }
}
