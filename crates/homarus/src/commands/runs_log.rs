//! `homarus runs log`

use std::time::Duration;

use homarus_contract::{
    event::{Event, Record, WaitingOn},
    ids::{Hash, RunId},
    journal::Journal,
    message::Block,
    text::{neutralise, one_line},
};
use homarus_store::Store;

use super::find_run;
use crate::{
    exit::{self, CliError},
    put,
    show::{EventLine, human::plain_arguments, style::Style},
    wiring,
};

const PAGE: u32 = 500;
const POLL: Duration = Duration::from_millis(100);

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A run's id, a unique beginning of it, or `last`
    run: String,
    /// Go on printing events as they come, until the run ends
    #[arg(long, short)]
    follow: bool,
    /// Print everything a call printed, whole
    #[arg(long)]
    output: bool,
    /// Print one JSON event a line
    #[arg(long)]
    json: bool,
}

impl Args {
    pub fn execute(self) -> Result<u8, CliError> {
        let store = wiring::read_journal()?;
        let run = find_run(store.as_ref(), &self.run)?;
        let mut after = 0;
        loop {
            let records = store.read(&run.stream(), after, PAGE)?;
            for record in &records {
                self.print(&store, &run, record)?;
                after = record.seq;
                // `homarus runs log --follow ... | head -1`
                if put::is_unread(Duration::ZERO) {
                    return Ok(exit::DONE);
                }
            }
            if records.len() == PAGE as usize {
                continue;
            }
            if !self.follow || store.run(&run)?.status.is_final() || put::is_unread(POLL) {
                return Ok(exit::DONE);
            }
        }
    }

    fn print(&self, store: &Store, run: &RunId, record: &Record) -> Result<(), CliError> {
        if self.json {
            let line = serde_json::to_string(&EventLine::of(run, record)).map_err(CliError::failed)?;
            return put::line(&line);
        }
        let style = Style::for_stdout();
        let kind = format!("{:18}", record.event.kind());
        put::line(&format!(
            "{} {} {} {}",
            style.dim(&format!("{:>4}", record.seq)),
            style.dim(&put::time(record.at_ms)),
            style.bold(&kind),
            told(&record.event)
        ))?;
        if let Event::ActResult(result) = &record.event {
            if self.output {
                print_blob(store, result.whole.as_ref().unwrap_or(&result.shown))?;
            }
            if !result.diff.text.is_empty() {
                put::line(&style.diff(&neutralise(&result.diff.text)))?;
            }
        }
        Ok(())
    }
}

fn print_blob(store: &Store, hash: &Hash) -> Result<(), CliError> {
    let bytes = store.blob(hash)?;
    put::line(&neutralise(&String::from_utf8_lossy(&bytes)))
}

/// An event in one line.
fn told(event: &Event) -> String {
    let text = match event {
        Event::Accepted(accepted) => accepted.inbound.text.clone(),
        Event::TakenOver { driver } => driver.to_string(),
        Event::Forked { run, step, events } => format!("{events} events of run {run}, up to its step {step}"),
        Event::Said { inbound } => inbound.text.clone(),
        Event::Reconfigured(change) => format!("{} by {}", change.why, change.who),
        Event::ModelIntent { step, attempt, model, reserved, prompt } => format!(
            "step {step}, attempt {attempt}: {model}, {} + {} parts, {} tokens reserved",
            prompt.kept,
            prompt.added.len(),
            put::count(reserved.tokens)
        ),
        Event::BlockDone { block: Block::Text { text }, .. } => text.clone(),
        Event::BlockDone { block: Block::ToolCall(call), .. } => {
            format!("{} {} {}", call.call, call.name, plain_arguments(&call.arguments))
        }
        Event::ModelResult { stop, usage, cost, wall_ms, .. } => format!(
            "{stop:?}: {} tokens, ${}, {}",
            put::count(usage.total_tokens()),
            cost.map_or_else(|| "unknown".to_owned(), put::usd),
            put::duration(*wall_ms)
        ),
        Event::BlockDone { block: Block::Thought(thought), .. } => {
            format!("{} sealed bytes of reasoning of {}", thought.json.len(), thought.model)
        }
        Event::ModelFailed { model, class, message, .. } | Event::ModelBroke { model, class, message, .. } => {
            format!("{model}: {class:?}: {message}")
        }
        Event::ModelSkipped { model, why, retry_in_ms, .. } => {
            format!("{model}: {why}; asked again in {}", put::duration(*retry_in_ms))
        }
        Event::Judged { action, judgement, .. } => {
            format!("{} {:?} by {}", action.call, judgement.verdict, judgement.rule)
        }
        Event::Denied { call, reason } | Event::Discarded { call, reason } => format!("{call}: {reason}"),
        Event::ApprovalRequested { call, hash, .. } => format!("{call} {}", hash.short()),
        Event::ApprovalDecided { call, approval } => {
            let word = if approval.granted { "approved" } else { "refused" };
            format!("{call} {word} by {} {}", approval.who, approval.why)
        }
        Event::ActIntent { call, class, tier, attempt, .. } => format!("{call} {class:?} {tier:?} attempt {attempt}"),
        Event::ActResult(result) => format!(
            "{} {} in {}, {} changed",
            result.call,
            if result.is_error { "failed" } else { "done" },
            put::duration(result.wall_ms),
            result.diff.changes.len()
        ),
        Event::Merged { call, report } => {
            format!("{call} {} merged, {} conflicts", report.merged.len(), report.conflicts.len())
        }
        Event::OutcomeUnknown { call } => call.to_string(),
        Event::Resolved { call, decision, who } => format!("{call} {decision:?} by {who}"),
        Event::Nudged { reason, text } => format!("{reason}: {text}"),
        Event::BoundHit { bound, limit } => format!("{bound} {limit}"),
        Event::Waiting { on: WaitingOn::Resume(pause) } => pause.to_string(),
        Event::Waiting { on } => format!("{on:?}"),
        Event::TurnEnded { status, summary } | Event::Finished { status, summary } => format!("{status:?}: {summary}"),
        Event::Checkpoint { stream, seq, .. } => format!("{stream} at {seq}"),
        Event::Deleted { stream, seq, who, .. } => format!("{stream} at {seq} by {who}"),
    };
    one_line(&text, 200)
}
