//! `homarus runs delete`

use homarus_api::runs::DeleteResponse;
use homarus_contract::{
    ids::RunId,
    journal::{Journal, JournalError},
    text::one_line,
};
use homarus_store::Store;

use super::{agents_delete::confirmed, find_run};
use crate::{dirs::Dirs, env, exit::CliError, put, wiring};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Ids of runs that have ended, unique beginnings of them, or `last`
    #[arg(required = true, value_name = "RUN", num_args = 1..=100)]
    runs: Vec<String>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Print the response as JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    pub fn execute(self) -> Result<u8, CliError> {
        let store = wiring::open()?;
        let mut runs: Vec<RunId> = Vec::new();
        for text in &self.runs {
            let run = find_run(store.as_ref(), text)?;
            let row = store.run(&run)?;
            if !row.status.is_final() {
                return Err(CliError::failed(format!("run {run} has not ended: nothing was deleted"))
                    .help(format!("`homarus runs cancel {run}` ends it")));
            }
            if !runs.contains(&run) {
                put::note(&format!("{run}  {}  {}", put::time(row.updated_ms), one_line(&row.prompt, 80)));
                runs.push(run);
            }
        }
        let question =
            format!("delete {} for good, and with it what undoing needs?", put::counted(runs.len() as u64, "run"));
        if !self.yes && !confirmed(&question)? {
            return Err(CliError::failed("nothing was deleted"));
        }
        let response = wiring::block_on(delete(&store, runs, &format!("cli:{}", env::user())))??;
        match self.json {
            true => put::json(&response)?,
            false => told(&response)?,
        }
        Ok(0)
    }
}

/// Deletes them one by one, then what only they had.
pub async fn delete(store: &Store, runs: Vec<RunId>, who: &str) -> Result<DeleteResponse, CliError> {
    for run in &runs {
        match store.delete(run.clone(), who.to_owned()).await {
            // Another process was faster.
            Ok(()) | Err(JournalError::Deleted { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let swept = store.sweep().await?;
    let is_deleted = |run: &RunId| matches!(store.run(run), Err(JournalError::Deleted { .. }));
    homarus_sandbox::forget_conflicts(&Dirs::from_env()?.state, is_deleted)
        .map_err(|error| CliError::failed("versions in conflict of deleted runs are left").cause(error.to_string()))?;
    Ok(DeleteResponse { runs, blobs: swept.blobs, bytes: swept.bytes })
}

pub fn told(response: &DeleteResponse) -> Result<(), CliError> {
    let runs = response.runs.len() as u64;
    put::line(&format!(
        "{} {} deleted, and {} of content ({} bytes) that only {} had",
        put::counted(runs, "run"),
        if runs == 1 { "is" } else { "are" },
        put::counted(response.blobs, "piece"),
        put::count(response.bytes),
        if runs == 1 { "it" } else { "they" },
    ))
}
