//! Whether the providers that are set up answer. No other is asked, and nothing is sent but a request for the list
//! of models.

use std::sync::Arc;

use homarus_api::doctor::{Finding, Severity};
use homarus_contract::{
    model::{ModelError, ModelErrorClass, ModelRef},
    sandbox::{SandboxError, WorkerLauncher, WorkerProcess, WorkerSpec},
};
use homarus_models::Registry;

use super::{Because, Patient, error, info, of_error, ok, warning};
use crate::{
    choose::{self, Choice, Here},
    exit::CliError,
    providers::{self, Provider},
    wiring,
};

/// A doctor does not wait as long as a run does.
const CONNECT_MS: u64 = 3_000;
const SILENCE_MS: u64 = 5_000;

pub fn check(patient: &Patient<'_>) -> Vec<Finding> {
    let (mut options, vault) = match choose::options(patient.dirs, patient.config) {
        Ok(options) => options,
        Err(failure) => return vec![of_error("models", failure)],
    };
    for provider in &mut options.providers {
        provider.connect_ms = CONNECT_MS;
        provider.idle_ms = SILENCE_MS;
    }
    let prices = match wiring::prices(patient.config) {
        Ok(prices) => prices,
        // The configuration's own finding says so.
        Err(_) => return Vec::new(),
    };
    let registry = Registry::new(options, Arc::new(vault), Arc::new(StartsNothing), prices);
    let known = match providers::all(patient.config) {
        Ok(known) => known,
        Err(failure) => return vec![of_error("models", failure)],
    };
    let has_worker = choose::worker(&patient.config.models.local).is_some_and(|worker| worker.is_file());
    let asked = wiring::block_on(async {
        let mut findings = Vec::new();
        for known in &known {
            findings.push(provider(known, &registry).await);
        }
        let here = Here { models: &registry, providers: &known, has_worker };
        let chosen = choose::usual(patient.config, here).await;
        findings.push(judge_choice(chosen, &findings));
        findings
    });
    asked.unwrap_or_else(|failure| vec![of_error("models", failure)])
}

/// What a run would find that names no model itself. `servers`: what was found of them.
fn judge_choice(chosen: Result<Choice, CliError>, servers: &[Finding]) -> Finding {
    let chosen = match chosen {
        Ok(chosen) => chosen,
        Err(failure) => return of_error("models", failure),
    };
    let is_dead = |model: &ModelRef| {
        let id = format!("servers.{}", model.provider);
        servers.iter().any(|found| found.id == id && found.severity == Severity::Error)
    };
    let what = format!("{} would be asked ({})", chosen.names(), chosen.why);
    if chosen.models.iter().all(is_dead) {
        return error("models", &what).because("what is asked there fails").fix("mend what is said of `servers.*`");
    }
    ok("models", &what)
}

async fn provider(known: &Provider, registry: &Registry) -> Finding {
    let id = format!("servers.{}", known.id());
    if !known.is_set_up() {
        return info(&id, "not set up");
    }
    match registry.list(known.id()).await {
        Ok(models) if models.is_empty() => warning(&id, "answers, and lists no models").fix(match known.key {
            Some(_) => "name one with --model, or in models.order",
            None => "`ollama pull NAME` fetches one",
        }),
        Ok(models) => ok(&id, &format!("answers, and lists {} models", models.len())),
        // Ollama is looked for without anybody having asked for it.
        Err(_) if known.key.is_none() && known.address_from.is_none() => {
            info(&id, "no server answers at Ollama's usual address")
        }
        Err(failure) => judge(&id, known, &failure),
    }
}

fn judge(id: &str, known: &Provider, failure: &ModelError) -> Finding {
    let address = known.address_name();
    let key = known.key.as_deref().unwrap_or("its key");
    match failure.class {
        ModelErrorClass::Auth => error(id, "the server refuses the key")
            .because(&failure.message)
            .fix(format!("look whether {key} is right and belongs to this server")),
        ModelErrorClass::Network | ModelErrorClass::Timeout => error(id, "the server does not answer")
            .because(&failure.message)
            .fix(format!("look whether it runs and whether {address} is right")),
        ModelErrorClass::NotFound => warning(id, "the server answers and lists no models")
            .because(&failure.message)
            .fix(format!("look whether {address} is the address of the API; models can be named with --model")),
        _ => warning(id, "the server has trouble").because(&failure.message).fix("try again later"),
    }
}

/// Looking for servers starts no worker.
struct StartsNothing;

impl WorkerLauncher for StartsNothing {
    fn launch(&self, _spec: WorkerSpec) -> Result<WorkerProcess, SandboxError> {
        Err(SandboxError::Refused("a look at the servers starts nothing".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_of_a_server_that_fails_is_none() {
        let models = |names: &[&str]| {
            let models = names.iter().map(|name| name.parse().unwrap()).collect();
            Ok(Choice { models, why: "why".to_owned() })
        };
        let servers = [error("servers.openai", "dead"), warning("servers.gemini", "lists none")];
        let check = |names: &[&str], severity| {
            assert_eq!(judge_choice(models(names), &servers).severity, severity, "{names:?}");
        };
        check(&["openai/x"], Severity::Error);
        check(&["openai/x", "gemini/y"], Severity::Ok);
        check(&["local/z"], Severity::Ok);
        assert_eq!(judge_choice(Err(CliError::usage("none")), &servers).severity, Severity::Error);
    }

    #[test]
    fn each_failure_has_its_word() {
        let check = |class, severity, word: &str| {
            let failure = ModelError { class, message: "m".to_owned(), raw: String::new(), retry_after_ms: None };
            let config = crate::config::Config::parse("", std::path::Path::new("homarus.toml")).unwrap();
            let found = judge("servers.openai", &providers::all(&config).unwrap()[1], &failure);
            assert_eq!(found.severity, severity, "{found:?}");
            assert!(found.what.contains(word) && found.fix.is_some(), "{found:?}");
        };
        check(ModelErrorClass::Auth, Severity::Error, "refuses the key");
        check(ModelErrorClass::Network, Severity::Error, "does not answer");
        check(ModelErrorClass::NotFound, Severity::Warning, "lists no models");
        check(ModelErrorClass::Unavailable, Severity::Warning, "trouble");
    }
}
