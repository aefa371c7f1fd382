//! One run in the hands of one driver: its fold, its fence, and what waits for the next commit.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use homarus_contract::{
    budget::BudgetChange,
    event::{Accepted, Event, FinishStatus, WaitingOn},
    gate::{Judge, Ledger},
    ids::{Hash, RunId},
    journal::{Append, Fence},
    machine::{Command, Machine, PromptMessage},
};

use crate::{
    Driver, DriverError, Ended,
    calls::Calls,
    ports::Live,
    prompt::{Built, Prompt},
    recover::{self, OpenStep},
    stop::{Control, Stop},
};

const READ_PAGE: u32 = 1_000;

pub(crate) struct Session<'a, M: Machine, J, L> {
    pub(crate) driver: &'a Driver<M, J, L>,
    pub(crate) control: &'a Control,
    pub(crate) run: RunId,
    pub(crate) accepted: Arc<Accepted>,
    pub(crate) state: M::State,
    pub(crate) calls: Calls,
    pub(crate) prompt: Prompt,
    pub(crate) open: Option<OpenStep>,
    /// Why no call can be made before somebody has mended the machine.
    pub(crate) trouble: Option<String>,
    fence: Fence,
    /// Applied to `state` already, durable with the next commit.
    pending: Pending,
    offset: u64,
    wall_ms: u64,
    /// The wall time was up while something was under way.
    is_time_up: Arc<AtomicBool>,
}

#[derive(Default, Clone)]
struct Pending {
    events: Vec<Event>,
    blobs: Vec<Vec<u8>>,
    budget: Vec<BudgetChange>,
}

impl<'a, M: Machine, J: Judge, L: Ledger> Session<'a, M, J, L> {
    /// Folds the run's whole journal.
    pub(crate) fn load(driver: &'a Driver<M, J, L>, fence: Fence, control: &'a Control) -> Result<Self, DriverError> {
        let run = fence.run().clone();
        let journal = &driver.options.journal;
        let records = journal.read_all(&run)?;
        let Some(accepted) = Accepted::current(&records) else { return Err(DriverError::Empty(run)) };
        if !driver.options.machine.knows(&accepted.machine) {
            return Err(DriverError::UnknownMachine { run, machine: accepted.machine });
        }
        let state = driver.options.machine.fold(&records);
        let prompt = Prompt::load(&run, journal.as_ref(), &accepted)?;
        let mut session = Self {
            driver,
            control,
            run,
            accepted: Arc::new(accepted),
            state,
            calls: Calls::default(),
            prompt,
            open: recover::open_step(&records),
            trouble: None,
            fence,
            pending: Pending::default(),
            offset: 0,
            wall_ms: 0,
            is_time_up: Arc::default(),
        };
        for record in &records {
            session.take_in(&record.event);
        }
        session.prompt.restore(&records);
        Ok(session)
    }

    pub(crate) fn fence(&self) -> &Fence {
        &self.fence
    }

    /// Drives the run until it rests.
    pub(crate) async fn run(&mut self) -> Result<Ended, DriverError> {
        self.close_open_step();
        self.discard_open_layers().await;
        loop {
            if let Some(stop) = self.stop_requested()? {
                return self.stopped(stop).await;
            }
            if let Some(ended) = self.between_steps().await? {
                return Ok(ended);
            }
            if let Some(ended) = self.advance().await? {
                return Ok(ended);
            }
        }
    }

    /// One turn of the loop; `Some` when the run rests.
    async fn advance(&mut self) -> Result<Option<Ended>, DriverError> {
        let commands = self.driver.options.machine.next(&self.state);
        let (free, rest): (Vec<_>, Vec<_>) =
            commands.into_iter().partition(|command| matches!(command, Command::Settle { hold: false, .. }));
        let Some(command) = rest.into_iter().next() else {
            if !free.is_empty() {
                self.merge_all(free).await?;
                return Ok(None);
            }
            // A machine that wants nothing more has finished.
            self.flush().await?;
            return Ok(Some(self.finished_before()));
        };
        if let Command::CallModel { step, attempt, model, backoff_ms, patience_ms, is_last_resort, messages } = command
        {
            if !is_last_resort && self.skip(step, &model) {
                return Ok(None);
            }
            let ask = crate::ask::Ask { step, attempt, model, backoff_ms, patience_ms, messages };
            self.ask_model(ask, free).await?;
            return Ok(None);
        }
        if !free.is_empty() {
            self.merge_all(free).await?;
            return Ok(None);
        }
        match command {
            Command::Act { .. } => self.act_now().await?,
            Command::Settle { action, plan, result, approval, .. } => {
                self.settle_held(action, *plan, *result, approval).await?;
            }
            Command::MarkUnknown { call } => self.note(Event::OutcomeUnknown { call }),
            Command::Nudge { reason, text } => self.note(Event::Nudged { reason, text }),
            Command::Wait { on: WaitingOn::Approval { call } } => return self.wait_for_approval(call).await,
            Command::Wait { on } => return self.wait_elsewhere(on).await.map(Some),
            Command::EndTurn { status, summary } => self.note(Event::TurnEnded { status, summary }),
            Command::Finish { status, summary } => return self.finish(status, summary).await.map(Some),
            Command::CallModel { .. } => {}
        }
        Ok(None)
    }

    /// Applies an event now and makes it durable with the next commit.
    pub(crate) fn note(&mut self, event: Event) {
        self.take_in(&event);
        self.driver.options.machine.apply(&mut self.state, &event);
        self.pending.events.push(event);
    }

    pub(crate) fn note_blob(&mut self, bytes: Vec<u8>) -> Hash {
        let hash = Hash::of(&bytes);
        self.pending.blobs.push(bytes);
        hash
    }

    /// Builds the prompt of these messages; results that are only noted yet are found too.
    pub(crate) fn build_prompt(&mut self, messages: Vec<PromptMessage>) -> Result<Built, DriverError> {
        self.prompt.build(self.driver.options.journal.as_ref(), messages, &self.pending.blobs)
    }

    pub(crate) fn note_budget(&mut self, change: BudgetChange) {
        self.pending.budget.push(change);
    }

    /// The next transaction, with everything that was noted. What it holds stays noted until
    /// [`Self::committed`], so that a refused commit loses nothing.
    pub(crate) fn append(&self) -> Append {
        let Pending { events, blobs, budget } = self.pending.clone();
        Append { fence: self.fence.clone(), events, blobs, budget }
    }

    /// Takes in what a commit made durable: noted events are shown, new ones applied and shown.
    pub(crate) fn committed(&mut self, fence: Fence) -> Result<(), DriverError> {
        let applied = std::mem::take(&mut self.pending).events.len();
        let journal = self.driver.options.journal.clone();
        let records = journal.read(&self.run.stream(), self.fence.seq(), READ_PAGE)?;
        self.fence = fence;
        self.offset = 0;
        for (index, record) in records.iter().enumerate() {
            if index >= applied {
                self.take_in(&record.event);
                self.driver.options.machine.apply(&mut self.state, &record.event);
            }
            self.driver.options.observer.event(&self.run, record.seq, record.at_ms, &record.event);
        }
        Ok(())
    }

    /// Makes what was noted durable now.
    pub(crate) async fn flush(&mut self) -> Result<(), DriverError> {
        let append = self.append();
        if append.is_empty() {
            return Ok(());
        }
        let fence = self.driver.options.journal.append(append).await?;
        self.committed(fence)
    }

    pub(crate) fn live(&mut self, live: &Live) {
        self.driver.options.observer.live(&self.run, self.fence.seq(), self.offset, live);
        self.offset += 1;
    }

    pub(crate) fn clock_ms(&self) -> u64 {
        (self.driver.options.clock)()
    }

    pub(crate) fn steady_ms(&self) -> u64 {
        (self.driver.options.steady_clock)()
    }

    /// Resolves when somebody wants the run stopped. What passes until then is not its time.
    pub(crate) fn stop_called_for(&self) -> impl Future<Output = Stop> + Send + use<M, J, L> {
        let control = self.control.clone();
        let journal = self.driver.options.journal.clone();
        let run = self.run.clone();
        async move { control.wanted(journal, run).await }
    }

    /// The same, or when the run has used up its wall time, for what takes of it.
    pub(crate) fn stop_wanted(&self) -> impl Future<Output = Stop> + Send + use<M, J, L> {
        let limit_ms = self.accepted.budget.wall_ms_max;
        let left = Duration::from_millis(limit_ms.saturating_sub(self.wall_ms));
        let called_for = self.stop_called_for();
        let is_time_up = self.is_time_up.clone();
        async move {
            tokio::select! {
                stop = called_for => stop,
                () = tokio::time::sleep(left) => {
                    is_time_up.store(true, Ordering::Release);
                    Stop::Wall { limit_ms }
                }
            }
        }
    }

    fn stop_requested(&self) -> Result<Option<Stop>, DriverError> {
        if let Some(stop) = self.control.requested() {
            return Ok(Some(stop));
        }
        let limit_ms = self.accepted.budget.wall_ms_max;
        // A call that was cut off by the limit has no result that would count.
        if self.wall_ms >= limit_ms || self.is_time_up.load(Ordering::Acquire) {
            return Ok(Some(Stop::Wall { limit_ms }));
        }
        let cancelled = self.driver.options.journal.cancel_requested(&self.run)?;
        Ok(cancelled.then_some(Stop::Cancel))
    }

    fn finished_before(&self) -> Ended {
        let (status, summary) =
            self.calls.finished.clone().unwrap_or((FinishStatus::Failed, "The run has no next step.".to_owned()));
        Ended::Finished { status, summary }
    }

    /// The driver's own small projections.
    fn take_in(&mut self, event: &Event) {
        self.calls.apply(event);
        match event {
            Event::Forked { .. } => self.wall_ms = 0,
            Event::ModelResult { wall_ms, .. } | Event::ModelFailed { wall_ms, .. } => {
                self.wall_ms = self.wall_ms.saturating_add(*wall_ms);
            }
            Event::ActResult(result) => self.wall_ms = self.wall_ms.saturating_add(result.wall_ms),
            _ => {}
        }
    }
}
