//! `homarus agents delete`

use std::io::IsTerminal;

use homarus_api::agents::DeleteResponse;

use crate::{agents, dirs::Dirs, exit::CliError, put};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The agent's name
    agent: String,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Print the response as JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    pub fn execute(self) -> Result<u8, CliError> {
        let dirs = Dirs::from_env()?;
        let agent = agents::find(&dirs, &self.agent)?;
        if !self.yes && !confirmed(&format!("delete agent {} with its memory?", agent.name))? {
            return Err(CliError::failed("nothing was deleted"));
        }
        if agents::current(&dirs).ok().flatten().as_ref() == Some(&agent.name) {
            agents::switch(&dirs, None)?;
        }
        let name = agent.name.to_string();
        agent.delete()?;
        if self.json {
            put::json(&DeleteResponse { agent: name })?;
        } else {
            put::line(&format!("agent {name} is deleted"))?;
        }
        Ok(0)
    }
}

/// Asks on the terminal; without one, `--yes` has to be given.
pub fn confirmed(question: &str) -> Result<bool, CliError> {
    if !std::io::stdin().is_terminal() {
        return Err(CliError::usage("nobody is here to confirm it").help("give --yes"));
    }
    put::ask(&format!("{question} [y/N] "));
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).map_err(CliError::failed)?;
    Ok(matches!(line.trim(), "y" | "Y" | "yes"))
}
