//! Good answers with damage anywhere: whatever comes of it, it ends once, and no call is run whose
//! arguments are not a JSON object or whose tool was not offered.

use std::sync::Arc;

use futures_util::{StreamExt, stream};
use homarus_contract::{
    BoxFuture,
    outbound::{Outbound, OutboundError, OutboundRequest, OutboundResponse, Reach, SecretRef},
};
use homarus_models::{Options, ProviderKind, ProviderOptions, Registry, prices::Prices};
use homarus_test_kit::{ModelServer, Turn};
use homarus_vault::Vault;
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use serde_json::json;

use crate::support::{KINDS, NoWorkers, ask, model_of, request};

/// Answers everything with these bytes, in pieces of this size.
struct Canned {
    body: Vec<u8>,
    piece_bytes: usize,
}

impl Outbound for Canned {
    fn send(&self, _: OutboundRequest) -> BoxFuture<'_, Result<OutboundResponse, OutboundError>> {
        let pieces: Vec<Result<Vec<u8>, OutboundError>> =
            self.body.chunks(self.piece_bytes).map(|piece| Ok(piece.to_vec())).collect();
        let response = OutboundResponse { status: 200, headers: Vec::new(), body: Box::pin(stream::iter(pieces)) };
        Box::pin(async move { Ok(response) })
    }

    fn has_secret(&self, _: &SecretRef) -> bool {
        false
    }
}

#[derive(Debug, Clone)]
enum Damage {
    Change(u8),
    Remove(usize),
    Repeat(usize),
    Insert(&'static str),
}

fn damage() -> impl Strategy<Value = Damage> {
    let inserted = ["\n", "\r\n", "\0", "}", "{\"", "data: ", "data: {}\n\n", "null", "\u{feff}", "[DONE]", "\\u0000"];
    prop_oneof![
        any::<u8>().prop_map(Damage::Change),
        (1usize..200).prop_map(Damage::Remove),
        (1usize..200).prop_map(Damage::Repeat),
        proptest::sample::select(inserted.to_vec()).prop_map(Damage::Insert),
    ]
}

fn damaged(body: &[u8], at: usize, damage: &Damage) -> Vec<u8> {
    let at = at % body.len();
    let mut body = body.to_vec();
    match damage {
        Damage::Change(byte) => body[at] = *byte,
        Damage::Remove(count) => {
            body.drain(at..(at + count).min(body.len()));
        }
        Damage::Repeat(count) => {
            let piece = body[at..(at + count).min(body.len())].to_vec();
            body.splice(at..at, piece);
        }
        Damage::Insert(text) => {
            body.splice(at..at, text.bytes());
        }
    }
    body
}

/// The bytes of a good answer of this kind.
async fn good_answer(kind: ProviderKind) -> Vec<u8> {
    let turn = Turn::text("Some text first.")
        .and_call("file.write", json!({"path": "a/b", "content": "{\"x\": [1]}"}))
        .and_call("shell.execute", json!({"command": "ls"}));
    let server = ModelServer::with_turns(vec![turn]).await;
    let path = match kind {
        ProviderKind::Anthropic => "/v1/messages",
        ProviderKind::OpenAi => "/v1/chat/completions",
        ProviderKind::OpenAiResponses => "/v1/responses",
        ProviderKind::Gemini => "/v1beta/models/m:streamGenerateContent?alt=sse",
        ProviderKind::Ollama => "/api/chat",
    };
    let names = json!([{"name": "file-write", "function": {"name": "file-write"}}, {"name": "shell-execute", "function": {"name": "shell-execute"}}]);
    let request = OutboundRequest {
        method: "POST".to_owned(),
        url: format!("{}{path}", server.base_url()),
        headers: Vec::new(),
        body: json!({"model": "m", "stream": true, "stream_options": {"include_usage": true}, "tools": names})
            .to_string()
            .into_bytes(),
        secret: None,
        reach: Reach::Any,
        connect_ms: 5_000,
        idle_ms: 5_000,
    };
    let vault = Vault::from_lookup(vec![], |_| None).unwrap();
    let pieces: Vec<Vec<u8>> = vault.send(request).await.unwrap().body.map(|piece| piece.unwrap()).collect().await;
    pieces.concat()
}

#[test]
fn damage_never_makes_a_call_that_was_not_made() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for kind in KINDS {
        let good = runtime.block_on(good_answer(kind));
        let mut runner = TestRunner::new(Config { cases: 400, failure_persistence: None, ..Config::default() });
        let check = |(at, damage, piece_bytes): (usize, Damage, usize)| {
            let outbound = Canned { body: damaged(&good, at, &damage), piece_bytes };
            let options = Options { providers: vec![ProviderOptions::new(kind)], ..Options::default() };
            let registry = Registry::new(options, Arc::new(outbound), Arc::new(NoWorkers), Prices::default());
            let said = runtime.block_on(ask(&registry, request(&model_of(kind))));
            for (name, arguments) in said.calls() {
                prop_assert!(["file.write", "shell.execute", "plain_name"].contains(&name), "{name}");
                let value: serde_json::Value = serde_json::from_str(arguments).unwrap();
                prop_assert!(value.is_object(), "{arguments}");
            }
            Ok(())
        };
        let cases = (any::<usize>(), damage(), 1usize..300);
        if let Err(error) = runner.run(&cases, check) {
            panic!("{kind}: {error}");
        }
        // And without damage it is the answer it was.
        let outbound = Canned { body: good.clone(), piece_bytes: 7 };
        let options = Options { providers: vec![ProviderOptions::new(kind)], ..Options::default() };
        let registry = Registry::new(options, Arc::new(outbound), Arc::new(NoWorkers), Prices::default());
        let said = runtime.block_on(ask(&registry, request(&model_of(kind))));
        assert_eq!((said.texts().len(), said.calls().len()), (1, 2), "{kind}");
    }
}
