//! What the runtime tells a model that is about to stop too early or runs in circles.
//!
//! Every model gains from these, small ones most. Each has a bound, so that no run is nudged for
//! ever, and each is an event, so that a person sees what was said in their name.

use homarus_contract::{message::StopReason, text::one_line};

use crate::state::State;

/// The reason under which the model is told that a change was not applied after all.
pub const NOT_APPLIED: &str = "not-applied";

const CUT_OFF_MAX: u32 = 3;
const EMPTY_MAX: u32 = 2;
const REPEAT_FROM: u32 = 2;
const REPEAT_MAX: u32 = 4;
const FAILED_MAX: u32 = 1;
const MISSING_MAX: u32 = 2;

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

/// The model thinks it is done: is it?
fn before_the_end(state: &State) -> Option<(String, String)> {
    let given = |reason: &str| state.nudges.get(reason).copied().unwrap_or(0);
    let seen = &state.seen;
    if let Some(command) = &seen.failed_command
        && given("failed") < FAILED_MAX
    {
        let command = one_line(command, 200);
        let text = format!(
            "You are not done: `{command}` failed the last time you ran it. Read its output again, correct the cause, \
             and run it again."
        );
        return Some(("failed".to_owned(), text));
    }
    let missing = missing_parts(state);
    if !missing.is_empty() && given("missing") < MISSING_MAX {
        let text = format!("You are not done. Still missing: {}. Do that now.", missing.join("; "));
        return Some(("missing".to_owned(), text));
    }
    if seen.writes > 0 && seen.checks_since_write == 0 && given("check") == 0 {
        return Some((
            "check".to_owned(),
            "You changed files and did not look at them again. Check the result now: read what you changed or run \
             the command that proves it. Then finish."
                .to_owned(),
        ));
    }
    None
}

/// Parts of the request that can be seen not to have been done: a command it quotes, a file it says to
/// write. Wrong now and then, and harmless then: the model is told at most a few times.
fn missing_parts(state: &State) -> Vec<String> {
    let Some(accepted) = &state.accepted else { return Vec::new() };
    let request = accepted.inbound.text.as_str();
    let mut missing = Vec::new();
    for quoted in request.split('`').skip(1).step_by(2) {
        let words: Vec<&str> = quoted.split_whitespace().take(2).collect();
        let begins = words.join(" ");
        if words.len() == 2 && !state.seen.commands.iter().any(|command| command.contains(&begins)) {
            missing.push(format!("you have not run `{}`", one_line(quoted, 100)));
        }
    }
    let words: Vec<&str> = request.split_whitespace().collect();
    for pair in words.windows(2) {
        let name = pair[1].trim_matches(|c: char| !c.is_alphanumeric() && c != '/');
        let is_target = matches!(pair[0].to_lowercase().as_str(), "to" | "into" | "write" | "create");
        let stem_and_extension = name.rsplit_once('.').filter(|(stem, extension)| {
            !stem.is_empty() && (1..=5).contains(&extension.len()) && extension.chars().all(char::is_alphanumeric)
        });
        if is_target && stem_and_extension.is_some() && !state.seen.written.iter().any(|path| path.ends_with(name)) {
            missing.push(format!("the task says to write {} and you have not", one_line(name, 100)));
        }
    }
    missing.dedup();
    missing
}
