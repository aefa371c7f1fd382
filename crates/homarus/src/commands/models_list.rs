//! `homarus models list`

use homarus_api::models::{EmbeddedRow, ListResponse};
use homarus_contract::text::one_line;

use crate::{
    approver::{Asking, TerminalApprover},
    choose,
    config::Config,
    dirs::Dirs,
    exit::CliError,
    put,
    show::style::Style,
    weights,
    wiring::{self, Runtime},
};

const MODELS_SHOWN_MAX: usize = 12;
const NAME_CHARS_MAX: usize = 200;
const NOTE_CHARS_MAX: usize = 400;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print the response as JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    pub fn execute(self) -> Result<u8, CliError> {
        let dirs = Dirs::from_env()?;
        let config = Config::load(&dirs)?;
        let providers = wiring::block_on(async {
            let approver = TerminalApprover::new(Asking::Nobody);
            let runtime = Runtime::build(&dirs, &config, |store| wiring::observer(false, store), approver)?;
            Ok::<_, CliError>(choose::providers(&runtime).await)
        })??;
        let embedded = weights::catalogue()?
            .into_iter()
            .map(|entry| {
                let path = dirs.models.join(&entry.file);
                EmbeddedRow {
                    present: path.is_file(),
                    path: path.display().to_string(),
                    bytes: entry.bytes,
                    name: entry.name,
                }
            })
            .collect();
        let response = ListResponse { providers, embedded };
        if self.json {
            put::json(&response)?
        } else {
            print(&response)?
        }
        Ok(0)
    }
}

/// Names and notes are what servers said.
fn print(response: &ListResponse) -> Result<(), CliError> {
    let style = Style::for_stdout();
    for row in &response.providers {
        let mark = if row.ready { style.good() } else { style.idle() };
        let note = row.note.as_ref().map(|note| format!("  {}", style.dim(&one_line(note, NOTE_CHARS_MAX))));
        let address = one_line(&row.address, NAME_CHARS_MAX);
        put::line(&format!("{mark} {:10} {address}{}", row.provider, note.unwrap_or_default()))?;
        for model in row.models.iter().take(MODELS_SHOWN_MAX) {
            put::line(&format!("    {}/{}", row.provider, one_line(model, NAME_CHARS_MAX)))?;
        }
        if row.models.len() > MODELS_SHOWN_MAX {
            put::line(&format!("    ... {} more (--json lists all)", row.models.len() - MODELS_SHOWN_MAX))?;
        }
    }
    put::line("embedded models")?;
    for row in &response.embedded {
        let state =
            if row.present { style.green("here") } else { style.dim(&format!("homarus models pull {}", row.name)) };
        put::line(&format!("    local/{:24} {:>6} MB  {state}", row.name, row.bytes / 1_000_000))?;
    }
    Ok(())
}
