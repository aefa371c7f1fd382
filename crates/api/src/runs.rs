//! Operations on runs.

use homarus_contract::{
    budget::{Amount, Budget},
    event::{ApprovalsMode, Record, Resolution},
    ids::{CallId, Hash, RunId},
    journal::{RunRow, RunStatus},
    model::ModelRef,
    sandbox::Entry,
};
use serde::{Deserialize, Serialize};

use crate::operation::operation;

operation!(
    /// Starts a run and drives it until it rests.
    Start, "runs.start", "POST" "/v1/runs", needs "runs:start", StartRequest => Ended
);
operation!(
    /// Lists runs, newest first.
    List, "runs.list", "GET" "/v1/runs", needs "runs:read", ListRequest => ListResponse
);
operation!(
    /// Shows one run.
    Show, "runs.show", "GET" "/v1/runs/{run}", needs "runs:read", RunRequest => RunDetail
);
operation!(
    /// Brings back what was there before a run changed it.
    Undo, "runs.undo", "POST" "/v1/runs/{run}/undo", needs "runs:start", UndoRequest => UndoResponse
);
operation!(
    /// Shows what a run changed in its workspace.
    Diff, "runs.diff", "GET" "/v1/runs/{run}/diff", needs "runs:read", DiffRequest => DiffResponse
);
operation!(
    /// Goes on otherwise from a step of a run, as a run of its own whose every effect is asked about.
    Fork, "runs.fork", "POST" "/v1/runs/{run}/fork", needs "runs:start", ForkRequest => Ended
);
operation!(
    /// Reads a run's events.
    Log, "runs.log", "GET" "/v1/runs/{run}/events", needs "runs:read", LogRequest => LogResponse
);
operation!(
    /// Checks the journal's hash chains, signatures and checkpoints.
    Verify, "runs.verify", "POST" "/v1/runs/verify", needs "runs:read", VerifyRequest => VerifyResponse
);
operation!(
    /// Stops a run where its step ends; resuming it goes on.
    Pause, "runs.pause", "POST" "/v1/runs/{run}/pause", needs "runs:cancel", RunRequest => PauseResponse
);
operation!(
    /// Goes on with a run that was interrupted or waits.
    Resume, "runs.resume", "POST" "/v1/runs/{run}/resume", needs "runs:start", RunRequest => Ended
);
operation!(
    /// Goes on with every run that a crash interrupted.
    ResumeAll, "runs.resume-all", "POST" "/v1/runs/resume", needs "runs:start", ResumeAllRequest => ResumeAllResponse
);
operation!(
    /// Says something further in a conversation, and drives it until it rests.
    Say, "runs.say", "POST" "/v1/runs/{run}/messages", needs "runs:start", SayRequest => Ended
);
operation!(
    /// Changes the model, agent or rules of a run; of one that is under way, where its step ends.
    Configure, "runs.configure", "PATCH" "/v1/runs/{run}", needs "runs:configure",
    ConfigureRequest => ConfigureResponse
);
operation!(
    /// Answers a run's open question.
    Approve, "runs.approve", "POST" "/v1/runs/{run}/approvals", needs "approvals:answer",
    ApproveRequest => ApproveResponse
);
operation!(
    /// Says what became of a call whose outcome is unknown.
    Resolve, "runs.resolve", "POST" "/v1/runs/{run}/resolve", needs "runs:resolve",
    ResolveRequest => ResolveResponse
);
operation!(
    /// Ends a run.
    Cancel, "runs.cancel", "POST" "/v1/runs/{run}/cancel", needs "runs:cancel", RunRequest => CancelResponse
);
operation!(
    /// Deletes runs that have ended, for good.
    Delete, "runs.delete", "POST" "/v1/runs/delete", needs "runs:delete", DeleteRequest => DeleteResponse
);
operation!(
    /// Deletes all runs that ended long ago.
    Prune, "runs.prune", "POST" "/v1/runs/prune", needs "runs:delete", PruneRequest => PruneResponse
);

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StartRequest {
    pub prompt: String,
    pub model: Option<ModelRef>,
    pub workspace: String,
    pub approvals: ApprovalsMode,
    pub budget: Budget,
    /// It waits for further messages instead of finishing with the answer.
    #[serde(default)]
    pub conversation: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunRequest {
    pub run: RunId,
}

/// How a run came to rest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    pub run_id: RunId,
    pub status: RunStatus,
    /// The model's last words, or why it ended.
    pub summary: String,
    pub used: Amount,
    /// USD, as text with up to nine decimals; `null`: some of it is unknown.
    pub cost_usd: Option<String>,
    pub exit_code: u8,
    /// What to do next, if a person has to do something.
    pub next: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ResumeAllRequest {
    /// Also runs that were stopped on purpose, or brought to rest by a later command.
    pub paused: bool,
    /// How many are worked on at the same time: 1 to 256.
    pub at_once: u32,
}

/// How many runs there were, and how they came to rest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResumeAllResponse {
    pub taken: u64,
    /// Taken over by another process meanwhile.
    pub busy: u64,
    /// Also conversations whose turn is over.
    pub completed: u64,
    pub failed: u64,
    /// Denied, out of budget or cancelled.
    pub ended_otherwise: u64,
    /// A person must answer: `homarus runs show` says what.
    pub waiting: u64,
    pub paused: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ListRequest {
    /// 1 to 10,000.
    pub limit: u32,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ListResponse {
    pub runs: Vec<RunRow>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunDetail {
    #[serde(flatten)]
    pub row: RunRow,
    pub limits: Budget,
    pub agent: Option<String>,
    pub models: Vec<ModelRef>,
    /// Why these models.
    pub models_why: String,
    pub steps: u32,
    pub input_tokens: u64,
    pub output_tokens: u64,
    pub cached_tokens: u64,
    /// USD, as text; `null`: unknown.
    pub cost_usd: Option<String>,
    /// Time in model and tool calls, in milliseconds.
    pub wall_ms: u64,
    /// Tool calls that ran, that a person agreed to, that were denied.
    pub calls: u32,
    pub approved: u32,
    pub denied: u32,
    pub summary: Option<String>,
    pub question: Option<OpenQuestion>,
    /// The call whose outcome is unknown.
    pub unknown: Option<CallId>,
    /// What has to be mended before it can go on, and how.
    pub trouble: Option<String>,
}

/// What a run waits to be told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenQuestion {
    pub call: CallId,
    pub tool: String,
    pub arguments: String,
    pub summary: String,
    pub reason: String,
    /// The exact diff, if the call has run in its layer or the diff is known before it runs.
    pub diff: Option<String>,
    pub hash: Hash,
    pub expires_ms: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LogRequest {
    pub run: RunId,
    /// Events after this sequence number.
    pub after: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LogResponse {
    pub events: Vec<Record>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct VerifyRequest {
    /// `None`: the whole journal.
    pub run: Option<RunId>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyResponse {
    pub ok: bool,
    pub streams: u64,
    pub events: u64,
    pub blobs: u64,
    pub findings: Vec<Finding>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    pub stream: String,
    pub seq: Option<u64>,
    pub what: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SayRequest {
    pub run: RunId,
    /// 1 byte to 1 MiB.
    pub message: String,
}

/// What is `None` stays as it is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ConfigureRequest {
    pub run: RunId,
    pub models: Option<Vec<ModelRef>>,
    pub agent: Option<String>,
    pub approvals: Option<ApprovalsMode>,
    /// Rules that are looked at before the configured ones.
    pub policy: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ConfigureResponse {
    pub run: RunId,
    pub changed: String,
    /// The process that works on it makes the change where its step ends.
    #[serde(default)]
    pub pending: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PauseResponse {
    pub run: RunId,
    /// What it rests as; `None`: the process that works on it stops where its step ends.
    pub status: Option<RunStatus>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ApproveRequest {
    pub run: RunId,
    /// `None`: the one open question.
    pub call: Option<CallId>,
    pub granted: bool,
    pub why: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ApproveResponse {
    pub run: RunId,
    pub call: CallId,
    pub granted: bool,
    /// Whether a process is working on the run and will see the answer by itself.
    pub driver_alive: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ResolveRequest {
    pub run: RunId,
    pub decision: Resolution,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ResolveResponse {
    pub run: RunId,
    pub call: CallId,
    pub decision: Resolution,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CancelResponse {
    pub run: RunId,
    /// `false`: the process that works on it will end it within a moment.
    pub ended: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DeleteRequest {
    pub runs: Vec<RunId>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DeleteResponse {
    pub runs: Vec<RunId>,
    /// Contents that only these runs had: prompts, outputs, files before and after a change.
    pub blobs: u64,
    pub bytes: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PruneRequest {
    /// Absent: as `runs.keep_days` says.
    pub older_than_days: Option<u32>,
    pub dry_run: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PruneResponse {
    pub days: u32,
    /// Nothing was deleted; `runs` are those that would be.
    pub dry_run: bool,
    #[serde(flatten)]
    pub deleted: DeleteResponse,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UndoRequest {
    pub run: RunId,
    /// The first step that is undone; `None`: all of them.
    pub step: Option<u32>,
    /// Only say what would be undone.
    pub dry_run: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UndoResponse {
    /// What is undone: its steps from `step` on (0: all).
    pub run: RunId,
    pub step: u32,
    pub workspace: String,
    /// The run that undoes it: undo that one to bring the changes back. `None`: nothing was changed.
    pub undo_run: Option<RunId>,
    pub status: Option<RunStatus>,
    pub summary: String,
    pub undone: Vec<String>,
    /// Paths that were changed since and stay; the note is where the older version was kept, empty if there was none.
    pub conflicts: Vec<PathNote>,
    /// Paths that cannot be undone; the note says why.
    pub refused: Vec<PathNote>,
    /// What would be changed, if it was only asked for.
    pub diff: String,
}

/// A path and what is to be said of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathNote {
    pub path: String,
    pub note: String,
}

impl From<&(String, String)> for PathNote {
    fn from((path, note): &(String, String)) -> Self {
        Self { path: path.clone(), note: note.clone() }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ForkRequest {
    pub run: RunId,
    /// The last step that is taken over.
    pub step: u32,
    /// A further message.
    pub prompt: Option<String>,
    /// `None`: those of the run.
    pub model: Option<ModelRef>,
    /// `None`: that of the run, as it is now.
    pub workspace: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DiffRequest {
    pub run: RunId,
    /// `None`: all of them together.
    pub step: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiffResponse {
    pub run: RunId,
    pub step: Option<u32>,
    /// Lines, of the paths where they are known.
    pub added: u64,
    pub removed: u64,
    pub paths: Vec<DiffPath>,
    /// What was not applied because somebody else changed it; the note is where it was kept.
    pub conflicts: Vec<PathNote>,
    /// Paths somebody else changed between two changes of this run.
    pub changed_between: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiffPath {
    pub path: String,
    pub old: Entry,
    pub new: Entry,
    /// `None`: not text, too large, or not kept.
    pub added: Option<u64>,
    pub removed: Option<u64>,
    pub diff: String,
}
