//! Who watches a run, and who answers for it.

use homarus_contract::{
    BoxFuture,
    action::{Action, Plan},
    event::Event,
    ids::{CallId, Hash, RunId},
    model::ModelRef,
    sandbox::{LayerDiff, OutputChunk},
};

/// Something that is shown while it happens and never journalled.
#[derive(Debug, Clone)]
pub enum Live {
    Text {
        text: String,
    },
    CallStarted {
        name: String,
    },
    CallDelta {
        json: String,
    },
    Output {
        call: CallId,
        chunk: OutputChunk,
    },
    /// A failed model call is tried again after a pause.
    Pause {
        model: ModelRef,
        ms: u64,
    },
}

/// Watches. Called in order; must not block for long.
pub trait Observer: Send + Sync {
    /// An event that is now durable.
    fn event(&self, run: &RunId, seq: u64, at_ms: u64, event: &Event);

    /// `offset` counts from 0 after the event `seq`, so that `(seq, offset)` orders a feed.
    fn live(&self, run: &RunId, seq: u64, offset: u64, live: &Live);
}

/// What a person is asked.
#[derive(Debug, Clone)]
pub struct Question {
    pub run: RunId,
    pub call: CallId,
    pub action: Action,
    pub plan: Plan,
    /// The rule's reason.
    pub reason: String,
    /// What the call did in its layer, if it has run; else only `plan.diff`.
    pub diff: Option<LayerDiff>,
    pub hash: Hash,
    pub expires_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    pub granted: bool,
    pub who: String,
    pub why: String,
}

/// Asks a person. Answers left in the journal by other processes are seen by the driver itself.
pub trait Approver: Send + Sync {
    /// `None`: there is nobody to ask here, the run waits. Dropping the future takes the question back.
    fn ask(&self, question: Question) -> BoxFuture<'_, Option<Decision>>;
}
