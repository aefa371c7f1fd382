//! Undoing what a run changed, as a run of its own.
//!
//! It takes one call: a layer is filled with what was there before, and then merged like any other:
//! through the gate, shown first, path by path, and never over what somebody changed since. Undoing an
//! undo is therefore nothing new: it is undoing that run.

mod history;
mod machine;
mod tool;

use std::{fmt, str::FromStr};

use homarus_contract::ids::{CallId, RunId};
use serde::{Deserialize, Serialize};

pub use history::{History, Undoing};
pub use machine::{State, Undo};
pub use tool::{WorkspaceUndo, contents};

/// The name of the machine in [`homarus_contract::event::Accepted::machine`].
pub const NAME: &str = "undo";

/// What is to be undone; the request of an undo run is its text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    pub run: RunId,
    /// The first step that is undone.
    pub step: u32,
    /// The last call that is undone: what the run does later is not meant.
    pub last: CallId,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "undo {}:{} up to {}", self.run, self.step, self.last)
    }
}

impl FromStr for Target {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let words: Vec<&str> = text.split(' ').collect();
        let ["undo", what, "up", "to", last] = words.as_slice() else { return Err(()) };
        let (run, step) = what.split_once(':').ok_or(())?;
        Ok(Self {
            run: RunId::parse(run).map_err(|_| ())?,
            step: step.parse().map_err(|_| ())?,
            last: CallId::parse(*last).map_err(|_| ())?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_its_text() {
        let text = "undo 01abc:2 up to c4.1";
        let target: Target = text.parse().unwrap();
        assert_eq!((target.step, target.last.position()), (2, Some((4, 1))));
        assert_eq!(target.to_string(), text);
        for other in ["undo it", "undo 01abc up to c4.1", "undo ../x:1 up to c1.0", "undo 01abc:1 up to c4.1 please"] {
            assert!(other.parse::<Target>().is_err(), "{other}");
        }
    }
}
