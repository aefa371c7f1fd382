//! Whether the providers that are set up answer. No other is asked, and nothing is sent but a request for the list
//! of models.

use std::sync::Arc;

use homarus_api::doctor::Finding;
use homarus_contract::{
    model::{ModelError, ModelErrorClass},
    sandbox::{SandboxError, WorkerLauncher, WorkerProcess, WorkerSpec},
};
use homarus_models::Registry;

use super::{Because, Patient, error, info, of_error, ok, warning};
use crate::{
    choose::{self, LOCAL},
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
    let asked = wiring::block_on(async {
        let mut findings = Vec::new();
        for known in &known {
            findings.push(provider(known, &registry).await);
        }
        findings
    });
    let mut findings = match asked {
        Ok(findings) => findings,
        Err(failure) => return vec![of_error("models", failure)],
    };
    let ready = findings.iter().filter(|found| found.severity == homarus_api::doctor::Severity::Ok).count();
    let embedded = registry.providers().contains(&LOCAL);
    findings.push(any(ready, embedded));
    findings
}

fn any(ready: usize, embedded: bool) -> Finding {
    match (ready, embedded) {
        (0, false) => error("models", "there is no model to ask").because("no provider is set up and answers").fix(
            "set ANTHROPIC_API_KEY, OPENAI_API_KEY, GEMINI_API_KEY or OPENAI_BASE_URL, start Ollama, or run `homarus models pull`",
        ),
        (0, true) => ok("models", "the embedded model is asked"),
        (ready, _) => ok("models", &format!("{ready} of the providers can be asked")),
    }
}

async fn provider(known: &Provider, registry: &Registry) -> Finding {
    let id = format!("servers.{}", known.id());
    if !known.is_set_up() {
        return info(&id, "not set up");
    }
    match registry.list(known.id()).await {
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
    use homarus_api::doctor::Severity;

    use super::*;

    #[test]
    fn without_any_model_that_is_the_error() {
        assert_eq!(any(0, false).severity, Severity::Error);
        assert_eq!(any(0, true).severity, Severity::Ok);
        assert_eq!(any(1, false).severity, Severity::Ok);
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
