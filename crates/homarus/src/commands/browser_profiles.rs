//! `homarus browser profiles`

use homarus_api::browser::{ProfileRow, ProfilesResponse};

use crate::{browser, dirs::Dirs, exit::CliError, put, show::style::Style};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print the response as JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    pub fn execute(self) -> Result<u8, CliError> {
        let listed = browser::shelf(&Dirs::from_env()?)
            .list()
            .map_err(|error| CliError::failed("the browser profiles cannot be read").cause(error))?;
        let row = |profile: homarus_tools::browser::Listed| ProfileRow {
            name: profile.name,
            bytes: profile.bytes,
            in_use: profile.is_in_use,
        };
        let response = ProfilesResponse { profiles: listed.into_iter().map(row).collect() };
        if self.json {
            put::json(&response)?;
        } else {
            print(&response)?;
        }
        Ok(0)
    }
}

fn print(response: &ProfilesResponse) -> Result<(), CliError> {
    let style = Style::for_stdout();
    if response.profiles.is_empty() {
        return put::line("no profiles; name one in `browser.profile`, or in `browser_profile` of an agent");
    }
    for row in &response.profiles {
        let used = if row.in_use { style.yellow("  in use") } else { String::new() };
        put::line(&format!("{:24} {:>8} KiB{used}", row.name, row.bytes.div_ceil(1024)))?;
    }
    Ok(())
}
