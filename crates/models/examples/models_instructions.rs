//! `models_instructions N`: an answer of N pieces in Chat Completions' format, read to its end. `cargo xtask bench
//! --only instructions` counts what a piece costs the processor.

use std::{fmt::Write as _, hint::black_box, sync::Arc};

use futures_util::{StreamExt, stream};
use homarus_contract::{
    BoxFuture,
    message::Message,
    model::{ModelEvent, ModelRequest, Models},
    outbound::{Outbound, OutboundError, OutboundRequest, OutboundResponse, SecretRef},
    sandbox::{SandboxError, WorkerLauncher, WorkerProcess, WorkerSpec},
};
use homarus_models::{Options, ProviderKind, ProviderOptions, Registry, prices::Prices};
use homarus_test_kit::permit_for_model;

type Failure = Box<dyn std::error::Error>;

/// As a socket hands it on.
const PIECE_BYTES: usize = 4096;

/// A server that answers everything with this body.
struct Canned(Vec<u8>);

impl Outbound for Canned {
    fn send(&self, _: OutboundRequest) -> BoxFuture<'_, Result<OutboundResponse, OutboundError>> {
        let pieces: Vec<_> = self.0.chunks(PIECE_BYTES).map(|piece| Ok(piece.to_vec())).collect();
        let headers = vec![("content-type".to_owned(), "text/event-stream".to_owned())];
        let body = Box::pin(stream::iter(pieces));
        Box::pin(async move { Ok(OutboundResponse { status: 200, headers, body }) })
    }

    fn has_secret(&self, _: &SecretRef) -> bool {
        true
    }
}

struct NoWorkers;

impl WorkerLauncher for NoWorkers {
    fn launch(&self, _: WorkerSpec) -> Result<WorkerProcess, SandboxError> {
        Err(SandboxError::Refused("no workers here".to_owned()))
    }
}

fn main() -> Result<(), Failure> {
    let count: usize = std::env::args().nth(1).ok_or("usage: models_instructions N")?.parse()?;
    let mut body = String::new();
    let head = r#"{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"#;
    for number in 0..count {
        writeln!(body, r#"data: {head}"delta":{{"content":" word{number}"}},"finish_reason":null}}]}}"#)?;
        body.push('\n');
    }
    writeln!(body, "data: {head}\"delta\":{{}},\"finish_reason\":\"stop\"}}]}}\n\ndata: [DONE]\n")?;
    let mut provider = ProviderOptions::new(ProviderKind::OpenAi);
    provider.base_url = "http://127.0.0.1:1".to_owned();
    let options = Options { providers: vec![provider], ..Options::default() };
    let registry =
        Registry::new(options, Arc::new(Canned(body.into_bytes())), Arc::new(NoWorkers), Prices::built_in()?);
    let request = ModelRequest {
        model: "openai/m".parse()?,
        system: Arc::from("You count."),
        tools: Arc::from([]),
        messages: vec![Arc::new(Message::User { text: "count".to_owned() })],
        output_tokens_max: 512,
    };
    let permit = permit_for_model(&request.model);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    runtime.block_on(async {
        let mut answer = registry.stream(permit, request);
        let mut is_done = false;
        while let Some(event) = answer.next().await {
            is_done |= matches!(event, ModelEvent::Done { .. });
            black_box(event);
        }
        if is_done { Ok(()) } else { Err(Failure::from("the answer did not end as it should")) }
    })
}
