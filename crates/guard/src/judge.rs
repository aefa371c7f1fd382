//! The guard itself, and its verdicts.

use std::{
    collections::HashMap,
    sync::{Arc, RwLock},
};

use homarus_contract::{
    action::{Action, EffectClass, Plan, Resource},
    budget::Budget,
    event::{ApprovalsMode, Judgement, Profile},
    gate::{Judge, Verdict},
    ids::{Hash, RunId},
    model::ModelRef,
    text,
};
use homarus_policy::{Decision, Effect, When};

use crate::profile::{GuardError, RunProfile};

/// Runs judged by one guard at a time.
const RUNS_MAX: usize = 100_000;

/// Judges the actions of every registered run.
pub struct Guard {
    rules_name: String,
    /// Whether the price of a model is known; given by whoever holds the price table.
    price_known: Box<dyn Fn(&ModelRef) -> bool + Send + Sync>,
    runs: RwLock<HashMap<RunId, Arc<RunProfile>>>,
}

impl Guard {
    /// `rules_name` is how judgements refer to the rules of a profile, for example `default.toml`.
    pub fn new(rules_name: impl Into<String>, price_known: impl Fn(&ModelRef) -> bool + Send + Sync + 'static) -> Self {
        Self { rules_name: rules_name.into(), price_known: Box::new(price_known), runs: RwLock::default() }
    }

    /// Makes a run known; again for the same run replaces what was registered.
    pub fn register(&self, run: &RunId, profile: &Profile, budget: &Budget) -> Result<(), GuardError> {
        let parsed = Arc::new(RunProfile::parse(&self.rules_name, profile, budget)?);
        let mut runs = self.runs.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        if runs.len() >= RUNS_MAX && !runs.contains_key(run) {
            return Err(GuardError::TooManyRuns(RUNS_MAX));
        }
        runs.insert(run.clone(), parsed);
        Ok(())
    }

    /// Forgets a run; what it wishes from then on is denied.
    pub fn unregister(&self, run: &RunId) {
        self.runs.write().unwrap_or_else(|poisoned| poisoned.into_inner()).remove(run);
    }

    fn profile(&self, run: &RunId) -> Option<Arc<RunProfile>> {
        self.runs.read().unwrap_or_else(|poisoned| poisoned.into_inner()).get(run).cloned()
    }
}

impl Judge for Guard {
    fn judge(&self, run: &RunId, _action: &Action, plan: &Plan) -> Judgement {
        let Some(profile) = self.profile(run) else {
            return denied("guard: unknown run", format!("the run {run} is not registered"), Hash::ZERO, None);
        };
        let capability = match granted(&profile, &plan.resources) {
            Ok(capability) => capability,
            Err(resource) => {
                let reason = format!(
                    "the profile does not grant {} on `{}`; go on without it",
                    resource.verb,
                    text::one_line(&resource.target, 120)
                );
                return denied("guard: not granted", reason, profile.hash, None);
            }
        };
        let decision = profile.policy.evaluate(&plan.resources);
        verdict(&profile, decision, plan.class, capability)
    }

    fn judge_model(&self, run: &RunId, model: &ModelRef) -> Result<(), String> {
        let Some(profile) = self.profile(run) else {
            return Err(format!("the run {run} is not registered"));
        };
        if profile.has_cost_limit && !(self.price_known)(model) {
            return Err(format!(
                "the price of {model} is unknown, so a budget in USD cannot be kept: add the model to the price \
                 file, choose another model, or leave --budget-usd out"
            ));
        }
        Ok(())
    }
}

/// The grants that cover all resources, or the first resource that none covers.
fn granted<'r>(profile: &RunProfile, resources: &'r [Resource]) -> Result<Option<String>, &'r Resource> {
    let mut used: Vec<&str> = Vec::new();
    for resource in resources {
        used.extend(profile.grants.covering(resource).ok_or(resource)?);
    }
    used.sort_unstable();
    used.dedup();
    Ok((!used.is_empty()).then(|| used.join(", ")))
}

fn verdict(profile: &RunProfile, decision: Decision, class: EffectClass, capability: Option<String>) -> Judgement {
    let Decision { effect, when, rule, reason, .. } = decision;
    let judged = |verdict, rule, reason| Judgement {
        verdict,
        rule,
        reason,
        policy_hash: profile.hash,
        capability: capability.clone(),
        tainted: false,
    };
    match (effect, profile.approvals) {
        (Effect::Allow, ApprovalsMode::AskAll) if class != EffectClass::Read => {
            let reason = "every effect of this run is asked about".to_owned();
            judged(ask_verdict(class, None), format!("{rule} (held: approvals are ask_all)"), reason)
        }
        (Effect::Allow, _) => judged(Verdict::Allow, rule, reason),
        (Effect::Deny, _) => judged(Verdict::Deny, rule, reason),
        (Effect::Ask, ApprovalsMode::Auto) => {
            judged(Verdict::Allow, format!("{rule} (approved automatically: --approvals auto)"), reason)
        }
        (Effect::Ask, ApprovalsMode::Deny) => {
            let reason = format!("approvals are off (--approvals deny), and this needs one: {reason}");
            judged(Verdict::Deny, rule, reason)
        }
        (Effect::Ask, ApprovalsMode::Ask | ApprovalsMode::AskAll) => judged(ask_verdict(class, when), rule, reason),
    }
}

/// Only what stays in a layer of its own can be shown before it takes effect.
fn ask_verdict(class: EffectClass, when: Option<When>) -> Verdict {
    match (class, when) {
        (EffectClass::Workspace, None | Some(When::BeforeMerge)) => Verdict::AskBeforeMerge,
        _ => Verdict::AskBeforeRun,
    }
}

fn denied(rule: &str, reason: String, policy_hash: Hash, capability: Option<String>) -> Judgement {
    Judgement { verdict: Verdict::Deny, rule: rule.to_owned(), reason, policy_hash, capability, tainted: false }
}
