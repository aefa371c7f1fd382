//! `homarus runs configure`

use std::path::PathBuf;

use homarus_api::runs::ConfigureResponse;
use homarus_contract::{event::Reconfigured, model::ModelRef};

use super::{find_run, run::Approvals};
use crate::{
    approver::{Asking, TerminalApprover},
    choose,
    config::Config,
    conversation,
    dirs::Dirs,
    exit::CliError,
    put,
    wiring::{self, Runtime},
};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A run that rests: its id, a unique beginning of it, or `last`
    run: String,
    /// The model from here on, as PROVIDER/MODEL; given more than once, the next is asked when one is down
    #[arg(long, value_name = "PROVIDER/MODEL")]
    model: Vec<ModelRef>,
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
            let change = self.change(&config, &runtime, &run).await?;
            let why = change.why.clone();
            runtime.reconfigure(&run, change, Vec::new()).await?;
            if self.json {
                put::json(&ConfigureResponse { run, changed: why })?;
            } else {
                put::line(&format!("run {run}: {why}"))?;
            }
            Ok(0)
        })?
    }

    async fn change(
        &self,
        config: &Config,
        runtime: &Runtime,
        run: &homarus_contract::ids::RunId,
    ) -> Result<Reconfigured, CliError> {
        let now = conversation::current(runtime.store.as_ref(), run)?;
        let mut change = Reconfigured::by(conversation::who("cli"));
        let mut why = Vec::new();
        if !self.model.is_empty() {
            let choice = choose::models(&self.model, config, runtime).await?;
            why.push(format!("model {}", choice.names()));
            change.models = Some(choice.models);
        }
        let mode = self.approvals.map(Approvals::mode);
        if self.policy.is_some() || mode.is_some() {
            let mut profile = now.profile;
            if let Some(path) = &self.policy {
                profile = wiring::profile(config, Some(super::run::read_policy(path)?), profile.approvals)?;
                why.push(format!("rules of {}", path.display()));
            }
            if let Some(mode) = mode {
                profile.approvals = mode;
                why.push(format!("approvals {mode:?}").to_lowercase());
            }
            change.profile = Some(profile);
        }
        if why.is_empty() {
            return Err(CliError::usage("nothing is to be changed").help("give --model, --approvals or --policy"));
        }
        change.why = why.join(", ");
        Ok(change)
    }
}
