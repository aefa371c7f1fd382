//! `browser.read`: the open page again, or a later part of it.

use std::sync::Arc;

use homarus_contract::{
    BoxFuture,
    action::{Action, EffectClass, Plan, Resource},
    event::AgentRef,
    gate::Permit,
    message::ToolDefinition,
    sandbox::{LayerId, OutputSink},
    tool::{Scope, Tool, ToolContext, ToolError, ToolOutput, permitted},
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    arguments,
    browser::{Browsers, CALL_MS_MAX, PART_BYTES_MAX, READ_VERB},
};

pub const NAME: &str = "browser.read";
const EXAMPLE: &str = r#"{"part": 2}"#;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Arguments {
    /// Which part of a long page, beginning with 1.
    #[serde(default, deserialize_with = "arguments::number", alias = "page")]
    part: Option<u64>,
}

pub struct BrowserRead(pub Arc<Browsers>);

impl Tool for BrowserRead {
    fn definition(&self) -> ToolDefinition {
        ToolDefinition {
            name: NAME.to_owned(),
            description: "Look at the page in the browser again, as it is now, or at a later part of a long one."
                .to_owned(),
            schema: arguments::schema::<Arguments>(),
        }
    }

    fn class(&self) -> EffectClass {
        EffectClass::Read
    }

    fn scope(&self) -> Scope {
        Scope::Network
    }

    fn limits(&self) -> String {
        format!("{} KiB shown at once; {} s in all", PART_BYTES_MAX >> 10, CALL_MS_MAX / 1000)
    }

    fn unavailable(&self, _agent: Option<&AgentRef>) -> Option<String> {
        self.0.unavailable()
    }

    fn plan(&self, context: &ToolContext, action: &Action) -> Result<Plan, ToolError> {
        arguments::parse::<Arguments>(NAME, EXAMPLE, &action.arguments)?;
        let here = self.0.here(&context.run)?;
        Ok(Plan {
            summary: format!("read the page of {}", here.target()),
            resources: vec![Resource { verb: READ_VERB.to_owned(), target: here.target() }],
            class: EffectClass::Read,
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
            let arguments: Arguments = arguments::parse(NAME, EXAMPLE, &permitted(&permit)?.arguments)?;
            let mut turn = self.0.turn(&context, &layer.call).await?;
            let part = usize::try_from(arguments.part.unwrap_or(1)).unwrap_or(usize::MAX);
            let read = async {
                turn.same_site().await?;
                turn.told("read the page again", part).await
            };
            Ok(match read.await {
                Ok(output) => output,
                Err(error) => turn.failed(error).await,
            })
        })
    }
}
