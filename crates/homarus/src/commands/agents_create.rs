//! `homarus agents create`

use homarus_agent::folder::{AgentFolder, TEMPLATES, template};

use super::agents_show;
use crate::{dirs::Dirs, exit::CliError, put};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Its name: 1 to 64 small letters, digits and hyphens
    agent: String,
    /// The template: base, worker, coder, researcher, quick, creative or small
    #[arg(long, value_name = "NAME", default_value = "base")]
    template: String,
    /// Print the response as JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    pub fn execute(self) -> Result<u8, CliError> {
        let dirs = Dirs::from_env()?;
        let template = template(&self.template).ok_or_else(|| {
            let names: Vec<&str> = TEMPLATES.iter().map(|template| template.name).collect();
            CliError::usage(format!("there is no template {:?}", self.template))
                .help(format!("the templates are {}", names.join(", ")))
        })?;
        let agent = AgentFolder::create(&dirs.agents, &self.agent.parse()?, template)?;
        if self.json {
            put::json(&agents_show::detail(&dirs, &agent)?)?;
        } else {
            put::line(&format!("made {}", agent.path.display()))?;
            put::line(&format!("use it with: homarus run --agent {0}, or homarus agents switch {0}", agent.name))?;
        }
        Ok(0)
    }
}
