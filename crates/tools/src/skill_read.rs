//! `skill.read`: instructions for a kind of task, from a skill that was looked through.

use std::sync::Arc;

use homarus_contract::{
    BoxFuture,
    action::{Action, EffectClass, Plan, Resource},
    event::AgentRef,
    gate::Permit,
    message::ToolDefinition,
    sandbox::{LayerId, OutputSink},
    text::one_line,
    tool::{Scope, SkillShelf, Tool, ToolContext, ToolError, ToolOutput, permitted},
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::arguments;

pub const NAME: &str = "skill.read";
/// The verb that rules and grants name; its target is the skill's name.
pub const VERB: &str = "skill:read";
const EXAMPLE: &str = r#"{"skill": "pdf-forms"}"#;

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Arguments {
    /// Name of the skill.
    #[serde(alias = "name")]
    skill: String,
    /// One of the files it names; its instructions if absent.
    #[serde(default, alias = "path", deserialize_with = "arguments::maybe_text")]
    file: Option<String>,
}

pub struct SkillRead {
    shelf: Arc<dyn SkillShelf>,
}

impl SkillRead {
    pub fn new(shelf: Arc<dyn SkillShelf>) -> Self {
        Self { shelf }
    }
}

impl Tool for SkillRead {
    fn definition(&self) -> ToolDefinition {
        ToolDefinition {
            name: NAME.to_owned(),
            description: "Read the instructions of a skill before you do a task it is for, or another of its files."
                .to_owned(),
            schema: arguments::schema::<Arguments>(),
        }
    }

    fn class(&self) -> EffectClass {
        EffectClass::Read
    }

    fn scope(&self) -> Scope {
        Scope::Memory
    }

    fn limits(&self) -> String {
        "32 KiB of a file are shown; skills of 500 files and 32 MiB".to_owned()
    }

    fn unavailable(&self, _agent: Option<&AgentRef>) -> Option<String> {
        (!self.shelf.has_any()).then(|| "no skill is installed: homarus skills add FOLDER".to_owned())
    }

    fn plan(&self, _context: &ToolContext, action: &Action) -> Result<Plan, ToolError> {
        let arguments: Arguments = arguments::parse(NAME, EXAMPLE, &action.arguments)?;
        let file = arguments.file.as_deref().map(|file| format!(", {}", one_line(file, 100))).unwrap_or_default();
        Ok(Plan {
            summary: format!("read the skill {}{file}", one_line(&arguments.skill, 100)),
            resources: vec![Resource { verb: VERB.to_owned(), target: arguments.skill }],
            class: EffectClass::Read,
            diff: None,
        })
    }

    fn run(
        &self,
        permit: Permit,
        _context: ToolContext,
        _layer: LayerId,
        _output: OutputSink,
    ) -> BoxFuture<'_, Result<ToolOutput, ToolError>> {
        Box::pin(async move {
            let action = permitted(&permit)?;
            let arguments: Arguments = arguments::parse(NAME, EXAMPLE, &action.arguments)?;
            let shelf = self.shelf.clone();
            let read = move || shelf.read(&arguments.skill, arguments.file.as_deref());
            let read = tokio::task::spawn_blocking(read).await.map_err(|error| ToolError::Failed(error.to_string()))?;
            Ok(ToolOutput::said(read.map_err(ToolError::BadArguments)?))
        })
    }
}
