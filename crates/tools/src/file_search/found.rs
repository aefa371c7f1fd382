//! What a search has found and what it passed over, and how both are told.

use std::{fs::File, io};

use grep_regex::RegexMatcher;
use grep_searcher::{Searcher, Sink, SinkFinish, SinkMatch};
use homarus_contract::text::one_line;
use rustix::fs::FileType;

use super::{FILE_BYTES_MAX, FILES_LISTED_MAX, LINES_MAX};
use crate::{
    beneath::{self, Named, Sight},
    confined::MayRead,
    paths,
    walk::{Entry, LeftOut},
};

const LINE_CHARS_MAX: usize = 300;
const SKIPPED_NAMED_MAX: usize = 20;

/// What a search comes upon.
#[derive(Default)]
pub struct Found {
    lines: Vec<String>,
    /// Matching lines of each file that has any.
    counts: Vec<(String, u64)>,
    skipped: Vec<String>,
    /// Files in folders that may not be read.
    hidden: u64,
    pub files: u64,
    /// There were more files than are looked at.
    pub is_cut: bool,
    /// The pattern is no regular expression.
    is_plain: bool,
    ignored: Named,
}

impl Found {
    pub fn new(is_plain: bool) -> Self {
        Self { is_plain, ..Self::default() }
    }

    /// Whether an entry is not to be searched; what a reader may not take for searched is kept.
    pub fn passes_over(&mut self, entry: &Entry<'_>, may_read: MayRead) -> bool {
        let is_file = entry.kind == FileType::RegularFile;
        if !is_file && entry.left_out.is_none() {
            return true;
        }
        let sight = beneath::sight(entry, may_read);
        let why = match (sight, entry.left_out) {
            (Sight::Hidden, _) => {
                self.hidden += 1;
                return true;
            }
            (_, Some(LeftOut::Ignored)) => {
                self.ignored.add(entry);
                return true;
            }
            (_, Some(LeftOut::Unreadable)) => "cannot be read",
            (_, Some(LeftOut::TooDeep)) => "too deep; search it by name",
            (Sight::NameOnly, None) => "the rules do not let you read it unasked",
            (Sight::Clear, None) if paths::may_hold_secrets(entry.path) => "may hold secrets; search it by name",
            (Sight::Clear, None) => return false,
        };
        self.skipped.push(format!("{} ({why})", entry.shown()));
        true
    }

    pub fn file(
        &mut self,
        opened: io::Result<(File, u64)>,
        name: &str,
        searcher: &mut Searcher,
        matcher: &RegexMatcher,
    ) {
        let Ok((file, bytes)) = opened else {
            self.skipped.push(format!("{name} (cannot be read)"));
            return;
        };
        if bytes > FILE_BYTES_MAX {
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

    pub fn told(&self, pattern: &str, place: &str) -> String {
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
            let is_whole = self.skipped.is_empty() && self.ignored.is_empty() && self.hidden == 0 && !self.is_cut;
            let but = if is_whole { "" } else { " but for what was left out" };
            text.push_str(&format!("[... {more} more lines; the counts below are complete{but} ...]\n"));
        }
        if self.is_plain {
            text.push_str(&format!("{pattern:?} is no regular expression here, so it was looked for as plain text.\n"));
        }
        if let Some(names) = self.ignored.told() {
            text.push_str(&format!("Not searched, since git ignores it; search it by its path: {names}\n"));
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
