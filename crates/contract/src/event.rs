//! What happened. A run *is* its list of events; every screen, cost and state is read from them.

mod accepted;

use std::fmt::{self, Display};

use serde::{Deserialize, Serialize};

pub use self::accepted::{Accepted, AgentRef, ApprovalsMode, Chosen, Inbound, Profile, Reconfigured};
use crate::{
    action::{Action, EffectClass, Plan, Tier},
    budget::Amount,
    gate::{Approval, Verdict},
    ids::{CallId, DriverId, Hash, RunId, StreamId},
    message::{Block, StopReason, Usage},
    model::{ModelErrorClass, ModelRef},
    sandbox::{Exit, LayerDiff, MergeReport, Receipt},
};

/// An event as it stands in the journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub stream: StreamId,
    /// Counts from 1 within the stream.
    pub seq: u64,
    /// Milliseconds since 1970, by the clock of the driver that wrote it; for people only.
    pub at_ms: u64,
    pub epoch: u64,
    /// Hash of this event, over the one before it: see `docs/journal.md`.
    pub hash: Hash,
    pub event: Event,
}

/// The stream's alphabet. Adding a variant is a format change: see `docs/journal.md`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[allow(clippy::large_enum_variant, reason = "events are few in memory and always boxed by their list")]
pub enum Event {
    /// The first event of a run.
    Accepted(Accepted),
    /// A driver took the run over from a dead one.
    TakenOver {
        driver: DriverId,
    },
    /// What stands before this was copied from the run `run`, up to the end of its step `step`: `events` events. The
    /// run begins here, and its budget counts from here.
    Forked {
        run: RunId,
        step: u32,
        events: u64,
    },
    /// A further message of a conversation.
    Said {
        inbound: Inbound,
    },
    /// Between two steps: another model, agent, budget or set of rules from here on.
    Reconfigured(Reconfigured),

    /// A model is about to be asked.
    ModelIntent {
        step: u32,
        /// Counts from 1 within the step.
        attempt: u32,
        prompt: PromptParts,
        model: ModelRef,
        reserved: Amount,
    },
    /// A complete text, tool call or sealed thought of the current answer. `partial`: the stream broke inside it.
    BlockDone {
        step: u32,
        block: Block,
        partial: bool,
    },
    ModelResult {
        step: u32,
        stop: StopReason,
        usage: Usage,
        served_by: ModelRef,
        /// Nano-USD; `None`: the price is unknown.
        cost: Option<u64>,
        /// Milliseconds from the request to the end of the answer.
        wall_ms: u64,
    },
    ModelFailed {
        step: u32,
        model: ModelRef,
        class: ModelErrorClass,
        message: String,
        retry_after_ms: Option<u64>,
        /// Milliseconds until it had failed, with the pause before it.
        #[serde(default)]
        wall_ms: u64,
    },
    /// The answer broke off after something of it was shown or acted on: that part stays, and the step ends with it.
    ModelBroke {
        step: u32,
        model: ModelRef,
        class: ModelErrorClass,
        message: String,
    },
    /// A model of the order was not asked in this step: its circuit is open.
    ModelSkipped {
        step: u32,
        model: ModelRef,
        why: String,
        retry_in_ms: u64,
    },

    Judged {
        action: Action,
        plan: Plan,
        judgement: Judgement,
    },
    Denied {
        call: CallId,
        reason: String,
    },
    ApprovalRequested {
        call: CallId,
        hash: Hash,
        expires_ms: u64,
    },
    ApprovalDecided {
        call: CallId,
        approval: Approval,
    },
    ActIntent {
        call: CallId,
        class: EffectClass,
        key: Option<String>,
        tier: Tier,
        attempt: u32,
    },
    ActResult(ActResult),
    Merged {
        call: CallId,
        report: MergeReport,
    },
    Discarded {
        call: CallId,
        reason: String,
    },
    /// A kill left it open whether this unkeyed effect happened.
    OutcomeUnknown {
        call: CallId,
    },
    /// A person said what became of an unknown outcome.
    Resolved {
        call: CallId,
        decision: Resolution,
        who: String,
    },

    /// The runtime tells the model something the user did not say (look first, check after, ...).
    Nudged {
        reason: String,
        text: String,
    },
    /// A limit was hit.
    BoundHit {
        bound: String,
        limit: u64,
    },
    Waiting {
        on: WaitingOn,
    },
    /// In a conversation: the answer to a message is complete, or will not be completed.
    TurnEnded {
        status: FinishStatus,
        summary: String,
    },
    /// The last event of a run.
    Finished {
        status: FinishStatus,
        summary: String,
    },

    /// System stream only: the head of another stream, signed. `event_kind` is why it was taken.
    Checkpoint {
        stream: StreamId,
        seq: u64,
        hash: Hash,
        status: String,
    },
    /// System stream only: what is left of a run that a person deleted. Its head, and what it had come to then.
    Deleted {
        stream: StreamId,
        seq: u64,
        hash: Hash,
        status: String,
        used: Amount,
        cost_known: bool,
        created_ms: u64,
        who: String,
    },
}

/// The prompt of a model call as hashes of its parts, each part a blob: the `kept` first parts of
/// the previous intent's list, then `added`. A long run so grows linearly.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromptParts {
    pub kept: u32,
    pub added: Vec<Hash>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judgement {
    pub verdict: Verdict,
    /// Which rule or grant decided, for example `rules.toml:12 deny shell:run "rm *"`.
    pub rule: String,
    /// For people and the model: why, and what to do about it.
    pub reason: String,
    pub policy_hash: Hash,
    /// The grant that covers it, if one does.
    pub capability: Option<String>,
    /// Whether content from outside could have influenced the action.
    pub tainted: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActResult {
    pub call: CallId,
    pub attempt: u32,
    pub is_error: bool,
    pub exit: Option<Exit>,
    /// Blob: what the model is shown.
    pub shown: Hash,
    /// Blob: everything the call printed, if that is more.
    pub whole: Option<Hash>,
    pub wall_ms: u64,
    pub receipt: Option<Receipt>,
    pub diff: LayerDiff,
    /// Blobs: contents of files that the diff names by hash, before and after, as far as they are kept.
    /// What was there before can be undone; what is not here cannot.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kept: Vec<Hash>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resolution {
    /// It happened: the model is told so.
    Done,
    /// It did not happen: the model is told so.
    Failed,
    /// Run it again.
    Repeat,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum WaitingOn {
    Approval {
        call: CallId,
    },
    Resolution {
        call: CallId,
    },
    /// The next message of a conversation.
    Message,
    /// The run was stopped on purpose and goes on with `runs resume`.
    Resume(Pause),
}

/// Why a run that could go on does not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// Who paused it from another process; empty: it stopped where it ran.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub who: String,
    /// What a person has to mend first, and how; empty: nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub trouble: String,
}

impl Pause {
    /// Nobody asked for more than that it stops.
    pub fn is_interruption(&self) -> bool {
        self.who.is_empty() && self.trouble.is_empty()
    }
}

impl Display for Pause {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.trouble.as_str(), self.who.as_str()) {
            ("", "") => out.write_str("Interrupted."),
            ("", who) => write!(out, "Paused by {who}."),
            (trouble, _) => write!(out, "It cannot go on: {trouble}"),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishStatus {
    Completed,
    Failed,
    /// A denial ended it.
    Denied,
    /// A budget ended it.
    OutOfBudget,
    Cancelled,
}

impl Event {
    /// The `kind` of its JSON form.
    pub fn kind(&self) -> &'static str {
        match self {
            Event::Accepted(_) => "accepted",
            Event::TakenOver { .. } => "taken_over",
            Event::Forked { .. } => "forked",
            Event::Said { .. } => "said",
            Event::Reconfigured(_) => "reconfigured",
            Event::ModelIntent { .. } => "model_intent",
            Event::BlockDone { .. } => "block_done",
            Event::ModelResult { .. } => "model_result",
            Event::ModelFailed { .. } => "model_failed",
            Event::ModelBroke { .. } => "model_broke",
            Event::ModelSkipped { .. } => "model_skipped",
            Event::Judged { .. } => "judged",
            Event::Denied { .. } => "denied",
            Event::ApprovalRequested { .. } => "approval_requested",
            Event::ApprovalDecided { .. } => "approval_decided",
            Event::ActIntent { .. } => "act_intent",
            Event::ActResult(_) => "act_result",
            Event::Merged { .. } => "merged",
            Event::Discarded { .. } => "discarded",
            Event::OutcomeUnknown { .. } => "outcome_unknown",
            Event::Resolved { .. } => "resolved",
            Event::Nudged { .. } => "nudged",
            Event::BoundHit { .. } => "bound_hit",
            Event::Waiting { .. } => "waiting",
            Event::TurnEnded { .. } => "turn_ended",
            Event::Finished { .. } => "finished",
            Event::Checkpoint { .. } => "checkpoint",
            Event::Deleted { .. } => "deleted",
        }
    }
}
