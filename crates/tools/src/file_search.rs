//! `file.search`: lines that match a pattern, with counts that are complete even where lines are not.

use std::{fs::File, io, path::Path};

use grep_matcher::LineTerminator;
use grep_regex::{RegexMatcher, RegexMatcherBuilder};
use grep_searcher::{BinaryDetection, MmapChoice, Searcher, SearcherBuilder, Sink, SinkFinish, SinkMatch};
use homarus_contract::{
    BoxFuture,
    action::{Action, EffectClass, Plan},
    gate::Permit,
    message::ToolDefinition,
    sandbox::{LayerId, OutputSink},
    text::one_line,
    tool::{ReadRules, Tool, ToolContext, ToolError, ToolOutput},
};
use ignore::WalkBuilder;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    arguments,
    beneath::{Beneath, Sight},
    confined::{self, MayRead},
    file_read, paths,
};

pub const NAME: &str = "file.search";
const EXAMPLE: &str = r#"{"pattern": "error", "path": "logs"}"#;
const LINES_MAX: usize = 60;
const LINE_CHARS_MAX: usize = 300;
const FILES_LISTED_MAX: usize = 60;
const SKIPPED_NAMED_MAX: usize = 20;
/// Files beyond this are left out, and said so.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// Files beyond this number are not looked at, and that is said.
const FILES_MAX: u64 = 100_000;
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
            "{LINES_MAX} lines and {FILES_LISTED_MAX} files shown, all counted; files of {} MiB; {FILES_MAX} files; pattern of {PATTERN_BYTES_MAX} bytes",
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

#[derive(Default)]
struct Found {
    lines: Vec<String>,
    /// Matching lines of each file that has any.
    counts: Vec<(String, u64)>,
    skipped: Vec<String>,
    /// Files in folders that may not be read.
    hidden: u64,
    files: u64,
    /// There were more files than are looked at.
    is_cut: bool,
}

pub fn search(root: &Path, arguments: &Arguments, may_read: MayRead) -> Result<String, String> {
    search_up_to(FILES_MAX, root, arguments, may_read)
}

fn search_up_to(files_max: u64, root: &Path, arguments: &Arguments, may_read: MayRead) -> Result<String, String> {
    let workspace = root.canonicalize().unwrap_or_else(|_| root.to_path_buf());
    let relative =
        paths::relative(&workspace, arguments.path.as_deref().unwrap_or(".")).map_err(|error| error.to_string())?;
    let start = workspace.join(&relative);
    std::fs::metadata(&start).map_err(|error| file_read::missing(&workspace, &relative, &error))?;
    let matcher = compile(&arguments.pattern)?;
    let mut searcher = searcher();
    let beneath = Beneath::new(&workspace, &start, may_read);
    let mut found = Found::default();
    let walk = WalkBuilder::new(&start)
        .hidden(false)
        .follow_links(false)
        .require_git(false)
        .sort_by_file_path(Path::cmp)
        .filter_entry(|entry| entry.file_name() != ".git")
        .build();
    for entry in walk.flatten().filter(|entry| entry.file_type().is_some_and(|kind| kind.is_file())) {
        if found.files >= files_max {
            found.is_cut = true;
            break;
        }
        let inside = entry.path().strip_prefix(&workspace).unwrap_or(entry.path());
        let name = inside.display().to_string();
        // Named itself, a rule has decided about it.
        if entry.depth() > 0 {
            match beneath.sight(entry.path()) {
                Sight::Clear => {}
                Sight::NameOnly => {
                    found.skipped.push(format!("{name} (the rules do not let you read it unasked)"));
                    continue;
                }
                Sight::Hidden => {
                    found.hidden += 1;
                    continue;
                }
            }
            if paths::may_hold_secrets(inside) {
                found.skipped.push(format!("{name} (may hold secrets; search it by name)"));
                continue;
            }
        }
        found.file(entry.path(), &name, &mut searcher, &matcher);
    }
    Ok(found.told(&arguments.pattern, &paths::shown(&relative)))
}

/// Without regard to case unless the pattern has a capital letter; what is no regular expression is
/// looked for as it stands.
fn compile(pattern: &str) -> Result<RegexMatcher, String> {
    if pattern.is_empty() || pattern.len() > PATTERN_BYTES_MAX {
        return Err(format!("The pattern must have 1 to {PATTERN_BYTES_MAX} characters."));
    }
    if pattern.contains('\n') {
        return Err("The pattern must be one line: files are searched line by line.".to_owned());
    }
    let mut builder = RegexMatcherBuilder::new();
    builder.case_insensitive(!pattern.chars().any(char::is_uppercase)).multi_line(true).crlf(true).size_limit(4 << 20);
    builder
        .build(pattern)
        .or_else(|_| builder.fixed_strings(true).build(pattern))
        .map_err(|error| format!("The pattern cannot be used: {error}"))
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

/// The lines of one file, as many as may be shown, and the number of all.
struct Lines<'a> {
    name: &'a str,
    room: usize,
    lines: Vec<String>,
    count: u64,
    is_binary: bool,
}

impl Sink for Lines<'_> {
    type Error = io::Error;

    fn matched(&mut self, _searcher: &Searcher, found: &SinkMatch<'_>) -> io::Result<bool> {
        self.count += 1;
        if self.lines.len() < self.room {
            let text = String::from_utf8_lossy(found.bytes());
            let text = one_line(text.trim_end_matches(['\n', '\r']), LINE_CHARS_MAX);
            self.lines.push(format!("{}:{}: {text}", self.name, found.line_number().unwrap_or(0)));
        }
        Ok(true)
    }

    fn finish(&mut self, _searcher: &Searcher, end: &SinkFinish) -> io::Result<()> {
        self.is_binary = end.binary_byte_offset().is_some();
        Ok(())
    }
}

impl Found {
    fn file(&mut self, path: &Path, name: &str, searcher: &mut Searcher, matcher: &RegexMatcher) {
        let Ok(file) = File::open(path) else {
            self.skipped.push(format!("{name} (cannot be read)"));
            return;
        };
        if file.metadata().is_ok_and(|meta| meta.len() > FILE_BYTES_MAX) {
            self.skipped.push(format!("{name} (larger than {} MiB)", FILE_BYTES_MAX >> 20));
            return;
        }
        self.files += 1;
        let room = LINES_MAX - self.lines.len();
        let mut lines = Lines { name, room, lines: Vec::new(), count: 0, is_binary: false };
        if searcher.search_file(matcher, &file, &mut lines).is_err() {
            self.skipped.push(format!("{name} (cannot be read)"));
            return;
        }
        // Binary: no lines to show, and none to count.
        if lines.count > 0 && !lines.is_binary {
            self.lines.extend(lines.lines);
            self.counts.push((name.to_owned(), lines.count));
        }
    }

    fn told(&self, pattern: &str, place: &str) -> String {
        let total: u64 = self.counts.iter().map(|(_, count)| count).sum();
        let mut text = String::new();
        if total == 0 {
            text.push_str(&format!("No line matches {pattern:?} in {place} ({} files searched).\n", self.files));
        } else {
            text.push_str(&self.lines.join("\n"));
            text.push('\n');
        }
        if total > self.lines.len() as u64 {
            let more = total - self.lines.len() as u64;
            text.push_str(&format!("[... {more} more lines; the counts below are complete ...]\n"));
        }
        // Last, because it is what is asked for most, and the end of a text is read best.
        let mut counts = self.counts.clone();
        counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        if !counts.is_empty() {
            text.push_str("Matching lines per file, most first:\n");
        }
        for (name, count) in counts.iter().take(FILES_LISTED_MAX) {
            text.push_str(&format!("  {name}: {count}\n"));
        }
        if counts.len() > FILES_LISTED_MAX {
            text.push_str(&format!("  [... {} more files ...]\n", counts.len() - FILES_LISTED_MAX));
        }
        if counts.len() > 1 {
            text.push_str(&format!("In all: {total} in {} of {} files.\n", counts.len(), self.files));
        }
        if !self.skipped.is_empty() {
            let named = self.skipped.iter().take(SKIPPED_NAMED_MAX).cloned().collect::<Vec<_>>().join(", ");
            let more = match self.skipped.len().saturating_sub(SKIPPED_NAMED_MAX) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            text.push_str(&format!("Left out: {named}{more}\n"));
        }
        if self.is_cut {
            let files = self.files;
            text.push_str(&format!("Only the first {files} files were searched. Name a folder to search the rest.\n"));
        }
        if self.hidden > 0 {
            text.push_str(&format!("{} files are in folders the rules do not let you read unasked.\n", self.hidden));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        File::create(root.join("sparse")).unwrap().set_len(2 << 30).unwrap();
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
}
