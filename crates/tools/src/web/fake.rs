//! What the tests of these tools share: a network that answers as it is told, rules that allow all, no sandbox.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
};

use futures_util::stream;
use homarus_contract::{
    BoxFuture,
    action::{Action, Tier},
    event::{ApprovalsMode, Profile},
    gate::{MergePermit, Permit},
    ids::{CallId, RunId},
    outbound::{Outbound, OutboundError, OutboundRequest, OutboundResponse, SecretRef},
    sandbox::{
        Change, ContentSource, ExecDone, ExecSpec, LayerDiff, LayerId, Limits, MergeReport, OutputSink, Sandbox,
        SandboxError,
    },
    tool::{HostRules, HostView, Tool, ToolContext, ToolError, ToolOutput},
};
use homarus_test_kit::permit::{permit_for_in, test_run};

/// Status, headers, and the pieces of the body.
pub type Answered = (u16, Vec<(&'static str, &'static str)>, Vec<Result<Vec<u8>, OutboundError>>);

/// A network with one answer in it.
pub struct Network {
    answer: Mutex<Option<Result<Answered, OutboundError>>>,
    /// After its pieces a body neither goes on nor ends.
    pub stalls: bool,
}

impl Network {
    pub fn new(answer: Result<Answered, OutboundError>) -> Self {
        Self { answer: Mutex::new(Some(answer)), stalls: false }
    }

    /// Nothing ever comes.
    pub fn silent() -> Self {
        Self { answer: Mutex::new(None), stalls: true }
    }
}

impl Outbound for Network {
    fn send(&self, _request: OutboundRequest) -> BoxFuture<'_, Result<OutboundResponse, OutboundError>> {
        let Some(answer) = self.answer.lock().unwrap().take() else { return Box::pin(std::future::pending()) };
        let stalls = self.stalls;
        Box::pin(async move {
            let (status, headers, pieces) = answer?;
            let headers = headers.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
            let pieces = stream::iter(pieces);
            Ok(OutboundResponse {
                status,
                headers,
                body: match stalls {
                    true => Box::pin(futures_util::StreamExt::chain(pieces, stream::pending())),
                    false => Box::pin(pieces),
                },
            })
        })
    }

    fn has_secret(&self, _secret: &SecretRef) -> bool {
        false
    }
}

/// Allows every host, and names none.
pub struct Anywhere;

impl HostRules for Anywhere {
    fn view(&self, _profile: &Profile, _target: &str) -> Result<HostView, String> {
        Ok(HostView { is_free: true, is_named: false })
    }
}

/// Runs nothing, and fails with this.
pub struct NoSandbox(pub SandboxError);

impl Sandbox for NoSandbox {
    fn exec(&self, _: Permit, _: ExecSpec, _: OutputSink) -> BoxFuture<'_, Result<ExecDone, SandboxError>> {
        Box::pin(async { Err(self.0.clone()) })
    }

    fn merge(
        &self,
        _: MergePermit,
        _: PathBuf,
        _: LayerId,
        _: LayerDiff,
    ) -> BoxFuture<'_, Result<MergeReport, SandboxError>> {
        Box::pin(async { Err(self.0.clone()) })
    }

    fn contents(&self, _: PathBuf, _: LayerId, _: LayerDiff) -> BoxFuture<'_, Result<Vec<Vec<u8>>, SandboxError>> {
        Box::pin(async { Err(self.0.clone()) })
    }

    fn stage(
        &self,
        _: Permit,
        _: PathBuf,
        _: LayerId,
        _: Vec<Change>,
        _: ContentSource,
    ) -> BoxFuture<'_, Result<LayerDiff, SandboxError>> {
        Box::pin(async { Err(self.0.clone()) })
    }

    fn discard(&self, _: &LayerId) -> BoxFuture<'_, Result<(), SandboxError>> {
        Box::pin(async { Err(self.0.clone()) })
    }
}

pub fn run() -> RunId {
    test_run()
}

pub fn profile() -> Profile {
    Profile { grants: Vec::new(), rules: String::new(), approvals: ApprovalsMode::Auto, tier: Tier::Internal }
}

/// What a call of this tool comes to, without a sandbox; `wall_ms` as its limit.
pub async fn called(
    tool: &dyn Tool,
    arguments: &str,
    sandbox: SandboxError,
    wall_ms: u64,
) -> Result<ToolOutput, ToolError> {
    let call = CallId::new(1, 0);
    let action = Action { call: call.clone(), tool: tool.definition().name, arguments: arguments.to_owned() };
    let context = ToolContext {
        run: run(),
        workspace: PathBuf::from("/nowhere"),
        agent: None,
        limits: Limits { wall_ms, ..Limits::default() },
        profile: profile(),
        sandbox: Arc::new(NoSandbox(sandbox)),
    };
    let layer = LayerId { run: run(), call, attempt: 1 };
    tool.run(permit_for_in(&run(), action), context, layer, Arc::new(|_| {})).await
}

pub fn broken() -> OutboundError {
    OutboundError::Broken { host: "a.example".to_owned(), cause: "words of the other side".to_owned() }
}
