//! Good answers of every provider: text, calls, order, usage, stop reasons.

use futures_util::StreamExt;
use homarus_contract::{
    message::StopReason,
    model::{ModelEvent, Models, ProviderBlock},
};
use homarus_models::ProviderKind;
use homarus_test_kit::{ModelServer, Turn, permit_for_model};
use serde_json::json;

use crate::support::{KINDS, ask, ask_turn, model_of, registry, request};

#[tokio::test]
async fn text_streams_in_pieces_and_comes_whole() {
    for kind in KINDS {
        let said = ask_turn(kind, Turn::text("Grüße aus dem Test, in Stücken.")).await;
        assert_eq!(said.ok().0, StopReason::EndTurn, "{kind}");
        assert_eq!(said.texts(), ["Grüße aus dem Test, in Stücken."]);
        assert_eq!(said.streamed_text(), said.texts()[0]);
        assert!(said.events.len() > 3, "{kind} did not stream");
    }
}

#[tokio::test]
async fn text_and_two_calls_come_in_order_under_our_names() {
    for kind in KINDS {
        let turn = Turn::text("First this.")
            .and_call("file.write", json!({"path": "a \"quoted\" {name}", "n": [1, {"x": null}]}))
            .and_call("plain_name", json!({"path": "b"}));
        let said = ask_turn(kind, turn).await;
        assert_eq!(said.ok().0, StopReason::ToolUse, "{kind}");
        assert_eq!(said.texts(), ["First this."]);
        let calls = said.calls();
        assert_eq!(calls.iter().map(|call| call.0).collect::<Vec<_>>(), ["file.write", "plain_name"], "{kind}");
        let arguments: serde_json::Value = serde_json::from_str(calls[0].1).unwrap();
        assert_eq!(arguments, json!({"path": "a \"quoted\" {name}", "n": [1, {"x": null}]}));
        assert!(matches!(said.blocks[0], ProviderBlock::Text(_)), "{kind}: {:?}", said.blocks);
        let ids = said.call_ids();
        assert!(ids[0] != ids[1] && !ids[0].is_empty(), "{kind}: {ids:?}");
        check_call_events(&said.events, kind);
    }
}

/// Each call: begun, its pieces, done; the pieces make up the arguments.
fn check_call_events(events: &[ModelEvent], kind: ProviderKind) {
    let started: Vec<(u32, &str)> = events
        .iter()
        .filter_map(|event| {
            if let ModelEvent::CallStarted { index, name } = event { Some((*index, name.as_str())) } else { None }
        })
        .collect();
    assert_eq!(started, [(0, "file.write"), (1, "plain_name")], "{kind}");
    let pieces: String = events
        .iter()
        .filter_map(
            |event| if let ModelEvent::CallDelta { index: 1, json } = event { Some(json.as_str()) } else { None },
        )
        .collect();
    assert_eq!(pieces, r#"{"path":"b"}"#, "{kind}");
}

#[tokio::test]
async fn empty_arguments_are_an_empty_object() {
    for kind in KINDS {
        for arguments in [json!(null), json!({})] {
            let said = ask_turn(kind, Turn::call("shell.execute", arguments)).await;
            assert_eq!(said.calls(), [("shell.execute", "{}")], "{kind}");
        }
    }
}

#[tokio::test]
async fn every_token_is_counted_once() {
    for kind in [ProviderKind::Anthropic, ProviderKind::OpenAi] {
        let usage = ask_turn(kind, Turn::text("hi").usage(100, 20, 50, 30)).await.ok().1;
        assert_eq!(
            (usage.input_tokens, usage.output_tokens, usage.cache_read_tokens, usage.cache_write_tokens),
            (Some(100), Some(20), Some(50), Some(30)),
            "{kind}"
        );
    }
    let usage = ask_turn(ProviderKind::Ollama, Turn::text("hi").usage(100, 20, 0, 0)).await.ok().1;
    assert_eq!((usage.input_tokens, usage.output_tokens, usage.cache_read_tokens), (Some(100), Some(20), None));
}

#[tokio::test]
async fn usage_that_was_not_sent_is_unknown_not_zero() {
    for kind in KINDS {
        let usage = ask_turn(kind, Turn::text("hi").no_usage()).await.ok().1;
        assert_eq!((usage.input_tokens, usage.output_tokens), (None, None), "{kind}");
    }
}

#[tokio::test]
async fn a_limit_keeps_the_text_and_drops_the_half_call() {
    for kind in [ProviderKind::Anthropic, ProviderKind::OpenAi] {
        // Cut in the middle, and before its first argument was written: that one is no call with nothing to say.
        for arguments in [json!("{\"path\": \"a"), json!(null)] {
            let cut = Turn::text("I will").and_call("file.write", arguments.clone()).stop("max_tokens");
            let said = ask_turn(kind, cut).await;
            assert_eq!(said.ok().0, StopReason::MaxTokens, "{kind} {arguments}");
            assert_eq!((said.texts(), said.calls().len()), (vec!["I will"], 0), "{kind} {arguments}");
        }
    }
    let said = ask_turn(ProviderKind::Ollama, Turn::text("I will").stop("max_tokens")).await;
    assert_eq!(said.ok().0, StopReason::MaxTokens);
}

#[tokio::test]
async fn a_refusal_is_a_stop_reason() {
    for kind in [ProviderKind::Anthropic, ProviderKind::OpenAi] {
        for turn in [Turn::text("I can't").stop("refusal"), Turn::empty().stop("refusal")] {
            assert_eq!(ask_turn(kind, turn).await.ok().0, StopReason::Refusal, "{kind}");
        }
    }
    let refusal = r#"{"choices":[{"index":0,"delta":{"refusal":"No."},"finish_reason":"stop"}]}"#;
    let said = ask_turn(ProviderKind::OpenAi, Turn::raw_sse(&[refusal, "[DONE]"])).await;
    assert_eq!((said.ok().0, said.texts()), (StopReason::Refusal, vec!["No."]));
}

#[tokio::test]
async fn unknown_events_are_passed_over() {
    let anthropic = [
        r#"{"type":"message_start","message":{"usage":{"input_tokens":1,"output_tokens":1},"new_field":1}}"#,
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"hm"}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"x"}}"#,
        r#"{"type":"content_block_stop","index":0}"#,
        r#"{"type":"brand_new","index":0}"#,
        r#"{"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}}"#,
        r#"{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"hi"}}"#,
        r#"{"type":"content_block_stop","index":1}"#,
        r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":9}}"#,
        r#"{"type":"message_stop"}"#,
    ];
    let said = ask_turn(ProviderKind::Anthropic, Turn::raw_sse(&anthropic)).await;
    assert_eq!((said.texts(), said.ok().1.output_tokens), (vec!["hi"], Some(9)));
    let openai = [
        r#"{"id":"x","choices":[],"prompt_filter_results":[]}"#,
        r#"{"choices":[{"index":0,"delta":{"reasoning_content":"hm","content":null,"tool_calls":null},"finish_reason":null}],"usage":null}"#,
        r#"{"choices":[{"index":1,"delta":{"content":"another choice"}}]}"#,
        r#"{"choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":null}]}"#,
        r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#,
        "[DONE]",
    ];
    assert_eq!(ask_turn(ProviderKind::OpenAi, Turn::raw_sse(&openai)).await.texts(), ["hi"]);
    let ollama = "{\"message\":{\"role\":\"assistant\",\"content\":\"\",\"thinking\":\"hm\"},\"done\":false}\n\n{\"message\":{\"content\":\"hi\"},\"done\":true,\"new\":1}\n";
    assert_eq!(ask_turn(ProviderKind::Ollama, Turn::raw(ollama)).await.texts(), ["hi"]);
}

/// The habits of servers that say they are compatible.
#[tokio::test]
async fn compatible_servers_are_understood() {
    let call = |index: &str, id: &str, name: &str, arguments: &str| {
        format!(
            r#"{{"choices":[{{"index":0,"delta":{{"tool_calls":[{{{index}"id":{id},"type":"function","function":{{"name":{name},"arguments":{arguments}}}}}]}},"finish_reason":null}}]}}"#
        )
    };
    let end = r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#.to_owned();
    let cases: Vec<(&str, Vec<String>, Vec<&str>)> = vec![
        (
            "finish_reason stop, no [DONE]",
            vec![call(r#""index":0,"#, r#""a""#, r#""file-write""#, r#""{}""#), end.clone()],
            vec!["{}"],
        ),
        (
            "every call has index 0",
            vec![
                call(r#""index":0,"#, r#""a""#, r#""file-write""#, r#""{\"path\":\"1\"}""#),
                call(r#""index":0,"#, r#""b""#, r#""file-write""#, r#""{\"path\":\"2\"}""#),
                end.clone(),
            ],
            vec![r#"{"path":"1"}"#, r#"{"path":"2"}"#],
        ),
        (
            "no index, no id, arguments as an object",
            vec![
                call("", "null", r#""file-write""#, r#"{"path":"1"}"#),
                call("", "null", r#""file-write""#, r#"{"path":"2"}"#),
                end.clone(),
            ],
            vec![r#"{"path":"1"}"#, r#"{"path":"2"}"#],
        ),
        (
            "our own name, arguments as a string in a string",
            vec![call(r#""index":0,"#, r#""a""#, r#""file.write""#, r#""\"{\\\"path\\\":\\\"1\\\"}\"""#), end.clone()],
            vec![r#"{"path":"1"}"#],
        ),
        (
            "name and id repeated in each piece",
            vec![
                call(r#""index":0,"#, r#""a""#, r#""file-write""#, r#""{\"path\"""#),
                call(r#""index":0,"#, r#""a""#, r#""file-write""#, r#"":\"1\"}""#),
                call(r#""index":0,"#, r#""a""#, r#""file-write""#, r#""""#),
                end.clone(),
            ],
            vec![r#"{"path":"1"}"#],
        ),
        (
            "interleaved, the second whole before the first",
            vec![
                call(r#""index":0,"#, r#""a""#, r#""file-write""#, r#""""#),
                call(r#""index":1,"#, r#""b""#, r#""file-write""#, r#""{\"path\":\"2\"}""#),
                call(r#""index":0,"#, "null", "null", r#""{\"path\":\"1\"}""#),
                end.clone(),
            ],
            vec![r#"{"path":"1"}"#, r#"{"path":"2"}"#],
        ),
    ];
    for (what, chunks, expected) in cases {
        let chunks: Vec<&str> = chunks.iter().map(String::as_str).collect();
        let said = ask_turn(ProviderKind::OpenAi, Turn::raw_sse(&chunks)).await;
        assert_eq!(said.ok().0, StopReason::ToolUse, "{what}");
        assert_eq!(said.calls().iter().map(|call| call.1).collect::<Vec<_>>(), expected, "{what}");
    }
}

/// A tool can start while the model still talks.
#[tokio::test]
async fn a_call_is_done_before_the_answer_is() {
    for kind in [ProviderKind::Anthropic, ProviderKind::OpenAi] {
        let turn = Turn::call("file.write", json!({"path": "a"})).and_text(&"and more text ".repeat(100));
        let server = ModelServer::with_turns(vec![turn.stall_after(1_500)]).await;
        let registry = registry(kind, &server.base_url());
        let request = request(&model_of(kind));
        let mut stream = registry.stream(permit_for_model(&request.model.clone()), request);
        loop {
            match stream.next().await {
                Some(ModelEvent::BlockDone(ProviderBlock::ToolCall { arguments, .. })) => {
                    assert_eq!(arguments, r#"{"path":"a"}"#, "{kind}");
                    break;
                }
                Some(ModelEvent::CallStarted { .. } | ModelEvent::CallDelta { .. } | ModelEvent::Counted(_)) => {}
                other => panic!("{kind}: {other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn connections_are_used_again() {
    for kind in KINDS {
        let server = ModelServer::with_turns(vec![Turn::text("one"), Turn::text("two"), Turn::text("three")]).await;
        let registry = registry(kind, &server.base_url());
        for expected in ["one", "two", "three"] {
            assert_eq!(ask(&registry, request(&model_of(kind))).await.texts(), [expected], "{kind}");
        }
        assert_eq!(server.connections(), 1, "{kind}");
    }
}
