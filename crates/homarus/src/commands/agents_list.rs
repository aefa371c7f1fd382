//! `homarus agents list`

use homarus_agent::folder::{self, AgentFolder, TEMPLATES};
use homarus_api::agents::{AgentRow, ListResponse};
use homarus_contract::text::one_line;

use crate::{agents, dirs::Dirs, exit::CliError, put, show::style::Style};

/// Of what an agent's folder says: it may have been copied from anywhere.
const TEXT_CHARS_MAX: usize = 200;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print the response as JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    pub fn execute(self) -> Result<u8, CliError> {
        let dirs = Dirs::from_env()?;
        let current = agents::current(&dirs)?;
        let rows = folder::names(&dirs.agents)?.into_iter().map(|name| {
            let opened = AgentFolder::open(&dirs.agents, &name);
            let definition = opened.as_ref().ok().map(|agent| &agent.definition);
            AgentRow {
                current: current.as_ref() == Some(&name),
                name: name.to_string(),
                description: definition.map_or_else(String::new, |definition| definition.description.clone()),
                models: definition.map_or_else(Vec::new, |definition| definition.models.clone()),
                error: opened.err().map(|error| error.to_string()),
            }
        });
        let templates = TEMPLATES.iter().map(|template| template.name.to_owned()).collect();
        let response = ListResponse { agents: rows.collect(), templates };
        if self.json {
            put::json(&response)?
        } else {
            print(&response)?
        }
        Ok(0)
    }
}

fn print(response: &ListResponse) -> Result<(), CliError> {
    let style = Style::for_stdout();
    if response.agents.is_empty() {
        return put::line(&format!(
            "no agents yet; make one with: homarus agents create NAME [--template {}]",
            response.templates.join("|")
        ));
    }
    for row in &response.agents {
        let mark = if row.current { style.green("*") } else { " ".to_owned() };
        let text = match &row.error {
            Some(error) => style.red(&one_line(error.lines().next().unwrap_or_default(), TEXT_CHARS_MAX)),
            None => one_line(&row.description, TEXT_CHARS_MAX),
        };
        let models: Vec<String> = row.models.iter().map(ToString::to_string).collect();
        let models = one_line(&models.join(", "), TEXT_CHARS_MAX);
        let models = if models.is_empty() { String::new() } else { format!("  {}", style.dim(&models)) };
        put::line(&format!("{mark} {:20} {text}{models}", row.name))?;
    }
    Ok(())
}
