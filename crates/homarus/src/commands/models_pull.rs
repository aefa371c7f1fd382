//! `homarus models pull`

use homarus_api::models::PullResponse;

use crate::{config::Config, dirs::Dirs, exit::CliError, put, weights};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A name from `homarus models list`; the configured one if absent
    name: Option<String>,
    /// Print the response as JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    pub fn execute(self) -> Result<u8, CliError> {
        let dirs = Dirs::from_env()?;
        let name = match self.name {
            Some(name) => name,
            None => Config::load(&dirs)?.models.local.name,
        };
        let entry = weights::find(&name)?;
        let pulled = weights::pull(&entry, &dirs.models, self.json)?;
        let response = PullResponse {
            name: entry.name.clone(),
            path: pulled.path.display().to_string(),
            bytes: entry.bytes,
            sha256: entry.sha256.clone(),
            downloaded: pulled.downloaded,
        };
        if self.json {
            put::json(&response)?;
        } else if response.downloaded {
            put::line(&format!("{} is in {}", response.name, response.path))?;
        } else {
            put::line(&format!("{} is there already: {}", response.name, response.path))?;
        }
        Ok(0)
    }
}
