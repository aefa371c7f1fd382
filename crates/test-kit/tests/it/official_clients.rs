//! The scripted server against the official Python clients of OpenAI, Anthropic and Google: what they understand of it
//! is what the providers mean, so that our idea of the formats is not only ours.
//!
//! They run where `HOMARUS_TEST_CLIENTS` names a Python that has them (`cargo xtask test` installs them); elsewhere
//! these tests say that they were skipped.

use std::process::Stdio;

use homarus_test_kit::{ModelServer, Turn};
use serde_json::{Value, json};
use tokio::process::Command;

/// Base64, as Gemini's client reads it.
const SEAL: &str = "c2VhbGVk";

async fn check(client: &str, end: &str, sealed: Value, errors: Value, models: Value) {
    #[allow(clippy::disallowed_methods)] // Set by whoever runs the tests, for tests only.
    let Ok(python) = std::env::var("HOMARUS_TEST_CLIENTS") else {
        println!("skipped: HOMARUS_TEST_CLIENTS is not set");
        return;
    };
    let error = |status: u16| {
        let body = json!({"error": {"message": "no", "type": "x", "code": status, "status": "X"}}).to_string();
        Turn::status(status, &[("retry-after", "7")], &body)
    };
    let server = ModelServer::with_turns(vec![
        Turn::text("Good morning.").usage(12, 3, 0, 0),
        Turn::text("I write. ").and_call("file.write", json!({"path": "a \"b\""})).usage(20, 9, 0, 0).thinking(SEAL),
        error(429),
        error(400),
    ])
    .await;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/official_clients.py");
    let output = Command::new(python)
        .args([script, client, &server.base_url()])
        .env_remove("HTTP_PROXY")
        .env_remove("http_proxy")
        .env("NO_PROXY", "127.0.0.1")
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    let errors_printed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{client}: {errors_printed}");
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    let expected = json!({
        "whole": "Good morning.",
        "end": end,
        "usage": [12, 3],
        "stream": ["I write. ", "file-write", {"path": "a \"b\""}, [20, 9]],
        "sealed": sealed,
        "errors": errors,
        "models": models,
    });
    assert_eq!(said, expected, "{client}");
}

fn errors() -> Value {
    json!([["RateLimitError", 429], ["BadRequestError", 400]])
}

#[tokio::test]
async fn openai_chat_completions() {
    check("openai", "stop", Value::Null, errors(), json!(["scripted"])).await;
}

#[tokio::test]
async fn openai_responses() {
    check("responses", "completed", json!(SEAL), errors(), json!(["scripted"])).await;
}

#[tokio::test]
async fn anthropic_messages() {
    check("anthropic", "end_turn", json!(SEAL), errors(), json!(["scripted"])).await;
}

#[tokio::test]
async fn google_genai() {
    let errors = json!([["ClientError", 429], ["ClientError", 400]]);
    let models = json!(["models/scripted", "models/embeds-only"]);
    // The bytes of `sealed`, in hexadecimal.
    check("gemini", "STOP", json!("7365616c6564"), errors, models).await;
}
