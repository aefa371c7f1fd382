//! The configuration: a shipped, commented default, with the user's file laid over it.

use std::path::{Path, PathBuf};

use homarus_contract::{budget::Budget, model::ModelRef, sandbox::Limits};
use serde::Deserialize;
use toml::{Table, Value};

use crate::{dirs::Dirs, exit::CliError};

pub const DEFAULT: &str = include_str!("../data/homarus.toml");

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub models: Models,
    pub prices: FileOption,
    budget: BudgetOptions,
    limits: LimitOptions,
    pub sandbox: SandboxOptions,
    pub undo: UndoOptions,
    pub policy: PolicyOptions,
    pub approvals: ApprovalOptions,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Models {
    pub order: Vec<ModelRef>,
    pub output_tokens_max: u32,
    pub default: DefaultModels,
    pub local: LocalModel,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DefaultModels {
    pub anthropic: String,
    pub openai: String,
    pub ollama: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocalModel {
    pub name: String,
    weights: String,
    pub context_tokens: u32,
    worker: String,
    pub idle_s: u64,
    pub memory_mb: u64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileOption {
    file: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct BudgetOptions {
    usd: f64,
    tokens: u64,
    steps: u32,
    wall_s: u64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitOptions {
    wall_s: u64,
    cpu_s: u64,
    memory_mb: u64,
    processes: u32,
    open_files: u32,
    file_mb: u64,
    output_mb: u64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SandboxOptions {
    pub readable: Vec<PathBuf>,
    pub cache_paths: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UndoOptions {
    file_mb: u64,
    call_mb: u64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyOptions {
    file: String,
    pub grants: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApprovalOptions {
    pub expire_s: u64,
}

const MIB: u64 = 1 << 20;
/// What the journal takes as one blob.
const KEPT_FILE_MB_MAX: u64 = 256;
const KEPT_CALL_MB_MAX: u64 = 1024;

impl Config {
    /// Reads the user's file, if there is one, over the default.
    pub fn load(dirs: &Dirs) -> Result<Self, CliError> {
        let path = dirs.config_file();
        match std::fs::read_to_string(&path) {
            Ok(text) => Self::parse(&text, &path),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Self::parse("", &path),
            Err(error) => Err(CliError::usage(format!("{} cannot be read: {error}", path.display()))),
        }
    }

    fn parse(text: &str, path: &Path) -> Result<Self, CliError> {
        let wrong = |error: &dyn std::fmt::Display| {
            CliError::usage(format!("{} is not valid: {error}", path.display()))
                .help("the default configuration in the documentation lists every key")
        };
        let user: Table = text.parse().map_err(|error: toml::de::Error| wrong(&error))?;
        let mut merged: Table = DEFAULT.parse().map_err(|error: toml::de::Error| wrong(&error))?;
        overlay(&mut merged, user);
        let config: Self = merged.try_into().map_err(|error: toml::de::Error| wrong(&error))?;
        config.check().map_err(|error| wrong(&error))?;
        Ok(config)
    }

    fn check(&self) -> Result<(), String> {
        if !self.budget.usd.is_finite() || self.budget.usd < 0.0 {
            return Err("budget.usd must be 0 or more".to_owned());
        }
        let positive = [
            ("budget.tokens", self.budget.tokens),
            ("budget.steps", u64::from(self.budget.steps)),
            ("budget.wall_s", self.budget.wall_s),
            ("limits.wall_s", self.limits.wall_s),
            ("limits.cpu_s", self.limits.cpu_s),
            ("limits.memory_mb", self.limits.memory_mb),
            ("limits.processes", u64::from(self.limits.processes)),
            ("limits.open_files", u64::from(self.limits.open_files)),
            ("limits.file_mb", self.limits.file_mb),
            ("limits.output_mb", self.limits.output_mb),
            ("undo.file_mb", self.undo.file_mb),
            ("undo.call_mb", self.undo.call_mb),
            ("models.output_tokens_max", u64::from(self.models.output_tokens_max)),
            ("approvals.expire_s", self.approvals.expire_s),
        ];
        for (key, value) in positive {
            if value == 0 || value > 1 << 40 {
                return Err(format!("{key} must be from 1 to {}", 1u64 << 40));
            }
        }
        if self.undo.file_mb > KEPT_FILE_MB_MAX || self.undo.call_mb > KEPT_CALL_MB_MAX {
            return Err(format!(
                "undo.file_mb must be at most {KEPT_FILE_MB_MAX}, undo.call_mb at most {KEPT_CALL_MB_MAX}"
            ));
        }
        self.sandbox.cache_paths.iter().try_for_each(|path| homarus_sandbox::check_cache_path(path))
    }

    pub fn budget(&self) -> Budget {
        Budget {
            cost_max: (self.budget.usd > 0.0).then(|| nano_usd(self.budget.usd)),
            tokens_max: self.budget.tokens,
            steps_max: self.budget.steps,
            wall_ms_max: self.budget.wall_s.saturating_mul(1000),
        }
    }

    pub fn limits(&self) -> Limits {
        Limits {
            wall_ms: self.limits.wall_s.saturating_mul(1000),
            cpu_s: self.limits.cpu_s,
            memory_bytes: self.limits.memory_mb.saturating_mul(MIB),
            processes_max: self.limits.processes,
            open_files_max: self.limits.open_files,
            file_bytes_max: self.limits.file_mb.saturating_mul(MIB),
            output_bytes_max: self.limits.output_mb.saturating_mul(MIB),
        }
    }
}

impl UndoOptions {
    pub fn keep(&self) -> homarus_sandbox::KeepLimits {
        homarus_sandbox::KeepLimits {
            file_bytes_max: self.file_mb.saturating_mul(MIB),
            call_bytes_max: self.call_mb.saturating_mul(MIB),
        }
    }
}

impl LocalModel {
    pub fn weights(&self) -> Option<PathBuf> {
        (!self.weights.is_empty()).then(|| PathBuf::from(&self.weights))
    }

    pub fn worker(&self) -> Option<PathBuf> {
        (!self.worker.is_empty()).then(|| PathBuf::from(&self.worker))
    }
}

impl FileOption {
    /// The text of the named file; `None` if none is named.
    pub fn read(&self) -> Result<Option<String>, CliError> {
        read_named(&self.file)
    }
}

impl PolicyOptions {
    /// The rules' source and where they come from.
    pub fn rules(&self) -> Result<Option<String>, CliError> {
        read_named(&self.file)
    }
}

fn read_named(file: &str) -> Result<Option<String>, CliError> {
    if file.is_empty() {
        return Ok(None);
    }
    let text = std::fs::read_to_string(file)
        .map_err(|error| CliError::usage(format!("{file}, named in the configuration, cannot be read: {error}")))?;
    Ok(Some(text))
}

/// USD as nano-USD, rounded up so that a bound is never loosened to zero.
pub fn nano_usd(usd: f64) -> u64 {
    (usd * 1e9).ceil() as u64
}

fn overlay(base: &mut Table, over: Table) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(Value::Table(base)), Value::Table(over)) => overlay(base, over),
            (Some(slot), value) => *slot = value,
            (None, value) => {
                base.insert(key, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<(), &str>) {
        let result = Config::parse(text, Path::new("homarus.toml"));
        match (result, expected) {
            (Ok(_), Ok(())) => {}
            (Err(error), Err(part)) => assert!(format!("{error:?}").contains(part), "{error:?}"),
            (result, expected) => panic!("{text:?}: {result:?} is not {expected:?}"),
        }
    }

    #[test]
    fn user_files() {
        check("", Ok(()));
        check("[budget]\nsteps = 5", Ok(()));
        check("[budget]\nstep = 5", Err("unknown field `step`"));
        check("[budget]\nsteps = 0", Err("budget.steps must be"));
        check("[budget]\nusd = -1.0", Err("budget.usd"));
        check("[models]\norder = [\"nonsense\"]", Err("PROVIDER/MODEL"));
        check("[models", Err("not valid"));
        check("[undo]\nfile_mb = 257", Err("undo.file_mb"));
        check("[sandbox]\ncache_paths = [\"target\", \"web/node_modules\"]", Ok(()));
        for path in ["../x", "/tmp", "", ".", ".git/hooks", ".ssh", "a//b"] {
            check(&format!("[sandbox]\ncache_paths = [{path:?}]"), Err("cache path"));
        }
    }

    #[test]
    fn the_rest_of_the_default_stays() {
        let config = Config::parse("[budget]\nsteps = 5", Path::new("x")).unwrap();
        assert_eq!(config.budget().steps_max, 5);
        assert_eq!(config.budget().tokens_max, 2_000_000);
    }
}
