//! `homarus tools show`

use homarus_api::tools::{Bound, Tool};

use super::tools_list::{tools, word};
use crate::{exit::CliError, nearest::nearest, put, show::style::Style};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A tool's name, for example file.read
    tool: String,
    /// The agent whose tools these are; the current one if absent
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// Print the response as JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    pub fn execute(self) -> Result<u8, CliError> {
        let tools = tools(self.agent.as_deref())?;
        let tool = find(tools, &self.tool)?;
        if self.json {
            put::json(&tool)?;
        } else {
            print(&tool)?;
        }
        Ok(0)
    }
}

/// The tool a person means.
pub fn find(tools: Vec<Tool>, name: &str) -> Result<Tool, CliError> {
    let names: Vec<String> = tools.iter().map(|tool| tool.name.clone()).collect();
    tools.into_iter().find(|tool| tool.name == name).ok_or_else(|| {
        let meant = nearest(name, names.iter().map(String::as_str));
        let all = || format!("the tools are {}", names.join(", "));
        CliError::usage(format!("there is no tool {name:?}"))
            .help(meant.map_or_else(all, |meant| format!("did you mean {meant}? `homarus tools list` shows all")))
    })
}

fn print(tool: &Tool) -> Result<(), CliError> {
    let style = Style::for_stdout();
    let offered = tool.why_not.as_ref().map_or_else(|| "yes".to_owned(), |why_not| format!("no: {why_not}"));
    for (name, value) in [
        ("tool", style.bold(&tool.name)),
        ("for", tool.description.clone()),
        ("class", word(&tool.class)),
        ("scope", word(&tool.scope)),
        ("limits", tool.limits.clone()),
        ("per call", bounds(&tool.bounds)),
        ("offered", offered),
    ]
    .into_iter()
    .filter(|(_, value)| !value.is_empty())
    {
        put::line(&format!("{} {value}", style.dim(&format!("{name:>8}"))))?;
    }
    put::line(&format!("{} {:#}", style.dim(&format!("{:>8}", "schema")), tool.schema))
}

/// As they are named in the configuration.
fn bounds(bounds: &[Bound]) -> String {
    let told = bounds.iter().map(|bound| {
        let own = if bound.is_own { " (its own)" } else { "" };
        format!("{} {}{own}", bound.name, bound.value)
    });
    told.collect::<Vec<_>>().join(", ")
}
