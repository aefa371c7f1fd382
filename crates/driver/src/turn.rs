//! Stopping a turn of a conversation: what was agreed to is kept, everything else is let go.

use homarus_contract::{
    event::{Event, FinishStatus},
    gate::{Judge, Ledger},
    ids::CallId,
    machine::Machine,
    sandbox::LayerId,
};

use crate::{
    DriverError, Ended,
    session::{Session, Unagreed},
    stop::Stop,
};

const STOPPED: &str = "the user stopped the turn";

impl<M: Machine, J: Judge, L: Ledger> Session<'_, M, J, L> {
    /// Nothing of the turn is under way any more when this is called.
    pub(crate) async fn stop_turn(&mut self) -> Result<Ended, DriverError> {
        if !self.accepted.conversation {
            return Box::pin(self.stopped(Stop::Pause)).await;
        }
        self.discard_open_layers().await;
        self.note(Event::TurnEnded { status: FinishStatus::Cancelled, summary: "Stopped.".to_owned() });
        self.settle_all(Unagreed::LetGo).await
    }

    /// Throws away a change nobody has agreed to.
    pub(crate) async fn let_go(&mut self, call: CallId) -> Result<(), DriverError> {
        let attempt = self.calls.get(&call).map_or(1, |view| view.attempt);
        let layer = LayerId { run: self.run.clone(), call: call.clone(), attempt };
        self.note(Event::Discarded { call, reason: STOPPED.to_owned() });
        // Durable first: a kill between the two leaves at most a layer nobody uses.
        self.flush().await?;
        let _ = self.driver.options.sandbox.discard(&layer).await;
        Ok(())
    }
}
