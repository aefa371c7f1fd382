//! `homarus chat`

use std::{io::IsTerminal, path::PathBuf, sync::Arc};

use homarus_contract::{event::Chosen, model::ModelRef};
use homarus_driver::ports::Observer;

use super::run::{Answering, Approvals, parse_usd, read_policy};
use crate::{
    chat::{
        conversation::{Conversation, Settings},
        desk::{AskHere, Desk},
        plain,
        terminal::Chat,
    },
    config::{self, Config},
    dirs::{self, Dirs},
    env,
    exit::CliError,
    wiring::{self, Runtime},
};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A conversation to go on with: its run's id, a unique beginning of it, or `last`; without it, a new one
    run: Option<String>,
    /// The model, as PROVIDER/MODEL; given more than once, the next is asked when one is down
    #[arg(long, value_name = "PROVIDER/MODEL", conflicts_with = "run")]
    model: Vec<ModelRef>,
    /// The agent (default: the one `homarus agents switch` chose, else none)
    #[arg(long, value_name = "NAME", conflicts_with = "run")]
    agent: Option<String>,
    /// The folder to work in
    #[arg(long, value_name = "DIR", conflicts_with = "run")]
    workspace: Option<PathBuf>,
    /// What happens when a rule says ask (default: ask; without a terminal, deny)
    #[arg(long, value_enum, conflicts_with = "run")]
    approvals: Option<Approvals>,
    #[command(flatten)]
    answering: Answering,
    /// Most the conversation may cost, in USD
    #[arg(long, value_name = "USD", value_parser = parse_usd, conflicts_with = "run")]
    budget_usd: Option<f64>,
    /// A file of rules that is looked at before the configured ones
    #[arg(long, value_name = "FILE", conflicts_with = "run")]
    policy: Option<PathBuf>,
    /// Read messages from standard input, one a line, and print one JSON event a line
    #[arg(long)]
    json: bool,
}

impl Args {
    pub fn execute(self) -> Result<u8, CliError> {
        let dirs = Dirs::from_env()?;
        let config = Config::load(&dirs)?;
        let settings = self.settings()?;
        let at_terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
        if at_terminal && !self.json && !env::wants_plain_lines() && !self.answering.is_elsewhere() {
            return wiring::block_on(self.at_terminal(dirs, config, settings))?;
        }
        wiring::block_on(self.plainly(dirs, config, settings))?
    }

    async fn at_terminal(&self, dirs: Dirs, config: Config, settings: Settings) -> Result<u8, CliError> {
        let desk = Arc::new(Desk::default());
        let observer: Arc<dyn Observer> = desk.clone();
        let runtime = Runtime::build(&dirs, &config, |_| observer, AskHere(desk.clone()))?;
        let mut conversation = Conversation::new(runtime, dirs, config, settings);
        let found = match &self.run {
            Some(run) => Some(conversation.open(run).await?),
            None => None,
        };
        conversation.runtime.settle_orphans().await?;
        // What can fail early fails before the terminal is taken.
        let about = conversation.about().await?;
        Chat::new(conversation, desk)?.run(found, about).await
    }

    async fn plainly(&self, dirs: Dirs, config: Config, settings: Settings) -> Result<u8, CliError> {
        let observer = |store: &_| wiring::observer(self.json, store);
        let runtime = Runtime::build(&dirs, &config, observer, self.answering.approver())?;
        let mut conversation = Conversation::new(runtime, dirs, config, settings);
        let found = match &self.run {
            Some(run) => Some(conversation.open(run).await?),
            None => None,
        };
        conversation.runtime.settle_orphans().await?;
        plain::run(conversation, found, self.json).await
    }

    fn settings(&self) -> Result<Settings, CliError> {
        Ok(Settings {
            models: self.model.clone(),
            agent: self.agent.clone(),
            workspace: dirs::workspace(self.workspace.as_deref())?,
            approvals: self.answering.mode(self.approvals),
            chosen: Chosen {
                rules: self.policy.as_deref().map(read_policy).transpose()?,
                cost_max: self.budget_usd.map(config::nano_usd),
                ..Chosen::default()
            },
        })
    }
}
