//! A status of 200, and then a stream that is not what it should be.

use homarus_contract::model::ModelErrorClass::*;
use homarus_models::ProviderKind;
use homarus_test_kit::Turn;

use super::{
    Taken::{self, Answer, Failure},
    answering, beginning, end, framed, rows, taken,
};
use crate::support::{KINDS, ask_turn};

rows! {
    no_final_marker: "the stream ends without its final marker", Failure(Protocol), |taken_as|
        answering(taken_as, |kind| framed(kind, beginning(kind)));
    done_without_reason: "`[DONE]` without a finish reason (Chat Completions)", Failure(Protocol), only_done;
    nothing_at_all: "a body without a byte", Failure(Protocol), |taken_as| answering(taken_as, |_| Turn::raw(""));
    web_page: "a web page instead of an answer", Failure(Protocol), |taken_as|
        answering(taken_as, |_| Turn::raw("<html>\n<body>Welcome to the proxy</body>\n</html>\n"));
    not_json: "a chunk that is not JSON", Failure(Protocol), |taken_as|
        answering(taken_as, |kind| framed(kind, &[beginning(kind), &["{\"broken\": ["], end(kind)].concat()));
    wrong_types: "a chunk with a list or number where an object belongs", Failure(Protocol), |taken_as|
        answering(taken_as, |kind| framed(kind, &[beginning(kind), &["[1,2]"], end(kind)].concat()));
    invalid_utf8: "bytes that are not UTF-8", Failure(Protocol), |taken_as| answering(taken_as, not_utf8);
    unknown_events: "events and fields nobody has heard of", Answer, unknown;
    error_with_200: "status 200, and an error as the body", Failure(Unavailable), |taken_as|
        answering(taken_as, |kind| Turn::raw(overloaded(kind)));
    error_mid_stream: "an error in the middle of the stream", Failure(Unavailable), |taken_as|
        answering(taken_as, |kind| framed(kind, &[beginning(kind), &[overloaded(kind)]].concat()));
    rate_limit_mid_stream: "a rate limit inside the stream", Failure(RateLimited), limited;
    overflow_mid_stream: "a context overflow inside the stream", Failure(ContextOverflow), overflow;
    long_line: "a line of 10 MB or more", Failure(Protocol), |taken_as| answering(taken_as, endless_line);
    usage_missing: "no word about usage: the reservation is booked", Answer, no_usage;
    usage_last: "usage only in the last chunk, after the end of the text", Answer, late_usage;
}

/// How each format says that it is overloaded.
fn overloaded(kind: ProviderKind) -> &'static str {
    match kind {
        ProviderKind::Anthropic => r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
        ProviderKind::OpenAi => r#"{"error":{"message":"it broke","type":"server_error","code":null}}"#,
        ProviderKind::OpenAiResponses => r#"{"type":"error","code":"server_error","message":"it broke","param":null}"#,
        ProviderKind::Gemini => r#"{"error":{"code":503,"message":"The model is overloaded.","status":"UNAVAILABLE"}}"#,
        ProviderKind::Ollama => r#"{"error":"llama runner process has terminated"}"#,
    }
}

async fn only_done(taken_as: Taken) {
    let kind = ProviderKind::OpenAi;
    taken(&ask_turn(kind, framed(kind, &[beginning(kind), &["[DONE]"]].concat())).await, taken_as, kind);
}

fn not_utf8(kind: ProviderKind) -> Turn {
    let whole = framed(kind, &[beginning(kind), end(kind)].concat()).raw.unwrap();
    let at = whole.find("hi").unwrap();
    Turn::raw_bytes(&[&whole.as_bytes()[..at], &[0xff, 0xfe], &whole.as_bytes()[at + 2..]].concat())
}

async fn unknown(taken_as: Taken) {
    for kind in KINDS {
        let new = match kind {
            ProviderKind::Anthropic => r#"{"type":"weather_report","sunny":true}"#,
            ProviderKind::OpenAiResponses => r#"{"type":"response.weather.report","sunny":true}"#,
            // These have no kinds of events, only fields.
            ProviderKind::OpenAi => r#"{"choices":[],"weather":"sunny"}"#,
            ProviderKind::Gemini => {
                r#"{"weather":"sunny","candidates":[{"mood":"good","content":{"parts":[{"scent":1}]}}]}"#
            }
            ProviderKind::Ollama => r#"{"weather":"sunny","done":false}"#,
        };
        let said = ask_turn(kind, framed(kind, &[&[new], beginning(kind), &[new], end(kind)].concat())).await;
        taken(&said, taken_as, kind);
        assert_eq!(said.texts(), ["hi"], "{kind}");
    }
}

async fn limited(taken_as: Taken) {
    for (kind, event) in [
        (ProviderKind::Anthropic, r#"{"type":"error","error":{"type":"rate_limit_error","message":"slow down"}}"#),
        (ProviderKind::OpenAi, r#"{"error":{"message":"slow down","code":429}}"#),
        (
            ProviderKind::OpenAiResponses,
            r#"{"type":"response.failed","response":{"error":{"code":"rate_limit_exceeded","message":"slow down"}}}"#,
        ),
        (ProviderKind::Gemini, r#"{"error":{"code":429,"message":"slow down","status":"RESOURCE_EXHAUSTED"}}"#),
    ] {
        taken(&ask_turn(kind, framed(kind, &[beginning(kind), &[event]].concat())).await, taken_as, kind);
    }
}

async fn overflow(taken_as: Taken) {
    for (kind, event) in [
        (ProviderKind::OpenAi, r#"{"error":{"code":400,"message":"too long","type":"exceed_context_size_error"}}"#),
        (
            ProviderKind::OpenAiResponses,
            r#"{"type":"response.failed","response":{"error":{"code":"context_length_exceeded","message":"too long"}}}"#,
        ),
        (
            ProviderKind::Anthropic,
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long"}}"#,
        ),
    ] {
        taken(&ask_turn(kind, framed(kind, &[event])).await, taken_as, kind);
    }
}

fn endless_line(kind: ProviderKind) -> Turn {
    let (before, after) = ("{\"filler\":\"", "\"}");
    let long = format!("{before}{}{after}", "x".repeat(10_000_000 - before.len() - after.len()));
    framed(kind, &[beginning(kind), &[&long], end(kind)].concat())
}

async fn no_usage(taken_as: Taken) {
    for kind in KINDS {
        let events = [beginning(kind), end(kind)].concat();
        let events: Vec<&str> = events.into_iter().filter(|event| !event.contains("usage")).collect();
        let said = ask_turn(kind, framed(kind, &events)).await;
        taken(&said, taken_as, kind);
        assert_eq!(said.ok().1.total_tokens(), 0, "{kind}");
        assert_eq!(said.ok().1.input_tokens, None, "{kind}: nothing is made up");
    }
}

async fn late_usage(taken_as: Taken) {
    for kind in KINDS {
        let turn = match kind {
            // Anthropic counts the prompt at the beginning, and servers that speak its format in the last chunk.
            ProviderKind::Anthropic => Turn::raw_sse(&[
                r#"{"type":"message_start","message":{}}"#,
                r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
                r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"hi"}}"#,
                r#"{"type":"content_block_stop","index":0}"#,
                r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"input_tokens":120,"output_tokens":7}}"#,
                r#"{"type":"message_stop"}"#,
            ]),
            _ => Turn::text("hi").usage(120, 7, 0, 0),
        };
        let said = ask_turn(kind, turn).await;
        taken(&said, taken_as, kind);
        assert_eq!((said.ok().1.input_tokens, said.ok().1.output_tokens), (Some(120), Some(7)), "{kind}");
    }
}
