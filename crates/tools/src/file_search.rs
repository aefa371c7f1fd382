//! `file.search`: lines that match a pattern, with counts that are complete even where lines are not.

mod found;

use std::{io, ops::ControlFlow, path::Path};

use grep_matcher::LineTerminator;
use grep_regex::{RegexMatcher, RegexMatcherBuilder};
use grep_searcher::{BinaryDetection, MmapChoice, Searcher, SearcherBuilder};
use homarus_contract::{
    BoxFuture,
    action::{Action, EffectClass, Plan},
    gate::Permit,
    message::ToolDefinition,
    sandbox::{LayerId, OutputSink},
    text::one_line,
    tool::{ReadRules, Tool, ToolContext, ToolError, ToolOutput},
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    arguments,
    confined::{self, MayRead},
    file_read, paths,
    walk::{self, Bounds, End, Start},
};
use found::Found;

pub const NAME: &str = "file.search";
const EXAMPLE: &str = r#"{"pattern": "error", "path": "logs"}"#;
const LINES_MAX: usize = 60;
const FILES_LISTED_MAX: usize = 60;
/// Files beyond this are left out, and said so.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// Files beyond this number are not looked at, and that is said.
const FILES_MAX: u64 = 100_000;
const DEPTH_MAX: usize = 64;
const BOUNDS: Bounds =
    Bounds { depth_max: DEPTH_MAX, entries_max: 500_000, comparisons_max: 2_000_000_000, dotted: true };
const PATTERN_BYTES_MAX: usize = 4096;

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Arguments {
    /// Text or regular expression to look for.
    #[serde(alias = "query", alias = "regex", alias = "text")]
    pattern: String,
    /// File or folder to search, relative to the workspace; all of it if absent.
    #[serde(
        default,
        alias = "file",
        alias = "folder",
        alias = "directory",
        deserialize_with = "arguments::maybe_text"
    )]
    path: Option<String>,
}

pub struct FileSearch;

impl Tool for FileSearch {
    fn definition(&self) -> ToolDefinition {
        ToolDefinition {
            name: NAME.to_owned(),
            description: "Search files for a text or regular expression. Gives the number of matching lines in each \
                          file, the total, and the lines. Use it to find and to count."
                .to_owned(),
            schema: arguments::schema::<Arguments>(),
        }
    }

    fn class(&self) -> EffectClass {
        EffectClass::Read
    }

    fn limits(&self) -> String {
        format!(
            "{LINES_MAX} lines and {FILES_LISTED_MAX} files shown, all counted; files of {} MiB; {FILES_MAX} files, {DEPTH_MAX} folders deep; pattern of {PATTERN_BYTES_MAX} bytes",
            FILE_BYTES_MAX >> 20
        )
    }

    fn plan(&self, context: &ToolContext, action: &Action) -> Result<Plan, ToolError> {
        let arguments: Arguments = arguments::parse(NAME, EXAMPLE, &action.arguments)?;
        let path = paths::relative(&context.workspace, arguments.path.as_deref().unwrap_or("."))?;
        Ok(Plan {
            summary: format!("search {} for {}", paths::shown(&path), one_line(&arguments.pattern, 80)),
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
    confined::serve_reading::<R, Arguments>(search)
}

pub fn search(root: &Path, arguments: &Arguments, may_read: MayRead) -> Result<String, String> {
    search_up_to(FILES_MAX, root, arguments, may_read)
}

fn search_up_to(files_max: u64, root: &Path, arguments: &Arguments, may_read: MayRead) -> Result<String, String> {
    let workspace = root.canonicalize().unwrap_or_else(|_| root.to_path_buf());
    let relative =
        paths::relative(&workspace, arguments.path.as_deref().unwrap_or(".")).map_err(|error| error.to_string())?;
    let place = paths::shown(&relative);
    let meta = std::fs::metadata(workspace.join(&relative))
        .map_err(|error| file_read::missing(&workspace, &relative, &error))?;
    if !meta.is_file() && !meta.is_dir() {
        return Err(format!("{place} is neither a regular file nor a folder and cannot be searched."));
    }
    let (matcher, is_plain) = compile(&arguments.pattern)?;
    let mut searcher = searcher();
    let mut found = Found::new(is_plain);
    let failed = |error: io::Error| format!("{place} cannot be read: {error}");
    let start = Start::of(&workspace, &relative).map_err(failed)?;
    if meta.is_file() {
        // Named itself, a rule has decided about it.
        found.file(start.open(&workspace), &place, &mut searcher, &matcher);
        return Ok(found.told(&arguments.pattern, &place));
    }
    let end = walk::walk(&workspace, &start, &BOUNDS, &mut |entry| {
        if found.passes_over(entry, may_read) {
            return ControlFlow::Continue(());
        }
        if found.files >= files_max {
            found.is_cut = true;
            return ControlFlow::Break(());
        }
        found.file(entry.open(), &entry.shown(), &mut searcher, &matcher);
        ControlFlow::Continue(())
    });
    found.is_cut |= end.map_err(failed)? == End::Cut;
    Ok(found.told(&arguments.pattern, &place))
}

/// Without regard to case unless the pattern has a capital letter; what is no regular expression is
/// looked for as it stands, which the flag says.
fn compile(pattern: &str) -> Result<(RegexMatcher, bool), String> {
    if pattern.is_empty() || pattern.len() > PATTERN_BYTES_MAX {
        return Err(format!("The pattern must have 1 to {PATTERN_BYTES_MAX} characters."));
    }
    if pattern.contains('\n') {
        return Err("The pattern must be one line: files are searched line by line.".to_owned());
    }
    let mut builder = RegexMatcherBuilder::new();
    builder.case_insensitive(!pattern.chars().any(char::is_uppercase)).multi_line(true).crlf(true).size_limit(4 << 20);
    if let Ok(matcher) = builder.build(pattern) {
        return Ok((matcher, false));
    }
    let plain = builder.fixed_strings(true).build(pattern);
    plain.map(|matcher| (matcher, true)).map_err(|error| format!("The pattern cannot be used: {error}"))
}

/// A file with a zero byte is binary. Files are read, not mapped: one that shrinks meanwhile must not end us.
fn searcher() -> Searcher {
    SearcherBuilder::new()
        .binary_detection(BinaryDetection::quit(0))
        .line_number(true)
        .line_terminator(LineTerminator::crlf())
        .memory_map(MmapChoice::never())
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::walk::tests::{ends, pipe, shut, without_privileges};

    fn searched(root: &Path, pattern: &str, path: Option<&str>) -> Result<String, String> {
        search(root, &Arguments { pattern: pattern.to_owned(), path: path.map(str::to_owned) }, &|_| true)
    }

    #[test]
    fn counts_are_complete_and_lines_are_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        std::fs::create_dir(root.join("logs")).unwrap();
        std::fs::write(root.join("logs/a.log"), "ERROR x\n".repeat(100)).unwrap();
        std::fs::write(root.join("logs/b.log"), "ok\nerror y\n").unwrap();
        std::fs::write(root.join("c.bin"), b"error\0").unwrap();
        let text = searched(root, "error", None).unwrap();
        assert!(
            text.ends_with(
                "Matching lines per file, most first:\n  logs/a.log: 100\n  logs/b.log: 1\nIn all: 101 in 2 of 3 files.\n"
            ),
            "{text}"
        );
        assert!(text.contains("[... 41 more lines"), "{text}");
        assert!(searched(root, "ERROR", Some("logs")).unwrap().ends_with("\n  logs/a.log: 100\n"));
        assert!(searched(root, "error", Some("logs/b.log")).unwrap().contains("logs/b.log:2: error y"));
    }

    #[test]
    fn files_that_may_not_be_read_are_not_searched() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        std::fs::create_dir_all(root.join("private/deep")).unwrap();
        for name in ["open.txt", "shut.txt", "private/a", "private/deep/b"] {
            std::fs::write(root.join(name), "the word\n").unwrap();
        }
        std::os::unix::fs::symlink("private", root.join("way")).unwrap();
        let searched = |path: Option<&str>| {
            let arguments = Arguments { pattern: "word".to_owned(), path: path.map(str::to_owned) };
            search(root, &arguments, &|path| path != "shut.txt" && !path.starts_with("private")).unwrap()
        };
        let text = searched(None);
        assert!(
            text.starts_with("open.txt:1: the word\nMatching lines per file, most first:\n  open.txt: 1\n"),
            "{text}"
        );
        assert!(text.contains("Left out: shut.txt (the rules"), "{text}");
        assert!(text.ends_with("2 files are in folders the rules do not let you read unasked.\n"), "{text}");
        assert!(!searched(Some("way")).contains("the word"), "a link to a folder is judged by where it leads");
        assert!(searched(Some("shut.txt")).contains("shut.txt:1"), "named itself, the gate has decided");
    }

    #[test]
    fn the_number_of_files_is_bounded_and_what_git_ignores_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a", "b", "c", "ignored"] {
            std::fs::write(folder.path().join(name), "word\n").unwrap();
        }
        std::fs::write(folder.path().join(".gitignore"), "ignored\n").unwrap();
        let arguments = Arguments { pattern: "word".to_owned(), path: None };
        let searched = |files_max| search_up_to(files_max, folder.path(), &arguments, &|_| true).unwrap();
        let cut = searched(3);
        assert!(cut.ends_with("Only the first 3 files were searched. Name a folder to search the rest.\n"), "{cut}");
        let all = searched(4);
        assert!(all.ends_with("In all: 3 in 3 of 4 files.\n") && !all.contains("ignored:"), "{all}");
    }

    #[test]
    fn line_ends_and_late_zero_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        std::fs::write(root.join("dos.txt"), "one word\r\nword two\r\nlast word").unwrap();
        let text = searched(root, "word$", None).unwrap();
        assert!(text.starts_with("dos.txt:1: one word\ndos.txt:3: last word\nMatching"), "{text}");
        assert!(searched(root, "^word", None).unwrap().starts_with("dos.txt:2: word two\n"));
        std::fs::write(root.join("late.bin"), ["word\n".repeat(50_000).as_bytes(), b"\0"].concat()).unwrap();
        let text = searched(root, "word", Some("late.bin")).unwrap();
        assert!(text.starts_with("No line matches"), "neither lines nor counts of a binary file: {text}");
        std::fs::write(root.join("latin1.txt"), b"caf\xe9 word\n").unwrap();
        assert!(searched(root, "word", Some("latin1.txt")).unwrap().starts_with("latin1.txt:1: caf\u{fffd} word\n"));
        std::fs::write(root.join("wide.txt"), b"\xff\xfew\0o\0r\0d\0\n\0").unwrap();
        assert!(searched(root, "word", Some("wide.txt")).unwrap().starts_with("wide.txt:1: word\n"));
        std::fs::File::create(root.join("sparse")).unwrap().set_len(2 << 30).unwrap();
        assert!(searched(root, "word", None).unwrap().contains("Left out: sparse (larger than 64 MiB)"));
    }

    #[test]
    fn odd_patterns_and_places() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a"), "x[1\n").unwrap();
        assert!(searched(folder.path(), "x[1", None).unwrap().contains("  a: 1\n"), "not a regex: as it stands");
        assert!(searched(folder.path(), "nope", None).unwrap().starts_with("No line matches"));
        assert!(searched(folder.path(), "", None).is_err());
        assert!(searched(folder.path(), "x\ny", None).unwrap_err().contains("line by line"));
        assert!(searched(folder.path(), r"(\w{1000}){1000}", None).unwrap().starts_with("No line matches"));
        assert!(searched(folder.path(), "x", Some("b")).unwrap_err().contains("no file"));
    }

    #[test]
    fn what_was_not_searched_is_not_told_as_without_a_match() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for inner in ["dist/in", "logs/old", "a/shut", ".git"] {
            std::fs::create_dir_all(root.join(inner)).unwrap();
        }
        std::fs::write(root.join(".gitignore"), "dist/\nlogs/*.log\nold/\n").unwrap();
        for name in ["dist/in/a.js", "logs/c.log", "logs/old/d.log", ".git/config"] {
            std::fs::write(root.join(name), "the word\n").unwrap();
        }
        shut(&root.join("a/shut"));
        let searched = |path| without_privileges(|| searched(root, "word", path).unwrap());
        assert_eq!(
            searched(None),
            "No line matches \"word\" in . (1 files searched).\n\
             Not searched, since git ignores it; search it by its path: dist/, logs/c.log, logs/old/\n\
             Left out: a/shut/ (cannot be read)\n"
        );
        let named = searched(Some("logs"));
        assert!(named.starts_with("logs/c.log:1: the word\nNot searched, since git ignores it;"), "{named}");
        assert!(named.contains("by its path: logs/old/\n") && named.ends_with("  logs/c.log: 1\n"), "{named}");
        for (path, file) in [("dist", "dist/in/a.js"), ("dist/in", "dist/in/a.js"), ("logs/old", "logs/old/d.log")] {
            assert!(searched(Some(path)).starts_with(&format!("{file}:1: the word\nMatching")), "{path}");
        }
        std::fs::write(root.join("many"), "word\n".repeat(100)).unwrap();
        assert!(searched(None).contains("[... 40 more lines; the counts below are complete but for what was left out"));
    }

    #[test]
    fn a_pattern_that_is_no_regular_expression_is_said_to_be_none() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a"), "foo(?!bar)\nfoobaz\n").unwrap();
        let told = "\"foo(?!baz)\" is no regular expression here, so it was looked for as plain text.\n";
        let text = searched(folder.path(), "foo(?!baz)", None).unwrap();
        assert!(text.starts_with("No line matches") && text.ends_with(told), "{text}");
        let text = searched(folder.path(), "foo(?!bar)", None).unwrap();
        assert!(text.starts_with("a:1: foo(?!bar)\n\"foo(?!bar)\" is no regular expression here"), "{text}");
        assert!(!searched(folder.path(), "foo", None).unwrap().contains("regular expression"));
    }

    #[test]
    fn a_search_opens_no_pipe_and_no_ignore_file_that_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().to_path_buf();
        std::fs::write(root.join("a"), "word\n").unwrap();
        pipe(&root.join("pipe"));
        pipe(&root.join(".gitignore"));
        std::os::unix::fs::symlink("/dev/zero", root.join(".ignore")).unwrap();
        let (all, named) = ends(move || (searched(&root, "word", None), searched(&root, "word", Some("pipe"))));
        assert!(all.unwrap().starts_with("a:1: word\n"));
        assert!(named.unwrap_err().contains("neither a regular file nor a folder"));
    }
}
