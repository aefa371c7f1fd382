//! Which model a run asks, and why.

use std::path::PathBuf;

use homarus_agent::folder::AgentFolder;
use homarus_api::models::ProviderRow;
use homarus_contract::{
    model::{ModelRef, Models},
    outbound::SecretRef,
};
use homarus_models::{LocalOptions, Options, Registry};
use homarus_vault::{SecretEntry, Vault};

use crate::{
    config::{Config, LocalModel},
    dirs::Dirs,
    env,
    exit::CliError,
    nearest::did_you_mean,
    providers::{self, Provider},
    route, weights,
    wiring::Runtime,
};

pub const LOCAL: &str = "local";
/// Why a run has the models it has, where a person named them.
pub const NAMED: &str = "named with --model";

/// Longest silence of the embedded model while it loads or reads a prompt on a slow machine.
const LOCAL_SILENCE_MS: u64 = 600_000;

pub struct Choice {
    /// In the order they are asked.
    pub models: Vec<ModelRef>,
    pub why: String,
}

impl Choice {
    pub fn names(&self) -> String {
        let names: Vec<String> = self.models.iter().map(ToString::to_string).collect();
        names.join(", then ")
    }
}

/// What can be asked here.
#[derive(Clone, Copy)]
pub struct Here<'a> {
    pub models: &'a Registry,
    pub providers: &'a [Provider],
    /// Whether embedded models could be run, had they weights.
    pub has_worker: bool,
}

impl<'a> From<&'a Runtime> for Here<'a> {
    fn from(runtime: &'a Runtime) -> Self {
        Self { models: &runtime.models, providers: &runtime.providers, has_worker: runtime.has_worker }
    }
}

/// The providers as environment and configuration describe them, and the vault that holds their keys.
pub fn options(dirs: &Dirs, config: &Config) -> Result<(Options, Vault), CliError> {
    let mut options = Options { locals: locals(dirs, config)?, breaker: config.models.breaker(), ..Options::default() };
    let mut secrets: Vec<SecretEntry> = Vec::new();
    for provider in providers::all(config)? {
        let has_key = provider.has_key();
        let mut one = provider.options;
        if let Some(key) = provider.key.filter(|_| has_key) {
            let name = SecretRef(key.clone());
            match secrets.iter_mut().find(|entry| entry.name == name) {
                // Two providers may share a key.
                Some(entry) => entry.origins.push(one.base_url.clone()),
                None => secrets.push(SecretEntry {
                    name: name.clone(),
                    env: vec![key],
                    origins: vec![one.base_url.clone()],
                }),
            }
            one.secret = Some(name);
        }
        options.providers.push(one);
    }
    let vault = Vault::from_env(secrets)
        .map_err(|error| CliError::usage("a key cannot be used").cause(error).help("set it to the key alone"))?;
    Ok((options, vault))
}

/// The embedded models whose weights are here, if there is a worker: the configured one first.
fn locals(dirs: &Dirs, config: &Config) -> Result<Vec<LocalOptions>, CliError> {
    let local = &config.models.local;
    let Some(worker) = worker(local).filter(|worker| worker.is_file()) else { return Ok(Vec::new()) };
    let one = |name: &str, weights: PathBuf, context_tokens: u32| LocalOptions {
        worker: worker.clone(),
        weights,
        name: name.to_owned(),
        context_tokens,
        memory_bytes: local.memory_mb.saturating_mul(1 << 20),
        idle_ms: local.idle_s.saturating_mul(1000),
        silence_ms: LOCAL_SILENCE_MS,
    };
    let mut locals: Vec<LocalOptions> = weights::catalogue()?
        .iter()
        .map(|entry| {
            let context_tokens = local.context_tokens.min(entry.context_tokens);
            one(&entry.name, dirs.models.join(&entry.file), context_tokens)
        })
        .collect();
    match local.weights() {
        // A file of one's own goes by the configured name, also where that is a known one.
        Some(path) => {
            locals.retain(|known| known.name != local.name);
            locals.push(one(&local.name, path, local.context_tokens));
        }
        None => drop(weights::find(&local.name)?),
    }
    locals.retain(|local| local.weights.is_file());
    locals.sort_by_key(|known| known.name != local.name);
    Ok(locals)
}

/// The executable that runs embedded models: the configured one, or the one beside this program.
pub fn worker(local: &LocalModel) -> Option<PathBuf> {
    local.worker().or_else(|| {
        let own = std::env::current_exe().ok()?;
        Some(own.parent()?.join("homarus-local-model")).filter(|path| path.is_file())
    })
}

/// The models of a run: those given, else those configured, else the first that is set up.
pub async fn models(
    given: &[ModelRef],
    request: &route::Request<'_>,
    agent: Option<&AgentFolder>,
    config: &Config,
    runtime: &Runtime,
) -> Result<Choice, CliError> {
    if !given.is_empty() {
        for model in given {
            check(model, runtime.into())?;
        }
        return Ok(Choice { models: given.to_vec(), why: NAMED.to_owned() });
    }
    if let Some(choice) = routed(request, agent, config, runtime.into()) {
        return Ok(choice);
    }
    if let Some(agent) = agent.filter(|agent| !agent.definition.models.is_empty()) {
        let models = ready(&agent.definition.models, runtime.into())?;
        return Ok(Choice { models, why: format!("models of agent {}", agent.name) });
    }
    usual(config, runtime.into()).await
}

/// The models of a run for which neither it, nor its agent, nor a rule names others.
pub async fn usual(config: &Config, here: Here<'_>) -> Result<Choice, CliError> {
    if !config.models.order.is_empty() {
        let models = ready(&config.models.order, here)?;
        return Ok(Choice { models, why: "models.order in the configuration".to_owned() });
    }
    first_set_up(config, here).await
}

/// The models of the first rule that fits and has one that can be asked.
fn routed(
    request: &route::Request<'_>,
    agent: Option<&AgentFolder>,
    config: &Config,
    here: Here<'_>,
) -> Option<Choice> {
    let names_own = agent.is_some_and(|agent| !agent.definition.models.is_empty());
    config.models.route.iter().enumerate().find_map(|(index, rule)| {
        let models = (rule.fits(request) && (rule.agent.is_some() || !names_own)).then(|| ready(&rule.models, here))?;
        Some(Choice { models: models.ok()?, why: format!("rule {} of models.route: {}", index + 1, rule.why()) })
    })
}

/// Those of an order that can be asked; if none can, why the first cannot.
fn ready(order: &[ModelRef], here: Here<'_>) -> Result<Vec<ModelRef>, CliError> {
    let ready: Vec<ModelRef> = order.iter().filter(|model| check(model, here).is_ok()).cloned().collect();
    if let [first, ..] = order
        && ready.is_empty()
    {
        check(first, here)?;
    }
    Ok(ready)
}

/// Fails early with what to do, where a call could only fail late.
fn check(model: &ModelRef, here: Here<'_>) -> Result<(), CliError> {
    if model.provider == LOCAL {
        return check_local(&model.model, here);
    }
    let known = here.models.providers();
    if !known.contains(&model.provider.as_str()) {
        let all = format!("providers are {}", known.join(", "));
        return Err(CliError::usage(format!("there is no provider {:?}", model.provider)).help(did_you_mean(
            &model.provider,
            known.iter().copied(),
            &all,
        )));
    }
    match here.providers.iter().find(|provider| provider.id() == model.provider) {
        Some(provider) if !provider.is_set_up() => {
            let key = provider.key.as_deref().unwrap_or_default();
            Err(CliError::usage(format!("{model} needs a key"))
                .cause(format!("{key} is not set"))
                .help("set it, or name another model; `homarus models list` shows what is set up"))
        }
        _ => Ok(()),
    }
}

fn check_local(name: &str, here: Here<'_>) -> Result<(), CliError> {
    if here.models.local_names().any(|known| known == name) {
        return Ok(());
    }
    if !here.has_worker {
        return Err(CliError::usage(format!("{LOCAL}/{name} cannot be asked"))
            .cause("there is no worker for embedded models")
            .help("put `homarus-local-model` beside `homarus`, or name it in models.local.worker"));
    }
    let entry = weights::find(name)?;
    Err(CliError::usage(format!("{LOCAL}/{name} cannot be asked")).cause("its weights are not here").help(format!(
        "`homarus models pull {}` fetches them ({} MB)",
        entry.name,
        entry.bytes / 1_000_000
    )))
}

/// Fails where none of the models of a run can be asked, before the run is touched.
pub fn check_any(models: &[ModelRef], runtime: &Runtime) -> Result<(), CliError> {
    ready(models, runtime.into()).map(drop)
}

async fn first_set_up(config: &Config, here: Here<'_>) -> Result<Choice, CliError> {
    let default = &config.models.default;
    let one = |provider: &str, model: &str, why: String| -> Result<Choice, CliError> {
        let model: ModelRef = format!("{provider}/{model}").parse().map_err(CliError::usage)?;
        Ok(Choice { models: vec![model], why })
    };
    if env::ANTHROPIC_API_KEY.is_set() {
        return one("anthropic", &default.anthropic, "ANTHROPIC_API_KEY is set".to_owned());
    }
    if env::OPENAI_BASE_URL.is_set() {
        let name = first_listed("openai", here).await?.unwrap_or_else(|| default.openai.clone());
        return one("openai", &name, "OPENAI_BASE_URL is set; its first model".to_owned());
    }
    if env::OPENAI_API_KEY.is_set() {
        return one("openai", &default.openai, "OPENAI_API_KEY is set".to_owned());
    }
    if env::GEMINI_API_KEY.is_set() || env::GEMINI_BASE_URL.is_set() {
        let why = if env::GEMINI_API_KEY.is_set() { &env::GEMINI_API_KEY } else { &env::GEMINI_BASE_URL };
        return one("gemini", &default.gemini, format!("{} is set", why.name));
    }
    let is_ollama_up = here.models.is_up("ollama").await;
    if is_ollama_up {
        let name = match default.ollama.as_str() {
            "" => first_listed("ollama", here).await?,
            name => Some(name.to_owned()),
        };
        if let Some(name) = name {
            return one("ollama", &name, "Ollama answers; no key is set".to_owned());
        }
    }
    if here.models.local_names().any(|name| name == config.models.local.name) {
        let ollama = if is_ollama_up { "has no models" } else { "does not answer" };
        let why = format!("embedded; no key is set and Ollama {ollama}");
        return one(LOCAL, &config.models.local.name, why);
    }
    Err(none_at_all(is_ollama_up))
}

async fn first_listed(provider: &str, here: Here<'_>) -> Result<Option<String>, CliError> {
    let names = here.models.list(provider).await.map_err(|error| {
        CliError::failed(format!("{provider} does not list its models"))
            .cause(error)
            .help("name a model with --model PROVIDER/MODEL")
    })?;
    Ok(names.into_iter().next())
}

fn none_at_all(is_ollama_up: bool) -> CliError {
    let ollama = if is_ollama_up { "Ollama has no models" } else { "no Ollama answers" };
    let cause = format!("no key is set, {ollama}, and the embedded model is not here");
    CliError::usage("there is no model to ask").cause(cause).help(
        "set ANTHROPIC_API_KEY, OPENAI_API_KEY, GEMINI_API_KEY or OPENAI_BASE_URL, start Ollama, or run `homarus models pull` \
         (the worker homarus-local-model must stand beside homarus)",
    )
}

/// All providers with their state, for `models list`.
pub async fn providers(runtime: &Runtime) -> Vec<ProviderRow> {
    let mut rows = Vec::new();
    for known in &runtime.providers {
        let provider = known.id();
        let address = known.options.base_url.clone();
        let mut row =
            ProviderRow { provider: provider.to_owned(), address, ready: false, note: None, models: Vec::new() };
        if !known.is_set_up() {
            row.note = known.key.as_ref().map(|key| format!("{key} is not set"));
        } else if known.key.is_none() && !runtime.models.is_up(provider).await {
            row.note = Some("does not answer".to_owned());
        } else {
            match runtime.models.list(provider).await {
                Ok(models) => {
                    row.ready = true;
                    row.models = models;
                }
                Err(error) => row.note = Some(error.to_string()),
            }
        }
        rows.push(row);
    }
    let locals: Vec<String> = runtime.models.local_names().map(str::to_owned).collect();
    rows.push(ProviderRow {
        provider: LOCAL.to_owned(),
        address: "on this machine, without a server".to_owned(),
        ready: !locals.is_empty(),
        note: match (runtime.has_worker, locals.is_empty()) {
            (false, _) => Some("the worker homarus-local-model is not here".to_owned()),
            (true, true) => Some("no weights are here".to_owned()),
            (true, false) => None,
        },
        models: locals,
    });
    rows
}

/// Whether the price of a model is known, for budgets in USD.
pub fn price_known(models: &dyn Models, model: &ModelRef) -> bool {
    let info = models.info(model);
    info.is_local || info.price.is_some()
}
