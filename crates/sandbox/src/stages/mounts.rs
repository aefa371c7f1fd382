//! The root a call sees: an empty file system with the system's folders read-only, a fresh /proc,
//! six devices, scratch space, and the workspace behind an overlay.
//!
//! The last step looks at the resulting mount table itself and makes every mount read-only that is
//! not on the short list of writable ones, so that a mount nobody thought of is read-only too.

use std::{
    ffi::CString,
    fs::{self, File, Permissions},
    io,
    os::fd::{AsRawFd, OwnedFd},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use rustix::{
    fs::{CWD, Mode, OFlags, ResolveFlags, openat2},
    io::Errno,
    mount::{
        MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_bind_recursive, mount_change,
        mount_remount, unmount,
    },
};

use super::{covers, init::EXE_INSIDE, workspace};
use crate::spec::{BaseSpec, CallSpec, Show, StageFailure, Step};

pub const HOME: &str = "/run/home";
pub const DEVICES: [&str; 5] = ["null", "zero", "full", "random", "urandom"];
pub const SCRATCH: [&str; 3] = ["/tmp", HOME, "/dev/shm"];
/// With mode, and what part of a call's memory it may take at most.
const SCRATCH_SHARES: [(&str, &str, u64); 3] = [("/tmp", "1777", 2), (HOME, "700", 8), ("/dev/shm", "1777", 8)];

/// Where the host's tree stands until it is unmounted.
const OLD: &str = "/.old";
/// Unreadable things that are bound over what must stay out of reach.
pub(super) const MASK_FOLDER: &str = "/run/masked-folder";
pub(super) const MASK_FILE: &str = "/run/masked-file";
/// Files of /proc that tell about the host, where the kernel has them.
const MASKED_PROC: [&str; 6] = ["kcore", "keys", "timer_list", "sched_debug", "latency_stats", "kmsg"];

/// What a call sees of the host.
pub struct Mounted {
    /// How it sees the workspace.
    pub workspace: String,
    /// Some folder of a user's is there without an overlay between: its sockets could be connected to.
    pub direct: bool,
    /// What stays writable.
    pub writable: Vec<PathBuf>,
}

/// Enters an empty root and shows in it what every call sees. The host's tree is still there.
pub fn base(spec: &BaseSpec) -> Result<(), StageFailure> {
    nix::unistd::sethostname("sandbox").step("uts", "host name")?;
    enter_empty_root()?;
    mount("proc", make_folder("/proc")?, "proc", MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC, None)
        .step("proc", "mount a fresh /proc (is the host's own /proc partly covered?)")?;
    masks()?;
    for name in MASKED_PROC {
        let path = Path::new("/proc").join(name);
        if path.exists() {
            mount_bind(MASK_FILE, &path).step("proc", name)?;
        }
    }
    devices()?;
    scratch(spec.memory_bytes)?;
    make_folder("/var")?;
    std::os::unix::fs::symlink("/tmp", "/var/tmp").step("root", "/var/tmp")?;
    show(&spec.show)?;
    bind_read_only(&spec.exe, Path::new(EXE_INSIDE))
}

/// Adds what is the call's own.
pub fn show_call(base: &BaseSpec, spec: &CallSpec) -> Result<Mounted, StageFailure> {
    fit_scratch(base, spec.limits.memory_bytes, spec.run_as)?;
    show(&spec.show)?;
    let mut direct = false;
    for (source, target) in &spec.readable {
        direct |= bind_foreign(source, target)?;
    }
    covers::hidden(&spec.hidden)?;
    let mut writable = scratch_folders();
    let seen_as = match &spec.workspace {
        Some(workspace) => workspace::mount_with_call(workspace, &mut writable, &mut direct)?,
        None => "none".to_owned(),
    };
    if let Some((source, target)) = &spec.writable {
        let source = open_old(source)?;
        make_target(target, true)?;
        mount_bind(by_descriptor(&source), target).step("mount", "the writable folder")?;
        let flags = MountFlags::BIND | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        mount_remount(target, flags, c"").step("mount", "the writable folder without programs")?;
        writable.push(target.clone());
    }
    Ok(Mounted { workspace: seen_as, direct, writable })
}

/// Leaves the host's tree and freezes all but what is writable.
pub fn finish(writable: &[PathBuf]) -> Result<(), StageFailure> {
    unmount(OLD, UnmountFlags::DETACH).step("mount", "leave the host's tree")?;
    fs::remove_dir(OLD).step("mount", "remove the old root's folder")?;
    // Until now the host's own mounting and unmounting was followed; what is shown stays as it is.
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).step("mount", "make private")?;
    freeze(writable)
}

pub(super) fn scratch_folders() -> Vec<PathBuf> {
    SCRATCH.iter().map(PathBuf::from).collect()
}

pub(super) fn show_files(files: &[(PathBuf, String)]) -> Result<(), StageFailure> {
    for (path, text) in files {
        make_parent(path)?;
        fs::write(path, text).step("root", &path.display().to_string())?;
    }
    Ok(())
}

fn show(show: &Show) -> Result<(), StageFailure> {
    show_files(&show.files)?;
    for (path, target) in &show.links {
        make_parent(path)?;
        std::os::unix::fs::symlink(target, path).step("root", &path.display().to_string())?;
    }
    show.binds.iter().try_for_each(|(source, target)| bind_read_only(source, target))
}

fn enter_empty_root() -> Result<(), StageFailure> {
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
        .step("mount", "make downstream")?;
    let base = ["/tmp", "/mnt", "/run", "/var"]
        .into_iter()
        .find(|path| Path::new(path).is_dir())
        .ok_or_else(|| StageFailure::new("mount", "the host has neither /tmp nor /mnt, /run, /var"))?;
    mount(
        "root",
        base,
        "tmpfs",
        MountFlags::NOSUID | MountFlags::NODEV,
        data("mode=755,size=4m,nr_inodes=4096")?.as_c_str(),
    )
    .step("mount", "mount an empty root")?;
    let old = format!("{base}{OLD}");
    fs::create_dir(&old).step("mount", "make the old root's folder")?;
    rustix::process::pivot_root(base, old.as_str()).step("mount", "pivot_root")?;
    rustix::process::chdir("/").step("mount", "enter the new root")
}

fn masks() -> Result<(), StageFailure> {
    make_folder(MASK_FOLDER)?;
    File::create(MASK_FILE).step("root", MASK_FILE)?;
    for path in [MASK_FOLDER, MASK_FILE] {
        fs::set_permissions(path, Permissions::from_mode(0o000)).step("root", path)?;
    }
    Ok(())
}

fn devices() -> Result<(), StageFailure> {
    make_folder("/dev")?;
    for name in DEVICES {
        let target = format!("/dev/{name}");
        File::create(&target).step("root", &target)?;
        mount_bind(format!("{OLD}/dev/{name}"), &target).step("mount", &target)?;
    }
    for (name, target) in [("fd", "fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")] {
        std::os::unix::fs::symlink(format!("/proc/self/{target}"), format!("/dev/{name}")).step("root", name)?;
    }
    Ok(())
}

/// Scratch space counts as memory of the call, so its size is bounded by a part of that.
fn scratch(memory_bytes: u64) -> Result<(), StageFailure> {
    for (path, mode, share) in SCRATCH_SHARES {
        let options = data(&format!("mode={mode},{}", scratch_size(memory_bytes, share)))?;
        mount("scratch", make_folder(path)?, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, options.as_c_str())
            .step("mount", path)?;
    }
    Ok(())
}

fn scratch_size(memory_bytes: u64, share: u64) -> String {
    format!("size={},nr_inodes=100000", (memory_bytes / share).max(1 << 20))
}

/// Makes it this call's own: its size, its owner.
pub(super) fn fit_scratch(base: &BaseSpec, memory_bytes: u64, run_as: Option<(u32, u32)>) -> Result<(), StageFailure> {
    for (path, _, share) in SCRATCH_SHARES {
        if memory_bytes != base.memory_bytes {
            let size = data(&scratch_size(memory_bytes, share))?;
            mount_remount(path, MountFlags::NOSUID | MountFlags::NODEV, size.as_c_str()).step("mount", path)?;
        }
        if let Some((uid, gid)) = run_as {
            std::os::unix::fs::chown(path, Some(uid), Some(gid)).step("mount", path)?;
        }
    }
    Ok(())
}

/// Something a user wants shown. `true`: it had to be bound directly, because other file systems are mounted in it
/// or its own cannot lie under an overlay.
fn bind_foreign(source: &Path, target: &Path) -> Result<bool, StageFailure> {
    let old = in_old(source);
    if !old.is_dir() {
        bind_read_only(source, target)?;
        return Ok(false);
    }
    let table = fs::read_to_string("/proc/self/mountinfo").step("mount", "read the mount table")?;
    if table.lines().filter_map(mount_line).any(|(path, _)| path != old && path.starts_with(&old)) {
        bind_read_only(source, target)?;
        return Ok(true);
    }
    make_target(target, true)?;
    if workspace::overlay_read_only(&open_old(source)?, target).is_ok() {
        return Ok(false);
    }
    bind_read_only(source, target)?;
    Ok(true)
}

fn bind_read_only(source: &Path, target: &Path) -> Result<(), StageFailure> {
    let source = in_old(source);
    let what = target.display().to_string();
    make_target(target, source.is_dir())?;
    mount_bind_recursive(&source, target).step("mount", &what)?;
    remount_read_only(target)
}

/// Of the mount that is on top at this path. Flags the host has set must be kept, or it is refused.
pub(super) fn remount_read_only(target: &Path) -> Result<(), StageFailure> {
    let now = rustix::fs::statvfs(target).step("mount", "statvfs")?.f_flag;
    let mut flags = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID;
    for (seen, flag) in [
        (rustix::fs::StatVfsMountFlags::NODEV, MountFlags::NODEV),
        (rustix::fs::StatVfsMountFlags::NOEXEC, MountFlags::NOEXEC),
    ] {
        flags.set(flag, now.contains(seen));
    }
    freeze_one(target, flags)
}

/// The kernel refuses while anybody writes there, if only the time of an access: that is over in a moment.
fn freeze_one(target: &Path, flags: MountFlags) -> Result<(), StageFailure> {
    const TRIES_MAX: u32 = 100;
    for _ in 1..TRIES_MAX {
        match mount_remount(target, flags, c"") {
            Err(Errno::BUSY) => thread::sleep(Duration::from_millis(1)),
            Err(Errno::INTR) => {}
            other => return other.step("mount", &format!("make {} read-only", target.display())),
        }
    }
    Err(StageFailure::new("mount", format!("make {} read-only: somebody keeps writing there", target.display())))
}

/// Makes every mount read-only that is not listed, and checks that it now is.
pub(super) fn freeze(writable: &[PathBuf]) -> Result<(), StageFailure> {
    let table = fs::read_to_string("/proc/self/mountinfo").step("mount", "read the mount table")?;
    for (path, options) in table.lines().filter_map(mount_line) {
        if writable.contains(&path) || options.split(',').any(|option| option == "ro") {
            continue;
        }
        let mut flags = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID;
        flags.set(MountFlags::NODEV, options.split(',').any(|option| option == "nodev"));
        flags.set(MountFlags::NOEXEC, options.split(',').any(|option| option == "noexec"));
        freeze_one(&path, flags)?;
    }
    Ok(())
}

/// Mount point and mount options of a line of `mountinfo`.
fn mount_line(line: &str) -> Option<(PathBuf, &str)> {
    let mut fields = line.split(' ').skip(4);
    let path = unescape(fields.next()?);
    Some((PathBuf::from(path), fields.next()?))
}

/// `mountinfo` writes blank, tab, newline and backslash as three octal digits.
fn unescape(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let octal = (*first == b'\\')
            .then(|| after.get(..3).and_then(|digits| u8::from_str_radix(str::from_utf8(digits).ok()?, 8).ok()))
            .flatten();
        out.push(octal.unwrap_or(*first));
        rest = if octal.is_some() { &after[3..] } else { after };
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn in_old(path: &Path) -> PathBuf {
    Path::new(OLD).join(path.strip_prefix("/").unwrap_or(path))
}

pub(super) fn open_old(path: &Path) -> Result<OwnedFd, StageFailure> {
    let old = rustix::fs::openat(CWD, OLD, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).step("mount", OLD)?;
    beneath(&old, path.strip_prefix("/").unwrap_or(path)).step("workspace", &path.display().to_string())
}

pub(super) fn beneath(folder: &OwnedFd, path: impl rustix::path::Arg) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(openat2(folder, path, flags, Mode::empty(), ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS)?)
}

pub(super) fn by_descriptor(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

fn make_folder(path: &str) -> Result<&str, StageFailure> {
    fs::create_dir_all(path).step("root", path)?;
    Ok(path)
}

fn make_parent(path: &Path) -> Result<(), StageFailure> {
    match path.parent() {
        Some(parent) => fs::create_dir_all(parent).step("root", &parent.display().to_string()),
        None => Ok(()),
    }
}

/// Something to mount on. Below a read-only bind it exists already, as on the host.
pub(super) fn make_target(target: &Path, folder: bool) -> Result<(), StageFailure> {
    let what = target.display().to_string();
    if folder {
        return fs::create_dir_all(target).step("root", &what);
    }
    make_parent(target)?;
    if !target.exists() {
        File::create(target).step("root", &what)?;
    }
    Ok(())
}

pub(super) fn data(text: &str) -> Result<CString, StageFailure> {
    CString::new(text).step("mount", "options")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_lines_are_read_with_their_escapes() {
        let line = r"36 35 98:0 /a /mnt/a\040b\134c rw,nodev,relatime shared:1 - ext4 /dev/x rw";
        assert_eq!(mount_line(line), Some((PathBuf::from(r"/mnt/a b\c"), "rw,nodev,relatime")));
        assert_eq!(mount_line("36 35"), None);
    }
}
