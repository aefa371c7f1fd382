//! A run as a person follows it: the model's words on standard output, everything else on standard error.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
};

use homarus_contract::{
    event::{ActResult, Event},
    ids::{CallId, RunId},
    journal::Journal,
    message::Block,
    sandbox::{Exit, OutputChunk},
    text::{neutralise, one_line},
};
use homarus_driver::ports::{Live, Observer};

use super::{beside::Beside, style::Style, utf8::Utf8Stream};
use crate::put;

/// Live output of one call beyond this is not shown; the journal has all of it.
const OUTPUT_LINES_MAX: u32 = 40;
const ARGUMENTS_CHARS_MAX: usize = 160;

pub struct Human {
    style: Style,
    screen: Mutex<Screen>,
    /// Where the texts of failed calls are read.
    journal: Option<Arc<dyn Journal>>,
}

#[derive(Default)]
struct Screen {
    stdout: Utf8Stream,
    stderr: Utf8Stream,
    /// Text was printed and its line not ended.
    in_text: bool,
    /// The same for a call's live output.
    in_output: bool,
    output_lines: u32,
    calls: Beside,
}

impl Human {
    pub fn new(journal: Option<Arc<dyn Journal>>) -> Self {
        Self { style: Style::for_stderr(), screen: Mutex::new(Screen::default()), journal }
    }

    /// What the model is told of a call that failed before it could print anything.
    fn failure(&self, event: &Event) -> Option<String> {
        let Event::ActResult(result) = event else { return None };
        let quiet = result.is_error && !matches!(result.exit, Some(Exit::Signal { .. } | Exit::TimedOut { .. }));
        let bytes = quiet.then(|| self.journal.as_ref()?.blob(&result.shown).ok()).flatten()?;
        Some(one_line(&String::from_utf8_lossy(&bytes), 300))
    }

    fn with(&self, act: impl FnOnce(&mut Screen, Style)) {
        if let Ok(mut screen) = self.screen.lock() {
            act(&mut screen, self.style);
        }
    }
}

impl Observer for Human {
    fn event(&self, _run: &RunId, _seq: u64, _at_ms: u64, event: &Event) {
        let failure = self.failure(event);
        self.with(|screen, style| {
            screen.event(event, style);
            if let Some(text) = failure {
                screen.note(&style.red(&format!("  {text}")));
            }
        });
    }

    fn live(&self, _run: &RunId, _seq: u64, _offset: u64, live: &Live) {
        self.with(|screen, style| match live {
            Live::Text { text } => screen.text(text),
            Live::CallStarted { .. } | Live::CallDelta { .. } => {}
            Live::Output { call, chunk } => screen.call_output(call, chunk, style),
            Live::Pause { model, ms } => {
                screen.note(&style.yellow(&format!(
                    "{} {model}: trying again in {}",
                    style.sign("…"),
                    put::duration(*ms)
                )));
            }
        });
    }
}

impl Screen {
    fn event(&mut self, event: &Event, style: Style) {
        match event {
            Event::BlockDone { block: Block::ToolCall(call), .. } => {
                let arguments = plain_arguments(&call.arguments);
                let name = format!("{} {}", style.sign("▸"), one_line(&call.name, 64));
                let title = format!("{} {arguments}", style.bold(&name));
                self.note(&title);
                self.calls.titled(call.call.clone(), title);
                self.output_lines = 0;
            }
            Event::ActIntent { call, .. } => self.calls.started(call.clone()),
            Event::ActResult(result) => {
                self.show_held(&result.call, style);
                self.turn_to(&result.call);
                self.result(result, style);
                if let Some(next) = self.calls.ended(&result.call) {
                    self.show_held(&next, style);
                }
            }
            Event::Denied { reason, .. } => {
                self.note(&style.red(&format!("  {} denied: {}", style.sign("✗"), one_line(reason, 300))))
            }
            Event::Discarded { reason, .. } => {
                self.note(&style.red(&format!("  {} thrown away: {}", style.sign("✗"), one_line(reason, 300))));
            }
            Event::Merged { report, .. } => {
                for conflict in &report.conflicts {
                    let path = one_line(&conflict.path, 200);
                    let kept = match conflict.kept_at.as_str() {
                        "" => String::new(),
                        kept => format!("; the other version is in {}", one_line(kept, 300)),
                    };
                    self.note(&style.yellow(&format!("  ! {path} was changed meanwhile and stays{kept}")));
                }
                if !report.merged.is_empty() {
                    let paths: Vec<String> = report.merged.iter().take(8).map(|path| one_line(path, 80)).collect();
                    let more = report.merged.len().saturating_sub(8);
                    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                    self.note(&style.green(&format!("  {} applied {}{more}", style.sign("✓"), paths.join(", "))));
                }
            }
            Event::ApprovalDecided { approval, .. } => {
                let (sign, word) = if approval.granted { ("✓", "approved") } else { ("✗", "refused") };
                let mark = style.sign(sign);
                self.note(&style.yellow(&format!("  {mark} {word} by {}", one_line(&approval.who, 80))));
            }
            Event::ModelFailed { model, message, .. } => {
                self.note(&style.yellow(&format!("! {model}: {}", one_line(message, 400))));
            }
            Event::ModelBroke { model, message, .. } => {
                self.note(&style.yellow(&format!("! {model} broke off: {}", one_line(message, 400))));
            }
            Event::ModelSkipped { model, why, retry_in_ms, .. } => {
                let pause = put::duration(*retry_in_ms);
                self.note(&style.yellow(&format!("! {model} is not asked: {}; again in {pause}", one_line(why, 300))));
            }
            Event::Nudged { text, .. } => {
                self.note(&style.dim(&format!("{} {}", style.sign("»"), one_line(text, 200))))
            }
            Event::BoundHit { bound, limit } => {
                self.note(&style.yellow(&format!("! the limit on {bound} ({limit}) was reached")));
            }
            Event::Reconfigured(change) => self.note(&style.dim(&one_line(&change.why, 200))),
            Event::TakenOver { .. } => self.note(&style.dim("taken over from a driver that is gone")),
            Event::OutcomeUnknown { call } => {
                self.note(&style.red(&format!("! call {call} was cut off: nobody knows whether it happened")));
            }
            Event::ModelResult { .. } => self.end_lines(),
            _ => {}
        }
    }

    fn result(&mut self, result: &ActResult, style: Style) {
        let exit = match result.exit {
            None if result.is_error => "failed".to_owned(),
            None => "done".to_owned(),
            Some(Exit::Code { code }) => format!("exit {code}"),
            Some(Exit::Signal { signal }) => format!("ended by signal {signal}"),
            Some(Exit::TimedOut { wall_ms }) => format!("ended after {}: out of time", put::duration(wall_ms)),
            Some(Exit::OutputLimit { bytes }) => format!("ended: more than {} bytes of output", put::count(bytes)),
            Some(Exit::Cancelled) => "cancelled".to_owned(),
        };
        let line = format!("  {exit}{}{}", style.between(), put::duration(result.wall_ms));
        self.note(&if result.is_error { style.red(&line) } else { style.dim(&line) });
    }

    fn text(&mut self, text: &str) {
        self.end_output();
        let mut out = io::stdout().lock();
        let _ = out.write_all(neutralise(text).as_bytes()).and_then(|()| out.flush());
        self.in_text = !text.ends_with('\n');
    }

    /// Output of a call, when it is that call's turn.
    fn call_output(&mut self, call: &CallId, chunk: &OutputChunk, style: Style) {
        for chunk in self.calls.output(call, chunk.clone()) {
            self.turn_to(call);
            self.output(&chunk, style);
        }
    }

    fn show_held(&mut self, call: &CallId, style: Style) {
        for chunk in self.calls.held(call) {
            self.turn_to(call);
            self.output(&chunk, style);
        }
    }

    fn turn_to(&mut self, call: &CallId) {
        if let Some(title) = self.calls.turn_to(call) {
            self.note(&title);
            self.output_lines = 0;
        }
    }

    fn output(&mut self, chunk: &OutputChunk, style: Style) {
        let text = match chunk {
            OutputChunk::Stdout(bytes) => self.stdout.push(bytes),
            OutputChunk::Stderr(bytes) => self.stderr.push(bytes),
        };
        if self.in_text {
            self.end_lines();
        }
        let mut err = io::stderr().lock();
        for piece in text.split_inclusive('\n') {
            if !self.in_output {
                self.output_lines += 1;
                if self.output_lines == OUTPUT_LINES_MAX + 1 {
                    let _ = writeln!(
                        err,
                        "{}",
                        style.dim(&format!("  {} ... (the rest is in `homarus runs log`)", style.sign("│")))
                    );
                }
            }
            if self.output_lines > OUTPUT_LINES_MAX {
                return;
            }
            let bar = style.sign("│");
            let lead = if self.in_output { String::new() } else { format!("  {bar} ") };
            let shown = neutralise(piece.trim_end_matches('\n'));
            let end = if piece.ends_with('\n') { "\n" } else { "" };
            let _ = write!(err, "{}{end}", style.dim(&format!("{lead}{shown}")));
            self.in_output = end.is_empty();
        }
        let _ = err.flush();
    }

    fn note(&mut self, line: &str) {
        self.end_lines();
        let _ = writeln!(io::stderr(), "{line}");
    }

    fn end_lines(&mut self) {
        if self.in_text {
            let _ = put::line("");
            self.in_text = false;
        }
        self.end_output();
    }

    fn end_output(&mut self) {
        if self.in_output {
            let _ = writeln!(io::stderr());
            self.in_output = false;
        }
    }
}

/// Arguments without the JSON around them: `path: a.txt, content: …`.
pub fn plain_arguments(json: &str) -> String {
    let Ok(serde_json::Value::Object(object)) = serde_json::from_str(json) else {
        return one_line(json, ARGUMENTS_CHARS_MAX);
    };
    let parts: Vec<String> = object
        .iter()
        .map(|(key, value)| match value {
            serde_json::Value::String(text) if object.len() == 1 => one_line(text, ARGUMENTS_CHARS_MAX),
            serde_json::Value::String(text) => format!("{key}: {}", one_line(text, 60)),
            other => format!("{key}: {}", one_line(&other.to_string(), 60)),
        })
        .collect();
    one_line(&parts.join(", "), ARGUMENTS_CHARS_MAX)
}

/// The argument that says most, alone: the command, the path, the pattern.
pub fn main_argument(json: &str) -> String {
    const TELLING: [&str; 8] = ["command", "path", "pattern", "url", "query", "name", "text", "note"];
    if let Ok(serde_json::Value::Object(object)) = serde_json::from_str(json)
        && let Some(serde_json::Value::String(text)) = TELLING.iter().find_map(|key| object.get(*key))
    {
        return one_line(text.trim_end(), ARGUMENTS_CHARS_MAX);
    }
    plain_arguments(json)
}
