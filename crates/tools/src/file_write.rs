//! `file.write`: a whole file, new or replaced.

use std::{
    fs,
    io::{Read, Write},
    os::{fd::AsFd, unix::fs::PermissionsExt},
    path::Path,
};

use homarus_contract::{
    BoxFuture,
    action::{Action, EffectClass, Plan},
    gate::Permit,
    message::ToolDefinition,
    sandbox::{LayerId, OutputSink},
    text::bounded,
    tool::{Tool, ToolContext, ToolError, ToolOutput},
};
use schemars::JsonSchema;
use serde::Deserialize;
use similar::TextDiff;

use crate::{arguments, confined, paths, walk};

pub const NAME: &str = "file.write";
const EXAMPLE: &str = r#"{"path": "notes.txt", "content": "all of the file\n"}"#;
const CONTENT_BYTES_MAX: usize = 16 << 20;
/// Old files beyond this are not compared.
const DIFFED_BYTES_MAX: usize = 256 * 1024;
const DIFF_SHOWN_BYTES_MAX: usize = 16 * 1024;

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Arguments {
    /// File to write, relative to the workspace. Missing folders are made.
    #[serde(alias = "file", alias = "file_path", alias = "filename")]
    path: String,
    /// All of the file's new text.
    #[serde(alias = "text", alias = "contents")]
    content: String,
}

pub struct FileWrite;

impl Tool for FileWrite {
    fn definition(&self) -> ToolDefinition {
        ToolDefinition {
            name: NAME.to_owned(),
            description: "Write a whole text file: makes a new one, or replaces all of an old one.".to_owned(),
            schema: arguments::schema::<Arguments>(),
        }
    }

    fn class(&self) -> EffectClass {
        EffectClass::Workspace
    }

    fn limits(&self) -> String {
        format!("content of {} MiB", CONTENT_BYTES_MAX >> 20)
    }

    fn plan(&self, context: &ToolContext, action: &Action) -> Result<Plan, ToolError> {
        let arguments: Arguments = arguments::parse(NAME, EXAMPLE, &action.arguments)?;
        let path = paths::relative(&context.workspace, &arguments.path)?;
        if path.as_os_str().is_empty() {
            return Err(ToolError::BadArguments(format!("The path names no file. Send for example {EXAMPLE}")));
        }
        if arguments.content.len() > CONTENT_BYTES_MAX {
            return Err(ToolError::BadArguments(format!(
                "The content is larger than {} MiB.",
                CONTENT_BYTES_MAX >> 20
            )));
        }
        let old = old_text(&context.workspace, &path);
        let verb = if old.is_some() { "replace" } else { "write" };
        Ok(Plan {
            summary: format!("{verb} {} ({} bytes)", paths::shown(&path), arguments.content.len()),
            resources: paths::resources(&context.workspace, "file:write", &path)?,
            class: EffectClass::Workspace,
            diff: Some(diff(&paths::shown(&path), &old.unwrap_or_default(), &arguments.content)),
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

pub fn confined() -> i32 {
    confined::serve(write)
}

/// Runs inside the sandbox: what is written here lands in the call's layer.
pub fn write(root: &Path, arguments: &Arguments) -> Result<String, String> {
    let workspace = root.canonicalize().unwrap_or_else(|_| root.to_path_buf());
    let relative = paths::relative(&workspace, &arguments.path).map_err(|error| error.to_string())?;
    let name = paths::shown(&relative);
    let path = workspace.join(&relative);
    let failed = |error: std::io::Error| format!("{name} cannot be written: {error}");
    if path.is_dir() {
        return Err(format!("{name} is a folder. Give the path of a file."));
    }
    let old = fs::read(&path).ok();
    if old.as_deref() == Some(arguments.content.as_bytes()) {
        return Ok(format!("{name} has exactly this content already. Nothing was changed.\n"));
    }
    let mode = fs::metadata(&path).map(|meta| meta.permissions().mode());
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    if path.is_symlink() {
        return Err(format!("{name} is a link. Write the file it leads to."));
    }
    let mut file = fs::File::create(&path).map_err(failed)?;
    file.write_all(arguments.content.as_bytes()).map_err(failed)?;
    if let Ok(mode) = mode {
        file.set_permissions(fs::Permissions::from_mode(mode)).map_err(failed)?;
    }
    let lines = arguments.content.lines().count();
    Ok(match old {
        None => format!("{name} was made ({lines} lines).\n"),
        Some(old) => {
            let before = String::from_utf8_lossy(&old).lines().count();
            format!("{name} was replaced as a whole ({before} lines before, {lines} now).\n")
        }
    })
}

/// The text that is there now, if it is a text file of this workspace reached without links.
pub fn old_text(workspace: &Path, relative: &Path) -> Option<String> {
    let (file, _) = walk::open_file(walk::open_folder(workspace).ok()?.as_fd(), relative).ok()?;
    let mut text = String::new();
    let read = file.take(DIFFED_BYTES_MAX as u64 + 1).read_to_string(&mut text).ok()?;
    (read <= DIFFED_BYTES_MAX).then_some(text)
}

/// A unified diff for people and models, bounded; texts too large to compare are only named.
pub fn diff(name: &str, old: &str, new: &str) -> String {
    if old.len().max(new.len()) > DIFFED_BYTES_MAX {
        return format!("{name}: {} bytes before, {} bytes now\n", old.len(), new.len());
    }
    let diff = TextDiff::from_lines(old, new);
    let text = diff.unified_diff().context_radius(3).header(&format!("a/{name}"), &format!("b/{name}")).to_string();
    bounded(&text, DIFF_SHOWN_BYTES_MAX, "the whole diff is in the journal")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(root: &Path, path: &str, content: &str) -> Result<String, String> {
        write(root, &Arguments { path: path.to_owned(), content: content.to_owned() })
    }

    #[test]
    fn makes_replaces_and_keeps_the_mode() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        assert_eq!(written(root, "d/e/a.sh", "one\n").unwrap(), "d/e/a.sh was made (1 lines).\n");
        fs::set_permissions(root.join("d/e/a.sh"), fs::Permissions::from_mode(0o755)).unwrap();
        let told = written(root, "d/e/a.sh", "two\n").unwrap();
        assert_eq!(told, "d/e/a.sh was replaced as a whole (1 lines before, 1 now).\n");
        assert_eq!(fs::metadata(root.join("d/e/a.sh")).unwrap().permissions().mode() & 0o777, 0o755);
        assert!(written(root, "d/e/a.sh", "two\n").unwrap().contains("Nothing was changed"));
        assert!(written(root, "d", "x").unwrap_err().contains("is a folder"));
        assert!(written(root, "../x", "x").unwrap_err().contains("outside"));
    }

    #[test]
    fn the_plan_does_not_look_through_links() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::write(root.join("secret"), "s3cret").unwrap();
        std::os::unix::fs::symlink(root.join("secret"), root.join("link")).unwrap();
        assert_eq!(old_text(root, Path::new("link")), None);
        assert_eq!(old_text(root, Path::new("secret")).as_deref(), Some("s3cret"));
    }
}
