//! `homarus runs configure`

use std::path::PathBuf;

use homarus_api::runs::ConfigureResponse;
use homarus_contract::model::ModelRef;

use super::{
    find_run,
    run::{Approvals, read_policy},
};
use crate::{
    approver::{Asking, TerminalApprover},
    config::Config,
    conversation::{self, Change},
    dirs::Dirs,
    exit::CliError,
    put,
    wiring::{self, Runtime},
};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A run's id, a unique beginning of it, or `last`; one that is under way is changed where its step ends
    run: String,
    /// The model from here on, as PROVIDER/MODEL; given more than once, the next is asked when one is down
    #[arg(long, value_name = "PROVIDER/MODEL")]
    model: Vec<ModelRef>,
    /// The agent from here on: its persona, memory, tools and grants
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// What happens from here on when a rule says ask
    #[arg(long, value_enum)]
    approvals: Option<Approvals>,
    /// A file of rules that is looked at before the configured ones; both are read anew
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    pub fn execute(self) -> Result<u8, CliError> {
        let dirs = Dirs::from_env()?;
        let config = Config::load(&dirs)?;
        wiring::block_on(async {
            let observer = |store: &_| wiring::observer(self.json, store);
            let runtime = Runtime::build(&dirs, &config, observer, TerminalApprover::new(Asking::Nobody))?;
            runtime.settle_orphans().await?;
            let run = find_run(runtime.store.as_ref(), &self.run)?;
            let policy = match &self.policy {
                None => None,
                Some(path) => Some((path.display().to_string(), read_policy(path)?)),
            };
            let change = Change {
                models: self.model,
                agent: self.agent,
                approvals: self.approvals.map(Approvals::mode),
                policy,
                who: conversation::who("cli"),
            };
            let (changed, pending) = runtime.reconfigure(&dirs, &config, &run, change).await?;
            if self.json {
                put::json(&ConfigureResponse { run, changed, pending })?;
            } else if pending {
                put::line(&format!("run {run}, where its step ends: {changed}"))?;
            } else {
                put::line(&format!("run {run}: {changed}"))?;
            }
            Ok(0)
        })?
    }
}
