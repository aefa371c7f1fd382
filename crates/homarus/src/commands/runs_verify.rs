//! `homarus runs verify`

use homarus_api::runs::{Finding, VerifyResponse};
use homarus_contract::text::one_line;

use super::find_run;
use crate::{exit, exit::CliError, put, show::style::Style, wiring};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only this run; everything if absent
    run: Option<String>,
    /// Print the response as JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    pub fn execute(self) -> Result<u8, CliError> {
        let store = wiring::read_journal()?;
        let run = self.run.as_deref().map(|text| find_run(store.as_ref(), text)).transpose()?;
        let report = store.verify(run.as_ref())?;
        let response = VerifyResponse {
            ok: report.findings.is_empty(),
            streams: report.streams,
            events: report.events,
            blobs: report.blobs,
            findings: report
                .findings
                .iter()
                .map(|finding| Finding {
                    stream: finding.stream.clone().unwrap_or_else(|| "journal".to_owned()),
                    seq: finding.seq,
                    what: finding.what.clone(),
                })
                .collect(),
        };
        if self.json {
            put::json(&response)?;
        } else {
            print(&response)?;
        }
        Ok(if response.ok { exit::DONE } else { exit::FAILED })
    }
}

fn print(response: &VerifyResponse) -> Result<(), CliError> {
    let style = Style::for_stdout();
    for finding in &response.findings {
        let at = finding.seq.map_or_else(String::new, |seq| format!(" event {seq}"));
        put::line(
            &style.red(&one_line(&format!("{} {}{at}: {}", style.sign("✗"), finding.stream, finding.what), 500)),
        )?;
    }
    let counted = format!(
        "{} streams, {} events, {} blobs",
        put::count(response.streams),
        put::count(response.events),
        put::count(response.blobs)
    );
    if response.ok {
        put::line(&style.green(&format!("{} whole: {counted}", style.sign("✓"))))
    } else {
        put::line(&format!("{} findings in {counted}", response.findings.len()))
    }
}
