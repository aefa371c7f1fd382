//! `homarus sandbox probe`

use homarus_api::sandbox::ProbeResponse;

use crate::{exit, exit::CliError, put, show::style::Style, wiring};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print the response as JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    pub fn execute(self) -> Result<u8, CliError> {
        let response = wiring::probe()?;
        if self.json {
            put::json(&response)?;
        } else {
            print(&response)?;
        }
        Ok(if response.ok { exit::DONE } else { exit::FAILED })
    }
}

fn print(response: &ProbeResponse) -> Result<(), CliError> {
    let style = Style::for_stdout();
    for check in &response.checks {
        let mark = if check.ok { style.good() } else { style.bad() };
        put::line(&format!("{mark} {:14} {}", check.id, check.detail))?;
        if let Some(fix) = check.fix.as_ref().filter(|_| !check.ok) {
            put::line(&format!("  {:14} fix: {fix}", ""))?;
        }
    }
    put::line(&if response.ok {
        style.green(&format!("the sandbox {} is available", response.backend))
    } else {
        style.red("no sandbox is available: calls are refused until this is mended")
    })
}
