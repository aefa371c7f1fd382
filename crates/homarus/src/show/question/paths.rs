//! Which paths a call changed, by name: the text of a diff is bounded, and may leave some of them out.

use std::collections::HashSet;

use homarus_contract::{
    sandbox::{Change, Entry, LayerDiff},
    text::one_line,
};

use crate::show::styled::{Colour, Line, Look};

/// So many are named in the question itself; the pager names all.
const NAMED_MAX: usize = 20;
const NAMED_CHARS_MAX: usize = 600;
const REFUSED_MAX: usize = 10;
const PATH_CHARS_MAX: usize = 200;
const ALL_PATH_CHARS_MAX: usize = 8_000;
/// How the text of a diff begins to say after how many changes it was cut.
const CUT: &str = "[... the diff is cut here: ";
const NOT_SHOWN: &str = " (not in the diff)";

/// What was changed, on one line, before all what the text does not show; nothing where the text shows all there is.
pub fn in_short(diff: &LayerDiff, text: &str) -> Option<Line> {
    let shown = Shown::by(text);
    let (seen, unseen): (Vec<_>, Vec<_>) =
        diff.changes.iter().enumerate().partition(|(index, change)| shown.has(*index, change));
    if unseen.is_empty() && seen.len() < 2 {
        return None;
    }
    let mut line = Line::plain(&format!("  {}: ", counted(diff.changes.len())));
    let (mut named, mut chars) = (0, 0);
    for ((_, change), is_seen) in
        unseen.into_iter().map(|one| (one, false)).chain(seen.into_iter().map(|one| (one, true)))
    {
        let path = one_line(&change.path, PATH_CHARS_MAX);
        chars += path.chars().count();
        if named == NAMED_MAX || (named > 0 && chars > NAMED_CHARS_MAX) {
            break;
        }
        line.push(Look::PLAIN, if named == 0 { "" } else { ", " });
        push(&mut line, &path, is_seen);
        named += 1;
    }
    match diff.changes.len() - named {
        0 => {}
        left_out => line.push(Look::PLAIN, &format!(" and {left_out} more: `v` names all")),
    }
    Some(line)
}

/// Every path, and what became of it; nothing where the text of the diff shows all there is.
pub fn all(diff: &LayerDiff) -> Vec<Line> {
    if in_short(diff, &diff.text).is_none() {
        return Vec::new();
    }
    let shown = Shown::by(&diff.text);
    let mut lines = vec![Line::new(Look::BOLD, &format!("{}:", counted(diff.changes.len())))];
    lines.extend(diff.changes.iter().enumerate().map(|(index, change)| {
        let mut line = Line::plain("  ");
        push(&mut line, &one_line(&change.path, ALL_PATH_CHARS_MAX), shown.has(index, change));
        line.and(Look::DIM, &format!(": {} -> {}", told(&change.old), told(&change.new)))
    }));
    lines
}

/// What is never applied, and why; the first of many.
pub fn refused_in_short(diff: &LayerDiff) -> impl Iterator<Item = Line> {
    let left_out = diff.refused.len().saturating_sub(REFUSED_MAX);
    let more = Line::new(Look::of(Colour::Red), &format!("  never applied: {left_out} more: `v` names all"));
    refused(diff, 300).take(REFUSED_MAX).chain((left_out > 0).then_some(more))
}

pub fn refused(diff: &LayerDiff, chars_max: usize) -> impl Iterator<Item = Line> {
    diff.refused.iter().map(move |(path, reason)| {
        Line::new(Look::of(Colour::Red), "  never applied: ")
            .and(Look::PLAIN, &one_line(&format!("{path}: {reason}"), chars_max))
    })
}

fn counted(changes: usize) -> String {
    if changes == 1 { "1 path changed".to_owned() } else { format!("{changes} paths changed") }
}

fn push(line: &mut Line, path: &str, is_shown: bool) {
    match is_shown {
        true => line.push(Look::PLAIN, path),
        false => line.push(Look::of(Colour::Yellow), &format!("{path}{NOT_SHOWN}")),
    }
}

fn told(entry: &Entry) -> String {
    match entry {
        Entry::Absent => "nothing".to_owned(),
        Entry::File { bytes, mode, .. } => format!("file of {bytes} bytes, mode {mode:o}"),
        Entry::Folder { mode } => format!("folder, mode {mode:o}"),
        Entry::Symlink { target } => format!("link to {}", one_line(target, ALL_PATH_CHARS_MAX)),
    }
}

/// The paths that the text of a diff names where it shows a change.
struct Shown<'a> {
    named: HashSet<&'a str>,
    /// The text says itself that it shows only so many. Files are named in it as they please, so this counts too.
    up_to: usize,
}

impl<'a> Shown<'a> {
    fn by(text: &'a str) -> Self {
        let mut named = HashSet::new();
        let mut up_to = usize::MAX;
        for line in text.lines() {
            if let Some(path) = line.strip_prefix("--- a/").or_else(|| line.strip_prefix("+++ b/")) {
                named.insert(path);
            } else if let Some(rest) = line.strip_prefix(CUT) {
                let count = rest.split(' ').next().and_then(|count| count.parse().ok()).unwrap_or(0);
                up_to = up_to.min(count);
            } else {
                let note = line.strip_prefix("binary or large file ").unwrap_or(line);
                named.extend(note.match_indices(": ").take(4).map(|(at, _)| &note[..at]));
            }
        }
        Self { named, up_to }
    }

    fn has(&self, index: usize, change: &Change) -> bool {
        index < self.up_to && self.named.contains(change.path.as_str())
    }
}
