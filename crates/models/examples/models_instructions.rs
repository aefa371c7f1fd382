//! `models_instructions N FOLDER KIND text|call`: an answer of N pieces in the format of that kind, of text or of one
//! call's arguments, read to its end. `cargo xtask bench --only instructions` counts what a piece costs the processor.

use std::{hint::black_box, sync::Arc};

use futures_util::{StreamExt, stream};
use homarus_contract::{
    BoxFuture,
    message::{Message, ToolDefinition},
    model::{ModelEvent, ModelRef, ModelRequest, Models},
    outbound::{Outbound, OutboundError, OutboundRequest, OutboundResponse, SecretRef},
    sandbox::{SandboxError, WorkerLauncher, WorkerProcess, WorkerSpec},
};
use homarus_models::{Options, ProviderKind, ProviderOptions, Registry, prices::Prices};
use homarus_test_kit::permit_for_model;

type Failure = Box<dyn std::error::Error>;

/// As a socket hands it on.
const PIECE_BYTES: usize = 4096;

/// A server that answers everything with this body.
struct Canned {
    content_type: &'static str,
    body: Vec<u8>,
}

impl Outbound for Canned {
    fn send(&self, _: OutboundRequest) -> BoxFuture<'_, Result<OutboundResponse, OutboundError>> {
        let pieces: Vec<_> = self.body.chunks(PIECE_BYTES).map(|piece| Ok(piece.to_vec())).collect();
        let headers = vec![("content-type".to_owned(), self.content_type.to_owned())];
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

/// How an answer is written: `@` stands for one piece, and in the end for all of them.
struct Format {
    start: &'static str,
    piece: &'static str,
    end: &'static str,
}

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [count, _, kind, what] = args.as_slice() else {
        return Err("usage: models_instructions N FOLDER KIND text|call".into());
    };
    let (count, kind, is_call): (usize, ProviderKind, bool) = (count.parse()?, kind.parse()?, what == "call");
    let body = body(&format(kind, is_call)?, is_call, count);
    let content_type = if kind == ProviderKind::Ollama { "application/x-ndjson" } else { "text/event-stream" };
    let mut provider = ProviderOptions::new(kind);
    provider.base_url = "http://127.0.0.1:1".to_owned();
    let model = ModelRef { provider: provider.id.clone(), model: "m".to_owned() };
    let options = Options { providers: vec![provider], ..Options::default() };
    let server = Arc::new(Canned { content_type, body: body.into_bytes() });
    let registry = Registry::new(options, server, Arc::new(NoWorkers), Prices::built_in()?);
    let tool = ToolDefinition {
        name: "shell.execute".to_owned(),
        description: "Runs a command.".to_owned(),
        schema: r#"{"type":"object"}"#.to_owned(),
    };
    let request = ModelRequest {
        model,
        system: Arc::from("You count."),
        tools: Arc::from([tool]),
        messages: vec![Arc::new(Message::User { text: "count".to_owned() })],
        output_tokens_max: 512,
    };
    let permit = permit_for_model(&request.model);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    runtime.block_on(async {
        let mut answer = registry.stream(permit, request);
        let (mut pieces, mut is_done) = (0, false);
        while let Some(event) = answer.next().await {
            match &event {
                ModelEvent::TextDelta(_) | ModelEvent::CallDelta { .. } => pieces += 1,
                ModelEvent::Done { .. } => is_done = true,
                ModelEvent::Failed(error) => return Err(Failure::from(error.message.clone())),
                _ => {}
            }
            black_box(event);
        }
        if is_done && pieces >= count { Ok(()) } else { Err(Failure::from("the answer is not what was sent")) }
    })
}

fn body(format: &Format, is_call: bool, count: usize) -> String {
    let mut pieces: Vec<String> = (0..count).map(|number| format!(" word{number}")).collect();
    if is_call {
        pieces.insert(0, r#"{\"command\":\""#.to_owned());
        pieces.push(r#"\"}"#.to_owned());
    }
    let (before, after) = format.piece.split_once('@').unwrap_or_default();
    let mut body = format.start.to_owned();
    for piece in &pieces {
        body.extend([before, piece, after]);
    }
    body + &format.end.replace('@', &pieces.concat())
}

/// As the makers' own servers write it.
fn format(kind: ProviderKind, is_call: bool) -> Result<Format, Failure> {
    Ok(match (kind, is_call) {
        (ProviderKind::OpenAi, false) => Format {
            start: "",
            piece: r#"data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":"@"},"finish_reason":null}]}

"#,
            end: r#"data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}

data: [DONE]

"#,
        },
        (ProviderKind::OpenAi, true) => Format {
            start: r#"data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":null,"tool_calls":[{"index":0,"id":"call_1","type":"function","function":{"name":"shell-execute","arguments":""}}]},"finish_reason":null}]}

"#,
            piece: r#"data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"@"}}]},"finish_reason":null}]}

"#,
            end: r#"data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}

data: [DONE]

"#,
        },
        (ProviderKind::OpenAiResponses, false) => Format {
            start: r#"event: response.output_item.added
data: {"type":"response.output_item.added","sequence_number":2,"output_index":0,"item":{"id":"msg_1","type":"message","status":"in_progress","content":[],"role":"assistant"}}

"#,
            piece: r#"event: response.output_text.delta
data: {"type":"response.output_text.delta","sequence_number":4,"item_id":"msg_1","output_index":0,"content_index":0,"delta":"@","logprobs":[]}

"#,
            end: r#"event: response.output_text.done
data: {"type":"response.output_text.done","sequence_number":5,"item_id":"msg_1","output_index":0,"content_index":0,"text":"@","logprobs":[]}

event: response.output_item.done
data: {"type":"response.output_item.done","sequence_number":6,"output_index":0,"item":{"id":"msg_1","type":"message","status":"completed","content":[{"type":"output_text","annotations":[],"text":"@"}],"role":"assistant"}}

event: response.completed
data: {"type":"response.completed","sequence_number":7,"response":{"id":"resp_1","object":"response","status":"completed","output":[{"id":"msg_1","type":"message","status":"completed","content":[{"type":"output_text","annotations":[],"text":"@"}],"role":"assistant"}]}}

"#,
        },
        (ProviderKind::OpenAiResponses, true) => Format {
            start: r#"event: response.output_item.added
data: {"type":"response.output_item.added","sequence_number":2,"output_index":0,"item":{"id":"fc_1","type":"function_call","status":"in_progress","arguments":"","call_id":"call_1","name":"shell-execute"}}

"#,
            piece: r#"event: response.function_call_arguments.delta
data: {"type":"response.function_call_arguments.delta","sequence_number":3,"item_id":"fc_1","output_index":0,"delta":"@"}

"#,
            end: r#"event: response.function_call_arguments.done
data: {"type":"response.function_call_arguments.done","sequence_number":4,"item_id":"fc_1","output_index":0,"arguments":"@"}

event: response.output_item.done
data: {"type":"response.output_item.done","sequence_number":5,"output_index":0,"item":{"id":"fc_1","type":"function_call","status":"completed","arguments":"@","call_id":"call_1","name":"shell-execute"}}

event: response.completed
data: {"type":"response.completed","sequence_number":6,"response":{"id":"resp_1","object":"response","status":"completed","output":[{"id":"fc_1","type":"function_call","status":"completed","arguments":"@","call_id":"call_1","name":"shell-execute"}]}}

"#,
        },
        (ProviderKind::Anthropic, false) => Format {
            start: r#"event: message_start
data: {"type":"message_start","message":{"id":"m1","type":"message","role":"assistant","model":"m","content":[]}}

event: content_block_start
data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}

"#,
            piece: r#"event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"@"}}

"#,
            end: r#"event: content_block_stop
data: {"type":"content_block_stop","index":0}

event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":5}}

event: message_stop
data: {"type":"message_stop"}

"#,
        },
        (ProviderKind::Anthropic, true) => Format {
            start: r#"event: message_start
data: {"type":"message_start","message":{"id":"m1","type":"message","role":"assistant","model":"m","content":[]}}

event: content_block_start
data: {"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"toolu_1","name":"shell-execute","input":{}}}

"#,
            piece: r#"event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"@"}}

"#,
            end: r#"event: content_block_stop
data: {"type":"content_block_stop","index":0}

event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"output_tokens":5}}

event: message_stop
data: {"type":"message_stop"}

"#,
        },
        (ProviderKind::Gemini, false) => Format {
            start: "",
            piece: r#"data: {"candidates":[{"content":{"parts":[{"text":"@"}],"role":"model"},"index":0}],"modelVersion":"m","responseId":"r1"}

"#,
            end: r#"data: {"candidates":[{"content":{"parts":[{"text":""}],"role":"model"},"finishReason":"STOP","index":0}],"modelVersion":"m","responseId":"r1"}

"#,
        },
        (ProviderKind::Ollama, false) => Format {
            start: "",
            piece: r#"{"model":"m","created_at":"2026-01-01T00:00:00.000000Z","message":{"role":"assistant","content":"@"},"done":false}
"#,
            end: r#"{"model":"m","created_at":"2026-01-01T00:00:00.000000Z","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop"}
"#,
        },
        (ProviderKind::Gemini | ProviderKind::Ollama, true) => return Err("there a call comes whole".into()),
    })
}
