//! `homarus runs resume-all`: after a crash, everything it interrupted goes on.
//!
//! All runs are taken over first, so that none stays without an owner while others are worked on; then so many at a
//! time are driven until they rest.

use std::{collections::BTreeSet, sync::Arc, time::Instant};

use futures_util::{StreamExt, future, stream};
use homarus_api::runs::{Ended, ResumeAllResponse};
use homarus_contract::{
    event::Event,
    ids::RunId,
    journal::{Fence, Journal, JournalError, RunStatus},
    text::one_line,
};
use homarus_driver::{
    Control,
    ports::{Live, Observer},
};

use crate::{
    approver::{Asking, TerminalApprover},
    choose,
    config::Config,
    conversation,
    dirs::Dirs,
    exit::{self, CliError},
    put,
    show::{json::JsonLines, style::Style},
    signals,
    wiring::{self, Runtime},
};

/// The newest runs, among which paused ones are looked for.
const PAUSED_LOOKED_AT_MAX: u32 = 10_000;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Also runs that rest because they were stopped with Ctrl-C, or because a later command brought them to rest
    #[arg(long)]
    paused: bool,
    /// How many are worked on at the same time
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=256))]
    at_once: u32,
    /// Print one JSON event a line; the last line is the response
    #[arg(long)]
    json: bool,
}

/// The line that says that all runs are in our hands.
#[derive(serde::Serialize)]
struct TakenLine {
    kind: &'static str,
    taken: u64,
    busy: u64,
    took_ms: u64,
}

#[derive(serde::Serialize)]
struct EndLine<'a> {
    kind: &'static str,
    #[serde(flatten)]
    ended: &'a Ended,
}

#[derive(serde::Serialize)]
struct LastLine<'a> {
    kind: &'static str,
    #[serde(flatten)]
    response: &'a ResumeAllResponse,
}

/// Runs of many at once cannot be shown together; how each ends is.
struct Silent;

impl Observer for Silent {
    fn event(&self, _run: &RunId, _seq: u64, _at_ms: u64, _event: &Event) {}
    fn live(&self, _run: &RunId, _seq: u64, _offset: u64, _live: &Live) {}
}

impl Args {
    pub fn execute(self) -> Result<u8, CliError> {
        let dirs = Dirs::from_env()?;
        let config = Config::load(&dirs)?;
        wiring::block_on(async {
            let observer = |_: &_| -> Arc<dyn Observer> {
                if self.json { Arc::new(JsonLines::default()) } else { Arc::new(Silent) }
            };
            // Questions of several runs at once would be answered by mistake: a run that has one rests.
            let runtime = Runtime::build(&dirs, &config, observer, TerminalApprover::new(Asking::Nobody))?;
            let began = Instant::now();
            let (fences, busy) = self.take_over(&runtime).await?;
            self.told_of_taking(fences.len() as u64, busy, began)?;
            let (response, code) = self.drive_all(&runtime, fences, busy).await?;
            self.told_of_end(&response)?;
            Ok(code)
        })?
    }

    /// Claims them all together: claims that wait share a commit.
    async fn take_over(&self, runtime: &Runtime) -> Result<(Vec<Fence>, u64), CliError> {
        let store = &runtime.store;
        let mut runs: BTreeSet<RunId> = store.orphans()?.into_iter().collect();
        if self.paused {
            let rows = store.runs(PAUSED_LOOKED_AT_MAX)?;
            runs.extend(rows.into_iter().filter(|row| row.status == RunStatus::Paused).map(|row| row.run));
        }
        let (mut fences, mut busy) = (Vec::with_capacity(runs.len()), 0);
        for claimed in future::join_all(runs.into_iter().map(|run| store.claim(run))).await {
            match claimed {
                Ok(fence) => fences.push(fence),
                // Another process was faster.
                Err(JournalError::Busy(_) | JournalError::AlreadyFinished(_)) => busy += 1,
                Err(error) => return Err(error.into()),
            }
        }
        Ok((fences, busy))
    }

    /// The second: the worst of their exit codes.
    async fn drive_all(
        &self,
        runtime: &Arc<Runtime>,
        fences: Vec<Fence>,
        busy: u64,
    ) -> Result<(ResumeAllResponse, u8), CliError> {
        let mut response = ResumeAllResponse { taken: fences.len() as u64, busy, ..ResumeAllResponse::default() };
        let control = Control::default();
        let watcher = tokio::spawn(signals::watch(control.clone()));
        let lives = fences.into_iter().map(|fence| {
            let run = fence.run().clone();
            let control = &control;
            async move { (run, drive(runtime, fence, control).await) }
        });
        let mut lives = stream::iter(lives).buffer_unordered(self.at_once as usize);
        let mut code = exit::DONE;
        while let Some((run, ended)) = lives.next().await {
            match &ended {
                Ok(ended) => {
                    count(&mut response, ended);
                    code = worse(code, ended.exit_code);
                    self.told_of(ended)?;
                }
                // The others go on.
                Err(error) => {
                    response.failed += 1;
                    code = worse(code, exit::FAILED);
                    put::say!("run {run} could not go on: {}", error.short());
                }
            }
        }
        watcher.abort();
        Ok((response, code))
    }

    fn told_of_taking(&self, taken: u64, busy: u64, began: Instant) -> Result<(), CliError> {
        let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        if self.json {
            return line(&TakenLine { kind: "all_taken_over", taken, busy, took_ms });
        }
        put::say!("took over {} in {}", put::counted(taken, "run"), put::duration(took_ms));
        if busy > 0 {
            put::say!("{} in the hands of another process", put::counted(busy, "run"));
        }
        Ok(())
    }

    fn told_of(&self, ended: &Ended) -> Result<(), CliError> {
        if self.json {
            return line(&EndLine { kind: "run_ended", ended });
        }
        let style = Style::for_stdout();
        let word = format!("{:13}", ended.status.as_str());
        let word = if ended.status == RunStatus::Completed { style.green(&word) } else { style.yellow(&word) };
        put::line(&format!("{}  {word}  {}", ended.run_id, one_line(&ended.summary, 80)))?;
        if let Some(next) = &ended.next {
            put::line(&format!("    next: {next}"))?;
        }
        Ok(())
    }

    fn told_of_end(&self, response: &ResumeAllResponse) -> Result<(), CliError> {
        if self.json {
            return line(&LastLine { kind: "all_ended", response });
        }
        put::say!(
            "{} completed, {} ended otherwise, {} waiting, {} paused, {} failed",
            response.completed,
            response.ended_otherwise,
            response.waiting,
            response.paused,
            response.failed
        );
        Ok(())
    }
}

async fn drive(runtime: &Arc<Runtime>, fence: Fence, control: &Control) -> Result<Ended, CliError> {
    let run = fence.run().clone();
    let models = conversation::current(runtime.store.as_ref(), &run).map(|accepted| accepted.models);
    if let Err(error) = models.and_then(|models| choose::check_any(&models, runtime)) {
        // As it was: others may go on with it while we are at work.
        runtime.store.release(fence).await?;
        return Err(error);
    }
    runtime.drive_until(run, fence, control).await
}

fn count(response: &mut ResumeAllResponse, ended: &Ended) {
    *match ended.status {
        RunStatus::Completed => &mut response.completed,
        // A conversation whose turn is over waits for nothing that was asked of it.
        RunStatus::Waiting if ended.exit_code == exit::DONE => &mut response.completed,
        RunStatus::Waiting => &mut response.waiting,
        RunStatus::Paused | RunStatus::Running => &mut response.paused,
        RunStatus::Failed => &mut response.failed,
        RunStatus::Denied | RunStatus::OutOfBudget | RunStatus::Cancelled => &mut response.ended_otherwise,
    } += 1;
}

/// As `docs/exit-codes.md` has it.
fn worse(one: u8, other: u8) -> u8 {
    const WORST_FIRST: [u8; 6] = [exit::FAILED, exit::CANCELLED, exit::PAUSED, exit::DENIED, exit::WAITING, exit::DONE];
    let place = |code| WORST_FIRST.iter().position(|known| *known == code);
    if place(other) < place(one) { other } else { one }
}

fn line(what: &impl serde::Serialize) -> Result<(), CliError> {
    put::line(&serde_json::to_string(what).map_err(CliError::failed)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_code_is_that_of_all() {
        let check = |codes: &[u8], worst| assert_eq!(codes.iter().copied().fold(exit::DONE, worse), worst, "{codes:?}");
        check(&[], 0);
        check(&[0, 4, 3], 3);
        check(&[130, 3, 5], 130);
        check(&[5, 4], 5);
        check(&[130, 1, 0], 1);
    }
}
