//! `homarus runs cancel`

use homarus_api::runs::CancelResponse;
use homarus_contract::{
    event::{Event, FinishStatus},
    journal::{Append, Journal, JournalError},
};

use super::find_run;
use crate::{exit::CliError, put, wiring};

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
        let ended = wiring::block_on(async {
            store.request_cancel(run.clone()).await?;
            match store.claim(run.clone()).await {
                // Nobody works on it: it ends here.
                Ok(fence) => {
                    let mut append = Append::new(fence);
                    let summary = "Cancelled.".to_owned();
                    append.push(Event::Finished { status: FinishStatus::Cancelled, summary });
                    store.append(append).await.map(|_| true)
                }
                Err(JournalError::Busy(_)) => Ok(false),
                Err(error) => Err(error),
            }
        })??;
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
