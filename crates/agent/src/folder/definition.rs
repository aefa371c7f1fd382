//! `agent.toml`: what an agent may use, and how much.

use std::{fs::File, io::Read, path::Path};

use homarus_contract::{action::Tier, model::ModelRef};
use serde::Deserialize;

use super::{FolderError, MEMORY_BYTES_MAX};

pub const DEFINITION_FILE: &str = "agent.toml";
const DEFINITION_BYTES_MAX: u64 = 64 << 10;
const FIGURE_MAX: u64 = 1 << 40;

/// What is absent is as configured for all runs.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    /// What the agent is for, in one line.
    #[serde(default)]
    pub description: String,
    /// Asked in this order; empty: as configured.
    #[serde(default)]
    pub models: Vec<ModelRef>,
    /// Said to the model after the rules all agents follow.
    #[serde(default)]
    pub persona: String,
    /// The tools it is offered; absent: all.
    pub tools: Option<Vec<String>>,
    /// The skills it is told of and may read; absent: all that may be offered.
    pub skills: Option<Vec<String>>,
    /// What it may do at all; absent: `policy.grants` of the configuration.
    pub grants: Option<Vec<String>>,
    /// The browser profile of its runs; empty: a new browser for each run; absent: as configured.
    pub browser_profile: Option<String>,
    /// Isolation of its calls; it may be raised, never lowered.
    #[serde(default = "internal")]
    pub tier: Tier,
    /// Whether a line of what it was given to do is kept each time, and today's and yesterday's are told.
    #[serde(default = "yes")]
    pub daily_log: bool,
    /// Most bytes of its memory files in the prompt, all together.
    pub memory_bytes_max: Option<usize>,
    #[serde(default)]
    pub limits: Limits,
}

/// Bounds of one run of the agent.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    pub usd: Option<f64>,
    pub tokens: Option<u64>,
    pub steps: Option<u32>,
    pub wall_s: Option<u64>,
}

fn yes() -> bool {
    true
}

fn internal() -> Tier {
    Tier::Internal
}

impl Definition {
    pub fn read(path: &Path) -> Result<Self, FolderError> {
        let mut text = String::new();
        let file = File::open(path).map_err(FolderError::io(path))?;
        let read = file.take(DEFINITION_BYTES_MAX + 1).read_to_string(&mut text).map_err(FolderError::io(path))?;
        let invalid = |reason: String| FolderError::Invalid { path: path.to_path_buf(), reason };
        if read as u64 > DEFINITION_BYTES_MAX {
            return Err(invalid(format!("it is larger than {} KiB", DEFINITION_BYTES_MAX >> 10)));
        }
        Self::parse(&text).map_err(invalid)
    }

    /// The error says what is wrong and where.
    pub fn parse(text: &str) -> Result<Self, String> {
        let definition: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        definition.check()?;
        Ok(definition)
    }

    fn check(&self) -> Result<(), String> {
        if self.tier < Tier::Internal {
            return Err("tier may be internal, untrusted or llm_generated: it cannot be lowered".to_owned());
        }
        if self.memory_bytes_max.is_some_and(|bytes| bytes > MEMORY_BYTES_MAX) {
            return Err(format!("memory_bytes_max may be at most {MEMORY_BYTES_MAX}"));
        }
        let limits = &self.limits;
        if limits.usd.is_some_and(|usd| !usd.is_finite() || usd <= 0.0) {
            return Err("limits.usd must be more than 0".to_owned());
        }
        let figures = [("tokens", limits.tokens), ("steps", limits.steps.map(u64::from)), ("wall_s", limits.wall_s)];
        for (key, value) in figures {
            if value.is_some_and(|value| value == 0 || value > FIGURE_MAX) {
                return Err(format!("limits.{key} must be from 1 to {FIGURE_MAX}"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<(), &str>) {
        match (Definition::parse(text), expected) {
            (Ok(_), Ok(())) => {}
            (Err(error), Err(part)) => assert!(error.contains(part), "{error}"),
            (result, expected) => panic!("{text:?}: {result:?} is not {expected:?}"),
        }
    }

    #[test]
    fn definitions() {
        check("", Ok(()));
        check("models = [\"local/x\"]\ntools = []\n[limits]\nsteps = 3", Ok(()));
        check("model = \"x\"", Err("unknown field `model`"));
        check("models = [\"x\"]", Err("PROVIDER/MODEL"));
        check("browser_profile = \"work\"", Ok(()));
        check("tier = \"trusted\"", Err("cannot be lowered"));
        check("[limits]\nsteps = 0", Err("limits.steps"));
        check("[limits]\nusd = -1.0", Err("limits.usd"));
        check("memory_bytes_max = 999999999", Err("memory_bytes_max"));
    }
}
