//! What the driver itself must know of a run's calls: to ask people, and to clean up.

use std::collections::BTreeMap;

use homarus_contract::{
    action::{Action, EffectClass, Plan},
    event::{ActResult, Event, FinishStatus},
    ids::{CallId, Hash},
    sandbox::LayerDiff,
};

#[derive(Default)]
pub(crate) struct Calls {
    by_id: BTreeMap<CallId, CallView>,
    pub(crate) finished: Option<(FinishStatus, String)>,
}

#[derive(Clone)]
pub(crate) struct CallView {
    pub(crate) action: Action,
    pub(crate) plan: Plan,
    pub(crate) reason: String,
    pub(crate) asked: Option<(Hash, u64)>,
    pub(crate) attempt: u32,
    pub(crate) class: Option<EffectClass>,
    pub(crate) has_result: bool,
    pub(crate) is_settled: bool,
    pub(crate) diff: Option<LayerDiff>,
}

impl Calls {
    pub(crate) fn apply(&mut self, event: &Event) {
        match event {
            Event::Judged { action, plan, judgement } => {
                let view = self.by_id.entry(action.call.clone()).or_insert_with(|| CallView {
                    action: action.clone(),
                    plan: plan.clone(),
                    reason: String::new(),
                    asked: None,
                    attempt: 0,
                    class: None,
                    has_result: false,
                    is_settled: false,
                    diff: None,
                });
                view.plan = plan.clone();
                view.reason = judgement.reason.clone();
            }
            Event::ApprovalRequested { call, hash, expires_ms } => {
                self.with(call, |view| view.asked = Some((*hash, *expires_ms)));
            }
            Event::ActIntent { call, class, attempt, .. } => self.with(call, |view| {
                view.attempt = *attempt;
                view.class = Some(*class);
                view.has_result = false;
            }),
            Event::ActResult(ActResult { call, diff, .. }) => self.with(call, |view| {
                view.has_result = true;
                view.diff = (!diff.is_empty()).then(|| diff.clone());
            }),
            Event::Merged { call, .. } | Event::Discarded { call, .. } => self.with(call, |view| {
                view.is_settled = true;
                view.diff = None;
            }),
            Event::Finished { status, summary } => self.finished = Some((*status, summary.clone())),
            _ => {}
        }
    }

    pub(crate) fn get(&self, call: &CallId) -> Option<&CallView> {
        self.by_id.get(call)
    }

    /// Calls that were started and have no result: their layers are of no use to anyone.
    pub(crate) fn cut_short(&self) -> Vec<(CallId, u32)> {
        self.by_id
            .iter()
            .filter(|(_, view)| view.class == Some(EffectClass::Workspace) && view.attempt > 0)
            .filter(|(_, view)| !view.has_result && !view.is_settled)
            .map(|(call, view)| (call.clone(), view.attempt))
            .collect()
    }

    /// Calls whose changes are neither merged nor thrown away.
    pub(crate) fn unsettled(&self) -> Vec<CallId> {
        self.by_id.keys().filter(|call| self.has_changes(call)).cloned().collect()
    }

    /// Whether it has changed something that is neither merged nor thrown away.
    pub(crate) fn has_changes(&self, call: &CallId) -> bool {
        self.by_id.get(call).is_some_and(|view| view.has_result && !view.is_settled && view.diff.is_some())
    }

    fn with(&mut self, call: &CallId, change: impl FnOnce(&mut CallView)) {
        if let Some(view) = self.by_id.get_mut(call) {
            change(view);
        }
    }
}
