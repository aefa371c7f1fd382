//! The guard through the port the gate uses.

use homarus_contract::{
    action::{Action, EffectClass, Plan, Resource, Tier},
    budget::Budget,
    event::{ApprovalsMode, Judgement, Profile},
    gate::{Judge, Verdict},
    ids::{CallId, RunId},
    model::ModelRef,
    tool::{HostRules, HostView},
};
use homarus_guard::{Guard, GuardError, Hosts};

const RULES: &str = r#"
[[rule]]
effect = "deny"
match = ["file:*:.env", "shell:run:rm *"]
reason = "not that"

[[rule]]
effect = "allow"
match = ["file:read:./**", "shell:run:ls *"]

[[rule]]
effect = "ask"
match = "shell:run:deploy *"
when = "before-run"
reason = "deploys are asked about first"
"#;

fn run_id() -> RunId {
    RunId::parse("run1").unwrap()
}

fn profile(approvals: ApprovalsMode) -> Profile {
    let grants = ["file:read:./**", "file:write:./**", "shell:run"].map(str::to_owned).to_vec();
    Profile { grants, rules: RULES.to_owned(), approvals, tier: Tier::Internal }
}

fn guard(approvals: ApprovalsMode) -> Guard {
    let guard = Guard::new("rules.toml", |model: &ModelRef| model.provider == "priced");
    guard.register(&run_id(), &profile(approvals), &Budget::default()).unwrap();
    guard
}

fn judge(guard: &Guard, class: EffectClass, resources: &[(&str, &str)]) -> Judgement {
    let action = Action { call: CallId::new(1, 0), tool: "tool".to_owned(), arguments: "{}".to_owned() };
    let resource = |(verb, target): &(&str, &str)| Resource { verb: (*verb).to_owned(), target: (*target).to_owned() };
    let resources = resources.iter().map(resource).collect();
    guard.judge(&run_id(), &action, &Plan { summary: String::new(), resources, class, diff: None })
}

#[test]
fn what_is_allowed_names_its_grant_and_rule() {
    let judgement = judge(&guard(ApprovalsMode::Ask), EffectClass::Read, &[("file:read", "a")]);
    assert_eq!(judgement.verdict, Verdict::Allow);
    assert_eq!(judgement.capability.as_deref(), Some("file:read:./**"));
    assert_eq!(judgement.rule, "rules.toml:9 allow file:read:./**");
}

#[test]
fn an_unknown_run_is_denied() {
    let guard = guard(ApprovalsMode::Auto);
    guard.unregister(&run_id());
    let judgement = judge(&guard, EffectClass::Read, &[("file:read", "a")]);
    assert_eq!(judgement.verdict, Verdict::Deny);
    assert!(judgement.reason.contains("not registered"));
    let model: ModelRef = "priced/x".parse().unwrap();
    assert!(guard.judge_model(&run_id(), &model).is_err());
}

#[test]
fn what_no_grant_covers_is_denied_whatever_the_rules_say() {
    for approvals in [ApprovalsMode::Ask, ApprovalsMode::Auto, ApprovalsMode::Deny] {
        let guard = guard(approvals);
        for resources in
            [&[("net:connect", "x")][..], &[("file:read", "../a")], &[("file:read", "a"), ("file:write", "/etc/x")]]
        {
            let judgement = judge(&guard, EffectClass::Read, resources);
            assert_eq!(judgement.verdict, Verdict::Deny, "{resources:?}");
            assert_eq!(judgement.rule, "guard: not granted");
            assert!(judgement.reason.contains("does not grant"));
        }
    }
}

#[test]
fn a_deny_rule_denies_in_every_mode() {
    for approvals in [ApprovalsMode::Ask, ApprovalsMode::Auto, ApprovalsMode::Deny] {
        let judgement = judge(&guard(approvals), EffectClass::Workspace, &[("shell:run", "ls; rm x")]);
        assert_eq!((judgement.verdict, judgement.reason.as_str()), (Verdict::Deny, "not that"));
        assert_eq!(judgement.rule, "rules.toml:4 deny shell:run:rm *");
    }
}

#[test]
fn an_ask_waits_for_the_merge_only_where_there_is_one() {
    let guard = guard(ApprovalsMode::Ask);
    let verdict = |class, line| judge(&guard, class, &[("shell:run", line)]).verdict;
    assert_eq!(verdict(EffectClass::Workspace, "make"), Verdict::AskBeforeMerge);
    assert_eq!(verdict(EffectClass::Workspace, "deploy now"), Verdict::AskBeforeRun);
    assert_eq!(verdict(EffectClass::Workspace, "make; deploy now"), Verdict::AskBeforeRun);
    for class in [EffectClass::Unkeyed, EffectClass::Keyed, EffectClass::Read] {
        assert_eq!(verdict(class, "make"), Verdict::AskBeforeRun);
    }
}

#[test]
fn modes_turn_an_ask_into_a_denial_or_a_recorded_yes() {
    let denied = judge(&guard(ApprovalsMode::Deny), EffectClass::Workspace, &[("file:write", "a")]);
    assert_eq!(denied.verdict, Verdict::Deny);
    assert!(denied.reason.contains("approvals are off (--approvals deny)"), "{}", denied.reason);
    let auto = judge(&guard(ApprovalsMode::Auto), EffectClass::Workspace, &[("file:write", "a")]);
    assert_eq!(auto.verdict, Verdict::Allow);
    assert!(auto.rule.ends_with("(approved automatically: --approvals auto)"), "{}", auto.rule);
}

#[test]
fn a_run_whose_every_effect_is_asked_about_reads_freely_and_does_nothing_unasked() {
    let guard = guard(ApprovalsMode::AskAll);
    for (class, line, verdict) in [
        (EffectClass::Read, "ls x", Verdict::Allow),
        (EffectClass::Workspace, "ls x", Verdict::AskBeforeMerge),
        (EffectClass::Unkeyed, "ls x", Verdict::AskBeforeRun),
        (EffectClass::Keyed, "ls x", Verdict::AskBeforeRun),
        (EffectClass::Workspace, "make", Verdict::AskBeforeMerge),
        (EffectClass::Workspace, "deploy now", Verdict::AskBeforeRun),
        (EffectClass::Workspace, "rm x", Verdict::Deny),
    ] {
        assert_eq!(judge(&guard, class, &[("shell:run", line)]).verdict, verdict, "{class:?} {line}");
    }
}

#[test]
fn an_action_that_names_nothing_is_not_allowed() {
    let judgement = judge(&guard(ApprovalsMode::Ask), EffectClass::Unkeyed, &[]);
    assert_eq!(judgement.verdict, Verdict::AskBeforeRun);
}

#[test]
fn the_policy_hash_follows_rules_grants_and_mode() {
    let hash = |profile: Profile| {
        let guard = guard(ApprovalsMode::Ask);
        guard.register(&run_id(), &profile, &Budget::default()).unwrap();
        judge(&guard, EffectClass::Read, &[("file:read", "a")]).policy_hash
    };
    let base = profile(ApprovalsMode::Ask);
    let other_rules = Profile { rules: format!("{RULES}\n# more"), ..base.clone() };
    let other_grants = Profile { grants: vec!["file:read:./**".to_owned()], ..base.clone() };
    let all = [hash(base.clone()), hash(other_rules), hash(other_grants), hash(profile(ApprovalsMode::Auto))];
    assert_eq!(all[0], hash(base));
    for (i, a) in all.iter().enumerate() {
        assert!(all[i + 1..].iter().all(|b| a != b));
    }
}

#[test]
fn a_budget_in_usd_refuses_a_model_of_unknown_price() {
    let guard = guard(ApprovalsMode::Ask);
    let (priced, unpriced): (ModelRef, ModelRef) = ("priced/x".parse().unwrap(), "other/x".parse().unwrap());
    assert!(guard.judge_model(&run_id(), &unpriced).is_ok(), "without a limit in USD an unknown price does not matter");
    let budget = Budget { cost_max: Some(1), ..Budget::default() };
    guard.register(&run_id(), &profile(ApprovalsMode::Ask), &budget).unwrap();
    assert!(guard.judge_model(&run_id(), &priced).is_ok());
    let reason = guard.judge_model(&run_id(), &unpriced).unwrap_err();
    assert!(reason.contains("other/x") && reason.contains("--budget-usd") && reason.contains("price file"), "{reason}");
}

#[test]
fn a_profile_that_cannot_be_read_is_refused() {
    let guard = guard(ApprovalsMode::Ask);
    let broken_rules = Profile { rules: "x = 1".to_owned(), ..profile(ApprovalsMode::Ask) };
    let error = guard.register(&run_id(), &broken_rules, &Budget::default()).unwrap_err();
    assert!(matches!(error, GuardError::Rules(_)) && error.to_string().contains("rules.toml:1"), "{error}");
    let broken_grants = Profile { grants: vec!["shel:run".to_owned()], ..profile(ApprovalsMode::Ask) };
    let error = guard.register(&run_id(), &broken_grants, &Budget::default()).unwrap_err();
    assert!(error.to_string().contains("shell:run"), "{error}");
}

#[test]
fn hosts_are_free_or_named_only_as_grants_and_rules_say() {
    let rules = r#"
        [[rule]]
        effect = "allow"
        match = ["net:connect:free.example:443", "net:connect:*.wide.example:443"]
        [[rule]]
        effect = "deny"
        match = "net:connect:shut.example:*"
        reason = "shut"
    "#;
    let view = |target: &str, grants: &[&str], approvals: ApprovalsMode| {
        let grants = grants.iter().map(|grant| (*grant).to_owned()).collect();
        let profile = Profile { grants, rules: rules.to_owned(), approvals, tier: Tier::Internal };
        let HostView { is_free, is_named } = Hosts.view(&profile, target).unwrap();
        (is_free, is_named)
    };
    let all = ["net:connect"];
    assert_eq!(view("free.example:443", &all, ApprovalsMode::Deny), (true, true));
    assert_eq!(view("a.wide.example:443", &all, ApprovalsMode::Deny), (true, false));
    assert_eq!(view("other.example:443", &all, ApprovalsMode::Ask), (false, false));
    assert_eq!(view("other.example:443", &all, ApprovalsMode::Auto), (true, false));
    assert_eq!(view("shut.example:443", &all, ApprovalsMode::Auto), (false, false));
    // A grant names a host too, but neither opens what a rule shuts nor answers for a person.
    let named = ["net:connect:other.example:443", "net:connect:shut.example:443"];
    assert_eq!(view("other.example:443", &named, ApprovalsMode::Ask), (false, true));
    assert_eq!(view("shut.example:443", &named, ApprovalsMode::Auto), (false, false));
    // What no grant covers is neither, whatever the rules say.
    assert_eq!(view("free.example:443", &["shell:run"], ApprovalsMode::Auto), (false, false));
    let profile = Profile { rules: "nonsense".to_owned(), ..profile(ApprovalsMode::Ask) };
    assert!(Hosts.view(&profile, "x:1").is_err());
}
