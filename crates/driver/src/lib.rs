//! The driver: executes what a machine wants done and appends what came of it.
//!
//! It owns no state but the fold of the journal. Every effect passes the gate; every result is an
//! event; the driver may die at any instant and another goes on from what is durable.

pub mod ports;

mod act;
mod ask;
mod batch;
mod between;
mod calls;
mod people;
mod prompt;
mod recover;
mod rest;
mod session;
mod settle;
mod stop;
mod turn;

use std::{collections::BTreeMap, sync::Arc};

use homarus_contract::{
    event::{FinishStatus, Pause, WaitingOn},
    gate::{Gate, GateError, Judge, Ledger},
    ids::{CallId, RunId},
    journal::{Fence, Journal, JournalError},
    machine::Machine,
    model::Models,
    sandbox::{CallLimits, Sandbox},
    tool::Tool,
};
use thiserror::Error;

pub use crate::stop::{Control, Stop};
use crate::{
    ports::{Approver, Observer},
    session::Session,
};

/// What a driver works with.
pub struct Options<M, J, L> {
    pub machine: M,
    pub gate: Gate<J, L>,
    pub journal: Arc<dyn Journal>,
    pub models: Arc<dyn Models>,
    pub tools: Vec<Arc<dyn Tool>>,
    pub sandbox: Arc<dyn Sandbox>,
    pub observer: Arc<dyn Observer>,
    pub approver: Arc<dyn Approver>,
    pub limits: CallLimits,
    /// Calls of one answer that run at the same time, at most; 1: one after the other.
    pub calls_at_once: usize,
    /// Milliseconds since 1970, by a clock that people set: it may jump. Only for times that people are told.
    pub clock: Arc<dyn Fn() -> u64 + Send + Sync>,
    /// Milliseconds since some moment, by a clock that never jumps: for how long something took.
    pub steady_clock: Arc<dyn Fn() -> u64 + Send + Sync>,
    /// How long a person has to answer; after that the answer is no.
    pub approval_ms: u64,
    /// Most tokens of one model answer.
    pub output_tokens_max: u32,
}

pub struct Driver<M, J, L> {
    pub(crate) options: Options<M, J, L>,
    pub(crate) tools: BTreeMap<String, Arc<dyn Tool>>,
}

/// How driving a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    Finished {
        status: FinishStatus,
        summary: String,
    },
    /// A person must answer, and nobody here can.
    Waiting(WaitingOn),
    /// Stopped on request, or because nothing can be done before somebody has mended the machine; the run goes on with
    /// `runs resume`.
    Paused(Pause),
    /// It does not rest: something about it was changed, or this process asked for it. Whoever drove it makes ready
    /// for what it is now, and drives on.
    HandedBack {
        fence: Fence,
    },
}

#[derive(Debug, Error)]
pub enum DriverError {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error("run {0} has no first event")]
    Empty(RunId),
    #[error("run {run} was made by the machine {machine:?}, which this version does not have")]
    UnknownMachine { run: RunId, machine: String },
    #[error("run {run} does not fit this version: {reason}")]
    Unfit { run: RunId, reason: String },
    /// The disk refused a merge. Its layer stays, and whoever goes on with the run merges it again.
    #[error("the changes of call {call} could not be merged into the workspace: {cause}")]
    Unmerged { call: CallId, cause: String, workspace: String },
}

impl<M: Machine, J: Judge, L: Ledger> Driver<M, J, L> {
    pub fn new(options: Options<M, J, L>) -> Self {
        let tools = options.tools.iter().map(|tool| (tool.definition().name, tool.clone())).collect();
        Self { options, tools }
    }

    /// Drives a run this process owns until it ends, waits for a person, is stopped or handed back.
    /// Gives ownership up unless the run was fenced away or handed back.
    pub async fn drive(&self, fence: Fence, control: &Control) -> Result<Ended, DriverError> {
        let mut session = self.load(fence, control).await?;
        let ended = session.run().await;
        self.give_up(session.fence().clone(), ended).await
    }

    /// Brings a dead driver's run to rest without asking a model or running a call: closes its step,
    /// merges what was agreed, throws open layers away, marks unknown outcomes.
    pub async fn settle(&self, fence: Fence, control: &Control) -> Result<Ended, DriverError> {
        let mut session = self.load(fence, control).await?;
        let ended = session.come_to_rest().await;
        self.give_up(session.fence().clone(), ended).await
    }

    /// Ends a run that nobody drives: as [`Self::settle`], but what waits for an answer is thrown away, and it is over.
    pub async fn cancel(&self, fence: Fence, control: &Control) -> Result<Ended, DriverError> {
        let mut session = self.load(fence, control).await?;
        let ended = session.cancel().await;
        self.give_up(session.fence().clone(), ended).await
    }

    async fn load<'a>(&'a self, fence: Fence, control: &'a Control) -> Result<Session<'a, M, J, L>, DriverError> {
        match Session::load(self, fence.clone(), control) {
            Ok(session) => Ok(session),
            Err(error) => {
                let _ = self.options.journal.release(fence).await;
                Err(error)
            }
        }
    }

    /// Others need not wait for the end of this process to go on with the run, nor to find out what is wrong with it.
    async fn give_up(&self, fence: Fence, ended: Result<Ended, DriverError>) -> Result<Ended, DriverError> {
        match &ended {
            Ok(Ended::HandedBack { .. }) | Err(DriverError::Journal(JournalError::Fenced { .. })) => {}
            Ok(_) => self.options.journal.release(fence).await?,
            // What went wrong before says more than what goes wrong now.
            Err(_) => drop(self.options.journal.release(fence).await),
        }
        ended
    }
}

/// Turns what can only be a journal error here into one.
pub(crate) fn journal_error(error: GateError) -> DriverError {
    match error {
        GateError::Journal(error) => DriverError::Journal(error),
        other => DriverError::Journal(JournalError::Unwritable(other.to_string())),
    }
}
