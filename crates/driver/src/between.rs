//! Between two steps nothing of a run is under way: here it takes what other processes left for it.
//!
//! A pause so stops no call and no answer half way. What a call has begun outside cannot be taken back, and an answer
//! is paid for: both end first, within their limits, and are kept. Only waiting is cut short.

use std::sync::Arc;

use homarus_contract::{
    event::{Event, Pause, WaitingOn},
    gate::{Judge, Ledger},
    ids::RunId,
    journal::{Journal, Request},
    machine::{Command, Machine},
};

use crate::{
    DriverError, Ended,
    session::Session,
    stop::{Control, POLL},
};

impl<M: Machine, J: Judge, L: Ledger> Session<'_, M, J, L> {
    /// `Some` if the run is not to be driven on here and now.
    pub(crate) async fn between_steps(&mut self) -> Result<Option<Ended>, DriverError> {
        if let Some(trouble) = self.trouble.take().filter(|_| !self.is_about_to_rest()) {
            self.discard_open_layers().await;
            return self.pause_for(Pause { trouble, ..Pause::default() }).await.map(Some);
        }
        let requests = self.driver.options.journal.requests(&self.run)?;
        let is_changed = requests.iter().any(|request| matches!(request, Request::Reconfigure { .. }));
        let is_wanted_back = self.control.wants_back();
        if is_changed || is_wanted_back {
            // What the rules of now allow is applied by them, and not judged once more by those to come.
            self.merge_agreed().await?;
        }
        let mut paused_by = None;
        for request in requests {
            match request {
                Request::Pause { who } => paused_by = Some(who),
                Request::Reconfigure { change } => self.note(Event::Reconfigured(*change)),
            }
        }
        if let Some(who) = paused_by.filter(|_| !self.is_about_to_rest()) {
            return self.pause_for(Pause { who, ..Pause::default() }).await.map(Some);
        }
        if !is_changed && !is_wanted_back {
            return Ok(None);
        }
        self.control.has_it_back();
        self.flush().await?;
        Ok(Some(Ended::HandedBack { fence: self.fence().clone() }))
    }

    /// Whether nothing is left to do: then it comes to its end, or waits for the next message, without a pause.
    fn is_about_to_rest(&self) -> bool {
        let next = self.driver.options.machine.next(&self.state);
        matches!(
            next.as_slice(),
            [Command::Finish { .. } | Command::EndTurn { .. } | Command::Wait { on: WaitingOn::Message }]
        )
    }

    /// What was agreed to is applied first: a run that rests leaves nothing in layers that need not be there.
    pub(crate) async fn pause_for(&mut self, pause: Pause) -> Result<Ended, DriverError> {
        self.merge_agreed().await?;
        self.note(Event::Waiting { on: WaitingOn::Resume(pause.clone()) });
        self.flush().await?;
        Ok(Ended::Paused(pause))
    }

    async fn merge_agreed(&mut self) -> Result<(), DriverError> {
        let agreed = self.driver.options.machine.next(&self.state);
        let agreed = agreed.into_iter().filter(|command| matches!(command, Command::Settle { hold: false, .. }));
        self.merge_all(agreed.collect()).await
    }

    /// Resolves when something is to be done between two steps, for waiting that nothing is lost by.
    pub(crate) fn called(&self) -> impl Future<Output = ()> + Send + use<M, J, L> {
        let journal = self.driver.options.journal.clone();
        called(self.control.clone(), journal, self.run.clone())
    }
}

async fn called(control: Control, journal: Arc<dyn Journal>, run: RunId) {
    // A database that cannot be read now is found out by the next append.
    while !control.wants_back() && journal.requests(&run).map_or(true, |requests| requests.is_empty()) {
        tokio::time::sleep(POLL).await;
    }
}
