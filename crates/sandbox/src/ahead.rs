//! What the next call is likely to see: what the last one saw. A sandbox that stands ready shows it already, over a layer that
//! waits for its call; it is given to no call that would see anything else.

use std::{fs, io, os::unix::fs::MetadataExt, path::Path};

use crate::{
    layer::{Layers, held::Held},
    spec::{AheadSpec, CallSpec, Seen},
};

/// What a layer's root takes from the workspace's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    mode: u32,
    /// Only root can give a folder to somebody.
    owner: Option<(u32, u32)>,
}

impl Look {
    pub fn of(workspace: &Path, is_root: bool) -> io::Result<Self> {
        let meta = fs::metadata(workspace)?;
        Ok(Self { mode: meta.mode(), owner: is_root.then_some((meta.uid(), meta.gid())) })
    }

    pub fn layer(self, layers: &Layers) -> io::Result<Held> {
        layers.hold(self.mode, self.owner)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guess {
    seen: Seen,
    look: Look,
}

impl Guess {
    /// `None`: calls of this kind see something that has to be looked up when they come.
    pub fn from(call: &CallSpec, look: Look) -> Option<Self> {
        Some(Self { seen: Seen::of(call)?, look })
    }
}

/// What a sandbox that stands ready shows.
#[derive(Debug)]
pub struct Ahead {
    guess: Guess,
    held: Held,
}

impl Ahead {
    pub fn new(guess: Guess, layers: &Layers) -> io::Result<Self> {
        let held = guess.look.layer(layers)?;
        Ok(Self { guess, held })
    }

    pub fn spec(&self) -> AheadSpec {
        AheadSpec { seen: self.guess.seen.clone(), layer: self.held.spec.clone() }
    }

    pub fn is(&self, guess: &Guess) -> bool {
        self.guess == *guess
    }

    pub fn into_layer(self) -> Held {
        self.held
    }
}

#[cfg(test)]
pub mod tests {
    use std::path::PathBuf;

    use super::*;

    /// Of a workspace of this name.
    pub fn guess(name: &str) -> Guess {
        let source = PathBuf::from(name);
        let seen = Seen { files: Vec::new(), target: source.clone(), source, source_id: (1, 1), run_as: None };
        Guess { seen, look: Look { mode: 0o755, owner: None } }
    }
}
