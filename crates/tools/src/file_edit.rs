//! `file.edit`: one piece of a file's text replaced by another, the rest kept.

mod changed;
mod replace;

use std::{fs, path::Path};

use homarus_contract::{
    BoxFuture,
    action::{Action, EffectClass, Plan, Resource},
    gate::Permit,
    message::ToolDefinition,
    sandbox::{LayerId, OutputSink},
    text::one_line,
    tool::{Tool, ToolContext, ToolError, ToolOutput},
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{arguments, confined, file_read, file_write, paths};

pub const NAME: &str = "file.edit";
const EXAMPLE: &str = r#"{"path": "app.conf", "old": "port = 80", "new": "port = 8080"}"#;
const FILE_BYTES_MAX: u64 = 16 << 20;
/// A file up to this size is shown whole when the text to replace is not in it.
const SHOWN_BYTES_MAX: usize = 2_000;

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Arguments {
    /// File to change, relative to the workspace.
    #[serde(alias = "file", alias = "file_path", alias = "filename")]
    path: String,
    /// The text to replace, exactly as it is in the file, for example a whole line.
    #[serde(alias = "old_string", alias = "search")]
    old: String,
    /// The text to put there.
    #[serde(alias = "new_string", alias = "replace")]
    new: String,
}

pub struct FileEdit;

impl Tool for FileEdit {
    fn definition(&self) -> ToolDefinition {
        ToolDefinition {
            name: NAME.to_owned(),
            description: "Change a file: replaces one piece of its text by another and keeps the rest. The best way \
                          to change a setting."
                .to_owned(),
            schema: arguments::schema::<Arguments>(),
        }
    }

    fn class(&self) -> EffectClass {
        EffectClass::Workspace
    }

    fn limits(&self) -> String {
        format!("files of {} MiB", FILE_BYTES_MAX >> 20)
    }

    fn plan(&self, context: &ToolContext, action: &Action) -> Result<Plan, ToolError> {
        let arguments: Arguments = arguments::parse(NAME, EXAMPLE, &action.arguments)?;
        let path = paths::relative(&context.workspace, &arguments.path)?;
        let diff = file_write::old_text(&context.workspace, &path).and_then(|old| {
            let new = replace::replaced(&old, &arguments.old, &arguments.new).ok()?;
            Some(file_write::diff(&paths::shown(&path), &old, &new))
        });
        Ok(Plan {
            summary: format!("edit {}: {}", paths::shown(&path), one_line(&arguments.new, 80)),
            resources: resources(&context.workspace, &path)?,
            class: EffectClass::Workspace,
            diff,
        })
    }

    fn run(
        &self,
        permit: Permit,
        context: ToolContext,
        layer: LayerId,
        _output: OutputSink,
    ) -> BoxFuture<'_, Result<ToolOutput, ToolError>> {
        Box::pin(confined::run_internal(NAME, permit, context, layer, false))
    }
}

/// What does not fit is answered with the file's text, so an edit needs the right to read it as well.
fn resources(workspace: &Path, path: &Path) -> Result<Vec<Resource>, ToolError> {
    let mut resources = paths::resources(workspace, "file:write", path)?;
    resources.extend(paths::resources(workspace, "file:read", path)?);
    Ok(resources)
}

pub fn confined() -> i32 {
    confined::serve(edit)
}

/// Runs inside the sandbox: what is written here lands in the call's layer.
pub fn edit(root: &Path, arguments: &Arguments) -> Result<String, String> {
    let workspace = root.canonicalize().unwrap_or_else(|_| root.to_path_buf());
    let relative = paths::relative(&workspace, &arguments.path).map_err(|error| error.to_string())?;
    let name = paths::shown(&relative);
    let path = workspace.join(&relative);
    let meta = fs::metadata(&path).map_err(|error| file_read::missing(&workspace, &relative, &error))?;
    if !meta.is_file() || meta.len() > FILE_BYTES_MAX {
        return Err(format!("{name} is not a text file that can be edited."));
    }
    let old = fs::read_to_string(&path).map_err(|error| format!("{name} cannot be read as text: {error}"))?;
    if old.contains('\0') {
        return Err(format!("{name} is a binary file. Change it with a command instead."));
    }
    let new = match replace::replaced(&old, &arguments.old, &arguments.new) {
        Ok(new) => new,
        Err(reason) => return unchanged(&name, &old, arguments, &reason),
    };
    fs::write(&path, &new).map_err(|error| format!("{name} cannot be written: {error}"))?;
    Ok(format!("{name} was changed. {}", changed::changed_lines(&old, &new)))
}

/// What a model is told that has changed nothing. It is no error where the file has the new text, beyond doubt, and not
/// the old one: then the change was made before.
fn unchanged(name: &str, text: &str, arguments: &Arguments, reason: &str) -> Result<String, String> {
    let new = &arguments.new;
    let (times, line) = if replace::is_missing(text, &arguments.old) { replace::standing(text, new) } else { (0, 0) };
    if times == 1 && (!replace::is_trivial(new) || text.trim() == new.trim()) {
        return Ok(format!("{name} has the new text already. Nothing was changed.\n"));
    }
    let remark = match times {
        0 => String::new(),
        1 => format!(" Line {line} is like the new text, but that is too short to tell whether it is meant."),
        _ => format!(" The new text stands there {times} times already, first in line {line}."),
    };
    let shown = if text.len() <= SHOWN_BYTES_MAX { format!("\n{name} holds:\n{text}") } else { String::new() };
    Err(format!("{name}: {reason}{remark} Nothing was changed. Copy the text to replace exactly from the file.{shown}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edit_asks_for_the_right_to_read_too_and_tells_nothing_of_other_files() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.conf"), "a = 1\n").unwrap();
        fs::write(folder.path().join("private"), "token = s3cret\n").unwrap();
        let told = edited(folder.path(), "s3cret", "x").unwrap_err();
        assert!(!told.contains("private"), "{told}");
        let resources = resources(folder.path(), Path::new("a.conf")).unwrap();
        let verbs: Vec<&str> = resources.iter().map(|resource| resource.verb.as_str()).collect();
        assert_eq!(verbs, ["file:write", "file:read"]);
    }

    fn edited(root: &Path, old: &str, new: &str) -> Result<String, String> {
        edit(root, &Arguments { path: "a.conf".to_owned(), old: old.to_owned(), new: new.to_owned() })
    }

    #[test]
    fn one_place_is_changed_and_the_rest_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.conf");
        fs::write(&path, "port = 80\nport = 8080\nname = x\n").unwrap();
        assert!(
            edited(folder.path(), "port = 80", "port = 81")
                .unwrap()
                .contains("Line 1 was: port = 80\nLine 1 is now: port = 81\n")
        );
        assert_eq!(fs::read_to_string(&path).unwrap(), "port = 81\nport = 8080\nname = x\n");
        assert!(edited(folder.path(), "name", "title").is_ok());
        assert_eq!(fs::read_to_string(&path).unwrap(), "port = 81\nport = 8080\ntitle = x\n");
    }

    #[test]
    fn what_does_not_fit_is_refused_and_the_file_shown() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.conf"), "a = 1\na = 1\n").unwrap();
        assert!(edited(folder.path(), "b = 1", "c").unwrap_err().contains("a.conf holds:\na = 1"));
        assert!(edited(folder.path(), "a = 1", "c").unwrap_err().contains("2 times"));
        assert!(edited(folder.path(), "a = 1", "a = 1").unwrap_err().contains("same text"));
        assert!(edited(folder.path(), "", "x").unwrap_err().contains("empty"));
        assert_eq!(fs::read_to_string(folder.path().join("a.conf")).unwrap(), "a = 1\na = 1\n");
    }

    #[test]
    fn a_change_is_done_already_only_beyond_doubt() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.conf");
        for (text, old, new) in [
            ("a = 1\n", "b = 1", "a = 1"),
            ("a = 1\r\nb = 2\r\n", "a = 0\nb = 0", "a = 1\nb = 2"),
            ("2.4\n", "2.3", "2.4"),
        ] {
            fs::write(&path, text).unwrap();
            assert!(edited(folder.path(), old, new).unwrap().contains("already"), "{text:?}: done is not an error");
        }
        let text = "if a {\n    return None\n}\nb = 1\nb = 1\n";
        fs::write(&path, text).unwrap();
        for (new, words) in [("}", "like the new text"), ("return None", "Line 2 is"), ("b = 1", "2 times already")] {
            let told = edited(folder.path(), "c = 1", new).unwrap_err();
            assert!(told.contains("is not there") && told.contains(words), "{new}: {told}");
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }

    #[test]
    fn a_file_with_crlf_is_changed_and_keeps_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.conf");
        fs::write(&path, "port = 80\r\nname = x\r\n").unwrap();
        let told = edited(folder.path(), "port = 80", "port = 81").unwrap();
        assert_eq!(told, "a.conf was changed. Line 1 was: port = 80\nLine 1 is now: port = 81\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "port = 81\r\nname = x\r\n");
        edited(folder.path(), "port = 81\nname = x", "port = 82\nhost = h\nname = y").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "port = 82\r\nhost = h\r\nname = y\r\n");
        edited(folder.path(), "host = h\n", "").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "port = 82\r\nname = y\r\n");
    }

    #[test]
    fn half_a_change_is_not_made() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.conf");
        for (text, old, new) in
            [("retries  = 3\n", "retries = 3", "# retries = 5"), ("if a  == b\n", "if a == b", "if x != b")]
        {
            fs::write(&path, text).unwrap();
            assert!(edited(folder.path(), old, new).unwrap_err().contains("not there"), "{text}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }

    #[test]
    fn a_change_of_one_endless_line_is_told_in_few_words() {
        let folder = tempfile::tempdir().unwrap();
        let rest = "x".repeat(1 << 19);
        fs::write(folder.path().join("a.conf"), format!("{rest} before {rest}")).unwrap();
        let told = edited(folder.path(), " before ", " after ").unwrap();
        assert!(told.len() < 5 << 10 && told.contains(" before x") && told.contains(" after x"), "{told}");
    }
}
