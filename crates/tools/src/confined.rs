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
    sandbox::{Entry, ExecDone, ExecSpec, Exit, LayerDiff, LayerId, OutputSink, Program},
    text::one_line,
    tool::{ReadRules, ToolContext, ToolError, ToolOutput, permitted},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Arguments and profile; more is refused.
const INPUT_BYTES_MAX: u64 = 32 << 20;
const NOT_KEPT_SHOWN_MAX: usize = 20;

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
    let is_done = done.exit.is_success();
    let said = if !is_done && !done.stderr.is_empty() { &done.stderr } else { &done.stdout };
    let mut text = String::from_utf8_lossy(said).into_owned();
    match done.exit {
        Exit::Code { .. } => {}
        other => text = format!("The call was ended before it was done ({other:?}). {text}"),
    }
    let is_lost = is_nothing_kept(&done.diff);
    if is_lost && is_done {
        text = "It was written, but nothing of it is kept.\n".to_owned();
    }
    let not_kept = not_kept(&done.diff);
    if !not_kept.is_empty() && !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(&not_kept);
    ToolOutput {
        text,
        is_error: !is_done || is_lost,
        exit: Some(done.exit),
        whole: Vec::new(),
        wall_ms: done.wall_ms,
        receipt: Some(done.receipt),
        diff: done.diff,
    }
}

/// What of a call's writes can never be merged, and why, for the model.
pub fn not_kept(diff: &LayerDiff) -> String {
    let mut text = String::new();
    for (path, reason) in diff.refused.iter().take(NOT_KEPT_SHOWN_MAX) {
        text.push_str(&format!("Not kept: {}: {}\n", one_line(path, 300), one_line(reason, 300)));
    }
    match diff.refused.len().saturating_sub(NOT_KEPT_SHOWN_MAX) {
        0 => {}
        more => text.push_str(&format!("Not kept: {more} more\n")),
    }
    text
}

/// Whether a call wrote, and no more than empty folders is left of it.
fn is_nothing_kept(diff: &LayerDiff) -> bool {
    let is_new_folder = |old: &Entry, new: &Entry| matches!((old, new), (Entry::Absent, Entry::Folder { .. }));
    !diff.refused.is_empty() && diff.changes.iter().all(|change| is_new_folder(&change.old, &change.new))
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

#[cfg(test)]
mod tests {
    use homarus_contract::sandbox::Change;
    use homarus_test_kit::executed;

    use super::*;

    fn said(exit: Exit, text: &str, diff: LayerDiff) -> ToolOutput {
        output(executed(exit, text, "", diff))
    }

    fn change(path: &str, new: Entry) -> Change {
        Change { path: path.to_owned(), old: Entry::Absent, new }
    }

    #[test]
    fn what_is_not_kept_was_not_done() {
        let done = Exit::Code { code: 0 };
        let refused = vec![(".cargo/config.toml".to_owned(), "it is obeyed by other programs".to_owned())];
        let folder = change(".cargo", Entry::Folder { mode: 0o755 });
        for changes in [Vec::new(), vec![folder.clone()]] {
            let diff = LayerDiff { changes, refused: refused.clone(), text: String::new() };
            let told = said(done, ".cargo/config.toml was made (1 lines).\n", diff);
            assert!(told.is_error && !told.text.contains("was made"), "{}", told.text);
            assert!(told.text.ends_with("\nNot kept: .cargo/config.toml: it is obeyed by other programs\n"));
        }

        let file = change("a", Entry::Symlink { target: "b".to_owned() });
        let diff = LayerDiff { changes: vec![file], refused: refused.clone(), text: String::new() };
        let told = said(done, "a was made.", diff.clone());
        assert!(!told.is_error, "something is kept");
        assert_eq!(told.text, "a was made.\nNot kept: .cargo/config.toml: it is obeyed by other programs\n");
        assert!(said(Exit::Code { code: 1 }, "no", diff).is_error);
        assert!(!said(done, "a was read.", LayerDiff::default()).is_error);
    }

    #[test]
    fn what_is_not_kept_is_told_in_few_lines() {
        let refused = (0..25).map(|number| (format!("x{number}\nfaked"), "why".to_owned())).collect();
        let told = not_kept(&LayerDiff { refused, ..LayerDiff::default() });
        assert_eq!(told.lines().count(), 21);
        assert!(told.starts_with("Not kept: x0 faked: why\n") && told.ends_with("Not kept: 5 more\n"), "{told}");
        assert_eq!(not_kept(&LayerDiff::default()), "");
    }
}
