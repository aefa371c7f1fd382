//! One sandbox that stands ready for the next call: its namespaces, processes and system folders
//! are set up, and mostly what the last call saw ([`Ahead`]). Unused, it is ended after a while.
//!
//! Two threads work behind the calls: one prepares what the next call needs, the other puts away what ended calls leave.
//! The second may wait (for the kernel to be done with a process, or for the disk), and the first must not. What is put
//! away, and what the next call sees if this one changed the workspace, is put off until whoever makes the calls says that
//! it waits for something else: the commit and the merge after a call come first.

use std::{
    sync::{
        Arc, Mutex, PoisonError, Weak,
        mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TrySendError},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::{
    ahead::{Ahead, Guess},
    backend::Inner,
    call::Running,
    layer::{Layers, held::Held},
    slot::{Ready, Slot},
    spec::{StageFailure, Step},
};

/// An idle driver holds no processes.
const KEEP: Duration = Duration::from_secs(30);
/// Nobody has said in this time that it is a good moment: it is done anyway.
const PUT_OFF: Duration = Duration::from_millis(50);
/// More than this many asks wait for nobody: who asks does it itself, or goes without.
const ASKS_MAX: usize = 64;
/// Unused layers are removed when no call has ended for so long, or when there are so many. Each is a handful of folders, and
/// removing them one by one between a call's commits has those wait for it.
const REST: Duration = Duration::from_secs(1);
const ASIDE_MAX: usize = 16;
/// What could not be shown ahead so often in a row is not tried any more: each time costs a call a second sandbox.
const FAILURES_MAX: u32 = 2;

#[derive(Debug, Default)]
pub struct Spare {
    pub slot: Slot,
    /// What could not be shown ahead the last time or times.
    unfit: Mutex<Option<(Guess, u32)>>,
    preparer: Mutex<Helper<Wanted>>,
    cleaner: Mutex<Helper<Box<Leftover>>>,
}

/// A sandbox for the next call.
#[derive(Debug)]
struct Wanted(Option<Guess>);

#[derive(Debug)]
enum Ask<T> {
    /// When there is time.
    Later(T),
    /// There is.
    Now,
}

/// What a call leaves when all inside it are dead.
#[derive(Debug)]
pub struct Leftover {
    /// Its last stage and its control groups.
    pub ended: Running,
    /// The layer it had, with nothing in it.
    pub layer: Option<Held>,
}

/// A thread that is started with the first ask.
#[derive(Debug)]
struct Helper<T> {
    asks: Option<SyncSender<Ask<T>>>,
    thread: Option<JoinHandle<()>>,
    closed: bool,
}

impl<T> Default for Helper<T> {
    fn default() -> Self {
        Self { asks: None, thread: None, closed: false }
    }
}

impl<T: Send + 'static> Helper<T> {
    /// Gives back what it does not take: it is closed, cannot be started, or has too much to do.
    fn ask(&mut self, what: T, name: &str, work: impl FnOnce(Receiver<Ask<T>>) + Send + 'static) -> Result<(), T> {
        if self.closed {
            return Err(what);
        }
        if self.asks.is_none() {
            let (sender, asks) = mpsc::sync_channel(ASKS_MAX);
            match thread::Builder::new().name(name.to_owned()).spawn(move || work(asks)) {
                Ok(thread) => (self.asks, self.thread) = (Some(sender), Some(thread)),
                Err(_) => return Err(what),
            }
        }
        let Some(asks) = &self.asks else { return Err(what) };
        match asks.try_send(Ask::Later(what)) {
            Err(TrySendError::Full(Ask::Later(what)) | TrySendError::Disconnected(Ask::Later(what))) => Err(what),
            _ => Ok(()),
        }
    }

    fn now(&self) {
        if let Some(asks) = &self.asks {
            // One that has too much to do is at it already.
            let _ = asks.try_send(Ask::Now);
        }
    }
}

/// Ends it when it has done what it was asked, and waits for that.
fn close<T>(helper: &Mutex<Helper<T>>) {
    let thread = {
        let mut helper = helper.lock().unwrap_or_else(PoisonError::into_inner);
        helper.closed = true;
        helper.asks = None;
        helper.thread.take()
    };
    if let Some(thread) = thread {
        // It has no result, and a panic of it has been printed.
        let _ = thread.join();
    }
}

impl Spare {
    /// Whether a call could use what was shown ahead for it.
    pub fn tried(&self, guess: &Guess, has_served: bool) {
        let mut unfit = self.unfit.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *unfit {
            Some((known, _)) if known == guess && has_served => *unfit = None,
            Some((known, failures)) if known == guess => *failures += 1,
            _ if has_served => {}
            _ => *unfit = Some((guess.clone(), 1)),
        }
    }

    fn is_unfit(&self, guess: &Guess) -> bool {
        let unfit = self.unfit.lock().unwrap_or_else(PoisonError::into_inner);
        unfit.as_ref().is_some_and(|(known, failures)| known == guess && *failures >= FAILURES_MAX)
    }

    /// Ends the helpers and what stands ready, and waits for all. Calls may go on without.
    pub fn close(&self) {
        close(&self.preparer);
        drop(self.slot.take_any());
        close(&self.cleaner);
    }

    /// Nothing will change that the next call is to see: what was asked for it need not be put off. Returns at once.
    pub fn prepare_now(&self) {
        self.preparer.lock().unwrap_or_else(PoisonError::into_inner).now();
    }
}

/// Asks to have one ready for a call like this, if there is none. Returns at once.
pub fn prepare(inner: &Arc<Inner>, guess: Option<Guess>) {
    let guess = guess.filter(|guess| !inner.spare.is_unfit(guess));
    if !inner.spare.slot.holds(guess.as_ref()) {
        let weak = Arc::downgrade(inner);
        let mut preparer = inner.spare.preparer.lock().unwrap_or_else(PoisonError::into_inner);
        // Without the thread there is no spare, and calls start a little slower.
        let _ = preparer.ask(Wanted(guess), "sandbox-spare", move |asks| keep(&weak, &asks));
    }
}

/// Nothing is wanted of the sandbox for a while: the time for what was put off. Returns at once.
pub fn now(spare: &Spare) {
    spare.prepare_now();
    spare.cleaner.lock().unwrap_or_else(PoisonError::into_inner).now();
}

/// Has it put away; here and now, if there is nobody else to do it.
pub fn put_away(inner: &Arc<Inner>, leftover: Box<Leftover>) {
    let asked = {
        let mut cleaner = inner.spare.cleaner.lock().unwrap_or_else(PoisonError::into_inner);
        let layers = inner.layers.clone();
        cleaner.ask(leftover, "sandbox-cleaner", move |asks| clean(&layers, &asks))
    };
    if let Err(leftover) = asked {
        let Leftover { ended, layer } = *leftover;
        drop(ended);
        drop(layer);
        inner.layers.remove_empty();
    }
}

/// Ends with the back end: it holds only a weak reference to it.
fn keep(inner: &Weak<Inner>, asks: &Receiver<Ask<Wanted>>) {
    let (mut wanted, mut is_kept) = (None, false);
    let mut until = Instant::now();
    loop {
        let asked = if wanted.is_some() || is_kept { next(asks, until) } else { asks.recv().map_err(Into::into) };
        let Some(inner) = inner.upgrade() else { return };
        match asked {
            Err(RecvTimeoutError::Disconnected) => return,
            Ok(Ask::Later(like)) => {
                if wanted.is_none() {
                    until = Instant::now() + PUT_OFF;
                }
                wanted = Some(like);
            }
            Ok(Ask::Now) | Err(RecvTimeoutError::Timeout) => match wanted.take() {
                Some(Wanted(guess)) => {
                    if !inner.spare.slot.holds(guess.as_ref()) && inner.available().is_ok() {
                        let making = inner.spare.slot.making(guess.clone());
                        // A failure is met again, and told, by the next call.
                        if let Ok(ready) = ready(&inner, guess) {
                            making.done(ready);
                        }
                    }
                    (is_kept, until) = (true, Instant::now() + KEEP);
                }
                None if asked.is_ok() => {}
                None => {
                    is_kept = false;
                    drop(inner.spare.slot.take_any());
                    inner.zygote.close();
                }
            },
        }
    }
}

fn ready(inner: &Inner, guess: Option<Guess>) -> Result<Ready, StageFailure> {
    let ahead = guess.map(|guess| Ahead::new(guess, &inner.layers)).transpose().step("layer", "make one ahead")?;
    let running = inner.start(ahead.as_ref())?;
    Ok(Ready { running, ahead })
}

/// Ends when nobody can ask any more, with all put away.
fn clean(layers: &Layers, asks: &Receiver<Ask<Box<Leftover>>>) {
    let (mut ended, mut aside) = (Vec::new(), Vec::<Held>::new());
    let mut until = Instant::now();
    loop {
        let is_idle = ended.is_empty() && aside.is_empty();
        let asked = if is_idle { asks.recv().map_err(Into::into) } else { next(asks, until) };
        match asked {
            Ok(Ask::Later(leftover)) => {
                if ended.is_empty() {
                    until = Instant::now() + PUT_OFF;
                }
                ended.push(leftover.ended);
                aside.extend(leftover.layer);
            }
            Ok(Ask::Now) if ended.is_empty() => {}
            Ok(Ask::Now) | Err(RecvTimeoutError::Timeout) if !ended.is_empty() => {
                // Waits for each one's last stage, and removes its control groups.
                ended.clear();
                until = Instant::now() + REST;
                if aside.len() >= ASIDE_MAX {
                    aside.clear();
                }
            }
            Ok(Ask::Now) | Err(RecvTimeoutError::Timeout) => {
                aside.clear();
                layers.remove_empty();
            }
            Err(RecvTimeoutError::Disconnected) => {
                ended.clear();
                aside.clear();
                return layers.remove_empty();
            }
        }
    }
}

fn next<T>(asks: &Receiver<T>, until: Instant) -> Result<T, RecvTimeoutError> {
    asks.recv_timeout(until.saturating_duration_since(Instant::now()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_shown_ahead_is_not_tried_for_ever() {
        let spare = Spare::default();
        let guess = |name: &str| crate::ahead::tests::guess(name);
        spare.tried(&guess("a"), false);
        assert!(!spare.is_unfit(&guess("a")));
        // Somebody killed it: that happens.
        spare.tried(&guess("a"), true);
        spare.tried(&guess("a"), false);
        assert!(!spare.is_unfit(&guess("a")));
        spare.tried(&guess("a"), false);
        assert!(spare.is_unfit(&guess("a")) && !spare.is_unfit(&guess("b")));
        spare.tried(&guess("b"), true);
        assert!(spare.is_unfit(&guess("a")), "another workspace says nothing about it");
    }
}
