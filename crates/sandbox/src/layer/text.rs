//! The diff for people: unified text, bounded.

use std::{fmt::Write, io::Read, time::Duration};

use homarus_contract::{
    sandbox::{Change, Entry, LayerDiff},
    text::one_line,
};
use similar::TextDiff;

use super::beneath::Root;

const TEXT_BYTES_MAX: usize = 64 << 10;
/// Larger files are only named.
const FILE_BYTES_MAX: u64 = 512 << 10;
/// Longer ones are refused before.
const PATH_CHARS_MAX: usize = 4096;
const CONTEXT_LINES: usize = 3;
/// A bound on pathological inputs; past it the diff is right but not minimal.
const EFFORT_MAX: Duration = Duration::from_millis(500);

pub fn render(diff: &LayerDiff, lower: &Root, upper: &Root) -> String {
    let mut text = String::new();
    for (done, change) in diff.changes.iter().enumerate() {
        let part = render_one(change, lower, upper);
        if text.len() + part.len() > TEXT_BYTES_MAX {
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "[... the diff is cut here: {} of {} changed paths are shown ...]",
                done,
                diff.changes.len()
            );
            break;
        }
        text.push_str(&part);
    }
    for (path, why) in diff.refused.iter().take(100) {
        let _ = writeln!(text, "refused {}: {why}", shown(path));
    }
    text
}

fn render_one(change: &Change, lower: &Root, upper: &Root) -> String {
    let path = &change.path;
    let named = shown(path);
    match (&change.old, &change.new) {
        (Entry::File { .. } | Entry::Absent, Entry::File { .. }) | (Entry::File { .. }, Entry::Absent) => {
            let (old, new) = (content(&change.old, lower, path), content(&change.new, upper, path));
            let mode = mode_note(&change.old, &change.new);
            match (old, new) {
                (Some(old), Some(new)) => mode + &unified(change, &old, &new),
                _ => format!(
                    "{mode}binary or large file {named}: {} -> {}\n",
                    describe(&change.old),
                    describe(&change.new)
                ),
            }
        }
        (old, new) => format!("{named}: {} -> {}\n", describe(old), describe(new)),
    }
}

fn unified(change: &Change, old: &str, new: &str) -> String {
    let name = |entry: &Entry, side: &str| match entry {
        Entry::Absent => "/dev/null".to_owned(),
        _ => format!("{side}/{}", shown(&change.path)),
    };
    TextDiff::configure()
        .timeout(EFFORT_MAX)
        .diff_lines(old, new)
        .unified_diff()
        .context_radius(CONTEXT_LINES)
        .header(&name(&change.old, "a"), &name(&change.new, "b"))
        .to_string()
}

/// The text at a path; `None` if it is large or not text.
fn content(entry: &Entry, root: &Root, path: &str) -> Option<String> {
    let Entry::File { bytes, .. } = entry else { return Some(String::new()) };
    if *bytes > FILE_BYTES_MAX {
        return None;
    }
    let file = root.place(path).ok()??.open().ok()?;
    let mut text = String::new();
    file.take(FILE_BYTES_MAX).read_to_string(&mut text).ok()?;
    (!text.contains('\0')).then_some(text)
}

fn mode_note(old: &Entry, new: &Entry) -> String {
    match (old, new) {
        (Entry::File { mode: old, .. }, Entry::File { mode: new, .. }) if old != new => {
            format!("mode {old:o} -> {new:o}\n")
        }
        _ => String::new(),
    }
}

/// A name is whatever a call chose: it must not look like further lines of the diff.
fn shown(path: &str) -> String {
    one_line(path, PATH_CHARS_MAX)
}

fn describe(entry: &Entry) -> String {
    match entry {
        Entry::Absent => "nothing".to_owned(),
        Entry::File { bytes, mode, .. } => format!("file of {bytes} bytes, mode {mode:o}"),
        Entry::Folder { mode } => format!("folder, mode {mode:o}"),
        Entry::Symlink { target } => format!("link to {}", shown(target)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_forges_no_line() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        let name = "a\n--- a/other\u{1b}[2K".to_owned();
        let link = Entry::Symlink { target: name.clone() };
        let file = Entry::File { hash: homarus_contract::ids::Hash::of(b""), bytes: 0, mode: 0o644 };
        std::fs::create_dir(dir.path().join("a\n--- a")).unwrap();
        std::fs::write(dir.path().join(&name), "").unwrap();
        let change = |new: Entry| Change { path: name.clone(), old: Entry::Absent, new };
        let changes = vec![change(link), change(Entry::Folder { mode: 0o755 }), change(file)];
        let diff = LayerDiff { changes, refused: vec![(name.clone(), "no".to_owned())], text: String::new() };
        let text = render(&diff, &root, &root);
        assert!(!text.contains('\u{1b}') && !text.lines().any(|line| line.starts_with("--- a/other")), "{text}");
        assert!(text.lines().count() >= 3, "{text}");
    }
}
