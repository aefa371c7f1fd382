//! The conversation itself: what a chat asks of the core. It knows no terminal.

use std::{path::PathBuf, sync::Arc};

use homarus_contract::{
    event::{ApprovalsMode, Chosen, Event, Resolution, WaitingOn},
    ids::{CallId, RunId},
    journal::{Fence, Journal, JournalError},
    model::ModelRef,
};
use homarus_driver::{Control, Ended, Stop};
use homarus_workflow::{changes::RunChanges, undo::History};
use tokio::task::JoinHandle;

use super::past;
use crate::{
    agents, choose,
    commands::{
        run::{Request, accepted, offered},
        runs_show, undo,
    },
    config::Config,
    conversation::{Change, claim, current, rests_on, who},
    dirs::Dirs,
    exit::CliError,
    reload::{self, Read, Reloader, Slot},
    route,
    wiring::{self, Runtime},
};

/// Runs that are looked at to find the newest conversation.
const LOOKED_AT_MAX: u32 = 1_000;

/// What a new conversation is begun with.
pub struct Settings {
    pub models: Vec<ModelRef>,
    pub agent: Option<String>,
    pub workspace: PathBuf,
    pub approvals: ApprovalsMode,
    /// What a configuration that is read again does not change.
    pub chosen: Chosen,
}

pub struct Conversation {
    pub runtime: Arc<Runtime>,
    pub dirs: Dirs,
    config: Config,
    settings: Settings,
    /// `None` until the first message.
    run: Option<RunId>,
    /// What a person should know about the message that was sent last: memory that did not fit, say.
    pub notes: Vec<String>,
}

/// Who answers, and where.
pub struct About {
    models: String,
    why: String,
    agent: Option<String>,
    workspace: PathBuf,
}

impl About {
    pub fn long(&self) -> String {
        let agent = self.agent.as_ref().map(|name| format!("agent {name}, ")).unwrap_or_default();
        let why = if self.why.is_empty() { String::new() } else { format!(" ({})", self.why) };
        format!("{agent}model {}{why}, in {}", self.models, self.workspace.display())
    }

    pub fn short(&self) -> String {
        let agent = self.agent.as_ref().map(|name| format!("{name} · ")).unwrap_or_default();
        let folder =
            self.workspace.file_name().map(|name| format!(" · {}", name.to_string_lossy())).unwrap_or_default();
        format!("{agent}{}{folder}", self.models)
    }
}

/// A turn under way.
pub struct Turn {
    control: Control,
    slot: Slot,
    pub done: JoinHandle<Result<Ended, CliError>>,
    /// It is not the conversation's own, but takes back what that has changed.
    pub is_undo: bool,
}

impl Turn {
    /// Ends it now, and nothing else with it.
    pub fn stop(&self) {
        self.control.stop(if self.is_undo { Stop::Cancel } else { Stop::Turn });
    }

    /// Brings it to rest, so that this process can end.
    pub fn pause(&self) {
        self.control.stop(if self.is_undo { Stop::Cancel } else { Stop::Pause });
    }
}

/// What was found when a conversation was opened again.
pub enum Found {
    /// It waits for the next message.
    Resting,
    /// Its last turn was cut off; nothing of it is half done any more.
    CutOff,
    /// A person is to answer, or has said that a call is to be repeated; the turn goes on with that.
    Asking(Fence),
    /// Nobody knows whether a call happened.
    Unknown(RunId),
}

impl Conversation {
    pub fn new(runtime: Arc<Runtime>, dirs: Dirs, config: Config, settings: Settings) -> Self {
        Self { runtime, dirs, config, settings, run: None, notes: Vec::new() }
    }

    pub fn run(&self) -> Option<&RunId> {
        self.run.as_ref()
    }

    /// Who answers and where; it fails where a first message would fail late.
    pub async fn about(&self) -> Result<About, CliError> {
        if let Some(run) = &self.run {
            let now = current(self.runtime.store.as_ref(), run)?;
            let names: Vec<String> = now.models.iter().map(ToString::to_string).collect();
            let agent = now.agent.map(|agent| agent.name);
            return Ok(About { models: names.join(", "), why: String::new(), agent, workspace: now.workspace });
        }
        let agent = agents::chosen(&self.dirs, self.settings.agent.as_deref())?;
        let choice = self.choose("", agent.as_ref()).await?;
        let workspace = self.settings.workspace.clone();
        let agent = agent.map(|agent| agent.name.to_string());
        Ok(About { models: choice.names(), why: choice.why, agent, workspace })
    }

    /// Opens a conversation there is: by id, a unique beginning of it, or `last`.
    pub async fn open(&mut self, text: &str) -> Result<Found, CliError> {
        let store = self.runtime.store.as_ref();
        let run = match text {
            "last" => self.newest()?,
            text => crate::commands::find_run(store, text)?,
        };
        let now = current(store, &run)?;
        if !now.conversation {
            return Err(CliError::usage(format!("run {run} is no conversation"))
                .help("`homarus chat` begins one; `homarus runs resume` goes on with any other run"));
        }
        if store.run(&run)?.status.is_final() {
            return Err(
                CliError::usage(format!("conversation {run} has ended")).help("begin a new one with: homarus chat")
            );
        }
        self.run = Some(run.clone());
        if rests_on(store, &run)? == Some(WaitingOn::Message) {
            return Ok(Found::Resting);
        }
        let fence = claim(store, &run).await?;
        self.runtime.register(&run)?;
        // Read once more: until now it may have been somebody else's.
        let detail = runs_show::detail(store, &run)?;
        if detail.question.is_some() {
            return Ok(Found::Asking(fence));
        }
        if detail.unknown.is_some() {
            store.release(fence).await?;
            return Ok(Found::Unknown(run));
        }
        if is_to_repeat(store, &run)? {
            return Ok(Found::Asking(fence));
        }
        let control = Control::default();
        control.stop(Stop::Turn);
        match reload::drive(self.runtime.clone(), &run, fence, &control, &Slot::default()).await? {
            Ended::Waiting(WaitingOn::Resolution { .. }) => Ok(Found::Unknown(run)),
            Ended::Finished { summary, .. } => {
                Err(CliError::failed(format!("conversation {run} has ended: {summary}")))
            }
            _ => Ok(Found::CutOff),
        }
    }

    /// Puts a message into the journal. When this returns it is not lost any more.
    pub async fn say(&mut self, text: String) -> Result<Fence, CliError> {
        if let Some(run) = &self.run {
            let fence = self.runtime.say(run, "chat", text).await?;
            self.runtime.register(run)?;
            return Ok(fence);
        }
        let settings = &self.settings;
        let agent = agents::chosen(&self.dirs, settings.agent.as_deref())?;
        let own = settings.chosen.rules.clone();
        let profile = wiring::profile(&self.config, agent.as_ref(), own, settings.approvals)?;
        let budget = reload::budget(&self.config, agent.as_ref(), &settings.chosen);
        let choice = self.choose(&text, agent.as_ref()).await?;
        let tools = offered(&self.runtime.tools, agent.as_ref(), &choice.models)?;
        let (system, notes) =
            agents::system(agent.as_ref(), &tools, &self.runtime.shelf, &settings.workspace, &profile);
        self.notes = notes;
        let request = Request {
            source: "chat",
            agent: agent.as_ref(),
            system,
            prompt: text,
            workspace: settings.workspace.clone(),
            hidden: self.dirs.hidden(&self.config),
            profile,
            budget,
            chosen: settings.chosen.clone(),
            models: choice.models,
            models_why: choice.why,
            answer_ms_max: self.config.models.answer_ms_max(),
            tools,
            conversation: true,
        };
        let (accepted, blobs) = accepted(request)?;
        let run = accepted.run.clone();
        let fence = self.runtime.store.accept(accepted, blobs).await?;
        self.run = Some(run.clone());
        self.runtime.register(&run)?;
        Ok(fence)
    }

    pub fn drive(&self, fence: Fence) -> Turn {
        self.begin(fence, false)
    }

    /// Takes back what the last turn that changed something has changed, or what a step and those after
    /// it have; as a run of its own that asks before it does anything. Says what it is about.
    pub async fn undo(&self, step: Option<String>) -> Result<(String, Turn), CliError> {
        let store = self.runtime.store.as_ref();
        let run = self.run.as_ref().ok_or_else(|| CliError::usage("nothing was changed yet"))?;
        let changes = RunChanges::read(store, run)?;
        let steps = match step {
            None => past::turns(store, run)?,
            Some(text) => match text.parse::<u32>() {
                Ok(step) if (1..=changes.last_step).contains(&step) => vec![step],
                _ => {
                    let message =
                        format!("{text:?} is no step of this conversation: it has 1 to {}", changes.last_step);
                    return Err(CliError::usage(message));
                }
            },
        };
        let Some(workspace) = changes.accepted.map(|accepted| accepted.workspace) else {
            return Err(CliError::failed(format!("run {run} has no first event")));
        };
        let history = History::read(store, &workspace.to_string_lossy())?;
        for step in steps.into_iter().rev() {
            let Some(undoing) = history.undoing(run, step)?.filter(|undoing| !undoing.changes.is_empty()) else {
                continue;
            };
            let (accepted, blobs) = undo::accepted(&undoing, workspace, ApprovalsMode::Ask)?;
            let undo_run = accepted.run.clone();
            let fence = store.accept(accepted, blobs).await?;
            self.runtime.register(&undo_run)?;
            let about =
                format!("undoing what was changed from step {step} on, as run {undo_run}, which can be undone too");
            return Ok((about, self.begin(fence, true)));
        }
        Err(CliError::failed("nothing is left to undo here"))
    }

    fn begin(&self, fence: Fence, is_undo: bool) -> Turn {
        let (control, slot) = (Control::default(), Slot::default());
        let (runtime, run, held, read) = (self.runtime.clone(), fence.run().clone(), control.clone(), slot.clone());
        let done = tokio::spawn(async move { reload::drive(runtime, &run, fence, &held, &read).await });
        Turn { control, slot, done, is_undo }
    }

    /// Reads the configuration again, for all that comes after; a turn under way goes on with it where its step ends.
    /// What cannot be used changes nothing.
    pub async fn reload(&mut self, turn: Option<&Turn>) -> Result<String, CliError> {
        let read = match Reloader::new(&self.dirs).read(&self.runtime, self.run.as_ref()).await {
            Ok(read) => read,
            Err(error) => {
                self.note_reload(Err(error.summary()), turn).await?;
                return Err(error);
            }
        };
        let told = self.note_reload(Ok(read.clone()), turn).await?;
        (self.runtime, self.config) = (read.runtime, read.config);
        Ok(told)
    }

    /// What was read while the turn came to its end, and so found no further step, holds from here on.
    pub async fn after(&self, turn: &Turn) -> Result<(), CliError> {
        match turn.slot.take() {
            Some(read) => self.note_reload(read, None).await.map(drop),
            None => Ok(()),
        }
    }

    async fn note_reload(&self, read: Result<Read, String>, turn: Option<&Turn>) -> Result<String, CliError> {
        let Some(run) = &self.run else { return Ok("the configuration was read again".to_owned()) };
        if let Some(turn) = turn.filter(|turn| !turn.is_undo) {
            turn.slot.put(read);
            turn.control.hand_back();
            return Ok("the configuration was read again; it holds where the step ends".to_owned());
        }
        let store = self.runtime.store.as_ref();
        let (change, blobs) = reload::noted(&read, &current(store, run)?, store)?;
        let told = change.why.clone();
        if let Some(on) = rests_on(store, run)? {
            self.runtime.change_at_rest(run, on, vec![change], blobs).await?;
        }
        Ok(told)
    }

    /// Another model from here on; says what is asked now.
    pub async fn change_model(&mut self, model: Option<String>) -> Result<String, CliError> {
        let Some(model) = model else { return Ok(self.about().await?.long()) };
        let model: ModelRef = model.parse().map_err(|error| {
            CliError::usage(format!("{model:?} names no model: {error}"))
                .help("write PROVIDER/MODEL; `homarus models list` shows them")
        })?;
        match &self.run {
            Some(_) => self.reconfigure(Change { models: vec![model], ..Change::default() }).await,
            None => {
                let before = std::mem::replace(&mut self.settings.models, vec![model]);
                let now = self.about().await;
                if now.is_err() {
                    self.settings.models = before;
                }
                Ok(now?.long())
            }
        }
    }

    pub async fn change_agent(&mut self, agent: Option<String>) -> Result<String, CliError> {
        let Some(agent) = agent else { return Ok(self.about().await?.long()) };
        match &self.run {
            Some(_) => self.reconfigure(Change { agent: Some(agent), ..Change::default() }).await,
            None => {
                agents::find(&self.dirs, &agent)?;
                self.settings.agent = Some(agent);
                Ok(self.about().await?.long())
            }
        }
    }

    async fn reconfigure(&self, change: Change) -> Result<String, CliError> {
        let Some(run) = &self.run else { return Err(CliError::usage("there is no conversation yet")) };
        let change = Change { who: who("chat"), ..change };
        self.runtime.reconfigure(&self.dirs, &self.config, run, change).await.map(|(why, _)| why)
    }

    async fn choose(
        &self,
        text: &str,
        agent: Option<&homarus_agent::folder::AgentFolder>,
    ) -> Result<choose::Choice, CliError> {
        let tools = agent.is_none_or(|agent| !agent.has_no_tools());
        let name = agent.map(|agent| agent.name.as_str());
        let asked = route::Request { text, tools, agent: name, tags: &[] };
        choose::models(&self.settings.models, &asked, agent, &self.config, &self.runtime).await
    }

    fn newest(&self) -> Result<RunId, CliError> {
        let store = self.runtime.store.as_ref();
        for row in store.runs(LOOKED_AT_MAX)? {
            if !row.status.is_final() && current(store, &row.run).is_ok_and(|accepted| accepted.conversation) {
                return Ok(row.run);
            }
        }
        Err(CliError::failed("there is no conversation to go on with").help("begin one with: homarus chat"))
    }
}

/// Whether a person has said that a call is to be repeated, and it was not begun since.
fn is_to_repeat(journal: &dyn Journal, run: &RunId) -> Result<bool, JournalError> {
    let mut repeated: Option<CallId> = None;
    for record in journal.read_all(run)? {
        match record.event {
            Event::Resolved { call, decision, .. } => {
                repeated = (decision == Resolution::Repeat).then_some(call);
            }
            Event::ActIntent { call, .. } | Event::Denied { call, .. } if repeated.as_ref() == Some(&call) => {
                repeated = None;
            }
            _ => {}
        }
    }
    Ok(repeated.is_some())
}
