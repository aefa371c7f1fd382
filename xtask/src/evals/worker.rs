//! The inference worker: one process with the weights, spoken to in JSON lines, one request at a time.

use std::{
    io::{BufRead, BufReader, Read, Write},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, sync_channel},
    thread,
    time::Duration,
};

use serde::Deserialize;
use serde_json::{Value, json};

/// Between two looks at whether anybody still wants the answer.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long the weights may take to load.
const START_MAX: Duration = Duration::from_secs(180);
/// A worker that says nothing for so long is broken: reading the largest prompt takes less.
const SILENCE_MAX: Duration = Duration::from_secs(1_800);
/// Replies read ahead.
const AHEAD_MAX: usize = 1024;
const LINE_BYTES_MAX: u64 = 64 << 20;

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Reply {
    Ready {},
    Text {
        id: u64,
        delta: String,
    },
    CallStarted {
        id: u64,
        index: u32,
        name: String,
    },
    CallDelta {
        id: u64,
        index: u32,
        json: String,
    },
    /// A complete call. What of it came in pieces before is repeated.
    Call {
        id: u64,
        index: u32,
        name: String,
        arguments: String,
    },
    Done {
        id: u64,
        stop: String,
        input_tokens: u64,
        cached_tokens: u64,
        output_tokens: u64,
    },
    Error {
        id: u64,
        class: String,
        message: String,
    },
}

/// How an answer ended, and its tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    pub stop: String,
    /// Of the prompt: computed, and kept from the prompt before.
    pub input_tokens: u64,
    pub cached_tokens: u64,
    pub output_tokens: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The worker refused the request, and goes on.
    Refused { class: String, message: String },
    /// The worker is gone or cannot be trusted any more.
    Broken(String),
}

pub struct Worker {
    input: Box<dyn Write + Send>,
    replies: Receiver<Reply>,
    process: Option<Child>,
    last_id: u64,
}

impl Worker {
    /// Starts it and waits until the weights are loaded.
    pub fn start(mut command: Command) -> Result<Self, String> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let program = command.get_program().to_string_lossy().into_owned();
        let mut process = command.spawn().map_err(|error| format!("{program} cannot be started: {error}"))?;
        let (Some(input), Some(output)) = (process.stdin.take(), process.stdout.take()) else {
            return Err(format!("{program} has no standard input and output"));
        };
        let mut worker = Self::over(input, output).map_err(|error| format!("{program}: {error}"))?;
        worker.process = Some(process);
        Ok(worker)
    }

    /// Over pipes that are there already.
    pub fn over(input: impl Write + Send + 'static, output: impl Read + Send + 'static) -> Result<Self, String> {
        let (sender, replies) = sync_channel(AHEAD_MAX);
        thread::spawn(move || {
            let mut output = BufReader::new(output);
            while let Some(reply) = next(&mut output) {
                if sender.send(reply).is_err() {
                    return;
                }
            }
        });
        match replies.recv_timeout(START_MAX) {
            Ok(Reply::Ready {}) => Ok(Self { input: Box::new(input), replies, process: None, last_id: 0 }),
            Ok(Reply::Error { message, .. }) => Err(message),
            _ => Err("it did not say that it is ready; it says why on standard error".to_owned()),
        }
    }

    /// Answers a request (without its id). `found` is called with each part; the answer is stopped as soon as
    /// `unwanted` says so.
    pub fn generate(
        &mut self,
        mut request: Value,
        found: &mut dyn FnMut(&Reply),
        unwanted: &dyn Fn() -> bool,
    ) -> Result<Done, Failure> {
        self.last_id += 1;
        let own = self.last_id;
        request["type"] = json!("generate");
        request["id"] = json!(own);
        self.write(&request)?;
        let mut cancelled = false;
        let mut silent = Duration::ZERO;
        loop {
            if !cancelled && unwanted() {
                self.write(&json!({"type": "cancel", "id": own}))?;
                cancelled = true;
            }
            let reply = match self.replies.recv_timeout(LOOK_EVERY) {
                Ok(reply) => reply,
                Err(RecvTimeoutError::Timeout) if silent < SILENCE_MAX => {
                    silent += LOOK_EVERY;
                    continue;
                }
                Err(RecvTimeoutError::Timeout) => return Err(Failure::Broken("the worker is silent".to_owned())),
                Err(RecvTimeoutError::Disconnected) => return Err(Failure::Broken("the worker has ended".to_owned())),
            };
            silent = Duration::ZERO;
            match reply {
                Reply::Done { id, stop, input_tokens, cached_tokens, output_tokens } if id == own => {
                    return Ok(Done { stop, input_tokens, cached_tokens, output_tokens });
                }
                Reply::Error { id, class, message } if id == own || id == 0 => {
                    return Err(Failure::Refused { class, message });
                }
                Reply::Text { id, .. }
                | Reply::CallStarted { id, .. }
                | Reply::CallDelta { id, .. }
                | Reply::Call { id, .. }
                    if id == own =>
                {
                    found(&reply);
                }
                // Of a request that is over.
                _ => {}
            }
        }
    }

    fn write(&mut self, line: &Value) -> Result<(), Failure> {
        let line = format!("{line}\n");
        let written = self.input.write_all(line.as_bytes()).and_then(|()| self.input.flush());
        written.map_err(|error| Failure::Broken(format!("the worker reads no more: {error}")))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            // Already gone is as good.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// The next reply that can be read; `None` at the end.
fn next(output: &mut impl BufRead) -> Option<Reply> {
    loop {
        let mut line = Vec::new();
        if output.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line).ok()? == 0 {
            return None;
        }
        if let Ok(reply) = serde_json::from_slice(&line) {
            return Some(reply);
        }
    }
}

/// A worker whose answers a test writes.
#[cfg(test)]
pub mod fake {
    use std::io::{PipeReader, PipeWriter, pipe};

    use super::*;

    /// A worker that answers each request with what `answer` makes of it: replies without their id.
    pub fn worker(answer: impl FnMut(Value) -> Vec<Value> + Send + 'static) -> Worker {
        let (requests, input) = pipe().unwrap();
        let (output, replies) = pipe().unwrap();
        thread::spawn(move || serve(requests, replies, answer));
        Worker::over(input, output).unwrap()
    }

    pub fn done(stop: &str) -> Value {
        json!({"type": "done", "stop": stop, "input_tokens": 70, "cached_tokens": 30, "output_tokens": 5})
    }

    fn serve(requests: PipeReader, mut replies: PipeWriter, mut answer: impl FnMut(Value) -> Vec<Value>) {
        let mut say = |line: Value| writeln!(replies, "{line}").is_ok();
        say(json!({"type": "ready", "model": "fake", "context_tokens": 1000}));
        for line in BufReader::new(requests).lines().map_while(Result::ok) {
            let request: Value = serde_json::from_str(&line).unwrap();
            let id = request["id"].clone();
            for mut reply in answer(request) {
                reply["id"] = id.clone();
                if !say(reply) {
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_told_in_parts_and_counted() {
        let mut worker = fake::worker(|request| {
            assert_eq!((request["type"].as_str(), request["system"].as_str()), (Some("generate"), Some("s")));
            vec![json!({"type": "text", "delta": "a"}), json!({"type": "later"}), fake::done("end_turn")]
        });
        let mut parts = Vec::new();
        let done = worker.generate(json!({"system": "s"}), &mut |reply| parts.push(reply.clone()), &|| false).unwrap();
        assert_eq!(parts, [Reply::Text { id: 1, delta: "a".into() }]);
        assert_eq!((done.input_tokens, done.cached_tokens, done.output_tokens), (70, 30, 5));
    }

    #[test]
    fn what_nobody_wants_is_cancelled() {
        // Nothing is said to the request itself: only its cancel ends it.
        let mut worker =
            fake::worker(
                |request| if request["type"] == "cancel" { vec![fake::done("interrupted")] } else { Vec::new() },
            );
        let done = worker.generate(json!({}), &mut |_| {}, &|| true).unwrap();
        assert_eq!(done.stop, "interrupted");
    }

    #[test]
    fn a_refusal_is_told_and_an_end_found_out() {
        let mut worker = fake::worker(|_| vec![json!({"type": "error", "class": "bad_request", "message": "no"})]);
        let refused = Failure::Refused { class: "bad_request".into(), message: "no".into() };
        assert_eq!(worker.generate(json!({}), &mut |_| {}, &|| false), Err(refused));
        let gone = Worker::over(std::io::sink(), &b"{\"type\":\"ready\",\"context_tokens\":9}\n"[..]);
        let failed = gone.unwrap().generate(json!({}), &mut |_| {}, &|| false);
        assert!(matches!(failed, Err(Failure::Broken(_))), "{failed:?}");
        assert!(Worker::over(std::io::sink(), std::io::empty()).is_err());
    }
}
