//! Writing where it must not be possible, and leaving traps in the workspace for what comes later.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use rustix::fs::{AtFlags, CWD, Mode, XattrFlags};

use super::{Outcome, Tried, errno};

/// What attacks write, so that the host can look for it.
pub const LOOT: &str = "written by the attack";
/// Names of files that must appear nowhere.
pub const MARK: &str = "homarus-selftest-mark";
const SWAPS: u32 = 3000;
/// `cap_sys_admin` and all others, permitted and effective.
const ALL_CAPABILITIES: &[u8] = b"\x01\0\0\x02\xff\xff\xff\xff\0\0\0\0\xff\xff\xff\xff\0\0\0\0";

fn overwrite(path: impl AsRef<Path>) -> io::Result<()> {
    use io::Write;
    OpenOptions::new().write(true).truncate(true).open(path)?.write_all(LOOT.as_bytes())
}

fn canary(tried: &Tried) -> PathBuf {
    tried.place.outside.join("canary")
}

pub fn outside(tried: &Tried) {
    tried.denied("overwrite a file", overwrite(canary(tried)));
    tried.denied("make a file", fs::write(tried.place.outside.join(MARK), LOOT).and_then(|()| visible(tried)));
    tried.denied("remove a file", fs::remove_file(tried.place.outside.join("other")));
}

/// Scratch space may hold a folder of the same name; then it is not the host's.
fn visible(tried: &Tried) -> io::Result<()> {
    fs::metadata(canary(tried)).map(drop)
}

pub fn system(tried: &Tried) {
    for folder in
        ["/", "/usr", "/usr/bin", "/usr/lib", "/etc", "/dev", "/run", "/var", "/proc", "/home", "/root", "/sys"]
    {
        tried.denied(&format!("write in {folder}"), fs::write(Path::new(folder).join(MARK), LOOT));
    }
    tried.denied("change the mode of /usr", fs::set_permissions("/usr", fs::Permissions::from_mode(0o777)));
    tried.denied("overwrite /etc/passwd", OpenOptions::new().append(true).open("/etc/passwd"));
    tried.denied("overwrite our own program", OpenOptions::new().append(true).open("/proc/self/exe"));
}

pub fn dot_dot(tried: &Tried) {
    let Some(name) = tried.place.outside.file_name() else { return tried.untried("..", "no name") };
    tried.denied("by ..", overwrite(Path::new("..").join(name).join("canary")));
    tried.denied("by many ..", overwrite(climb(&canary(tried))));
}

/// The path from the root, reached by going up from here.
fn climb(path: &Path) -> PathBuf {
    Path::new(&"../".repeat(40)).join(path.strip_prefix("/").unwrap_or(path))
}

pub fn by_symlink(tried: &Tried) {
    let made = symlink(canary(tried), "link").and_then(|()| symlink(&tried.place.outside, "folder-link"));
    if let Err(error) = made {
        return tried.untried("make a symbolic link", error);
    }
    tried.denied("write through a link", overwrite("link"));
    tried.denied("write through a folder's link", overwrite("folder-link/canary"));
    tried.denied("write through a link that was there", overwrite("planted-link"));
}

pub fn by_hardlink(tried: &Tried) {
    let linked = rustix::fs::linkat(CWD, canary(tried), CWD, "hard", AtFlags::empty()).map_err(io::Error::from);
    tried.denied("link a file of the host", linked.and_then(|()| overwrite("hard")));
    let linked = rustix::fs::linkat(CWD, "/proc/self/exe", CWD, "hard-exe", AtFlags::SYMLINK_FOLLOW);
    tried.denied("link our own program", linked.map_err(io::Error::from));
}

pub fn by_rename(tried: &Tried) {
    if let Err(error) = fs::write("loot", LOOT) {
        return tried.untried("write in the workspace", error);
    }
    tried.denied("move a file out", fs::rename("loot", canary(tried)));
    tried.denied("move a file in", fs::rename(canary(tried), "taken"));
    tried.denied("move a file out by ..", fs::rename("loot", climb(&canary(tried))));
}

/// One thread swaps a folder for a link out of the workspace while this one writes through it.
pub fn by_swap(tried: &Tried) {
    let prepared = fs::create_dir_all("swap/real")
        .and_then(|()| symlink(&tried.place.outside, "swap/evil"))
        .and_then(|()| fs::rename("swap/real", "swap/now"))
        .and_then(|()| fs::write("swap/now/canary", "inside"));
    if let Err(error) = prepared {
        return tried.untried("prepare the swap", error);
    }
    let done = AtomicBool::new(false);
    let mut hits = 0u32;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let _ = fs::rename("swap/now", "swap/real-away");
                let _ = fs::rename("swap/evil", "swap/now");
                let _ = fs::rename("swap/now", "swap/evil");
                let _ = fs::rename("swap/real-away", "swap/now");
            }
        });
        for _ in 0..SWAPS {
            hits += u32::from(overwrite("swap/now/canary").is_ok());
            if tried.place.control && fs::read_to_string(canary(tried)).is_ok_and(|text| text == LOOT) {
                break;
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    let reached = fs::read_to_string(canary(tried)).is_ok_and(|text| text == LOOT);
    match reached {
        true => tried.through("write while the path is swapped", "the file outside was overwritten"),
        false => tried.note(
            "write while the path is swapped",
            Outcome::Denied { how: format!("{SWAPS} writes, {hits} of them in the workspace, none outside") },
        ),
    }
    // What a merge would have to follow: a folder of the workspace that is a link out of it now.
    let planted = fs::remove_dir_all("dir").and_then(|()| symlink(&tried.place.outside, "dir"));
    if planted.is_ok() {
        tried.confined("leave a link where a folder was", "in the layer");
    }
}

pub fn by_proc(tried: &Tried) {
    for way in ["/proc/self/root", "/proc/1/root", "/proc/1/cwd", "/proc/self/cwd/../../../.."] {
        let path = Path::new(way).join(canary(tried).strip_prefix("/").unwrap_or(Path::new("canary")));
        tried.denied(&format!("by {way}"), overwrite(path));
    }
    let path = format!("/proc/{}/root{}", tried.place.driver, canary(tried).display());
    tried.denied("by the driver's root", overwrite(path));
}

/// Descriptors besides the standard three, with what each leads to.
fn others() -> Vec<(i32, PathBuf)> {
    let listing = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let mut found: Vec<(i32, PathBuf)> = listing
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, fs::read_link(entry.path()).ok()?)))
        .filter(|(fd, target): &(i32, PathBuf)| *fd > 2 && !target.ends_with("fd"))
        .collect();
    found.sort();
    found
}

pub fn by_descriptor(tried: &Tried) {
    let mut found = others();
    if tried.place.control {
        // Outside the sandbox also what the user's shell has open is there, and no business of ours.
        let ours = tried.place.outside.canonicalize().unwrap_or_else(|_| tried.place.outside.clone());
        found.retain(|(_, target)| target.starts_with(&ours));
    }
    if found.is_empty() {
        return tried.note("look for descriptors", Outcome::Denied { how: "none is there".to_owned() });
    }
    for (fd, target) in found {
        let path = format!("/proc/self/fd/{fd}");
        let what = format!("use descriptor {fd}, {}", target.display());
        let written = overwrite(&path).or_else(|_| overwrite(Path::new(&path).join("canary")));
        match written {
            Ok(()) => tried.through(&what, "was written to"),
            Err(error) => tried.through(&what, &format!("is there, though not to be written to: {}", errno(&error))),
        }
    }
}

/// What other programs obey, where there was nothing yet. The host looks whether it could be merged.
pub fn new_protected(tried: &Tried) {
    let files = [
        ".bashrc",
        ".profile",
        ".ssh/authorized_keys",
        ".config/git/config",
        ".config/autostart/x.desktop",
        "sub/.git/hooks/pre-commit",
        "sub/.git/config",
    ];
    for path in files {
        let made = Path::new(path).parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(path, LOOT));
        match made {
            Ok(()) => tried.confined(path, "in the layer"),
            Err(error) => tried.note(path, Outcome::Denied { how: errno(&error) }),
        }
    }
    match fs::create_dir("other").and_then(|()| fs::write("other/.git", "gitdir: /tmp/evil\n")) {
        Ok(()) => tried.confined("other/.git", "in the layer"),
        Err(error) => tried.note("other/.git", Outcome::Denied { how: errno(&error) }),
    }
}

pub fn old_protected(tried: &Tried) {
    tried.denied("append to .git/config", OpenOptions::new().append(true).open(".git/config"));
    tried.denied("make a hook", fs::write(".git/hooks/pre-commit", LOOT));
    tried.denied("remove .git/config", fs::remove_file(".git/config"));
    tried.denied("move the hooks away", fs::rename(".git/hooks", "hooks"));
    tried.denied("write in .aws", fs::write(".aws/credentials", LOOT));
    tried.denied("remove .aws", fs::remove_dir_all(".aws"));
    tried.denied("move .aws away", fs::rename(".aws", "aws"));
}

/// The overlay's own marks, forged: they must not lead the overlay, or the diff, anywhere else.
pub fn forged_overlay(tried: &Tried) {
    if let Err(error) = fs::write("forged", "x").and_then(|()| fs::create_dir("forged-dir")) {
        return tried.untried("write in the workspace", error);
    }
    let outside = format!("{}\0", canary(tried).display());
    for (path, name, value) in [
        ("forged", "user.overlay.redirect", outside.as_bytes()),
        ("forged", "user.overlay.metacopy", b"".as_slice()),
        ("forged", "user.overlay.origin", b"\0\xfb\x21".as_slice()),
        ("forged-dir", "user.overlay.redirect", b"/.git/hooks".as_slice()),
        ("forged-dir", "user.overlay.opaque", b"y".as_slice()),
        ("forged", "trusted.overlay.redirect", outside.as_bytes()),
        ("forged", "security.capability", b"\x01\0\0\x02\xff\xff\xff\xff\0\0\0\0\xff\xff\xff\xff\0\0\0\0".as_slice()),
    ] {
        match rustix::fs::setxattr(path, name, value, XattrFlags::empty()) {
            Err(error) => tried.note(&format!("set {name}"), Outcome::Denied { how: errno(&error.into()) }),
            Ok(()) => tried.confined(&format!("set {name}"), "in the layer, where it means nothing"),
        }
    }
    let read = fs::read_to_string("forged").unwrap_or_default();
    match read == "x" && fs::read_dir("forged-dir").is_ok_and(|mut entries| entries.next().is_none()) {
        true => tried.confined("read them back", "nothing else is seen"),
        false => tried.through("read them back", "the overlay followed the forged marks"),
    }
}

pub fn leave_overlay(tried: &Tried) {
    let layers = tried.place.state.join("layers");
    tried.denied("find the layers", fs::read_dir(layers));
    tried.denied(
        "take the workspace off",
        rustix::mount::unmount(".", rustix::mount::UnmountFlags::DETACH).map_err(Into::into),
    );
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let upper = table.lines().filter_map(|line| line.split(" - overlay ").nth(1)).filter_map(|rest| {
        rest.split(',').find_map(|option| option.trim().strip_prefix("upperdir=").map(str::to_owned))
    });
    for path in upper {
        tried.denied(
            &format!("write to the upper folder the mount table names, {path}"),
            fs::write(Path::new(&path).join(MARK), LOOT),
        );
    }
}

/// A program that would run as its owner, or with a capability, were it merged or run.
pub fn set_user_id(tried: &Tried) {
    const PROGRAM: &str = "#!/bin/sh\nid\n";
    if let Err(error) = fs::write("tool", PROGRAM).and_then(|()| fs::write("/tmp/tool", PROGRAM)) {
        return tried.untried("write a program", error);
    }
    for path in ["tool", "/tmp/tool"] {
        match fs::set_permissions(path, fs::Permissions::from_mode(0o6755)) {
            Ok(()) => tried.confined(&format!("make {path} set-user-id"), "on a mount that ignores it"),
            Err(error) => tried.note(&format!("make {path} set-user-id"), Outcome::Denied { how: errno(&error) }),
        }
        let flags = rustix::fs::statvfs(path).map(|found| found.f_flag.contains(rustix::fs::StatVfsMountFlags::NOSUID));
        match flags {
            Ok(true) => tried.note(&format!("run {path}"), Outcome::Denied { how: "nosuid".to_owned() }),
            _ => tried.through(&format!("run {path}"), "the mount obeys set-user-id bits"),
        }
    }
    let set = rustix::fs::setxattr("tool", "security.capability", ALL_CAPABILITIES, XattrFlags::empty());
    tried.denied("give a program capabilities", set.map_err(io::Error::from));
}

/// A cache folder is the host's own: there is no layer between, and no diff that could refuse it.
pub fn set_user_id_in_cache(tried: &Tried) {
    use rustix::fs::{OFlags, ResolveFlags, open, openat2};
    let mode = Mode::from_raw_mode(0o4755);
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
    let errno = |result: rustix::io::Result<_>| result.map(drop).map_err(io::Error::from);
    if let Err(error) = fs::write("target/tool", LOOT) {
        return tried.untried("write in the cache folder", error);
    }
    tried.denied("chmod", fs::set_permissions("target/tool", fs::Permissions::from_mode(0o4755)));
    tried.denied("chmod, set-group-id", fs::set_permissions("target/tool", fs::Permissions::from_mode(0o2755)));
    let opened = File::open("target/tool").and_then(|file| file.set_permissions(fs::Permissions::from_mode(0o4755)));
    tried.denied("fchmod", opened);
    tried.denied("open", errno(open("target/tool-1", flags, mode)));
    tried.denied("openat2", errno(openat2(CWD, "target/tool-2", flags, mode, ResolveFlags::empty())));
    let made = rustix::fs::mknodat(CWD, "target/tool-3", rustix::fs::FileType::RegularFile, mode, 0);
    tried.denied("mknod", made.map_err(io::Error::from));
    let set = rustix::fs::setxattr("target/tool", "security.capability", ALL_CAPABILITIES, XattrFlags::empty());
    tried.denied("give a program capabilities", set.map_err(io::Error::from));
}

/// Every mount must ignore set-user-id bits and devices must be the six there are.
pub fn mount_table(tried: &Tried) {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut loose = 0;
    for line in table.lines() {
        let mut fields = line.split(' ').skip(4);
        let (Some(path), Some(options)) = (fields.next(), fields.next()) else { continue };
        let has = |wanted: &str| options.split(',').any(|option| option == wanted);
        let scratch =
            ["/tmp", "/run/home", "/dev/shm"].contains(&path) || Path::new(path).starts_with(&tried.place.workspace);
        if !has("nosuid") {
            loose += 1;
            tried.through(&format!("a set-user-id program on {path}"), "the mount is not `nosuid`");
        }
        if !has("ro") && !scratch {
            loose += 1;
            tried.through(&format!("write on {path}"), "the mount is writable");
        }
    }
    if loose == 0 {
        tried.note("find a loose mount", Outcome::Denied { how: format!("none of {}", table.lines().count()) });
    }
}

pub fn device_nodes(tried: &Tried) {
    use rustix::fs::{FileType, makedev, mknodat};
    let mode = Mode::from_raw_mode(0o666);
    for (what, kind, device) in [
        ("memory (1:1)", FileType::CharacterDevice, makedev(1, 1)),
        ("null (1:3)", FileType::CharacterDevice, makedev(1, 3)),
        ("a disk (8:0)", FileType::BlockDevice, makedev(8, 0)),
        ("a whiteout (0:0)", FileType::CharacterDevice, makedev(0, 0)),
    ] {
        // A control leaves the machine's own folders alone.
        let folders: &[&str] = if tried.place.control { &["."] } else { &[".", "/tmp"] };
        for folder in folders {
            let path = Path::new(folder).join(MARK);
            let made = mknodat(CWD, &path, kind, mode, device).map_err(io::Error::from);
            if made.is_ok() {
                let _ = fs::remove_file(&path);
            }
            tried.denied(&format!("{what} in {folder}"), made);
        }
    }
}

pub fn devices(tried: &Tried) {
    for path in [
        "/dev/mem",
        "/dev/kmsg",
        "/dev/kvm",
        "/dev/fuse",
        "/dev/net/tun",
        "/dev/sda",
        "/dev/vda",
        "/dev/tty",
        "/dev/console",
        "/dev/ptmx",
    ] {
        tried.denied(&format!("open {path}"), File::open(path));
    }
}
