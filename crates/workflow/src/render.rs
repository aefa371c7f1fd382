//! Changes as text for people: a unified diff and its totals, from contents the journal kept.

use std::{fmt::Write, time::Duration};

use homarus_contract::sandbox::{Change, ContentSource, Entry};
use similar::{ChangeTag, TextDiff};

const CONTEXT_LINES: usize = 3;
/// Larger files are only named.
const FILE_BYTES_MAX: u64 = 512 << 10;
/// A bound on pathological inputs; past it the diff is right but not minimal.
const EFFORT_MAX: Duration = Duration::from_millis(500);

/// One path, shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    pub path: String,
    pub old: Entry,
    pub new: Entry,
    /// Lines; `None`: not text, too large, or not kept.
    pub added: Option<u64>,
    pub removed: Option<u64>,
    /// Unified diff, or one line that says what changed.
    pub text: String,
}

pub fn show(change: &Change, contents: &ContentSource) -> Shown {
    let (mut added, mut removed) = (Some(0), Some(0));
    let text = if has_text(change) {
        let mode = mode_note(&change.old, &change.new);
        match (content(&change.old, contents), content(&change.new, contents)) {
            (Some(old), Some(new)) => {
                let diff = TextDiff::configure().timeout(EFFORT_MAX).diff_lines(&old, &new);
                let count = |tag| diff.iter_all_changes().filter(|line| line.tag() == tag).count() as u64;
                (added, removed) = (Some(count(ChangeTag::Insert)), Some(count(ChangeTag::Delete)));
                let header = (name(&change.old, "a", &change.path), name(&change.new, "b", &change.path));
                let text = diff.unified_diff().context_radius(CONTEXT_LINES).header(&header.0, &header.1).to_string();
                mode + &text
            }
            _ => {
                (added, removed) = (None, None);
                let (old, new) = (describe(&change.old), describe(&change.new));
                format!("{mode}{}: {old} -> {new} (binary, large, or its content was not kept)\n", change.path)
            }
        }
    } else {
        format!("{}: {} -> {}\n", change.path, describe(&change.old), describe(&change.new))
    };
    Shown { path: change.path.clone(), old: change.old.clone(), new: change.new.clone(), added, removed, text }
}

/// What stands at a path, in words.
pub fn describe(entry: &Entry) -> String {
    match entry {
        Entry::Absent => "nothing".to_owned(),
        Entry::File { bytes, mode, .. } => format!("file of {bytes} bytes, mode {mode:o}"),
        Entry::Folder { mode } => format!("folder, mode {mode:o}"),
        Entry::Symlink { target } => format!("link to {target}"),
    }
}

/// The totals of a diff, one line a path and one for all.
pub fn stat(shown: &[Shown]) -> String {
    let mut text = String::new();
    let (mut added, mut removed) = (0, 0);
    for path in shown {
        added += path.added.unwrap_or(0);
        removed += path.removed.unwrap_or(0);
        let lines = match (path.added, path.removed) {
            (Some(added), Some(removed)) => format!("+{added} -{removed}"),
            _ => format!("{} -> {} bytes", crate::changes::bytes_of(&path.old), crate::changes::bytes_of(&path.new)),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(text, " {} | {} | {lines}", path.path, kind(&path.old, &path.new));
    }
    let paths = if shown.len() == 1 { "1 path".to_owned() } else { format!("{} paths", shown.len()) };
    let _ = writeln!(text, "{paths} changed, {added} lines added, {removed} lines removed");
    text
}

fn kind(old: &Entry, new: &Entry) -> &'static str {
    match (old, new) {
        (Entry::Absent, _) => "new",
        (_, Entry::Absent) => "gone",
        (Entry::File { hash: old, .. }, Entry::File { hash: new, .. }) if old == new => "mode",
        (Entry::Folder { .. }, Entry::Folder { .. }) => "mode",
        _ => "changed",
    }
}

fn has_text(change: &Change) -> bool {
    let file_or_nothing = |entry: &Entry| matches!(entry, Entry::File { .. } | Entry::Absent);
    file_or_nothing(&change.old) && file_or_nothing(&change.new)
}

fn name(entry: &Entry, side: &str, path: &str) -> String {
    if *entry == Entry::Absent { "/dev/null".to_owned() } else { format!("{side}/{path}") }
}

fn mode_note(old: &Entry, new: &Entry) -> String {
    match (old, new) {
        (Entry::File { mode: old, .. }, Entry::File { mode: new, .. }) if old != new => {
            format!("mode {old:o} -> {new:o}\n")
        }
        _ => String::new(),
    }
}

fn content(entry: &Entry, contents: &ContentSource) -> Option<String> {
    let Entry::File { hash, bytes, .. } = entry else { return Some(String::new()) };
    if *bytes > FILE_BYTES_MAX {
        return None;
    }
    String::from_utf8(contents(hash)?).ok().filter(|text| !text.contains('\0'))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use homarus_contract::ids::Hash;

    use super::*;

    fn file(text: &str, mode: u32) -> Entry {
        Entry::File { hash: Hash::of(text.as_bytes()), bytes: text.len() as u64, mode }
    }

    fn shown(old: Entry, new: Entry) -> Shown {
        let known = ["one\ntwo\n", "one\n2\n3\n"];
        let contents: ContentSource = Arc::new(move |hash| {
            known.iter().find(|text| Hash::of(text.as_bytes()) == *hash).map(|text| text.as_bytes().to_vec())
        });
        show(&Change { path: "a".to_owned(), old, new }, &contents)
    }

    #[test]
    fn text_is_compared_and_the_rest_is_named() {
        let edit = shown(file("one\ntwo\n", 0o644), file("one\n2\n3\n", 0o755));
        assert_eq!((edit.added, edit.removed), (Some(2), Some(1)));
        assert!(edit.text.starts_with("mode 644 -> 755\n--- a/a\n+++ b/a\n"), "{}", edit.text);
        let unknown = shown(file("one\ntwo\n", 0o644), file("not kept", 0o644));
        assert_eq!(unknown.added, None);
        assert!(unknown.text.contains("not kept"), "{}", unknown.text);
        let gone = shown(Entry::Folder { mode: 0o755 }, Entry::Absent);
        assert_eq!(gone.text, "a: folder, mode 755 -> nothing\n");
        let totals = stat(&[edit, unknown, gone]);
        assert!(totals.ends_with("3 paths changed, 2 lines added, 1 lines removed\n"), "{totals}");
        assert!(totals.contains(" a | gone | +0 -0\n"), "{totals}");
    }
}
