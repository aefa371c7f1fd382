//! One sandbox that stands ready for the next call: its namespaces, processes and system folders
//! are set up, and it knows nothing of the call yet. Unused, it is ended after a while.

use std::{
    sync::{
        Arc, Mutex, PoisonError, Weak,
        mpsc::{self, RecvTimeoutError, SyncSender, TrySendError},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::{call::Running, l1::Inner};

/// An idle driver holds no processes.
const KEEP: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
pub struct Spare {
    ready: Mutex<Option<Running>>,
    keeper: Mutex<Keeper>,
}

#[derive(Debug, Default)]
struct Keeper {
    ask: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
    closed: bool,
}

impl Spare {
    pub fn take(&self) -> Option<Running> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Ends the keeper and what stands ready, and waits for both. Calls may go on without.
    pub fn close(&self) {
        let thread = {
            let mut keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner);
            keeper.closed = true;
            keeper.ask = None;
            keeper.thread.take()
        };
        if let Some(thread) = thread {
            // It has no result, and a panic of it has been printed.
            let _ = thread.join();
        }
        drop(self.take());
    }

    fn put(&self, running: Running) {
        let before = self.ready.lock().unwrap_or_else(PoisonError::into_inner).replace(running);
        drop(before);
    }
}

/// Asks the keeper thread (started with the first ask) to have one ready. Returns at once.
pub fn prepare(inner: &Arc<Inner>) {
    let mut keeper = inner.spare.keeper.lock().unwrap_or_else(PoisonError::into_inner);
    if keeper.closed {
        return;
    }
    if let Some(ask) = &keeper.ask {
        // Full: it has been asked already.
        if !matches!(ask.try_send(()), Err(TrySendError::Disconnected(()))) {
            return;
        }
    }
    let (ask, asks) = mpsc::sync_channel(1);
    let weak = Arc::downgrade(inner);
    let started = thread::Builder::new().name("sandbox-spare".to_owned()).spawn(move || keep(&weak, &asks));
    // Without the thread there is no spare, and calls start a little slower.
    if let Ok(thread) = started
        && ask.send(()).is_ok()
    {
        keeper.ask = Some(ask);
        keeper.thread = Some(thread);
    }
}

/// Ends with the back end: it holds only a weak reference to it.
fn keep(inner: &Weak<Inner>, asks: &mpsc::Receiver<()>) {
    loop {
        let asked = match asks.recv_timeout(KEEP) {
            Ok(()) => true,
            Err(RecvTimeoutError::Timeout) => false,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let Some(inner) = inner.upgrade() else { return };
        if !asked {
            drop(inner.spare.take());
            inner.zygote.close();
        } else if inner.available().is_ok() {
            // A failure is met again, and told, by the next call.
            if let Ok(running) = inner.start() {
                inner.spare.put(running);
            }
        }
    }
}
