//! The operations, each inside a transaction the writer has begun: check first, then write.

use std::{
    collections::{BTreeSet, HashSet},
    path::Path,
};

use homarus_contract::{
    event::{Accepted, Event, Inbound},
    gate::Approval,
    ids::{CallId, DriverId, Hash, RunId, StreamId},
    journal::{Append, Fence, JournalError, Request},
};
use rusqlite::{Connection, OptionalExtension, params};

use crate::{
    chain::Link,
    delete::{self, Swept, Unnamed},
    error::OpError,
    project::{Change, Projection, blobs_of, is_checkpointed},
    rebuild, requests,
    rows::{self, Head, signed},
};

pub(crate) const EVENT_BYTES_MAX: usize = 16 << 20;
pub(crate) const BLOB_BYTES_MAX: usize = 256 << 20;
pub(crate) const EVENTS_MAX: usize = 1000;
/// Results of several calls, each with what its changes replaced, may be of one commit.
pub(crate) const BLOBS_MAX: usize = 20_000;
const PAST_EVENTS_MAX: usize = 60_000;
const ANSWER_BYTES_MAX: usize = 64 << 10;
const NAME_BYTES_MAX: usize = 1024;

/// What the writer is asked to do.
#[derive(Debug)]
pub(crate) enum Command {
    /// `events`: the past a run begins with.
    Accept {
        accepted: Box<Accepted>,
        blobs: Vec<Vec<u8>>,
        events: Vec<Event>,
    },
    Append(Append),
    Claim(RunId),
    Release(Fence),
    Cancel(RunId),
    Request {
        run: RunId,
        request: Request,
        blobs: Vec<Vec<u8>>,
    },
    Answer {
        run: RunId,
        call: CallId,
        approval: Approval,
    },
    Rebuild,
    Delete {
        run: RunId,
        who: String,
    },
    Sweep(Unnamed),
}

impl Command {
    /// Roughly how much it adds to the transaction, so that groups stay bounded.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Accept { blobs, .. } | Self::Append(Append { blobs, .. }) | Self::Request { blobs, .. } => {
                blobs.iter().map(Vec::len).sum()
            }
            _ => 0,
        }
    }
}

/// What came of it.
#[derive(Debug)]
pub(crate) enum Done {
    Fence(Fence),
    Nothing,
    Rebuilt(u64),
    Swept(Swept),
}

/// The writer's memory from one transaction to the next.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// Drivers once found dead: their ids are never used again.
    pub dead: HashSet<DriverId>,
    pub swept: bool,
    /// Streams whose head is to be signed before the commit.
    pub touched: BTreeSet<String>,
    /// Drivers whose lock files are of no more use after the commit.
    pub forget: Vec<DriverId>,
}

/// One transaction's view.
pub(crate) struct Ops<'a> {
    pub connection: &'a Connection,
    pub dir: &'a Path,
    pub driver: &'a DriverId,
    pub now_ms: u64,
    pub memory: &'a mut Memory,
}

impl Ops<'_> {
    pub(crate) fn perform(&mut self, command: &Command) -> Result<Done, OpError> {
        match command {
            Command::Accept { accepted, blobs, events } => self.accept(accepted, blobs, events).map(Done::Fence),
            Command::Append(append) => self.append(append).map(Done::Fence),
            Command::Claim(run) => self.claim(run).map(Done::Fence),
            Command::Release(fence) => self.release(fence).map(|()| Done::Nothing),
            Command::Cancel(run) => self.cancel(run).map(|()| Done::Nothing),
            Command::Request { run, request, blobs } => self.request(run, request, blobs).map(|()| Done::Nothing),
            Command::Answer { run, call, approval } => self.answer(run, call, approval).map(|()| Done::Nothing),
            Command::Rebuild => rebuild::rebuild(self.connection).map(Done::Rebuilt),
            Command::Delete { run, who } => self.delete(run, who).map(|()| Done::Nothing),
            Command::Sweep(unnamed) => self.sweep(unnamed).map(Done::Swept),
        }
    }

    fn accept(&mut self, accepted: &Accepted, blobs: &[Vec<u8>], past: &[Event]) -> Result<Fence, OpError> {
        let run = &accepted.run;
        let inbound = &accepted.inbound;
        if run.stream().is_system() {
            return refuse("a run cannot be called `system`");
        }
        self.check_inbound(inbound)?;
        if past.len() > PAST_EVENTS_MAX {
            return refuse(&format!("a past of more than {PAST_EVENTS_MAX} events"));
        }
        check_kinds(past)?;
        if rows::head(self.connection, run.as_str())?.is_some() {
            return refuse(&format!("there is a run {run} already"));
        }
        if let gone @ JournalError::Deleted { .. } = delete::missing(self.connection, run.as_str()) {
            return Err(gone.into());
        }
        self.register()?;
        self.put_blobs(blobs)?;
        let mut head = Head { seq: 0, hash: Hash::ZERO, epoch: 1, owner: Some(self.driver.clone()) };
        let mut projection = Projection::begin(accepted, self.now_ms)?;
        self.put_events(run.as_str(), &mut head, &[Event::Accepted(accepted.clone())], &[])?;
        past.iter().for_each(|event| projection.apply(event, self.now_ms));
        if projection.status.is_final() {
            return refuse("a past that has ended");
        }
        if !past.is_empty() {
            self.put_events(run.as_str(), &mut head, past, &[])?;
        }
        rows::put_projection(self.connection, run, &projection)?;
        rows::put_budget(self.connection, run, &projection)?;
        rows::put_inbox(self.connection, run, &inbound.source, &inbound.ext_id)?;
        past.iter().try_for_each(|event| self.take_in_message(run, event))?;
        self.checkpoint(run, &head, &projection)?;
        Ok(Fence::new(run.clone(), head.epoch, head.seq))
    }

    fn append(&mut self, append: &Append) -> Result<Fence, OpError> {
        let fence = &append.fence;
        let run = fence.run();
        let (mut head, mut projection) = self.load(run)?;
        let fenced = || JournalError::Fenced { run: run.clone(), ours: fence.epoch(), current: head.epoch };
        if head.epoch != fence.epoch() {
            return Err(fenced().into());
        }
        if projection.status.is_final() {
            return Err(JournalError::AlreadyFinished(run.clone()).into());
        }
        if head.owner.as_ref() != Some(self.driver) {
            return Err(fenced().into());
        }
        if head.seq != fence.seq() {
            return Err(JournalError::WrongSeq { run: run.clone(), expected: fence.seq(), actual: head.seq }.into());
        }
        check_events(append)?;
        self.put_blobs(&append.blobs)?;
        let changes: Vec<Change> = append.budget.iter().map(Change::from).collect();
        for change in &changes {
            projection.change(change)?;
        }
        for event in &append.events {
            projection.check(event)?;
            projection.apply(event, self.now_ms);
            self.settle_answers(run, event)?;
            requests::settle(self.connection, run, event)?;
            self.take_in_message(run, event)?;
        }
        if append.events.is_empty() {
            return Ok(fence.clone());
        }
        if projection.status.is_final() {
            head.owner = None;
        }
        self.put_events(run.as_str(), &mut head, &append.events, &changes)?;
        rows::put_projection(self.connection, run, &projection)?;
        let is_rebudgeted =
            append.events.iter().any(|event| matches!(event, Event::Reconfigured(change) if change.budget.is_some()));
        if !changes.is_empty() || is_rebudgeted {
            rows::put_budget(self.connection, run, &projection)?;
        }
        if append.events.iter().any(is_checkpointed) {
            self.checkpoint(run, &head, &projection)?;
        }
        Ok(Fence::new(run.clone(), head.epoch, head.seq))
    }

    fn take_in_message(&self, run: &RunId, event: &Event) -> Result<(), OpError> {
        if let Event::Said { inbound } = event {
            self.check_inbound(inbound)?;
            rows::put_inbox(self.connection, run, &inbound.source, &inbound.ext_id)?;
        }
        Ok(())
    }

    /// A request is taken in once.
    fn check_inbound(&self, inbound: &Inbound) -> Result<(), OpError> {
        if inbound.source.len() > NAME_BYTES_MAX || inbound.ext_id.len() > NAME_BYTES_MAX {
            return refuse("the source or its id is too long");
        }
        let known = self
            .connection
            .prepare_cached("SELECT run FROM inbox WHERE source = ?1 AND ext_id = ?2")?
            .query_row([&inbound.source, &inbound.ext_id], |row| rows::run_id(row, 0))
            .optional()?;
        match known {
            Some(known) => Err(JournalError::Duplicate(known).into()),
            None => Ok(()),
        }
    }

    fn claim(&mut self, run: &RunId) -> Result<Fence, OpError> {
        let (mut head, mut projection) = self.load(run)?;
        if projection.status.is_final() {
            return Err(JournalError::AlreadyFinished(run.clone()).into());
        }
        // Read inside the write transaction: of two claimers the second sees the first's name here.
        let before = head.owner.take();
        if before.as_ref().is_some_and(|owner| owner == self.driver || !self.is_dead(owner)) {
            return Err(JournalError::Busy(run.clone()).into());
        }
        self.register()?;
        // Whoever takes it over wants it to go on; a pause was meant for the driver before.
        requests::forget_pauses(self.connection, run)?;
        head.epoch += 1;
        head.owner = Some(self.driver.clone());
        let event = Event::TakenOver { driver: self.driver.clone() };
        projection.apply(&event, self.now_ms);
        self.put_events(run.as_str(), &mut head, &[event], &[])?;
        rows::put_projection(self.connection, run, &projection)?;
        self.checkpoint(run, &head, &projection)?;
        if let Some(before) = before {
            self.forget_idle(&before)?;
        }
        Ok(Fence::new(run.clone(), head.epoch, head.seq))
    }

    fn release(&mut self, fence: &Fence) -> Result<(), OpError> {
        let run = fence.run();
        let (head, _) = self.load(run)?;
        let foreign = head.owner.as_ref().is_some_and(|owner| owner != self.driver);
        if head.epoch != fence.epoch() || foreign {
            let current = head.epoch;
            return Err(JournalError::Fenced { run: run.clone(), ours: fence.epoch(), current }.into());
        }
        requests::forget_pauses(self.connection, run)?;
        self.connection.prepare_cached("UPDATE streams SET owner = NULL WHERE stream = ?1")?.execute([run.as_str()])?;
        Ok(())
    }

    fn cancel(&mut self, run: &RunId) -> Result<(), OpError> {
        self.load_open(run)?;
        self.connection
            .prepare_cached("INSERT INTO cancels (run, at_ms) VALUES (?1, ?2) ON CONFLICT DO NOTHING")?
            .execute(params![run.as_str(), signed(self.now_ms)])?;
        Ok(())
    }

    fn request(&mut self, run: &RunId, request: &Request, blobs: &[Vec<u8>]) -> Result<(), OpError> {
        let (head, projection) = self.load(run)?;
        if projection.status.is_final() {
            return Err(JournalError::AlreadyFinished(run.clone()).into());
        }
        if matches!(request, Request::Pause { .. }) && head.owner.is_none_or(|owner| self.is_dead(&owner)) {
            return Err(JournalError::NotDriven(run.clone()).into());
        }
        self.put_blobs(blobs)?;
        if let Request::Reconfigure { change } = request {
            self.check_blobs(&Event::Reconfigured((**change).clone()))?;
        }
        requests::leave(self.connection, run, request, self.now_ms)
    }

    fn answer(&mut self, run: &RunId, call: &CallId, approval: &Approval) -> Result<(), OpError> {
        self.load_open(run)?;
        let text = to_json(approval)?;
        if text.len() > ANSWER_BYTES_MAX {
            return refuse("the answer is too long");
        }
        self.connection
            .prepare_cached(
                "INSERT INTO answers (run, call, at_ms, approval) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (run, call) DO UPDATE SET at_ms = excluded.at_ms, approval = excluded.approval",
            )?
            .execute(params![run.as_str(), call.as_str(), signed(self.now_ms), text])?;
        Ok(())
    }

    pub(crate) fn load(&self, run: &RunId) -> Result<(Head, Projection), OpError> {
        let no_run = || delete::missing(self.connection, run.as_str());
        let head = rows::head(self.connection, run.as_str())?.filter(|_| !run.stream().is_system());
        let head = head.ok_or_else(no_run)?;
        let projection = rows::projection(self.connection, run)?
            .ok_or_else(|| JournalError::Damaged(format!("run {run} has events, but no row")))?;
        Ok((head, projection))
    }

    fn load_open(&self, run: &RunId) -> Result<(), OpError> {
        let (_, projection) = self.load(run)?;
        if projection.status.is_final() {
            return Err(JournalError::AlreadyFinished(run.clone()).into());
        }
        Ok(())
    }

    fn put_blobs(&self, blobs: &[Vec<u8>]) -> Result<(), OpError> {
        if blobs.len() > BLOBS_MAX {
            return refuse(&format!("more than {BLOBS_MAX} blobs at once"));
        }
        for bytes in blobs {
            if bytes.len() > BLOB_BYTES_MAX {
                return refuse(&format!("a blob of more than {BLOB_BYTES_MAX} bytes"));
            }
            self.connection
                .prepare_cached("INSERT INTO blobs (hash, bytes) VALUES (?1, ?2) ON CONFLICT DO NOTHING")?
                .execute(params![Hash::of(bytes).as_bytes(), bytes])?;
        }
        Ok(())
    }

    /// Links the events to the head, moves the head, and writes both.
    fn put_events(
        &mut self,
        stream: &str,
        head: &mut Head,
        events: &[Event],
        changes: &[Change],
    ) -> Result<(), OpError> {
        let mut bodies = Vec::with_capacity(events.len());
        for (index, event) in events.iter().enumerate() {
            self.check_blobs(event)?;
            let body = to_json(event)?;
            if body.len() > EVENT_BYTES_MAX {
                return refuse(&format!("an event of more than {EVENT_BYTES_MAX} bytes"));
            }
            let is_last = index + 1 == events.len();
            let changes = if is_last && !changes.is_empty() { Some(to_json(&changes)?) } else { None };
            head.seq += 1;
            head.hash = Link {
                stream: stream.as_bytes(),
                seq: head.seq,
                at_ms: self.now_ms,
                epoch: head.epoch,
                prev: &head.hash,
                body: body.as_bytes(),
                changes: changes.as_deref().unwrap_or_default().as_bytes(),
            }
            .hash();
            bodies.push((head.seq, head.hash, body, changes));
        }
        rows::put_head(self.connection, stream, head)?;
        let mut insert = self.connection.prepare_cached(
            "INSERT INTO events (stream, seq, at_ms, epoch, hash, body, changes) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?;
        for (seq, hash, body, changes) in bodies {
            let (at_ms, epoch) = (signed(self.now_ms), signed(head.epoch));
            insert.execute(params![stream, signed(seq), at_ms, epoch, hash.as_bytes(), body, changes])?;
        }
        self.memory.touched.insert(stream.to_owned());
        Ok(())
    }

    fn check_blobs(&self, event: &Event) -> Result<(), OpError> {
        for hash in blobs_of(event) {
            let mut find = self.connection.prepare_cached("SELECT 1 FROM blobs WHERE hash = ?1")?;
            if !find.exists([hash.as_bytes()])? {
                return Err(JournalError::NoSuchBlob(hash).into());
            }
        }
        Ok(())
    }

    /// Writes the run's head into the system stream.
    fn checkpoint(&mut self, run: &RunId, head: &Head, projection: &Projection) -> Result<(), OpError> {
        self.put_system(Event::Checkpoint {
            stream: run.stream(),
            seq: head.seq,
            hash: head.hash,
            status: projection.status.as_str().to_owned(),
        })
    }

    pub(crate) fn put_system(&mut self, event: Event) -> Result<(), OpError> {
        let system = StreamId::system();
        let head = rows::head(self.connection, system.as_str())?;
        let mut head = head.unwrap_or(Head { seq: 0, hash: Hash::ZERO, epoch: 0, owner: None });
        self.put_events(system.as_str(), &mut head, &[event], &[])
    }

    /// An answer that was journalled, or was given to another question, is of no more use.
    fn settle_answers(&self, run: &RunId, event: &Event) -> Result<(), OpError> {
        let (call, kept) = match event {
            Event::ApprovalDecided { call, .. } => (call, None),
            Event::ApprovalRequested { call, hash, .. } => (call, Some(hash)),
            _ => return Ok(()),
        };
        if let Some(hash) = kept
            && rows::answer(self.connection, run, call)?.is_some_and(|answer| answer.hash == *hash)
        {
            return Ok(());
        }
        self.connection
            .prepare_cached("DELETE FROM answers WHERE run = ?1 AND call = ?2")?
            .execute([run.as_str(), call.as_str()])?;
        Ok(())
    }
}

fn check_events(append: &Append) -> Result<(), JournalError> {
    let refused = |what: String| Err(JournalError::Refused(what));
    if append.events.len() > EVENTS_MAX {
        return refused(format!("more than {EVENTS_MAX} events at once"));
    }
    if append.events.is_empty() && !append.budget.is_empty() {
        return refused("a budget change needs an event that says why".to_owned());
    }
    check_kinds(&append.events)
}

fn check_kinds(events: &[Event]) -> Result<(), JournalError> {
    let refused = |what: String| Err(JournalError::Refused(what));
    for (index, event) in events.iter().enumerate() {
        match event {
            Event::Accepted(_) | Event::TakenOver { .. } | Event::Checkpoint { .. } | Event::Deleted { .. } => {
                return refused(format!("`{}` is written by the journal itself", event.kind()));
            }
            Event::Finished { .. } if index + 1 < events.len() => {
                return refused("an event after `finished`".to_owned());
            }
            _ => {}
        }
    }
    Ok(())
}

fn to_json<T: serde::Serialize>(value: &T) -> Result<String, JournalError> {
    serde_json::to_string(value)
        .map_err(|error| JournalError::Refused(format!("it cannot be written as JSON: {error}")))
}

pub(crate) fn refuse<T>(what: &str) -> Result<T, OpError> {
    Err(JournalError::Refused(what.to_owned()).into())
}
