//! The conversation with Homarus: requests in on standard input, replies out on standard output.
//!
//! A thread of its own reads, so that a cancel is seen while an answer is being made.

use std::{
    io::{self, BufRead, Read, Write},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
};

use homarus_contract::{
    model::ModelErrorClass,
    worker::{WorkerReply, WorkerRequest},
};

use crate::{
    engine::{Engine, Request},
    output::Found,
    plain,
};

/// A longer request line is refused; a prompt of this size fits no context.
const LINE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Requests read ahead while one is answered.
const WAITING_MAX: usize = 16;
/// Cancels remembered for requests that have not started yet.
const CANCELS_MAX: usize = 64;

/// Answers requests until standard input ends or nobody reads the replies.
pub fn run(mut engine: Engine<'_>, model: String) -> Result<(), String> {
    let (sender, requests) = mpsc::sync_channel(WAITING_MAX);
    let cancels = Cancels::default();
    let reader_cancels = cancels.clone();
    thread::Builder::new()
        .name("requests".to_owned())
        .spawn(move || read_requests(io::stdin().lock(), &reader_cancels, &sender))
        .map_err(|error| format!("no thread to read requests: {error}"))?;
    let mut replies = Replies { out: io::stdout().lock(), broken: false };
    replies.send(&WorkerReply::Ready { model, context_tokens: engine.context_tokens() });
    for request in requests {
        match request {
            Ok(request) => answer(&mut engine, &request, &cancels, &mut replies),
            Err(message) => replies.send(&WorkerReply::Error { id: 0, class: ModelErrorClass::BadRequest, message }),
        }
        if replies.broken {
            return Err("standard output is closed".to_owned());
        }
    }
    Ok(())
}

type Incoming = Result<WorkerRequest, String>;

/// The ids that were cancelled, and whether the input has ended, which cancels all.
#[derive(Clone, Default)]
struct Cancels(Arc<Mutex<CancelState>>);

#[derive(Default)]
struct CancelState {
    ids: Vec<u64>,
    ended: bool,
}

impl Cancels {
    fn add(&self, id: u64) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.ids.len() >= CANCELS_MAX {
            state.ids.remove(0);
        }
        state.ids.push(id);
    }

    fn end(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).ended = true;
    }

    fn contains(&self, id: u64) -> bool {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.ended || state.ids.contains(&id)
    }
}

fn read_requests(mut input: impl BufRead, cancels: &Cancels, sender: &mpsc::SyncSender<Incoming>) {
    while let Ok(Some(line)) = read_line(&mut input) {
        let incoming = parse(&line);
        let open = match incoming {
            Some(Ok(WorkerRequest::Cancel { id })) => {
                cancels.add(id);
                true
            }
            Some(other) => sender.send(other).is_ok(),
            None => true,
        };
        if !open {
            break;
        }
    }
    cancels.end();
}

/// The next line; `None` at the end. A line that is too long comes back cut, and its rest is dropped.
fn read_line(input: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    if input.by_ref().take(LINE_BYTES_MAX + 1).read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    if line.len() as u64 > LINE_BYTES_MAX && !line.ends_with(b"\n") {
        input.skip_until(b'\n')?;
    }
    Ok(Some(line))
}

fn parse(line: &[u8]) -> Option<Incoming> {
    if line.len() as u64 > LINE_BYTES_MAX {
        return Some(Err(format!("a request line is longer than {LINE_BYTES_MAX} bytes")));
    }
    if line.trim_ascii().is_empty() {
        return None;
    }
    Some(serde_json::from_slice(line).map_err(|error| format!("a line is not a request: {error}")))
}

fn answer<W: Write>(engine: &mut Engine<'_>, request: &WorkerRequest, cancels: &Cancels, replies: &mut Replies<W>) {
    let WorkerRequest::Generate { id, system, tools, messages, output_tokens_max } = request else { return };
    let id = *id;
    let tools: Vec<_> = tools.iter().map(plain::tool).collect();
    let parsed = Request { system, tools: &tools, messages, output_tokens_max: *output_tokens_max };
    let result = engine.answer(&parsed, &|| cancels.contains(id), &mut |found| replies.send(&reply(id, found)));
    replies.send(&match result {
        Ok(answer) => WorkerReply::Done {
            id,
            stop: answer.stop,
            input_tokens: answer.input_tokens,
            cached_tokens: answer.cached_tokens,
            output_tokens: answer.output_tokens,
        },
        Err(failure) => WorkerReply::Error { id, class: failure.class, message: failure.message },
    });
}

fn reply(id: u64, found: Found) -> WorkerReply {
    // An answer holds at most one call.
    let index = 0;
    match found {
        Found::Text(delta) => WorkerReply::Text { id, delta },
        Found::CallStarted { name } => WorkerReply::CallStarted { id, index, name },
        Found::CallDelta { json } => WorkerReply::CallDelta { id, index, json },
        Found::Call { name, arguments } => WorkerReply::Call { id, index, name, arguments },
    }
}

struct Replies<W> {
    out: W,
    broken: bool,
}

impl<W: Write> Replies<W> {
    fn send(&mut self, reply: &WorkerReply) {
        let sent = serde_json::to_string(reply).map_err(io::Error::from).and_then(|mut line| {
            line.push('\n');
            self.out.write_all(line.as_bytes())?;
            self.out.flush()
        });
        self.broken |= sent.is_err();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(input: &str) -> (Vec<Incoming>, Cancels) {
        let cancels = Cancels::default();
        let (sender, receiver) = mpsc::sync_channel(WAITING_MAX);
        read_requests(input.as_bytes(), &cancels, &sender);
        drop(sender);
        (receiver.iter().collect(), cancels)
    }

    #[test]
    fn a_broken_line_is_answered_and_the_next_one_still_read() {
        let good = r#"{"type":"generate","id":7,"system":"s","tools":[],"messages":[],"output_tokens_max":5}"#;
        let (incoming, _) = read_all(&format!("{{\n\n[1]\n{good}\n"));
        assert!(matches!(&incoming[0], Err(message) if message.starts_with("a line is not a request")));
        assert!(incoming[1].is_err());
        assert!(matches!(incoming[2], Ok(WorkerRequest::Generate { id: 7, .. })));
        assert_eq!(incoming.len(), 3);
    }

    #[test]
    fn a_cancel_names_one_request_and_the_end_of_input_all() {
        let cancels = Cancels::default();
        cancels.add(3);
        assert!(cancels.contains(3) && !cancels.contains(4));
        let (_, cancels) = read_all("");
        assert!(cancels.contains(4));
    }

    #[test]
    fn a_line_that_is_too_long_is_refused_whole() {
        let long = "x".repeat(LINE_BYTES_MAX as usize + 10);
        let (incoming, _) = read_all(&format!("{long}\n{{\n"));
        assert!(matches!(&incoming[0], Err(message) if message.contains("longer than")));
        assert!(matches!(&incoming[1], Err(message) if message.contains("not a request")));
        assert_eq!(incoming.len(), 2);
    }

    #[test]
    fn replies_are_lines() {
        let mut replies = Replies { out: Vec::new(), broken: false };
        replies.send(&reply(1, Found::Text("a\nb".into())));
        assert_eq!(replies.out, b"{\"type\":\"text\",\"id\":1,\"delta\":\"a\\nb\"}\n");
    }
}
