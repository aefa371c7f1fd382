//! The configuration: a shipped, commented default, with the user's file laid over it.
//!
//! `keys` says what there is, `check` whether a file is right, `change` sets one key in it, `file` reads and
//! replaces it.

pub mod change;
pub mod check;
pub mod file;
pub mod keys;
pub mod limits;
pub mod values;

use std::path::{Path, PathBuf};

use homarus_contract::{budget::Budget, model::ModelRef, sandbox::CallLimits};
use serde::Deserialize;
use toml::{Table, Value};

use crate::{dirs::Dirs, exit::CliError, providers::Own, route::Route, weights};
use file::UserFile;
use keys::Keys;
use limits::LimitOptions;

pub const DEFAULT: &str = include_str!("../../data/homarus.toml");

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub models: Models,
    pub prices: FileOption,
    budget: BudgetOptions,
    limits: LimitOptions,
    pub sandbox: SandboxOptions,
    pub undo: UndoOptions,
    pub runs: RunOptions,
    pub policy: PolicyOptions,
    pub approvals: ApprovalOptions,
    pub search: SearchOptions,
    pub browser: BrowserOptions,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Models {
    pub order: Vec<ModelRef>,
    pub output_tokens_max: u32,
    answer_s: u64,
    pub route: Vec<Route>,
    pub provider: Vec<Own>,
    failover: Failover,
    pub default: DefaultModels,
    pub local: LocalModel,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DefaultModels {
    pub anthropic: String,
    pub openai: String,
    pub gemini: String,
    pub ollama: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Failover {
    failures: u32,
    open_s: u64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocalModel {
    pub name: String,
    weights: PathBuf,
    pub context_tokens: u32,
    worker: PathBuf,
    pub idle_s: u64,
    pub memory_mb: u64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileOption {
    file: PathBuf,
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
pub struct RunOptions {
    pub keep_days: u32,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyOptions {
    file: PathBuf,
    pub grants: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApprovalOptions {
    pub expire_s: u64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SearchOptions {
    pub url: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BrowserOptions {
    pub program: PathBuf,
    pub profile: String,
    pub memory_mb: u64,
}

const MIB: u64 = 1 << 20;

impl Config {
    /// Reads the user's file, if there is one, over the default.
    pub fn load(dirs: &Dirs) -> Result<Self, CliError> {
        let file = UserFile::of(dirs)?;
        Self::parse(file.text(), &file.path)
    }

    /// The text of a user's file, over the default.
    pub fn parse(text: &str, path: &Path) -> Result<Self, CliError> {
        let keys = Keys::all()?;
        check::sound(text, path, &keys)?;
        let wrong =
            |error: toml::de::Error| CliError::usage(format!("{} is not valid", path.display())).cause(error.message());
        let mut merged: Table = DEFAULT.parse().map_err(wrong)?;
        overlay(&mut merged, text.parse().map_err(wrong)?);
        let mut config: Self = merged.try_into().map_err(wrong)?;
        config.find_files(path);
        Ok(config)
    }

    /// Names of files are of the folder of the configuration. Were they of the current one, whoever made that, a
    /// repository say, would make the rules.
    fn find_files(&mut self, path: &Path) {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
        let folder = path.parent().unwrap_or(Path::new("/"));
        let Self { policy, prices, models: Models { local, .. }, browser, .. } = self;
        let named = [&mut policy.file, &mut prices.file, &mut local.weights, &mut local.worker, &mut browser.program];
        for file in named.into_iter().filter(|file| !file.as_os_str().is_empty()) {
            *file = folder.join(&*file);
        }
    }

    /// The files that it names and that runs obey.
    pub fn obeyed(&self) -> impl Iterator<Item = &PathBuf> {
        [&self.policy.file, &self.prices.file].into_iter().filter(|file| !file.as_os_str().is_empty())
    }

    pub fn budget(&self) -> Budget {
        Budget {
            cost_max: (self.budget.usd > 0.0).then(|| nano_usd(self.budget.usd)),
            tokens_max: self.budget.tokens,
            steps_max: self.budget.steps,
            wall_ms_max: self.budget.wall_s.saturating_mul(1000),
        }
    }

    /// Calls of one answer that run at the same time.
    pub fn calls_at_once(&self) -> usize {
        self.limits.calls_at_once as usize
    }

    pub fn limits(&self) -> CallLimits {
        self.limits.of_calls()
    }
}

impl Models {
    /// When a model that fails is not asked for a while.
    pub fn breaker(&self) -> homarus_models::BreakerOptions {
        let Failover { failures, open_s } = self.failover;
        homarus_models::BreakerOptions { failures, open_ms: open_s.saturating_mul(1000) }
    }

    /// Time all attempts at one answer may take until it begins.
    pub fn answer_ms_max(&self) -> u64 {
        self.answer_s.saturating_mul(1000)
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
        (!self.weights.as_os_str().is_empty()).then(|| self.weights.clone())
    }

    /// Whether what it names is there.
    pub fn check(&self) -> Result<(), CliError> {
        for (key, path) in [("models.local.weights", self.weights()), ("models.local.worker", self.worker())] {
            if let Some(path) = path.filter(|path| !path.is_file()) {
                return Err(CliError::usage(format!("`{key}` names {}", path.display())).cause("there is no such file"));
            }
        }
        if self.weights().is_none() { weights::find(&self.name).map(drop) } else { Ok(()) }
    }

    pub fn worker(&self) -> Option<PathBuf> {
        (!self.worker.as_os_str().is_empty()).then(|| self.worker.clone())
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

fn read_named(file: &Path) -> Result<Option<String>, CliError> {
    if file.as_os_str().is_empty() {
        return Ok(None);
    }
    let cannot = || format!("{}, named in the configuration, cannot be read", file.display());
    let text = std::fs::read_to_string(file).map_err(|error| CliError::usage(cannot()).cause(error))?;
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
            (Err(error), Err(part)) => assert!(error.text().contains(part), "{}", error.text()),
            (result, expected) => panic!("{text:?}: {result:?} is not {expected:?}"),
        }
    }

    #[test]
    fn user_files() {
        check("", Ok(()));
        check(DEFAULT, Ok(()));
        check("[budget]\nsteps = 5\nusd = 1", Ok(()));
        check("[budget]\nstep = 5", Err("cause: homarus.toml, line 2, column 1"));
        check("[budget]\nstep = 5\n[limits]\nx = 1", Err("and 1 more"));
        check("[models", Err("unclosed"));
        check("[[models.route]]\nmodels = [\"local/x\"]\nwords_max = 20", Ok(()));
        check("models.route = [{ models = [\"local/x\"], tools = false }]", Ok(()));
        check("[[models.route]]\nmodels = []", Err("names no models"));
        check("[[models.route]]\nmodels = [\"local/x\"]\nwords = 20", Err("unknown field `words`"));
        check("[limits]\ncalls_at_once = 17", Err("limits.calls_at_once"));
        check("[undo]\nfile_mb = 257", Err("undo.file_mb"));
        check("[sandbox]\ncache_paths = [\"target\", \"web/node_modules\"]", Ok(()));
        for path in ["../x", "/tmp", "", ".", ".git/hooks", ".ssh", "a//b"] {
            check(&format!("[sandbox]\ncache_paths = [{path:?}]"), Err("cache path"));
        }
        check("[search]\nurl = \"http://127.0.0.1:8888\"", Ok(()));
        check("[browser]\nprofile = \"work\"", Ok(()));
        check("[browser]\nprofile = \"../x\"", Err("`browser.profile`: "));
        check("[search]\nurl = \"127.0.0.1:8888\"", Err("`search.url`: "));
    }

    #[test]
    fn files_are_named_from_the_folder_of_the_configuration() {
        let text = "policy.file = \"rules.toml\"\nprices.file = \"/p.toml\"\nbrowser.program = \"../chromium\"\n\
            [models.local]\nweights = \"w.gguf\"\nworker = \"bin/worker\"\n";
        let config = Config::parse(text, Path::new("/h/config/homarus.toml")).unwrap();
        let obeyed: Vec<&PathBuf> = config.obeyed().collect();
        assert_eq!(obeyed, [Path::new("/h/config/rules.toml"), Path::new("/p.toml")]);
        assert_eq!(config.models.local.weights(), Some("/h/config/w.gguf".into()));
        assert_eq!(config.models.local.worker(), Some("/h/config/bin/worker".into()));
        assert_eq!(config.browser.program, Path::new("/h/config/../chromium"));
        let config = Config::parse("", Path::new("/h/config/homarus.toml")).unwrap();
        assert!(config.obeyed().next().is_none() && config.models.local.worker().is_none());
        // Named by a relative path itself.
        let config = Config::parse("policy.file = \"r\"", Path::new("h.toml")).unwrap();
        assert_eq!(config.obeyed().next(), Some(&std::env::current_dir().unwrap().join("r")));
    }

    #[test]
    fn the_rest_of_the_default_stays() {
        let config = Config::parse("[budget]\nsteps = 5", Path::new("x")).unwrap();
        assert_eq!(config.budget().steps_max, 5);
        assert_eq!(config.budget().tokens_max, 2_000_000);
    }
}
