//! `homarus agents switch`

use homarus_api::agents::SwitchResponse;

use crate::{agents, dirs::Dirs, exit::CliError, put};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The agent that runs shall have which name none
    #[arg(required_unless_present = "none")]
    agent: Option<String>,
    /// No agent
    #[arg(long, conflicts_with = "agent")]
    none: bool,
    /// Print the response as JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    pub fn execute(self) -> Result<u8, CliError> {
        let dirs = Dirs::from_env()?;
        let agent = self.agent.as_deref().map(|name| agents::find(&dirs, name)).transpose()?;
        agents::switch(&dirs, agent.as_ref())?;
        let agent = agent.map(|agent| agent.name.to_string());
        if self.json {
            put::json(&SwitchResponse { agent })?;
        } else {
            put::line(&match agent {
                Some(name) => format!("runs have the agent {name} from now on"),
                None => "runs have no agent from now on".to_owned(),
            })?;
        }
        Ok(0)
    }
}
