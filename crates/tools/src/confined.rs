//! The two sides of a file tool: asking the sandbox to run it, and running there.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use homarus_contract::{
    event::Profile,
    gate::Permit,
    sandbox::{ExecDone, ExecSpec, Exit, LayerId, OutputSink, Program},
    tool::{ReadRules, ToolContext, ToolError, ToolOutput, permitted},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Arguments and profile; more is refused.
const INPUT_BYTES_MAX: u64 = 32 << 20;

/// Runs the function `name` of this crate in the sandbox and makes its output the call's.
pub async fn run_internal(
    name: &'static str,
    permit: Permit,
    context: ToolContext,
    layer: LayerId,
    read_only: bool,
) -> Result<ToolOutput, ToolError> {
    let action = permitted(&permit)?;
    let input = Input { profile: context.profile.clone(), arguments: action.arguments.clone() };
    let stdin = serde_json::to_vec(&input).map_err(|error| ToolError::Failed(error.to_string()))?;
    run_with(name, permit, context, layer, read_only, stdin).await
}

/// The same with an input of the caller's own.
pub async fn run_with(
    name: &'static str,
    permit: Permit,
    context: ToolContext,
    layer: LayerId,
    read_only: bool,
    stdin: Vec<u8>,
) -> Result<ToolOutput, ToolError> {
    let tier = context.profile.tier;
    let spec = ExecSpec {
        layer,
        workspace: context.workspace,
        cwd: PathBuf::new(),
        program: Program::Internal { name: name.to_owned() },
        env: BTreeMap::new(),
        stdin,
        limits: context.limits,
        tier,
        read_only,
    };
    // What a file tool prints is its result; it is not shown as live output.
    let silent: OutputSink = Arc::new(|_| {});
    Ok(output(context.sandbox.exec(permit, spec, silent).await?))
}

fn output(done: ExecDone) -> ToolOutput {
    let is_error = !done.exit.is_success();
    let said = if is_error && !done.stderr.is_empty() { &done.stderr } else { &done.stdout };
    let mut text = String::from_utf8_lossy(said).into_owned();
    match done.exit {
        Exit::Code { .. } => {}
        other => text = format!("The call was ended before it was done ({other:?}). {text}"),
    }
    ToolOutput {
        text,
        is_error,
        exit: Some(done.exit),
        whole: Vec::new(),
        wall_ms: done.wall_ms,
        receipt: Some(done.receipt),
        diff: done.diff,
    }
}

/// Runs in the confined process: its input from standard input, the workspace as current folder.
pub fn serve<T: DeserializeOwned>(work: fn(&Path, &T) -> Result<String, String>) -> i32 {
    answer(input().and_then(|input| work(Path::new("."), &input.arguments()?)))
}

/// The same for work that comes upon files its plan could not name: it is told which it may read.
pub fn serve_reading<R: ReadRules, T: DeserializeOwned>(work: fn(&Path, &T, MayRead) -> Result<String, String>) -> i32 {
    answer(input().and_then(|input| {
        let rules = R::of(&input.profile)?;
        work(Path::new("."), &input.arguments()?, &|path| rules.may_read(path))
    }))
}

/// Whether a path relative to the workspace may be read without asking.
pub type MayRead<'a> = &'a dyn Fn(&Path) -> bool;

/// What the confined process is handed.
#[derive(Serialize, Deserialize)]
struct Input {
    profile: Profile,
    /// As the model wrote them.
    arguments: String,
}

impl Input {
    fn arguments<T: DeserializeOwned>(&self) -> Result<T, String> {
        crate::arguments::parse("the tool", "{}", &self.arguments).map_err(|error| error.to_string())
    }
}

fn input() -> Result<Input, String> {
    let mut json = String::new();
    std::io::stdin()
        .lock()
        .take(INPUT_BYTES_MAX)
        .read_to_string(&mut json)
        .map_err(|error| format!("The arguments could not be read: {error}"))?;
    serde_json::from_str(&json).map_err(|error| format!("The arguments did not arrive whole: {error}"))
}

fn answer(result: Result<String, String>) -> i32 {
    match result {
        Ok(text) => i32::from(std::io::stdout().write_all(text.as_bytes()).is_err()),
        Err(text) => {
            // Nobody is left to tell if this fails.
            let _ = std::io::stderr().write_all(text.as_bytes());
            1
        }
    }
}
