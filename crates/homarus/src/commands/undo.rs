//! `homarus undo`

use std::{path::PathBuf, sync::Arc};

use homarus_api::runs::{PathNote, UndoResponse};
use homarus_contract::{
    action::Tier,
    budget::Budget,
    event::{Accepted, ApprovalsMode, Chosen, Event, Inbound, Profile},
    ids::{Hash, RunId},
    journal::{Journal, RunStatus},
    text::{neutralise, one_line},
};
use homarus_driver::ports::{Live, Observer};
use homarus_sandbox::{Options, Outlook, outlook};
use homarus_workflow::{
    changes::RunChanges,
    render,
    undo::{self, History, Undoing, WorkspaceUndo},
};

use super::{
    find_run_and_step,
    run::{Answering, new_run_id},
};
use crate::{
    cli::VERSION,
    config::Config,
    dirs::{self, Dirs},
    exit::{self, CliError},
    put,
    show::style::Style,
    wiring::{self, Runtime},
};

const POLICY: &str = include_str!("../../data/undo-policy.toml");

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The run to undo (its id, a unique beginning of it, or `last`); with `:STEP`, only that step and what came after.
    /// Without it, the newest run of this folder whose changes still stand
    #[arg(value_name = "RUN[:STEP]")]
    target: Option<String>,
    /// The folder, where no run is named
    #[arg(long, value_name = "DIR")]
    workspace: Option<PathBuf>,
    /// Show what would be undone, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    #[command(flatten)]
    answering: Answering,
    /// Print the response as JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    pub fn execute(self) -> Result<u8, CliError> {
        let dirs = Dirs::from_env()?;
        let config = Config::load(&dirs)?;
        if !self.yes && !self.dry_run && !self.answering.can_answer() {
            return Err(CliError::usage("there is no terminal to ask at")
                .help("--yes undoes without asking; --dry-run shows what would be undone"));
        }
        let options = wiring::sandbox_options(&dirs, &config, None)?;
        if self.dry_run {
            let store = wiring::read_journal()?;
            let (undoing, workspace) = self.find(store.as_ref())?;
            let journal: Arc<dyn Journal> = store;
            return self.show(&journal, &options, &undoing, workspace);
        }
        wiring::block_on(async {
            let observer = |store: &_| if self.json { Arc::new(Silent) } else { wiring::observer(false, store) };
            let runtime = Runtime::build(&dirs, &config, observer, self.answering.approver())?;
            runtime.settle_orphans().await?;
            let (undoing, workspace) = self.find(runtime.store.as_ref())?;
            if undoing.changes.is_empty() {
                let journal: Arc<dyn Journal> = runtime.store.clone();
                return self.show(&journal, &options, &undoing, workspace);
            }
            self.undo(&runtime, undoing, workspace).await
        })?
    }

    /// What is to be undone, and the workspace of that run.
    fn find(&self, journal: &dyn Journal) -> Result<(Undoing, PathBuf), CliError> {
        let Some(text) = &self.target else {
            let workspace = dirs::workspace(self.workspace.as_deref())?;
            let history = History::read(journal, &workspace.to_string_lossy())?;
            let newest = history.newest()?.ok_or_else(|| {
                CliError::failed(format!("no run has changes in {} that could be undone", workspace.display()))
                    .help("`homarus runs list` shows the runs there are; an undo is undone by naming it")
            })?;
            idle(journal, &newest.target.run)?;
            return Ok((newest, workspace));
        };
        let (run, step) = find_run_and_step(journal, text)?;
        idle(journal, &run)?;
        let changes = RunChanges::read(journal, &run)?;
        if let Some(step) = step.filter(|step| *step == 0 || *step > changes.last_step.max(1)) {
            return Err(CliError::usage(format!("run {run} has no step {step}, only 1 to {}", changes.last_step)));
        }
        let workspace = changes.accepted.map(|accepted| accepted.workspace).unwrap_or_default();
        let history = History::read(journal, &workspace.to_string_lossy())?;
        let undoing = history.undoing(&run, step.unwrap_or(0))?;
        let undoing = undoing.ok_or_else(|| CliError::failed(format!("run {run} has changed nothing")))?;
        Ok((undoing, workspace))
    }

    fn show(
        &self,
        journal: &Arc<dyn Journal>,
        options: &Options,
        undoing: &Undoing,
        workspace: PathBuf,
    ) -> Result<u8, CliError> {
        let contents = undo::contents(journal.clone());
        let foreseen = match undoing.changes.as_slice() {
            [] => Outlook::default(),
            changes => outlook(options, &workspace, changes.to_vec(), &contents).map_err(|error| {
                CliError::failed(format!("the workspace {} cannot be looked at", workspace.display())).cause(error)
            })?,
        };
        let diff: String = foreseen.made.iter().map(|change| render::show(change, &contents).text).collect();
        let refused: Vec<PathNote> = foreseen.refused.iter().chain(&undoing.refused).map(PathNote::from).collect();
        let response = UndoResponse {
            run: undoing.target.run.clone(),
            step: undoing.target.step,
            workspace: workspace.to_string_lossy().into_owned(),
            undo_run: None,
            status: None,
            summary: match undoing.changes.len() {
                0 => "Nothing is left to undo.".to_owned(),
                _ => summary(&foreseen, refused.len()),
            },
            undone: Vec::new(),
            conflicts: foreseen.conflicts.into_iter().map(|path| PathNote { path, note: String::new() }).collect(),
            refused,
            diff,
        };
        if self.json {
            put::json(&response)?;
        } else {
            put::line(Style::for_stdout().diff(&neutralise(&response.diff)).trim_end())?;
            print(&response)?;
        }
        Ok(exit::DONE)
    }

    async fn undo(&self, runtime: &Arc<Runtime>, undoing: Undoing, workspace: PathBuf) -> Result<u8, CliError> {
        let mode = if self.yes { ApprovalsMode::Auto } else { ApprovalsMode::Ask };
        let (accepted, blobs) = accepted(&undoing, workspace.clone(), mode)?;
        let undo_run = accepted.run.clone();
        if !self.json {
            let row = runtime.store.run(&undoing.target.run)?;
            let from =
                if undoing.target.step > 1 { format!(" from step {}", undoing.target.step) } else { String::new() };
            put::say!("undoing run {}{from}: {}", undoing.target.run, one_line(&row.prompt, 100));
        }
        let fence = runtime.store.accept(accepted, blobs).await?;
        let ended = runtime.drive_silently(undo_run.clone(), fence).await?;
        let changes = RunChanges::read(runtime.store.as_ref(), &undo_run)?;
        let conflict = |conflict: &homarus_contract::sandbox::Conflict| PathNote {
            path: conflict.path.clone(),
            note: conflict.kept_at.clone(),
        };
        let response = UndoResponse {
            run: undoing.target.run,
            step: undoing.target.step,
            workspace: workspace.to_string_lossy().into_owned(),
            undo_run: Some(undo_run),
            status: Some(ended.status),
            summary: ended.summary,
            undone: changes.applied.iter().map(|applied| applied.change.path.clone()).collect(),
            conflicts: changes.conflicts.iter().map(conflict).collect(),
            refused: changes.refused.iter().map(PathNote::from).collect(),
            diff: String::new(),
        };
        if self.json {
            put::json(&response)?;
        } else {
            print(&response)?;
        }
        Ok(ended.exit_code)
    }
}

/// What would come of it.
fn summary(foreseen: &Outlook, refused: usize) -> String {
    let would = match foreseen.made.len() + foreseen.done.len() {
        1 => "1 path would be undone.".to_owned(),
        paths => format!("{paths} paths would be undone."),
    };
    match foreseen.conflicts.len() {
        0 if refused == 0 => would,
        changed => format!("{would} Not undone: {changed} that were changed since, {refused} that cannot be."),
    }
}

/// A run that is being worked on changes while it is undone.
fn idle(journal: &dyn Journal, run: &RunId) -> Result<(), CliError> {
    let row = journal.run(run)?;
    if row.owner_alive && !row.status.is_final() {
        return Err(CliError::failed(format!("run {run} is being worked on by another process"))
            .help(format!("wait for it, or end it with: homarus runs cancel {run}")));
    }
    Ok(())
}

fn print(response: &UndoResponse) -> Result<(), CliError> {
    let style = Style::for_stdout();
    for note in &response.refused {
        put::line(&style.red(&format!(
            "{} {}",
            style.sign("✗"),
            one_line(&format!("{}: {}", note.path, note.note), 400)
        )))?;
    }
    for note in response.conflicts.iter().filter(|note| note.note.is_empty()) {
        let line = one_line(&format!("{}: was changed since, and stays", note.path), 400);
        put::line(&style.red(&format!("{} {line}", style.sign("✗"))))?;
    }
    // Why it was refused is in it, in the words of whoever did.
    put::line(&one_line(&response.summary, 600))?;
    if let Some(run) = response.undo_run.as_ref().filter(|_| !response.undone.is_empty()) {
        put::line(&style.dim(&format!("bring it back with: homarus undo {run}")))?;
    }
    if let (Some(run), Some(RunStatus::Waiting | RunStatus::Paused)) = (&response.undo_run, response.status) {
        put::line(&format!("go on with: homarus runs approve {run}, then homarus runs resume {run}"))?;
    }
    Ok(())
}

/// The first event of an undo run, and the blobs it names.
pub fn accepted(
    undoing: &Undoing,
    workspace: PathBuf,
    approvals: ApprovalsMode,
) -> Result<(Accepted, Vec<Vec<u8>>), CliError> {
    let run = new_run_id()?;
    let tools = serde_json::to_vec(&[WorkspaceUndo::definition()]).map_err(CliError::failed)?;
    let nothing = Vec::new();
    let accepted = Accepted {
        inbound: Inbound { source: "cli".to_owned(), ext_id: run.to_string(), text: undoing.target.to_string() },
        run,
        machine: undo::NAME.to_owned(),
        workspace,
        agent: None,
        models: Vec::new(),
        models_why: String::new(),
        answer_ms_max: 900_000,
        profile: Profile {
            grants: vec!["file:write:./**".to_owned()],
            rules: POLICY.to_owned(),
            approvals,
            tier: Tier::Internal,
        },
        budget: Budget::default(),
        chosen: Some(Chosen::default()),
        conversation: false,
        system: Hash::of(&nothing),
        tools: Hash::of(&tools),
        orientation: Hash::of(&nothing),
        homarus_version: VERSION.to_owned(),
    };
    Ok((accepted, vec![tools, nothing]))
}

/// With `--json` only the response is printed.
struct Silent;

impl Observer for Silent {
    fn event(&self, _run: &RunId, _seq: u64, _at_ms: u64, _event: &Event) {}
    fn live(&self, _run: &RunId, _seq: u64, _offset: u64, _live: &Live) {}
}
