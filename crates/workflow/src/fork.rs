//! What a fork takes over from a run: everything up to the end of a step, so that nothing of it is asked or done
//! again.

use std::collections::BTreeSet;

use homarus_contract::{
    event::{Event, Inbound, Record},
    ids::{CallId, RunId},
    message::{StopReason, Usage},
};
use thiserror::Error;

/// Events a fork may take over.
pub const EVENTS_MAX: usize = 50_000;

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ForkError {
    #[error("run {run} has no step {step}, only 1 to {last}")]
    NoSuchStep { run: RunId, step: u32, last: u32 },
    #[error("run {0} was made by the machine {1:?}; only runs of an agent can be forked")]
    NoAgent(RunId, String),
    #[error("{0} events are too many to take over: at most {EVENTS_MAX}")]
    TooLong(usize),
}

/// What a fork begins with.
#[derive(Debug)]
pub struct History {
    pub events: Vec<Event>,
    /// The step ends with an answer, so there is nothing to go on with but a further message.
    pub is_answered: bool,
}

/// The events of `run` up to the end of `step`, as the first events of `fork`.
///
/// Left out is what belongs to the time and place of the old run: who worked on it, its pauses, questions nobody had
/// answered, limits it hit, its changes of configuration, and attempts at a last step that brought no answer: the step is
/// asked as if for the first time. What the cut leaves open is closed: an answer that was cut
/// off, and changes that were never applied.
pub fn history(records: &[Record], run: &RunId, step: u32, fork: &RunId) -> Result<History, ForkError> {
    if let Some(Event::Accepted(accepted)) = records.first().map(|record| &record.event)
        && accepted.machine != "agent"
    {
        return Err(ForkError::NoAgent(run.clone(), accepted.machine.clone()));
    }
    let last = records.iter().filter_map(|record| step_of(&record.event)).max().unwrap_or(0);
    if step == 0 || step > last {
        return Err(ForkError::NoSuchStep { run: run.clone(), step, last });
    }
    let mut kept = cut(records, step);
    let began = begin_of_nothing(&kept, step);
    kept.truncate(began.unwrap_or(kept.len()));
    if kept.len() > EVENTS_MAX {
        return Err(ForkError::TooLong(kept.len()));
    }
    let answered = answered_questions(&kept);
    let mut events: Vec<Event> = Vec::with_capacity(kept.len());
    let mut open = Open::default();
    for (index, event) in kept.into_iter().enumerate() {
        if matches!(event, Event::ApprovalRequested { .. }) && !answered.contains(&index) {
            continue;
        }
        open.apply(event);
        events.push(match event {
            // A request is taken in once: this is another.
            Event::Said { inbound } => Event::Said {
                inbound: Inbound {
                    source: "fork".to_owned(),
                    ext_id: format!("{fork}-{index}"),
                    text: inbound.text.clone(),
                },
            },
            event => event.clone(),
        });
    }
    let is_answered = began.is_none() && open.calls == 0 && open.intent.is_none();
    events.extend(open.close());
    Ok(History { events, is_answered })
}

/// What belongs to the steps up to this one.
fn cut(records: &[Record], step: u32) -> Vec<&Event> {
    let mut later = false;
    // A message after the end of the step began the next one.
    let mut ended = false;
    let mut kept = Vec::new();
    for event in records.iter().skip(1).map(|record| &record.event) {
        let keeps = match (step_of(event), event) {
            (Some(of), _) => {
                later |= of > step;
                ended |= of == step && matches!(event, Event::ModelResult { .. });
                of <= step
            }
            (None, Event::Nudged { .. } | Event::TurnEnded { .. }) => !later,
            (None, Event::Said { .. }) => !later && !ended,
            (None, _) => false,
        };
        if keeps {
            kept.push(event);
        }
    }
    kept
}

/// Where the step begins that ends these events, if models failed in it and nothing of an answer came.
fn begin_of_nothing(events: &[&Event], step: u32) -> Option<usize> {
    let began = events.iter().position(|event| step_of(event) == Some(step))?;
    let mut has_failed = false;
    for event in &events[began..] {
        match event {
            Event::BlockDone { .. } | Event::ModelBroke { .. } | Event::ModelResult { .. } => return None,
            Event::ModelFailed { .. } => has_failed = true,
            _ => {}
        }
    }
    has_failed.then_some(began)
}

/// The step an event belongs to, if it names one.
fn step_of(event: &Event) -> Option<u32> {
    let of = |call: &CallId| call.position().map(|(step, _)| step);
    match event {
        Event::ModelIntent { step, .. }
        | Event::BlockDone { step, .. }
        | Event::ModelResult { step, .. }
        | Event::ModelFailed { step, .. }
        | Event::ModelBroke { step, .. }
        | Event::ModelSkipped { step, .. } => Some(*step),
        Event::Judged { action, .. } => of(&action.call),
        Event::Denied { call, .. }
        | Event::ApprovalRequested { call, .. }
        | Event::ApprovalDecided { call, .. }
        | Event::ActIntent { call, .. }
        | Event::Merged { call, .. }
        | Event::Discarded { call, .. }
        | Event::OutcomeUnknown { call }
        | Event::Resolved { call, .. } => of(call),
        Event::ActResult(result) => of(&result.call),
        _ => None,
    }
}

/// The places of questions that were answered.
fn answered_questions(events: &[&Event]) -> BTreeSet<usize> {
    let mut answered = BTreeSet::new();
    for (index, event) in events.iter().enumerate() {
        let Event::ApprovalRequested { call: asked, .. } = event else { continue };
        let next = events[index + 1..].iter().find(|event| match event {
            Event::ApprovalRequested { call, .. } | Event::ApprovalDecided { call, .. } => call == asked,
            _ => false,
        });
        if matches!(next, Some(Event::ApprovalDecided { .. })) {
            answered.insert(index);
        }
    }
    answered
}

/// What the cut leaves open.
#[derive(Default)]
struct Open {
    /// The latest intent without a result.
    intent: Option<Event>,
    /// Calls with changes that were neither applied nor thrown away.
    unsettled: Vec<CallId>,
    /// Calls of the latest step.
    calls: u32,
}

impl Open {
    fn apply(&mut self, event: &Event) {
        match event {
            Event::ModelIntent { .. } => (self.intent, self.calls) = (Some(event.clone()), 0),
            Event::BlockDone { block: homarus_contract::message::Block::ToolCall(_), .. } => self.calls += 1,
            Event::ModelResult { .. } | Event::ModelFailed { .. } => self.intent = None,
            Event::ActResult(result) if !result.diff.is_empty() => self.unsettled.push(result.call.clone()),
            Event::Merged { call, .. } | Event::Discarded { call, .. } => self.unsettled.retain(|open| open != call),
            _ => {}
        }
    }

    fn close(self) -> Vec<Event> {
        let mut events = Vec::new();
        if let Some(Event::ModelIntent { step, model, .. }) = self.intent {
            events.push(Event::ModelResult {
                step,
                stop: StopReason::Interrupted,
                usage: Usage::default(),
                served_by: model,
                cost: None,
                wall_ms: 0,
            });
        }
        // Their layers belong to the old run.
        let reason = "the run was forked before it was applied".to_owned();
        events.extend(self.unsettled.into_iter().map(|call| Event::Discarded { call, reason: reason.clone() }));
        events
    }
}

#[cfg(test)]
mod tests {
    use homarus_contract::{
        budget::Amount,
        event::{ActResult, FinishStatus, WaitingOn},
        gate::Approval,
        ids::Hash,
        message::{Block, ToolCall},
        model::ModelRef,
        sandbox::{Change, Entry, LayerDiff, MergeReport},
    };

    use super::*;

    fn model() -> ModelRef {
        "fake/one".parse().unwrap()
    }

    fn intent(step: u32) -> Event {
        Event::ModelIntent {
            step,
            attempt: 1,
            prompt: homarus_contract::event::PromptParts::default(),
            model: model(),
            reserved: Amount::default(),
        }
    }

    fn called(step: u32) -> [Event; 2] {
        let call = CallId::new(step, 0);
        let call = ToolCall { call, provider_id: String::new(), name: "t".to_owned(), arguments: "{}".to_owned() };
        let result = Event::ModelResult {
            step,
            stop: StopReason::ToolUse,
            usage: Usage::default(),
            served_by: model(),
            cost: None,
            wall_ms: 1,
        };
        [Event::BlockDone { step, block: Block::ToolCall(call), partial: false }, result]
    }

    fn wrote(step: u32) -> Event {
        let change = Change { path: "a".to_owned(), old: Entry::Absent, new: Entry::Folder { mode: 0o755 } };
        Event::ActResult(ActResult {
            call: CallId::new(step, 0),
            attempt: 1,
            is_error: false,
            exit: None,
            shown: Hash::ZERO,
            whole: None,
            wall_ms: 1,
            receipt: None,
            diff: LayerDiff { changes: vec![change], ..LayerDiff::default() },
            kept: Vec::new(),
        })
    }

    fn merged(step: u32) -> Event {
        Event::Merged { call: CallId::new(step, 0), report: MergeReport::default() }
    }

    fn records(events: Vec<Event>) -> Vec<Record> {
        let run = RunId::parse("old").unwrap();
        let first = Event::TakenOver { driver: homarus_contract::ids::DriverId::generate([0; 8]) };
        let record = |(index, event)| Record {
            stream: run.stream(),
            seq: index as u64 + 1,
            at_ms: 0,
            epoch: 1,
            hash: Hash::ZERO,
            event,
        };
        std::iter::once(first).chain(events).enumerate().map(record).collect()
    }

    fn kinds(events: Vec<Event>, step: u32) -> Vec<&'static str> {
        let run = |name: &str| RunId::parse(name).unwrap();
        let history = history(&records(events), &run("old"), step, &run("new")).unwrap();
        history.events.iter().map(Event::kind).collect()
    }

    #[test]
    fn a_merge_belongs_to_the_step_of_its_call() {
        let [block, result] = called(1);
        let events = vec![intent(1), block, result, wrote(1), intent(2), merged(1)];
        assert_eq!(kinds(events, 1), ["model_intent", "block_done", "model_result", "act_result", "merged"]);
    }

    #[test]
    fn what_the_cut_leaves_open_is_closed() {
        let [block, result] = called(1);
        assert_eq!(kinds(vec![intent(1), block.clone(), result.clone(), wrote(1)], 1).last(), Some(&"discarded"));
        assert_eq!(kinds(vec![intent(1), block.clone()], 1).last(), Some(&"model_result"));
        let call = CallId::new(1, 0);
        let asked = Event::ApprovalRequested { call: call.clone(), hash: Hash::ZERO, expires_ms: 1 };
        let approval = Approval { hash: Hash::ZERO, granted: true, who: String::new(), why: String::new() };
        let waiting = Event::Waiting { on: WaitingOn::Approval { call: call.clone() } };
        let mut events = vec![intent(1), block, result, asked, waiting];
        assert_eq!(kinds(events.clone(), 1), ["model_intent", "block_done", "model_result"]);
        events.push(Event::ApprovalDecided { call, approval });
        assert_eq!(kinds(events, 1)[3..], ["approval_requested", "approval_decided"]);
    }

    #[test]
    fn a_step_in_which_all_models_failed_is_no_answer_and_is_asked_anew() {
        let failed = |step| Event::ModelFailed {
            step,
            model: model(),
            class: homarus_contract::model::ModelErrorClass::Network,
            message: String::new(),
            retry_after_ms: None,
            wall_ms: 1,
        };
        let ended = Event::TurnEnded { status: FinishStatus::Failed, summary: String::new() };
        let run = |name: &str| RunId::parse(name).unwrap();
        let check = |events: Vec<Event>, step, expected: &[&str], is_answered| {
            let history = history(&records(events), &run("old"), step, &run("new")).unwrap();
            let kinds: Vec<_> = history.events.iter().map(Event::kind).collect();
            assert_eq!((kinds.as_slice(), history.is_answered), (expected, is_answered));
        };
        check(vec![intent(1), failed(1), intent(1), failed(1)], 1, &[], false);
        let [block, result] = called(1);
        let [_, answer] = called(2);
        let first = vec![intent(1), block, result];
        let outage = [first.clone(), vec![intent(2), failed(2), ended.clone()]].concat();
        check(outage, 2, &["model_intent", "block_done", "model_result"], false);
        let second = [first, vec![intent(2), failed(2), intent(2), answer, ended]].concat();
        let kinds = ["model_intent", "block_done", "model_result", "model_intent", "model_failed", "model_intent"];
        check(second, 2, &[&kinds[..], &["model_result", "turn_ended"]].concat(), true);
    }

    #[test]
    fn messages_and_nudges_stay_with_their_step() {
        let said = || Event::Said {
            inbound: Inbound { source: "cli".to_owned(), ext_id: "1".to_owned(), text: "more".to_owned() },
        };
        let nudged = || Event::Nudged { reason: "r".to_owned(), text: "t".to_owned() };
        let [block, result] = called(1);
        let [_, second] = called(2);
        let events = vec![intent(1), block, result, nudged(), said(), intent(2), second, nudged(), said(), intent(3)];
        assert_eq!(kinds(events.clone(), 1).last(), Some(&"nudged"));
        assert_eq!(kinds(events.clone(), 2)[4..], ["said", "model_intent", "model_result", "nudged"]);
        let run = |name: &str| RunId::parse(name).unwrap();
        let error = history(&records(events), &run("old"), 4, &run("new")).unwrap_err();
        assert_eq!(error, ForkError::NoSuchStep { run: run("old"), step: 4, last: 3 });
    }
}
