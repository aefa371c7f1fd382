//! `shell.execute`: a command line in the sandbox, without network.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use homarus_contract::{
    BoxFuture,
    action::{Action, EffectClass, Plan, Resource},
    gate::Permit,
    message::ToolDefinition,
    sandbox::{ExecDone, ExecSpec, Exit, LayerId, OutputSink, Program},
    text::{bounded, one_line},
    tool::{COMMAND_BYTES_MAX, Tool, ToolContext, ToolError, ToolOutput, permitted},
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{arguments, confined};

pub const NAME: &str = "shell.execute";
const EXAMPLE: &str = r#"{"command": "ls -l"}"#;
/// What the model is shown of each of output and errors.
const SHOWN_BYTES_MAX: usize = 12 * 1024;

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Arguments {
    /// Command line for the shell, run in the workspace.
    #[serde(alias = "cmd", alias = "script")]
    command: String,
    /// Seconds until it is ended.
    #[serde(default, alias = "timeout", deserialize_with = "arguments::number")]
    timeout_s: Option<u64>,
}

pub struct ShellExecute;

impl Tool for ShellExecute {
    fn definition(&self) -> ToolDefinition {
        ToolDefinition {
            name: NAME.to_owned(),
            description: "Run a shell command in the workspace and see its output. Use it to check your work and for \
                          what the file tools cannot do. There is no network."
                .to_owned(),
            schema: arguments::schema::<Arguments>(),
        }
    }

    fn class(&self) -> EffectClass {
        EffectClass::Workspace
    }

    fn limits(&self) -> String {
        format!(
            "command of {} KiB; shows {} KiB of output and as much of errors; no network",
            COMMAND_BYTES_MAX >> 10,
            SHOWN_BYTES_MAX >> 10
        )
    }

    fn plan(&self, _context: &ToolContext, action: &Action) -> Result<Plan, ToolError> {
        let arguments: Arguments = arguments::parse(NAME, EXAMPLE, &action.arguments)?;
        let command = arguments.command.trim();
        if command.is_empty() || command.len() > COMMAND_BYTES_MAX || command.contains('\0') {
            return Err(ToolError::BadArguments(format!(
                "The command must have 1 to {COMMAND_BYTES_MAX} bytes and no zero byte. Send for example {EXAMPLE}"
            )));
        }
        Ok(Plan {
            summary: format!("run {}", one_line(command, 200)),
            resources: vec![Resource { verb: "shell:run".to_owned(), target: command.to_owned() }],
            class: EffectClass::Workspace,
            diff: None,
        })
    }

    fn run(
        &self,
        permit: Permit,
        context: ToolContext,
        layer: LayerId,
        output: OutputSink,
    ) -> BoxFuture<'_, Result<ToolOutput, ToolError>> {
        Box::pin(async move {
            let action = permitted(&permit)?;
            let arguments: Arguments = arguments::parse(NAME, EXAMPLE, &action.arguments)?;
            let mut limits = context.limits;
            if let Some(seconds) = arguments.timeout_s {
                limits.wall_ms = limits.wall_ms.min(seconds.max(1).saturating_mul(1000));
            }
            let spec = ExecSpec {
                layer,
                workspace: context.workspace,
                cwd: PathBuf::new(),
                program: Program::Command { argv: vec![shell().to_owned(), "-c".to_owned(), arguments.command] },
                env: BTreeMap::new(),
                stdin: Vec::new(),
                limits,
                tier: context.profile.tier,
                read_only: false,
            };
            Ok(told(context.sandbox.exec(permit, spec, output).await?))
        })
    }
}

/// The shell people write commands for, where it is installed. The sandbox shows the same folders.
fn shell() -> &'static str {
    if Path::new("/bin/bash").exists() { "/bin/bash" } else { "/bin/sh" }
}

fn told(done: ExecDone) -> ToolOutput {
    let stdout = String::from_utf8_lossy(&done.stdout);
    let stderr = String::from_utf8_lossy(&done.stderr);
    let hint = "narrow the command down to see more";
    let mut text = heading(done.exit);
    for (name, stream) in [("output", &stdout), ("errors", &stderr)] {
        if !stream.trim().is_empty() {
            text.push_str(&format!("{name}:\n{}\n", bounded(stream.trim_end(), SHOWN_BYTES_MAX, hint)));
        }
    }
    if stdout.trim().is_empty() && stderr.trim().is_empty() {
        text.push_str("It printed nothing.\n");
    }
    text.push_str(&confined::not_kept(&done.diff));
    let is_cut = stdout.len() > SHOWN_BYTES_MAX || stderr.len() > SHOWN_BYTES_MAX;
    let whole = if is_cut { [done.stdout.as_slice(), b"\n", done.stderr.as_slice()].concat() } else { Vec::new() };
    ToolOutput {
        text,
        // A command that says no (grep without a match, a failing test) has still been run.
        is_error: !matches!(done.exit, Exit::Code { .. }),
        exit: Some(done.exit),
        whole,
        wall_ms: done.wall_ms,
        receipt: Some(done.receipt),
        diff: done.diff,
    }
}

fn heading(exit: Exit) -> String {
    match exit {
        Exit::Code { code: 0 } => "exit code 0\n".to_owned(),
        Exit::Code { code: 127 } => "exit code 127: there is no such command here\n".to_owned(),
        Exit::Code { code } => format!("exit code {code}\n"),
        Exit::Signal { signal: 9 } => "It was killed, perhaps for using too much memory.\n".to_owned(),
        Exit::Signal { signal } => format!("It was ended by signal {signal}.\n"),
        Exit::TimedOut { wall_ms } => {
            format!("It was ended after {} s: too slow. Do less at once, or give a larger timeout_s.\n", wall_ms / 1000)
        }
        Exit::OutputLimit { bytes } => {
            format!("It was ended: more than {bytes} bytes of output. Write to a file, or filter it.\n")
        }
        Exit::Cancelled => "It was cancelled.\n".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use homarus_contract::sandbox::LayerDiff;
    use homarus_test_kit::executed;

    use super::*;

    fn done(exit: Exit, stdout: &str, stderr: &str) -> ToolOutput {
        told(executed(exit, stdout, stderr, LayerDiff::default()))
    }

    #[test]
    fn the_model_is_told_what_happened() {
        assert_eq!(done(Exit::Code { code: 0 }, "hi\n", "").text, "exit code 0\noutput:\nhi\n");
        assert_eq!(done(Exit::Code { code: 1 }, "", "").text, "exit code 1\nIt printed nothing.\n");
        assert!(!done(Exit::Code { code: 1 }, "", "no").is_error);
        assert!(done(Exit::TimedOut { wall_ms: 5_000 }, "", "").is_error);
    }

    #[test]
    fn long_output_is_bounded_and_kept_whole() {
        let output = done(Exit::Code { code: 0 }, &"x\n".repeat(100_000), "");
        assert!(output.text.len() < SHOWN_BYTES_MAX + 500);
        assert!(output.whole.len() >= 200_000);
    }
}
