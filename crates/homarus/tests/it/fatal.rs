//! Deaths between commits: right after an effect, in the middle of a merge, after the last block of an answer. A
//! commit is a moment of the journal; these are the moments beside it.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use futures_util::{StreamExt, stream};
use homarus_contract::{
    BoxFuture, BoxStream,
    action::{Action, EffectClass, Plan},
    event::AgentRef,
    gate::{MergePermit, Permit},
    message::ToolDefinition,
    model::{ModelEvent, ModelInfo, ModelRef, ModelRequest, Models},
    sandbox::{
        Change, ContentSource, Entry, ExecDone, ExecSpec, LayerDiff, LayerId, MergeReport, OutputSink, Sandbox,
        SandboxError,
    },
    tool::{Scope, Tool, ToolContext, ToolError, ToolOutput},
};
use homarus_sandbox::L1;
use tokio::sync::Notify;

/// A moment that is no commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// A block of an answer is complete, and nothing of it is durable.
    Block,
    /// An answer is complete, and its end is not durable.
    Answer,
    /// A call has had its effect, its layer is read, and nothing says so.
    Effect,
    /// What the call replaced is read, and nothing of it is kept.
    Contents,
    /// So many paths of a merge are in the workspace, the others are not.
    Merge { paths: usize },
    /// All paths are, and nothing says so.
    Merged,
    /// The layer of a refused or cut-off call is gone.
    Discarded,
    /// The run is given up, and nobody was told.
    Released,
}

/// When this life ends.
pub struct Fate {
    left: Mutex<Option<(Point, u32)>>,
    /// Told when it has.
    pub dead: Notify,
}

impl Fate {
    pub fn new(end: Option<(Point, u32)>) -> Arc<Self> {
        Arc::new(Self { left: Mutex::new(end), dead: Notify::new() })
    }

    /// Comes back unless this is the end.
    pub async fn pass(&self, point: Point) {
        if self.is_now(point) {
            self.die().await;
        }
    }

    async fn die(&self) {
        self.dead.notify_one();
        std::future::pending::<()>().await;
    }

    fn is_now(&self, point: Point) -> bool {
        let mut left = self.left.lock().unwrap();
        match left.as_mut() {
            Some((at, times)) if *at == point => {
                *times = times.saturating_sub(1);
                *times == 0
            }
            _ => false,
        }
    }

    /// In the middle of which merge it ends, if in one.
    fn paths(&self) -> Option<usize> {
        match *self.left.lock().unwrap() {
            Some((Point::Merge { paths }, _)) => Some(paths),
            _ => None,
        }
    }
}

/// The real sandbox, whose driver dies around it.
pub struct FatalSandbox {
    pub inner: L1,
    pub fate: Arc<Fate>,
    /// Where layers are.
    pub layers: PathBuf,
}

impl FatalSandbox {
    /// The first paths of a merge, in its order: removals first, the deepest first.
    fn half(&self, workspace: &Path, layer: &LayerId, diff: &LayerDiff, paths: usize) {
        let own = format!("{}-{}", layer.call, layer.attempt);
        let upper = self.layers.join(layer.run.as_str()).join(own).join("upper");
        assert!(upper.is_dir(), "{} is no layer", upper.display());
        let (gone, here): (Vec<&Change>, Vec<&Change>) =
            diff.changes.iter().partition(|change| change.new == Entry::Absent);
        for change in gone.into_iter().rev().chain(here).take(paths) {
            let (from, to) = (upper.join(&change.path), workspace.join(&change.path));
            match &change.new {
                Entry::Absent if to.is_dir() => std::fs::remove_dir(&to).unwrap(),
                Entry::Absent => std::fs::remove_file(&to).unwrap(),
                _ if from.is_dir() => {
                    std::fs::create_dir(&to).unwrap();
                    let mode = std::fs::metadata(&from).unwrap().permissions();
                    std::fs::set_permissions(&to, mode).unwrap();
                }
                _ => {
                    std::fs::copy(&from, &to).unwrap();
                }
            }
        }
    }
}

impl Sandbox for FatalSandbox {
    fn exec(
        &self,
        permit: Permit,
        spec: ExecSpec,
        output: OutputSink,
    ) -> BoxFuture<'_, Result<ExecDone, SandboxError>> {
        self.inner.exec(permit, spec, output)
    }

    fn merge(
        &self,
        permit: MergePermit,
        workspace: PathBuf,
        layer: LayerId,
        diff: LayerDiff,
    ) -> BoxFuture<'_, Result<MergeReport, SandboxError>> {
        Box::pin(async move {
            if let Some(paths) = self.fate.paths()
                && self.fate.is_now(Point::Merge { paths })
            {
                self.half(&workspace, &layer, &diff, paths);
                self.fate.die().await;
            }
            let merged = self.inner.merge(permit, workspace, layer, diff).await;
            self.fate.pass(Point::Merged).await;
            merged
        })
    }

    fn contents(
        &self,
        workspace: PathBuf,
        layer: LayerId,
        diff: LayerDiff,
    ) -> BoxFuture<'_, Result<Vec<Vec<u8>>, SandboxError>> {
        Box::pin(async move {
            let contents = self.inner.contents(workspace, layer, diff).await;
            self.fate.pass(Point::Contents).await;
            contents
        })
    }

    fn stage(
        &self,
        permit: Permit,
        workspace: PathBuf,
        layer: LayerId,
        changes: Vec<Change>,
        contents: ContentSource,
    ) -> BoxFuture<'_, Result<LayerDiff, SandboxError>> {
        self.inner.stage(permit, workspace, layer, changes, contents)
    }

    fn discard(&self, layer: &LayerId) -> BoxFuture<'_, Result<(), SandboxError>> {
        let layer = layer.clone();
        Box::pin(async move {
            let discarded = self.inner.discard(&layer).await;
            self.fate.pass(Point::Discarded).await;
            discarded
        })
    }
}

/// A real tool, whose driver dies when it is done.
pub struct FatalTool {
    pub inner: Arc<dyn Tool>,
    pub fate: Arc<Fate>,
}

impl Tool for FatalTool {
    fn definition(&self) -> ToolDefinition {
        self.inner.definition()
    }

    fn class(&self) -> EffectClass {
        self.inner.class()
    }

    fn scope(&self) -> Scope {
        self.inner.scope()
    }

    fn limits(&self) -> String {
        self.inner.limits()
    }

    fn unavailable(&self, agent: Option<&AgentRef>) -> Option<String> {
        self.inner.unavailable(agent)
    }

    fn plan(&self, context: &ToolContext, action: &Action) -> Result<Plan, ToolError> {
        self.inner.plan(context, action)
    }

    fn run(
        &self,
        permit: Permit,
        context: ToolContext,
        layer: LayerId,
        output: OutputSink,
    ) -> BoxFuture<'_, Result<ToolOutput, ToolError>> {
        Box::pin(async move {
            let done = self.inner.run(permit, context, layer, output).await;
            self.fate.pass(Point::Effect).await;
            done
        })
    }
}

/// A model whose driver dies while it speaks.
pub struct FatalModels<M> {
    pub inner: M,
    pub fate: Arc<Fate>,
}

impl<M: Models> Models for FatalModels<M> {
    fn stream(&self, permit: Permit, request: ModelRequest) -> BoxStream<ModelEvent> {
        let fate = self.fate.clone();
        self.inner
            .stream(permit, request)
            .flat_map(move |event| {
                let point = match &event {
                    ModelEvent::BlockDone(_) => Some(Point::Block),
                    ModelEvent::Done { .. } => Some(Point::Answer),
                    _ => None,
                };
                let fate = fate.clone();
                stream::once(async move {
                    if let Some(point) = point {
                        fate.pass(point).await;
                    }
                    event
                })
                .boxed()
            })
            .boxed()
    }

    fn info(&self, model: &ModelRef) -> ModelInfo {
        self.inner.info(model)
    }
}
