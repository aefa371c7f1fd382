//! `homarus skills show`

use crate::{dirs::Dirs, exit::CliError, skills, wiring};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The skill's name
    skill: String,
    /// Print the response as JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    pub fn execute(self) -> Result<u8, CliError> {
        let shelf = wiring::shelf(&Dirs::from_env()?)?;
        skills::put(skills::find(&shelf, &self.skill)?, self.json)?;
        Ok(0)
    }
}
