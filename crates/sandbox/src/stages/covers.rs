//! What of the workspace, and of what else is shown, a call may not change, and what it may not even read. A part that is there
//! by way of a link is covered where the link leads.

use std::{
    fs, io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FileType, Mode, OFlags, ResolveFlags, openat2},
    io::Errno,
    mount::mount_bind,
};

use super::mounts::{MASK_FILE, MASK_FOLDER, remount_read_only};
use crate::spec::{StageFailure, Step, WorkspaceSpec};

/// `source`: the workspace itself. Parts are looked up there, and not through the overlay, where each lookup is two; the layer
/// is empty still. `seen`: where it is seen, without a link on the way.
pub fn workspace(workspace: &WorkspaceSpec, source: &OwnedFd, seen: &Path) -> Result<(), StageFailure> {
    for path in &workspace.fixed {
        if let Some((path, _)) = part(source, seen, path)? {
            mount_bind(&path, &path).step("workspace", "make a part read-only")?;
            remount_read_only(&path)?;
        }
    }
    for path in &workspace.secret {
        // What lies in something covered is out of sight with it.
        if let Some((path, is_folder)) = part(source, seen, path)?.filter(|(path, _)| is_there(path)) {
            cover(&path, is_folder)?;
        }
    }
    Ok(())
}

/// Paths in what is shown besides the workspace.
pub fn hidden(paths: &[PathBuf]) -> Result<(), StageFailure> {
    for path in paths {
        match fs::symlink_metadata(path) {
            Ok(meta) => cover(path, meta.is_dir())?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(StageFailure::new("mount", format!("{}: {error}", path.display()))),
        }
    }
    Ok(())
}

/// Whether a folder of the workspace is there, with no link on the way.
pub fn is_plain_folder(source: &OwnedFd, relative: &str) -> bool {
    found(source, relative) == Ok(true)
}

fn is_there(path: &Path) -> bool {
    !matches!(fs::symlink_metadata(path), Err(error) if error.kind() == io::ErrorKind::NotFound)
}

fn cover(path: &Path, is_folder: bool) -> Result<(), StageFailure> {
    let mask = if is_folder { MASK_FOLDER } else { MASK_FILE };
    mount_bind(mask, path).step("workspace", "cover a secret")
}

/// Where a part is seen, and whether it is a folder; `None` if there is none in the workspace.
fn part(source: &OwnedFd, seen: &Path, relative: &str) -> Result<Option<(PathBuf, bool)>, StageFailure> {
    match found(source, relative) {
        Ok(is_folder) => Ok(Some((seen.join(relative), is_folder))),
        // What it leads to outside of the workspace is not shown, or shown because a user asked for it.
        Err(Errno::LOOP) => match fs::canonicalize(seen.join(relative)) {
            Ok(real) if real == seen => {
                Err(StageFailure::new("workspace", format!("`{relative}` in it is a link to all of it")))
            }
            Ok(real) if real.starts_with(seen) => {
                let is_folder = real.is_dir();
                Ok(Some((real, is_folder)))
            }
            _ => Ok(None),
        },
        Err(_) => Ok(None),
    }
}

/// Whether it is a folder; an error if it is not there, or there is a link on the way.
fn found(folder: &OwnedFd, relative: &str) -> Result<bool, Errno> {
    let inside = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let found = openat2(folder, relative, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), inside)?;
    Ok(FileType::from_raw_mode(rustix::fs::fstat(&found)?.st_mode) == FileType::Directory)
}
