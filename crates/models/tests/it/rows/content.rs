//! Answers that follow the protocol, and cannot be used as they are.

use homarus_contract::model::ModelErrorClass::*;
use homarus_models::ProviderKind;
use homarus_test_kit::Turn;
use serde_json::json;

use super::{
    Taken::{self, Answer, Failure, Refusal},
    answering, beginning, framed, rows, taken,
};
use crate::support::{KINDS, ask_turn};

rows! {
    arguments_not_json: "arguments of a tool call that are not JSON", Failure(Protocol), |taken_as|
        answering(taken_as, |_| Turn::call("file.write", json!("{\"path\": oops}")));
    arguments_cut: "arguments that end in the middle", Failure(Protocol), |taken_as|
        answering(taken_as, |_| Turn::call("file.write", json!("{\"path\": \"a")));
    arguments_no_object: "arguments that are a list", Failure(Protocol), |taken_as|
        answering(taken_as, |_| Turn::call("file.write", json!([1, 2])));
    arguments_miss_fields: "arguments that miss fields: the tool refuses them, and tells the model", Answer, missing;
    tool_never_offered: "a call of a tool that was never offered", Failure(Protocol), |taken_as|
        answering(taken_as, |_| Turn::call("format.disk", json!({"path": "/"})));
    two_calls_one_id: "two tool calls with one id", Failure(Protocol), |taken_as| answering(taken_as, |_| twice());
    too_many_calls: "200 calls at once", Failure(Protocol), |taken_as| answering(taken_as, |_| many());
    empty_answer: "an empty answer", Failure(Protocol), |taken_as| answering(taken_as, |_| Turn::empty());
    refusal: "a refusal", Refusal, refused;
    content_filter: "a content filter", Refusal, filtered;
    prompt_blocked: "the prompt itself is blocked (Gemini)", Refusal, blocked;
    end_of_no_known_kind: "an end whose reason nobody has heard of", Failure(Protocol), unknown_end;
    end_without_a_word: "an end whose reason is empty, or none (Chat Completions, Messages)", Failure(Protocol), wordless;
    end_of_a_broken_server: "an end that says the server broke: `error`, `abort` (Chat Completions)", Failure(Unavailable), broken;
}

async fn broken(taken_as: Taken) {
    let kind = ProviderKind::OpenAi;
    for reason in ["error", "abort", "insufficient_system_resource"] {
        let event = format!(r#"{{"choices":[{{"index":0,"delta":{{}},"finish_reason":"{reason}"}}]}}"#);
        taken(&ask_turn(kind, framed(kind, &[beginning(kind), &[&event]].concat())).await, taken_as, kind);
    }
}

async fn missing(taken_as: Taken) {
    for kind in KINDS {
        let said = ask_turn(kind, Turn::call("file.write", json!({}))).await;
        taken(&said, taken_as, kind);
        assert_eq!(said.calls(), [("file.write", "{}")], "{kind}: nothing is filled in");
    }
}

fn twice() -> Turn {
    let one = |turn: Turn, path: &str| turn.and_call_with_id("same", "file.write", json!({ "path": path }));
    one(one(Turn::empty(), "a"), "b")
}

fn many() -> Turn {
    (0..200).fold(Turn::empty(), |turn, index| turn.and_call("file.write", json!({ "path": index })))
}

/// Said by the model itself, where the format has a place for that.
async fn refused(taken_as: Taken) {
    for kind in [ProviderKind::Anthropic, ProviderKind::OpenAi, ProviderKind::OpenAiResponses] {
        let end: &[&str] = match kind {
            ProviderKind::Anthropic => {
                &[r#"{"type":"message_delta","delta":{"stop_reason":"refusal"}}"#, r#"{"type":"message_stop"}"#]
            }
            ProviderKind::OpenAi => &[
                r#"{"choices":[{"index":0,"delta":{"refusal":"I will not."}}]}"#,
                r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#,
            ],
            _ => &[
                r#"{"type":"response.refusal.delta","output_index":1,"delta":"I will not."}"#,
                r#"{"type":"response.completed","response":{"status":"completed"}}"#,
            ],
        };
        taken(&ask_turn(kind, framed(kind, &[beginning(kind), end].concat())).await, taken_as, kind);
    }
}

/// Ollama's format has no word for it.
async fn filtered(taken_as: Taken) {
    for kind in KINDS.into_iter().filter(|kind| *kind != ProviderKind::Ollama) {
        taken(&ask_turn(kind, Turn::text("I begin to").stop("refusal")).await, taken_as, kind);
    }
}

async fn blocked(taken_as: Taken) {
    let kind = ProviderKind::Gemini;
    let said = ask_turn(kind, framed(kind, &[r#"{"promptFeedback":{"blockReason":"PROHIBITED_CONTENT"}}"#])).await;
    taken(&said, taken_as, kind);
    assert!(said.blocks.is_empty());
}

async fn unknown_end(taken_as: Taken) {
    for (kind, ends) in [
        (ProviderKind::Gemini, &["MALFORMED_FUNCTION_CALL", "OTHER", "SOMETHING_NEW"][..]),
        (ProviderKind::OpenAiResponses, &["something_new"][..]),
        (ProviderKind::OpenAi, &["something_new"][..]),
        (ProviderKind::Anthropic, &["something_new"][..]),
    ] {
        for end in ends {
            let event = match kind {
                ProviderKind::Gemini => format!(r#"{{"candidates":[{{"finishReason":"{end}","index":0}}]}}"#),
                ProviderKind::OpenAi => {
                    format!(r#"{{"choices":[{{"index":0,"delta":{{}},"finish_reason":"{end}"}}]}}"#)
                }
                ProviderKind::Anthropic => {
                    format!(r#"{{"type":"message_delta","delta":{{"stop_reason":"{end}"}}}}"#)
                }
                _ => format!(
                    r#"{{"type":"response.incomplete","response":{{"incomplete_details":{{"reason":"{end}"}}}}}}"#
                ),
            };
            taken(&ask_turn(kind, framed(kind, &[beginning(kind), &[&event]].concat())).await, taken_as, kind);
        }
    }
}

/// Some servers send an empty reason with every chunk: then the connection breaks, and half a sentence is no answer.
async fn wordless(taken_as: Taken) {
    let kind = ProviderKind::OpenAi;
    for end in [&[][..], &["[DONE]"][..]] {
        let event = r#"{"choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":""}]}"#;
        taken(&ask_turn(kind, framed(kind, &[&[event], end].concat())).await, taken_as, kind);
    }
    let kind = ProviderKind::Anthropic;
    let end = [r#"{"type":"content_block_stop","index":0}"#, r#"{"type":"message_stop"}"#];
    taken(&ask_turn(kind, framed(kind, &[beginning(kind), &end].concat())).await, taken_as, kind);
}
