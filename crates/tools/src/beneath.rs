//! What a call that was allowed for a folder may see of what is in it.

use std::path::{Path, PathBuf};

use crate::confined::MayRead;

/// How much of an entry may be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sight {
    Clear,
    /// It is in a folder that may be read, but may not be read itself.
    NameOnly,
    /// So is its folder: not even its name.
    Hidden,
}

/// A folder that was allowed, and the question for each thing in it.
pub struct Beneath<'a> {
    workspace: &'a Path,
    start: &'a Path,
    /// Where `start` leads when it is a link, relative to the workspace; `None` if out of it.
    real: Option<PathBuf>,
    may_read: MayRead<'a>,
}

impl<'a> Beneath<'a> {
    /// `start` is below `workspace`, which is canonical.
    pub fn new(workspace: &'a Path, start: &'a Path, may_read: MayRead<'a>) -> Self {
        let real = start.canonicalize().ok();
        let real = real.and_then(|real| real.strip_prefix(workspace).map(Path::to_path_buf).ok());
        Self { workspace, start, real, may_read }
    }

    /// `path` was found below `start` without following a link.
    pub fn sight(&self, path: &Path) -> Sight {
        if self.may(path) {
            return Sight::Clear;
        }
        match path.parent() {
            // The folder that was asked for is allowed: the gate has decided about it.
            Some(folder) if folder == self.start || self.may(folder) => Sight::NameOnly,
            _ => Sight::Hidden,
        }
    }

    /// By the name it was found under and by the one it has without links.
    fn may(&self, path: &Path) -> bool {
        let (Ok(inside), Ok(below), Some(real)) =
            (path.strip_prefix(self.workspace), path.strip_prefix(self.start), &self.real)
        else {
            return false;
        };
        let real = real.join(below);
        (self.may_read)(inside) && (real == inside || (self.may_read)(&real))
    }
}
