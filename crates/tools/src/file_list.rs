//! `file.list`: what is in a folder.

use std::{ops::ControlFlow, path::Path};

use homarus_contract::{
    BoxFuture,
    action::{Action, EffectClass, Plan},
    gate::Permit,
    message::ToolDefinition,
    sandbox::{LayerId, OutputSink},
    tool::{ReadRules, Tool, ToolContext, ToolError, ToolOutput},
};
use rustix::fs::FileType;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    arguments,
    beneath::{self, Named, Sight},
    confined::{self, MayRead},
    paths,
    walk::{self, Bounds, End, Entry, LeftOut, Start},
};

pub const NAME: &str = "file.list";
const EXAMPLE: &str = r#"{"path": "."}"#;
const ENTRIES_MAX: usize = 300;
const TEXT_BYTES_MAX: usize = 16 << 10;
const DEPTH_MAX: usize = 12;
/// Entries beyond this are not even counted, and that is said.
const LOOKED_AT_MAX: usize = 10_000;
/// The first listing of a run is made on the host, before its first prompt.
const BOUNDS: Bounds =
    Bounds { depth_max: DEPTH_MAX, entries_max: LOOKED_AT_MAX, comparisons_max: 50_000_000, dotted: true };

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
        format!(
            "{ENTRIES_MAX} entries and {} KiB shown; {LOOKED_AT_MAX} entries looked at, {DEPTH_MAX} folders deep",
            TEXT_BYTES_MAX >> 10
        )
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

/// One line an entry: `logs/app.log  1,234 bytes`, folders with a slash. What is not listed is counted.
pub fn list(root: &Path, arguments: &Arguments, may_read: MayRead) -> Result<String, String> {
    let workspace = root.canonicalize().unwrap_or_else(|_| root.to_path_buf());
    let relative =
        paths::relative(&workspace, arguments.path.as_deref().unwrap_or(".")).map_err(|error| error.to_string())?;
    let name = paths::shown(&relative);
    let folder = workspace.join(&relative);
    if folder.is_file() {
        return Err(format!("{name} is a file. Read it with file.read."));
    }
    if !folder.is_dir() {
        return Err(format!("There is no folder {name}. List the workspace with path \".\"."));
    }
    let mut listing = Listing::default();
    let end = Start::of(&workspace, &relative)
        .and_then(|start| {
            walk::walk(&workspace, &start, &BOUNDS, &mut |entry| {
                listing.add(entry, beneath::sight(entry, may_read));
                ControlFlow::Continue(())
            })
        })
        .map_err(|error| format!("{name} cannot be read: {error}"))?;
    Ok(listing.told(&name, end))
}

#[derive(Default)]
struct Listing {
    lines: Vec<String>,
    bytes: usize,
    /// Entries that did not fit.
    left_out: usize,
    /// Entries that may not even be named.
    hidden: usize,
    ignored: Named,
    unreadable: Named,
    too_deep: Named,
}

impl Listing {
    fn add(&mut self, entry: &Entry<'_>, sight: Sight) {
        if sight == Sight::Hidden {
            self.hidden += 1;
            return;
        }
        match entry.left_out {
            Some(LeftOut::Ignored) => return self.ignored.add(entry),
            Some(LeftOut::Unreadable) => self.unreadable.add(entry),
            Some(LeftOut::TooDeep) => self.too_deep.add(entry),
            None => {}
        }
        if self.left_out > 0 || self.lines.len() >= ENTRIES_MAX {
            self.left_out += 1;
            return;
        }
        let path = entry.shown();
        let line = match entry.kind {
            FileType::Directory => path,
            FileType::Symlink => format!("{path}  (link)"),
            _ if sight == Sight::NameOnly => format!("{path}  (not to be read unasked)"),
            FileType::RegularFile => format!("{path}  {} bytes", entry.bytes()),
            _ => format!("{path}  (not a regular file)"),
        };
        if self.bytes + line.len() + 1 > TEXT_BYTES_MAX {
            self.left_out += 1;
            return;
        }
        self.bytes += line.len() + 1;
        self.lines.push(line);
    }

    fn told(self, name: &str, end: End) -> String {
        let Self { mut lines, left_out, hidden, ignored, unreadable, too_deep, .. } = self;
        match (left_out, end) {
            (0, End::Whole) => {}
            (0, End::Cut) => lines.push(format!(
                "[... and more: only {LOOKED_AT_MAX} entries were looked at; list a folder of its own to see them ...]"
            )),
            (_, End::Whole) => lines.push(format!("[... {left_out} more; list a folder of its own to see them ...]")),
            (_, End::Cut) => lines.push(format!(
                "[... {left_out} more and others: only {LOOKED_AT_MAX} entries were looked at; list a folder of its own to see them ...]"
            )),
        }
        if hidden > 0 {
            lines.push(format!("[{hidden} more are in folders the rules do not let you read unasked]"));
        }
        if let Some(names) = unreadable.told() {
            lines.push(format!("[cannot be read, so what is in it is not known: {names}]"));
        }
        if let Some(names) = too_deep.told() {
            lines.push(format!("[too deep to look into; list one by its path: {names}]"));
        }
        if let Some(names) = ignored.told() {
            lines.push(format!("[not listed, since git ignores it; list a folder by its path: {names}]"));
        }
        if lines.is_empty() { format!("{name} is empty.\n") } else { lines.join("\n") + "\n" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::walk::tests::{pipe, shut, without_privileges};

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
        assert_eq!(
            listed(root, ".").unwrap(),
            ".gitignore  5 bytes\na/\na/b/\na/b/c.txt  5 bytes\n\
             [not listed, since git ignores it; list a folder by its path: skip]\n"
        );
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

    #[test]
    fn what_git_ignores_is_told_and_is_there_for_whoever_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for inner in ["dist/assets", "logs/old", "src/web/dist", ".git/info"] {
            std::fs::create_dir_all(root.join(inner)).unwrap();
        }
        std::fs::write(root.join(".gitignore"), "dist/\nlogs/*.log\nold/\n").unwrap();
        for name in ["dist/assets/a.js", "dist/b.js", "logs/c.log", "logs/old/d.log", "src/web/dist/e", ".git/config"] {
            std::fs::write(root.join(name), "x").unwrap();
        }
        let told = "[not listed, since git ignores it; list a folder by its path:";
        assert_eq!(
            listed(root, ".").unwrap(),
            format!(
                ".gitignore  22 bytes\nlogs/\nsrc/\nsrc/web/\n{told} dist/, logs/c.log, logs/old/, src/web/dist/]\n"
            )
        );
        assert_eq!(listed(root, "logs").unwrap(), format!("logs/c.log  1 bytes\n{told} logs/old/]\n"));
        assert_eq!(listed(root, "logs/old").unwrap(), "logs/old/d.log  1 bytes\n");
        assert_eq!(listed(root, "dist").unwrap(), "dist/assets/\ndist/assets/a.js  1 bytes\ndist/b.js  1 bytes\n");
        assert_eq!(listed(root, "dist/assets").unwrap(), "dist/assets/a.js  1 bytes\n");
        assert_eq!(listed(root, "src/web").unwrap(), format!("{told} src/web/dist/]\n"), "rules of all folders above");
        assert_eq!(listed(root, "src/web/dist").unwrap(), "src/web/dist/e  1 bytes\n");
        std::fs::create_dir(root.join("none")).unwrap();
        assert_eq!(listed(root, "none").unwrap(), "none is empty.\n");
    }

    #[test]
    fn a_folder_that_cannot_be_read_is_not_told_as_empty() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("a/shut")).unwrap();
        shut(&folder.path().join("a/shut"));
        let (all, shut) =
            without_privileges(|| (listed(folder.path(), ".").unwrap(), listed(folder.path(), "a/shut").unwrap_err()));
        assert_eq!(all, "a/\na/shut/\n[cannot be read, so what is in it is not known: a/shut/]\n");
        assert!(shut.starts_with("a/shut cannot be read: "), "{shut}");
    }

    #[test]
    fn a_listing_ends_at_its_bounds_and_says_so() {
        let folder = tempfile::tempdir().unwrap();
        for index in 0..20_000 {
            std::fs::File::create(folder.path().join(format!("f{index:05}"))).unwrap();
        }
        let text = listed(folder.path(), ".").unwrap();
        assert!(text.contains("\n[... 9700 more and others: only 10000 entries were looked at;"), "{text}");

        let folder = tempfile::tempdir().unwrap();
        let (mut path, name) = (folder.path().to_path_buf(), "n".repeat(240));
        for _ in 0..12 {
            path.push(&name);
        }
        std::fs::create_dir_all(&path).unwrap();
        for index in 0..400 {
            std::fs::write(path.parent().unwrap().join(format!("{index:0240}")), "").unwrap();
        }
        let text = listed(folder.path(), ".").unwrap();
        assert!(text.len() < 20 << 10 && text.contains(" more; list a folder of its own"), "{} bytes", text.len());
        assert!(text.contains("[too deep to look into; list one by its path: nnn"), "{text}");
    }

    #[test]
    fn what_is_no_regular_file_is_named_as_such() {
        let folder = tempfile::tempdir().unwrap();
        pipe(&folder.path().join("pipe"));
        assert_eq!(listed(folder.path(), ".").unwrap(), "pipe  (not a regular file)\n");
    }
}
