//! The gate, by itself and through the whole program: what a person refused is not done, whatever the rules become.

use futures_util::FutureExt;
use homarus_contract::{
    action::{Action, EffectClass, Plan, Tier, approval_hash},
    event::Judgement,
    gate::{Admission, Approval, Gate, GateError, Judge, Verdict, Wish},
    ids::{CallId, Hash, RunId},
    journal::{Append, Fence},
    model::ModelRef,
    sandbox::{Change, Entry, LayerDiff},
};
use homarus_test_kit::{
    Turn,
    permit::{MemoryLedger, test_run},
};
use serde_json::json;

use crate::program::Program;

/// Always says the same.
struct Says(Verdict);

impl Judge for Says {
    fn judge(&self, _: &RunId, _: &Action, _: &Plan) -> Judgement {
        Judgement {
            verdict: self.0,
            rule: "test".to_owned(),
            reason: "because".to_owned(),
            policy_hash: policy(),
            capability: None,
            tainted: false,
        }
    }

    fn judge_model(&self, _: &RunId, _: &ModelRef) -> Result<(), String> {
        Ok(())
    }
}

fn policy() -> Hash {
    Hash::of(b"the rules of now")
}

fn action() -> Action {
    Action { call: CallId::new(1, 0), tool: "shell.execute".to_owned(), arguments: "{}".to_owned() }
}

fn plan() -> Plan {
    Plan { summary: "x".to_owned(), resources: Vec::new(), class: EffectClass::Workspace, diff: None }
}

fn diff() -> LayerDiff {
    let change = Change { path: "a".to_owned(), old: Entry::Absent, new: Entry::Folder { mode: 0o755 } };
    LayerDiff { changes: vec![change], ..LayerDiff::default() }
}

fn answer(granted: bool, policy: &Hash, diff: Option<&Hash>) -> Approval {
    let hash = approval_hash(&action(), &plan(), policy, diff);
    Approval { hash, granted, who: "cli:ada".to_owned(), why: String::new() }
}

/// What becomes of a wish, and the kinds of what is journalled of it.
fn admitted(verdict: Verdict, approval: Option<Approval>) -> (Admission, Vec<&'static str>) {
    let ledger = std::sync::Arc::new(MemoryLedger::default());
    let gate = Gate::new(Says(verdict), ledger.clone());
    let wish =
        Wish { action: action(), plan: plan(), attempt: 1, tier: Tier::Internal, approval, approval_expires_ms: 0 };
    let append = Append::new(Fence::new(test_run(), 1, 0));
    let admission = gate.admit(append, wish).now_or_never().unwrap().unwrap();
    (admission, ledger.events().iter().map(homarus_contract::event::Event::kind).collect())
}

fn merge(verdict: Verdict, approval: Option<&Approval>) -> Result<(), GateError> {
    let gate = Gate::new(Says(verdict), MemoryLedger::default());
    gate.admit_merge(&test_run(), &action(), &plan(), &diff(), approval).map(drop)
}

#[test]
fn a_no_stands_under_every_verdict() {
    let old = Hash::of(b"the rules of then");
    for verdict in [Verdict::Allow, Verdict::AskBeforeRun, Verdict::AskBeforeMerge, Verdict::Deny] {
        for policy in [policy(), old] {
            let no = answer(false, &policy, None);
            let (admission, kinds) = admitted(verdict, Some(no.clone()));
            assert!(matches!(admission, Admission::Denied { .. }), "{verdict:?}: {admission:?}");
            assert_eq!(kinds, ["judged", "denied"], "{verdict:?}");
            let merged = merge(verdict, Some(&no));
            assert!(matches!(&merged, Err(GateError::MergeDenied(why)) if why == "cli:ada said no"), "{merged:?}");
        }
    }
}

#[test]
fn a_yes_is_for_exactly_what_was_shown() {
    let old = Hash::of(b"the rules of then");
    let (admission, kinds) = admitted(Verdict::AskBeforeRun, Some(answer(true, &policy(), None)));
    assert!(matches!(admission, Admission::Permitted { .. }), "{admission:?}");
    assert_eq!(kinds, ["judged", "act_intent"]);
    for approval in [None, Some(answer(true, &old, None))] {
        let (admission, kinds) = admitted(Verdict::AskBeforeRun, approval);
        assert!(matches!(admission, Admission::NeedsApproval { .. }), "{admission:?}");
        assert_eq!(kinds, ["judged", "approval_requested"]);
    }
    assert!(matches!(admitted(Verdict::Deny, Some(answer(true, &policy(), None))).0, Admission::Denied { .. }));

    let shown = diff().hash();
    let (before_run, before_merge) = (answer(true, &policy(), None), answer(true, &policy(), Some(&shown)));
    let other = answer(true, &policy(), Some(&Hash::of(b"another diff")));
    for (verdict, approval, is_merged) in [
        (Verdict::Allow, None, true),
        (Verdict::AskBeforeRun, None, false),
        (Verdict::AskBeforeRun, Some(&before_run), true),
        (Verdict::AskBeforeRun, Some(&before_merge), true),
        (Verdict::AskBeforeRun, Some(&other), false),
        (Verdict::AskBeforeMerge, None, false),
        (Verdict::AskBeforeMerge, Some(&before_run), false),
        (Verdict::AskBeforeMerge, Some(&before_merge), true),
    ] {
        let merged = merge(verdict, approval);
        assert_eq!(merged.is_ok(), is_merged, "{verdict:?}, {approval:?}: {merged:?}");
        assert!(is_merged || matches!(merged, Err(GateError::ApprovalMismatch)), "somebody may be asked");
    }
    assert!(matches!(merge(Verdict::Deny, Some(&before_merge)), Err(GateError::MergeDenied(why)) if why == "because"));
}

#[test]
fn what_was_refused_is_not_done_when_the_rules_have_come_to_allow_it() {
    let shell = Turn::call("shell.execute", json!({ "command": "echo x > sent.txt" }));
    let program = Program::with_turns(vec![shell, Turn::text("Not sent."), Turn::text("Not sent.")]);
    let rules = program.home.parent().unwrap().join("rules.toml");
    std::fs::write(&rules, "[[rule]]\neffect='ask'\nmatch='shell:run:*'\nwhen='before-run'\nreason='first'\n").unwrap();
    let asked = program.output(&["run", "do it", "--approvals", "ask", "--policy", rules.to_str().unwrap()]);
    assert_eq!(asked.code, 4, "{asked:?}");
    for args in [&["configure", "last", "--approvals", "auto"][..], &["approve", "last", "--deny"]] {
        let done = program.output(&[&["runs"], args].concat());
        assert_eq!(done.code, 0, "{done:?}");
    }
    let done = program.output(&["runs", "resume", "last"]);
    assert_eq!(done.code, 3, "{done:?}");
    assert_eq!(program.file("sent.txt"), None);
    assert!(!program.kinds().iter().any(|kind| kind == "act_intent"), "{:?}", program.kinds());
    program.verify();
}
