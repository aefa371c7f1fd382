//! A run that is one tool call and asks no model: what a person, or a program of theirs, calls by hand. It passes the
//! same gate, sandbox and journal as a call of a model, and goes on after a kill like any other run.

use homarus_contract::{
    event::{Accepted, FinishStatus, Resolution},
    ids::CallId,
    machine::Command,
    message::ToolCall,
};

use crate::state::{Call, Settled, State};

/// The name of this machine in [`Accepted::machine`].
pub const MACHINE: &str = "call";

/// The text of a run's first message that asks for this call. `arguments` is JSON text.
pub fn request(tool: &str, arguments: &str) -> String {
    format!("{tool} {}", arguments.trim())
}

/// The call that a run of this machine is about.
pub(crate) fn tool_call(accepted: &Accepted) -> Option<ToolCall> {
    if accepted.machine != MACHINE {
        return None;
    }
    // No tool has a space in its name.
    let (tool, arguments) = accepted.inbound.text.split_once(' ')?;
    let call = CallId::new(1, 0);
    let provider_id = call.to_string();
    Some(ToolCall { call, provider_id, name: tool.to_owned(), arguments: arguments.to_owned() })
}

/// What is left to do when the call has its outcome and is merged: nothing but to say so.
pub(crate) fn finish(state: &State) -> Command {
    let (status, summary) = match (&state.bound, state.calls()) {
        (Some((bound, limit)), _) => {
            (FinishStatus::OutOfBudget, format!("The limit on {bound} ({limit}) was reached."))
        }
        (None, [call]) => outcome(call),
        (None, _) => (FinishStatus::Failed, "The request names no call.".to_owned()),
    };
    Command::Finish { status, summary }
}

fn outcome(call: &Call) -> (FinishStatus, String) {
    if let Some(reason) = &call.denied {
        return (FinishStatus::Denied, format!("Denied: {reason}."));
    }
    if let Some(Settled::Discarded(reason)) = &call.settled {
        return (FinishStatus::Denied, format!("Not applied: {reason}."));
    }
    match (&call.result, call.resolution) {
        (_, Some(Resolution::Done)) => (FinishStatus::Completed, "A person checked: it was done.".to_owned()),
        (_, Some(Resolution::Failed)) => (FinishStatus::Failed, "A person checked: it was not done.".to_owned()),
        (Some(result), _) if result.is_error => (FinishStatus::Failed, "The call failed.".to_owned()),
        (Some(_), _) => (FinishStatus::Completed, "The call was made.".to_owned()),
        (None, _) => (FinishStatus::Failed, "The call was not made.".to_owned()),
    }
}
