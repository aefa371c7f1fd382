//! Driving runs to their rest, and telling how they ended.

use std::sync::Arc;

use homarus_api::runs::Ended as EndedResponse;
use homarus_contract::{
    event::{Accepted, Event, FinishStatus, WaitingOn},
    ids::RunId,
    journal::{Append, Fence, Journal, JournalError, RunStatus},
    machine::Machine,
};
use homarus_driver::{Control, DriverError, Ended};
use homarus_store::Store;

use super::Runtime;
use crate::{
    conversation,
    exit::{self, CliError},
    machines::Machines,
    put,
    reload::{self, Reloader, Slot},
    show::style::Style,
    signals::{self, HangUps, Reading},
};

impl Runtime {
    /// Drives a run until it rests, tells how it ended, and gives the exit code. On SIGHUP it goes on under the
    /// configuration as it is then.
    pub async fn drive(
        self: &Arc<Self>,
        run: RunId,
        fence: Fence,
        reloader: Reloader,
        json: bool,
    ) -> Result<u8, CliError> {
        let control = Control::default();
        let slot = Slot::default();
        let hang_ups = HangUps::listen()?;
        let reading = Reading { reloader, runtime: self.clone(), run: run.clone(), slot: slot.clone() };
        let watchers = [
            tokio::spawn(signals::watch(control.clone())),
            tokio::spawn(signals::watch_hang_ups(hang_ups, control.clone(), reading)),
        ];
        let ended = reload::drive(self.clone(), &run, fence, &control, &slot).await;
        watchers.iter().for_each(tokio::task::JoinHandle::abort);
        let response = self.response(run, ended?)?;
        if json {
            put::line(&serde_json::to_string(&end_line(&self.store, &response)?).map_err(CliError::failed)?)?;
        } else {
            tell_end(&self.store, &response)?;
        }
        Ok(response.exit_code)
    }

    /// The same, and tells nobody.
    pub async fn drive_silently(self: &Arc<Self>, run: RunId, fence: Fence) -> Result<EndedResponse, CliError> {
        let control = Control::default();
        let watcher = tokio::spawn(signals::watch(control.clone()));
        let ended = self.drive_until(run, fence, &control).await;
        watcher.abort();
        ended
    }

    /// The same, until `control` stops it, which may be that of many runs.
    pub async fn drive_until(
        self: &Arc<Self>,
        run: RunId,
        fence: Fence,
        control: &Control,
    ) -> Result<EndedResponse, CliError> {
        let ended = reload::drive(self.clone(), &run, fence, control, &Slot::default()).await?;
        self.response(run, ended)
    }

    /// Drives a run until it rests or is handed back. What it held outside of the journal, a browser, ends when it rests.
    pub async fn drive_to_rest(&self, fence: Fence, control: &Control) -> Result<Ended, DriverError> {
        let run = fence.run().clone();
        let ended = self.driver.drive(fence, control).await;
        if !matches!(ended, Ok(Ended::HandedBack { .. })) {
            self.end_browser(&run).await;
        }
        ended
    }

    /// Another runtime goes on with the run, and knows nothing of its browser.
    pub async fn end_browser(&self, run: &RunId) {
        self.browsers.end(run).await;
    }

    /// Ends a run that was marked to be ended: here if nobody drives it, else its driver does. `false`: that has not come to
    /// it yet.
    pub async fn cancel(&self, run: &RunId) -> Result<bool, CliError> {
        let fence = match conversation::claim(self.store.as_ref(), run).await {
            Ok(fence) => fence,
            Err(JournalError::Busy(_)) => return Ok(false),
            Err(JournalError::AlreadyFinished(_)) if self.store.run(run)?.status == RunStatus::Cancelled => {
                return Ok(true);
            }
            Err(error) => return Err(error.into()),
        };
        match self.can_settle(run) {
            Ok(true) => {
                self.driver.cancel(fence, &Control::default()).await?;
            }
            // Nobody can say what of it is open; it ends as it is, and keeps nobody busy any more.
            Ok(false) => {
                let mut append = Append::new(fence);
                append.push(Event::Finished { status: FinishStatus::Cancelled, summary: "Cancelled.".to_owned() });
                self.store.append(append).await?;
            }
            Err(error) => {
                self.store.release(fence).await?;
                return Err(error.into());
            }
        }
        Ok(true)
    }

    /// Whether this version understands what a run has begun, and has told the guard what it may do.
    fn can_settle(&self, run: &RunId) -> Result<bool, JournalError> {
        let records = match self.store.read_all(run) {
            Ok(records) => records,
            Err(JournalError::Damaged(_)) => return Ok(false),
            Err(error) => return Err(error),
        };
        let Some(now) = Accepted::current(&records) else { return Ok(false) };
        Ok(Machines.knows(&now.machine) && self.guard.register(run, &now.profile, &now.budget).is_ok())
    }

    fn response(&self, run: RunId, ended: Ended) -> Result<EndedResponse, CliError> {
        let row = self.store.run(&run)?;
        let is_message = ended == Ended::Waiting(WaitingOn::Message);
        let mut is_interrupted = false;
        let (status, summary, next) = match ended {
            Ended::Finished { status, summary } => (exit::status_of(status), summary, None),
            Ended::Paused(pause) | Ended::Waiting(WaitingOn::Resume(pause)) => {
                is_interrupted = pause.is_interruption();
                (RunStatus::Paused, pause.to_string(), Some(format!("homarus runs resume {run}")))
            }
            Ended::HandedBack { .. } => (RunStatus::Running, "It was handed back.".to_owned(), None),
            Ended::Waiting(WaitingOn::Resolution { call }) => (
                RunStatus::Waiting,
                format!("Nobody knows whether call {call} happened."),
                Some(format!("homarus runs resolve {run} done|failed|repeat")),
            ),
            Ended::Waiting(WaitingOn::Approval { call }) => (
                RunStatus::Waiting,
                format!("Call {call} waits for approval."),
                Some(format!(
                    "homarus runs show {run}, then homarus runs approve {run}, then homarus runs resume {run}"
                )),
            ),
            Ended::Waiting(WaitingOn::Message) => {
                let last = crate::commands::runs_show::detail(self.store.as_ref(), &run)?.summary.unwrap_or_default();
                (RunStatus::Waiting, last, Some(format!("homarus runs say {run} \"MESSAGE\"")))
            }
        };
        let exit_code = match status {
            _ if is_message => exit::DONE,
            RunStatus::Paused if !is_interrupted => exit::PAUSED,
            status => exit::code_of(status),
        };
        Ok(EndedResponse {
            exit_code,
            cost_usd: row.cost_known.then(|| put::usd(row.budget.used.cost)),
            used: row.budget.used,
            run_id: run,
            status,
            summary,
            next,
        })
    }
}

/// The last line of `--json`.
#[derive(serde::Serialize)]
struct EndLine<'a> {
    seq: u64,
    kind: &'static str,
    #[serde(flatten)]
    ended: &'a EndedResponse,
}

fn end_line<'a>(store: &Store, ended: &'a EndedResponse) -> Result<EndLine<'a>, CliError> {
    Ok(EndLine { seq: store.run(&ended.run_id)?.events, kind: "run_ended", ended })
}

fn tell_end(store: &Store, ended: &EndedResponse) -> Result<(), CliError> {
    let style = Style::for_stderr();
    let detail = crate::commands::runs_show::detail(store, &ended.run_id)?;
    if ended.status != RunStatus::Completed {
        put::say!("{}", homarus_contract::text::one_line(&ended.summary, 600));
    }
    let word = ended.status.as_str();
    let word = if ended.status == RunStatus::Completed { style.green(word) } else { style.red(word) };
    let cost = ended.cost_usd.as_ref().map_or_else(|| "cost unknown".to_owned(), |usd| format!("${usd}"));
    let b = style.between();
    put::say!(
        "\n{word}{b}{} steps{b}{} calls{b}{} tokens in, {} cached, {} out{b}{cost}{b}{}{b}run {}",
        detail.steps,
        detail.calls,
        put::count(detail.input_tokens),
        put::count(detail.cached_tokens),
        put::count(detail.output_tokens),
        put::duration(detail.wall_ms),
        ended.run_id
    );
    if let Some(next) = &ended.next {
        put::say!("next: {next}");
    }
    Ok(())
}
