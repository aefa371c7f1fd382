//! Every way a provider fails, one test each, run against every wire format: `docs/providers.md` lists exactly these.
//!
//! A row says what happens, what it is taken as, and how to make it happen. What is done about it follows from what it
//! is taken as, so that the page cannot promise something else.

mod connection;
mod content;
mod status;
mod stream;

use homarus_contract::model::ModelErrorClass;
use homarus_models::ProviderKind;
use homarus_test_kit::Turn;

use crate::support::{KINDS, Said, ask_turn};

/// A line of the table.
pub struct Row {
    pub test: &'static str,
    pub what: &'static str,
    pub taken_as: Taken,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    Failure(ModelErrorClass),
    /// An answer that says no.
    Refusal,
    /// A good answer all the same.
    Answer,
}

/// Declares rows and their tests.
macro_rules! rows {
    ($($test:ident: $what:literal, $taken_as:expr, $check:expr;)*) => {
        pub const ROWS: &[$crate::rows::Row] = &[$($crate::rows::Row {
            test: stringify!($test),
            what: $what,
            taken_as: $taken_as,
        }),*];

        $(#[tokio::test]
        async fn $test() {
            let check = $check;
            check($taken_as).await;
        })*
    };
}
pub(crate) use rows;

pub fn all() -> Vec<&'static Row> {
    [status::ROWS, connection::ROWS, stream::ROWS, content::ROWS].into_iter().flatten().collect()
}

/// Each format is asked once, and its server answers so.
pub async fn answering(taken_as: Taken, turn: impl Fn(ProviderKind) -> Turn) {
    for kind in KINDS {
        let said = ask_turn(kind, turn(kind)).await;
        taken(&said, taken_as, kind);
    }
}

/// Whether an answer was taken as it should be.
pub fn taken(said: &Said, taken_as: Taken, kind: ProviderKind) {
    use homarus_contract::message::StopReason;
    match (taken_as, &said.ending) {
        (Taken::Failure(class), Err(error)) => {
            assert_eq!(error.class, class, "{kind}: {error:?}");
            assert!(!error.message.is_empty() && error.raw.len() <= 4096, "{kind}: {error:?}");
        }
        (Taken::Refusal, Ok((stop, _))) => assert_eq!(*stop, StopReason::Refusal, "{kind}"),
        (Taken::Answer, Ok((stop, _))) => {
            assert!(matches!(stop, StopReason::EndTurn | StopReason::ToolUse), "{kind}: {stop:?}");
        }
        (_, ending) => panic!("{kind}: expected {taken_as:?}, found {ending:?}, {:?}", said.blocks),
    }
}

/// The events of a stream in the format of `kind`: lines of JSON for Ollama, server-sent events for the others.
pub fn framed(kind: ProviderKind, events: &[&str]) -> Turn {
    match kind {
        ProviderKind::Ollama => Turn::raw(&events.iter().map(|event| format!("{event}\n")).collect::<String>()),
        _ => Turn::raw_sse(events),
    }
}

/// A beginning of an answer: the word *hi*.
pub fn beginning(kind: ProviderKind) -> &'static [&'static str] {
    match kind {
        ProviderKind::Anthropic => &[
            r#"{"type":"message_start","message":{"usage":{"input_tokens":3,"output_tokens":1}}}"#,
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"hi"}}"#,
        ],
        ProviderKind::OpenAi => &[r#"{"choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":null}]}"#],
        ProviderKind::OpenAiResponses => &[
            r#"{"type":"response.created","response":{"status":"in_progress"}}"#,
            r#"{"type":"response.output_item.added","output_index":0,"item":{"type":"message"}}"#,
            r#"{"type":"response.output_text.delta","output_index":0,"delta":"hi"}"#,
        ],
        ProviderKind::Gemini => &[r#"{"candidates":[{"content":{"parts":[{"text":"hi"}]},"index":0}]}"#],
        ProviderKind::Ollama => &[r#"{"message":{"content":"hi"},"done":false}"#],
    }
}

/// The end that belongs to it, without a word about usage.
pub fn end(kind: ProviderKind) -> &'static [&'static str] {
    match kind {
        ProviderKind::Anthropic => &[
            r#"{"type":"content_block_stop","index":0}"#,
            r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"}}"#,
            r#"{"type":"message_stop"}"#,
        ],
        ProviderKind::OpenAi => &[r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#, "[DONE]"],
        ProviderKind::OpenAiResponses => &[
            r#"{"type":"response.output_item.done","output_index":0,"item":{"type":"message"}}"#,
            r#"{"type":"response.completed","response":{"status":"completed"}}"#,
        ],
        ProviderKind::Gemini => &[r#"{"candidates":[{"finishReason":"STOP","index":0}]}"#],
        ProviderKind::Ollama => &[r#"{"message":{"content":""},"done":true,"done_reason":"stop"}"#],
    }
}
