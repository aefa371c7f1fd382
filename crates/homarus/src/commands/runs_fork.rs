//! `homarus runs fork`

use std::path::PathBuf;

use homarus_contract::{
    event::{Accepted, ApprovalsMode, Event, Inbound},
    ids::RunId,
    journal::Journal,
    model::ModelRef,
};
use homarus_workflow::{fork, undo::History};

use super::{
    find_run_and_step,
    run::{Answering, new_run_id, read_prompt},
};
use crate::{
    choose,
    config::Config,
    dirs::{self, Dirs},
    exit::CliError,
    put,
    reload::Reloader,
    route,
    wiring::{self, Runtime},
};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A run's id, a unique beginning of it, or `last`; and the step after which it shall go on otherwise
    #[arg(value_name = "RUN:STEP")]
    run: String,
    /// A further message; `-` reads it from standard input. Without it, the model is asked again from there
    prompt: Option<String>,
    /// The model, as PROVIDER/MODEL (default: those of the run)
    #[arg(long, value_name = "PROVIDER/MODEL")]
    model: Vec<ModelRef>,
    /// The folder to work in (default: that of the run, as it is now)
    #[arg(long, value_name = "DIR")]
    workspace: Option<PathBuf>,
    #[command(flatten)]
    answering: Answering,
    /// Print one JSON event a line
    #[arg(long)]
    json: bool,
}

impl Args {
    pub fn execute(self) -> Result<u8, CliError> {
        let prompt = self.prompt.as_deref().map(read_prompt).transpose()?;
        let dirs = Dirs::from_env()?;
        let config = Config::load(&dirs)?;
        wiring::block_on(async {
            let observer = |store: &_| wiring::observer(self.json, store);
            let runtime = Runtime::build(&dirs, &config, observer, self.answering.approver())?;
            runtime.settle_orphans().await?;
            let (run, step) = find_run_and_step(runtime.store.as_ref(), &self.run)?;
            let step = step.ok_or_else(|| {
                CliError::usage("name the step after which it shall go on otherwise")
                    .help(format!("for example: homarus runs fork {run}:1 \"do it another way\""))
            })?;
            let id = new_run_id()?;
            let records = runtime.store.read_all(&run)?;
            let history = fork::history(&records, &run, step, &id).map_err(CliError::usage)?;
            if history.is_answered && prompt.is_none() {
                return Err(CliError::usage(format!("step {step} of run {run} is an answer: nothing follows from it"))
                    .help("give a further message, or fork an earlier step"));
            }
            let mut accepted =
                Accepted::current(&records).ok_or_else(|| CliError::failed(format!("run {run} has no first event")))?;
            let old_workspace = accepted.workspace.clone();
            if let Some(workspace) = &self.workspace {
                accepted.workspace = dirs::workspace(Some(workspace))?;
            }
            if !self.model.is_empty() {
                let request = route::Request { text: "", tools: true, agent: None, tags: &[] };
                let choice = choose::models(&self.model, &request, None, &config, &runtime).await?;
                (accepted.models, accepted.models_why) = (choice.models, choice.why);
            }
            accepted.run = id.clone();
            accepted.inbound.source = "fork".to_owned();
            accepted.inbound.ext_id = id.to_string();
            accepted.profile.approvals = ApprovalsMode::AskAll;
            accepted.homarus_version = crate::cli::VERSION.to_owned();
            let mut events = history.events;
            events.push(Event::Forked { run: run.clone(), step, events: events.len() as u64 });
            if let Some(text) = prompt {
                let ext_id = format!("{id}-message");
                events.push(Event::Said { inbound: Inbound { source: "fork".to_owned(), ext_id, text } });
            }
            if !self.json && accepted.workspace == old_workspace {
                tell_workspace(&runtime, &run, step, &old_workspace)?;
            }
            let fence = runtime.store.accept_with(accepted, Vec::new(), events).await?;
            runtime.drive(id, fence, Reloader::new(&dirs), self.json).await
        })?
    }
}

/// The folder is as it is now, whatever the recorded results say of it.
fn tell_workspace(runtime: &Runtime, run: &RunId, step: u32, workspace: &std::path::Path) -> Result<(), CliError> {
    let journal: &dyn Journal = runtime.store.as_ref();
    let history = History::read(journal, &workspace.to_string_lossy())?;
    let later = history.undoing(run, step + 1)?.map_or(0, |undoing| undoing.changes.len());
    put::note(&format!("forked run {run} after step {step}; every change will be asked about"));
    put::note(&format!("it works in {} as that is now", workspace.display()));
    if later > 0 {
        let undo = format!("homarus undo {run}:{}", step + 1);
        put::note(&format!("  {later} paths were changed by later steps; to bring them back first: {undo}"));
    }
    Ok(())
}
