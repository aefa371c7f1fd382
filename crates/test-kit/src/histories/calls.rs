//! What may be wanted of a call, by what has happened to it: a model much simpler than any machine.

use std::collections::{BTreeMap, BTreeSet};

use homarus_contract::{
    action::EffectClass,
    event::{Event, Resolution},
    gate::Verdict,
    ids::CallId,
    machine::{Command, PromptMessage},
    message::{Block, Message},
};

#[derive(Debug, Default)]
pub struct Calls {
    by_id: BTreeMap<CallId, Call>,
    finished: bool,
}

#[derive(Debug, Default)]
struct Call {
    attempts: u32,
    class: Option<EffectClass>,
    /// Started, and nothing says what came of it.
    is_open: bool,
    may_repeat: bool,
    is_answered: bool,
    /// There is something in its layer.
    has_changes: bool,
    is_settled: bool,
    verdict: Option<Verdict>,
    granted: bool,
    results: u32,
}

impl Calls {
    /// Some number that stays with a call.
    pub fn salt(&self, call: &CallId) -> usize {
        call.position().map_or(0, |(step, index)| (step + index) as usize)
    }

    /// Takes an event in; an error if a driver that does only what was wanted could not have written it.
    pub fn apply(&mut self, event: &Event) -> Result<(), String> {
        if self.finished {
            return Err(format!("{} after the end", event.kind()));
        }
        match event {
            Event::BlockDone { block: Block::ToolCall(call), .. } => {
                self.by_id.insert(call.call.clone(), Call::default());
            }
            Event::Judged { action, judgement, .. } => {
                self.by_id.entry(action.call.clone()).or_default().verdict = Some(judgement.verdict);
            }
            Event::Denied { call, .. } => self.with(call, |call| call.is_answered = true),
            Event::ApprovalRequested { call, .. } => self.with(call, |call| call.granted = false),
            Event::ApprovalDecided { call, approval } => self.with(call, |call| call.granted = approval.granted),
            Event::ActIntent { call, class, attempt, .. } => {
                let known = self.by_id.entry(call.clone()).or_default();
                if known.is_open && known.class == Some(EffectClass::Unkeyed) && !known.may_repeat {
                    return Err(format!("the unkeyed call {call} is started again, and nobody said so"));
                }
                (known.attempts, known.class, known.is_open, known.may_repeat) = (*attempt, Some(*class), true, false);
            }
            Event::ActResult(result) => {
                let known = self.by_id.entry(result.call.clone()).or_default();
                known.results += 1;
                if known.results > 1 {
                    return Err(format!("call {} has two results", result.call));
                }
                (known.is_open, known.is_answered) = (false, true);
                known.has_changes = !result.diff.is_empty();
            }
            Event::Merged { call, .. } => {
                let known = self.by_id.entry(call.clone()).or_default();
                if known.is_settled {
                    return Err(format!("call {call} is merged twice"));
                }
                if known.verdict == Some(Verdict::AskBeforeMerge) && !known.granted {
                    return Err(format!("call {call} is merged, and nobody agreed to it"));
                }
                known.is_settled = true;
            }
            Event::Discarded { call, .. } => self.with(call, |call| call.is_settled = true),
            Event::Resolved { call, decision, .. } => self.with(call, |call| match decision {
                Resolution::Repeat => call.may_repeat = true,
                Resolution::Done | Resolution::Failed => (call.is_open, call.is_answered) = (false, true),
            }),
            // What had no outcome gets none any more, unless it may have happened outside.
            Event::TurnEnded { .. } => {
                for call in self.by_id.values_mut().filter(|call| call.class != Some(EffectClass::Unkeyed)) {
                    call.is_answered = true;
                }
            }
            Event::Finished { .. } => self.finished = true,
            _ => {}
        }
        Ok(())
    }

    /// An error if one of these must not be wanted now.
    pub fn check(&self, commands: &[Command]) -> Result<(), String> {
        let mut wanted = BTreeSet::new();
        for command in commands {
            let call = match command {
                Command::Act { action, .. } | Command::Settle { action, .. } => Some(&action.call),
                Command::MarkUnknown { call } => Some(call),
                _ => None,
            };
            if let Some(call) = call
                && !wanted.insert(call)
            {
                return Err(format!("two things are wanted of call {call} at once"));
            }
            self.check_one(command)?;
        }
        Ok(())
    }

    fn check_one(&self, command: &Command) -> Result<(), String> {
        let known = |call: &CallId| self.by_id.get(call);
        match command {
            Command::Act { action, attempt, .. } => {
                let call = &action.call;
                let Some(known) = known(call) else {
                    // A call by hand is in no answer.
                    return if *attempt == 1 { Ok(()) } else { Err(format!("nobody made call {call}")) };
                };
                if known.is_answered {
                    return Err(format!("call {call} is answered, and wanted again"));
                }
                if known.is_open && known.class == Some(EffectClass::Unkeyed) && !known.may_repeat {
                    return Err(format!("the unkeyed call {call} is wanted again, and nobody said so"));
                }
                if *attempt != known.attempts + 1 {
                    return Err(format!("call {call} is wanted as attempt {attempt} after {}", known.attempts));
                }
            }
            Command::Settle { action, hold, .. } => {
                let call = &action.call;
                let fits =
                    known(call).is_some_and(|known| known.results == 1 && known.has_changes && !known.is_settled);
                if !fits {
                    return Err(format!("call {call} has nothing to settle"));
                }
                let must_hold = known(call).is_some_and(|known| known.verdict == Some(Verdict::AskBeforeMerge));
                if must_hold && !hold {
                    return Err(format!("call {call} is to be merged without being asked about"));
                }
            }
            Command::MarkUnknown { call } => {
                let fits = known(call).is_some_and(|known| known.is_open && known.class == Some(EffectClass::Unkeyed));
                if !fits {
                    return Err(format!("call {call} is no unkeyed call without an outcome"));
                }
            }
            Command::CallModel { messages, .. } => check_prompt(messages)?,
            _ => {}
        }
        Ok(())
    }

    fn with(&mut self, call: &CallId, change: impl FnOnce(&mut Call)) {
        change(self.by_id.entry(call.clone()).or_default());
    }
}

/// Each call of the prompt has exactly one result, in the order of the calls and before anything else is said.
fn check_prompt(messages: &[PromptMessage]) -> Result<(), String> {
    let mut due: Vec<CallId> = Vec::new();
    let mut seen = BTreeSet::new();
    for message in messages {
        let result = match message {
            PromptMessage::Result { call, .. } => Some(call),
            PromptMessage::Ready(message) => match message.as_ref() {
                Message::ToolResult { call, .. } => Some(call),
                _ => None,
            },
            PromptMessage::Request { .. } => None,
        };
        match result {
            Some(call) if due.first() == Some(call) => {
                due.remove(0);
            }
            Some(call) => return Err(format!("the prompt has a result of {call}, where one of {due:?} is due")),
            None if !due.is_empty() => return Err(format!("the prompt has no result of {due:?}")),
            None => {}
        }
        if let PromptMessage::Ready(message) = message
            && let Message::Assistant { blocks } = message.as_ref()
        {
            for block in blocks {
                if let Block::ToolCall(call) = block {
                    if !seen.insert(call.call.clone()) {
                        return Err(format!("call {} stands in the prompt twice", call.call));
                    }
                    due.push(call.call.clone());
                }
            }
        }
    }
    if due.is_empty() { Ok(()) } else { Err(format!("the prompt ends without a result of {due:?}")) }
}
