//! Where the run and the person at the terminal meet: the driver puts down what happens and what it
//! asks, the chat draws it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use homarus_contract::{BoxFuture, event::Event, ids::RunId};
use homarus_driver::ports::{Approver, Decision, Live, Observer, Question};
use tokio::sync::{Notify, oneshot};

use super::transcript::Transcript;

#[derive(Default)]
pub struct Desk {
    papers: Mutex<Papers>,
    /// Something new lies on the desk.
    pub news: Notify,
}

#[derive(Default)]
pub struct Papers {
    pub transcript: Transcript,
    pub asked: Option<Asked>,
    /// Questions so far, so that each is told from the one before.
    questions: u64,
}

/// A question that is open.
pub struct Asked {
    pub question: Arc<Question>,
    pub number: u64,
    answer: oneshot::Sender<Decision>,
}

impl Desk {
    pub fn papers(&self) -> MutexGuard<'_, Papers> {
        // What a panicking thread left is still fit to be shown.
        self.papers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers the question of this number, if it is still the open one.
    pub fn decide(&self, number: u64, decision: Decision) {
        let asked = self.papers().asked.take_if(|asked| asked.number == number);
        if let Some(asked) = asked {
            // The run may have gone meanwhile: then nobody waits for the answer.
            let _ = asked.answer.send(decision);
        }
    }
}

impl Observer for Desk {
    fn event(&self, run: &RunId, _seq: u64, _at_ms: u64, event: &Event) {
        // What was said is shown by the chat itself, before the run is driven.
        if !matches!(event, Event::Accepted(_) | Event::Said { .. }) {
            self.papers().transcript.event(run, event);
            self.news.notify_one();
        }
    }

    fn live(&self, run: &RunId, _seq: u64, _offset: u64, live: &Live) {
        self.papers().transcript.live(run, live);
        self.news.notify_one();
    }
}

/// Asks the person whose chat it is.
pub struct AskHere(pub Arc<Desk>);

impl Approver for AskHere {
    fn ask(&self, question: Question) -> BoxFuture<'_, Option<Decision>> {
        let (answer, heard) = oneshot::channel();
        let mut papers = self.0.papers();
        papers.questions += 1;
        let number = papers.questions;
        papers.asked = Some(Asked { question: Arc::new(question), number, answer });
        drop(papers);
        self.0.news.notify_one();
        let taken_back = TakenBack { desk: self.0.clone(), number };
        Box::pin(async move {
            let _taken_back = taken_back;
            heard.await.ok()
        })
    }
}

/// Takes the question away when nobody waits for its answer any more.
struct TakenBack {
    desk: Arc<Desk>,
    number: u64,
}

impl Drop for TakenBack {
    fn drop(&mut self) {
        self.desk.papers().asked.take_if(|asked| asked.number == self.number);
        self.desk.news.notify_one();
    }
}
