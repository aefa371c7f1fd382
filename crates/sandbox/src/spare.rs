//! One sandbox that stands ready for the next call: its namespaces, processes and system folders
//! are set up, and it knows nothing of the call yet. Unused, it is ended after a while. The thread that prepares it
//! also puts away what ended calls leave, so that no call waits for it.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        mpsc::{self, RecvTimeoutError, SyncSender},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::{call::Running, l1::Inner};

/// An idle driver holds no processes.
const KEEP: Duration = Duration::from_secs(30);
/// More than this many asks wait for nobody: who asks does it itself, or goes without.
const ASKS_MAX: usize = 64;

#[derive(Debug, Default)]
pub struct Spare {
    ready: Mutex<Option<Running>>,
    keeper: Mutex<Keeper>,
}

#[derive(Debug, Default)]
struct Keeper {
    ask: Option<SyncSender<Ask>>,
    thread: Option<JoinHandle<()>>,
    closed: bool,
}

enum Ask {
    Prepare,
    PutAway(Box<Leftover>),
}

/// What a call leaves when all inside it are dead.
pub struct Leftover {
    /// Its last stage and its control groups.
    pub ended: Running,
    /// Its layer, set aside because nothing is in it.
    pub layer: Option<PathBuf>,
}

impl Spare {
    pub fn take(&self) -> Option<Running> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn is_ready(&self) -> bool {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner).is_some()
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

/// Asks to have one ready, if there is none. Returns at once.
pub fn prepare(inner: &Arc<Inner>) {
    if !inner.spare.is_ready() {
        // Without the thread there is no spare, and calls start a little slower.
        let _ = ask(inner, Ask::Prepare);
    }
}

/// Has it put away; here and now, if there is nobody else to do it.
pub fn put_away(inner: &Arc<Inner>, leftover: Box<Leftover>) {
    if let Err(Ask::PutAway(leftover)) = ask(inner, Ask::PutAway(leftover)) {
        inner.put_away(leftover);
    }
}

/// Tells the keeper thread, which is started with the first ask; gives back what it does not take.
fn ask(inner: &Arc<Inner>, what: Ask) -> Result<(), Ask> {
    let mut keeper = inner.spare.keeper.lock().unwrap_or_else(PoisonError::into_inner);
    if keeper.closed {
        return Err(what);
    }
    if keeper.ask.is_none() {
        let (sender, asks) = mpsc::sync_channel(ASKS_MAX);
        let weak = Arc::downgrade(inner);
        match thread::Builder::new().name("sandbox-spare".to_owned()).spawn(move || keep(&weak, &asks)) {
            Ok(thread) => (keeper.ask, keeper.thread) = (Some(sender), Some(thread)),
            Err(_) => return Err(what),
        }
    }
    match &keeper.ask {
        Some(sender) => sender.try_send(what).map_err(|refused| match refused {
            mpsc::TrySendError::Full(what) | mpsc::TrySendError::Disconnected(what) => what,
        }),
        None => Err(what),
    }
}

/// Ends with the back end: it holds only a weak reference to it.
fn keep(inner: &Weak<Inner>, asks: &mpsc::Receiver<Ask>) {
    let mut idle = false;
    loop {
        // Once nothing is kept, it sleeps until it is asked.
        let wait = if idle { Duration::MAX } else { KEEP };
        let asked = match asks.recv_timeout(wait) {
            Ok(what) => Some(what),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let Some(inner) = inner.upgrade() else { return };
        idle = asked.is_none();
        match asked {
            None => {
                drop(inner.spare.take());
                inner.zygote.close();
            }
            Some(Ask::Prepare) if inner.spare.is_ready() || inner.available().is_err() => {}
            // A failure is met again, and told, by the next call.
            Some(Ask::Prepare) => {
                if let Ok(running) = inner.start() {
                    inner.spare.put(running);
                }
            }
            Some(Ask::PutAway(leftover)) => inner.put_away(leftover),
        }
    }
}
