//! `homarus runs cancel`

use std::sync::Arc;

use homarus_api::runs::CancelResponse;
use homarus_contract::{ids::RunId, journal::Journal};
use homarus_store::Store;

use super::find_run;
use crate::{
    approver::{Asking, TerminalApprover},
    config::Config,
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
        let ended = wiring::block_on(cancel(store.as_ref(), &run))??;
        if self.json {
            put::json(&CancelResponse { run, ended })?;
        } else if ended {
            put::line(&format!("run {run} is cancelled"))?;
        } else {
            put::line(&format!("run {run} is told to stop"))?;
        }
        Ok(0)
    }
}

/// Whether it has ended; else its driver has yet to come to it.
async fn cancel(store: &Store, run: &RunId) -> Result<bool, CliError> {
    // Whoever works on it sees this, also when nothing can be done from here.
    store.request_cancel(run.clone()).await?;
    match runtime() {
        Ok(runtime) => runtime.cancel(run).await,
        Err(_) if store.run(run)?.owner_alive => Ok(false),
        Err(error) => Err(error),
    }
}

fn runtime() -> Result<Arc<Runtime>, CliError> {
    let dirs = Dirs::from_env()?;
    let config = Config::load(&dirs)?;
    let observer = |store: &_| wiring::observer(false, store);
    Runtime::build(&dirs, &config, observer, TerminalApprover::new(Asking::Nobody))
}
