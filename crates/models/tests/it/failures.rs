//! Whatever goes wrong is a failure of the right class, and never a good answer.

use std::sync::Arc;

use homarus_contract::{
    model::{ModelErrorClass, ModelErrorClass::*, Models},
    outbound::SecretRef,
};
use homarus_models::{Options, ProviderKind, ProviderOptions, Registry, prices::Prices};
use homarus_test_kit::{ModelServer, Turn, permit_for_model};
use homarus_vault::Vault;
use serde_json::json;

use crate::support::{KINDS, NoWorkers, SECRET, ask, ask_turn, model_of, registry, registry_with, request};

async fn check(kind: ProviderKind, what: &str, turn: Turn, class: ModelErrorClass) {
    let said = ask_turn(kind, turn).await;
    let error = said.error();
    assert_eq!(error.class, class, "{kind}, {what}: {error:?}");
    assert!(!error.message.is_empty() && error.raw.len() <= 4096, "{kind}, {what}");
}

#[tokio::test]
async fn statuses() {
    for kind in KINDS {
        for (status, body, class) in [
            (400, r#"{"error":{"message":"no such parameter"}}"#, BadRequest),
            (400, r#"{"error":{"message":"prompt is too long: 9 tokens > 8 maximum"}}"#, ContextOverflow),
            (401, r#"{"error":"bad key"}"#, Auth),
            (403, "forbidden", Auth),
            (404, r#"{"error":"model not found"}"#, NotFound),
            (413, "", BadRequest),
            (429, "{}", RateLimited),
            (500, "oops", Unavailable),
            (503, "", Unavailable),
            (529, r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#, Unavailable),
            (302, "", BadRequest),
        ] {
            check(kind, &status.to_string(), Turn::status(status, &[], body), class).await;
        }
    }
}

#[tokio::test]
async fn a_pause_that_was_asked_for_is_passed_on() {
    for kind in KINDS {
        let said = ask_turn(kind, Turn::status(429, &[("retry-after", "7")], "{}")).await;
        assert_eq!(said.error().retry_after_ms, Some(7_000), "{kind}");
    }
}

#[tokio::test]
async fn an_answer_cut_anywhere_is_no_answer() {
    for kind in KINDS {
        let whole = Turn::text("a fairly long text").and_call("file.write", json!({"path": "somewhere"}));
        let mut cut_at = 0;
        loop {
            let server = ModelServer::with_turns(vec![whole.clone().cut_after(cut_at)]).await;
            let said = ask(&registry(kind, &server.base_url()), request(&model_of(kind))).await;
            match &said.ending {
                Err(error) => assert!(matches!(error.class, Network | Protocol), "{kind} at {cut_at}: {error:?}"),
                Ok(_) => {
                    // Only once everything but the last formality has come.
                    assert_eq!((said.texts().len(), said.calls().len()), (1, 1), "{kind} at {cut_at}");
                    assert!(cut_at > 400, "{kind} took {cut_at} bytes for an answer");
                    break;
                }
            }
            assert!(cut_at < 4_000, "{kind} never took the answer");
            cut_at += 53;
        }
    }
}

#[tokio::test]
async fn an_answer_that_ends_without_its_final_marker() {
    let openai = r#"{"choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":null}]}"#;
    check(ProviderKind::OpenAi, "no finish_reason", Turn::raw_sse(&[openai]), Protocol).await;
    check(ProviderKind::OpenAi, "only [DONE]", Turn::raw_sse(&[openai, "[DONE]"]), Protocol).await;
    let anthropic = [
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":"hi"}}"#,
        r#"{"type":"content_block_stop","index":0}"#,
        r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"}}"#,
    ];
    check(ProviderKind::Anthropic, "no message_stop", Turn::raw_sse(&anthropic), Protocol).await;
    let ollama = "{\"message\":{\"content\":\"hi\"},\"done\":false}\n";
    check(ProviderKind::Ollama, "no done", Turn::raw(ollama), Protocol).await;
    for kind in KINDS {
        check(kind, "nothing at all", Turn::raw(""), Protocol).await;
        check(kind, "a web page", Turn::raw("<html>\n<body>Welcome to the proxy</body>\n</html>\n"), Protocol).await;
    }
}

#[tokio::test]
async fn garbage() {
    for kind in KINDS {
        let (good, bad) = match kind {
            ProviderKind::OpenAi => {
                (r#"data: {"choices":[{"index":0,"delta":{"content":"hi"}}]}"#, "data: {\"choices\":[\n\n")
            }
            ProviderKind::Anthropic => (r#"data: {"type":"ping"}"#, "data: not json\n\n"),
            ProviderKind::Ollama => (r#"{"message":{"content":"hi"},"done":false}"#, "{\"message\":\n"),
        };
        check(kind, "a broken chunk", Turn::raw(&format!("{good}\n\n{bad}")), Protocol).await;
        let wrong_types = match kind {
            ProviderKind::Ollama => "{\"message\":7,\"done\":\"yes\"}\n".to_owned(),
            _ => "data: [1,2]\n\n".to_owned(),
        };
        check(kind, "wrong types", Turn::raw(&wrong_types), Protocol).await;
    }
}

#[tokio::test]
async fn an_error_with_status_200() {
    let overloaded = r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
    check(ProviderKind::Anthropic, "event", Turn::raw(&format!("event: error\ndata: {overloaded}\n\n")), Unavailable)
        .await;
    check(ProviderKind::Anthropic, "plain body", Turn::raw(overloaded), Unavailable).await;
    let limited = r#"{"error":{"message":"slow down","type":"rate_limit_error","code":null}}"#;
    check(ProviderKind::OpenAi, "chunk", Turn::raw_sse(&[limited]), RateLimited).await;
    check(ProviderKind::OpenAi, "plain body", Turn::raw(limited), RateLimited).await;
    check(
        ProviderKind::OpenAi,
        "a number as code",
        Turn::raw_sse(&[r#"{"error":{"message":"x","code":429}}"#]),
        RateLimited,
    )
    .await;
    check(ProviderKind::OpenAi, "only a text", Turn::raw_sse(&[r#"{"error":"it broke"}"#]), Unavailable).await;
    let overflow = r#"{"error":{"code":400,"message":"the request exceeds the available context size","type":"exceed_context_size_error"}}"#;
    check(ProviderKind::OpenAi, "too long", Turn::raw_sse(&[overflow]), ContextOverflow).await;
    check(
        ProviderKind::Ollama,
        "line",
        Turn::raw("{\"error\":\"llama runner process has terminated\"}\n"),
        Unavailable,
    )
    .await;
}

#[tokio::test]
async fn calls_that_must_not_run() {
    for kind in KINDS {
        check(kind, "unknown tool", Turn::call("format.disk", json!({"path": "/"})), Protocol).await;
        check(kind, "arguments are no JSON", Turn::call("file.write", json!("{\"path\": oops}")), Protocol).await;
        check(kind, "arguments are no object", Turn::call("file.write", json!([1, 2])), Protocol).await;
        let twice = Turn::empty().and_call_with_id("same", "file.write", json!({"path": "a"})).and_call_with_id(
            "same",
            "file.write",
            json!({"path": "b"}),
        );
        check(kind, "two calls with one id", twice, Protocol).await;
        check(kind, "empty answer", Turn::empty(), Protocol).await;
    }
    for kind in [ProviderKind::Anthropic, ProviderKind::OpenAi] {
        check(kind, "half an object", Turn::call("file.write", json!("{\"path\": \"a")), Protocol).await;
    }
}

#[tokio::test]
async fn more_calls_than_anyone_needs() {
    let many = (0..200).fold(Turn::empty(), |turn, index| turn.and_call("file.write", json!({"path": index})));
    for kind in KINDS {
        check(kind, "200 calls", many.clone(), Protocol).await;
    }
}

#[tokio::test]
async fn silence() {
    for kind in KINDS {
        for turn in [Turn::stall(), Turn::text("begins and then nothing").stall_after(60)] {
            let server = ModelServer::with_turns(vec![turn]).await;
            let registry = registry_with(kind, &server.base_url(), |provider| provider.idle_ms = 100);
            let said = ask(&registry, request(&model_of(kind))).await;
            assert_eq!(said.error().class, Timeout, "{kind}");
        }
    }
}

#[tokio::test]
async fn nobody_there() {
    for kind in KINDS {
        let said = ask(&registry(kind, "http://127.0.0.1:1"), request(&model_of(kind))).await;
        assert_eq!(said.error().class, Network, "{kind}");
        let advised = said.error().message.contains("ollama serve");
        assert_eq!(advised, kind == ProviderKind::Ollama, "{}", said.error().message);
    }
}

#[tokio::test]
async fn a_key_that_is_not_set_or_not_for_this_host() {
    let server = ModelServer::with_turns(vec![]).await;
    let mut provider = ProviderOptions::new(ProviderKind::OpenAi);
    provider.base_url = server.base_url();
    provider.secret = Some(SecretRef("MISSING".to_owned()));
    let vault = Vault::from_lookup(vec![], |_| None).unwrap();
    let options = Options { providers: vec![provider], locals: Vec::new() };
    let none = Registry::new(options, Arc::new(vault), Arc::new(NoWorkers), Prices::default());
    let said = ask(&none, request("openai/x")).await;
    assert_eq!(said.error().class, Auth);
    assert!(said.error().message.contains("set MISSING in the environment"), "{}", said.error().message);
    let elsewhere =
        registry_with(ProviderKind::OpenAi, "https://bound.example", |provider| provider.base_url = server.base_url());
    assert_eq!(ask(&elsewhere, request("openai/x")).await.error().class, Auth);
    assert!(server.requests().is_empty(), "something was sent");
}

#[tokio::test]
async fn no_error_shows_the_key() {
    for kind in KINDS {
        for turn in [
            Turn::status(401, &[], &format!("{{\"error\":{{\"message\":\"bad key {SECRET}\"}}}}")),
            Turn::raw(&format!("data: {{\"oops {SECRET}\n\n{{ {SECRET}\n")),
        ] {
            let said = ask_turn(kind, turn).await;
            let text = format!("{:?}", said.error());
            assert!(!text.contains(SECRET) && text.contains("[secret]"), "{kind}: {text}");
        }
    }
}

#[tokio::test]
async fn a_permit_for_another_model_opens_nothing() {
    let server = ModelServer::with_turns(vec![Turn::text("no")]).await;
    let registry = registry(ProviderKind::OpenAi, &server.base_url());
    let permit = permit_for_model(&"openai/cheap".parse().unwrap());
    let events: Vec<_> = futures_util::StreamExt::collect(registry.stream(permit, request("openai/dear"))).await;
    assert!(
        matches!(&events[..], [homarus_contract::model::ModelEvent::Failed(error)] if error.class == BadRequest),
        "{events:?}"
    );
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn a_provider_that_does_not_exist() {
    let said = ask(&registry(ProviderKind::OpenAi, "http://127.0.0.1:1"), request("nowhere/x")).await;
    assert_eq!(said.error().class, NotFound);
}

#[tokio::test]
async fn a_schema_that_is_no_json_is_not_sent() {
    let server = ModelServer::with_turns(vec![Turn::text("no")]).await;
    let mut request = request("openai/x");
    let mut tools = request.tools.to_vec();
    tools[0].schema = "{oops".to_owned();
    request.tools = tools.into();
    let said = ask(&registry(ProviderKind::OpenAi, &server.base_url()), request).await;
    assert_eq!(said.error().class, BadRequest);
    assert!(server.requests().is_empty());
}

/// A reader that goes away takes the connection with it: the provider stops, and stops charging.
#[tokio::test]
async fn dropping_the_stream_hangs_up() {
    use futures_util::StreamExt;
    for kind in KINDS {
        let server =
            ModelServer::with_turns(vec![Turn::text("a long text, most of which never comes").stall_after(700)]).await;
        let registry = registry(kind, &server.base_url());
        let request = request(&model_of(kind));
        let mut stream = registry.stream(permit_for_model(&request.model.clone()), request);
        assert!(stream.next().await.is_some(), "{kind}");
        drop(stream);
        server.wait_for_hang_ups(1).await;
    }
}
