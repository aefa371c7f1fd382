//! Layers: what a call wrote, read and merged by trusted host code after the call is dead.

use std::{
    ffi::CStr,
    fs::{self, Permissions},
    io,
    os::{
        fd::OwnedFd,
        unix::fs::{PermissionsExt, chown},
    },
    path::{Path, PathBuf},
};

use homarus_contract::sandbox::LayerId;
use rustix::fs::{AtFlags, CWD, FileType, unlinkat};

use crate::{layer::descent::Visit, spec::LayerSpec};

pub mod allowed;
pub mod apart;
pub mod beneath;
pub mod descent;
pub mod diff;
pub mod entry;
pub mod forget;
pub mod held;
pub mod keep;
pub mod linked;
pub mod merge;
pub mod outlook;
pub mod stage;
pub mod text;

#[cfg(test)]
mod full;
#[cfg(test)]
mod tests;

/// Where layers and versions in conflict are kept.
#[derive(Debug, Clone)]
pub struct Layers {
    state_dir: PathBuf,
}

impl Layers {
    pub fn new(state_dir: &Path) -> Self {
        Self { state_dir: state_dir.to_owned() }
    }

    fn folder(&self, id: &LayerId) -> PathBuf {
        self.state_dir.join("layers").join(id.run.as_str()).join(format!("{}-{}", id.call, id.attempt))
    }

    pub fn upper(&self, id: &LayerId) -> PathBuf {
        self.folder(id).join("upper")
    }

    pub fn conflicts(&self, id: &LayerId) -> PathBuf {
        self.state_dir.join("conflicts").join(id.run.as_str()).join(id.call.as_str())
    }

    /// Nobody else looks into layers.
    fn own(&self) -> io::Result<()> {
        let layers = self.state_dir.join("layers");
        fs::create_dir_all(&layers)?;
        fs::set_permissions(&layers, Permissions::from_mode(0o700))
    }

    /// Removes a layer, and the run's folder with its last one. No error if there is none.
    pub fn remove(&self, id: &LayerId) -> io::Result<()> {
        let folder = self.folder(id);
        gone(remove_tree(&folder))?;
        remove_if_last(&folder);
        Ok(())
    }
}

/// Makes an empty layer in its folder.
fn make(folder: &Path, mode: u32, owner: Option<(u32, u32)>) -> io::Result<LayerSpec> {
    let folder = fs::canonicalize(folder)?;
    let layer = LayerSpec { upper: folder.join("upper"), work: folder.join("work") };
    fs::create_dir(&layer.upper)?;
    fs::create_dir(&layer.work)?;
    fs::set_permissions(&layer.upper, Permissions::from_mode(mode & 0o777))?;
    if let Some((uid, gid)) = owner {
        chown(&layer.upper, Some(uid), Some(gid))?;
    }
    Ok(layer)
}

/// Removes the run's folder if no other call of the run has a layer there.
fn remove_if_last(layer: &Path) {
    if let Some(run) = layer.parent() {
        let _ = fs::remove_dir(run);
    }
}

/// What is not there need not be removed.
fn gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Removes a tree even where a call, or the kernel's work folder, left folders without permissions, and however deep it is.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    let (root, _) = descent::open::<Removal>(CWD, path)?;
    descent::walk(&root, &mut Removal)?;
    drop(root);
    fs::remove_dir(path)
}

struct Removal;

impl Visit for Removal {
    const BITS: u32 = 0o700;
    const RESTORE: bool = false;

    fn found(&mut self, folder: &OwnedFd, name: &CStr, kind: FileType) -> io::Result<bool> {
        if kind == FileType::Directory {
            return Ok(true);
        }
        gone(unlinkat(folder, name, AtFlags::empty()).map_err(Into::into)).map(|()| false)
    }

    fn left(&mut self, folder: &OwnedFd, name: &CStr) -> io::Result<()> {
        gone(unlinkat(folder, name, AtFlags::REMOVEDIR).map_err(Into::into))
    }
}

#[cfg(test)]
mod beside {
    use super::*;

    /// A call made it: no path leads to its end, and a thread has little room for recursion.
    #[test]
    fn a_tree_is_removed_however_deep_it_is() {
        const LEVELS: usize = 3_000;
        let state = tempfile::tempdir().unwrap();
        let top = state.path().join("top");
        let (long, short) = ("n".repeat(255), "d".to_owned());
        for (name, levels) in [(long, 40), (short, LEVELS)] {
            fs::create_dir(&top).unwrap();
            let (mut at, _) = descent::open::<Removal>(CWD, top.as_path()).unwrap();
            for level in 0..levels {
                rustix::fs::mkdirat(&at, &name, rustix::fs::Mode::from_raw_mode(0o700)).unwrap();
                let below = descent::open::<Removal>(&at, name.as_str()).unwrap().0;
                let file = format!("file{level}");
                let flags = rustix::fs::OFlags::CREATE | rustix::fs::OFlags::WRONLY;
                rustix::fs::openat(&at, file, flags, rustix::fs::Mode::empty()).unwrap();
                rustix::fs::fchmod(&at, rustix::fs::Mode::from_raw_mode(level as u32 % 2 * 0o100)).unwrap();
                at = below;
            }
            let top = top.clone();
            let small = std::thread::Builder::new().stack_size(128 << 10);
            small.spawn(move || remove_tree(&top).unwrap()).unwrap().join().unwrap();
        }
        assert_eq!(fs::read_dir(state.path()).unwrap().count(), 0);
        assert_eq!(remove_tree(&top).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
