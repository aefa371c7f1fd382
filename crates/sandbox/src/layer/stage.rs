//! Fills a layer from known contents instead of from a call: undoing is a merge like any other, and so
//! is shown, agreed to, journalled and killed like any other.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use homarus_contract::sandbox::{Change, ContentSource, Entry, LayerDiff};

use super::{
    beneath::{Root, inside},
    diff::{CHANGES_MAX, sync},
    entry::{self, Seen},
    text,
};
use crate::protected;

/// Writes the files of `changes` into `upper` and answers what can be merged.
pub fn write(
    workspace: &Path,
    upper: &Path,
    mut changes: Vec<Change>,
    contents: &ContentSource,
) -> io::Result<LayerDiff> {
    if changes.len() > CHANGES_MAX {
        let why = format!("more than {CHANGES_MAX} paths at once");
        return Ok(LayerDiff { changes: Vec::new(), refused: vec![(".".to_owned(), why.clone())], text: why });
    }
    changes.sort_by(|a, b| a.path.cmp(&b.path));
    let mut diff = LayerDiff::default();
    for change in changes {
        match put(upper, &change, contents)? {
            Ok(()) => diff.changes.push(change),
            Err(why) => diff.refused.push((change.path, why)),
        }
    }
    let (lower, upper) = (Root::open(workspace)?, Root::open(upper)?);
    sync(&diff, &upper)?;
    diff.text = shown(&diff, &lower, &upper)?;
    Ok(diff)
}

/// The inner error says why this change can never be merged.
fn put(upper: &Path, change: &Change, contents: &ContentSource) -> io::Result<Result<(), String>> {
    let Some(to) = inside(upper, &change.path) else { return Ok(Err("the path climbs".to_owned())) };
    let is_folder = matches!(change.new, Entry::Folder { .. });
    if let Some(why) = protected::refusal(&change.path, is_folder || change.new == Entry::Absent) {
        return Ok(Err(why));
    }
    match &change.new {
        Entry::File { hash, .. } => {
            let Some(content) = contents(hash) else {
                return Ok(Err("its content was not kept: it was too large".to_owned()));
            };
            make_parent(upper, &to)?;
            fs::write(&to, content)?;
        }
        Entry::Folder { .. } => fs::create_dir_all(&to)?,
        // A merge takes a link's target from the diff, and what is gone from nowhere.
        Entry::Symlink { .. } | Entry::Absent => {}
    }
    Ok(Ok(()))
}

fn make_parent(upper: &Path, path: &Path) -> io::Result<()> {
    let parent: PathBuf = path.parent().unwrap_or(upper).to_owned();
    fs::create_dir_all(parent)
}

/// The text for people: first what will not be touched because somebody changed it since.
fn shown(diff: &LayerDiff, lower: &Root, upper: &Root) -> io::Result<String> {
    let mut as_expected = LayerDiff { refused: diff.refused.clone(), ..LayerDiff::default() };
    let mut lead = String::new();
    for change in &diff.changes {
        let now = entry::look(lower, &change.path)?;
        if now == Seen::Entry(change.new.clone()) {
            lead.push_str(&format!("{}: is so already\n", change.path));
        } else if now == Seen::Entry(change.old.clone()) {
            as_expected.changes.push(change.clone());
        } else {
            lead.push_str(&format!("{}: was changed since, and stays; this version is kept apart\n", change.path));
        }
    }
    Ok(lead + &text::render(&as_expected, lower, upper))
}
