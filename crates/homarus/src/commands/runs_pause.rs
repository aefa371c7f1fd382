//! `homarus runs pause`

use homarus_api::runs::PauseResponse;
use homarus_contract::journal::{Journal, JournalError, Request, RunStatus};

use super::find_run;
use crate::{
    approver::{Asking, TerminalApprover},
    config::Config,
    conversation,
    dirs::Dirs,
    exit::CliError,
    put,
    wiring::{self, Runtime},
};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A run's id, a unique beginning of it, or `last`
    run: String,
    /// Print the response as JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    pub fn execute(self) -> Result<u8, CliError> {
        let store = wiring::open()?;
        let run = find_run(store.as_ref(), &self.run)?;
        if store.run(&run)?.status.is_final() {
            return Err(CliError::failed(format!("run {run} has ended already")));
        }
        let request = Request::Pause { who: conversation::who("cli") };
        let left = wiring::block_on(store.leave_request(run.clone(), request, Vec::new()))?;
        let status = match left {
            Ok(()) => None,
            Err(JournalError::NotDriven(_)) => Some(match store.run(&run)?.status {
                RunStatus::Running => {
                    drop(store);
                    settled(&run)?
                }
                status => status,
            }),
            Err(error) => return Err(error.into()),
        };
        if self.json {
            return put::json(&PauseResponse { run, status }).map(|()| 0);
        }
        put::line(&match status {
            None => format!("run {run} is told to pause: what is under way ends first"),
            Some(RunStatus::Paused) => format!("run {run} is paused"),
            Some(status) => format!("run {run} rests already: it is {}", status.as_str()),
        })?;
        Ok(0)
    }
}

/// Its driver was killed: it is brought to rest here.
fn settled(run: &homarus_contract::ids::RunId) -> Result<RunStatus, CliError> {
    let dirs = Dirs::from_env()?;
    let config = Config::load(&dirs)?;
    wiring::block_on(async {
        let observer = |store: &_| wiring::observer(false, store);
        let runtime = Runtime::build(&dirs, &config, observer, TerminalApprover::new(Asking::Nobody))?;
        runtime.settle_orphans().await?;
        match runtime.store.run(run)?.status {
            // Why was told.
            RunStatus::Running => Err(CliError::failed(format!("run {run} could not be brought to rest"))),
            status => Ok(status),
        }
    })?
}
