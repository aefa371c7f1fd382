//! `homarus config path`

use homarus_api::config::PathResponse;

use crate::{dirs::Dirs, exit::CliError, put};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print the response as JSON, with the folders of state and weights
    #[arg(long)]
    json: bool,
}

impl Args {
    pub fn execute(self) -> Result<u8, CliError> {
        let dirs = Dirs::from_env()?;
        let file = dirs.config_file();
        let response = PathResponse {
            exists: file.is_file(),
            file: file.display().to_string(),
            state: dirs.state.display().to_string(),
            models: dirs.models.display().to_string(),
        };
        if self.json {
            put::json(&response)?;
        } else {
            put::line(&response.file)?;
            if !response.exists {
                put::note(match file.symlink_metadata() {
                    Err(_) => "there is no such file yet: every default holds",
                    Ok(_) => "what stands there is no file that can be read: what needs it refuses to work",
                });
            }
        }
        Ok(0)
    }
}
