//! `homarus agents show`

use std::path::Path;

use homarus_agent::folder::{self, AgentFolder, DEFINITION_FILE, MEMORY_BYTES_DEFAULT, Memory};
use homarus_api::agents::{AgentDetail, FileRow};
use homarus_contract::text::one_line;

use crate::{agents, dirs::Dirs, exit::CliError, put, show::style::Style};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The agent's name
    agent: String,
    /// Print the response as JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    pub fn execute(self) -> Result<u8, CliError> {
        let dirs = Dirs::from_env()?;
        let detail = detail(&dirs, &agents::find(&dirs, &self.agent)?)?;
        if self.json {
            put::json(&detail)?
        } else {
            print(&detail)?
        }
        Ok(0)
    }
}

pub fn detail(dirs: &Dirs, agent: &AgentFolder) -> Result<AgentDetail, CliError> {
    let definition = &agent.definition;
    let (files, notes) = folder::memory_of(&agent.path);
    let memory = Memory::pack(&files, notes, definition.memory_bytes_max.unwrap_or(MEMORY_BYTES_DEFAULT));
    Ok(AgentDetail {
        name: agent.name.to_string(),
        folder: agent.path.display().to_string(),
        description: definition.description.clone(),
        current: agents::current(dirs)?.as_ref() == Some(&agent.name),
        models: definition.models.clone(),
        persona: definition.persona.clone(),
        tools: definition.tools.clone(),
        grants: definition.grants.clone(),
        tier: definition.tier,
        files: agents::FILES.into_iter().filter_map(|name| row(&agent.path, name)).collect(),
        notes: memory.notes,
    })
}

fn row(folder: &Path, name: &str) -> Option<FileRow> {
    let bytes = folder.join(name).symlink_metadata().ok()?.len();
    Some(FileRow { name: name.to_owned(), bytes })
}

/// An agent's folder may have been copied from anywhere. Nothing is cut: of grants none is to be missed.
fn shown(text: &str) -> String {
    one_line(text, usize::MAX)
}

fn print(detail: &AgentDetail) -> Result<(), CliError> {
    let style = Style::for_stdout();
    let listed = |all: &Option<Vec<String>>, absent: &str| match all {
        None => absent.to_owned(),
        Some(all) if all.is_empty() => "none".to_owned(),
        Some(all) => shown(&all.join(", ")),
    };
    let models: Vec<String> = detail.models.iter().map(ToString::to_string).collect();
    let files: Vec<String> = detail.files.iter().map(|file| format!("{} ({} bytes)", file.name, file.bytes)).collect();
    let lines = [
        ("agent", format!("{}{}", style.bold(&detail.name), if detail.current { " (current)" } else { "" })),
        ("for", shown(&detail.description)),
        ("models", if models.is_empty() { "as configured".to_owned() } else { shown(&models.join(", ")) }),
        ("tools", listed(&detail.tools, "all")),
        ("grants", listed(&detail.grants, "as configured")),
        ("tier", format!("{:?}", detail.tier).to_lowercase()),
        ("folder", shown(&detail.folder)),
        ("files", files.join(", ")),
    ];
    for (name, value) in lines {
        put::line(&format!("{} {value}", style.dim(&format!("{name:>8}"))))?;
    }
    for note in &detail.notes {
        put::line(&style.yellow(&format!("    note {}", shown(note))))?;
    }
    put::line(
        &style.dim(&format!("change it with: homarus agents edit {} [{DEFINITION_FILE}|SOUL.md|...]", detail.name)),
    )
}
