//! `homarus runs list`

use homarus_api::runs::ListResponse;
use homarus_contract::{
    journal::{Journal, RunRow, RunStatus},
    text::one_line,
};

use crate::{exit::CliError, put, show::style::Style, wiring};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// How many, newest first
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
    /// Print the response as JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    pub fn execute(self) -> Result<u8, CliError> {
        let runs = match wiring::open_read_only()? {
            Some(store) => store.runs(self.limit)?,
            None => Vec::new(),
        };
        if self.json {
            put::json(&ListResponse { runs })?;
            return Ok(0);
        }
        if runs.is_empty() {
            put::line("There are no runs yet. Start one with: homarus run \"PROMPT\"")?;
            return Ok(0);
        }
        let style = Style::for_stdout();
        put::line(
            &style
                .dim(&format!("{:18}  {:19}  {:13}  {:>7}  {}", "RUN", "STARTED (UTC)", "STATUS", "COST $", "REQUEST")),
        )?;
        for row in &runs {
            put::line(&line(row, style))?;
        }
        Ok(0)
    }
}

fn line(row: &RunRow, style: Style) -> String {
    let status = format!("{:13}", status_word(row));
    let status = match row.status {
        RunStatus::Completed => style.green(&status),
        RunStatus::Failed | RunStatus::Denied | RunStatus::OutOfBudget => style.red(&status),
        _ => style.yellow(&status),
    };
    let cost = if row.cost_known { put::usd(row.budget.used.cost) } else { "unknown".to_owned() };
    format!("{}  {}  {status}  {cost:>7}  {}", row.run, put::time(row.created_ms), one_line(&row.prompt, 60))
}

/// `interrupted` is a run that is marked running and whose driver is gone.
pub fn status_word(row: &RunRow) -> &'static str {
    if row.status == RunStatus::Running && !row.owner_alive { "interrupted" } else { row.status.as_str() }
}
