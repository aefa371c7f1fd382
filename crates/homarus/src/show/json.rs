//! `--json`: one event a line, live ones included.

use std::sync::Mutex;

use homarus_contract::{
    event::Event,
    ids::{CallId, RunId},
    sandbox::OutputChunk,
};
use homarus_driver::ports::{Live, Observer};
use serde::Serialize;

use super::{EventLine, utf8::Utf8Stream};
use crate::put;

#[derive(Default)]
pub struct JsonLines {
    streams: Mutex<(Utf8Stream, Utf8Stream)>,
}

/// A live event. `(seq, offset)` orders it; it is not in the journal.
#[derive(Serialize)]
struct LiveLine<'a> {
    run_id: &'a RunId,
    seq: u64,
    offset: u64,
    #[serde(flatten)]
    what: What<'a>,
}

#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum What<'a> {
    TextDelta { text: &'a str },
    CallStarted { tool: &'a str },
    CallDelta { json: &'a str },
    ToolStdout { call: &'a CallId, text: String },
    ToolStderr { call: &'a CallId, text: String },
    Pause { model: String, ms: u64 },
}

impl Observer for JsonLines {
    fn event(&self, run: &RunId, seq: u64, at_ms: u64, event: &Event) {
        print(&EventLine::new(run, seq, at_ms, event));
    }

    fn live(&self, run: &RunId, seq: u64, offset: u64, live: &Live) {
        let what = match live {
            Live::Text { text } => What::TextDelta { text },
            Live::CallStarted { name } => What::CallStarted { tool: name },
            Live::CallDelta { json } => What::CallDelta { json },
            Live::Pause { model, ms } => What::Pause { model: model.to_string(), ms: *ms },
            Live::Output { call, chunk } => {
                let Ok(mut streams) = self.streams.lock() else { return };
                match chunk {
                    OutputChunk::Stdout(bytes) => What::ToolStdout { call, text: streams.0.push(bytes) },
                    OutputChunk::Stderr(bytes) => What::ToolStderr { call, text: streams.1.push(bytes) },
                }
            }
        };
        print(&LiveLine { run_id: run, seq, offset, what });
    }
}

/// A reader that went away does not stop the run.
fn print(line: &impl Serialize) {
    if let Ok(text) = serde_json::to_string(line) {
        let _ = put::line(&text);
    }
}
