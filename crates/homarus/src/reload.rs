//! Going on with a run under a configuration that was read again: `homarus.toml`, the rules, and the folder of the
//! run's agent. What a person chose for this run (options, `runs configure`, `/model`) stays chosen.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use homarus_agent::folder::AgentFolder;
use homarus_contract::{
    budget::Budget,
    event::{Accepted, Event, Reconfigured, WaitingOn},
    ids::{Hash, RunId},
    journal::{Append, Fence, Journal},
    model::ModelRef,
};
use homarus_driver::{Control, Ended};

use crate::{
    agents, choose,
    commands::run::{offered, read_policy},
    config::Config,
    conversation::{current, who},
    daily,
    dirs::Dirs,
    exit::CliError,
    route,
    wiring::{self, Runtime},
};

/// What was said on the command line, and so is no matter of the configuration.
#[derive(Debug, Default, Clone)]
pub struct Given {
    pub policy: Option<PathBuf>,
    pub cost_max: Option<u64>,
    pub steps_max: Option<u32>,
    pub tags: Vec<String>,
}

/// Reads the configuration again for the runs of this process.
pub struct Reloader {
    dirs: Dirs,
    given: Given,
    was: Basis,
}

/// What the configuration came to when it was last gone on with.
type Basis = Arc<Mutex<Was>>;

/// A run that has something else was given it by a person, and keeps it.
#[derive(Debug, Clone, PartialEq)]
struct Was {
    rules: String,
    budget: Budget,
}

/// A configuration that was read again and can be gone on with.
#[derive(Clone)]
pub struct Read {
    pub runtime: Arc<Runtime>,
    pub config: Config,
    agent: Option<AgentFolder>,
    /// `None`: a person chose the models.
    models: Option<Vec<ModelRef>>,
    was: Basis,
    now: Was,
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
    /// `agent`: the one of the run, as its folder is now.
    pub fn new(dirs: &Dirs, config: &Config, agent: Option<&AgentFolder>, given: Given) -> Result<Self, CliError> {
        let was = Arc::new(Mutex::new(given.worked_out(config, agent)?));
        Ok(Self { dirs: dirs.clone(), given, was })
    }

    /// The same for a run there is, whose options nobody knows any more.
    pub fn of(dirs: &Dirs, config: &Config, now: &Accepted) -> Result<Self, CliError> {
        // An agent that cannot be read now is told of when it is to be.
        let agent = now.agent.as_ref().and_then(|agent| agents::find(dirs, &agent.name).ok());
        Self::new(dirs, config, agent.as_ref(), Given::default())
    }

    /// Reads everything again; an error leaves all as it was.
    pub async fn read(&self, runtime: &Runtime, run: Option<&RunId>) -> Result<Read, CliError> {
        let config = Config::load(&self.dirs)?;
        let renewed = Arc::new(runtime.renewed(&self.dirs, &config)?);
        let store = runtime.store.as_ref();
        let now = run.map(|run| current(store, run)).transpose()?;
        let named = now.as_ref().and_then(|now| now.agent.as_ref());
        let agent = named.map(|agent| agents::find(&self.dirs, &agent.name)).transpose()?;
        let models = match (&now, run) {
            (Some(now), Some(run)) if !are_chosen(store, run)? => {
                let asked = route::Request {
                    text: &now.inbound.text,
                    tools: !self.has_no_tools(store, now)?,
                    agent: named.map(|agent| agent.name.as_str()),
                    tags: &self.given.tags,
                };
                Some(choose::models(&[], &asked, agent.as_ref(), &config, &renewed).await?.models)
            }
            _ => None,
        };
        let found = self.given.worked_out(&config, agent.as_ref())?;
        if let Some(now) = &now {
            // What cannot be offered is found out now.
            offered(&renewed.tools, agent.as_ref(), models.as_ref().unwrap_or(&now.models))?;
            wiring::profile(&config, agent.as_ref(), None, now.profile.approvals)?;
        }
        Ok(Read { runtime: renewed, config, agent, models, was: self.was.clone(), now: found })
    }

    fn has_no_tools(&self, journal: &dyn Journal, now: &Accepted) -> Result<bool, CliError> {
        Ok(journal.blob(&now.tools)? == b"[]")
    }
}

impl Given {
    fn worked_out(&self, config: &Config, agent: Option<&AgentFolder>) -> Result<Was, CliError> {
        let own = self.policy.as_deref().map(read_policy).transpose()?;
        // Only the rules of it count here, and they do not depend on what happens when one says ask.
        let profile = wiring::profile(config, agent, own, homarus_contract::event::ApprovalsMode::Deny)?;
        let base = config.budget();
        let mut budget = agent.map_or(base, |agent| agents::budget(base, &agent.definition));
        budget.cost_max = self.cost_max.or(budget.cost_max);
        budget.steps_max = self.steps_max.unwrap_or(budget.steps_max);
        Ok(Was { rules: profile.rules, budget })
    }
}

impl Read {
    /// From here on it is what the next reading is compared with.
    pub fn goes_on(&self) {
        *self.was.lock().unwrap_or_else(PoisonError::into_inner) = self.now.clone();
    }

    /// What is different for a run, with the blobs that names.
    pub fn change(&self, now: &Accepted, journal: &dyn Journal) -> Result<(Reconfigured, Vec<Vec<u8>>), CliError> {
        let mut event = Reconfigured::by(who("signal"));
        let mut blobs = Vec::new();
        let mut why = Vec::new();
        let definition = self.agent.as_ref().map(|agent| &agent.definition);
        let was = self.was.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut profile = now.profile.clone();
        if profile.rules == was.rules {
            profile.rules.clone_from(&self.now.rules);
        }
        if profile.rules != now.profile.rules {
            why.push("rules".to_owned());
        }
        let grants = agents::grants(&self.config.policy.grants, definition);
        if grants != profile.grants {
            profile.grants = grants;
            why.push("grants".to_owned());
        }
        profile.tier = definition.map_or(profile.tier, |definition| definition.tier);
        if now.budget == was.budget && now.budget != self.now.budget {
            event.budget = Some(self.now.budget);
            why.push("limits".to_owned());
        }
        if let Some(models) = self.models.as_ref().filter(|models| **models != now.models) {
            let names: Vec<String> = models.iter().map(ToString::to_string).collect();
            why.push(format!("model {}", names.join(", then ")));
            event.models = Some(models.clone());
        }
        let models = event.models.as_ref().unwrap_or(&now.models);
        if journal.blob(&now.tools)? != b"[]" {
            let tools = offered(&self.runtime.tools, self.agent.as_ref(), models)?;
            let tools = serde_json::to_vec(&tools).map_err(CliError::failed)?;
            if Hash::of(&tools) != now.tools {
                why.push("tools".to_owned());
                event.tools = Some(Hash::of(&tools));
                blobs.push(tools);
            }
        }
        let tools = match blobs.first() {
            Some(tools) => tools.clone(),
            None => journal.blob(&now.tools)?,
        };
        let tools: Vec<_> = serde_json::from_slice(&tools).map_err(CliError::failed)?;
        let agent = self.agent.as_ref();
        let system = agents::system(agent, &tools, &self.runtime.shelf, &now.workspace, &profile).0.into_bytes();
        if Hash::of(&system) != now.system {
            why.push("persona, memory or skills".to_owned());
            event.system = Some(Hash::of(&system));
            blobs.push(system);
        }
        event.profile = (profile != now.profile).then_some(profile);
        event.why = match why.as_slice() {
            [] => "the configuration was read again: nothing that this run is told of is different".to_owned(),
            why => format!("the configuration was read again: {}", why.join(", ")),
        };
        Ok((event, blobs))
    }
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
            read.goes_on();
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
