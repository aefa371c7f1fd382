//! Small disks of a test's own, in a mount namespace that nobody else sees.

use std::{
    ffi::CStr,
    path::{Path, PathBuf},
    process::Command,
};

use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};

/// On a thread of its own, which may mount what nobody else sees; not for ordinary users.
pub fn apart(check: impl FnOnce() + Send + 'static) {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: this user cannot mount a disk");
        return;
    }
    let done = std::thread::spawn(move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
        check();
    });
    if let Err(panic) = done.join() {
        std::panic::resume_unwind(panic);
    }
}

/// In memory.
pub fn small_disk(at: &Path, options: &CStr) {
    std::fs::create_dir_all(at).unwrap();
    mount("test", at, "tmpfs", MountFlags::empty(), options).unwrap();
}

/// A real file system on an image.
pub fn mount_image(image: &Path, at: &Path, options: &str) {
    std::fs::create_dir_all(at).unwrap();
    let options = format!("loop,{options}");
    run(Command::new("mount").args(["-t", "ext4", "-o", &options]).arg(image).arg(at));
}

/// Unmounts when it is dropped, should the test end before it did so: a disk that is served by this process must not
/// go before the file system on it.
pub struct Mounted(pub PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        // Mostly it is unmounted already.
        let _ = Command::new("umount").arg(&self.0).output();
    }
}

pub fn unmount(at: &Path) {
    run(Command::new("umount").arg(at));
}

pub fn run(command: &mut Command) {
    let done = command.output().unwrap();
    assert!(done.status.success(), "{command:?}: {done:?}");
}
