//! `homarus runs resolve`

use clap::ValueEnum;
use homarus_api::runs::ResolveResponse;
use homarus_contract::{
    event::{Event, Pause, Resolution, WaitingOn},
    ids::{CallId, RunId},
    journal::{Append, Journal},
};

use super::{find_run, runs_show};
use crate::{conversation, env, exit::CliError, put, wiring};

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
        let call = unknown(store.as_ref(), &run)?;
        let decision = match self.decision {
            Decision::Done => Resolution::Done,
            Decision::Failed => Resolution::Failed,
            Decision::Repeat => Resolution::Repeat,
        };
        wiring::block_on(async {
            let fence = conversation::claim(store.as_ref(), &run).await?;
            // Somebody else may have said it, or gone on with the run, before it was in our hands.
            match unknown(store.as_ref(), &run) {
                Ok(now) if now == call => {}
                other => {
                    conversation::give_back(store.as_ref(), fence).await?;
                    return Err(other.err().unwrap_or_else(|| changed(&run)));
                }
            }
            let mut append = Append::new(fence);
            append.push(Event::Resolved { call: call.clone(), decision, who: format!("cli:{}", env::user()) });
            append.push(Event::Waiting { on: WaitingOn::Resume(Pause::default()) });
            let fence = store.append(append).await?;
            store.release(fence).await?;
            Ok::<(), CliError>(())
        })??;
        if self.json {
            put::json(&ResolveResponse { run, call, decision })?;
        } else {
            put::line(&format!("noted; go on with: homarus runs resume {run}"))?;
        }
        Ok(0)
    }
}

/// The call of which nobody knows whether it happened.
fn unknown(journal: &dyn Journal, run: &RunId) -> Result<CallId, CliError> {
    runs_show::detail(journal, run)?.unknown.ok_or_else(|| {
        CliError::failed(format!("no call of run {run} has an unknown outcome"))
            .help("an interrupted run goes on with `homarus runs resume`")
    })
}

fn changed(run: &RunId) -> CliError {
    CliError::failed(format!("run {run} has gone on meanwhile, and asks about another call"))
        .help(format!("see `homarus runs show {run}`"))
}
