//! Which model of a run's order is asked next, after what pause, and when it is given up.
//!
//! All of it follows from events: attempts that failed carry how long they took, models whose circuits were open
//! are named by events of their own. So a replay chooses as the run did.

use homarus_contract::{
    event::{Accepted, FinishStatus},
    model::{ModelErrorClass, ModelRef},
};

use crate::state::{Failure, Step};

/// Attempts at one model before the next of the configured order is asked.
const ATTEMPTS_PER_MODEL_MAX: usize = 4;
const BACKOFF_MS_FIRST: u64 = 500;
const BACKOFF_MS_MAX: u64 = 30_000;
/// A pause a server asks for beyond this counts as "down".
const RETRY_AFTER_MS_MAX: u64 = 120_000;
/// An attempt that could wait for less than this is not worth its pause.
const PATIENCE_MS_MIN: u64 = 100;

#[derive(Debug, PartialEq)]
pub enum Choice {
    Ask { model: ModelRef, backoff_ms: u64, patience_ms: u64, is_last_resort: bool },
    GiveUp { status: FinishStatus, summary: String },
}

/// `step` is the one to be asked, empty if it is new.
pub fn choose(accepted: &Accepted, step: &Step) -> Choice {
    let models = &accepted.models;
    if step.failures.iter().any(|failure| !failure.class.allows_failover()) {
        return give_up(models, step, None);
    }
    let left_ms = accepted.answer_ms_max.saturating_sub(spent_ms(step));
    let askable: Vec<&ModelRef> = models.iter().filter(|model| may_be_asked(model, &step.failures)).collect();
    if askable.is_empty() {
        return give_up(models, step, None);
    }
    let patience_for = |model: &ModelRef| left_ms.saturating_sub(backoff_ms(model, &step.failures));
    // One that wants a longer pause than there is time for is no reason not to ask the next.
    let in_time = askable.iter().copied().filter(|model| patience_for(model) >= PATIENCE_MS_MIN);
    let is_skipped = |model: &ModelRef| step.skipped.iter().any(|skipped| skipped.model == *model);
    // Those with open circuits come last, and then they are asked all the same: failing without having tried would
    // help nobody. Before them come those that let time run out already.
    let (ready, open): (Vec<&ModelRef>, Vec<&ModelRef>) = in_time.partition(|model| !is_skipped(model));
    let (fresh, slow): (Vec<&ModelRef>, Vec<&ModelRef>) =
        ready.into_iter().partition(|model| !is_slow(model, &step.failures));
    let Some(&model) = fresh.first().or(slow.first()).or(open.first()) else {
        return give_up(models, step, Some(accepted.answer_ms_max));
    };
    // Whoever is asked now leaves the others their share of the time.
    let patience_ms = (patience_for(model) / fresh.len().max(1) as u64).max(PATIENCE_MS_MIN);
    let is_last_resort = askable.len() == 1 || is_skipped(model);
    Choice::Ask { model: model.clone(), backoff_ms: backoff_ms(model, &step.failures), patience_ms, is_last_resort }
}

fn is_slow(model: &ModelRef, failures: &[Failure]) -> bool {
    failures.iter().any(|failure| failure.model == *model && failure.class == ModelErrorClass::Timeout)
}

fn spent_ms(step: &Step) -> u64 {
    step.failures.iter().fold(0, |sum, failure| sum.saturating_add(failure.wall_ms))
}

fn may_be_asked(model: &ModelRef, failures: &[Failure]) -> bool {
    let mut own = failures.iter().filter(|failure| failure.model == *model);
    let dead = own.clone().any(|failure| {
        !failure.class.is_retryable() || failure.retry_after_ms.is_some_and(|ms| ms > RETRY_AFTER_MS_MAX)
    });
    !dead && own.by_ref().count() < ATTEMPTS_PER_MODEL_MAX
}

/// Exponential, without chance: the machine is deterministic, and few runs share one provider key.
fn backoff_ms(model: &ModelRef, failures: &[Failure]) -> u64 {
    let own: Vec<_> = failures.iter().filter(|failure| failure.model == *model).collect();
    let Some(last) = own.last() else { return 0 };
    let doubled = BACKOFF_MS_FIRST.saturating_mul(1 << (own.len() - 1).min(10)).min(BACKOFF_MS_MAX);
    last.retry_after_ms.unwrap_or(doubled)
}

/// The last failure of each model, in the configured order: a person wants to know of all.
fn give_up(models: &[ModelRef], step: &Step, out_of_ms: Option<u64>) -> Choice {
    let failures = &step.failures;
    let last_of = |model: &ModelRef| failures.iter().rev().find(|failure| failure.model == *model);
    let told = |failure: &Failure| format!("{}: {}", failure.model, failure.message);
    let mut parts: Vec<String> = models.iter().filter_map(last_of).map(told).collect();
    parts.dedup();
    if let Some(ms) = out_of_ms {
        parts.push(format!("no answer began within {} s (models.answer_s)", ms / 1000));
    }
    let summary = if parts.is_empty() { "No model is configured.".to_owned() } else { parts.join("; ") };
    let denied = failures.last().is_some_and(|failure| failure.class == ModelErrorClass::Denied);
    let status = if denied { FinishStatus::Denied } else { FinishStatus::Failed };
    Choice::GiveUp { status, summary }
}

#[cfg(test)]
mod tests {
    use homarus_contract::model::ModelErrorClass::*;

    use super::*;
    use crate::{
        state::Skipped,
        tests::{accepted, model},
    };

    /// The models of [`accepted`] are a/x, then b/y; 900 s are allowed.
    fn step(failures: &[(&str, ModelErrorClass, u64)], skipped: &[&str]) -> Step {
        let failure = |(name, class, wall_ms): &(&str, ModelErrorClass, u64)| Failure {
            model: model(name),
            class: *class,
            message: format!("{name} says no"),
            retry_after_ms: None,
            wall_ms: *wall_ms,
        };
        Step {
            number: 1,
            failures: failures.iter().map(failure).collect(),
            skipped: skipped.iter().map(|name| Skipped { model: model(name), why: "it failed".to_owned() }).collect(),
            ..Step::default()
        }
    }

    fn check(step: &Step, expected: Result<(&str, u64, u64, bool), &str>) {
        match (choose(&accepted(), step), expected) {
            (Choice::Ask { model, backoff_ms, patience_ms, is_last_resort }, Ok(expected)) => {
                assert_eq!((model.to_string().as_str(), backoff_ms, patience_ms, is_last_resort), expected);
            }
            (Choice::GiveUp { summary, .. }, Err(part)) => assert!(summary.contains(part), "{summary}"),
            (choice, expected) => panic!("{choice:?} is not {expected:?}"),
        }
    }

    #[test]
    fn open_circuits_come_last_and_are_asked_all_the_same() {
        check(&step(&[], &[]), Ok(("a/x", 0, 450_000, false)));
        check(&step(&[], &["a/x"]), Ok(("b/y", 0, 900_000, false)));
        check(&step(&[], &["a/x", "b/y"]), Ok(("a/x", 0, 900_000, true)));
        check(&step(&[("b/y", Auth, 0)], &["a/x"]), Ok(("a/x", 0, 900_000, true)));
        check(&step(&[("a/x", Auth, 0)], &[]), Ok(("b/y", 0, 900_000, true)));
        check(&step(&[("a/x", Auth, 0), ("b/y", NotFound, 0)], &[]), Err("a/x says no; b/y: b/y says no"));
    }

    #[test]
    fn all_attempts_at_one_answer_share_one_deadline() {
        check(&step(&[("a/x", Network, 300_000)], &[]), Ok(("a/x", 500, 299_750, false)));
        // One that hangs does not use up the time of the others.
        check(&step(&[("a/x", Timeout, 450_000)], &[]), Ok(("b/y", 0, 450_000, false)));
        let both = [("a/x", Timeout, 450_000), ("b/y", Timeout, 200_000)];
        check(&step(&both, &[]), Ok(("a/x", 500, 249_500, false)));
        let late = [("a/x", Timeout, 450_000), ("b/y", Timeout, 449_999)];
        check(&step(&late, &[]), Err("no answer began within 900 s"));
        // A pause that would go beyond it is not waited for.
        let mut asked_to_wait = step(&[("a/x", RateLimited, 850_000)], &["b/y"]);
        asked_to_wait.failures[0].retry_after_ms = Some(60_000);
        check(&asked_to_wait, Ok(("b/y", 0, 50_000, true)));
        asked_to_wait.failures.push(Failure { model: model("b/y"), wall_ms: 1, ..asked_to_wait.failures[0].clone() });
        check(&asked_to_wait, Err("models.answer_s"));
        // Nor does that of one keep the next from being asked.
        let mut asked_to_wait = step(&[("a/x", RateLimited, 850_000)], &[]);
        asked_to_wait.failures[0].retry_after_ms = Some(60_000);
        check(&asked_to_wait, Ok(("b/y", 0, 50_000, false)));
    }

    #[test]
    fn a_wrong_request_is_not_sent_to_others() {
        for class in [BadRequest, ContextOverflow] {
            check(&step(&[("a/x", class, 5)], &[]), Err("a/x says no"));
        }
    }
}
