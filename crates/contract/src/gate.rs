//! The one way from a wish to an effect.
//!
//! A [`Permit`] has a private constructor, is not `Clone` and is taken by value by every executor:
//! code that acts without having passed a [`Gate`] does not compile. The gate asks its [`Judge`],
//! commits the intent through its [`Ledger`], and only then mints.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    BoxFuture,
    action::{Action, EffectClass, Plan, Tier, approval_hash},
    event::{Event, Judgement},
    ids::{CallId, Hash, RunId},
    journal::{Append, Fence, JournalError},
    model::ModelRef,
    sandbox::LayerDiff,
};

/// The right to do one thing once.
#[derive(Debug)]
pub struct Permit {
    run: RunId,
    granted: Granted,
}

/// What a permit allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Granted {
    Model(ModelRef),
    Act(Action),
}

/// The right to merge the layer of one call.
#[derive(Debug)]
pub struct MergePermit {
    run: RunId,
    call: CallId,
    diff: Hash,
}

impl Permit {
    pub fn run(&self) -> &RunId {
        &self.run
    }

    pub fn granted(&self) -> &Granted {
        &self.granted
    }

    /// The permitted action; `None` for a model call.
    pub fn action(&self) -> Option<&Action> {
        match &self.granted {
            Granted::Act(action) => Some(action),
            Granted::Model(_) => None,
        }
    }
}

impl MergePermit {
    pub fn run(&self) -> &RunId {
        &self.run
    }

    pub fn call(&self) -> &CallId {
        &self.call
    }

    /// Executors refuse to merge a diff with another hash.
    pub fn diff(&self) -> &Hash {
        &self.diff
    }
}

/// What the judge says of an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Allow,
    /// A person must agree before it runs.
    AskBeforeRun,
    /// It runs in its own layer; a person must agree to what it did before it is merged.
    AskBeforeMerge,
    Deny,
}

/// A person's answer, as it is journalled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// See [`approval_hash`].
    pub hash: Hash,
    pub granted: bool,
    /// `terminal:USER`, `cli:USER`, `auto`, `timeout`, ...
    pub who: String,
    pub why: String,
}

impl Approval {
    /// A no, in the words of whoever said it.
    pub fn refusal(&self) -> String {
        match self.why.as_str() {
            "" => format!("{} said no", self.who),
            why => format!("{} said no: {why}", self.who),
        }
    }
}

/// Decides; has no effects. Capability, rules, safety and budget are its matter.
pub trait Judge: Send + Sync {
    fn judge(&self, run: &RunId, action: &Action, plan: &Plan) -> Judgement;

    /// Why a model may not be asked, if it may not (a budget in USD and an unknown price, say).
    fn judge_model(&self, run: &RunId, model: &ModelRef) -> Result<(), String>;
}

/// Commits: the part of the journal that the gate needs.
pub trait Ledger: Send + Sync {
    fn commit(&self, append: Append) -> BoxFuture<'_, Result<Fence, JournalError>>;
}

impl<J: Judge + ?Sized> Judge for std::sync::Arc<J> {
    fn judge(&self, run: &RunId, action: &Action, plan: &Plan) -> Judgement {
        (**self).judge(run, action, plan)
    }

    fn judge_model(&self, run: &RunId, model: &ModelRef) -> Result<(), String> {
        (**self).judge_model(run, model)
    }
}

impl<L: Ledger + ?Sized> Ledger for std::sync::Arc<L> {
    fn commit(&self, append: Append) -> BoxFuture<'_, Result<Fence, JournalError>> {
        (**self).commit(append)
    }
}

/// What became of a wish to act.
#[derive(Debug)]
pub enum Admission {
    /// Committed; run it now. `hold_merge`: its diff must be approved before it is merged.
    Permitted { permit: Permit, fence: Fence, hold_merge: bool },
    /// Committed; a person must answer for this hash.
    NeedsApproval { hash: Hash, fence: Fence },
    /// Committed; it will not run.
    Denied { reason: String, fence: Fence },
}

#[derive(Debug, Error)]
pub enum GateError {
    #[error("the model may not be asked: {0}")]
    ModelDenied(String),
    /// Rules, or a person, do not allow it.
    #[error("{0}")]
    MergeDenied(String),
    /// Nobody has agreed to exactly this; somebody may be asked.
    #[error("the approval does not fit: it was given for other content")]
    ApprovalMismatch,
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// A wish to act, with its plan and the class and attempt it would run as.
#[derive(Debug)]
pub struct Wish {
    pub action: Action,
    pub plan: Plan,
    pub attempt: u32,
    pub tier: Tier,
    /// A recorded answer to an earlier `NeedsApproval` of this call.
    pub approval: Option<Approval>,
    /// When an approval asked for now would expire, in milliseconds since 1970.
    pub approval_expires_ms: u64,
}

pub struct Gate<J, L> {
    judge: J,
    ledger: L,
}

impl<J: Judge, L: Ledger> Gate<J, L> {
    /// Called only in the binary's wiring and in `test-kit` (a tidy test holds this).
    pub fn new(judge: J, ledger: L) -> Self {
        Self { judge, ledger }
    }

    /// Judges a wish and commits what follows, together with the events `append` already holds.
    pub async fn admit(&self, mut append: Append, wish: Wish) -> Result<Admission, GateError> {
        let run = append.fence.run().clone();
        let judgement = self.judge.judge(&run, &wish.action, &wish.plan);
        let call = wish.action.call.clone();
        let wanted = approval_hash(&wish.action, &wish.plan, &judgement.policy_hash, None);
        let verdict = judgement.verdict;
        let refused = match (verdict, &wish.approval) {
            (Verdict::Deny, _) => Some(judgement.reason.clone()),
            // A yes is for exactly what was shown; a no stands, whatever the rules have become since.
            (_, Some(approval)) if !approval.granted => Some(approval.refusal()),
            _ => None,
        };
        append.push(Event::Judged { action: wish.action.clone(), plan: wish.plan.clone(), judgement });
        if let Some(reason) = refused {
            append.push(Event::Denied { call, reason: reason.clone() });
            let fence = self.ledger.commit(append).await?;
            return Ok(Admission::Denied { reason, fence });
        }
        // Policy or plan changed since the person answered: their answer is for something else.
        let is_agreed = wish.approval.as_ref().is_some_and(|approval| approval.hash == wanted);
        if verdict == Verdict::AskBeforeRun && !is_agreed {
            append.push(Event::ApprovalRequested { call, hash: wanted, expires_ms: wish.approval_expires_ms });
            let fence = self.ledger.commit(append).await?;
            return Ok(Admission::NeedsApproval { hash: wanted, fence });
        }
        append.push(Event::ActIntent {
            call,
            class: wish.plan.class,
            key: (wish.plan.class == EffectClass::Keyed).then(|| idempotency_key(&run, &wish.action.call)),
            tier: wish.tier,
            attempt: wish.attempt,
        });
        let fence = self.ledger.commit(append).await?;
        let permit = Permit { run, granted: Granted::Act(wish.action) };
        Ok(Admission::Permitted { permit, fence, hold_merge: verdict == Verdict::AskBeforeMerge })
    }

    /// Commits a [`Event::ModelIntent`] with its budget reservation, then mints.
    pub async fn admit_model(&self, append: Append, model: ModelRef) -> Result<(Permit, Fence), GateError> {
        let run = append.fence.run().clone();
        self.judge.judge_model(&run, &model).map_err(GateError::ModelDenied)?;
        let fence = self.ledger.commit(append).await?;
        Ok((Permit { run, granted: Granted::Model(model) }, fence))
    }

    /// Mints the right to merge. The verdict is asked for anew: a call whose diff a person must see
    /// is merged only with an approval of exactly that diff, and what a person refused never.
    pub fn admit_merge(
        &self,
        run: &RunId,
        action: &Action,
        plan: &Plan,
        diff: &LayerDiff,
        approval: Option<&Approval>,
    ) -> Result<MergePermit, GateError> {
        if let Some(no) = approval.filter(|approval| !approval.granted) {
            return Err(GateError::MergeDenied(no.refusal()));
        }
        let judgement = self.judge.judge(run, action, plan);
        let hash = diff.hash();
        let agreed_to = |diff: Option<&Hash>| {
            let wanted = approval_hash(action, plan, &judgement.policy_hash, diff);
            approval.is_some_and(|approval| approval.hash == wanted)
        };
        let agreed = match judgement.verdict {
            Verdict::Deny => return Err(GateError::MergeDenied(judgement.reason)),
            Verdict::Allow => true,
            // To its being run, as these rules ask; or, where it was run by other rules, to what it did.
            Verdict::AskBeforeRun => diff.is_empty() || agreed_to(None) || agreed_to(Some(&hash)),
            Verdict::AskBeforeMerge => diff.is_empty() || agreed_to(Some(&hash)),
        };
        if !agreed {
            return Err(GateError::ApprovalMismatch);
        }
        Ok(MergePermit { run: run.clone(), call: action.call.clone(), diff: hash })
    }

    /// What the judge says now; commits nothing and mints nothing.
    pub fn verdict(&self, run: &RunId, action: &Action, plan: &Plan) -> Verdict {
        self.judge.judge(run, action, plan).verdict
    }

    /// The hash a person must answer for before this diff may be merged.
    pub fn merge_approval_hash(&self, run: &RunId, action: &Action, plan: &Plan, diff: &LayerDiff) -> Hash {
        let judgement = self.judge.judge(run, action, plan);
        approval_hash(action, plan, &judgement.policy_hash, Some(&diff.hash()))
    }
}

/// The key a keyed effect carries on every attempt of the same call.
pub fn idempotency_key(run: &RunId, call: &CallId) -> String {
    Hash::of_parts([run.as_str().as_bytes(), call.as_str().as_bytes()]).to_hex()
}
