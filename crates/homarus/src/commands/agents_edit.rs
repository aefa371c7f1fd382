//! `homarus agents edit`

use homarus_agent::folder::{DEFINITION_FILE, Definition};
use homarus_api::agents::EditResponse;

use crate::{agents, config::file::UserFile, dirs::Dirs, editor, exit::CliError, nearest::did_you_mean, put};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The agent's name
    agent: String,
    /// Which of its files: agent.toml, IDENTITY.md, SOUL.md, USER.md, AGENTS.md or MEMORY.md
    #[arg(default_value = DEFINITION_FILE)]
    file: String,
    /// Print the response as JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    pub fn execute(self) -> Result<u8, CliError> {
        let dirs = Dirs::from_env()?;
        // Its definition may be what has to be mended, so it is not read here.
        let folder = agents::folder_of(&dirs, &self.agent)?;
        if !agents::FILES.contains(&self.file.as_str()) {
            return Err(CliError::usage(format!("{:?} is no file of an agent", self.file)).help(did_you_mean(
                &self.file,
                agents::FILES,
                &format!("the files are {}", agents::FILES.join(", ")),
            )));
        }
        let file = UserFile::read(&folder.join(&self.file))?;
        let before = file.text().to_owned();
        let is_definition = self.file == DEFINITION_FILE;
        let changed = editor::edit(&file, &before, |edited| {
            let problem = if is_definition { Definition::parse(edited.text()).err() } else { None };
            Ok(problem)
        })?;
        let response = EditResponse { agent: self.agent, file: self.file, changed };
        if self.json {
            put::json(&response)?;
        } else {
            let what = if changed { "is changed" } else { "stays as it was" };
            put::line(&format!("{} of {} {what}", response.file, response.agent))?;
        }
        Ok(0)
    }
}
