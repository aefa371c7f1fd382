//! Contents that are kept of the files a call changed: what a merge replaces, so that it can be undone,
//! and what people will want to read of what the call wrote.

use std::{collections::BTreeSet, io, io::Read, path::Path};

use homarus_contract::{
    ids::Hash,
    sandbox::{Change, Entry, LayerDiff},
};

use super::beneath::Root;
use crate::options::KeepLimits;

/// Files of one call, both sides together.
const FILES_MAX: usize = 4_000;
/// Of what a call wrote, text up to this size: the workspace itself has the rest.
const WRITTEN_FILE_BYTES_MAX: u64 = 256 << 10;
const WRITTEN_CALL_BYTES_MAX: u64 = 4 << 20;

/// What is kept of this diff. The small files come first, so that one large one does not cost many
/// small ones.
pub fn contents(workspace: &Path, upper: &Path, diff: &LayerDiff, limits: &KeepLimits) -> io::Result<Vec<Vec<u8>>> {
    let mut kept = Kept::default();
    let replaced = sorted(&diff.changes, |change| &change.old);
    kept.take(&Root::open(workspace)?, replaced, limits.file_bytes_max, limits.call_bytes_max, |_| true)?;
    let upper = match Root::open(upper) {
        Ok(upper) => upper,
        // A diff without files may have no layer.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(kept.contents),
        Err(error) => return Err(error),
    };
    let file_bytes_max = limits.file_bytes_max.min(WRITTEN_FILE_BYTES_MAX);
    let call_bytes_max = limits.call_bytes_max.min(WRITTEN_CALL_BYTES_MAX);
    kept.take(&upper, sorted(&diff.changes, |change| &change.new), file_bytes_max, call_bytes_max, is_text)?;
    Ok(kept.contents)
}

#[derive(Default)]
struct Kept {
    contents: Vec<Vec<u8>>,
    known: BTreeSet<Hash>,
}

impl Kept {
    fn take(
        &mut self,
        root: &Root,
        files: Vec<(u64, Hash, &str)>,
        file_bytes_max: u64,
        call_bytes_max: u64,
        wanted: impl Fn(&[u8]) -> bool,
    ) -> io::Result<()> {
        let mut left = call_bytes_max;
        for (bytes, hash, path) in files {
            if bytes > file_bytes_max || bytes > left || self.contents.len() >= FILES_MAX {
                break;
            }
            if self.known.contains(&hash) {
                continue;
            }
            // What cannot be read, or is not as the diff says any more, cannot be kept: its merge will
            // be a conflict.
            let Some(content) = read(root, path, bytes) else { continue };
            if Hash::of(&content) == hash && wanted(&content) {
                left -= bytes;
                self.known.insert(hash);
                self.contents.push(content);
            }
        }
        Ok(())
    }
}

/// The files of one side, the smallest first.
fn sorted(changes: &[Change], side: impl Fn(&Change) -> &Entry) -> Vec<(u64, Hash, &str)> {
    let mut files: Vec<_> = changes
        .iter()
        .filter_map(|change| match side(change) {
            Entry::File { hash, bytes, .. } => Some((*bytes, *hash, change.path.as_str())),
            _ => None,
        })
        .collect();
    files.sort();
    files
}

fn read(root: &Root, path: &str, bytes: u64) -> Option<Vec<u8>> {
    let file = root.place(path).ok()??.open().ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut content = Vec::new();
    file.take(bytes + 1).read_to_end(&mut content).ok()?;
    Some(content)
}

fn is_text(content: &[u8]) -> bool {
    !content.contains(&0) && str::from_utf8(content).is_ok()
}
