//! `file.list`: what is in a folder.

use std::path::Path;

use homarus_contract::{
    BoxFuture,
    action::{Action, EffectClass, Plan},
    gate::Permit,
    message::ToolDefinition,
    sandbox::{LayerId, OutputSink},
    tool::{ReadRules, Tool, ToolContext, ToolError, ToolOutput},
};
use ignore::WalkBuilder;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    arguments,
    beneath::{Beneath, Sight},
    confined::{self, MayRead},
    paths,
};

pub const NAME: &str = "file.list";
const EXAMPLE: &str = r#"{"path": "."}"#;
const ENTRIES_MAX: usize = 300;
const DEPTH_MAX: usize = 12;

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Arguments {
    /// Folder to list, relative to the workspace; all of it if absent.
    #[serde(default, alias = "folder", alias = "directory", alias = "dir", deserialize_with = "arguments::maybe_text")]
    path: Option<String>,
}

pub struct FileList;

impl Tool for FileList {
    fn definition(&self) -> ToolDefinition {
        ToolDefinition {
            name: NAME.to_owned(),
            description: "List the files in a folder of the workspace and below, with their sizes.".to_owned(),
            schema: arguments::schema::<Arguments>(),
        }
    }

    fn class(&self) -> EffectClass {
        EffectClass::Read
    }

    fn limits(&self) -> String {
        format!("{ENTRIES_MAX} entries, {DEPTH_MAX} folders deep")
    }

    fn plan(&self, context: &ToolContext, action: &Action) -> Result<Plan, ToolError> {
        let arguments: Arguments = arguments::parse(NAME, EXAMPLE, &action.arguments)?;
        let path = paths::relative(&context.workspace, arguments.path.as_deref().unwrap_or("."))?;
        Ok(Plan {
            summary: format!("list {}", paths::shown(&path)),
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

pub fn confined<R: ReadRules>() -> i32 {
    confined::serve_reading::<R, Arguments>(list)
}

/// One line an entry: `logs/app.log  1,234 bytes`, folders with a slash.
pub fn list(root: &Path, arguments: &Arguments, may_read: MayRead) -> Result<String, String> {
    let workspace = root.canonicalize().unwrap_or_else(|_| root.to_path_buf());
    let relative =
        paths::relative(&workspace, arguments.path.as_deref().unwrap_or(".")).map_err(|error| error.to_string())?;
    let folder = workspace.join(&relative);
    if folder.is_file() {
        return Err(format!("{} is a file. Read it with file.read.", paths::shown(&relative)));
    }
    if !folder.is_dir() {
        return Err(format!("There is no folder {}. List the workspace with path \".\".", paths::shown(&relative)));
    }
    let beneath = Beneath::new(&workspace, &folder, may_read);
    let mut lines = Vec::new();
    let (mut left_out, mut hidden) = (0usize, 0usize);
    let walk = WalkBuilder::new(&folder)
        .hidden(false)
        .follow_links(false)
        .require_git(false)
        .max_depth(Some(DEPTH_MAX))
        .sort_by_file_path(Path::cmp)
        .filter_entry(|entry| entry.file_name() != ".git")
        .build();
    for entry in walk.flatten().filter(|entry| entry.depth() > 0) {
        let sight = beneath.sight(entry.path());
        if sight == Sight::Hidden {
            hidden += 1;
            continue;
        }
        if lines.len() >= ENTRIES_MAX {
            left_out += 1;
            continue;
        }
        let Ok(path) = entry.path().strip_prefix(&workspace) else { continue };
        let path = path.display();
        let kind = entry.file_type();
        lines.push(if kind.is_some_and(|kind| kind.is_dir()) {
            format!("{path}/")
        } else if kind.is_some_and(|kind| kind.is_symlink()) {
            format!("{path}  (link)")
        } else if sight == Sight::NameOnly {
            format!("{path}  (not to be read unasked)")
        } else {
            format!("{path}  {} bytes", entry.metadata().map_or(0, |meta| meta.len()))
        });
    }
    if lines.is_empty() && hidden == 0 {
        return Ok(format!("{} is empty.\n", paths::shown(&relative)));
    }
    if left_out > 0 {
        lines.push(format!("[... {left_out} more; list a folder of its own to see them ...]"));
    }
    if hidden > 0 {
        lines.push(format!("[{hidden} more are in folders the rules do not let you read unasked]"));
    }
    Ok(lines.join("\n") + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(root: &Path, path: &str) -> Result<String, String> {
        list(root, &Arguments { path: Some(path.to_owned()) }, &|_| true)
    }

    #[test]
    fn lists_what_is_there_and_not_what_git_ignores() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        std::fs::create_dir_all(root.join("a/b")).unwrap();
        std::fs::create_dir_all(root.join(".git")).unwrap();
        std::fs::write(root.join("a/b/c.txt"), "12345").unwrap();
        std::fs::write(root.join(".gitignore"), "skip\n").unwrap();
        std::fs::write(root.join("skip"), "").unwrap();
        assert_eq!(listed(root, ".").unwrap(), ".gitignore  5 bytes\na/\na/b/\na/b/c.txt  5 bytes\n");
        assert_eq!(listed(root, "a/b").unwrap(), "a/b/c.txt  5 bytes\n");
        assert!(listed(root, "a/b/c.txt").unwrap_err().contains("file.read"));
        assert!(listed(root, "nope").unwrap_err().contains("no folder"));
        assert!(listed(root, "..").is_err());
    }

    #[test]
    fn what_may_not_be_read_is_named_where_it_is_seen_and_no_deeper() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        std::fs::create_dir_all(root.join("private/deep")).unwrap();
        std::fs::write(root.join("private/deep/b"), "x").unwrap();
        std::fs::write(root.join(".env"), "x").unwrap();
        let arguments = Arguments::default();
        let text = list(root, &arguments, &|path| path != ".env" && !path.starts_with("private")).unwrap();
        assert_eq!(
            text,
            ".env  (not to be read unasked)\nprivate/\n[2 more are in folders the rules do not let you read unasked]\n"
        );
    }

    #[test]
    fn a_long_listing_says_how_much_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        for index in 0..ENTRIES_MAX + 7 {
            std::fs::write(folder.path().join(format!("f{index:04}")), "").unwrap();
        }
        assert!(listed(folder.path(), ".").unwrap().contains("[... 7 more"));
    }
}
