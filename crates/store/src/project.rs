//! What the projections hold, as a pure fold of a run's events: appending, rebuilding and verifying
//! all use it, so they cannot disagree about what an event means.

use homarus_contract::{
    budget::{Amount, Budget, BudgetChange, BudgetState},
    event::{Accepted, Event, FinishStatus, Inbound, WaitingOn},
    ids::Hash,
    journal::{JournalError, RunStatus},
    message::Usage,
};
use serde::{Deserialize, Serialize};

const PROMPT_CHARS_MAX: usize = 200;
/// No single figure of a budget may be larger, so that sums stay within what the database can hold.
const FIGURE_MAX: u64 = 1 << 60;

/// The projected state of one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Projection {
    pub status: RunStatus,
    pub prompt: String,
    pub workspace: String,
    pub created_ms: u64,
    pub updated_ms: u64,
    pub cost_known: bool,
    pub budget: Budget,
    pub state: BudgetState,
    /// Where requests came from: the keys of the inbox. Only those of events folded here.
    pub inbox: Vec<(String, String)>,
}

impl Projection {
    pub(crate) fn begin(accepted: &Accepted, at_ms: u64) -> Result<Self, JournalError> {
        let budget = accepted.budget;
        check_budget(&budget)?;
        Ok(Self {
            status: RunStatus::Running,
            prompt: accepted.inbound.text.chars().take(PROMPT_CHARS_MAX).collect(),
            workspace: accepted.workspace.to_string_lossy().into_owned(),
            created_ms: at_ms,
            updated_ms: at_ms,
            cost_known: true,
            budget,
            state: BudgetState::default(),
            inbox: vec![inbox_key(&accepted.inbound)],
        })
    }

    /// Whether what an event brings can be held.
    pub(crate) fn check(&self, event: &Event) -> Result<(), JournalError> {
        match event {
            Event::Reconfigured(change) => change.budget.as_ref().map_or(Ok(()), check_budget),
            _ => Ok(()),
        }
    }

    pub(crate) fn apply(&mut self, event: &Event, at_ms: u64) {
        self.updated_ms = at_ms;
        self.status = match event {
            Event::Waiting { on: WaitingOn::Approval { .. } | WaitingOn::Resolution { .. } | WaitingOn::Message } => {
                RunStatus::Waiting
            }
            Event::Waiting { on: WaitingOn::Resume(_) } => RunStatus::Paused,
            Event::Finished { status, .. } => final_status(*status),
            _ => RunStatus::Running,
        };
        if let Event::Said { inbound } = event {
            self.inbox.push(inbox_key(inbound));
        }
        if let Event::Reconfigured(change) = event {
            self.budget = change.budget.unwrap_or(self.budget);
        }
        if let Event::Forked { .. } = event {
            // What was before is paid for by another run.
            self.cost_known = true;
        }
        if let Event::ModelResult { cost: None, usage, .. } = event
            && !used_nothing(usage)
        {
            self.cost_known = false;
        }
    }

    /// Takes a budget change in, or names the bound that forbids it.
    pub(crate) fn change(&mut self, change: &Change) -> Result<(), JournalError> {
        let mut next = self.state;
        match change {
            Change::Reserve(amount) => {
                next.reserved = add(&next.reserved, amount)?;
                self.within_bounds(&next)?;
            }
            Change::Settle { reserved, used } => {
                next.reserved = subtract(&next.reserved, reserved)?;
                next.used = add(&next.used, used)?;
            }
        }
        self.state = next;
        Ok(())
    }

    fn within_bounds(&self, next: &BudgetState) -> Result<(), JournalError> {
        let over = |bound: &str, limit| Err(JournalError::OverBudget { bound: bound.to_owned(), limit });
        match self.budget.cost_max {
            Some(limit) if next.used.cost + next.reserved.cost > limit => return over("cost_usd", limit),
            _ => {}
        }
        if next.used.tokens + next.reserved.tokens > self.budget.tokens_max {
            return over("tokens", self.budget.tokens_max);
        }
        let steps = u64::from(next.used.steps) + u64::from(next.reserved.steps);
        if steps > u64::from(self.budget.steps_max) {
            return over("steps", u64::from(self.budget.steps_max));
        }
        Ok(())
    }
}

/// [`BudgetChange`] as it is written beside the event it was committed with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Change {
    Reserve(Amount),
    Settle { reserved: Amount, used: Amount },
}

impl From<&BudgetChange> for Change {
    fn from(change: &BudgetChange) -> Self {
        match *change {
            BudgetChange::Reserve(amount) => Self::Reserve(amount),
            BudgetChange::Settle { reserved, used } => Self::Settle { reserved, used },
        }
    }
}

fn inbox_key(inbound: &Inbound) -> (String, String) {
    (inbound.source.clone(), inbound.ext_id.clone())
}

/// The blobs an event cannot be understood without.
pub(crate) fn blobs_of(event: &Event) -> Vec<Hash> {
    match event {
        Event::Accepted(accepted) => vec![accepted.system, accepted.tools, accepted.orientation],
        Event::Reconfigured(change) => [change.system, change.tools].into_iter().flatten().collect(),
        Event::ModelIntent { prompt, .. } => prompt.added.clone(),
        Event::ActResult(result) => {
            [Some(result.shown), result.whole].into_iter().flatten().chain(result.kept.iter().copied()).collect()
        }
        _ => Vec::new(),
    }
}

/// Events after which the run's head is written into the system stream.
pub(crate) fn is_checkpointed(event: &Event) -> bool {
    matches!(event, Event::Accepted(_) | Event::TakenOver { .. } | Event::Waiting { .. } | Event::Finished { .. })
}

fn final_status(status: FinishStatus) -> RunStatus {
    match status {
        FinishStatus::Completed => RunStatus::Completed,
        FinishStatus::Failed => RunStatus::Failed,
        FinishStatus::Denied => RunStatus::Denied,
        FinishStatus::OutOfBudget => RunStatus::OutOfBudget,
        FinishStatus::Cancelled => RunStatus::Cancelled,
    }
}

/// Only a provider that says so used nothing; one that says nothing may have used anything.
fn used_nothing(usage: &Usage) -> bool {
    (usage.input_tokens.is_some() || usage.output_tokens.is_some()) && usage.total_tokens() == 0
}

fn check_budget(budget: &Budget) -> Result<(), JournalError> {
    [budget.cost_max.unwrap_or(0), budget.tokens_max, budget.wall_ms_max]
        .into_iter()
        .try_for_each(|figure| within(figure).map(drop))
}

fn within(figure: u64) -> Result<u64, JournalError> {
    if figure > FIGURE_MAX {
        return Err(JournalError::Refused(format!("the budget figure {figure} is too large")));
    }
    Ok(figure)
}

fn add(left: &Amount, right: &Amount) -> Result<Amount, JournalError> {
    let steps = left.steps.checked_add(right.steps);
    Ok(Amount {
        cost: within(left.cost.saturating_add(right.cost))?,
        tokens: within(left.tokens.saturating_add(right.tokens))?,
        steps: steps.ok_or_else(|| JournalError::Refused("too many steps".to_owned()))?,
    })
}

fn subtract(left: &Amount, right: &Amount) -> Result<Amount, JournalError> {
    let less = || -> Option<Amount> {
        Some(Amount {
            cost: left.cost.checked_sub(right.cost)?,
            tokens: left.tokens.checked_sub(right.tokens)?,
            steps: left.steps.checked_sub(right.steps)?,
        })
    };
    less().ok_or_else(|| JournalError::Refused("more is settled than was reserved".to_owned()))
}

/// The status a projection's text stands for; `None` if it stands for none.
pub(crate) fn parse_status(text: &str) -> Option<RunStatus> {
    use RunStatus::*;
    [Running, Waiting, Paused, Completed, Failed, Denied, OutOfBudget, Cancelled]
        .into_iter()
        .find(|status| status.as_str() == text)
}
