//! The one place where a sandbox stands ready for the next call, or is being made.

use std::{
    mem,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{
    ahead::{Ahead, Guess},
    call::Running,
};

/// One that takes longer is not waited for.
const MAKING_MAX: Duration = Duration::from_millis(100);

/// A sandbox that waits for its call.
#[derive(Debug)]
pub struct Ready<R = Running, A = Ahead> {
    pub running: R,
    /// What it shows; its layer goes after it.
    pub ahead: Option<A>,
}

/// What is shown ahead, as far as this room has to know.
pub trait Shows {
    fn shows(&self, guess: &Guess) -> bool;
}

impl Shows for Ahead {
    fn shows(&self, guess: &Guess) -> bool {
        self.is(guess)
    }
}

#[derive(Debug)]
pub struct Slot<R = Running, A = Ahead> {
    state: Mutex<State<R, A>>,
    changed: Condvar,
}

#[derive(Debug)]
enum State<R, A> {
    Empty,
    /// `awaited`: by a call that has come meanwhile.
    Making {
        guess: Option<Guess>,
        awaited: bool,
    },
    Ready(Ready<R, A>),
}

/// One is being made. Dropped without it: it could not be.
pub struct Making<'a, R, A: Shows>(&'a Slot<R, A>);

impl<R, A> Default for Slot<R, A> {
    fn default() -> Self {
        Self { state: Mutex::new(State::Empty), changed: Condvar::new() }
    }
}

impl<R, A: Shows> Slot<R, A> {
    /// What stands ready, if it fits a call that sees this; `None`: nobody can say before what the call sees. One that is
    /// being made is waited for, by one call: both would take longer if it made another beside it.
    pub fn take(&self, guess: Option<&Guess>) -> Option<Ready<R, A>> {
        let mut state = self.lock();
        if let State::Making { guess: made, awaited: awaited @ false } = &mut *state
            && (made.is_none() || made.as_ref() == guess)
        {
            *awaited = true;
            let waits = |state: &mut State<R, A>| matches!(state, State::Making { awaited: true, .. });
            let waited = self.changed.wait_timeout_while(state, MAKING_MAX, waits);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        match mem::replace(&mut *state, State::Empty) {
            State::Ready(ready) if fits(&ready, guess) => Some(ready),
            other => {
                *state = other;
                None
            }
        }
    }

    /// What stands ready, whatever it is for.
    pub fn take_any(&self) -> Option<Ready<R, A>> {
        let mut state = self.lock();
        match mem::replace(&mut *state, State::Empty) {
            State::Ready(ready) => Some(ready),
            other => {
                *state = other;
                None
            }
        }
    }

    /// Whether one for such a call stands here.
    pub fn holds(&self, guess: Option<&Guess>) -> bool {
        match (&*self.lock(), guess) {
            (State::Ready(Ready { ahead: Some(ahead), .. }), Some(guess)) => ahead.shows(guess),
            (State::Ready(Ready { ahead: None, .. }), None) => true,
            _ => false,
        }
    }

    /// One is about to be made; what stood here before ends.
    pub fn making(&self, guess: Option<Guess>) -> Making<'_, R, A> {
        let before = mem::replace(&mut *self.lock(), State::Making { guess, awaited: false });
        drop(before);
        Making(self)
    }

    fn lock(&self) -> MutexGuard<'_, State<R, A>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<R, A: Shows> Making<'_, R, A> {
    pub fn done(self, ready: Ready<R, A>) {
        *self.0.lock() = State::Ready(ready);
    }
}

impl<R, A: Shows> Drop for Making<'_, R, A> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        if matches!(*state, State::Making { .. }) {
            *state = State::Empty;
        }
        drop(state);
        self.0.changed.notify_all();
    }
}

fn fits<R, A: Shows>(ready: &Ready<R, A>, guess: Option<&Guess>) -> bool {
    ready.ahead.as_ref().is_none_or(|ahead| guess.is_some_and(|guess| ahead.shows(guess)))
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::ahead::tests::guess;

    impl Shows for Guess {
        fn shows(&self, guess: &Guess) -> bool {
            self == guess
        }
    }

    fn ready(name: &str) -> Ready<u32, Guess> {
        Ready { running: 7, ahead: Some(guess(name)) }
    }

    #[test]
    fn it_is_given_to_a_call_of_its_kind_once() {
        let slot = Slot::<u32, Guess>::default();
        slot.making(Some(guess("a"))).done(ready("a"));
        assert!(slot.holds(Some(&guess("a"))) && !slot.holds(Some(&guess("b"))) && !slot.holds(None));
        assert!(slot.take(Some(&guess("b"))).is_none() && slot.take(None).is_none());
        assert_eq!(slot.take(Some(&guess("a"))).unwrap().running, 7);
        assert!(slot.take(Some(&guess("a"))).is_none());
        // One that shows nothing yet is for all.
        slot.making(None).done(Ready { running: 8, ahead: None });
        assert_eq!(slot.take(Some(&guess("a"))).unwrap().running, 8);
    }

    #[test]
    fn one_that_is_being_made_is_waited_for_by_one_call() {
        let slot = Slot::<u32, Guess>::default();
        let making = slot.making(Some(guess("a")));
        assert!(slot.take(Some(&guess("b"))).is_none(), "it will not fit that one");
        thread::scope(|scope| {
            let waiting = scope.spawn(|| slot.take(Some(&guess("a"))));
            while !matches!(*slot.lock(), State::Making { awaited: true, .. }) {
                thread::yield_now();
            }
            assert!(slot.take(Some(&guess("a"))).is_none(), "the second does not wait");
            making.done(ready("a"));
            assert_eq!(waiting.join().unwrap().unwrap().running, 7);
        });
    }

    #[test]
    fn one_that_cannot_be_made_is_not_waited_for() {
        let slot = Slot::<u32, Guess>::default();
        let making = slot.making(Some(guess("a")));
        thread::scope(|scope| {
            let waiting = scope.spawn(|| slot.take(Some(&guess("a"))));
            while !matches!(*slot.lock(), State::Making { awaited: true, .. }) {
                thread::yield_now();
            }
            drop(making);
            assert!(waiting.join().unwrap().is_none());
        });
        // It takes too long.
        let making = slot.making(None);
        assert!(slot.take(None).is_none());
        making.done(Ready { running: 9, ahead: None });
        assert_eq!(slot.take_any().unwrap().running, 9);
    }
}
