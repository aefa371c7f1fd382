//! `homarus runs prune`

use homarus_api::runs::{DeleteResponse, PruneResponse};
use homarus_contract::{journal::RunRow, text::one_line};

use super::{
    agents_delete::confirmed,
    runs_delete::{delete, told},
};
use crate::{config::Config, dirs::Dirs, env, exit::CliError, put, wiring};

const DAY_MS: u64 = 86_400_000;
/// Runs that are deleted at once; what is left is told.
const RUNS_MAX: u32 = 10_000;
const SHOWN_MAX: usize = 20;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Delete runs whose end is longer ago than this many days; as `runs.keep_days` says if absent
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=36_500))]
    older_than: Option<u32>,
    /// Show what would be deleted, and delete nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Print the response as JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    pub fn execute(self) -> Result<u8, CliError> {
        let days = self.days()?;
        let before_ms = wiring::now_ms().saturating_sub(u64::from(days) * DAY_MS);
        let store = if self.dry_run { wiring::read_journal()? } else { wiring::open()? };
        let rows = store.ended_before(before_ms, RUNS_MAX)?;
        if self.dry_run && self.json {
            let runs = rows.into_iter().map(|row| row.run).collect();
            let deleted = DeleteResponse { runs, blobs: 0, bytes: 0 };
            put::json(&PruneResponse { days, dry_run: true, deleted })?;
            return Ok(0);
        }
        if self.dry_run || !self.yes {
            show(&rows);
        }
        let what = format!(
            "{} that ended more than {} ago",
            put::counted(rows.len() as u64, "run"),
            put::counted(days.into(), "day")
        );
        if self.dry_run {
            put::line(&format!("{what} would be deleted"))?;
            return Ok(0);
        }
        // Also where none is old enough: an earlier one may have been cut off before it was through.
        if !rows.is_empty()
            && !self.yes
            && !confirmed(&format!("delete {what} for good, and with them what undoing needs?"))?
        {
            return Err(CliError::failed("nothing was deleted"));
        }
        let who = format!("cli:{}, older than {}", env::user(), put::counted(days.into(), "day"));
        let runs: Vec<_> = rows.into_iter().map(|row| row.run).collect();
        let is_part = runs.len() == RUNS_MAX as usize;
        let deleted = wiring::block_on(delete(&store, runs, &who))??;
        match self.json {
            true => put::json(&PruneResponse { days, dry_run: false, deleted })?,
            false => told(&deleted)?,
        }
        if is_part {
            put::note("these were as many as are deleted at once; there may be more");
        }
        Ok(0)
    }

    fn days(&self) -> Result<u32, CliError> {
        if let Some(days) = self.older_than {
            return Ok(days);
        }
        match Config::load(&Dirs::from_env()?)?.runs.keep_days {
            0 => Err(CliError::usage("runs are kept for ever: `runs.keep_days` is 0")
                .help("give --older-than DAYS, or `homarus config set runs.keep_days DAYS`")),
            days => Ok(days),
        }
    }
}

fn show(rows: &[RunRow]) {
    for row in rows.iter().take(SHOWN_MAX) {
        put::note(&format!("{}  {}  {}", row.run, put::time(row.updated_ms), one_line(&row.prompt, 80)));
    }
    if let Some(more) = rows.len().checked_sub(SHOWN_MAX).filter(|more| *more > 0) {
        put::note(&format!("and {more} more"));
    }
}
