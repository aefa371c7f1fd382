//! A run is a machine: pure, deterministic, without clock, chance or I/O but what events carry.

use std::sync::Arc;

use crate::{
    action::{Action, Plan},
    event::{ActResult, Event, FinishStatus, Record, WaitingOn},
    gate::Approval,
    ids::{CallId, Hash},
    message::Message,
    model::ModelRef,
};

/// What a machine wants done next.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Ask this model, after a pause of `backoff_ms` (0 for a first attempt).
    CallModel {
        step: u32,
        attempt: u32,
        model: ModelRef,
        backoff_ms: u64,
        /// Longest wait for the answer to begin; all attempts at one step share it.
        patience_ms: u64,
        /// It is asked even if its circuit is open: there is no other model left.
        is_last_resort: bool,
        messages: Vec<PromptMessage>,
    },
    /// Judge and, if allowed, run a tool call.
    Act {
        action: Action,
        attempt: u32,
        approval: Option<Approval>,
    },
    /// Merge what a call wrote into its layer. With `hold`, a person must have agreed to the diff:
    /// without an `approval` they are asked, with a refusal the layer is thrown away.
    Settle {
        action: Action,
        plan: Box<Plan>,
        result: Box<ActResult>,
        hold: bool,
        approval: Option<Approval>,
    },
    /// A kill left it open whether this unkeyed effect happened.
    MarkUnknown {
        call: CallId,
    },
    /// Tell the model something the user did not say.
    Nudge {
        reason: String,
        text: String,
    },
    /// Nothing to do before a person answers.
    Wait {
        on: WaitingOn,
    },
    /// The answer to a message of a conversation is complete, or will not be completed.
    EndTurn {
        status: FinishStatus,
        summary: String,
    },
    Finish {
        status: FinishStatus,
        summary: String,
    },
}

/// A message of the prompt; text that stands in a blob is named by its hash.
#[derive(Debug, Clone, PartialEq)]
pub enum PromptMessage {
    Ready(Arc<Message>),
    /// The request itself, after what the workspace looked like when the run began.
    Request {
        orientation: Hash,
        text: String,
    },
    /// A tool result whose text is the blob `text`, followed by `suffix`.
    Result {
        call: CallId,
        text: Hash,
        suffix: String,
        is_error: bool,
    },
}

pub trait Machine: Send + Sync {
    type State: Default + Clone + Send + Sync;

    /// Whether it folds runs whose first event names this machine.
    fn knows(&self, machine: &str) -> bool;

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
