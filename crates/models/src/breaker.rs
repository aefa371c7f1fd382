//! Circuit breakers, one for each model: a model that fails again and again is not asked for a while, and then by one
//! attempt at a time until it answers.
//!
//! They are what this process has seen, fed by how attempts end ([`Breakers::watch`]), and nothing else: not in the
//! journal, gone with the process. What a run sees of them is an event that names the model that was skipped and why.
//! They are kept by model and not by provider, because providers fail that way: one model is overloaded or retired
//! while its neighbours answer.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Instant,
};

use futures_core::Stream;
use homarus_contract::{
    BoxStream,
    model::{Admission, ModelError, ModelErrorClass, ModelEvent, ModelRef},
    text::one_line,
};

/// The pause doubles with each failed probe up to this many times the first.
const PAUSE_FACTOR_MAX: u64 = 20;
/// Told to others while a probe is under way.
const PROBE_RETRY_MS: u64 = 1_000;
const WHY_CHARS_MAX: usize = 300;

/// When a circuit opens, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerOptions {
    /// Failures in a row that open it.
    pub failures: u32,
    /// The first pause.
    pub open_ms: u64,
}

impl Default for BreakerOptions {
    fn default() -> Self {
        Self { failures: 4, open_ms: 30_000 }
    }
}

type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

#[derive(Clone)]
pub(crate) struct Breakers {
    options: BreakerOptions,
    /// Milliseconds on a clock that never goes back.
    clock: Clock,
    circuits: Arc<Mutex<HashMap<ModelRef, Circuit>>>,
}

/// A model whose last attempt failed.
#[derive(Default)]
struct Circuit {
    failures: u32,
    last: String,
    open: Option<Open>,
}

struct Open {
    until_ms: u64,
    pause_ms: u64,
    probing: bool,
}

impl Breakers {
    pub(crate) fn new(options: BreakerOptions) -> Self {
        let began = Instant::now();
        Self::with_clock(options, Arc::new(move || u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX)))
    }

    pub(crate) fn with_clock(options: BreakerOptions, clock: Clock) -> Self {
        Self { options, clock, circuits: Arc::default() }
    }

    pub(crate) fn admission(&self, model: &ModelRef) -> Admission {
        let now = (self.clock)();
        let circuits = self.lock();
        let Some(Circuit { failures, last, open: Some(open) }) = circuits.get(model) else { return Admission::Ask };
        let times = if *failures == 1 { "once".to_owned() } else { format!("{failures} times in a row") };
        let skip = |retry_in_ms, and: &str| {
            let why = one_line(&format!("it failed {times}{and}; last: {last}"), WHY_CHARS_MAX);
            Admission::Skip { why, retry_in_ms }
        };
        match open {
            Open { until_ms, .. } if now < *until_ms => skip(until_ms - now, ""),
            Open { probing: true, .. } => skip(PROBE_RETRY_MS, " and is being tried again just now"),
            Open { .. } => Admission::Ask,
        }
    }

    /// The same stream; how it ends is noted.
    pub(crate) fn watch(&self, model: &ModelRef, stream: BoxStream<ModelEvent>) -> BoxStream<ModelEvent> {
        if let Some(open) = self.lock().get_mut(model).and_then(|circuit| circuit.open.as_mut()) {
            open.probing = true;
        }
        Box::pin(Watched { breakers: self.clone(), model: model.clone(), stream, ended: false })
    }

    fn answered(&self, model: &ModelRef) {
        self.lock().remove(model);
    }

    fn failed(&self, model: &ModelRef, error: &ModelError) {
        use ModelErrorClass::*;
        let pause_asked = error.retry_after_ms.filter(|ms| *ms > self.options.open_ms);
        let opens_at_once = match error.class {
            // These say something about the request, not about the model.
            BadRequest | ContextOverflow | Denied => return self.let_go(model),
            // The next attempt would end as this one did.
            Auth | NotFound => true,
            RateLimited => pause_asked.is_some(),
            Unavailable | Network | Timeout | Protocol | Worker => false,
        };
        let now = (self.clock)();
        let mut circuits = self.lock();
        let circuit = circuits.entry(model.clone()).or_default();
        circuit.failures = circuit.failures.saturating_add(1);
        circuit.last = error.message.clone();
        let first = self.options.open_ms;
        let pause_ms = match &circuit.open {
            // An attempt that began before it opened says nothing new.
            Some(open) if !open.probing && now < open.until_ms => return,
            Some(open) => open.pause_ms.saturating_mul(2).min(first.saturating_mul(PAUSE_FACTOR_MAX)),
            None if opens_at_once || circuit.failures >= self.options.failures => first,
            None => return,
        };
        let pause_ms = pause_ms.max(pause_asked.unwrap_or(0));
        circuit.open = Some(Open { until_ms: now.saturating_add(pause_ms), pause_ms, probing: false });
    }

    /// An attempt ended without saying anything about the model.
    fn let_go(&self, model: &ModelRef) {
        if let Some(open) = self.lock().get_mut(model).and_then(|circuit| circuit.open.as_mut()) {
            open.probing = false;
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ModelRef, Circuit>> {
        self.circuits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Watched {
    breakers: Breakers,
    model: ModelRef,
    stream: BoxStream<ModelEvent>,
    ended: bool,
}

impl Stream for Watched {
    type Item = ModelEvent;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<ModelEvent>> {
        let next = self.stream.as_mut().poll_next(context);
        match &next {
            Poll::Ready(Some(ModelEvent::Done { .. })) => {
                self.ended = true;
                self.breakers.answered(&self.model);
            }
            Poll::Ready(Some(ModelEvent::Failed(error))) => {
                self.ended = true;
                self.breakers.failed(&self.model, error);
            }
            _ => {}
        }
        next
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // Whoever asked went away: a user's stop is no failure of the model.
        if !self.ended {
            self.breakers.let_go(&self.model);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use futures_util::{FutureExt, StreamExt, stream};
    use homarus_contract::message::{StopReason, Usage};

    use super::*;

    struct World {
        breakers: Breakers,
        now: Arc<AtomicU64>,
    }

    impl World {
        fn new() -> Self {
            let now = Arc::new(AtomicU64::new(0));
            let clock = now.clone();
            let options = BreakerOptions { failures: 3, open_ms: 1_000 };
            Self { breakers: Breakers::with_clock(options, Arc::new(move || clock.load(Ordering::SeqCst))), now }
        }

        fn pass(&self, ms: u64) {
            self.now.fetch_add(ms, Ordering::SeqCst);
        }

        fn attempt(&self, name: &str, ending: ModelEvent) {
            let events: BoxStream<ModelEvent> = Box::pin(stream::iter([ModelEvent::TextDelta("x".into()), ending]));
            let watched = self.breakers.watch(&model(name), events);
            assert_eq!(watched.collect::<Vec<_>>().now_or_never().unwrap().len(), 2);
        }

        fn fail(&self, name: &str, class: ModelErrorClass) {
            self.attempt(name, ModelEvent::Failed(error(class, None)));
        }

        fn skipped_for(&self, name: &str) -> Option<u64> {
            match self.breakers.admission(&model(name)) {
                Admission::Ask => None,
                Admission::Skip { retry_in_ms, why } => {
                    assert!(why.contains("it failed") && why.contains("overloaded"), "{why}");
                    Some(retry_in_ms)
                }
            }
        }
    }

    fn model(name: &str) -> ModelRef {
        name.parse().unwrap()
    }

    fn error(class: ModelErrorClass, retry_after_ms: Option<u64>) -> ModelError {
        ModelError { class, message: "overloaded".to_owned(), raw: String::new(), retry_after_ms }
    }

    fn done() -> ModelEvent {
        ModelEvent::Done { stop: StopReason::EndTurn, usage: Usage::default() }
    }

    #[test]
    fn failures_in_a_row_open_the_circuit_of_that_model_only() {
        let world = World::new();
        for count in 0..3 {
            assert_eq!(world.skipped_for("a/x"), None, "after {count}");
            world.fail("a/x", ModelErrorClass::Unavailable);
        }
        assert_eq!(world.skipped_for("a/x"), Some(1_000));
        assert_eq!(world.skipped_for("a/y"), None, "a neighbour of the same provider");
        world.pass(400);
        assert_eq!(world.skipped_for("a/x"), Some(600));
    }

    #[test]
    fn an_answer_between_them_starts_the_count_anew() {
        let world = World::new();
        for _ in 0..5 {
            world.fail("a/x", ModelErrorClass::Timeout);
            world.fail("a/x", ModelErrorClass::Network);
            world.attempt("a/x", done());
        }
        assert_eq!(world.skipped_for("a/x"), None);
    }

    #[test]
    fn one_probe_at_a_time_and_its_end_decides() {
        let world = World::new();
        (0..3).for_each(|_| world.fail("a/x", ModelErrorClass::Protocol));
        world.pass(1_000);
        assert_eq!(world.skipped_for("a/x"), None, "one may try");
        let probe = world.breakers.watch(&model("a/x"), Box::pin(stream::pending()));
        assert_eq!(world.skipped_for("a/x"), Some(PROBE_RETRY_MS), "and nobody beside it");
        drop(probe);
        assert_eq!(world.skipped_for("a/x"), None, "a probe that was stopped decides nothing");
        world.fail("a/x", ModelErrorClass::Unavailable);
        assert_eq!(world.skipped_for("a/x"), Some(2_000), "the pause doubles");
        world.pass(2_000);
        world.attempt("a/x", done());
        assert_eq!(world.skipped_for("a/x"), None);
        world.fail("a/x", ModelErrorClass::Unavailable);
        assert_eq!(world.skipped_for("a/x"), None, "closed is closed");
    }

    #[test]
    fn the_pause_has_a_bound() {
        let world = World::new();
        (0..3).for_each(|_| world.fail("a/x", ModelErrorClass::Network));
        for _ in 0..40 {
            world.pass(world.skipped_for("a/x").unwrap());
            world.fail("a/x", ModelErrorClass::Network);
        }
        assert_eq!(world.skipped_for("a/x"), Some(20_000));
    }

    #[test]
    fn what_the_failure_was_matters() {
        use ModelErrorClass::*;
        let check = |class, retry_after_ms, skipped| {
            let world = World::new();
            world.attempt("a/x", ModelEvent::Failed(error(class, retry_after_ms)));
            assert_eq!(world.skipped_for("a/x"), skipped, "{class:?} {retry_after_ms:?}");
        };
        check(Auth, None, Some(1_000));
        check(NotFound, None, Some(1_000));
        check(RateLimited, None, None);
        check(RateLimited, Some(500), None);
        check(RateLimited, Some(90_000), Some(90_000));
        check(Unavailable, None, None);
        for class in [BadRequest, ContextOverflow, Denied] {
            let world = World::new();
            (0..10).for_each(|_| world.fail("a/x", class));
            assert_eq!(world.skipped_for("a/x"), None, "{class:?} is about the request");
        }
    }
}
