//! What a call that was allowed for a folder may see of what is in it, and how it tells of the rest.

use std::path::Path;

use crate::{confined::MayRead, walk::Entry};

/// How many are told by name.
const NAMED_MAX: usize = 10;

/// How much of an entry may be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sight {
    Clear,
    /// It is in a folder that may be read, but may not be read itself.
    NameOnly,
    /// So is its folder: not even its name.
    Hidden,
}

/// By the name it was found under and by the one it has without links.
pub fn sight(entry: &Entry<'_>, may_read: MayRead<'_>) -> Sight {
    let may = |path: &Path, real: &Path| may_read(path) && (path == real || may_read(real));
    if may(entry.path, entry.real) {
        return Sight::Clear;
    }
    match (entry.path.parent(), entry.real.parent()) {
        // The folder that was asked for is allowed: the gate has decided about it.
        _ if entry.depth == 1 => Sight::NameOnly,
        (Some(path), Some(real)) if may(path, real) => Sight::NameOnly,
        _ => Sight::Hidden,
    }
}

/// What was passed over: a few by name, and the number of all.
#[derive(Debug, Default)]
pub struct Named {
    names: Vec<String>,
    count: usize,
}

impl Named {
    pub fn add(&mut self, entry: &Entry<'_>) {
        self.count += 1;
        if self.names.len() < NAMED_MAX {
            self.names.push(entry.shown());
        }
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// `a, b/ and 3 more`; `None` if there is nothing to tell.
    pub fn told(&self) -> Option<String> {
        let names = self.names.join(", ");
        match self.count - self.names.len() {
            _ if self.is_empty() => None,
            0 => Some(names),
            more => Some(format!("{names} and {more} more")),
        }
    }
}
