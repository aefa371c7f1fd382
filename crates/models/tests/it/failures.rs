//! What must not happen whatever goes wrong: cut answers taken for whole ones, keys in errors, calls without leave.
//! How each way of failing is taken is in `rows`.

use std::sync::Arc;

use homarus_contract::{
    model::{ModelErrorClass::*, Models},
    outbound::SecretRef,
};
use homarus_models::{Options, ProviderKind, ProviderOptions, Registry, prices::Prices};
use homarus_test_kit::{ModelServer, Turn, permit_for_model};
use homarus_vault::Vault;
use serde_json::json;

use crate::support::{KINDS, NoWorkers, SECRET, ask, ask_turn, model_of, registry, registry_with, request};

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
            assert!(cut_at < 12_000, "{kind} never took the answer");
            cut_at += 53;
        }
    }
}

#[tokio::test]
async fn a_key_that_is_not_set_or_not_for_this_host() {
    let server = ModelServer::with_turns(vec![]).await;
    let mut provider = ProviderOptions::new(ProviderKind::OpenAi);
    provider.base_url = server.base_url();
    provider.secret = Some(SecretRef("MISSING".to_owned()));
    let vault = Vault::from_lookup(vec![], |_| None).unwrap();
    let options = Options { providers: vec![provider], ..Options::default() };
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
