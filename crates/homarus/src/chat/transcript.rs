//! What happened, as lines of a chat: text as it streams, each tool call on one line.
//!
//! Past turns from the journal and the turn that is under way go through here alike. Text is shown as it streams,
//! events when they are durable: an event may come while later text of the same answer streams already.

#[cfg(test)]
mod tests;

use std::{collections::VecDeque, time::Instant};

use homarus_contract::{
    event::{ActResult, Event, FinishStatus},
    ids::{CallId, Hash, RunId},
    message::Block,
    sandbox::{Exit, MergeReport, OutputChunk},
    text::one_line,
};
use homarus_driver::ports::Live;

use super::{markdown::Markdown, print::Printed};
use crate::{
    put,
    show::{
        diff,
        human::main_argument,
        styled::{Colour, Line, Look},
        utf8::Utf8Stream,
    },
};

/// Calls that can be opened; older ones are in the journal.
const CALLS_MAX: usize = 200;
const LAST_LINE_BYTES_MAX: usize = 1_000;

#[derive(Default)]
pub struct Transcript {
    markdown: Markdown,
    /// Bytes of text that were shown live and of which no block has told yet.
    uncovered: usize,
    calls: VecDeque<Call>,
    out: Vec<Printed>,
    /// Whether the last printed line belongs to a tool call.
    after_call: bool,
    turn: Turn,
}

/// What a turn has used so far.
#[derive(Default)]
struct Turn {
    tokens: u64,
    cost: u64,
    cost_unknown: bool,
    wall_ms: u64,
}

pub struct Call {
    /// An undo is a run of its own, with calls of the same names.
    run: RunId,
    pub id: CallId,
    pub name: String,
    pub arguments: String,
    /// How it ended, once it has.
    pub outcome: Option<String>,
    /// What the model was shown, and everything it printed if that is more.
    pub shown: Option<Hash>,
    pub whole: Option<Hash>,
    pub diff: String,
    started: Option<Instant>,
    stdout: Utf8Stream,
    stderr: Utf8Stream,
    last_line: String,
}

impl Transcript {
    /// Lines that have become final since the last time.
    pub fn take(&mut self) -> Vec<Printed> {
        std::mem::take(&mut self.out)
    }

    /// Calls that can be opened, oldest first.
    pub fn calls(&self) -> &VecDeque<Call> {
        &self.calls
    }

    pub fn said(&mut self, text: &str) {
        self.end_answer();
        self.turn = Turn::default();
        self.out.push(Printed::blank());
        for (index, line) in text.lines().enumerate() {
            let look = Look { bold: true, ..Look::of(Colour::Cyan) };
            let lead = if index == 0 { "› " } else { "  " };
            self.out.push(Printed::hanging(Line::new(look, lead).and(look, line), 2));
        }
        self.out.push(Printed::blank());
        self.after_call = false;
    }

    /// Something the chat itself has to say. A line of the answer that is not complete goes on below it.
    pub fn note(&mut self, line: Printed) {
        self.out.push(line);
    }

    pub fn event(&mut self, run: &RunId, event: &Event) {
        match event {
            Event::Accepted(accepted) => self.said(&accepted.inbound.text),
            Event::Said { inbound } => self.said(&inbound.text),
            Event::Reconfigured(change) => self.note(Printed::dim(&format!("· {}", one_line(&change.why, 200)))),
            Event::ModelIntent { .. } => self.end_answer(),
            Event::BlockDone { block: Block::Text { text }, .. } => {
                let shown = self.uncovered.min(text.len());
                self.uncovered -= shown;
                self.text(text.get(shown..).unwrap_or_default());
                self.end_block();
            }
            Event::BlockDone { block: Block::ToolCall(call), .. } => {
                self.end_block();
                self.add_call(run, &call.call, &call.name, &call.arguments);
            }
            Event::ModelResult { usage, cost, wall_ms, .. } => {
                self.end_answer();
                self.turn.tokens += usage.total_tokens();
                self.turn.cost += cost.unwrap_or(0);
                self.turn.cost_unknown |= cost.is_none();
                self.turn.wall_ms += wall_ms;
            }
            Event::ModelFailed { model, message, .. } => {
                self.note(coloured(Colour::Yellow, &format!("! {model}: {}", one_line(message, 400))));
            }
            Event::ModelBroke { model, message, .. } => {
                self.end_text();
                let text = format!("! {model} broke off: {}", one_line(message, 400));
                self.note(coloured(Colour::Yellow, &text));
            }
            Event::ModelSkipped { model, why, retry_in_ms, .. } => {
                let pause = put::duration(*retry_in_ms);
                let text = format!("! {model} is not asked: {}; again in {pause}", one_line(why, 300));
                self.note(coloured(Colour::Yellow, &text));
            }
            Event::ActIntent { call, .. } => {
                if let Some(call) = self.call(run, call) {
                    call.started = Some(Instant::now());
                    // It is run again: what was said of it before is not how it ends.
                    call.outcome = None;
                }
            }
            Event::ActResult(result) => self.result(run, result),
            Event::Denied { call, reason } => {
                self.ended(run, call, &format!("denied: {}", one_line(reason, 300)), true);
            }
            Event::Discarded { call, reason } => {
                let reason = one_line(reason, 300);
                match self.call(run, call).map(|call| call.outcome.is_some()) {
                    Some(true) | None => self.note(coloured(Colour::Red, &format!("  ✗ not applied: {reason}"))),
                    Some(false) => self.ended(run, call, &format!("thrown away: {reason}"), true),
                }
            }
            Event::Merged { call, report } => self.merged(run, call, report),
            // A refusal is told by what follows from it.
            Event::ApprovalDecided { approval, .. } if approval.granted => {
                let text = one_line(&format!("  ✓ approved by {}", approval.who), 300);
                self.note(coloured(Colour::Yellow, &text));
            }
            Event::Nudged { text, .. } => {
                self.note(Printed::blank());
                self.note(Printed::dim(&format!("» {}", one_line(text, 200))));
                // The answer to it stands apart, as after a call.
                self.after_call = true;
            }
            Event::BoundHit { bound, limit } => {
                self.note(coloured(Colour::Yellow, &format!("! the limit on {bound} ({limit}) was reached")));
            }
            Event::TakenOver { .. } => {}
            Event::OutcomeUnknown { call } => {
                let text = "cut off: nobody knows whether it happened";
                self.ended(run, call, text, true);
            }
            Event::TurnEnded { status, summary } => self.turn_ended(*status, summary),
            _ => {}
        }
    }

    pub fn live(&mut self, run: &RunId, live: &Live) {
        match live {
            Live::Text { text } => {
                self.uncovered += text.len();
                self.text(text);
            }
            Live::Output { call, chunk } => {
                if let Some(call) = self.call(run, call) {
                    call.output(chunk);
                }
            }
            Live::Pause { model, ms } => {
                let text = format!("… {model}: trying again in {}", put::duration(*ms));
                self.note(coloured(Colour::Yellow, &text));
            }
            Live::CallStarted { .. } => self.end_text(),
            Live::CallDelta { .. } => {}
        }
    }

    /// What is under way: the end of an incomplete line, and the calls that run.
    pub fn under_way(&self, columns: usize, rows_max: usize) -> Vec<Line> {
        let mut rows: Vec<Line> =
            self.markdown.preview().iter().flat_map(|line| tail(line, columns, rows_max)).collect();
        for call in self.calls.iter().filter(|call| call.outcome.is_none()) {
            let seconds = call.started.map_or(0, |at| at.elapsed().as_secs());
            let time = if seconds > 0 { format!(" · {seconds} s") } else { String::new() };
            rows.push(call.heading(Look::of(Colour::Yellow), "◌").and(Look::DIM, &time).cut(columns));
            if !call.last_line.is_empty() {
                rows.push(Line::new(Look::DIM, &format!("  │ {}", call.last_line)).cut(columns));
            }
        }
        rows.drain(..rows.len().saturating_sub(rows_max));
        rows
    }

    /// A turn is over, however: nothing of it is under way any more.
    pub fn settle(&mut self) {
        self.end_answer();
        for call in &mut self.calls {
            call.outcome.get_or_insert_with(|| "stopped".to_owned());
        }
    }

    fn text(&mut self, text: &str) {
        if self.after_call && !text.trim().is_empty() {
            self.out.push(Printed::blank());
            self.after_call = false;
        }
        let lines = self.markdown.push(text);
        self.put_text(lines);
    }

    /// What came after the last of these texts is no more of it.
    fn end_text(&mut self) {
        let lines = self.markdown.finish();
        self.put_text(lines);
    }

    fn put_text(&mut self, lines: Vec<Printed>) {
        let Some(first) = lines.first() else { return };
        if self.after_call && *first != Printed::blank() {
            self.out.push(Printed::blank());
        }
        self.after_call = false;
        self.out.extend(lines);
    }

    /// A block is durable. If text streams that is none of it, that is the next one's already.
    fn end_block(&mut self) {
        if self.uncovered == 0 {
            self.end_text();
        }
    }

    fn end_answer(&mut self) {
        self.uncovered = 0;
        self.end_text();
    }

    fn add_call(&mut self, run: &RunId, id: &CallId, name: &str, arguments: &str) {
        if self.calls.len() >= CALLS_MAX {
            self.calls.pop_front();
        }
        self.calls.push_back(Call {
            run: run.clone(),
            id: id.clone(),
            name: one_line(name, 64),
            arguments: arguments.to_owned(),
            outcome: None,
            shown: None,
            whole: None,
            diff: String::new(),
            started: None,
            stdout: Utf8Stream::default(),
            stderr: Utf8Stream::default(),
            last_line: String::new(),
        });
    }

    fn call(&mut self, run: &RunId, id: &CallId) -> Option<&mut Call> {
        self.calls.iter_mut().rev().find(|call| call.id == *id && call.run == *run)
    }

    fn result(&mut self, run: &RunId, result: &ActResult) {
        if let Some(call) = self.call(run, &result.call) {
            call.shown = Some(result.shown);
            call.whole = result.whole;
            call.diff.clone_from(&result.diff.text);
        }
        let outcome = format!("{} · {}", exit_words(result), put::duration(result.wall_ms));
        self.ended(run, &result.call, &outcome, result.is_error);
    }

    fn ended(&mut self, run: &RunId, id: &CallId, outcome: &str, is_error: bool) {
        let look = Look::of(if is_error { Colour::Red } else { Colour::Green });
        let Some(call) = self.call(run, id) else { return };
        if call.outcome.replace(outcome.to_owned()).is_some() {
            return;
        }
        let mark = if is_error { "✗" } else { "●" };
        let end = Line::new(if is_error { look } else { Look::DIM }, &format!(" · {}", one_line(outcome, 300)));
        let line = Printed::folded(call.heading(look, mark), end);
        if !self.after_call {
            self.out.push(Printed::blank());
        }
        self.out.push(line);
        self.after_call = true;
    }

    fn merged(&mut self, run: &RunId, id: &CallId, report: &MergeReport) {
        for conflict in &report.conflicts {
            let (path, kept) = (one_line(&conflict.path, 200), one_line(&conflict.kept_at, 300));
            let text = format!("  ! {path} was changed meanwhile; the agent's version is in {kept}");
            self.note(coloured(Colour::Yellow, &text));
        }
        if report.merged.is_empty() {
            return;
        }
        let (added, removed) = self.call(run, id).map_or((0, 0), |call| diff::counts(&call.diff));
        let paths: Vec<String> = report.merged.iter().take(8).map(|path| one_line(path, 80)).collect();
        let more = report.merged.len().saturating_sub(8);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let mut line = Line::new(Look::of(Colour::Green), &format!("  ✓ applied {}{more}", paths.join(", ")));
        if added + removed > 0 {
            line.push(Look::DIM, &format!(" +{added} -{removed}"));
        }
        self.note(Printed::hanging(line, 4));
        self.after_call = true;
    }

    fn turn_ended(&mut self, status: FinishStatus, summary: &str) {
        self.settle();
        let turn = std::mem::take(&mut self.turn);
        self.after_call = false;
        self.out.push(Printed::blank());
        match status {
            FinishStatus::Completed => {}
            FinishStatus::Cancelled => self.out.push(coloured(Colour::Yellow, "■ stopped")),
            _ => self.out.push(coloured(Colour::Red, &format!("✗ {}", one_line(summary, 600)))),
        }
        if turn.tokens > 0 {
            let cost = if turn.cost_unknown { "cost unknown".to_owned() } else { format!("${}", put::usd(turn.cost)) };
            let text = format!("{} · {} tokens · {cost}", put::duration(turn.wall_ms), put::count(turn.tokens));
            self.out.push(Printed::dim(&text));
        }
    }
}

impl Call {
    fn heading(&self, look: Look, mark: &str) -> Line {
        Line::new(look, &format!("{mark} "))
            .and(Look::BOLD, &self.name)
            .and(Look::PLAIN, &format!(" {}", main_argument(&self.arguments)))
    }

    /// The call as a heading of its own.
    pub fn title(&self) -> Line {
        let outcome = self.outcome.as_deref().unwrap_or("runs");
        Line::new(Look::BOLD, &self.name).and(Look::DIM, &format!(" · {outcome}"))
    }

    fn output(&mut self, chunk: &OutputChunk) {
        let text = match chunk {
            OutputChunk::Stdout(bytes) => self.stdout.push(bytes),
            OutputChunk::Stderr(bytes) => self.stderr.push(bytes),
        };
        if let Some(line) = text.lines().rev().find(|line| !line.trim().is_empty()) {
            self.last_line = line.chars().take(LAST_LINE_BYTES_MAX).collect();
        }
    }
}

fn coloured(colour: Colour, text: &str) -> Printed {
    Printed::hanging(Line::new(Look::of(colour), text), 2)
}

/// The last rows of a line that may be very long, without laying out all of it.
fn tail(line: &Line, columns: usize, rows_max: usize) -> Vec<Line> {
    let text = line.text();
    let chars_max = columns.saturating_mul(rows_max).max(1);
    let count = text.chars().count();
    if count <= chars_max {
        return line.wrap(columns, 0);
    }
    let end: String = text.chars().skip(count - chars_max).collect();
    Line::plain(&format!("…{end}")).wrap(columns, 0)
}

fn exit_words(result: &ActResult) -> String {
    match result.exit {
        None if result.is_error => "failed".to_owned(),
        None => "done".to_owned(),
        Some(Exit::Code { code }) => format!("exit {code}"),
        Some(Exit::Signal { signal }) => format!("ended by signal {signal}"),
        Some(Exit::TimedOut { wall_ms }) => format!("out of time after {}", put::duration(wall_ms)),
        Some(Exit::OutputLimit { bytes }) => format!("more than {} bytes of output", put::count(bytes)),
        Some(Exit::Cancelled) => "cancelled".to_owned(),
    }
}
