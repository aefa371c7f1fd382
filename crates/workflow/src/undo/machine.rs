//! The machine of an undo run: one call, its merge, and the end.

use homarus_contract::{
    action::{Action, Plan},
    event::{ActResult, Event, FinishStatus, WaitingOn},
    gate::{Approval, Verdict},
    ids::{CallId, Hash},
    machine::{Command, Machine},
    sandbox::MergeReport,
};

use super::{NAME, Target, tool};

/// The machine [`NAME`].
#[derive(Debug, Clone, Copy, Default)]
pub struct Undo;

#[derive(Debug, Clone, Default)]
pub struct State {
    request: Option<String>,
    judged: Option<(Plan, Verdict)>,
    asked: Option<Hash>,
    approval: Option<Approval>,
    attempt: u32,
    result: Option<ActResult>,
    end: Option<End>,
    finished: bool,
}

#[derive(Debug, Clone)]
enum End {
    Merged(MergeReport),
    Denied(String),
    Bound(String, u64),
}

impl Machine for Undo {
    type State = State;

    fn knows(&self, machine: &str) -> bool {
        machine == NAME
    }

    fn apply(&self, state: &mut State, event: &Event) {
        match event {
            Event::Accepted(accepted) => state.request = Some(accepted.inbound.text.clone()),
            Event::Judged { plan, judgement, .. } => state.judged = Some((plan.clone(), judgement.verdict)),
            Event::ApprovalRequested { hash, .. } => (state.asked, state.approval) = (Some(*hash), None),
            Event::ApprovalDecided { approval, .. } => {
                (state.asked, state.approval) = (None, Some(approval.clone()));
            }
            Event::ActIntent { attempt, .. } => state.attempt = *attempt,
            Event::ActResult(result) => state.result = Some(result.clone()),
            Event::Merged { report, .. } => state.end = Some(End::Merged(report.clone())),
            Event::Denied { reason, .. } | Event::Discarded { reason, .. } => {
                state.end = Some(End::Denied(reason.clone()));
            }
            Event::BoundHit { bound, limit } => state.end = Some(End::Bound(bound.clone(), *limit)),
            Event::Finished { .. } => state.finished = true,
            _ => {}
        }
    }

    fn next(&self, state: &State) -> Vec<Command> {
        let Some(request) = state.request.as_ref().filter(|_| !state.finished) else { return Vec::new() };
        vec![state.next(request)]
    }
}

impl State {
    fn next(&self, request: &str) -> Command {
        if let Some(end) = &self.end {
            return self.finish(end);
        }
        let call = CallId::new(1, 0);
        if self.asked.is_some() {
            return Command::Wait { on: WaitingOn::Approval { call } };
        }
        let Ok(target) = request.parse::<Target>() else {
            return finish(FinishStatus::Failed, "The request does not say what to undo.");
        };
        let arguments = serde_json::to_string(&target).unwrap_or_default();
        let action = Action { call, tool: tool::NAME.to_owned(), arguments };
        match (&self.result, &self.judged) {
            (None, _) => Command::Act { action, attempt: self.attempt + 1, approval: self.approval.clone() },
            (Some(result), Some((plan, verdict))) if !result.diff.is_empty() => Command::Settle {
                action,
                plan: Box::new(plan.clone()),
                result: Box::new(result.clone()),
                hold: *verdict == Verdict::AskBeforeMerge,
                approval: self.approval.clone(),
            },
            (Some(result), _) if result.is_error => finish(FinishStatus::Failed, "It could not be undone."),
            _ => finish(FinishStatus::Completed, "Nothing is left to undo."),
        }
    }

    fn finish(&self, end: &End) -> Command {
        let report = match end {
            End::Denied(reason) => return finish(FinishStatus::Denied, &format!("Not undone: {reason}.")),
            End::Bound(bound, limit) => {
                let summary = format!("The limit on {bound} ({limit}) was reached.");
                return finish(FinishStatus::OutOfBudget, &summary);
            }
            End::Merged(report) => report,
        };
        let refused = self.result.as_ref().map_or(0, |result| result.diff.refused.len());
        let undone = match report.merged.len() {
            1 => "Undone: 1 path.".to_owned(),
            paths => format!("Undone: {paths} paths."),
        };
        if report.conflicts.is_empty() && refused == 0 {
            return finish(FinishStatus::Completed, &undone);
        }
        let summary = format!(
            "{undone} Not undone: {} that were changed since (the older versions are kept apart), {refused} that \
             cannot be.",
            report.conflicts.len()
        );
        finish(FinishStatus::Failed, &summary)
    }
}

fn finish(status: FinishStatus, summary: &str) -> Command {
    Command::Finish { status, summary: summary.to_owned() }
}
