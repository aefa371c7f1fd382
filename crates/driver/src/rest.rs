//! Coming to rest, and to an end before the work is done: what was agreed to is applied, what nobody has agreed to waits
//! or is let go, and where nobody knows what happened that is said.

use homarus_contract::{
    event::{Event, FinishStatus, Pause, WaitingOn},
    gate::{Judge, Ledger},
    ids::CallId,
    machine::{Command, Machine},
    sandbox::LayerId,
};

use crate::{DriverError, Ended, session::Session, stop::Stop};

const ENDED: &str = "the run ended before anybody agreed to it";

/// What becomes of changes nobody has agreed to when a run comes to rest.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unagreed {
    /// They wait for an answer.
    Wait,
    /// They are thrown away, and this is why.
    LetGo(&'static str),
}

impl<M: Machine, J: Judge, L: Ledger> Session<'_, M, J, L> {
    /// Like [`Self::run`], but asks no model and runs no call.
    pub(crate) async fn come_to_rest(&mut self) -> Result<Ended, DriverError> {
        if self.driver.options.journal.cancel_requested(&self.run)? {
            return self.cancel().await;
        }
        self.close_open_step();
        self.discard_open_layers().await;
        self.settle_all(Unagreed::Wait).await
    }

    /// Ends a run that nobody drives any more.
    pub(crate) async fn cancel(&mut self) -> Result<Ended, DriverError> {
        self.close_open_step();
        self.stopped(Stop::Cancel).await
    }

    /// Merges what was agreed to, marks what nobody knows, and rests.
    pub(crate) async fn settle_all(&mut self, unagreed: Unagreed) -> Result<Ended, DriverError> {
        loop {
            if self.settle_next(unagreed).await? {
                continue;
            }
            match self.driver.options.machine.next(&self.state).into_iter().next() {
                Some(Command::MarkUnknown { call }) => self.note(Event::OutcomeUnknown { call }),
                Some(Command::Wait { on }) => return self.wait_elsewhere(on).await,
                Some(Command::Finish { status, summary }) => return self.finish(status, summary).await,
                _ => return self.pause_for(Pause::default()).await,
            }
        }
    }

    /// What a stop means for the run, once nothing of it is under way any more.
    pub(crate) async fn stopped(&mut self, stop: Stop) -> Result<Ended, DriverError> {
        match stop {
            Stop::Cancel => {
                self.close_calls().await?;
                self.finish(FinishStatus::Cancelled, "Cancelled.".to_owned()).await
            }
            Stop::Wall { limit_ms } => {
                self.close_calls().await?;
                self.note(Event::BoundHit { bound: "wall_ms".to_owned(), limit: limit_ms });
                let summary = format!("The limit on wall time ({} s) was reached.", limit_ms / 1000);
                self.finish(FinishStatus::OutOfBudget, summary).await
            }
            Stop::Turn => self.stop_turn().await,
            Stop::Pause => self.pause_for(Pause::default()).await,
        }
    }

    pub(crate) async fn finish(&mut self, status: FinishStatus, summary: String) -> Result<Ended, DriverError> {
        self.discard_open_layers().await;
        self.note(Event::Finished { status, summary: summary.clone() });
        self.flush().await?;
        Ok(Ended::Finished { status, summary })
    }

    /// The run ends though there was more to do: nothing of its calls stays open.
    async fn close_calls(&mut self) -> Result<(), DriverError> {
        loop {
            if self.settle_next(Unagreed::LetGo(ENDED)).await? {
                continue;
            }
            match self.driver.options.machine.next(&self.state).into_iter().next() {
                Some(Command::MarkUnknown { call }) => self.note(Event::OutcomeUnknown { call }),
                _ => break,
            }
        }
        // A machine does not come to what stands behind a call that has not ended.
        for call in self.calls.unsettled() {
            self.let_go(call, ENDED).await?;
        }
        Ok(())
    }

    /// Merges or throws away what the machine names first. `false`: it names something else, or what waits for an answer.
    async fn settle_next(&mut self, unagreed: Unagreed) -> Result<bool, DriverError> {
        let first = self.driver.options.machine.next(&self.state).into_iter().next();
        match (first, unagreed) {
            (Some(Command::Settle { action, plan, result, hold: false, approval }), _) => {
                self.flush().await?;
                self.merge_now(action, *plan, *result, approval).await?;
            }
            // Answered, and the driver died before it had acted on that.
            (Some(Command::Settle { action, plan, result, approval: Some(approval), .. }), _)
                if self.is_answer(&approval, &action, &plan, &result) =>
            {
                self.settle_held(action, *plan, *result, Some(approval)).await?;
            }
            (Some(Command::Settle { action, .. }), Unagreed::LetGo(why)) => self.let_go(action.call, why).await?,
            (Some(Command::Wait { on: WaitingOn::Approval { call } }), Unagreed::LetGo(why))
                if self.calls.has_changes(&call) =>
            {
                self.let_go(call, why).await?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Throws away a change nobody has agreed to.
    async fn let_go(&mut self, call: CallId, why: &str) -> Result<(), DriverError> {
        let attempt = self.calls.get(&call).map_or(1, |view| view.attempt);
        let layer = LayerId { run: self.run.clone(), call: call.clone(), attempt };
        self.note(Event::Discarded { call, reason: why.to_owned() });
        // Durable first: a kill between the two leaves at most a layer nobody uses.
        self.flush().await?;
        let _ = self.driver.options.sandbox.discard(&layer).await;
        Ok(())
    }
}
