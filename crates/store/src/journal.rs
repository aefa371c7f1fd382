//! The ports that [`Store`] serves.

use homarus_contract::{
    BoxFuture,
    budget::{Budget, BudgetState},
    event::{Accepted, Event, Record},
    gate::{Approval, Ledger},
    ids::{CallId, Hash, RunId, StreamId},
    journal::{Append, Fence, Journal, JournalError, Request, RunRow},
};

use crate::{
    Store,
    error::unreadable,
    ops::{Command, Done},
    read, requests,
};

impl Ledger for Store {
    fn commit(&self, append: Append) -> BoxFuture<'_, Result<Fence, JournalError>> {
        self.append(append)
    }
}

impl Journal for Store {
    fn accept(&self, accepted: Accepted, blobs: Vec<Vec<u8>>) -> BoxFuture<'_, Result<Fence, JournalError>> {
        self.accept_with(accepted, blobs, Vec::new())
    }

    fn accept_with(
        &self,
        accepted: Accepted,
        blobs: Vec<Vec<u8>>,
        events: Vec<Event>,
    ) -> BoxFuture<'_, Result<Fence, JournalError>> {
        self.fenced(Command::Accept { accepted: Box::new(accepted), blobs, events })
    }

    fn append(&self, append: Append) -> BoxFuture<'_, Result<Fence, JournalError>> {
        self.fenced(Command::Append(append))
    }

    fn claim(&self, run: RunId) -> BoxFuture<'_, Result<Fence, JournalError>> {
        self.fenced(Command::Claim(run))
    }

    fn release(&self, fence: Fence) -> BoxFuture<'_, Result<(), JournalError>> {
        self.plain(Command::Release(fence))
    }

    fn read(&self, stream: &StreamId, after: u64, limit: u32) -> Result<Vec<Record>, JournalError> {
        self.readers.with(|connection| read::records(connection, stream, after, limit))
    }

    fn blob(&self, hash: &Hash) -> Result<Vec<u8>, JournalError> {
        self.readers.with(|connection| read::blob(connection, hash))
    }

    fn run(&self, run: &RunId) -> Result<RunRow, JournalError> {
        self.readers.with(|connection| read::run(connection, &self.dir, run))
    }

    fn runs(&self, limit: u32) -> Result<Vec<RunRow>, JournalError> {
        self.readers.with(|connection| read::runs(connection, &self.dir, limit))
    }

    fn budget(&self, run: &RunId) -> Result<(Budget, BudgetState), JournalError> {
        self.readers.with(|connection| read::budget(connection, run))
    }

    fn orphans(&self) -> Result<Vec<RunId>, JournalError> {
        self.readers.with(|connection| read::orphans(connection, &self.dir))
    }

    fn request_cancel(&self, run: RunId) -> BoxFuture<'_, Result<(), JournalError>> {
        self.plain(Command::Cancel(run))
    }

    fn cancel_requested(&self, run: &RunId) -> Result<bool, JournalError> {
        self.readers.with(|connection| read::cancel_requested(connection, run))
    }

    fn leave_request(
        &self,
        run: RunId,
        request: Request,
        blobs: Vec<Vec<u8>>,
    ) -> BoxFuture<'_, Result<(), JournalError>> {
        self.plain(Command::Request { run, request, blobs })
    }

    fn requests(&self, run: &RunId) -> Result<Vec<Request>, JournalError> {
        self.readers.with(|connection| requests::left(connection, run).map_err(unreadable))
    }

    fn leave_answer(&self, run: RunId, call: CallId, approval: Approval) -> BoxFuture<'_, Result<(), JournalError>> {
        self.plain(Command::Answer { run, call, approval })
    }

    fn answer(&self, run: &RunId, call: &CallId) -> Result<Option<Approval>, JournalError> {
        self.readers.with(|connection| read::answer(connection, run, call))
    }
}

impl Store {
    fn fenced(&self, command: Command) -> BoxFuture<'_, Result<Fence, JournalError>> {
        Box::pin(async move {
            match self.submit(command).await? {
                Done::Fence(fence) => Ok(fence),
                done => Err(JournalError::Unwritable(format!("its writer answered {done:?}"))),
            }
        })
    }

    fn plain(&self, command: Command) -> BoxFuture<'_, Result<(), JournalError>> {
        Box::pin(async move { self.submit(command).await.map(|_| ()) })
    }
}
