//! How a run began, and what of it was changed since.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Event, Record};
use crate::{
    action::Tier,
    budget::Budget,
    ids::{Hash, RunId},
    model::ModelRef,
};

/// Everything its machine needs to know that is not an answer or a result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Accepted {
    pub run: RunId,
    pub inbound: Inbound,
    /// The machine that folds this run: `agent`, or `call` for a single tool call without a model.
    pub machine: String,
    pub workspace: PathBuf,
    /// The agent that works on it; `None`: no agent of the user's.
    #[serde(default)]
    pub agent: Option<AgentRef>,
    /// Asked in this order: the next when one is down.
    pub models: Vec<ModelRef>,
    /// Why these: an option, a rule, the configuration.
    #[serde(default)]
    pub models_why: String,
    /// Time all attempts at one answer may take together until it begins, pauses and other models included.
    #[serde(default = "answer_ms_default")]
    pub answer_ms_max: u64,
    pub profile: Profile,
    pub budget: Budget,
    /// `None`: the version that accepted it did not write this down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chosen: Option<Chosen>,
    /// It does not finish with an answer, but waits for the next message.
    #[serde(default)]
    pub conversation: bool,
    /// Text blobs the system prompt is made of.
    pub system: Hash,
    /// Blob: JSON list of [`crate::message::ToolDefinition`].
    pub tools: Hash,
    /// Blob: what the workspace looked like when the run began, for the prompt.
    pub orientation: Hash,
    pub homarus_version: String,
}

/// Of runs that were accepted before there was such a bound.
fn answer_ms_default() -> u64 {
    15 * 60 * 1000
}

/// What a person chose for this run, which no configuration that is read again changes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Chosen {
    /// Rules that are tried before the configured ones, as their source text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rules: Option<String>,
    /// Nano-USD.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost_max: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps_max: Option<u32>,
    /// Words for what kind of request it is, by which models are chosen.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
}

/// What is to be different from here on; `None`: as before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reconfigured {
    pub agent: Option<AgentRef>,
    pub models: Option<Vec<ModelRef>>,
    pub profile: Option<Profile>,
    /// Blob, as in [`Accepted::system`].
    pub system: Option<Hash>,
    /// Blob, as in [`Accepted::tools`].
    pub tools: Option<Hash>,
    /// What was used until here counts against it too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
    /// Rules of a person's choice, as in [`Chosen::rules`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chosen_rules: Option<String>,
    /// `cli:USER`, `chat:USER`, `signal:USER`, ...
    pub who: String,
    /// For people: what changed.
    pub why: String,
}

impl Reconfigured {
    /// Nothing is different yet.
    pub fn by(who: String) -> Self {
        Self {
            agent: None,
            models: None,
            profile: None,
            system: None,
            tools: None,
            budget: None,
            chosen_rules: None,
            who,
            why: String::new(),
        }
    }
}

impl Accepted {
    pub fn reconfigure(&mut self, change: &Reconfigured) {
        let Reconfigured { agent, models, profile, system, tools, budget, chosen_rules, who: _, why: _ } =
            change.clone();
        self.agent = agent.or(self.agent.take());
        self.models = models.unwrap_or_else(|| std::mem::take(&mut self.models));
        if let Some(profile) = profile {
            self.profile = profile;
        }
        self.system = system.unwrap_or(self.system);
        self.tools = tools.unwrap_or(self.tools);
        self.budget = budget.unwrap_or(self.budget);
        if let Some(chosen) = &mut self.chosen {
            chosen.rules = chosen_rules.or(chosen.rules.take());
        }
    }

    /// As the run is now: its first event, with all that was changed since. `None` if these are not the
    /// events of a run.
    pub fn current<'a>(records: impl IntoIterator<Item = &'a Record>) -> Option<Self> {
        let mut records = records.into_iter();
        let Some(Event::Accepted(mut accepted)) = records.next().map(|record| record.event.clone()) else {
            return None;
        };
        for record in records {
            if let Event::Reconfigured(change) = &record.event {
                accepted.reconfigure(change);
            }
        }
        Some(accepted)
    }
}

/// An agent: a folder with its definition and its memory files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentRef {
    pub name: String,
    /// Absolute.
    pub folder: PathBuf,
}

/// Where a request came from. `(source, ext_id)` is accepted once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inbound {
    pub source: String,
    pub ext_id: String,
    pub text: String,
}

/// What a run may do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// Grants such as `shell:run` or `file:write:./**`; what is not granted is denied.
    pub grants: Vec<String>,
    /// The rules in force, as their source text, so that a verdict can be explained later.
    pub rules: String,
    pub approvals: ApprovalsMode,
    pub tier: Tier,
}

/// What happens when a rule says *ask*.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalsMode {
    Ask,
    /// Also what no rule asks about is asked about, unless it only reads.
    AskAll,
    Deny,
    Auto,
}
