//! `homarus tools list`

use std::sync::Arc;

use homarus_agent::folder::AgentFolder;
use homarus_api::tools::{Bound, ListResponse, Tool as Row};
use homarus_contract::tool::Tool;

use crate::{
    agents, browser, choose,
    config::{
        Config,
        check::{self, Checked},
        file::UserFile,
        keys::Keys,
    },
    dirs::Dirs,
    exit::CliError,
    put,
    show::style::Style,
    wiring,
};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The agent whose tools these are; the current one if absent
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// Print the response as JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    pub fn execute(self) -> Result<u8, CliError> {
        let response = ListResponse { tools: tools(self.agent.as_deref())? };
        if self.json {
            put::json(&response)?;
        } else {
            print(&response)?;
        }
        Ok(0)
    }
}

/// All tools, and whether a run of this agent is offered them.
pub fn tools(agent: Option<&str>) -> Result<Vec<Row>, CliError> {
    let dirs = Dirs::from_env()?;
    let file = UserFile::of(&dirs)?;
    let config = Config::parse(file.text(), &file.path)?;
    let agent = agents::chosen(&dirs, agent)?;
    let (_, vault) = choose::options(&dirs, &config)?;
    let vault = Arc::new(vault);
    let browsers = browser::browsers(&dirs, &config, vault.clone(), Arc::new(browser::NotHere))?;
    let keys = Keys::all()?;
    let checked = check::sound(file.text(), &file.path, &keys)?;
    let mut rows = rows(&wiring::tools(&config, vault, Arc::new(wiring::shelf(&dirs)?), browsers)?, agent.as_ref())?;
    for row in &mut rows {
        row.bounds = bounds(&row.name, &keys, &checked);
    }
    Ok(rows)
}

fn bounds(tool: &str, keys: &Keys, checked: &Checked) -> Vec<Bound> {
    let bound = |(name, key)| {
        let value = checked.value(key).0.as_integer().and_then(|value| u64::try_from(value).ok())?;
        Some(Bound { name: str::to_owned(name), value, is_own: checked.set(&key.path).is_some() })
    };
    keys.of_tool(tool).filter_map(bound).collect()
}

/// The same of tools that are at hand, without what is configured for their calls.
pub fn rows(tools: &[Arc<dyn Tool>], agent: Option<&AgentFolder>) -> Result<Vec<Row>, CliError> {
    let known: Vec<String> = tools.iter().map(|tool| tool.definition().name).collect();
    let wanted = agents::tools(agent, &known)?;
    let reference = agent.map(agents::reference);
    tools
        .iter()
        .map(|tool| {
            let definition = tool.definition();
            let left_out = wanted.is_some_and(|wanted| !wanted.contains(&definition.name));
            let not_wanted = left_out.then(|| "the agent's `tools` leave it out".to_owned());
            let why_not = tool.unavailable(reference.as_ref()).or(not_wanted);
            Ok(Row {
                schema: serde_json::from_str(&definition.schema).map_err(CliError::failed)?,
                name: definition.name,
                description: definition.description,
                class: tool.class(),
                scope: tool.scope(),
                limits: tool.limits(),
                bounds: Vec::new(),
                offered: why_not.is_none(),
                why_not,
            })
        })
        .collect()
}

fn print(response: &ListResponse) -> Result<(), CliError> {
    let style = Style::for_stdout();
    for tool in &response.tools {
        let name = format!("{:14}", tool.name);
        let name = if tool.offered { style.bold(&name) } else { style.dim(&name) };
        put::line(&format!("{name} {:10} {}", word(&tool.class), tool.description))?;
        if let Some(why_not) = &tool.why_not {
            put::line(&format!("{:14} {:10} {}", "", "", style.yellow(&format!("not offered: {why_not}"))))?;
        }
    }
    Ok(())
}

/// A value as its JSON form names it: `read`, `unkeyed`, ...
pub fn word(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default().trim_matches('"').to_owned()
}
