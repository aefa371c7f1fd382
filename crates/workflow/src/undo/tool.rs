//! The one call of an undo run: fills a layer with what was there before.

use std::sync::Arc;

use homarus_contract::{
    BoxFuture,
    action::{Action, EffectClass, Plan, Resource},
    gate::Permit,
    journal::Journal,
    message::ToolDefinition,
    sandbox::{ContentSource, LayerId, OutputSink},
    tool::{Tool, ToolContext, ToolError, ToolOutput, permitted},
};

use super::{History, Target, Undoing};

pub const NAME: &str = "workspace.undo";

/// Offered to undo runs only, never to a model.
pub struct WorkspaceUndo {
    journal: Arc<dyn Journal>,
}

impl WorkspaceUndo {
    pub fn new(journal: Arc<dyn Journal>) -> Self {
        Self { journal }
    }

    pub fn definition() -> ToolDefinition {
        ToolDefinition {
            name: NAME.to_owned(),
            description: "Bring back what was there before a run changed it.".to_owned(),
            schema: r#"{"type":"object","properties":{"run":{"type":"string"},"step":{"type":"integer"},"last":{"type":"string"}},"required":["run","step","last"],"additionalProperties":false}"#.to_owned(),
        }
    }

    fn undoing(&self, context: &ToolContext, arguments: &str) -> Result<Undoing, ToolError> {
        let failed = |error: &dyn std::fmt::Display| ToolError::Failed(error.to_string());
        let target: Target =
            serde_json::from_str(arguments).map_err(|error| ToolError::BadArguments(error.to_string()))?;
        let row = self.journal.run(&target.run).map_err(|error| failed(&error))?;
        let workspace = context.workspace.to_string_lossy();
        if row.workspace != workspace {
            let run = &target.run;
            return Err(ToolError::BadArguments(format!("run {run} worked in {}, not in {workspace}", row.workspace)));
        }
        let history = History::read(self.journal.as_ref(), &workspace).map_err(|error| failed(&error))?;
        history.undoing_of(target).map_err(|error| failed(&error))
    }
}

/// Contents by hash, from the journal.
pub fn contents(journal: Arc<dyn Journal>) -> ContentSource {
    Arc::new(move |hash| journal.blob(hash).ok())
}

impl Tool for WorkspaceUndo {
    fn definition(&self) -> ToolDefinition {
        Self::definition()
    }

    fn limits(&self) -> String {
        "what was kept of the files, as `[undo]` of the configuration says".to_owned()
    }

    fn class(&self) -> EffectClass {
        EffectClass::Workspace
    }

    fn plan(&self, context: &ToolContext, action: &Action) -> Result<Plan, ToolError> {
        let undoing = self.undoing(context, &action.arguments)?;
        let write = |path: &str| Resource { verb: "file:write".to_owned(), target: format!("./{path}") };
        Ok(Plan {
            summary: format!("undo {} changed paths of run {}", undoing.changes.len(), undoing.target.run),
            resources: undoing.changes.iter().map(|change| write(&change.path)).collect(),
            class: EffectClass::Workspace,
            diff: None,
        })
    }

    fn run(
        &self,
        permit: Permit,
        context: ToolContext,
        layer: LayerId,
        _output: OutputSink,
    ) -> BoxFuture<'_, Result<ToolOutput, ToolError>> {
        Box::pin(async move {
            let action = permitted(&permit)?;
            let undoing = self.undoing(&context, &action.arguments.clone())?;
            let mut diff = context
                .sandbox
                .stage(permit, context.workspace, layer, undoing.changes, contents(self.journal.clone()))
                .await?;
            for (path, why) in undoing.refused {
                diff.text.push_str(&format!("not undone as a whole {path}: {why}\n"));
                diff.refused.push((path, why));
            }
            Ok(ToolOutput {
                text: diff.text.clone(),
                is_error: false,
                exit: None,
                whole: Vec::new(),
                wall_ms: 0,
                receipt: None,
                diff,
            })
        })
    }
}
