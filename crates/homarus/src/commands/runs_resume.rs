//! `homarus runs resume`

use std::time::Duration;

use homarus_contract::{
    ids::RunId,
    journal::{Fence, Journal, JournalError},
};

use super::{find_run, run::Answering};
use crate::{
    choose,
    config::Config,
    conversation,
    dirs::Dirs,
    exit::CliError,
    wiring::{self, Runtime},
};

/// The sandboxes of a driver that was killed hold its lock until they are gone, which takes a moment.
const CLAIM_TRIES: u32 = 20;
const CLAIM_PAUSE: Duration = Duration::from_millis(50);

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A run's id, a unique beginning of it, or `last`
    run: String,
    #[command(flatten)]
    answering: Answering,
    /// Print one JSON event a line
    #[arg(long)]
    json: bool,
}

impl Args {
    pub fn execute(self) -> Result<u8, CliError> {
        let dirs = Dirs::from_env()?;
        let config = Config::load(&dirs)?;
        wiring::block_on(async {
            let observer = |store: &_| wiring::observer(self.json, store);
            let runtime = Runtime::build(&dirs, &config, observer, self.answering.approver())?;
            let run = find_run(runtime.store.as_ref(), &self.run)?;
            choose::check_any(&conversation::current(runtime.store.as_ref(), &run)?.models, &runtime)?;
            let fence = claim(runtime.store.as_ref(), &run).await?;
            runtime.drive(run, fence, self.json).await
        })?
    }
}

async fn claim(journal: &dyn Journal, run: &RunId) -> Result<Fence, JournalError> {
    for _ in 1..CLAIM_TRIES {
        match journal.claim(run.clone()).await {
            Err(JournalError::Busy(_)) => tokio::time::sleep(CLAIM_PAUSE).await,
            claimed => return claimed,
        }
    }
    journal.claim(run.clone()).await
}
