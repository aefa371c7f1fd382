//! Fills a layer from known contents instead of from a call: undoing is a merge like any other, and so
//! is shown, agreed to, journalled and killed like any other.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use homarus_contract::sandbox::{Change, ContentSource, Entry, LayerDiff};

use super::{
    allowed::Allowed,
    beneath::{Root, inside},
    diff::{CHANGES_MAX, sync},
    entry::{self, Seen},
    text,
};

const NOT_KEPT: &str = "its content was not kept: it was too large";

/// Writes the files of `changes` into `upper` and answers what can be merged. `own`: paths of Homarus itself.
pub fn write(
    workspace: &Path,
    own: &[PathBuf],
    upper: &Path,
    mut changes: Vec<Change>,
    contents: &ContentSource,
) -> io::Result<LayerDiff> {
    if changes.len() > CHANGES_MAX {
        let why = too_many();
        return Ok(LayerDiff { changes: Vec::new(), refused: vec![(".".to_owned(), why.clone())], text: why });
    }
    changes.sort_by(|a, b| a.path.cmp(&b.path));
    let lower = Root::open(workspace)?;
    let allowed = Allowed::in_diff(&changes, (&lower, workspace), own);
    let mut diff = LayerDiff::default();
    for change in changes {
        let put = match allowed.why_never(&change) {
            Some(why) => Err(why),
            None => put(upper, &change, contents)?,
        };
        match put {
            Ok(()) => diff.changes.push(change),
            Err(why) => diff.refused.push((change.path, why)),
        }
    }
    let upper = Root::open(upper)?;
    sync(&diff, &upper)?;
    diff.text = shown(&diff, &lower, &upper)?;
    Ok(diff)
}

pub fn too_many() -> String {
    format!("more than {CHANGES_MAX} paths at once")
}

/// Why a change cannot be made although it may be, if it cannot: its content is not there.
pub fn why_not_kept(change: &Change, contents: &ContentSource) -> Option<String> {
    match &change.new {
        Entry::File { hash, .. } if contents(hash).is_none() => Some(NOT_KEPT.to_owned()),
        _ => None,
    }
}

/// The inner error says why this change can never be merged.
fn put(upper: &Path, change: &Change, contents: &ContentSource) -> io::Result<Result<(), String>> {
    let Some(to) = inside(upper, &change.path) else { return Ok(Err("the path climbs".to_owned())) };
    match &change.new {
        Entry::File { hash, .. } => {
            let Some(content) = contents(hash) else { return Ok(Err(NOT_KEPT.to_owned())) };
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use homarus_contract::ids::Hash;

    use super::*;

    /// Each was changed by a call of its own, and together they are no tree.
    #[test]
    fn nothing_is_put_into_what_shall_be_no_folder() {
        let dir = tempfile::tempdir().unwrap();
        let (workspace, upper) = (dir.path().join("workspace"), dir.path().join("upper"));
        fs::create_dir(&workspace).unwrap();
        fs::create_dir(&upper).unwrap();
        let file = Entry::File { hash: Hash::of(b"x"), bytes: 1, mode: 0o644 };
        let link = Entry::Symlink { target: dir.path().to_str().unwrap().to_owned() };
        let change = |path: &str, new: Entry| Change { path: path.to_owned(), old: Entry::Absent, new };
        let changes =
            vec![change("a", link.clone()), change("a/x", file.clone()), change("b", file), change(".m2", link)];
        let contents: ContentSource = Arc::new(|_| Some(b"x".to_vec()));
        let diff = write(&workspace, &[], &upper, changes, &contents).unwrap();
        let paths = |path: &Change| path.path.clone();
        assert_eq!(diff.changes.iter().map(paths).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(diff.refused.iter().map(|(path, _)| path.as_str()).collect::<Vec<_>>(), [".m2", "a/x"]);
    }
}
