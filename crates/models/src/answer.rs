//! Puts an answer together from a provider's pieces, and refuses what is not one.
//!
//! Blocks are handed on in order as soon as each is complete, so that a tool can start while the
//! model still talks. A tool call that is not offered, whose arguments are no JSON object, or that
//! repeats an id, fails the attempt: nothing guessed is ever run.

use std::collections::{HashSet, VecDeque};

use homarus_contract::{
    message::{StopReason, Usage},
    model::{ModelError, ModelEvent, ProviderBlock},
};
use serde_json::value::RawValue;

use crate::{attempt::Sink, http, json_scan::ObjectEnd, names::Offered};

/// Tool calls one answer may hold.
const CALLS_MAX: u32 = 128;

pub(crate) struct Answer {
    sink: Sink,
    offered: Offered,
    /// For ids of calls whose provider gives none: unique in the conversation.
    id_prefix: String,
    blocks: VecDeque<Open>,
    ids: HashSet<String>,
    calls: u32,
    blocks_done: u32,
    calls_done: u32,
}

/// A block not yet handed on.
enum Open {
    Text { text: String, closed: bool },
    Call(OpenCall),
    Thought { json: String },
}

impl Open {
    fn close(&mut self) {
        match self {
            Self::Text { closed, .. } => *closed = true,
            Self::Call(call) => call.closed = true,
            Self::Thought { .. } => {}
        }
    }
}

struct OpenCall {
    /// What the provider calls it while it streams.
    key: u64,
    index: u32,
    id: String,
    name: String,
    arguments: String,
    end: ObjectEnd,
    closed: bool,
}

impl Answer {
    /// `messages` is the length of the conversation so far.
    pub(crate) fn new(sink: Sink, offered: Offered, messages: usize) -> Self {
        Self {
            sink,
            offered,
            id_prefix: format!("call_{messages}"),
            blocks: VecDeque::new(),
            ids: HashSet::new(),
            calls: 0,
            blocks_done: 0,
            calls_done: 0,
        }
    }

    pub(crate) async fn text(&mut self, delta: &str) {
        if delta.is_empty() {
            return;
        }
        match self.blocks.back_mut() {
            Some(Open::Text { text, closed: false }) => text.push_str(delta),
            _ => self.blocks.push_back(Open::Text { text: delta.to_owned(), closed: false }),
        }
        self.sink.send(ModelEvent::TextDelta(delta.to_owned())).await;
    }

    /// Reasoning that belongs to what comes next.
    pub(crate) async fn thought(&mut self, json: String) -> Result<(), ModelError> {
        self.end_text().await?;
        self.blocks.push_back(Open::Thought { json });
        self.hand_on().await
    }

    /// The text block, if one is open, is complete.
    pub(crate) async fn end_text(&mut self) -> Result<(), ModelError> {
        if let Some(Open::Text { closed, .. }) = self.blocks.back_mut() {
            *closed = true;
        }
        self.hand_on().await
    }

    /// What the provider has counted so far.
    pub(crate) async fn counted(&self, usage: &Usage) {
        self.sink.send(ModelEvent::Counted(*usage)).await;
    }

    /// A call begins. An empty `id` is replaced by one of ours.
    pub(crate) async fn start_call(&mut self, key: u64, id: &str, wire_name: &str) -> Result<(), ModelError> {
        self.end_text().await?;
        let Some(name) = self.offered.name(wire_name).map(str::to_owned) else {
            let what = format!("the model called a tool that does not exist; there are: {}", self.offered.list());
            return Err(http::protocol(&what, wire_name));
        };
        let index = self.calls;
        let id = if id.is_empty() { format!("{}_{index}", self.id_prefix) } else { id.to_owned() };
        if !self.ids.insert(id.clone()) {
            return Err(http::protocol("the model made two tool calls with one id", &id));
        }
        self.calls += 1;
        if self.calls > CALLS_MAX {
            return Err(http::protocol("the model made more than 128 tool calls at once", ""));
        }
        self.sink.send(ModelEvent::CallStarted { index, name: name.clone() }).await;
        self.blocks.push_back(Open::Call(OpenCall {
            key,
            index,
            id,
            name,
            arguments: String::new(),
            end: ObjectEnd::default(),
            closed: false,
        }));
        Ok(())
    }

    pub(crate) async fn call_delta(&mut self, key: u64, json: &str) -> Result<(), ModelError> {
        if json.is_empty() {
            return Ok(());
        }
        let Some(call) = self.open_call(key) else {
            return match json.trim().is_empty() {
                true => Ok(()),
                false => Err(http::protocol("the provider sent arguments for a tool call that is not open", json)),
            };
        };
        call.arguments.push_str(json);
        // `{}` alone is not taken as the end: some servers send it first and the arguments after.
        let complete = call.end.push(json) && call.arguments.trim() != "{}";
        let index = call.index;
        self.sink.send(ModelEvent::CallDelta { index, json: json.to_owned() }).await;
        if complete { self.close_call(key).await } else { Ok(()) }
    }

    pub(crate) async fn close_call(&mut self, key: u64) -> Result<(), ModelError> {
        if let Some(call) = self.open_call(key) {
            call.closed = true;
        }
        self.hand_on().await
    }

    /// What was begun before is whole: something else begins.
    pub(crate) async fn close_all(&mut self) -> Result<(), ModelError> {
        for block in &mut self.blocks {
            block.close();
        }
        self.hand_on().await
    }

    /// Whether a call with this key is open, and its id.
    pub(crate) fn open_call_id(&mut self, key: u64) -> Option<&str> {
        self.open_call(key).map(|call| call.id.as_str())
    }

    /// How many calls were begun so far.
    pub(crate) fn begun_calls(&self) -> u64 {
        u64::from(self.calls)
    }

    /// Whether a call with this id was begun before.
    pub(crate) fn knows_call(&self, id: &str) -> bool {
        self.ids.contains(id)
    }

    /// Whether the open call has arguments yet.
    pub(crate) fn has_arguments(&mut self, key: u64) -> bool {
        self.open_call(key).is_some_and(|call| !call.arguments.is_empty())
    }

    /// The provider said that the answer ends, and why. Hands on what is left.
    pub(crate) async fn finish(mut self, said: StopReason) -> Result<StopReason, ModelError> {
        if matches!(said, StopReason::MaxTokens | StopReason::Refusal | StopReason::Interrupted) {
            self.drop_cut_calls();
        }
        self.close_all().await?;
        match said {
            StopReason::EndTurn | StopReason::ToolUse if self.blocks_done == 0 => {
                Err(http::protocol("the model's answer was empty", ""))
            }
            StopReason::EndTurn | StopReason::ToolUse if self.calls_done > 0 => Ok(StopReason::ToolUse),
            StopReason::ToolUse => Ok(StopReason::EndTurn),
            said => Ok(said),
        }
    }

    fn open_call(&mut self, key: u64) -> Option<&mut OpenCall> {
        // From the back: a server that gives every call the same key means the latest.
        self.blocks.iter_mut().rev().find_map(|block| match block {
            Open::Call(call) if call.key == key && !call.closed => Some(call),
            _ => None,
        })
    }

    /// The limit cut these off: half a command must not run.
    fn drop_cut_calls(&mut self) {
        self.blocks.retain(|block| !matches!(block, Open::Call(call) if !call.closed));
    }

    /// Hands on the blocks at the front that are complete, and no later one before them.
    async fn hand_on(&mut self) -> Result<(), ModelError> {
        loop {
            let more_follows = self.blocks.len() > 1;
            let complete = match self.blocks.front() {
                Some(Open::Text { closed, .. }) => *closed || more_follows,
                Some(Open::Call(call)) => call.closed,
                Some(Open::Thought { .. }) => true,
                None => false,
            };
            if !complete {
                return Ok(());
            }
            let block = match self.blocks.pop_front() {
                Some(Open::Thought { json }) => {
                    self.sink.send(ModelEvent::BlockDone(ProviderBlock::Thought { json })).await;
                    continue;
                }
                Some(Open::Text { text, .. }) => ProviderBlock::Text(text),
                Some(Open::Call(call)) => {
                    let arguments = arguments(&call.arguments).ok_or_else(|| {
                        http::protocol(
                            &format!("the arguments of {} are not a JSON object", call.name),
                            &call.arguments,
                        )
                    })?;
                    self.calls_done += 1;
                    ProviderBlock::ToolCall { provider_id: call.id, name: call.name, arguments }
                }
                None => return Ok(()),
            };
            self.blocks_done += 1;
            self.sink.send(ModelEvent::BlockDone(block)).await;
        }
    }
}

/// A JSON object as text: nothing and `null` mean `{}`, and a string that holds an object (a common
/// slip of small models) means that object. `None`: anything else.
fn arguments(text: &str) -> Option<String> {
    let text = text.trim();
    if text.is_empty() || text == "null" {
        return Some("{}".to_owned());
    }
    if text.starts_with('"') {
        let inner: String = serde_json::from_str(text).ok()?;
        return inner.trim_start().starts_with('{').then(|| arguments(&inner)).flatten();
    }
    let is_object = text.starts_with('{') && serde_json::from_str::<&RawValue>(text).is_ok();
    is_object.then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_an_object_or_nothing() {
        for (text, expected) in [
            ("", Some("{}")),
            ("  ", Some("{}")),
            ("null", Some("{}")),
            (" {\"a\":1} ", Some("{\"a\":1}")),
            (r#""{\"a\":1}""#, Some("{\"a\":1}")),
            ("{\"a\":1", None),
            ("{a:1}", None),
            ("{}{\"a\":1}", None),
            ("[1]", None),
            ("1", None),
            (r#""hello""#, None),
        ] {
            assert_eq!(arguments(text).as_deref(), expected, "{text:?}");
        }
    }
}
