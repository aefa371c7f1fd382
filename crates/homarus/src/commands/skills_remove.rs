//! `homarus skills remove`

use homarus_api::skills::RemoveResponse;

use crate::{
    dirs::Dirs,
    exit::CliError,
    put,
    skills::{self, keep},
    wiring,
};

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
        let dirs = Dirs::from_env()?;
        let shelf = wiring::shelf(&dirs)?;
        let folder = &skills::find(&shelf, &self.skill)?.skill.folder;
        std::fs::remove_dir_all(folder)
            .map_err(|error| CliError::failed(format!("{} cannot be deleted", folder.display())).cause(error))?;
        keep::note(&self.skill, None, &dirs.skills)?;
        if self.json {
            put::json(&RemoveResponse { skill: self.skill })?;
        } else {
            put::line(&format!("the skill {} is deleted", self.skill))?;
        }
        Ok(0)
    }
}
