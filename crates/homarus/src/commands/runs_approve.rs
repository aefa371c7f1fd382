//! `homarus runs approve`

use homarus_api::runs::ApproveResponse;
use homarus_contract::{gate::Approval, ids::CallId, journal::Journal, text::one_line};

use super::{find_run, runs_show};
use crate::{env, exit::CliError, put, wiring};

const SUMMARY_CHARS_MAX: usize = 400;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A run's id, a unique beginning of it, or `last`
    run: String,
    /// The call that is asked about; needed only to be sure
    call: Option<CallId>,
    /// Say no instead
    #[arg(long)]
    deny: bool,
    /// Why; the agent is told
    #[arg(long, default_value = "")]
    why: String,
    /// Print the response as JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    pub fn execute(self) -> Result<u8, CliError> {
        let store = wiring::open()?;
        let run = find_run(store.as_ref(), &self.run)?;
        let detail = runs_show::detail(store.as_ref(), &run)?;
        let Some(question) = detail.question else {
            return Err(CliError::failed(format!("run {run} has no open question")));
        };
        if self.call.as_ref().is_some_and(|call| *call != question.call) {
            return Err(CliError::failed(format!("the open question of run {run} is about call {}", question.call)));
        }
        let approval = Approval {
            hash: question.hash,
            granted: !self.deny,
            who: format!("cli:{}", env::user()),
            why: self.why.chars().take(1_000).collect(),
        };
        let granted = approval.granted;
        wiring::block_on(store.leave_answer(run.clone(), question.call.clone(), approval))??;
        let driver_alive = detail.row.owner_alive;
        if self.json {
            put::json(&ApproveResponse { run, call: question.call, granted, driver_alive })?;
        } else {
            put::line(&answered(granted, &question.summary))?;
            if !driver_alive {
                put::line(&format!("go on with: homarus runs resume {run}"))?;
            }
        }
        Ok(0)
    }
}

/// What came of the question. A model chose words of the summary: they may try to look like something else.
fn answered(granted: bool, summary: &str) -> String {
    let word = if granted { "approved" } else { "refused" };
    format!("{word}: {}", one_line(summary, SUMMARY_CHARS_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_moves_no_cursor_and_forges_no_line() {
        let summary = "write a\x1b[2K\rapproved: nothing\nb\u{202e}txt";
        assert_eq!(answered(false, summary), "refused: write a␛[2K␍approved: nothing b\u{fffd}txt");
        assert!(answered(true, &"x".repeat(1_000)).len() < 500);
    }
}
