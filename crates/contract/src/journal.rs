//! The port of the journal: append under a fence, read back, find what is open.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    BoxFuture,
    budget::{Budget, BudgetChange, BudgetState},
    event::{Event, Reconfigured, Record},
    gate::Approval,
    ids::{CallId, DriverId, Hash, RunId, StreamId},
};

/// The right to append to a run: whose it is, at which epoch, and what must stand there already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fence {
    run: RunId,
    epoch: u64,
    seq: u64,
}

impl Fence {
    /// Made by the journal when a run is accepted, claimed or appended to. Forging one gains
    /// nothing: the journal checks epoch and sequence number in the transaction.
    pub fn new(run: RunId, epoch: u64, seq: u64) -> Self {
        Self { run, epoch, seq }
    }

    pub fn run(&self) -> &RunId {
        &self.run
    }

    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The last sequence number this owner has seen.
    pub fn seq(&self) -> u64 {
        self.seq
    }
}

/// One transaction: all of it happens or nothing.
#[derive(Debug)]
pub struct Append {
    pub fence: Fence,
    pub events: Vec<Event>,
    /// Stored before the events, by their hash.
    pub blobs: Vec<Vec<u8>>,
    pub budget: Vec<BudgetChange>,
}

impl Append {
    pub fn new(fence: Fence) -> Self {
        Self { fence, events: Vec::new(), blobs: Vec::new(), budget: Vec::new() }
    }

    pub fn push(&mut self, event: Event) {
        self.events.push(event);
    }

    /// Adds a blob and returns its hash.
    pub fn blob(&mut self, bytes: impl Into<Vec<u8>>) -> Hash {
        let bytes = bytes.into();
        let hash = Hash::of(&bytes);
        self.blobs.push(bytes);
        hash
    }

    pub fn is_empty(&self) -> bool {
        self.events.is_empty() && self.budget.is_empty()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum JournalError {
    /// Another driver owns the run now. Stop at once; nothing was written.
    #[error("run {run} belongs to another driver now (epoch {current}, ours was {ours})")]
    Fenced { run: RunId, ours: u64, current: u64 },
    #[error("run {run} is at event {actual}, not {expected}")]
    WrongSeq { run: RunId, expected: u64, actual: u64 },
    /// A reservation would pass a limit; nothing was written.
    #[error("the budget does not allow it: {bound} limit {limit}")]
    OverBudget { bound: String, limit: u64 },
    #[error("there is no run {0}")]
    NoSuchRun(String),
    /// It was there, and is gone for good.
    #[error("run {run} was deleted by {who}")]
    Deleted { run: String, at_ms: u64, who: String },
    #[error("there is no blob {0}")]
    NoSuchBlob(Hash),
    #[error("run {0} is being worked on by another process")]
    Busy(RunId),
    #[error("nobody works on run {0} now")]
    NotDriven(RunId),
    /// A finished run is history: nothing is added to it, and nobody takes it over.
    #[error("run {0} has finished")]
    AlreadyFinished(RunId),
    #[error("this request was accepted before, as run {0}")]
    Duplicate(RunId),
    /// The request itself is wrong or passes a limit; nothing was written.
    #[error("the journal refuses this: {0}")]
    Refused(String),
    /// The disk is full or read-only; nothing was written.
    #[error("the journal cannot be written: {0}")]
    Unwritable(String),
    #[error("the journal cannot be read: {0}")]
    Unreadable(String),
    /// Does not follow from what stands before it: a bit was changed, or an event removed.
    #[error("the journal is damaged: {0}")]
    Damaged(String),
}

/// Where a run stands, a projection of its events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    Running,
    /// Waits for a person: an approval, or the outcome of an unknown effect.
    Waiting,
    /// Stopped on purpose; goes on with `runs resume`.
    Paused,
    Completed,
    Failed,
    Denied,
    OutOfBudget,
    Cancelled,
}

impl RunStatus {
    /// Those a run goes on from.
    pub const OPEN: [Self; 3] = [Self::Running, Self::Waiting, Self::Paused];

    pub fn is_final(self) -> bool {
        !Self::OPEN.contains(&self)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Paused => "paused",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Denied => "denied",
            Self::OutOfBudget => "out_of_budget",
            Self::Cancelled => "cancelled",
        }
    }
}

/// A line of `runs list`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRow {
    pub run: RunId,
    pub status: RunStatus,
    /// The first 200 characters of the request.
    pub prompt: String,
    pub workspace: String,
    pub created_ms: u64,
    pub updated_ms: u64,
    pub events: u64,
    pub epoch: u64,
    pub owner: Option<DriverId>,
    /// Whether the owner still holds its lock.
    pub owner_alive: bool,
    pub cancel_requested: bool,
    pub budget: BudgetState,
    /// `false`: some of the cost is unknown, and `budget.used.cost` is only a part.
    pub cost_known: bool,
}

/// What a process leaves for the driver of a run, to be done where one step has ended and the next has not begun.
/// The end of a run is no such request: it does not wait for a step, see [`Journal::request_cancel`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "want", rename_all = "snake_case")]
pub enum Request {
    /// The run rests until `runs resume`.
    Pause {
        who: String,
    },
    Reconfigure {
        change: Box<Reconfigured>,
    },
}

/// Events read at once where all are wanted.
const READ_PAGE: u32 = 1_000;

/// Appends, and what a driver needs to find and own its runs.
pub trait Journal: Send + Sync {
    /// The first event of a new run, owned by this driver. Deduplicates `(source, ext_id)`.
    fn accept(
        &self,
        accepted: crate::event::Accepted,
        blobs: Vec<Vec<u8>>,
    ) -> BoxFuture<'_, Result<Fence, JournalError>>;

    /// The same for a run that begins with a past: these events follow the first one, in one transaction. They change no
    /// budget.
    fn accept_with(
        &self,
        accepted: crate::event::Accepted,
        blobs: Vec<Vec<u8>>,
        events: Vec<Event>,
    ) -> BoxFuture<'_, Result<Fence, JournalError>>;

    fn append(&self, append: Append) -> BoxFuture<'_, Result<Fence, JournalError>>;

    /// Takes ownership of a run whose owner is dead (or that has none): raises its epoch.
    /// [`JournalError::Busy`] if the owner lives.
    fn claim(&self, run: RunId) -> BoxFuture<'_, Result<Fence, JournalError>>;

    /// Gives ownership up, so that others need not wait for this process to end.
    fn release(&self, fence: Fence) -> BoxFuture<'_, Result<(), JournalError>>;

    /// Events of a stream with `seq > after`, at most `limit`. Checks hashes as it reads.
    fn read(&self, stream: &StreamId, after: u64, limit: u32) -> Result<Vec<Record>, JournalError>;

    /// Every event of a run.
    fn read_all(&self, run: &RunId) -> Result<Vec<Record>, JournalError> {
        let mut records: Vec<Record> = Vec::new();
        loop {
            let after = records.last().map_or(0, |record| record.seq);
            let page = self.read(&run.stream(), after, READ_PAGE)?;
            let is_last = page.len() < READ_PAGE as usize;
            records.extend(page);
            if is_last {
                return Ok(records);
            }
        }
    }

    fn blob(&self, hash: &Hash) -> Result<Vec<u8>, JournalError>;

    fn run(&self, run: &RunId) -> Result<RunRow, JournalError>;

    /// Newest first.
    fn runs(&self, limit: u32) -> Result<Vec<RunRow>, JournalError>;

    fn budget(&self, run: &RunId) -> Result<(Budget, BudgetState), JournalError>;

    /// Runs marked running whose owner is dead.
    fn orphans(&self) -> Result<Vec<RunId>, JournalError>;

    /// A mark any process may set; the owner sees it within 100 ms.
    fn request_cancel(&self, run: RunId) -> BoxFuture<'_, Result<(), JournalError>>;

    fn cancel_requested(&self, run: &RunId) -> Result<bool, JournalError>;

    /// A request any process may leave for the owner, with the blobs it names. [`JournalError::NotDriven`] for a pause
    /// of a run that nobody drives.
    fn leave_request(
        &self,
        run: RunId,
        request: Request,
        blobs: Vec<Vec<u8>>,
    ) -> BoxFuture<'_, Result<(), JournalError>>;

    /// What was left and not done yet, oldest first. Each is gone with the event that does it: a change with its
    /// `reconfigured`, a pause when the run rests.
    fn requests(&self, run: &RunId) -> Result<Vec<Request>, JournalError>;

    /// An answer any process may leave for the owner to journal.
    fn leave_answer(&self, run: RunId, call: CallId, approval: Approval) -> BoxFuture<'_, Result<(), JournalError>>;

    fn answer(&self, run: &RunId, call: &CallId) -> Result<Option<Approval>, JournalError>;
}
