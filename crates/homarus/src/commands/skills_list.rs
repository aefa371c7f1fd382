//! `homarus skills list`

use homarus_api::skills::{Broken, ListResponse};

use crate::{dirs::Dirs, exit::CliError, put, show::style::Style, skills, wiring};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print the response as JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    pub fn execute(self) -> Result<u8, CliError> {
        let shelf = wiring::shelf(&Dirs::from_env()?)?;
        let broken = |(folder, error): &(String, homarus_agent::skill::SkillError)| Broken {
            folder: folder.clone(),
            error: error.to_string(),
        };
        let response = ListResponse {
            skills: shelf.skills.iter().map(skills::row).collect(),
            broken: shelf.broken.iter().map(broken).collect(),
        };
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
    if response.skills.is_empty() && response.broken.is_empty() {
        return put::line("no skills yet; add one with: homarus skills add FOLDER");
    }
    for row in &response.skills {
        let mark = if row.offered { style.green("✓") } else { style.red("✗") };
        let found = match (row.errors, row.warnings) {
            (0, 0) => String::new(),
            (errors, warnings) => style.yellow(&format!("  ({errors} errors, {warnings} warnings)")),
        };
        put::line(&format!("{mark} {:24} {}{found}", row.name, skills::first_line(&row.description)))?;
    }
    for broken in &response.broken {
        put::line(&format!(
            "{} {:24} {}",
            style.red("!"),
            skills::first_line(&broken.folder),
            homarus_contract::text::one_line(&broken.error, 300)
        ))?;
    }
    Ok(())
}
