//! Sealed reasoning: kept as it came, given back unchanged and in its place, and to nobody else.

use homarus_contract::{
    ids::CallId,
    message::{Block, Message, Thought, ToolCall},
    model::ProviderBlock,
};
use homarus_models::ProviderKind;
use homarus_test_kit::{ModelServer, Turn};
use serde_json::{Value, json};

use crate::support::{Said, ask, model_of, registry, request, request_saying};

const SEAL: &str = "EqQBCkYIBxgCKkD/sealed+reasoning==";
const KINDS: [ProviderKind; 3] = [ProviderKind::Anthropic, ProviderKind::OpenAiResponses, ProviderKind::Gemini];

/// What was said, as the journal gives it back.
fn recorded(said: &Said, model: &str) -> Message {
    let blocks = said.blocks.iter().enumerate().map(|(index, block)| match block {
        ProviderBlock::Text(text) => Block::Text { text: text.clone() },
        ProviderBlock::Thought { json } => {
            Block::Thought(Thought { model: model.parse().unwrap(), json: json.clone() })
        }
        ProviderBlock::ToolCall { provider_id, name, arguments } => Block::ToolCall(ToolCall {
            call: CallId::new(1, index as u32),
            provider_id: provider_id.clone(),
            name: name.clone(),
            arguments: arguments.clone(),
        }),
    });
    Message::Assistant { blocks: blocks.collect() }
}

/// Asks twice: the second request tells of the first answer, said by `model`. Gives the second request's body.
async fn second_request(kind: ProviderKind, model: &str) -> Value {
    let turn = Turn::text("I look.").and_call("file.write", json!({"path": "a"})).thinking(SEAL);
    let server = ModelServer::with_turns(vec![turn, Turn::text("done")]).await;
    let registry = registry(kind, &server.base_url());
    let said = ask(&registry, request(&model_of(kind))).await;
    assert_eq!(said.thoughts().len(), 1, "{kind}: {:?}", said.blocks);
    assert!(!said.streamed_text().contains("weigh"), "{kind}: thoughts are not shown as words of the answer");
    let messages = vec![
        Message::User { text: "go".to_owned() },
        recorded(&said, model),
        Message::ToolResult { call: CallId::new(1, said.blocks.len() as u32 - 1), text: "ok".into(), is_error: false },
    ];
    ask(&registry, request_saying(&model_of(kind), messages)).await.ok();
    server.model_calls()[1].body.clone()
}

#[tokio::test]
async fn they_go_back_unchanged_and_in_their_place() {
    for kind in KINDS {
        let body = second_request(kind, &model_of(kind)).await;
        match kind {
            ProviderKind::Anthropic => {
                let content = &body["messages"][1]["content"];
                assert_eq!(content[0], json!({"type": "thinking", "thinking": "I weigh it.", "signature": SEAL}));
                assert_eq!((&content[1]["type"], &content[2]["type"]), (&json!("text"), &json!("tool_use")));
            }
            ProviderKind::OpenAiResponses => {
                assert_eq!(
                    (&body["store"], &body["include"]),
                    (&json!(false), &json!(["reasoning.encrypted_content"]))
                );
                let sealed = json!({"id": "rs_1", "type": "reasoning", "summary": [], "encrypted_content": SEAL});
                assert_eq!(body["input"][1], sealed);
                let kinds: Vec<&str> =
                    body["input"].as_array().unwrap().iter().map(|item| item["type"].as_str().unwrap()).collect();
                assert_eq!(kinds, ["message", "reasoning", "message", "function_call", "function_call_output"]);
            }
            _ => {
                let parts = &body["contents"][1]["parts"];
                assert_eq!(parts[0], json!({"text": "I look."}));
                assert_eq!(parts[1]["functionCall"]["name"], "file-write");
                assert_eq!(parts[1]["thoughtSignature"], SEAL);
            }
        }
    }
}

#[tokio::test]
async fn another_model_is_not_told_them() {
    for kind in KINDS {
        for other in [format!("{kind}/another"), "elsewhere/scripted".to_owned()] {
            let body = second_request(kind, &other).await.to_string();
            assert!(!body.contains(SEAL) && body.contains("I look."), "{kind} {other}: {body}");
        }
    }
}

/// Newer models of Gemini refuse calls without a signature; the API has a mark for calls of others.
#[tokio::test]
async fn gemini_is_told_which_calls_were_anothers() {
    let messages = || {
        let call = |index: u32| {
            Block::ToolCall(ToolCall {
                call: CallId::new(1, index),
                provider_id: format!("call_{index}"),
                name: "file.write".to_owned(),
                arguments: "{}".to_owned(),
            })
        };
        let result =
            |index| Message::ToolResult { call: CallId::new(1, index), text: "ok".into(), is_error: index == 1 };
        vec![
            Message::User { text: "go".to_owned() },
            Message::Assistant { blocks: vec![call(0), call(1)] },
            result(0),
            result(1),
        ]
    };
    for (model, marked) in [("gemini/gemini-3.1-pro-preview", true), ("gemini/gemini-2.5-pro", false)] {
        let server = ModelServer::with_turns(vec![Turn::text("done")]).await;
        ask(&registry(ProviderKind::Gemini, &server.base_url()), request_saying(model, messages())).await.ok();
        let body = server.model_calls()[0].body.clone();
        let parts = &body["contents"][1]["parts"];
        assert_eq!(parts[0]["thoughtSignature"] == "skip_thought_signature_validator", marked, "{parts}");
        assert_eq!(parts[1]["thoughtSignature"], Value::Null, "only the first call of an answer has one");
        assert_eq!(parts[0]["functionCall"]["id"], Value::Null, "an id it did not give is not sent");
        let results = &body["contents"][2]["parts"];
        assert_eq!(results[0]["functionResponse"]["response"], json!({"output": "ok"}));
        assert_eq!(results[1]["functionResponse"]["response"], json!({"error": "ok"}));
    }
}

/// Servers that are compatible with OpenAI send reasoning in two forms, and the second part of it may come after the call it
/// belongs to.
#[tokio::test]
async fn compatible_servers_get_back_what_they_sent() {
    let chunk = |delta: Value| json!({"choices": [{"index": 0, "delta": delta, "finish_reason": null}]}).to_string();
    let sealed = json!([{"type": "reasoning.encrypted", "index": 0, "id": "c1", "data": SEAL}]);
    let call = json!({"index": 0, "id": "c1", "function": {"name": "file-write", "arguments": "{\"path\": \"a\"}"}});
    let chunks = [
        chunk(json!({"reasoning_content": "I weigh "})),
        chunk(json!({"reasoning_content": "it.", "reasoning_details": []})),
        chunk(json!({"content": "I look.", "reasoning_content": null})),
        chunk(json!({"tool_calls": [call]})),
        chunk(json!({"reasoning_details": sealed})),
        json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}).to_string(),
        "[DONE]".to_owned(),
    ];
    let chunks: Vec<&str> = chunks.iter().map(String::as_str).collect();
    let kind = ProviderKind::OpenAi;
    let server = ModelServer::with_turns(vec![Turn::raw_sse(&chunks), Turn::text("a"), Turn::text("b")]).await;
    let registry = registry(kind, &server.base_url());
    let said = ask(&registry, request(&model_of(kind))).await;
    assert_eq!((said.streamed_text().as_str(), said.thoughts().len(), said.calls().len()), ("I look.", 2, 1));
    let own = model_of(kind);
    for model in [own.as_str(), "openai/another"] {
        let call = said.blocks.iter().position(|block| matches!(block, ProviderBlock::ToolCall { .. })).unwrap();
        let messages = vec![
            Message::User { text: "go".to_owned() },
            recorded(&said, model),
            Message::ToolResult { call: CallId::new(1, call as u32), text: "ok".into(), is_error: false },
        ];
        ask(&registry, request_saying(&own, messages)).await.ok();
    }
    let assistant = |index: usize| server.model_calls()[index].body["messages"][2].clone();
    assert_eq!(assistant(1)["content"], "I look.");
    assert_eq!(
        (&assistant(1)["reasoning_content"], &assistant(1)["reasoning_details"]),
        (&json!("I weigh it."), &sealed)
    );
    assert_eq!(assistant(1)["tool_calls"][0]["id"], "c1");
    let others = assistant(2).to_string();
    assert!(!others.contains("reasoning") && !others.contains(SEAL), "{others}");
}

/// A block of thinking without its signature could not be given back: it is no thought to keep.
#[tokio::test]
async fn what_is_not_sealed_is_not_kept() {
    let anthropic = Turn::call("file.write", json!({})).thinking("");
    let server = ModelServer::with_turns(vec![anthropic]).await;
    let kind = ProviderKind::Anthropic;
    let said = ask(&registry(kind, &server.base_url()), request(&model_of(kind))).await;
    assert!(said.thoughts().is_empty() && said.calls().len() == 1, "{:?}", said.blocks);
}

#[tokio::test]
async fn a_redacted_thought_of_anthropic_is_kept_too() {
    let block =
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"redacted_thinking","data":"c2VhbGVk"}}"#;
    let stop = r#"{"type":"content_block_stop","index":0}"#;
    let kind = ProviderKind::Anthropic;
    let events = [&[block, stop], crate::rows::beginning(kind), crate::rows::end(kind)].concat();
    let said = crate::support::ask_turn(kind, Turn::raw_sse(&events)).await;
    assert_eq!(said.thoughts(), [r#"{"type":"redacted_thinking","data":"c2VhbGVk"}"#]);
}
