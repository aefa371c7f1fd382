//! Permits for tests: the real gate, with a judge that allows all and a ledger that forgets.

use homarus_contract::{
    BoxFuture,
    action::{Action, EffectClass, Plan, Tier},
    event::Judgement,
    gate::{Admission, Gate, Judge, Ledger, MergePermit, Permit, Verdict, Wish},
    ids::{CallId, Hash, RunId},
    journal::{Append, Fence, JournalError},
    model::ModelRef,
    sandbox::LayerDiff,
};

struct AllowAll;
struct Forgetful;

impl Judge for AllowAll {
    fn judge(&self, _: &RunId, _: &Action, _: &Plan) -> Judgement {
        Judgement {
            verdict: Verdict::Allow,
            rule: "test".into(),
            reason: "test".into(),
            policy_hash: Hash::ZERO,
            capability: None,
            tainted: false,
        }
    }

    fn judge_model(&self, _: &RunId, _: &ModelRef) -> Result<(), String> {
        Ok(())
    }
}

impl Ledger for Forgetful {
    fn commit(&self, append: Append) -> BoxFuture<'_, Result<Fence, JournalError>> {
        Box::pin(async move { Ok(append.fence) })
    }
}

fn action(call: &CallId) -> (Action, Plan) {
    let action = Action { call: call.clone(), tool: "test".into(), arguments: "{}".into() };
    let plan = Plan { summary: String::new(), resources: Vec::new(), class: EffectClass::Workspace, diff: None };
    (action, plan)
}

pub async fn permit(run: &RunId, call: &CallId) -> Permit {
    let (action, plan) = action(call);
    let wish = Wish { action, plan, attempt: 1, tier: Tier::Internal, approval: None, approval_expires_ms: 0 };
    let append = Append::new(Fence::new(run.clone(), 1, 1));
    match Gate::new(AllowAll, Forgetful).admit(append, wish).await.unwrap() {
        Admission::Permitted { permit, .. } => permit,
        other => panic!("not permitted: {other:?}"),
    }
}

pub fn merge_permit(run: &RunId, call: &CallId, diff: &LayerDiff) -> MergePermit {
    let (action, plan) = action(call);
    Gate::new(AllowAll, Forgetful).admit_merge(run, &action, &plan, diff, None).unwrap()
}
