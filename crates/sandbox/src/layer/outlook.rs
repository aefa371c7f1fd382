//! What undoing would come to as the workspace is now: looked up, and nothing written.

use std::{collections::BTreeSet, io, path::Path};

use homarus_contract::sandbox::{Change, ContentSource, Entry};

use super::{
    allowed::Allowed,
    beneath::{Root, join},
    diff::CHANGES_MAX,
    entry::{self, Seen},
    merge::{is_half_way, is_same},
    stage,
};
use crate::{hidden::Hidden, options::Options};

/// What a merge would do with each change; sorted by path.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outlook {
    pub made: Vec<Change>,
    /// Paths that are so already.
    pub done: Vec<String>,
    /// Paths that were changed since, and would stay.
    pub conflicts: Vec<String>,
    /// Paths that can never be merged, and why.
    pub refused: Vec<(String, String)>,
}

pub fn outlook(
    options: &Options,
    workspace: &Path,
    mut changes: Vec<Change>,
    contents: &ContentSource,
) -> io::Result<Outlook> {
    if changes.len() > CHANGES_MAX {
        let refused = vec![(".".to_owned(), stage::too_many())];
        return Ok(Outlook { refused, ..Outlook::default() });
    }
    changes.sort_by(|a, b| a.path.cmp(&b.path));
    let workspace_root = Root::open(workspace)?;
    let allowed = Allowed::in_diff(&changes, (&workspace_root, workspace), &Hidden::of(options).fixed);
    let mut look = Look { workspace: workspace_root, gone: BTreeSet::new(), folders: BTreeSet::new() };
    let mut outlook = Outlook::default();
    // In the order of a merge: a folder can go when all in it has gone.
    let (gone, here): (Vec<Change>, Vec<Change>) = changes.into_iter().partition(|change| change.new == Entry::Absent);
    for change in gone.into_iter().rev().chain(here) {
        if let Some(why) = allowed.why_never(&change).or_else(|| stage::why_not_kept(&change, contents)) {
            outlook.refused.push((change.path, why));
            continue;
        }
        match look.at(&change)? {
            Found::AsBefore => outlook.made.push(change),
            Found::Done => outlook.done.push(change.path),
            Found::Changed => outlook.conflicts.push(change.path),
        }
    }
    outlook.made.sort_by(|a, b| a.path.cmp(&b.path));
    outlook.done.sort();
    outlook.conflicts.sort();
    outlook.refused.sort();
    Ok(outlook)
}

enum Found {
    AsBefore,
    Done,
    Changed,
}

struct Look {
    workspace: Root,
    /// What would be gone by then.
    gone: BTreeSet<String>,
    /// What would be a folder by then.
    folders: BTreeSet<String>,
}

impl Look {
    fn at(&mut self, change: &Change) -> io::Result<Found> {
        let path = &change.path;
        let found = match self.now(change) {
            Ok(None) => Found::Changed,
            Ok(Some(now)) if is_same(&now, &change.new) => Found::Done,
            Ok(Some(now)) => {
                let is_before = is_same(&now, &change.old) || is_half_way(&now, change);
                let stays_folder = matches!(change.new, Entry::Folder { .. });
                let is_free = stays_folder || !matches!(now, Entry::Folder { .. }) || self.is_emptied(path)?;
                if is_before && is_free { Found::AsBefore } else { Found::Changed }
            }
            // What cannot be looked at is not what the run left there.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Found::Changed,
            Err(error) => return Err(error),
        };
        if !matches!(found, Found::Changed) {
            match &change.new {
                Entry::Absent => self.gone.insert(path.clone()),
                Entry::Folder { .. } => self.folders.insert(path.clone()),
                _ => false,
            };
        }
        Ok(found)
    }

    /// What stands there when its turn comes; `None`: what no merge replaces, or there is no folder for it.
    fn now(&self, change: &Change) -> io::Result<Option<Entry>> {
        let path = &change.path;
        let Some(place) = self.workspace.place(path)? else {
            let has_folder = path.rsplit_once('/').is_some_and(|(folder, _)| self.folders.contains(folder));
            return Ok((has_folder || change.new == Entry::Absent).then_some(Entry::Absent));
        };
        match entry::look_at(&place)? {
            Seen::Entry(now) => Ok(Some(now)),
            Seen::Odd(_) => Ok(None),
        }
    }

    fn is_emptied(&self, path: &str) -> io::Result<bool> {
        let names = self.workspace.names(path, CHANGES_MAX)?;
        let goes = |name: Vec<u8>| String::from_utf8(name).is_ok_and(|name| self.gone.contains(&join(path, &name)));
        Ok(names.into_iter().all(goes))
    }
}
