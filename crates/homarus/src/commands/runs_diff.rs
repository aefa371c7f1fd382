//! `homarus runs diff`

use std::sync::Arc;

use homarus_api::runs::{DiffPath, DiffResponse, PathNote};
use homarus_contract::{journal::Journal, text::neutralise};
use homarus_workflow::{
    changes::{Net, RunChanges},
    render, undo,
};

use super::find_run_and_step;
use crate::{exit::CliError, put, show::style::Style, wiring};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A run's id, a unique beginning of it, or `last`; with `:STEP`, only what that step changed
    #[arg(value_name = "RUN[:STEP]")]
    run: String,
    /// Only the totals of each path
    #[arg(long)]
    stat: bool,
    /// Print the response as JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    pub fn execute(self) -> Result<u8, CliError> {
        let journal: Arc<dyn Journal> = wiring::read_journal()?;
        let (run, step) = find_run_and_step(journal.as_ref(), &self.run)?;
        let changes = RunChanges::read(journal.as_ref(), &run)?;
        if let Some(step) = step.filter(|step| *step == 0 || *step > changes.last_step.max(1)) {
            return Err(CliError::usage(format!("run {run} has no step {step}, only 1 to {}", changes.last_step)));
        }
        let net = Net::of(changes.applied.iter().filter(|applied| step.is_none_or(|step| applied.step() == step)));
        let contents = undo::contents(journal);
        let shown: Vec<_> = net.changes.iter().map(|change| render::show(change, &contents)).collect();
        if self.json {
            let response = DiffResponse {
                run,
                step,
                added: shown.iter().filter_map(|path| path.added).sum(),
                removed: shown.iter().filter_map(|path| path.removed).sum(),
                paths: shown.into_iter().map(path).collect(),
                conflicts: changes
                    .conflicts
                    .into_iter()
                    .map(|conflict| PathNote { path: conflict.path, note: conflict.kept_at })
                    .collect(),
                changed_between: net.broken,
            };
            put::json(&response)?;
            return Ok(0);
        }
        if shown.is_empty() {
            put::line("nothing was changed")?;
            return Ok(0);
        }
        let style = Style::for_stdout();
        if !self.stat {
            let diff: String = shown.iter().map(|path| path.text.as_str()).collect();
            put::line(style.diff(&neutralise(&diff)).trim_end())?;
        }
        for path in &net.broken {
            let note = format!("! {path}: somebody else changed it in between; shown is what came after");
            put::line(&style.yellow(&neutralise(&note)))?;
        }
        put::line(neutralise(&render::stat(&shown)).trim_end())?;
        Ok(0)
    }
}

fn path(shown: render::Shown) -> DiffPath {
    DiffPath {
        path: shown.path,
        old: shown.old,
        new: shown.new,
        added: shown.added,
        removed: shown.removed,
        diff: shown.text,
    }
}
