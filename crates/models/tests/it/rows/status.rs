//! Statuses other than 200.

use homarus_contract::model::ModelErrorClass::*;
use homarus_models::ProviderKind;
use homarus_test_kit::Turn;

use super::{
    Taken::{self, Failure},
    answering, rows,
};
use crate::support::{KINDS, ask_turn};

rows! {
    status_400: "400: the request is wrong", Failure(BadRequest), status(400, r#"{"error":{"message":"no such field"}}"#);
    context_overflow: "400 or 413: the prompt is longer than the model's window", Failure(ContextOverflow), overflow;
    status_401: "401: the key is wrong", Failure(Auth), status(401, r#"{"error":"bad key"}"#);
    gemini_invalid_key: "400 with `API_KEY_INVALID` (Gemini): the key is wrong", Failure(Auth), status(400, GEMINI_KEY);
    status_403: "403: the key may not do this", Failure(Auth), status(403, "forbidden");
    out_of_credit: "402, or 429 with `insufficient_quota`: the account has no money", Failure(Auth), no_money;
    status_404: "404: no such model", Failure(NotFound), status(404, r#"{"error":"model not found"}"#);
    status_408: "408: the server gave up waiting", Failure(Unavailable), status(408, "");
    status_413: "413: the request is too large", Failure(BadRequest), status(413, "");
    status_429: "429 without `Retry-After`", Failure(RateLimited), status(429, "{}");
    retry_after_seconds: "429 with `Retry-After` in seconds, or `retry-after-ms`", Failure(RateLimited), seconds;
    retry_after_date: "429 with `Retry-After` as a date", Failure(RateLimited), date;
    retry_delay_in_body: "429 with `retryDelay` in the body (Gemini)", Failure(RateLimited), delay_in_body;
    status_500: "500", Failure(Unavailable), status(500, "oops");
    status_502: "502, with a web page of a proxy", Failure(Unavailable), status(502, "<html><h1>Bad Gateway</h1></html>");
    status_503: "503", Failure(Unavailable), status(503, "");
    status_529: "529: overloaded", Failure(Unavailable), status(529, OVERLOADED);
    redirect: "a redirect: it is not followed, since it would take the key along", Failure(BadRequest), status(302, "");
}

const OVERLOADED: &str = r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
const GEMINI_KEY: &str = r#"{"error":{"code":400,"message":"API key not valid.","status":"INVALID_ARGUMENT","details":[{"reason":"API_KEY_INVALID"}]}}"#;

fn status(status: u16, body: &'static str) -> impl AsyncFn(Taken) {
    async move |taken_as| answering(taken_as, |_| Turn::status(status, &[], body)).await
}

async fn overflow(taken_as: Taken) {
    for (status, body) in [
        (400, r#"{"error":{"message":"prompt is too long: 9 tokens > 8 maximum"}}"#),
        (400, r#"{"error":{"code":"context_length_exceeded","message":"Your input exceeds the context window"}}"#),
        (400, r#"{"error":{"message":"The input token count (9) exceeds the maximum number of tokens allowed (8)."}}"#),
        (413, r#"{"error":{"message":"input is too long for this model"}}"#),
    ] {
        answering(taken_as, |_| Turn::status(status, &[], body)).await;
    }
}

async fn no_money(taken_as: Taken) {
    let quota = r#"{"error":{"code":"insufficient_quota","message":"You exceeded your current quota"}}"#;
    for (status, body) in [(402, ""), (429, quota), (400, r#"{"error":{"message":"Your credit balance is too low"}}"#)]
    {
        answering(taken_as, |_| Turn::status(status, &[], body)).await;
    }
}

async fn pause(taken_as: Taken, kind: ProviderKind, turn: Turn, expected_ms: u64) {
    let said = ask_turn(kind, turn).await;
    super::taken(&said, taken_as, kind);
    assert_eq!(said.error().retry_after_ms, Some(expected_ms), "{kind}");
}

async fn seconds(taken_as: Taken) {
    for kind in KINDS {
        pause(taken_as, kind, Turn::status(429, &[("retry-after", "7")], "{}"), 7_000).await;
        let both = [("retry-after", "7"), ("retry-after-ms", "6500")];
        pause(taken_as, kind, Turn::status(429, &both, "{}"), 6_500).await;
    }
}

/// Counted from the server's own clock, so that no clock of ours matters.
async fn date(taken_as: Taken) {
    let headers = [("date", "Sun, 06 Nov 1994 08:49:00 GMT"), ("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT")];
    for kind in KINDS {
        pause(taken_as, kind, Turn::status(429, &headers, "{}"), 37_000).await;
    }
}

async fn delay_in_body(taken_as: Taken) {
    let body = r#"{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","details":[{"retryDelay":"34.5s"}]}}"#;
    pause(taken_as, ProviderKind::Gemini, Turn::status(429, &[], body), 34_500).await;
}
