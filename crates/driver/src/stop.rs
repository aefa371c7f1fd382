//! Stopping a run from outside: Ctrl-C in this process, or a mark in the database by another.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use homarus_contract::{ids::RunId, journal::Journal};
use tokio::sync::watch;

/// How often marks left by other processes are looked for.
pub(crate) const POLL: Duration = Duration::from_millis(100);

/// Why a run stops before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// The run can go on later.
    Pause,
    /// The answer to the latest message of a conversation ends here; for any other run, as [`Stop::Pause`].
    Turn,
    /// The run ends here.
    Cancel,
    /// The run has used up its wall time.
    Wall { limit_ms: u64 },
}

/// The handle by which this process stops its runs.
#[derive(Debug, Clone)]
pub struct Control {
    sender: Arc<watch::Sender<Option<Stop>>>,
    wants_back: Arc<AtomicBool>,
}

impl Default for Control {
    fn default() -> Self {
        Self { sender: Arc::new(watch::Sender::new(None)), wants_back: Arc::default() }
    }
}

impl Control {
    pub fn stop(&self, stop: Stop) {
        self.sender.send_replace(Some(stop));
    }

    /// Asks for the run back where a step has ended, without its resting: to go on with it otherwise.
    pub fn hand_back(&self) {
        self.wants_back.store(true, Ordering::Release);
    }

    pub(crate) fn wants_back(&self) -> bool {
        self.wants_back.load(Ordering::Acquire)
    }

    pub(crate) fn has_it_back(&self) {
        self.wants_back.store(false, Ordering::Release);
    }

    pub(crate) fn requested(&self) -> Option<Stop> {
        *self.sender.borrow()
    }

    /// Resolves when somebody wants the run stopped, here or in another process.
    pub(crate) async fn wanted(&self, journal: Arc<dyn Journal>, run: RunId) -> Stop {
        let mut receiver = self.sender.subscribe();
        let marked = async {
            loop {
                tokio::time::sleep(POLL).await;
                // A database that cannot be read now is found out by the next append.
                if journal.cancel_requested(&run).unwrap_or(false) {
                    return Stop::Cancel;
                }
            }
        };
        let here = async {
            let stop = receiver.wait_for(Option::is_some).await.map(|stop| *stop);
            match stop {
                Ok(stop) => stop.unwrap_or(Stop::Pause),
                Err(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            stop = here => stop,
            stop = marked => stop,
        }
    }
}
