//! `homarus skills allow`

use crate::{dirs::Dirs, exit::CliError, skills, wiring};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The skill's name: what was found in it is shown, and these contents may be offered from now on
    skill: String,
    /// Print the response as JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    pub fn execute(self) -> Result<u8, CliError> {
        let dirs = Dirs::from_env()?;
        let shelf = wiring::shelf(&dirs)?;
        let shelved = skills::find(&shelf, &self.skill)?;
        shelf
            .allow(&shelved.skill)
            .map_err(|error| CliError::failed("what is allowed cannot be written").cause(error))?;
        let shelf = wiring::shelf(&dirs)?;
        skills::put(skills::find(&shelf, &self.skill)?, self.json)?;
        Ok(0)
    }
}
