//! The state of an agent run: the fold of its events, and nothing else.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use homarus_contract::{
    action::{Action, EffectClass, Plan},
    event::{Accepted, ActResult, Event, FinishStatus, Resolution, WaitingOn},
    gate::{Approval, Verdict},
    ids::{CallId, Hash},
    machine::PromptMessage,
    message::{Block, Message, StopReason, ToolCall},
    model::{ModelErrorClass, ModelRef},
    sandbox::MergeReport,
};

use crate::{
    nudge, one_call, remaining,
    seen::{self, Seen},
};

#[derive(Debug, Clone, Default)]
pub struct State {
    pub accepted: Option<Arc<Accepted>>,
    /// The prompt so far, without the step that is open.
    pub messages: Vec<PromptMessage>,
    pub step: Step,
    /// Milliseconds spent in model and tool calls.
    pub wall_ms: u64,
    /// How often each nudge was given.
    pub nudges: BTreeMap<String, u32>,
    pub seen: Seen,
    /// A limit that was hit; the run ends.
    pub bound: Option<(String, u64)>,
    pub waiting: Option<WaitingOn>,
    /// The text of the latest request.
    pub request: String,
    /// In a conversation: the latest message is answered, and the next one is waited for.
    pub turn_over: bool,
    pub finished: Option<FinishStatus>,
    /// Calls of closed steps whose layers are still to be merged: the model is asked meanwhile.
    pub unsettled: Vec<Call>,
    /// What was not applied after all, and why; the model has not been told yet.
    pub not_applied: Vec<String>,
    /// The step whose calls were merged last, and the paths they changed.
    pub merged: (u32, BTreeSet<String>),
}

/// One answer of the model and what follows from it.
#[derive(Debug, Clone, Default)]
pub struct Step {
    /// Counts from 1; 0 before the first.
    pub number: u32,
    /// An intent without a result.
    pub open: bool,
    pub attempt: u32,
    pub blocks: Vec<Block>,
    pub calls: Vec<Call>,
    pub stop: Option<StopReason>,
    /// The step is closed and already part of [`State::messages`].
    pub is_told: bool,
    /// Failed attempts of this step, in order.
    pub failures: Vec<Failure>,
    /// Models that were not asked in this step because their circuits were open.
    pub skipped: Vec<Skipped>,
}

#[derive(Debug, Clone)]
pub struct Failure {
    pub model: ModelRef,
    pub class: ModelErrorClass,
    pub message: String,
    pub retry_after_ms: Option<u64>,
    pub wall_ms: u64,
}

#[derive(Debug, Clone)]
pub struct Skipped {
    pub model: ModelRef,
    pub why: String,
}

/// A tool call on its way.
#[derive(Debug, Clone)]
pub struct Call {
    pub tool_call: ToolCall,
    pub judged: Option<Judged>,
    /// The hash a person was asked about and has not answered yet.
    pub asked: Option<Hash>,
    pub approval: Option<Approval>,
    pub intent: Option<Intent>,
    pub result: Option<ActResult>,
    pub settled: Option<Settled>,
    pub denied: Option<String>,
    pub unknown: bool,
    pub resolution: Option<Resolution>,
    /// The user stopped the turn before the call had an outcome.
    pub is_stopped: bool,
}

#[derive(Debug, Clone)]
pub struct Judged {
    pub action: Action,
    pub plan: Plan,
    pub verdict: Verdict,
}

#[derive(Debug, Clone, Copy)]
pub struct Intent {
    pub class: EffectClass,
    pub attempt: u32,
}

#[derive(Debug, Clone)]
pub enum Settled {
    Merged,
    Discarded(String),
}

impl Call {
    fn new(tool_call: ToolCall) -> Self {
        Self {
            tool_call,
            judged: None,
            asked: None,
            approval: None,
            intent: None,
            result: None,
            settled: None,
            denied: None,
            unknown: false,
            resolution: None,
            is_stopped: false,
        }
    }

    pub fn action(&self) -> Action {
        Action {
            call: self.tool_call.call.clone(),
            tool: self.tool_call.name.clone(),
            arguments: self.tool_call.arguments.clone(),
        }
    }

    /// Whether the diff of this call must be agreed to before it is merged.
    pub fn holds_merge(&self) -> bool {
        self.judged.as_ref().is_some_and(|judged| judged.verdict == Verdict::AskBeforeMerge)
    }

    /// There is something in the call's layer that is neither merged nor thrown away.
    pub fn needs_settling(&self) -> bool {
        self.settled.is_none() && self.result.as_ref().is_some_and(|result| !result.diff.is_empty())
    }

    /// The call needs nothing more but, perhaps, its merge.
    pub fn is_answered(&self) -> bool {
        self.denied.is_some()
            || self.is_stopped
            || self.result.is_some()
            || matches!(self.resolution, Some(Resolution::Done | Resolution::Failed))
    }
}

impl State {
    pub fn apply(&mut self, event: &Event) {
        match event {
            Event::Accepted(accepted) => self.accept(accepted),
            Event::TakenOver { .. } | Event::Checkpoint { .. } | Event::Deleted { .. } => self.waiting = None,
            Event::Forked { .. } => self.wall_ms = 0,
            Event::Said { inbound } => self.said(&inbound.text),
            Event::Reconfigured(change) => {
                if let Some(accepted) = &mut self.accepted {
                    Arc::make_mut(accepted).reconfigure(change);
                }
            }
            Event::TurnEnded { .. } => self.end_turn(),
            Event::ModelIntent { step, attempt, .. } => self.open_step(*step, *attempt),
            Event::BlockDone { block, .. } => self.block(block),
            Event::ModelResult { stop, wall_ms, .. } => self.close_step(*stop, *wall_ms),
            Event::ModelSkipped { step, model, why, .. } => {
                self.turn_to(*step);
                self.step.skipped.push(Skipped { model: model.clone(), why: why.clone() });
            }
            // What came of it follows in the step's result.
            Event::ModelBroke { .. } => {}
            Event::ModelFailed { step, model, class, message, retry_after_ms, wall_ms } => {
                // A model that the gate refused was never asked: there is no intent before this.
                self.turn_to(*step);
                self.step.open = false;
                self.step.failures.push(Failure {
                    model: model.clone(),
                    class: *class,
                    message: message.clone(),
                    retry_after_ms: *retry_after_ms,
                    wall_ms: *wall_ms,
                });
                self.wall_ms = self.wall_ms.saturating_add(*wall_ms);
            }
            Event::Judged { action, plan, judgement } => self.with_call(&action.call, |call, _| {
                call.judged = Some(Judged { action: action.clone(), plan: plan.clone(), verdict: judgement.verdict });
            }),
            Event::Denied { call, reason } => self.with_call(call, |call, seen| {
                call.denied = Some(reason.clone());
                seen.denied(&call.tool_call);
            }),
            Event::ApprovalRequested { call, hash, .. } => self.with_call(call, |call, _| {
                call.asked = Some(*hash);
                call.approval = None;
            }),
            Event::ApprovalDecided { call, approval } => {
                self.waiting = None;
                self.with_call(call, |call, _| {
                    call.asked = None;
                    call.approval = Some(approval.clone());
                });
            }
            Event::ActIntent { call, class, attempt, .. } => self.with_call(call, |call, _| {
                call.intent = Some(Intent { class: *class, attempt: *attempt });
                call.unknown = false;
                call.resolution = None;
            }),
            Event::ActResult(result) => self.result(result),
            Event::Merged { call, report } => {
                self.conflicts(call, report);
                self.with_call(call, |call, seen| {
                    call.settled = Some(Settled::Merged);
                    seen.writes += 1;
                    seen.checks_since_write = 0;
                    seen.made.clear();
                });
                self.unsettled.retain(|open| open.tool_call.call != *call);
            }
            Event::Discarded { call, reason } => {
                if self.unsettled.iter().any(|open| open.tool_call.call == *call) {
                    self.not_applied.push(format!("call {call}: {reason}"));
                    self.unsettled.retain(|open| open.tool_call.call != *call);
                }
                self.with_call(call, |call, seen| {
                    call.settled = Some(Settled::Discarded(reason.clone()));
                    seen.unwanted(&call.tool_call);
                });
            }
            Event::OutcomeUnknown { call } => self.with_call(call, |call, _| call.unknown = true),
            Event::Resolved { call, decision, .. } => {
                self.waiting = None;
                self.with_call(call, |call, _| {
                    call.unknown = false;
                    call.resolution = Some(*decision);
                });
            }
            Event::Nudged { reason, text } => {
                self.flush_step();
                *self.nudges.entry(reason.clone()).or_default() += 1;
                match reason.as_str() {
                    nudge::NOT_APPLIED => self.not_applied.clear(),
                    nudge::REMAINING | nudge::MISSING | nudge::REPEAT => self.seen.reminded = remaining::parts(self),
                    _ => {}
                }
                self.messages.push(PromptMessage::Ready(Arc::new(Message::User { text: text.clone() })));
            }
            Event::BoundHit { bound, limit } => self.bound = Some((bound.clone(), *limit)),
            Event::Waiting { on } => self.waiting = Some(on.clone()),
            Event::Finished { status, .. } => self.finished = Some(*status),
        }
    }

    /// Remembers what of a call was not applied, and why.
    fn conflicts(&mut self, call: &CallId, report: &MergeReport) {
        let step = call.position().map_or(0, |(step, _)| step);
        if self.merged.0 != step {
            self.merged = (step, BTreeSet::new());
        }
        for conflict in &report.conflicts {
            let path = &conflict.path;
            self.not_applied.push(if self.merged.1.contains(path) {
                format!("{path} (an earlier call of the same answer changed it; your version was kept apart)")
            } else {
                format!("{path} (changed by someone else meanwhile; your version was kept apart)")
            });
        }
        self.merged.1.extend(report.merged.iter().cloned());
    }

    /// The calls of the step that is being worked on.
    pub fn calls(&self) -> &[Call] {
        &self.step.calls
    }

    fn accept(&mut self, accepted: &Accepted) {
        self.messages
            .push(PromptMessage::Request { orientation: accepted.orientation, text: accepted.inbound.text.clone() });
        self.request = accepted.inbound.text.clone();
        self.step.calls.extend(one_call::tool_call(accepted).map(Call::new));
        self.accepted = Some(Arc::new(accepted.clone()));
    }

    fn open_step(&mut self, number: u32, attempt: u32) {
        self.turn_to(number);
        self.waiting = None;
        self.step.open = true;
        self.step.attempt = attempt;
        self.step.blocks.clear();
    }

    fn turn_to(&mut self, number: u32) {
        if number != self.step.number {
            self.flush_step();
            self.step = Step { number, ..Step::default() };
        }
    }

    fn block(&mut self, block: &Block) {
        match block {
            Block::Text { text } => self.seen.last_text = text.clone(),
            Block::Thought(_) => {}
            Block::ToolCall(tool_call) => {
                *self.seen.made.entry(seen::key(tool_call)).or_default() += 1;
                self.step.calls.push(Call::new(tool_call.clone()));
            }
        }
        self.step.blocks.push(block.clone());
    }

    fn close_step(&mut self, stop: StopReason, wall_ms: u64) {
        self.wall_ms = self.wall_ms.saturating_add(wall_ms);
        self.step.open = false;
        if stop == StopReason::Interrupted && self.step.blocks.is_empty() {
            return; // Nothing arrived: the same step is asked again.
        }
        self.step.stop = Some(stop);
        self.seen.answers_in_a_row = if self.step.calls.is_empty() { self.seen.answers_in_a_row + 1 } else { 0 };
    }

    fn result(&mut self, result: &ActResult) {
        self.wall_ms = self.wall_ms.saturating_add(result.wall_ms);
        self.with_call(&result.call, |call, seen| {
            let class = call.judged.as_ref().map(|judged| judged.plan.class);
            if !result.is_error {
                seen.denials_in_a_row = 0;
                match class {
                    Some(EffectClass::Read) => seen.looks += 1,
                    Some(_) => seen.effects += 1,
                    None => {}
                }
                seen.checks_since_write += 1;
            }
            seen.changes += u32::from(!result.diff.is_empty());
            seen.done(&call.tool_call, result);
            call.result = Some(result.clone());
        });
    }

    /// Moves the finished step into the prompt.
    pub(crate) fn flush_step(&mut self) {
        if self.step.stop.is_none() {
            return;
        }
        let step = std::mem::take(&mut self.step);
        self.step.number = step.number;
        self.step.is_told = true;
        self.messages.extend(step_messages(&step));
        self.unsettled.extend(step.calls.into_iter().filter(Call::needs_settling));
    }

    fn with_call(&mut self, id: &CallId, change: impl FnOnce(&mut Call, &mut Seen)) {
        let calls = self.step.calls.iter_mut().chain(&mut self.unsettled);
        if let Some(call) = calls.into_iter().find(|call| call.tool_call.call == *id) {
            change(call, &mut self.seen);
        }
    }
}

/// A closed step as messages: the answer, then the outcome of each of its calls.
pub fn step_messages(step: &Step) -> Vec<PromptMessage> {
    let mut messages = Vec::new();
    if !step.blocks.is_empty() {
        messages.push(PromptMessage::Ready(Arc::new(Message::Assistant { blocks: step.blocks.clone() })));
    }
    messages.extend(step.calls.iter().map(outcome_message));
    messages
}

fn outcome_message(call: &Call) -> PromptMessage {
    let id = call.tool_call.call.clone();
    let ready = |text: String, is_error| {
        PromptMessage::Ready(Arc::new(Message::ToolResult { call: id.clone(), text, is_error }))
    };
    if let Some(reason) = &call.denied {
        return ready(format!("Denied: {reason}. Nothing was done. Do not try it again; go on without it."), true);
    }
    match (&call.result, call.resolution) {
        (None, None) if call.is_stopped => ready("The user stopped this call. Nothing of it was applied.".into(), true),
        (_, Some(Resolution::Done)) => {
            ready("The call was interrupted; a person checked: it was done. Its output is lost.".into(), false)
        }
        (_, Some(Resolution::Failed)) => {
            ready("The call was interrupted; a person checked: it was not done.".into(), true)
        }
        (Some(result), _) => PromptMessage::Result {
            call: id,
            text: result.shown,
            suffix: match &call.settled {
                Some(Settled::Discarded(reason)) => {
                    format!("\nNot applied: {reason}. The workspace is as it was before this call.")
                }
                _ => String::new(),
            },
            is_error: result.is_error || matches!(call.settled, Some(Settled::Discarded(_))),
        },
        (None, _) => ready("The call was not run.".into(), true),
    }
}
