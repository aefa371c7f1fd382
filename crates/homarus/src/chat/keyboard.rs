//! Keys, read by a thread of their own.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use crossterm::event::{self, Event, KeyEvent, KeyEventKind};
use tokio::sync::mpsc;

use crate::exit::CliError;

/// How soon times without keys are told while a question waits for one; otherwise the thread only looks
/// whether it is still wanted.
const TICK: Duration = Duration::from_millis(50);
const LONG_TICK: Duration = Duration::from_millis(200);
const KEYS_MAX: usize = 256;

pub enum Typed {
    Key(KeyEvent),
    /// Pasted text, and dropped files.
    Paste(String),
    Resized,
    /// Nothing that was typed is unread.
    Idle,
    /// The terminal is gone.
    Gone,
}

pub struct Keyboard {
    keys: mpsc::Receiver<(Typed, u64)>,
    shared: Arc<Shared>,
}

struct Shared {
    over: AtomicBool,
    wants_idle: AtomicBool,
    clock: Instant,
}

impl Keyboard {
    pub fn start() -> Result<Self, CliError> {
        let (sender, keys) = mpsc::channel(KEYS_MAX);
        let shared = Arc::new(Shared {
            over: AtomicBool::new(false),
            wants_idle: AtomicBool::new(false),
            clock: Instant::now(),
        });
        let for_thread = shared.clone();
        std::thread::Builder::new()
            .name("keyboard".to_owned())
            .spawn(move || read(&sender, &for_thread))
            .map_err(|error| CliError::failed(format!("the keyboard cannot be read: {error}")))?;
        Ok(Self { keys, shared })
    }

    /// The next key and when it was read, in milliseconds of [`Self::now_ms`].
    pub async fn next(&mut self) -> (Typed, u64) {
        self.keys.recv().await.unwrap_or((Typed::Gone, self.now_ms()))
    }

    /// One that is there already.
    pub fn pending(&mut self) -> Option<(Typed, u64)> {
        self.keys.try_recv().ok()
    }

    /// Whether to tell of times when nothing is typed.
    pub fn tell_idle(&self, wanted: bool) {
        self.shared.wants_idle.store(wanted, Ordering::Relaxed);
    }

    pub fn now_ms(&self) -> u64 {
        self.shared.now_ms()
    }
}

impl Drop for Keyboard {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    fn now_ms(&self) -> u64 {
        self.clock.elapsed().as_millis() as u64
    }
}

fn read(sender: &mpsc::Sender<(Typed, u64)>, shared: &Shared) {
    while !shared.over.load(Ordering::Relaxed) {
        let wants_idle = shared.wants_idle.load(Ordering::Relaxed);
        let typed = match event::poll(if wants_idle { TICK } else { LONG_TICK }) {
            Ok(false) if wants_idle => Typed::Idle,
            Ok(false) => continue,
            Ok(true) => match event::read() {
                Ok(Event::Key(key)) if key.kind == KeyEventKind::Release => continue,
                Ok(Event::Key(key)) => Typed::Key(key),
                Ok(Event::Paste(text)) => Typed::Paste(text),
                Ok(Event::Resize(..)) => Typed::Resized,
                Ok(_) => continue,
                Err(_) => Typed::Gone,
            },
            Err(_) => Typed::Gone,
        };
        let gone = matches!(typed, Typed::Gone);
        if sender.blocking_send((typed, shared.now_ms())).is_err() || gone {
            return;
        }
    }
}
