//! Waiting for people: their answer may come from here, or be left in the journal by another process.

use std::time::Duration;

use homarus_contract::{
    event::{Event, WaitingOn},
    gate::{Approval, Judge, Ledger},
    ids::{CallId, Hash},
    machine::Machine,
};

use crate::{
    DriverError, Ended,
    ports::{Decision, Question},
    session::Session,
    stop::{POLL, Stop},
};

enum Heard {
    Answer(Approval),
    Expired,
    Nobody,
    Called,
    Stopped(Stop),
}

impl<M: Machine, J: Judge, L: Ledger> Session<'_, M, J, L> {
    /// Asks about a call; `Some` if the run rests because nobody can answer here.
    pub(crate) async fn wait_for_approval(&mut self, call: CallId) -> Result<Option<Ended>, DriverError> {
        let on = WaitingOn::Approval { call: call.clone() };
        let Some(question) = self.question(&call) else { return self.wait_elsewhere(on).await.map(Some) };
        self.note(Event::Waiting { on: on.clone() });
        self.flush().await?;
        let hash = question.hash;
        match self.hear(&call, question).await {
            Heard::Answer(approval) => self.note(Event::ApprovalDecided { call, approval }),
            Heard::Expired => {
                let why = "nobody answered in time".to_owned();
                let approval = Approval { hash, granted: false, who: "timeout".to_owned(), why };
                self.note(Event::ApprovalDecided { call, approval });
            }
            Heard::Nobody => return Ok(Some(Ended::Waiting(on))),
            // The loop finds what it was called for, and asks again if that changes nothing about the question.
            Heard::Called => {}
            Heard::Stopped(stop) => return self.stopped(stop).await.map(Some),
        }
        Ok(None)
    }

    /// The run rests until a person does something elsewhere.
    pub(crate) async fn wait_elsewhere(&mut self, on: WaitingOn) -> Result<Ended, DriverError> {
        self.note(Event::Waiting { on: on.clone() });
        self.flush().await?;
        Ok(Ended::Waiting(on))
    }

    async fn hear(&mut self, call: &CallId, question: Question) -> Heard {
        let hash = question.hash;
        let journal = self.driver.options.journal.clone();
        let run = self.run.clone();
        // A clock that was set back does not make the question last longer than questions do.
        let left_ms = question.expires_ms.saturating_sub(self.clock_ms()).min(self.driver.options.approval_ms);
        let left = Duration::from_millis(left_ms);
        let elsewhere = async {
            loop {
                if let Ok(Some(approval)) = journal.answer(&run, call)
                    && approval.hash == hash
                {
                    return approval;
                }
                tokio::time::sleep(POLL).await;
            }
        };
        tokio::select! {
            biased;
            // However long it takes: waiting for a person is no time of the run.
            stop = self.stop_called_for() => Heard::Stopped(stop),
            () = self.called() => Heard::Called,
            approval = elsewhere => Heard::Answer(approval),
            decision = self.driver.options.approver.ask(question) => match decision {
                Some(decision) => Heard::Answer(signed(decision, hash)),
                None => Heard::Nobody,
            },
            () = tokio::time::sleep(left) => Heard::Expired,
        }
    }

    fn question(&self, call: &CallId) -> Option<Question> {
        let view = self.calls.get(call)?;
        let (hash, expires_ms) = view.asked?;
        Some(Question {
            run: self.run.clone(),
            call: call.clone(),
            action: view.action.clone(),
            plan: view.plan.clone(),
            reason: view.reason.clone(),
            diff: view.diff.clone(),
            hash,
            expires_ms,
        })
    }
}

fn signed(decision: Decision, hash: Hash) -> Approval {
    Approval { hash, granted: decision.granted, who: decision.who, why: decision.why }
}
