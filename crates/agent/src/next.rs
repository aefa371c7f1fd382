//! What an agent does next in a given state.

use homarus_contract::{
    action::EffectClass,
    event::{Accepted, FinishStatus, Resolution, WaitingOn},
    machine::Command,
    message::StopReason,
};

use crate::{
    nudge, one_call,
    order::{self, Choice},
    state::{Call, State, Step, step_messages},
};

const DENIALS_IN_A_ROW_MAX: u32 = 5;
/// The limit that holds for each answer by itself; all others are limits of the run.
pub(crate) const OF_ONE_ANSWER: &str = "calls_per_answer";

pub fn next(state: &State) -> Vec<Command> {
    let Some(accepted) = &state.accepted else { return Vec::new() };
    if state.finished.is_some() {
        return Vec::new();
    }
    let mut commands = open_ends(state, accepted);
    if accepted.conversation {
        commands.iter_mut().for_each(turn_instead_of_run);
    }
    commands
}

/// In a conversation an answer, a failure or a denial ends the turn; a limit of the run still ends the run.
fn turn_instead_of_run(command: &mut Command) {
    if let Command::Finish { status, summary } = command
        && *status != FinishStatus::OutOfBudget
    {
        *command = Command::EndTurn { status: *status, summary: std::mem::take(summary) };
    }
}

fn open_ends(state: &State, accepted: &Accepted) -> Vec<Command> {
    let mut commands: Vec<Command> = state.unsettled.iter().map(settle).collect();
    // Calls that may run at the same time are offered together, in order; nothing else beside them.
    let mut acting = false;
    for call in state.calls() {
        if !call.is_answered() {
            let command = advance(call);
            let is_act = matches!(command, Command::Act { .. });
            if is_act || !acting {
                commands.push(command);
            }
            if !is_act {
                return commands;
            }
            acting = true;
        } else if call.needs_settling() {
            if acting {
                return commands;
            }
            let held = call.holds_merge();
            commands.push(settle(call));
            if held {
                return commands;
            }
        }
    }
    if !acting {
        commands.extend(after_calls(state, accepted));
    }
    commands
}

/// The next move of a call that has no outcome yet.
fn advance(call: &Call) -> Command {
    let id = call.tool_call.call.clone();
    if call.asked.is_some() {
        return Command::Wait { on: WaitingOn::Approval { call: id } };
    }
    if call.unknown {
        return Command::Wait { on: WaitingOn::Resolution { call: id } };
    }
    match call.intent {
        None => Command::Act { action: call.action(), attempt: 1, approval: call.approval.clone() },
        // An intent without a result is seen after a kill, and where nothing could be run before the machine was mended.
        Some(intent) if intent.class == EffectClass::Unkeyed && call.resolution != Some(Resolution::Repeat) => {
            Command::MarkUnknown { call: id }
        }
        Some(intent) => {
            Command::Act { action: call.action(), attempt: intent.attempt + 1, approval: call.approval.clone() }
        }
    }
}

fn settle(call: &Call) -> Command {
    // `needs_settling` holds only with a result, and a result with a diff only after a judgement.
    match (&call.judged, &call.result, call.asked) {
        (_, _, Some(_)) => Command::Wait { on: WaitingOn::Approval { call: call.tool_call.call.clone() } },
        (Some(judged), Some(result), None) => Command::Settle {
            action: judged.action.clone(),
            plan: Box::new(judged.plan.clone()),
            result: Box::new(result.clone()),
            hold: call.holds_merge(),
            approval: call.approval.clone(),
        },
        _ => Command::MarkUnknown { call: call.tool_call.call.clone() },
    }
}

fn after_calls(state: &State, accepted: &Accepted) -> Option<Command> {
    if accepted.machine == one_call::MACHINE {
        return Some(one_call::finish(state));
    }
    if state.turn_over {
        return Some(Command::Wait { on: WaitingOn::Message });
    }
    if let Some((bound, limit)) = &state.bound {
        // One long answer is no reason to end a conversation for ever.
        let ends_turn = accepted.conversation && bound == OF_ONE_ANSWER;
        let status = if ends_turn { FinishStatus::Failed } else { FinishStatus::OutOfBudget };
        return Some(finish(status, format!("The limit on {bound} ({limit}) was reached.")));
    }
    if state.seen.denials_in_a_row >= DENIALS_IN_A_ROW_MAX {
        return Some(Command::Finish {
            status: FinishStatus::Denied,
            summary: format!("Stopped after {} denied actions in a row.", state.seen.denials_in_a_row),
        });
    }
    if let Some(((tool, _), times)) = state.seen.tried.iter().find(|(_, times)| **times >= nudge::STUCK_FROM) {
        let summary = format!("Stopped: the run went in circles. The same call of {tool} was made {times} times.");
        return Some(finish(FinishStatus::Failed, summary));
    }
    let step = &state.step;
    if step.is_told {
        return Some(ask(state, accepted, step.number + 1));
    }
    let Some(stop) = step.stop else {
        return Some(ask(state, accepted, step.number.max(1)));
    };
    if let Some((reason, text)) = nudge::due(state) {
        return Some(Command::Nudge { reason, text });
    }
    if !step.calls.is_empty() {
        return Some(ask(state, accepted, step.number + 1));
    }
    Some(match stop {
        StopReason::Refusal => finish(FinishStatus::Failed, "The model refused to answer.".to_owned()),
        StopReason::MaxTokens | StopReason::Interrupted => {
            finish(FinishStatus::Failed, "The model's answers were cut off again and again.".to_owned())
        }
        StopReason::EndTurn | StopReason::ToolUse if step.blocks.is_empty() => {
            finish(FinishStatus::Failed, "The model gave empty answers.".to_owned())
        }
        StopReason::EndTurn | StopReason::ToolUse => {
            // Denied is a run that wanted to change something and never got to.
            let denied = state.seen.denials > 0 && state.seen.effects == 0;
            let status = if denied { FinishStatus::Denied } else { FinishStatus::Completed };
            finish(status, state.seen.last_text.clone())
        }
    })
}

fn finish(status: FinishStatus, summary: String) -> Command {
    Command::Finish { status, summary }
}

fn ask(state: &State, accepted: &Accepted, number: u32) -> Command {
    let same_step = number == state.step.number;
    let nothing = Step::default();
    match order::choose(accepted, if same_step { &state.step } else { &nothing }) {
        Choice::Ask { model, backoff_ms, patience_ms, is_last_resort } => {
            let mut messages = state.messages.clone();
            if !same_step {
                messages.extend(step_messages(&state.step));
            }
            Command::CallModel {
                step: number,
                attempt: if same_step { state.step.attempt + 1 } else { 1 },
                model,
                backoff_ms,
                patience_ms,
                is_last_resort,
                messages,
            }
        }
        Choice::GiveUp { status, summary } => finish(status, summary),
    }
}
