//! What the runtime tells a model that is about to stop too early or runs in circles.
//!
//! Every model gains from these, small ones most. Each has a bound, so that no run is nudged for
//! ever, and each is an event, so that a person sees what was said in their name.

use homarus_contract::message::StopReason;

use crate::state::State;

/// The reason under which the model is told that a change was not applied after all.
pub const NOT_APPLIED: &str = "not-applied";

const CUT_OFF_MAX: u32 = 3;
const EMPTY_MAX: u32 = 2;
const REPEAT_FROM: u32 = 3;
const REPEAT_MAX: u32 = 3;

/// The nudge that is due now, if one is: its reason and its text.
pub fn due(state: &State) -> Option<(String, String)> {
    let given = |reason: &str| state.nudges.get(reason).copied().unwrap_or(0);
    let nudge = |reason: &str, text: &str| Some((reason.to_owned(), text.to_owned()));
    if !state.not_applied.is_empty() {
        let text = format!(
            "These changes of yours were not applied: {}. Read the files again before you change them.",
            state.not_applied.join("; ")
        );
        return Some((NOT_APPLIED.to_owned(), text));
    }
    if let Some((name, _, count)) = &state.seen.repeated
        && *count >= REPEAT_FROM
        && given("repeat") < REPEAT_MAX
        && !state.step.calls.is_empty()
    {
        let text = format!(
            "You have made the same {name} call {count} times. Its result does not change. \
             Do something else, or finish with a short answer."
        );
        return Some(("repeat".to_owned(), text));
    }
    if !state.step.calls.is_empty() {
        return None;
    }
    match state.step.stop? {
        StopReason::MaxTokens | StopReason::Interrupted if given("cut-off") < CUT_OFF_MAX => {
            nudge("cut-off", "Your answer was cut off. Go on from where it stopped.")
        }
        StopReason::EndTurn | StopReason::ToolUse if state.step.blocks.is_empty() && given("empty") < EMPTY_MAX => {
            nudge("empty", "Your answer was empty. Call a tool, or say what you found.")
        }
        StopReason::EndTurn | StopReason::ToolUse => before_the_end(state),
        _ => None,
    }
}

/// The model thinks it is done: has it looked before it answered, and checked what it wrote?
fn before_the_end(state: &State) -> Option<(String, String)> {
    let given = |reason: &str| state.nudges.contains_key(reason);
    let seen = &state.seen;
    if seen.writes > 0 && seen.checks_since_write == 0 && !given("check") {
        return Some((
            "check".to_owned(),
            "You changed files and did not look at them again. Check the result now: read what you changed or run \
             the command that proves it. Then finish."
                .to_owned(),
        ));
    }
    None
}
