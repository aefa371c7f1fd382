//! The workspace as a call sees it: behind an overlay, parts of it covered. Mostly it is shown before the call comes.

use std::{
    fs,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::mount::{MountFlags, mount, mount_bind, mount_bind_recursive, mount_remount};

use super::{
    covers,
    mounts::{
        MASK_FOLDER, Mounted, beneath, by_descriptor, data, finish, fit_scratch, freeze, make_target, open_old,
        remount_read_only, scratch_folders, show_files,
    },
};
use crate::spec::{AheadSpec, BaseSpec, LayerSpec, StageFailure, Step, WorkspaceSpec};

/// A workspace that is shown before its call is known.
pub struct Ahead {
    /// The folder itself; what of it is covered is looked up with the call.
    source: OwnedFd,
    target: PathBuf,
}

/// Shows what the call is likely to see.
pub fn show_ahead(base: &BaseSpec, ahead: &AheadSpec) -> Result<Ahead, StageFailure> {
    let seen = &ahead.seen;
    fit_scratch(base, base.memory_bytes, seen.run_as)?;
    show_files(&seen.files)?;
    let (source, target) = find_workspace(&seen.source, seen.source_id, &seen.target)?;
    overlay(&source, &ahead.layer, &target)?;
    Ok(Ahead { source, target })
}

/// Leaves the host's tree and freezes what no call writes to. /proc is written to for the call's limits.
pub fn finish_ahead(ahead: &Ahead) -> Result<(), StageFailure> {
    let mut writable = scratch_folders();
    writable.extend([ahead.target.clone(), PathBuf::from("/proc")]);
    finish(&writable)
}

/// Adds what only the call tells, to what was shown ahead, and freezes the rest.
pub fn finish_call(
    base: &BaseSpec,
    ahead: Ahead,
    memory_bytes: u64,
    workspace: &WorkspaceSpec,
) -> Result<Mounted, StageFailure> {
    let Ahead { source, target } = ahead;
    fit_scratch(base, memory_bytes, None)?;
    covers::workspace(workspace, &source, &target)?;
    let mut writable = scratch_folders();
    let seen_as = match workspace.layer {
        Some(_) => {
            writable.push(target);
            "overlay"
        }
        None => {
            remount_read_only(&target)?;
            "read-only"
        }
    };
    freeze(&writable)?;
    Ok(Mounted { workspace: seen_as.to_owned(), direct: false, writable })
}

/// The workspace in the host's tree, and where it is to be seen.
fn find_workspace(source: &Path, id: (u64, u64), target: &Path) -> Result<(OwnedFd, PathBuf), StageFailure> {
    let source = open_old(source)?;
    let found = rustix::fs::fstat(&source).step("workspace", "look at it")?;
    if (found.st_dev, found.st_ino) != id {
        return Err(StageFailure::new("workspace", "is not the folder the host sees there"));
    }
    make_target(target, true)?;
    // As the mount table will have it: `/var/tmp` is a link here.
    let target = fs::canonicalize(target).step("workspace", "find where it is seen")?;
    Ok((source, target))
}

pub fn mount_with_call(
    workspace: &WorkspaceSpec,
    writable: &mut Vec<PathBuf>,
    direct: &mut bool,
) -> Result<String, StageFailure> {
    let (source, target) = find_workspace(&workspace.source, workspace.source_id, &workspace.target)?;
    let seen_as = match &workspace.layer {
        Some(layer) => {
            overlay(&source, layer, &target)?;
            writable.push(target.clone());
            "overlay"
        }
        None => {
            if overlay_read_only(&source, &target).is_err() {
                mount_bind_recursive(by_descriptor(&source), &target).step("workspace", "bind it read-only")?;
                remount_read_only(&target)?;
                *direct = true;
            }
            "read-only"
        }
    };
    for path in &workspace.caches {
        if workspace.layer.is_some() && covers::is_plain_folder(&source, path) {
            let cache = beneath(&source, path).step("workspace", path)?;
            let target = target.join(path);
            mount_bind(by_descriptor(&cache), &target).step("workspace", path)?;
            let flags = MountFlags::BIND | MountFlags::NOSUID | MountFlags::NODEV;
            mount_remount(&target, flags, c"").step("workspace", path)?;
            *direct = true;
            writable.push(target);
        }
    }
    covers::workspace(workspace, &source, &target)?;
    Ok(seen_as.to_owned())
}

fn overlay(source: &OwnedFd, layer: &LayerSpec, target: &Path) -> Result<(), StageFailure> {
    // By descriptor, because option text gives commas and colons of paths a meaning.
    let (upper, work) = (open_old(&layer.upper)?, open_old(&layer.work)?);
    let options = format!(
        "lowerdir={},upperdir={},workdir={},userxattr",
        by_descriptor(source),
        by_descriptor(&upper),
        by_descriptor(&work)
    );
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    // `volatile`: the layer is synced by us, file by file, so its unmounting need not sync the disk.
    let fast = data(&format!("{options},volatile"))?;
    if mount("workspace", target, "overlay", flags, fast.as_c_str()).is_ok() {
        return Ok(());
    }
    mount("workspace", target, "overlay", flags, data(&options)?.as_c_str()).step("overlay", "mount (userxattr)")
}

/// Through an overlay without an upper layer: nothing can be written, and a socket somebody listens on is no longer the
/// one that is found. Below a read-only bind it would be.
pub fn overlay_read_only(source: &OwnedFd, target: &Path) -> Result<(), StageFailure> {
    let options = format!("lowerdir={}:{MASK_FOLDER},userxattr", by_descriptor(source));
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::RDONLY;
    mount("workspace", target, "overlay", flags, data(&options)?.as_c_str()).step("overlay", "mount read-only")
}
