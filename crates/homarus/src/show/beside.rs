//! Calls that run beside each other, shown one after the other: what a later one prints waits until those before it
//! have ended.

use std::collections::{BTreeMap, VecDeque};

use homarus_contract::{ids::CallId, sandbox::OutputChunk};

/// Held output of one call beyond this is not shown; the journal has all of it.
const HELD_BYTES_MAX: usize = 64 << 10;

#[derive(Default)]
pub struct Beside {
    /// What each call is, in one line.
    titles: BTreeMap<CallId, String>,
    /// Calls under way, in order.
    open: VecDeque<CallId>,
    held: BTreeMap<CallId, Vec<OutputChunk>>,
    /// The call that what stands last on the screen belongs to.
    current: Option<CallId>,
}

impl Beside {
    /// The title of a call was just shown.
    pub fn titled(&mut self, call: CallId, title: String) {
        self.titles.insert(call.clone(), title);
        self.current = Some(call);
    }

    pub fn started(&mut self, call: CallId) {
        if !self.open.contains(&call) {
            self.open.push_back(call);
        }
    }

    /// Takes output in; answers what may be shown now.
    pub fn output(&mut self, call: &CallId, chunk: OutputChunk) -> Vec<OutputChunk> {
        if self.open.front().is_none_or(|front| front == call) {
            return vec![chunk];
        }
        let held = self.held.entry(call.clone()).or_default();
        if held.iter().map(bytes_of).sum::<usize>() + bytes_of(&chunk) <= HELD_BYTES_MAX {
            held.push(chunk);
        }
        Vec::new()
    }

    /// What was held of a call, if it may be shown now.
    pub fn held(&mut self, call: &CallId) -> Vec<OutputChunk> {
        self.held.remove(call).unwrap_or_default()
    }

    /// A call has ended; the one whose turn it is now.
    pub fn ended(&mut self, call: &CallId) -> Option<CallId> {
        self.open.retain(|open| open != call);
        self.titles.remove(call);
        self.open.front().cloned()
    }

    /// The title to show before something of this call, if what stands last belongs to another.
    pub fn turn_to(&mut self, call: &CallId) -> Option<String> {
        if self.current.as_ref() == Some(call) {
            return None;
        }
        self.current = Some(call.clone());
        self.titles.get(call).cloned()
    }
}

fn bytes_of(chunk: &OutputChunk) -> usize {
    match chunk {
        OutputChunk::Stdout(bytes) | OutputChunk::Stderr(bytes) => bytes.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_call_waits_for_its_turn() {
        let mut beside = Beside::default();
        let (first, second) = (CallId::new(1, 0), CallId::new(1, 1));
        let chunk = |text: &str| OutputChunk::Stdout(text.as_bytes().to_vec());
        for (call, title) in [(&first, "one"), (&second, "two")] {
            beside.titled(call.clone(), title.to_owned());
            beside.started(call.clone());
        }
        assert_eq!(beside.output(&second, chunk("2")), []);
        assert_eq!(beside.output(&second, chunk(&"x".repeat(HELD_BYTES_MAX))), [], "too much is not held");
        assert_eq!(beside.turn_to(&first).as_deref(), Some("one"), "the second's title stood last");
        assert_eq!(beside.output(&first, chunk("1")), [chunk("1")]);
        assert_eq!(beside.turn_to(&first), None);
        assert_eq!(beside.ended(&first), Some(second.clone()));
        assert_eq!(beside.held(&second), [chunk("2")]);
        assert_eq!(beside.output(&second, chunk("3")), [chunk("3")]);
        assert_eq!(beside.ended(&second), None);
    }
}
