//! A registry before a scripted server, and answers collected.

use std::sync::Arc;

use futures_util::StreamExt;
use homarus_contract::{
    message::{Message, StopReason, ToolDefinition, Usage},
    model::{ModelError, ModelEvent, ModelRef, ModelRequest, Models, ProviderBlock},
    outbound::SecretRef,
    sandbox::{SandboxError, WorkerLauncher, WorkerProcess, WorkerSpec},
};
use homarus_models::{Options, ProviderKind, ProviderOptions, Registry, prices::Prices};
use homarus_test_kit::{ModelServer, Turn, permit_for_model};
use homarus_vault::{SecretEntry, Vault};

pub const KINDS: [ProviderKind; 5] = ProviderKind::ALL;
pub const SECRET: &str = "sk-test-0123456789";

/// No worker can be launched.
pub struct NoWorkers;

impl WorkerLauncher for NoWorkers {
    fn launch(&self, _: WorkerSpec) -> Result<WorkerProcess, SandboxError> {
        Err(SandboxError::Refused("no workers here".to_owned()))
    }
}

/// A provider of this kind at this address, with a key bound to it.
pub fn registry(kind: ProviderKind, base_url: &str) -> Registry {
    registry_with(kind, base_url, |_| {})
}

pub fn registry_with(kind: ProviderKind, base_url: &str, change: impl FnOnce(&mut ProviderOptions)) -> Registry {
    let name = SecretRef("TEST_KEY".to_owned());
    let entry =
        SecretEntry { name: name.clone(), env: vec!["TEST_KEY".to_owned()], origins: vec![base_url.to_owned()] };
    let vault = Vault::from_lookup(vec![entry], |_| Some(SECRET.to_owned())).unwrap();
    let mut provider = ProviderOptions::new(kind);
    provider.base_url = base_url.to_owned();
    provider.secret = Some(name);
    provider.connect_ms = 5_000;
    provider.idle_ms = 20_000;
    change(&mut provider);
    let options = Options { providers: vec![provider], ..Options::default() };
    Registry::new(options, Arc::new(vault), Arc::new(NoWorkers), Prices::built_in().unwrap())
}

pub fn tool(name: &str) -> ToolDefinition {
    ToolDefinition {
        name: name.to_owned(),
        description: format!("does {name}"),
        schema: r#"{"type":"object","properties":{"path":{"type":"string"}}}"#.to_owned(),
    }
}

pub fn request(model: &str) -> ModelRequest {
    request_saying(model, vec![Message::User { text: "go".to_owned() }])
}

pub fn request_saying(model: &str, messages: Vec<Message>) -> ModelRequest {
    ModelRequest {
        model: model.parse().unwrap(),
        system: Arc::from("You are a test."),
        tools: Arc::from([tool("file.write"), tool("shell.execute"), tool("plain_name")]),
        messages: messages.into_iter().map(Arc::new).collect(),
        output_tokens_max: 512,
    }
}

pub fn model_of(kind: ProviderKind) -> String {
    format!("{kind}/scripted")
}

/// Everything a stream said.
#[derive(Debug)]
pub struct Said {
    pub events: Vec<ModelEvent>,
    pub blocks: Vec<ProviderBlock>,
    pub ending: Result<(StopReason, Usage), ModelError>,
}

impl Said {
    pub fn ok(&self) -> (StopReason, Usage) {
        self.ending.clone().unwrap_or_else(|error| panic!("{error:?}"))
    }

    pub fn error(&self) -> &ModelError {
        match &self.ending {
            Ok(ending) => panic!("no failure: {ending:?}, {:?}", self.blocks),
            Err(error) => error,
        }
    }

    pub fn texts(&self) -> Vec<&str> {
        self.blocks
            .iter()
            .filter_map(|block| if let ProviderBlock::Text(text) = block { Some(text.as_str()) } else { None })
            .collect()
    }

    /// Name and arguments of each call.
    pub fn calls(&self) -> Vec<(&str, &str)> {
        self.blocks
            .iter()
            .filter_map(|block| match block {
                ProviderBlock::ToolCall { name, arguments, .. } => Some((name.as_str(), arguments.as_str())),
                _ => None,
            })
            .collect()
    }

    pub fn thoughts(&self) -> Vec<&str> {
        self.blocks
            .iter()
            .filter_map(|block| if let ProviderBlock::Thought { json } = block { Some(json.as_str()) } else { None })
            .collect()
    }

    pub fn call_ids(&self) -> Vec<&str> {
        self.blocks
            .iter()
            .filter_map(|block| match block {
                ProviderBlock::ToolCall { provider_id, .. } => Some(provider_id.as_str()),
                _ => None,
            })
            .collect()
    }

    pub fn streamed_text(&self) -> String {
        self.events
            .iter()
            .filter_map(|event| if let ModelEvent::TextDelta(text) = event { Some(text.as_str()) } else { None })
            .collect()
    }
}

/// Asks and collects; checks what holds for every stream.
pub async fn ask(registry: &Registry, request: ModelRequest) -> Said {
    let model: ModelRef = request.model.clone();
    let mut events: Vec<ModelEvent> = registry.stream(permit_for_model(&model), request).collect().await;
    let ending = match events.pop() {
        Some(ModelEvent::Done { stop, usage }) => Ok((stop, usage)),
        Some(ModelEvent::Failed(error)) => Err(error),
        other => panic!("the stream ended with {other:?}"),
    };
    let early = events.iter().find(|event| matches!(event, ModelEvent::Done { .. } | ModelEvent::Failed(_)));
    assert_eq!(early, None, "more than one ending");
    let blocks = events
        .iter()
        .filter_map(|event| if let ModelEvent::BlockDone(block) = event { Some(block.clone()) } else { None });
    let blocks: Vec<ProviderBlock> = blocks.collect();
    Said { blocks, events, ending }
}

/// One request to a server that answers with this turn.
pub async fn ask_turn(kind: ProviderKind, turn: Turn) -> Said {
    let server = ModelServer::with_turns(vec![turn]).await;
    ask(&registry(kind, &server.base_url()), request(&model_of(kind))).await
}
