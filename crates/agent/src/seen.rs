//! What a run has done so far, as far as nudges and the final status depend on it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use homarus_contract::{
    event::ActResult,
    ids::Hash,
    message::ToolCall,
    sandbox::{Entry, Exit},
};

/// What the run has done so far, as far as nudges and the final status depend on it.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Paths that were read, searched or listed.
    pub looks: u32,
    /// Calls that changed something in their layer.
    pub changes: u32,
    /// Calls whose changes were merged.
    pub writes: u32,
    /// Calls other than reads that ran to their end.
    pub effects: u32,
    /// Read or shell calls since the last write.
    pub checks_since_write: u32,
    pub denials: u32,
    pub denials_in_a_row: u32,
    /// How often each call was made since the workspace last changed: its tool and arguments.
    pub made: BTreeMap<(String, Hash), u32>,
    /// How often each change of a file was tried in the turn, whatever came of it: its tool and arguments.
    pub tried: BTreeMap<(String, Hash), u32>,
    /// Files that were changed, by whatever call, or were found to be as wished already.
    pub written: BTreeSet<String>,
    /// What stood at each path before its first change in the turn, and what stands there after the last.
    pub versions: BTreeMap<String, (Entry, Entry)>,
    /// Command lines that were run or denied, in order.
    pub commands: Vec<Command>,
    /// Files a call was not allowed to touch, or to change.
    pub refused: BTreeSet<String>,
    /// Files whose latest change did not succeed.
    pub unchanged: BTreeSet<String>,
    /// What was last said to be left of the request.
    pub reminded: Option<Vec<String>>,
    /// Answers in a row without a tool call.
    pub answers_in_a_row: u32,
    /// The latest text of the model, which is the result if the run ends.
    pub last_text: String,
}

/// A command line the agent ran or wanted to run.
#[derive(Debug, Clone)]
pub struct Command {
    pub line: String,
    /// It ran and did not succeed.
    pub failed: bool,
    /// [`Seen::changes`] when it had run.
    pub changes: u32,
}

/// What nudges need of a call's arguments; the tool itself parses them properly.
#[derive(Default, serde::Deserialize)]
struct Arguments {
    path: Option<String>,
    command: Option<String>,
}

impl Arguments {
    fn of(tool_call: &ToolCall) -> Self {
        serde_json::from_str(&tool_call.arguments).unwrap_or_default()
    }
}

impl Seen {
    /// A call that was not allowed: it is not asked for again.
    pub(crate) fn denied(&mut self, tool_call: &ToolCall) {
        let changes = self.changes;
        let line = Arguments::of(tool_call).command;
        self.commands.extend(line.map(|line| Command { line, failed: false, changes }));
        self.unwanted(tool_call);
    }

    /// A call that was not allowed, or whose change nobody wanted.
    pub(crate) fn unwanted(&mut self, tool_call: &ToolCall) {
        self.refused.extend(Arguments::of(tool_call).path);
        self.denials += 1;
        self.denials_in_a_row += 1;
    }

    pub(crate) fn done(&mut self, tool_call: &ToolCall, result: &ActResult) {
        let Arguments { path, command } = Arguments::of(tool_call);
        if let Some(command) = command.filter(|_| tool_call.name == "shell.execute") {
            let failed = result.is_error
                || result.exit.as_ref().is_some_and(|exit| !exit.is_success() && !is_a_no(&command, exit));
            self.commands.push(Command { line: command, failed, changes: self.changes });
        }
        for change in &result.diff.changes {
            self.unchanged.remove(&change.path);
            self.written.insert(change.path.clone());
            let new = || (change.old.clone(), change.new.clone());
            self.versions.entry(change.path.clone()).or_insert_with(new).1 = change.new.clone();
        }
        // Also a file with exactly this content already is as it was wished to be.
        if let Some(path) = path.filter(|_| is_a_change(tool_call)) {
            *self.tried.entry(key(tool_call)).or_default() += 1;
            if result.is_error {
                self.unchanged.insert(path);
            } else {
                self.unchanged.remove(&path);
                self.written.insert(path);
            }
        }
    }

    /// The latest command, if it failed.
    pub fn failed_command(&self) -> Option<&str> {
        self.commands.last().filter(|command| command.failed).map(|command| command.line.as_str())
    }

    /// Whether a file with this name at the end of its path is not as it was.
    pub fn is_other_than_before(&self, name: &str) -> bool {
        self.versions.iter().any(|(path, (before, now))| is_named(path, name) && before != now)
    }

    /// How often a call was made since the workspace last changed.
    pub fn times_made(&self, tool_call: &ToolCall) -> u32 {
        self.made.get(&key(tool_call)).copied().unwrap_or(0)
    }

    /// How often this change was tried in the turn; 0 for what is no change.
    pub fn times_tried(&self, tool_call: &ToolCall) -> u32 {
        self.tried.get(&key(tool_call)).copied().unwrap_or(0)
    }
}

/// Calls with the same key are the same call, made again. By hash: arguments may hold whole files.
pub fn key(tool_call: &ToolCall) -> (String, Hash) {
    (tool_call.name.clone(), Hash::of(tool_call.arguments.as_bytes()))
}

/// Whether a path is that of a file with this name, which may have folders before it.
pub fn is_named(path: &str, name: &str) -> bool {
    Path::new(path).ends_with(name)
}

fn is_a_change(tool_call: &ToolCall) -> bool {
    matches!(tool_call.name.as_str(), "file.write" | "file.edit")
}

/// Whether a command that did not succeed only said no: nothing found, or a difference.
fn is_a_no(command: &str, exit: &Exit) -> bool {
    const SAY_NO_BY_1: [&str; 6] = ["grep", "rg", "diff", "cmp", "test", "pgrep"];
    let program = command.split_whitespace().next().unwrap_or_default();
    matches!(exit, Exit::Code { code: 1 }) && SAY_NO_BY_1.contains(&program)
}
