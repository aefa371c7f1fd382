//! Stopping a turn of a conversation: what was agreed to is kept, everything else is let go.

use homarus_contract::{
    event::{Event, FinishStatus, Pause},
    gate::{Judge, Ledger},
    machine::Machine,
};

use crate::{DriverError, Ended, rest::Unagreed, session::Session};

const STOPPED: &str = "the user stopped the turn";

impl<M: Machine, J: Judge, L: Ledger> Session<'_, M, J, L> {
    /// Nothing of the turn is under way any more when this is called.
    pub(crate) async fn stop_turn(&mut self) -> Result<Ended, DriverError> {
        if !self.accepted.conversation {
            return self.pause_for(Pause::default()).await;
        }
        self.discard_open_layers().await;
        self.note(Event::TurnEnded { status: FinishStatus::Cancelled, summary: "Stopped.".to_owned() });
        self.settle_all(Unagreed::LetGo(STOPPED)).await
    }
}
