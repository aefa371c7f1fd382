//! Layers: what a call wrote, read and merged by trusted host code after the call is dead.

use std::{
    fs::{self, Permissions},
    io,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
};

use homarus_contract::sandbox::LayerId;

use crate::spec::LayerSpec;

pub mod beneath;
pub mod diff;
pub mod entry;
pub mod keep;
pub mod merge;
pub mod stage;
pub mod text;

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

    /// An empty layer whose root looks like the workspace's, for that is what the call will see.
    pub fn create(&self, id: &LayerId, mode: u32, owner: Option<(u32, u32)>) -> io::Result<LayerSpec> {
        self.remove(id)?;
        let layers = self.state_dir.join("layers");
        fs::create_dir_all(&layers)?;
        fs::set_permissions(&layers, Permissions::from_mode(0o700))?;
        let folder = self.folder(id);
        let layer = LayerSpec { upper: folder.join("upper"), work: folder.join("work") };
        fs::create_dir_all(&layer.upper)?;
        fs::create_dir_all(&layer.work)?;
        fs::set_permissions(&layer.upper, Permissions::from_mode(mode & 0o777))?;
        if let Some((uid, gid)) = owner {
            chown(&layer.upper, Some(uid), Some(gid))?;
        }
        Ok(LayerSpec { upper: fs::canonicalize(&layer.upper)?, work: fs::canonicalize(&layer.work)? })
    }

    /// Removes a layer, and the run's folder with its last one. No error if there is none.
    pub fn remove(&self, id: &LayerId) -> io::Result<()> {
        let folder = self.folder(id);
        match remove_tree(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        if let Some(run) = folder.parent() {
            // Fails while other calls of the run have layers there.
            let _ = fs::remove_dir(run);
        }
        Ok(())
    }
}

/// Removes a tree even where a call, or the kernel's work folder, left folders without permissions.
fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
        other => return other,
    }
    open_up(path)?;
    fs::remove_dir_all(path)
}

fn open_up(path: &Path) -> io::Result<()> {
    let mut folders = vec![path.to_owned()];
    while let Some(folder) = folders.pop() {
        fs::set_permissions(&folder, Permissions::from_mode(0o700))?;
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    Ok(())
}
