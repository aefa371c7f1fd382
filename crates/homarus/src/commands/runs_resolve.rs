//! `homarus runs resolve`

use clap::ValueEnum;
use homarus_api::runs::ResolveResponse;
use homarus_contract::{
    event::{Event, Resolution, WaitingOn},
    journal::{Append, Journal},
};

use super::{find_run, runs_show};
use crate::{env, exit::CliError, put, wiring};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A run's id, a unique beginning of it, or `last`
    run: String,
    /// What became of the call
    decision: Decision,
    /// Print the response as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Decision {
    /// It happened; the agent is told so
    Done,
    /// It did not happen; the agent is told so
    Failed,
    /// Run it again
    Repeat,
}

impl Args {
    pub fn execute(self) -> Result<u8, CliError> {
        let store = wiring::open()?;
        let run = find_run(store.as_ref(), &self.run)?;
        let detail = runs_show::detail(store.as_ref(), &run)?;
        let Some(call) = detail.unknown else {
            return Err(CliError::failed(format!("no call of run {run} has an unknown outcome"))
                .help("an interrupted run goes on with `homarus runs resume`"));
        };
        let decision = match self.decision {
            Decision::Done => Resolution::Done,
            Decision::Failed => Resolution::Failed,
            Decision::Repeat => Resolution::Repeat,
        };
        wiring::block_on(async {
            let fence = store.claim(run.clone()).await?;
            let mut append = Append::new(fence);
            append.push(Event::Resolved { call: call.clone(), decision, who: format!("cli:{}", env::user()) });
            append.push(Event::Waiting { on: WaitingOn::Resume { who: String::new() } });
            let fence = store.append(append).await?;
            store.release(fence).await
        })??;
        if self.json {
            put::json(&ResolveResponse { run, call, decision })?;
        } else {
            put::line(&format!("noted; go on with: homarus runs resume {run}"))?;
        }
        Ok(0)
    }
}
