//! One command a file: its arguments, and what it does.

pub mod agents_create;
pub mod agents_delete;
pub mod agents_edit;
pub mod agents_list;
pub mod agents_show;
pub mod agents_switch;
pub mod browser_clear;
pub mod browser_profiles;
pub mod chat;
pub mod completions;
pub mod config_check;
pub mod config_edit;
pub mod config_get;
pub mod config_path;
pub mod config_set;
pub mod doctor;
pub mod man;
pub mod models_list;
pub mod models_pull;
pub mod models_test;
pub mod run;
pub mod runs_approve;
pub mod runs_cancel;
pub mod runs_configure;
pub mod runs_delete;
pub mod runs_diff;
pub mod runs_fork;
pub mod runs_list;
pub mod runs_log;
pub mod runs_pause;
pub mod runs_prune;
pub mod runs_resolve;
pub mod runs_resume;
pub mod runs_resume_all;
pub mod runs_say;
pub mod runs_show;
pub mod runs_verify;
pub mod sandbox_probe;
pub mod sandbox_selftest;
pub mod skills_add;
pub mod skills_allow;
pub mod skills_list;
pub mod skills_remove;
pub mod skills_show;
pub mod skills_update;
pub mod tools_call;
pub mod tools_list;
pub mod tools_show;
pub mod undo;

use homarus_contract::{
    ids::RunId,
    journal::{Journal, JournalError},
};

use crate::exit::CliError;

/// The run a person means: its id, a unique beginning of it, or `last`.
pub fn find_run(journal: &dyn Journal, text: &str) -> Result<RunId, CliError> {
    const LOOKED_AT_MAX: u32 = 10_000;
    if text != "last"
        && let Ok(run) = RunId::parse(text)
    {
        match journal.run(&run) {
            Ok(_) => return Ok(run),
            Err(error @ JournalError::Deleted { .. }) => return Err(error.into()),
            Err(_) => {}
        }
    }
    let rows = journal.runs(LOOKED_AT_MAX)?;
    let mut fits = rows.iter().filter(|row| text == "last" || row.run.as_str().starts_with(text)).map(|row| &row.run);
    let help = "`homarus runs list` shows the runs there are";
    match (fits.next(), fits.next()) {
        (Some(run), _) if text == "last" => Ok(run.clone()),
        (Some(run), None) => Ok(run.clone()),
        (Some(_), Some(_)) => Err(CliError::usage(format!("more than one run begins with {text:?}")).help(help)),
        (None, _) => Err(CliError::failed(format!("there is no run {text:?}")).help(help)),
    }
}

/// `RUN` or `RUN:STEP`.
pub fn find_run_and_step(journal: &dyn Journal, text: &str) -> Result<(RunId, Option<u32>), CliError> {
    let Some((run, step)) = text.split_once(':') else { return Ok((find_run(journal, text)?, None)) };
    let step = step.parse().map_err(|_| CliError::usage(format!("{step:?} is not the number of a step")))?;
    Ok((find_run(journal, run)?, Some(step)))
}
