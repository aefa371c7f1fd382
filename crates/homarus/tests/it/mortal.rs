//! A driver that dies at an exact commit, as its journal sees it.

use std::sync::{Arc, Mutex};

use homarus_contract::{
    BoxFuture,
    budget::{Budget, BudgetState},
    event::{Accepted, Event, Record},
    gate::{Approval, Ledger},
    ids::{CallId, Hash, RunId, StreamId},
    journal::{Append, Fence, Journal, JournalError, Request, RunRow},
};
use homarus_store::Store;
use tokio::sync::Notify;

use crate::fatal::{Fate, Point};

/// A journal whose driver dies right after its n-th commit: the commit is durable, and nothing
/// that waited for it ever hears of it.
pub struct Mortal {
    pub inner: Arc<Store>,
    left: Mutex<Option<u32>>,
    fate: Arc<Fate>,
    /// Told when the last commit of this life is durable.
    pub dead: Notify,
}

impl Mortal {
    /// Lives for `commits`, or for ever.
    pub fn new(inner: Arc<Store>, commits: Option<u32>, fate: Arc<Fate>) -> Self {
        Self { inner, left: Mutex::new(commits), fate, dead: Notify::new() }
    }

    async fn survive(&self) {
        let dies = {
            let mut left = self.left.lock().unwrap();
            match left.as_mut() {
                None => false,
                Some(left) => {
                    *left = left.saturating_sub(1);
                    *left == 0
                }
            }
        };
        if dies {
            self.dead.notify_one();
            std::future::pending::<()>().await;
        }
    }
}

impl Ledger for Mortal {
    fn commit(&self, append: Append) -> BoxFuture<'_, Result<Fence, JournalError>> {
        Journal::append(self, append)
    }
}

impl Journal for Mortal {
    fn accept(&self, accepted: Accepted, blobs: Vec<Vec<u8>>) -> BoxFuture<'_, Result<Fence, JournalError>> {
        Box::pin(async move {
            let fence = self.inner.accept(accepted, blobs).await?;
            self.survive().await;
            Ok(fence)
        })
    }

    fn accept_with(
        &self,
        accepted: Accepted,
        blobs: Vec<Vec<u8>>,
        events: Vec<Event>,
    ) -> BoxFuture<'_, Result<Fence, JournalError>> {
        self.inner.accept_with(accepted, blobs, events)
    }

    fn append(&self, append: Append) -> BoxFuture<'_, Result<Fence, JournalError>> {
        Box::pin(async move {
            let fence = Journal::append(self.inner.as_ref(), append).await?;
            self.survive().await;
            Ok(fence)
        })
    }

    fn claim(&self, run: RunId) -> BoxFuture<'_, Result<Fence, JournalError>> {
        Box::pin(async move {
            let fence = self.inner.claim(run).await?;
            self.survive().await;
            Ok(fence)
        })
    }

    fn release(&self, fence: Fence) -> BoxFuture<'_, Result<(), JournalError>> {
        Box::pin(async move {
            let released = self.inner.release(fence).await;
            self.fate.pass(Point::Released).await;
            released
        })
    }

    fn read(&self, stream: &StreamId, after: u64, limit: u32) -> Result<Vec<Record>, JournalError> {
        self.inner.read(stream, after, limit)
    }

    fn blob(&self, hash: &Hash) -> Result<Vec<u8>, JournalError> {
        self.inner.blob(hash)
    }

    fn run(&self, run: &RunId) -> Result<RunRow, JournalError> {
        self.inner.run(run)
    }

    fn runs(&self, limit: u32) -> Result<Vec<RunRow>, JournalError> {
        self.inner.runs(limit)
    }

    fn budget(&self, run: &RunId) -> Result<(Budget, BudgetState), JournalError> {
        self.inner.budget(run)
    }

    fn orphans(&self) -> Result<Vec<RunId>, JournalError> {
        self.inner.orphans()
    }

    fn request_cancel(&self, run: RunId) -> BoxFuture<'_, Result<(), JournalError>> {
        self.inner.request_cancel(run)
    }

    fn cancel_requested(&self, run: &RunId) -> Result<bool, JournalError> {
        self.inner.cancel_requested(run)
    }

    fn leave_request(
        &self,
        run: RunId,
        request: Request,
        blobs: Vec<Vec<u8>>,
    ) -> BoxFuture<'_, Result<(), JournalError>> {
        self.inner.leave_request(run, request, blobs)
    }

    fn requests(&self, run: &RunId) -> Result<Vec<Request>, JournalError> {
        self.inner.requests(run)
    }

    fn leave_answer(&self, run: RunId, call: CallId, approval: Approval) -> BoxFuture<'_, Result<(), JournalError>> {
        self.inner.leave_answer(run, call, approval)
    }

    fn answer(&self, run: &RunId, call: &CallId) -> Result<Option<Approval>, JournalError> {
        self.inner.answer(run, call)
    }
}
