//! `file.read`: the text of a file, or a part of it.

use std::{fs, io::Read, path::Path};

use homarus_contract::{
    BoxFuture,
    action::{Action, EffectClass, Plan},
    gate::Permit,
    message::ToolDefinition,
    sandbox::{LayerId, OutputSink},
    tool::{Tool, ToolContext, ToolError, ToolOutput},
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{arguments, confined, paths};

pub const NAME: &str = "file.read";
const EXAMPLE: &str = r#"{"path": "notes.txt"}"#;
/// What one call shows; the rest is read with `from_line`.
const SHOWN_BYTES_MAX: usize = 48 * 1024;
/// Files beyond this are read only in part.
const READ_BYTES_MAX: u64 = 64 << 20;
/// A file up to this size is shown whole, whatever part is asked for: one line of it alone misleads.
const SHOWN_WHOLE_BYTES_MAX: u64 = 4 * 1024;
const SNIFF_BYTES: usize = 8 * 1024;

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Arguments {
    /// File to read, relative to the workspace.
    #[serde(alias = "file", alias = "file_path", alias = "filename")]
    path: String,
    /// First line to show, from 1.
    #[serde(default, deserialize_with = "arguments::number")]
    from_line: Option<u64>,
    /// How many lines to show.
    #[serde(default, deserialize_with = "arguments::number")]
    lines: Option<u64>,
}

pub struct FileRead;

impl Tool for FileRead {
    fn definition(&self) -> ToolDefinition {
        ToolDefinition {
            name: NAME.to_owned(),
            description: "Read a text file of the workspace.".to_owned(),
            schema: arguments::schema::<Arguments>(),
        }
    }

    fn class(&self) -> EffectClass {
        EffectClass::Read
    }

    fn limits(&self) -> String {
        format!("reads {} MiB, shows {} KiB at once", READ_BYTES_MAX >> 20, SHOWN_BYTES_MAX >> 10)
    }

    fn plan(&self, context: &ToolContext, action: &Action) -> Result<Plan, ToolError> {
        let arguments: Arguments = arguments::parse(NAME, EXAMPLE, &action.arguments)?;
        let path = paths::relative(&context.workspace, &arguments.path)?;
        Ok(Plan {
            summary: format!("read {}", paths::shown(&path)),
            resources: paths::resources(&context.workspace, "file:read", &path)?,
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
        Box::pin(confined::run_internal(NAME, permit, context, layer, true))
    }
}

pub fn confined() -> i32 {
    confined::serve(read)
}

pub fn read(root: &Path, arguments: &Arguments) -> Result<String, String> {
    let workspace = root.canonicalize().unwrap_or_else(|_| root.to_path_buf());
    let relative = paths::relative(&workspace, &arguments.path).map_err(|error| error.to_string())?;
    let name = paths::shown(&relative);
    let path = workspace.join(&relative);
    let meta = fs::metadata(&path).map_err(|error| missing(&workspace, &relative, &error))?;
    if meta.is_dir() {
        return Err(format!("{name} is a folder. List it with file.list."));
    }
    if !meta.is_file() {
        return Err(format!("{name} is not a regular file and cannot be read."));
    }
    let mut bytes = Vec::new();
    fs::File::open(&path)
        .and_then(|file| file.take(READ_BYTES_MAX).read_to_end(&mut bytes))
        .map_err(|error| format!("{name} cannot be read: {error}"))?;
    if bytes.iter().take(SNIFF_BYTES).any(|byte| *byte == 0) {
        return Err(format!("{name} is a binary file of {} bytes. Look at it with a command instead.", meta.len()));
    }
    let text = String::from_utf8_lossy(&bytes);
    Ok(part(&name, &text, arguments, meta.len()))
}

/// The wanted lines under a heading that says what they are.
fn part(name: &str, text: &str, arguments: &Arguments, bytes: u64) -> String {
    let total = text.lines().count() as u64;
    if total == 0 {
        return format!("{name} is empty.\n");
    }
    let whole = bytes <= SHOWN_WHOLE_BYTES_MAX;
    let is_cut = bytes > READ_BYTES_MAX;
    let of_what = if is_cut {
        format!(" of the first {} MiB; the file has {bytes} bytes, see the rest with a command", READ_BYTES_MAX >> 20)
    } else {
        String::new()
    };
    let from = arguments.from_line.filter(|_| !whole).unwrap_or(1).max(1);
    if from > total {
        let those = if is_cut { " to show, those" } else { "" };
        return format!("{name} has only {total} lines{those}{of_what}.\n");
    }
    let wanted = arguments.lines.filter(|_| !whole).unwrap_or(u64::MAX).max(1);
    let mut body = String::new();
    let mut shown = 0u64;
    for line in text.lines().skip(from as usize - 1) {
        if shown >= wanted || (shown > 0 && body.len() + line.len() > SHOWN_BYTES_MAX) {
            break;
        }
        let line = homarus_contract::text::bounded(line, SHOWN_BYTES_MAX, "the line is very long");
        body.push_str(&line);
        body.push('\n');
        shown += 1;
    }
    let last = from + shown - 1;
    let heading = if from == 1 && last == total && !is_cut {
        format!("{name} ({total} lines, {bytes} bytes):\n")
    } else {
        format!("{name} (lines {from} to {last} of {total}{of_what}):\n")
    };
    let more = if last < total && shown < wanted {
        format!("[... {} more lines; go on with from_line {} ...]\n", total - last, last + 1)
    } else {
        String::new()
    };
    heading + &body + &more
}

/// What to tell a model that asked for a file that is not there.
pub fn missing(workspace: &Path, relative: &Path, error: &std::io::Error) -> String {
    let name = paths::shown(relative);
    if error.kind() != std::io::ErrorKind::NotFound && error.kind() != std::io::ErrorKind::NotADirectory {
        return format!("{name} cannot be read: {error}");
    }
    if name.contains(", ") {
        return "Give one path at a time; a folder stands for all the files in it.".to_owned();
    }
    match paths::like(workspace, relative).as_slice() {
        [] => format!("There is no file {name}. See what there is with file.list."),
        near => format!("There is no file {name}. Did you mean {}?", near.join(" or ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_of(root: &Path, json: &str) -> Result<String, String> {
        read(root, &arguments::parse::<Arguments>(NAME, EXAMPLE, json).map_err(|error| error.to_string())?)
    }

    #[test]
    fn reads_whole_parts_and_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        std::fs::write(root.join("a.txt"), "one\ntwo\nthree").unwrap();
        let whole = "a.txt (3 lines, 13 bytes):\none\ntwo\nthree\n";
        assert_eq!(read_of(root, r#"{"path":"a.txt"}"#).unwrap(), whole);
        assert_eq!(read_of(root, r#"{"path":"a.txt","from_line":9}"#).unwrap(), whole, "a small file is shown whole");
        std::fs::write(root.join("long.log"), "0123456789\n".repeat(1_000)).unwrap();
        let part = r#"{"file_path":"long.log","from_line":"2","lines":1}"#;
        assert_eq!(read_of(root, part).unwrap(), "long.log (lines 2 to 2 of 1000):\n0123456789\n");
        assert!(read_of(root, r#"{"path":"long.log","from_line":1001}"#).unwrap().contains("only 1000 lines"));
        assert!(read_of(root, r#"{"path":"A.txt"}"#).unwrap_err().contains("Did you mean a.txt?"));
        assert!(read_of(root, r#"{"path":"a.txt, long.log"}"#).unwrap_err().contains("one path at a time"));
        assert!(read_of(root, r#"{"path":"."}"#).unwrap_err().contains("file.list"));
        assert!(read_of(root, r#"{"path":"../x"}"#).unwrap_err().contains("outside"));
        assert!(read_of(root, "{}").unwrap_err().contains("for example"));
    }

    #[test]
    fn a_file_that_is_read_in_part_is_said_to_be() {
        let bytes = READ_BYTES_MAX + 1;
        let told = "only 2 lines to show, those of the first 64 MiB; the file has 67108865 bytes, see the rest";
        let ask = |from_line| Arguments { path: "l".to_owned(), from_line, lines: None };
        let past = part("l", "one\ntwo", &ask(Some(3)), bytes);
        assert!(past.contains(told), "{past}");
        let all = part("l", "one\ntwo", &ask(None), bytes);
        let heading =
            "l (lines 1 to 2 of 2 of the first 64 MiB; the file has 67108865 bytes, see the rest with a command):\n";
        assert_eq!(all, format!("{heading}one\ntwo\n"));
        assert!(!part("l", "one\ntwo", &ask(None), READ_BYTES_MAX).contains("MiB"));
    }

    #[test]
    fn binary_long_and_empty_files() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        std::fs::write(root.join("b"), b"ab\0cd").unwrap();
        assert!(read_of(root, r#"{"path":"b"}"#).unwrap_err().contains("binary"));
        std::fs::write(root.join("e"), "").unwrap();
        assert!(read_of(root, r#"{"path":"e"}"#).unwrap().contains("empty"));
        std::fs::write(root.join("l"), "0123456789\n".repeat(20_000)).unwrap();
        let text = read_of(root, r#"{"path":"l"}"#).unwrap();
        assert!(text.len() < SHOWN_BYTES_MAX + 200 && text.contains("go on with from_line"));
        std::fs::write(root.join("w"), "x".repeat(1 << 20)).unwrap();
        assert!(read_of(root, r#"{"path":"w"}"#).unwrap().len() < SHOWN_BYTES_MAX + 500);
    }
}
