//! What the runtime tells a model that is about to stop too early, loses its thread or runs in circles.
//!
//! Every model gains from these, small ones most. Each has a bound, so that no run is nudged for
//! ever, and each is an event, so that a person sees what was said in their name.

use homarus_contract::{action::EffectClass, message::StopReason, text::one_line};

use crate::{
    remaining,
    seen::is_named,
    state::{Call, State},
};

/// The reason under which the model is told that a change was not applied after all.
pub const NOT_APPLIED: &str = "not-applied";
/// What is left of the request, told after a step that did more than look.
pub const REMAINING: &str = "remaining";
/// The same, told to a model that wants to stop.
pub const MISSING: &str = "missing";
/// What is to be written, told after the first look to a run whose request names a file to write.
const AIM: &str = "aim";
/// A file was changed that the request says to leave alone.
const KEPT: &str = "kept";
/// A call was made again although nothing changed.
pub const REPEAT: &str = "repeat";

/// A change was tried again and again, with other changes in between.
const CIRCLE: &str = "circle";

const CUT_OFF_MAX: u32 = 3;
const EMPTY_MAX: u32 = 2;
const REPEAT_FROM: u32 = 2;
const REPEAT_MAX: u32 = 6;
const CIRCLE_FROM: u32 = 3;
const CIRCLE_MAX: u32 = 3;
/// A run that tries the same change so often goes in circles, and is ended.
pub const STUCK_FROM: u32 = 6;
/// How often a model may look around before it is told what is to be done.
const LOOKS_FREE_MAX: u32 = 3;
const REMAINING_MAX: u32 = 12;
const FAILED_MAX: u32 = 1;
const UNCHANGED_MAX: u32 = 2;
const AIM_MAX: u32 = 1;
const KEPT_MAX: u32 = 2;
const MISSING_MAX: u32 = 3;

/// The nudge that is due now, if one is: its reason and its text.
pub fn due(state: &State) -> Option<(String, String)> {
    if !state.not_applied.is_empty() {
        let text = format!(
            "These changes of yours were not applied: {}. Read the files again before you change them.",
            state.not_applied.join("; ")
        );
        return Some((NOT_APPLIED.to_owned(), text));
    }
    if !state.step.calls.is_empty() {
        let only_looked = state
            .step
            .calls
            .iter()
            .all(|call| call.judged.as_ref().is_some_and(|judged| judged.plan.class == EffectClass::Read));
        let may_look_on = only_looked && state.seen.looks < LOOKS_FREE_MAX;
        return repeated(state)
            .or_else(|| circle(state))
            .or_else(|| kept(state))
            .or_else(|| if may_look_on { aim(state) } else { reminder(state) });
    }
    match state.step.stop? {
        StopReason::MaxTokens | StopReason::Interrupted if given(state, "cut-off") < CUT_OFF_MAX => {
            nudge("cut-off", "Your answer was cut off. Go on from where it stopped.")
        }
        StopReason::EndTurn | StopReason::ToolUse
            if state.step.blocks.is_empty() && given(state, "empty") < EMPTY_MAX =>
        {
            nudge("empty", "Your answer was empty. Call a tool, or say what you found.")
        }
        StopReason::EndTurn | StopReason::ToolUse => before_the_end(state),
        _ => None,
    }
}

fn given(state: &State, reason: &str) -> u32 {
    state.nudges.get(reason).copied().unwrap_or(0)
}

fn nudge(reason: &str, text: impl Into<String>) -> Option<(String, String)> {
    Some((reason.to_owned(), text.into()))
}

/// The model made a call again that cannot give anything new.
fn repeated(state: &State) -> Option<(String, String)> {
    let call = state.step.calls.last()?;
    let times = state.seen.times_made(&call.tool_call);
    if times < REPEAT_FROM || given(state, REPEAT) >= REPEAT_MAX {
        return None;
    }
    let next = match remaining::parts(state).unwrap_or_default().first() {
        Some(part) => format!("Next: {part}."),
        None => "Do something else, or finish with a short answer.".to_owned(),
    };
    let name = &call.tool_call.name;
    let text = format!("You made the same {name} call {times} times. Its result does not change. {next}");
    nudge(REPEAT, text)
}

/// The model undoes and does again: what it expects of the change does not come true.
fn circle(state: &State) -> Option<(String, String)> {
    let times = state.step.calls.iter().map(|call| state.seen.times_tried(&call.tool_call)).max()?;
    if times < CIRCLE_FROM || given(state, CIRCLE) >= CIRCLE_MAX {
        return None;
    }
    let text = format!(
        "You have tried this same change {times} times now: you go in circles. Read the file as it is and think again, or \
         answer with what is in the way."
    );
    nudge(CIRCLE, text)
}

/// A change of a file that is to be left alone, as soon as it was made. It may be meant.
fn kept(state: &State) -> Option<(String, String)> {
    let just_changed = |name: &str| {
        let changed = |call: &Call| {
            call.result
                .as_ref()
                .is_some_and(|result| result.diff.changes.iter().any(|change| is_named(&change.path, name)))
        };
        state.step.calls.iter().any(changed)
    };
    let (name, sentence) = remaining::changed_but_kept(state).filter(|(name, _)| just_changed(name))?;
    if given(state, KEPT) >= KEPT_MAX {
        return None;
    }
    let text = format!(
        "{name} was changed, and the task says: \"{sentence}\" Put it back as it was, unless the task asks for this change."
    );
    nudge(KEPT, text)
}

/// The file that is to be written next, while the model looks around. A small one that has found what it looked for
/// otherwise puts it into the file where it found it.
fn aim(state: &State) -> Option<(String, String)> {
    let left = remaining::parts(state)?;
    let first = left.first().filter(|part| remaining::is_to_write(part))?;
    if given(state, AIM) >= AIM_MAX {
        return None;
    }
    nudge(AIM, format!("When you have seen what you need: {first}."))
}

/// What is left, when that has changed.
fn reminder(state: &State) -> Option<(String, String)> {
    let left = remaining::parts(state)?;
    if given(state, REMAINING) >= REMAINING_MAX || state.seen.reminded.as_ref() == Some(&left) {
        return None;
    }
    if left.is_empty() {
        let done = if state.seen.refused.is_empty() { "done" } else { "done or was not allowed" };
        let text = format!("Every command and file the task names is {done}. If nothing else is left, answer now.");
        return nudge(REMAINING, text);
    }
    nudge(REMAINING, remaining::told(&left))
}

/// The model thinks it is done: is it?
fn before_the_end(state: &State) -> Option<(String, String)> {
    let seen = &state.seen;
    if let Some(command) = seen.failed_command()
        && given(state, "failed") < FAILED_MAX
    {
        let command = one_line(command, 200);
        let text = format!(
            "You are not done: `{command}` failed the last time you ran it. Read its output again, correct the cause, \
             and run it again."
        );
        return nudge("failed", text);
    }
    let remaining = remaining::parts(state);
    // A change that failed may have been a mistake: where all that the request names is done, it is only asked about.
    let is_sure = remaining.as_ref().is_none_or(|left| !left.is_empty());
    if let Some(path) = seen.unchanged.first()
        && given(state, "unchanged") < if is_sure { UNCHANGED_MAX } else { 1 }
    {
        let path = one_line(path, 200);
        let text = match is_sure {
            true => format!("You are not done: your last change of {path} failed. Read the error and try again."),
            false => format!(
                "Your last change of {path} failed and was not made. Does the task ask for it? If it does, read the \
                 error and try again. If not, answer now."
            ),
        };
        return nudge("unchanged", text);
    }
    let left = remaining.as_deref().unwrap_or_default();
    if !left.is_empty() && given(state, MISSING) < MISSING_MAX {
        return nudge(MISSING, format!("You are not done. {}", remaining::told(left)));
    }
    // Where the request names what proves it, that has been done by now.
    if remaining.is_none() && seen.writes > 0 && seen.checks_since_write == 0 && given(state, "check") == 0 {
        return nudge(
            "check",
            "You changed files and did not look at them again. Check the result now: read what you changed or run \
             the command that proves it. Then finish.",
        );
    }
    None
}
