//! Permits for tests, minted the only way there is: by a gate, with a judge that allows everything
//! and a ledger that remembers.

use std::sync::{Mutex, PoisonError};

use futures_util::FutureExt;
use homarus_contract::{
    BoxFuture,
    action::{Action, EffectClass, Plan, Tier},
    event::{Event, Judgement},
    gate::{Admission, Gate, GateError, Judge, Ledger, MergePermit, Permit, Verdict, Wish},
    ids::{Hash, RunId},
    journal::{Append, Fence, JournalError},
    model::ModelRef,
    sandbox::LayerDiff,
};

/// Allows everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct AlwaysAllow;

impl Judge for AlwaysAllow {
    fn judge(&self, _: &RunId, _: &Action, _: &Plan) -> Judgement {
        Judgement {
            verdict: Verdict::Allow,
            rule: "test-kit".to_owned(),
            reason: "tests may".to_owned(),
            policy_hash: Hash::ZERO,
            capability: None,
            tainted: false,
        }
    }

    fn judge_model(&self, _: &RunId, _: &ModelRef) -> Result<(), String> {
        Ok(())
    }
}

/// A ledger in memory: every commit succeeds and is kept.
#[derive(Debug, Default)]
pub struct MemoryLedger {
    events: Mutex<Vec<Event>>,
}

impl MemoryLedger {
    pub fn events(&self) -> Vec<Event> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Ledger for MemoryLedger {
    fn commit(&self, append: Append) -> BoxFuture<'_, Result<Fence, JournalError>> {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        let seq = append.fence.seq() + append.events.len() as u64;
        let fence = Fence::new(append.fence.run().clone(), append.fence.epoch(), seq);
        events.extend(append.events);
        Box::pin(async move { Ok(fence) })
    }
}

/// The run test permits belong to unless another is named.
pub fn test_run() -> RunId {
    RunId::generate(0, [0; 5])
}

pub fn permit_for(action: Action) -> Permit {
    permit_for_in(&test_run(), action)
}

/// A permit of a named run.
pub fn permit_for_in(run: &RunId, action: Action) -> Permit {
    let wish =
        Wish { plan: plan(&action), action, attempt: 1, tier: Tier::Internal, approval: None, approval_expires_ms: 0 };
    let append = Append::new(Fence::new(run.clone(), 1, 0));
    match admit(&gate(), append, wish) {
        Ok(Admission::Permitted { permit, .. }) => permit,
        other => panic!("the gate of the tests did not open: {other:?}"),
    }
}

/// A gate with this judge, and a ledger in memory.
pub fn gate_of<J: Judge>(judge: J) -> Gate<J, MemoryLedger> {
    Gate::new(judge, MemoryLedger::default())
}

/// [`Gate::admit`] where there is no runtime: the ledger in memory is never waited for.
pub fn admit<J: Judge>(gate: &Gate<J, MemoryLedger>, append: Append, wish: Wish) -> Result<Admission, GateError> {
    match gate.admit(append, wish).now_or_never() {
        Some(admission) => admission,
        None => panic!("the ledger in memory was waited for"),
    }
}

pub fn permit_for_model(model: &ModelRef) -> Permit {
    let append = Append::new(Fence::new(test_run(), 1, 0));
    match gate().admit_model(append, model.clone()).now_or_never() {
        Some(Ok((permit, _))) => permit,
        other => panic!("the gate of the tests did not open: {other:?}"),
    }
}

/// The right to merge `diff` as the layer of `action`.
pub fn merge_permit_for(run: &RunId, action: &Action, diff: &LayerDiff) -> MergePermit {
    match gate().admit_merge(run, action, &plan(action), diff, None) {
        Ok(permit) => permit,
        Err(error) => panic!("the gate of the tests did not open: {error}"),
    }
}

fn gate() -> Gate<AlwaysAllow, MemoryLedger> {
    gate_of(AlwaysAllow)
}

fn plan(action: &Action) -> Plan {
    Plan { summary: action.tool.clone(), resources: Vec::new(), class: EffectClass::Workspace, diff: None }
}

#[cfg(test)]
mod tests {
    use homarus_contract::{gate::Granted, ids::CallId};

    use super::*;

    #[test]
    fn permits_say_what_they_are_for() {
        let action = Action { call: CallId::new(1, 0), tool: "file.write".to_owned(), arguments: "{}".to_owned() };
        let permit = permit_for(action.clone());
        assert_eq!(permit.action(), Some(&action));
        let model: ModelRef = "openai/x".parse().unwrap();
        assert_eq!(permit_for_model(&model).granted(), &Granted::Model(model));
        let diff = LayerDiff::default();
        assert_eq!(merge_permit_for(&test_run(), &action, &diff).diff(), &diff.hash());
    }
}
