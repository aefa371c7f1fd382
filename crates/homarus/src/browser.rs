//! The browser of runs, as it is configured: which Chromium, which profile, and where profiles are kept.

use std::{path::PathBuf, sync::Arc};

use homarus_agent::folder::{DEFINITION_FILE, Definition};
use homarus_contract::{
    egress::Egress,
    event::AgentRef,
    guest::{Guest, GuestLauncher, GuestSpec},
    sandbox::SandboxError,
};
use homarus_guard::Hosts;
use homarus_tools::browser::{Browsers, Options, ProfileName, Shelf};

use crate::{config::Config, dirs::Dirs, env, exit::CliError};

/// Looked for in this order.
const PROGRAMS: [&str; 4] = ["chromium", "chromium-browser", "google-chrome-stable", "google-chrome"];

pub fn browsers(
    dirs: &Dirs,
    config: &Config,
    egress: Arc<dyn Egress>,
    launcher: Arc<dyn GuestLauncher>,
) -> Result<Arc<Browsers>, CliError> {
    let common = named(&config.browser.profile)
        .map_err(|error| CliError::usage("`browser.profile` of the configuration cannot be used").cause(error))?;
    Ok(Browsers::new(Options {
        program: program(config),
        shelf: shelf(dirs),
        profile_of: Box::new(move |agent| of_agent(agent, common.as_ref())),
        memory_bytes: config.browser.memory_mb.saturating_mul(1 << 20),
        launcher,
        egress,
        rules: Arc::new(Hosts),
    }))
}

/// Chromium's executable.
pub fn program(config: &Config) -> Option<PathBuf> {
    let named = &config.browser.program;
    if named.as_os_str().is_empty() { env::on_path(&PROGRAMS) } else { Some(named.clone()) }
}

/// Where profiles are kept.
pub fn shelf(dirs: &Dirs) -> Shelf {
    Shelf::new(dirs.state.join("browser"))
}

/// Empty: none.
fn named(text: &str) -> Result<Option<ProfileName>, String> {
    if text.is_empty() { Ok(None) } else { ProfileName::parse(text).map(Some) }
}

fn of_agent(agent: Option<&AgentRef>, common: Option<&ProfileName>) -> Result<Option<ProfileName>, String> {
    let Some(agent) = agent else { return Ok(common.cloned()) };
    let path = agent.folder.join(DEFINITION_FILE);
    if !path.exists() {
        return Ok(common.cloned());
    }
    let definition = Definition::read(&path).map_err(|error| error.to_string())?;
    match definition.browser_profile {
        None => Ok(common.cloned()),
        Some(own) => named(&own),
    }
}

/// For what only lists tools.
pub struct NotHere;

impl GuestLauncher for NotHere {
    fn launch_guest(&self, _spec: GuestSpec) -> Result<Guest, SandboxError> {
        Err(SandboxError::Unavailable {
            reason: "this command makes no calls".to_owned(),
            fix: "use `homarus tools call` or `homarus run`".to_owned(),
        })
    }
}
