//! Layers of no run: of a call that has not come, or has not ended, or that wrote nothing.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use homarus_contract::sandbox::LayerId;
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

use super::{Layers, gone, make, remove_tree};
use crate::spec::LayerSpec;

/// Among the folders of runs, whose names have no dot.
pub const UNUSED: &str = ".unused";

/// Removed when it is dropped, unless it became a call's. Should this process be killed before that, the next one does
/// it ([`Layers::sweep`]).
#[derive(Debug)]
pub struct Held {
    folder: PathBuf,
    pub spec: LayerSpec,
    is_put: bool,
    /// The folder itself, locked: its process lives, wherever that is.
    _lock: File,
}

impl Layers {
    /// An empty layer whose root looks like the workspace's, for that is what the call will see.
    pub fn hold(&self, mode: u32, owner: Option<(u32, u32)>) -> io::Result<Held> {
        const TRIES_MAX: u32 = 100;
        self.own()?;
        for _ in 0..TRIES_MAX {
            let folder = self.new_folder()?;
            let Some(lock) = locked(&folder)? else { continue };
            let spec = make(&folder, mode, owner)?;
            return Ok(Held { folder, spec, is_put: false, _lock: lock });
        }
        Err(io::Error::other("other processes remove each new layer before it can be locked"))
    }

    /// Other processes, also such that have our number elsewhere, have theirs beside it.
    fn new_folder(&self) -> io::Result<PathBuf> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        const TRIES_MAX: u32 = 1_000;
        let mut tries = 0;
        loop {
            let name = format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
            let folder = self.unused().join(name);
            match fs::create_dir(&folder) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && tries < TRIES_MAX => tries += 1,
                // Another process has just removed the folder, empty as it was.
                Err(error) if error.kind() == io::ErrorKind::NotFound && tries < TRIES_MAX => {
                    fs::create_dir_all(self.unused())?;
                    tries += 1;
                }
                made => return made.map(|()| folder),
            }
        }
    }

    /// Makes it the layer of a call, and that durable. After an error there is none.
    pub fn put(&self, mut held: Held, id: &LayerId) -> io::Result<()> {
        let folder = self.folder(id);
        gone(remove_tree(&folder))?;
        let run = folder.parent().unwrap_or(&self.state_dir);
        rename_into(&held.folder, run, &folder)?;
        held.folder.clone_from(&folder);
        for changed in [folder.as_path(), run, &self.state_dir.join("layers")] {
            File::open(changed)?.sync_all()?;
        }
        held.is_put = true;
        Ok(())
    }

    /// Removes folders in which no layer is. Another process that is about to put one there makes it anew.
    pub fn remove_empty(&self) {
        for entry in fs::read_dir(self.state_dir.join("layers")).into_iter().flatten().flatten() {
            let _ = fs::remove_dir(entry.path());
        }
    }

    /// Removes what processes that are gone held. What cannot be removed only takes up space.
    pub fn sweep(&self) {
        for entry in fs::read_dir(self.unused()).into_iter().flatten().flatten() {
            let Ok(folder) = File::open(entry.path()) else { continue };
            if flock(&folder, FlockOperation::NonBlockingLockExclusive).is_ok() {
                let _ = remove_tree(&entry.path());
            }
        }
        self.remove_empty();
    }

    fn unused(&self) -> PathBuf {
        self.state_dir.join("layers").join(UNUSED)
    }
}

/// `None`: another process that sweeps was faster, and removes it.
fn locked(folder: &Path) -> io::Result<Option<File>> {
    let lock = match File::open(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => return Ok(None),
        locked => locked?,
    }
    match fs::metadata(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        there => Ok((there?.ino() == lock.metadata()?.ino()).then_some(lock)),
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if !self.is_put {
            // What cannot be removed only takes up space.
            let _ = remove_tree(&self.folder);
        }
    }
}

/// Another call of the run may remove the run's folder, empty as it is, just before ours stands in it.
fn rename_into(from: &Path, folder: &Path, to: &Path) -> io::Result<()> {
    const TRIES_MAX: u32 = 100;
    for _ in 1..TRIES_MAX {
        match fs::create_dir_all(folder).and_then(|()| fs::rename(from, to)) {
            // It went before it could be looked at, or before ours stood in it.
            Err(error) if matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound) => {}
            renamed => return renamed,
        }
    }
    fs::rename(from, to)
}

#[cfg(test)]
mod tests {
    use homarus_contract::ids::{CallId, RunId};

    use super::*;

    #[test]
    fn what_a_killed_process_held_is_swept_and_nothing_else() {
        let state = tempfile::tempdir().unwrap();
        let layers = Layers::new(state.path());
        let id = LayerId { run: RunId::parse("r1").unwrap(), call: CallId::new(1, 0), attempt: 1 };
        let ours = layers.hold(0o755, None).unwrap();
        let theirs = state.path().join("layers/.unused/1-0");
        fs::create_dir_all(theirs.join("work/work")).unwrap();
        layers.put(layers.hold(0o755, None).unwrap(), &id).unwrap();
        layers.sweep();
        assert!(!theirs.exists() && ours.spec.upper.is_dir(), "ours is removed by whoever holds it");
        assert!(layers.upper(&id).is_dir());
        let upper = ours.spec.upper.clone();
        drop(ours);
        assert!(!upper.exists());
    }

    #[test]
    fn it_becomes_the_layer_of_its_call_in_place_of_an_older_one() {
        let state = tempfile::tempdir().unwrap();
        let layers = Layers::new(state.path());
        let id = LayerId { run: RunId::parse("r1").unwrap(), call: CallId::new(1, 0), attempt: 1 };
        layers.put(layers.hold(0o755, None).unwrap(), &id).unwrap();
        fs::write(layers.upper(&id).join("old"), "").unwrap();
        let held = layers.hold(0o750, None).unwrap();
        fs::write(held.spec.upper.join("new"), "").unwrap();
        let from = held.spec.upper.clone();
        layers.put(held, &id).unwrap();
        let names: Vec<_> = fs::read_dir(layers.upper(&id)).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["new"]);
        assert!(!from.exists());
        layers.remove_empty();
        assert!(layers.upper(&id).is_dir());
    }

    #[test]
    fn one_that_cannot_be_put_is_nowhere() {
        let state = tempfile::tempdir().unwrap();
        let layers = Layers::new(state.path());
        // No folder can be made in place of a file.
        fs::create_dir_all(state.path().join("layers")).unwrap();
        fs::write(state.path().join("layers/r1"), "").unwrap();
        let held = layers.hold(0o755, None).unwrap();
        let from = held.spec.upper.clone();
        let id = LayerId { run: RunId::parse("r1").unwrap(), call: CallId::new(1, 0), attempt: 1 };
        assert!(layers.put(held, &id).is_err() && !from.exists());
    }

    #[test]
    fn processes_that_start_take_none_away_from_others() {
        let state = tempfile::tempdir().unwrap();
        let layers = Layers::new(state.path());
        let is_over = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    layers.sweep();
                }
            });
            for _ in 0..500 {
                let held = layers.hold(0o755, None).unwrap();
                assert!(held.spec.upper.is_dir() && held.spec.work.is_dir());
            }
            is_over.store(true, Ordering::Relaxed);
        });
    }

    /// Calls of one answer begin and end at the same time: none may pull the run's folder from under another.
    #[test]
    fn layers_of_one_run_are_put_and_removed_at_the_same_time() {
        let state = tempfile::tempdir().unwrap();
        let layers = Layers::new(state.path());
        std::thread::scope(|scope| {
            for index in 0..4 {
                let layers = &layers;
                scope.spawn(move || {
                    let call = CallId::new(1, index);
                    let id = LayerId { run: RunId::parse("r1").unwrap(), call, attempt: 1 };
                    for _ in 0..100 {
                        layers.put(layers.hold(0o755, None).unwrap(), &id).unwrap();
                        assert!(layers.upper(&id).is_dir());
                        layers.remove(&id).unwrap();
                    }
                });
            }
        });
        assert!(!state.path().join("layers/r1").exists(), "the run's folder goes with its last layer");
    }
}
