//! A run is a machine: pure, deterministic, without clock, chance or I/O but what events carry.

use std::sync::Arc;

use crate::{
    action::{Action, Plan},
    event::{ActResult, Event, FinishStatus, Record, WaitingOn},
    gate::Approval,
    ids::{CallId, Hash},
    message::Message,
};

/// What a machine wants done next.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Ask the model. `messages` are the parts of the prompt after system and tools, in order.
    CallModel { step: u32, messages: Vec<PromptMessage> },
    /// Judge and, if allowed, run a tool call.
    Act { action: Action, attempt: u32, approval: Option<Approval> },
    /// Ask a person about the diff of a call that has run in its layer, then merge or discard it.
    Settle { action: Action, plan: Box<Plan>, result: Box<ActResult>, hold: bool, approval: Option<Approval> },
    /// A workspace call was open when its driver died: throw its layer away; it is run again.
    /// Tell the model something.
    Nudge { reason: String, text: String },
    /// Nothing to do before a person answers.
    Wait { on: WaitingOn },
    Finish { status: FinishStatus, summary: String },
}

/// A message of the prompt; text that stands in a blob is named by its hash.
#[derive(Debug, Clone, PartialEq)]
pub enum PromptMessage {
    Ready(Arc<Message>),
    /// A tool result whose text is the blob `text`, followed by `suffix`.
    Result { call: CallId, text: Hash, suffix: String, is_error: bool },
}

pub trait Machine: Send + Sync {
    type State: Default + Clone + Send + Sync;

    fn apply(&self, state: &mut Self::State, event: &Event);

    /// What to do in this state. The same state always gives the same answer.
    fn next(&self, state: &Self::State) -> Vec<Command>;

    /// The state after these events: resume, replay and tests all use it.
    fn fold<'a>(&self, records: impl IntoIterator<Item = &'a Record>) -> Self::State
    where
        Self: Sized,
    {
        let mut state = Self::State::default();
        for record in records {
            self.apply(&mut state, &record.event);
        }
        state
    }
}
