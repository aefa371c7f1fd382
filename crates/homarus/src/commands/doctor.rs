//! `homarus doctor`

use homarus_api::doctor::{CheckResponse, Finding, Severity};
use homarus_contract::text::one_line;

use crate::{
    dirs::Dirs,
    doctor,
    exit::{self, CliError},
    put,
    show::style::Style,
};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only these matters, such as `disk` or `journal`; everything if absent
    #[arg(value_name = "MATTER")]
    matters: Vec<String>,
    /// Show only what is not as it should be
    #[arg(long, short)]
    quiet: bool,
    /// Print the response as JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    pub fn execute(self) -> Result<u8, CliError> {
        let response = doctor::examine(&Dirs::from_env()?, &self.matters, self.json)?;
        if self.json {
            put::json(&response)?;
        } else {
            print(&response, self.quiet)?;
        }
        Ok(if response.ok { exit::DONE } else { exit::FAILED })
    }
}

fn print(response: &CheckResponse, quiet: bool) -> Result<(), CliError> {
    let style = Style::for_stdout();
    let shown = |finding: &&Finding| !quiet || finding.severity >= Severity::Warning;
    let width = response.findings.iter().map(|finding| finding.id.len()).max().unwrap_or(0).min(ID_WIDTH_MAX);
    for finding in response.findings.iter().filter(shown) {
        let mark = match finding.severity {
            Severity::Ok => style.good(),
            Severity::Info => style.idle(),
            Severity::Warning => style.doubtful(),
            Severity::Error => style.bad(),
        };
        put::line(&format!("{mark} {:width$}  {}", finding.id, one_line(&finding.what, TEXT_CHARS_MAX)))?;
        for (label, text) in [("cause", &finding.cause), ("fix", &finding.fix)] {
            if let Some(text) = text {
                put::line(&format!("  {:width$}  {label}: {}", "", one_line(text, TEXT_CHARS_MAX)))?;
            }
        }
    }
    let counted = format!(
        "{}, {}",
        put::counted(response.errors.into(), "error"),
        put::counted(response.warnings.into(), "warning")
    );
    put::line(&match (response.errors, response.warnings) {
        (0, 0) => style.green("nothing is wrong"),
        (0, _) => style.yellow(&counted),
        _ => style.red(&counted),
    })
}

const ID_WIDTH_MAX: usize = 32;
const TEXT_CHARS_MAX: usize = 600;
