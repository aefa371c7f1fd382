//! `homarus browser clear`

use homarus_api::browser::ClearResponse;
use homarus_tools::browser::ProfileName;

use crate::{browser, dirs::Dirs, exit::CliError, put};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The profile's name
    profile: String,
    /// Print the response as JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    pub fn execute(self) -> Result<u8, CliError> {
        let help = "`homarus browser profiles` lists them";
        let name = ProfileName::parse(&self.profile).map_err(|error| CliError::usage(error).help(help))?;
        if !browser::shelf(&Dirs::from_env()?).clear(&name).map_err(CliError::failed)? {
            return Err(CliError::usage(format!("there is no browser profile {}", name.as_str())).help(help));
        }
        if self.json {
            put::json(&ClearResponse { profile: self.profile })?;
        } else {
            put::line(&format!("the browser profile {} is gone, with its cookies", name.as_str()))?;
        }
        Ok(0)
    }
}
