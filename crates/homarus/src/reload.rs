//! Going on with a run under a configuration that was read again: `homarus.toml`, the rules, and the folder of the
//! run's agent. What a person chose for this run (options, `runs configure`, `/model`) stays chosen, as its events say,
//! whichever process goes on with it.

use std::sync::{Arc, Mutex, PoisonError};

use homarus_agent::folder::AgentFolder;
use homarus_contract::{
    budget::Budget,
    event::{Accepted, ApprovalsMode, Chosen, Event, Reconfigured, WaitingOn},
    ids::{Hash, RunId},
    journal::{Append, Fence, Journal},
    model::ModelRef,
};
use homarus_driver::{Control, Ended};

use crate::{
    agents, choose,
    commands::run::offered,
    config::Config,
    conversation::{current, who},
    daily,
    dirs::Dirs,
    exit::CliError,
    route,
    wiring::{self, Runtime},
};

/// Reads the configuration again for the runs of this process.
pub struct Reloader {
    dirs: Dirs,
}

/// A configuration that was read again and can be gone on with.
#[derive(Clone)]
pub struct Read {
    pub runtime: Arc<Runtime>,
    pub config: Config,
    agent: Option<AgentFolder>,
    /// `None`: a person chose the models.
    models: Option<Vec<ModelRef>>,
    /// Those of the configuration, as their source text.
    rules: String,
}

/// Where what was read waits for the end of a step; an error is told in the journal too.
#[derive(Clone, Default)]
pub struct Slot(Arc<Mutex<Option<Result<Read, String>>>>);

impl Slot {
    pub fn put(&self, read: Result<Read, String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(read);
    }

    pub fn take(&self) -> Option<Result<Read, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Reloader {
    pub fn new(dirs: &Dirs) -> Self {
        Self { dirs: dirs.clone() }
    }

    /// Reads everything again; an error leaves all as it was.
    pub async fn read(&self, runtime: &Runtime, run: Option<&RunId>) -> Result<Read, CliError> {
        let config = Config::load(&self.dirs)?;
        let renewed = Arc::new(runtime.renewed(&self.dirs, &config)?);
        let store = runtime.store.as_ref();
        let now = run.map(|run| current(store, run)).transpose()?;
        let chosen = now.as_ref().and_then(|now| now.chosen.clone()).unwrap_or_default();
        let named = now.as_ref().and_then(|now| now.agent.as_ref());
        let agent = named.map(|agent| agents::find(&self.dirs, &agent.name)).transpose()?;
        let models = match (&now, run) {
            (Some(now), Some(run)) if !are_chosen(store, run)? => {
                let asked = route::Request {
                    text: &now.inbound.text,
                    tools: !has_no_tools(store, now)?,
                    agent: named.map(|agent| agent.name.as_str()),
                    tags: &chosen.tags,
                };
                Some(choose::models(&[], &asked, agent.as_ref(), &config, &renewed).await?.models)
            }
            _ => None,
        };
        // What cannot be offered or is not valid is found out now. No rule depends on what happens when one says ask.
        wiring::profile(&config, agent.as_ref(), chosen.rules, ApprovalsMode::Deny)?;
        if let Some(now) = &now {
            offered(&renewed.tools, agent.as_ref(), models.as_ref().unwrap_or(&now.models))?;
        }
        let rules = wiring::configured_rules(&config)?;
        Ok(Read { runtime: renewed, config, agent, models, rules })
    }
}

fn has_no_tools(journal: &dyn Journal, now: &Accepted) -> Result<bool, CliError> {
    Ok(journal.blob(&now.tools)? == b"[]")
}

/// The limits of a run: the configured ones, where neither its agent nor a person says otherwise.
pub fn budget(config: &Config, agent: Option<&AgentFolder>, chosen: &Chosen) -> Budget {
    let base = config.budget();
    let mut budget = agent.map_or(base, |agent| agents::budget(base, &agent.definition));
    budget.cost_max = chosen.cost_max.or(budget.cost_max);
    budget.steps_max = chosen.steps_max.unwrap_or(budget.steps_max);
    budget
}

impl Read {
    /// What is different for a run, with the blobs that names.
    pub fn change(&self, now: &Accepted, journal: &dyn Journal) -> Result<(Reconfigured, Vec<Vec<u8>>), CliError> {
        let mut event = Reconfigured::by(who("signal"));
        let mut why = Vec::new();
        // A run that is one call, or an undoing, is told nothing of the configuration.
        let blobs = match now.machine.as_str() {
            homarus_agent::NAME => self.worked_out(now, journal, &mut event, &mut why)?,
            _ => Vec::new(),
        };
        event.why = match why.as_slice() {
            [] => "the configuration was read again: nothing that this run is told of is different".to_owned(),
            why => format!("the configuration was read again: {}", why.join(", ")),
        };
        Ok((event, blobs))
    }

    fn worked_out(
        &self,
        now: &Accepted,
        journal: &dyn Journal,
        event: &mut Reconfigured,
        why: &mut Vec<String>,
    ) -> Result<Vec<Vec<u8>>, CliError> {
        let mut blobs = Vec::new();
        let agent = self.agent.as_ref();
        let definition = agent.map(|agent| &agent.definition);
        let mut profile = now.profile.clone();
        profile.rules = match &now.chosen {
            Some(chosen) => wiring::rules(&self.rules, chosen.rules.as_deref())?,
            None => now.profile.rules.clone(),
        };
        if profile.rules != now.profile.rules {
            why.push("rules".to_owned());
        } else if now.chosen.is_none() && profile.rules != self.rules {
            why.push(stays("rules"));
        }
        let grants = agents::grants(&self.config.policy.grants, definition);
        if grants != profile.grants {
            profile.grants = grants;
            why.push("grants".to_owned());
        }
        profile.tier = definition.map_or(profile.tier, |definition| definition.tier);
        let chosen = now.chosen.clone().unwrap_or_default();
        let budget = budget(&self.config, agent, &chosen);
        if now.budget != budget && now.chosen.is_none() {
            why.push(stays("limits"));
        } else if now.budget != budget {
            event.budget = Some(budget);
            why.push("limits".to_owned());
        }
        if let Some(models) = self.models.as_ref().filter(|models| **models != now.models) {
            let names: Vec<String> = models.iter().map(ToString::to_string).collect();
            why.push(format!("model {}", names.join(", then ")));
            event.models = Some(models.clone());
        }
        let models = event.models.as_ref().unwrap_or(&now.models);
        let mut tools = journal.blob(&now.tools)?;
        if tools != b"[]" {
            let offered = offered(&self.runtime.tools, agent, models)?;
            tools = serde_json::to_vec(&offered).map_err(CliError::failed)?;
            if Hash::of(&tools) != now.tools {
                why.push("tools".to_owned());
                event.tools = Some(Hash::of(&tools));
                blobs.push(tools.clone());
            }
        }
        let tools: Vec<_> = serde_json::from_slice(&tools).map_err(CliError::failed)?;
        let system = agents::system(agent, &tools, &self.runtime.shelf, &now.workspace, &profile).0.into_bytes();
        if Hash::of(&system) != now.system {
            why.push("persona, memory or skills".to_owned());
            event.system = Some(Hash::of(&system));
            blobs.push(system);
        }
        event.profile = (profile != now.profile).then_some(profile);
        Ok(blobs)
    }
}

/// Whether somebody chose what a run of an older version has, nobody knows.
fn stays(what: &str) -> String {
    format!("{what} stay and are not those of the configuration (`homarus runs configure` changes rules)")
}

/// What is journalled for a run whose configuration was read again, or could not be.
pub fn noted(
    read: &Result<Read, String>,
    now: &Accepted,
    journal: &dyn Journal,
) -> Result<(Reconfigured, Vec<Vec<u8>>), CliError> {
    match read {
        Ok(read) => read.change(now, journal),
        Err(error) => {
            let mut event = Reconfigured::by(who("signal"));
            event.why = format!("the configuration was read again and stays as it was: {error}");
            Ok((event, Vec::new()))
        }
    }
}

/// Drives a run until it rests, under what it is after each change; and the runtime that drove it last.
pub async fn drive(
    runtime: Arc<Runtime>,
    run: &RunId,
    mut fence: Fence,
    control: &Control,
    slot: &Slot,
) -> Result<Ended, CliError> {
    let mut runtime = runtime;
    loop {
        runtime.register(run)?;
        fence = match runtime.drive_to_rest(fence, control).await? {
            Ended::HandedBack { fence } => fence,
            ended => {
                if matches!(ended, Ended::Finished { .. } | Ended::Waiting(WaitingOn::Message)) {
                    daily::note(runtime.store.as_ref(), run);
                }
                return Ok(ended);
            }
        };
        let Some(read) = slot.take() else { continue };
        let (event, blobs) = noted(&read, &current(runtime.store.as_ref(), run)?, runtime.store.as_ref())?;
        let before = fence.seq();
        let mut append = Append::new(fence);
        append.blobs = blobs;
        append.push(Event::Reconfigured(event));
        fence = runtime.store.append(append).await?;
        runtime.show_since(run, before)?;
        if let Ok(read) = read {
            runtime.end_browser(run).await;
            runtime = read.runtime;
        }
    }
}

/// Whether a person chose the models of a run.
fn are_chosen(journal: &dyn Journal, run: &RunId) -> Result<bool, CliError> {
    let mut chosen = false;
    for record in journal.read_all(run)? {
        match record.event {
            Event::Accepted(accepted) => chosen = accepted.models_why == choose::NAMED,
            Event::Reconfigured(change) if change.models.is_some() => chosen = !change.who.starts_with("signal:"),
            _ => {}
        }
    }
    Ok(chosen)
}
