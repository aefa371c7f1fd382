//! What the binary tells the sandbox when it wires it.

use std::{fs::File, path::PathBuf, sync::Arc};

/// How the sandbox is set up on this host.
#[derive(Debug, Clone)]
pub struct Options {
    /// Layers go to `layers/<run>/<call>-<attempt>/` in it, versions in conflict to `conflicts/`.
    /// Hidden from every call. Must be on a file system that can carry an overlay's upper layer.
    pub state_dir: PathBuf,
    /// A file that the driver holds an OS lock on. The sandbox's outer and init processes inherit
    /// its descriptor (the tool never does), so that the lock is free only when all are dead.
    pub driver_lock: Option<Arc<File>>,
    /// More folders and files no call may see, for example the configuration folder.
    pub hidden: Vec<PathBuf>,
    /// Extra folders and files visible read-only, for example language toolchains.
    pub readable: Vec<PathBuf>,
    /// Folders of the workspace, relative to it, that are bound directly (writes are not part of
    /// the layer and are not journalled): `target`, `node_modules`.
    pub cache_paths: Vec<String>,
    /// What is kept of files that calls change, so that it can be undone.
    pub keep: KeepLimits,
    /// What the layer of one call may take on the disk, and how many files it may have: past that the call is ended.
    pub layer_bytes_max: u64,
    pub layer_files_max: u64,
    /// The program that calls [`crate::stage_main`] first thing.
    pub exe: PathBuf,
}

impl Options {
    pub fn new(state_dir: impl Into<PathBuf>) -> Self {
        Self {
            state_dir: state_dir.into(),
            driver_lock: None,
            hidden: Vec::new(),
            readable: Vec::new(),
            cache_paths: Vec::new(),
            keep: KeepLimits::default(),
            layer_bytes_max: 16 << 30,
            layer_files_max: 1_000_000,
            exe: PathBuf::from("/proc/self/exe"),
        }
    }
}

/// Bounds on what is kept of the files one call changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeepLimits {
    /// A file larger than this is not kept, and its change cannot be undone.
    pub file_bytes_max: u64,
    /// All files of a call together; the smallest are kept first.
    pub call_bytes_max: u64,
}

impl Default for KeepLimits {
    fn default() -> Self {
        Self { file_bytes_max: 8 << 20, call_bytes_max: 64 << 20 }
    }
}
