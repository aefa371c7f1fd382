//! What was said before, for the up key: one JSON string a line, readable by its owner only.

use std::{
    fs::{self, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use super::editor::DRAFT_BYTES_MAX;

const ENTRIES_MAX: usize = 1_000;
/// Whatever can be typed can be had again.
const ENTRY_BYTES_MAX: usize = DRAFT_BYTES_MAX;
const FILE_BYTES_MAX: u64 = 1 << 20;
const FILE: &str = "chat_history.jsonl";

pub struct History {
    path: PathBuf,
    entries: Vec<String>,
    /// Where the up key has come to; `entries.len()`: at the draft.
    at: usize,
    /// The draft that was left for an older entry.
    draft: String,
}

impl History {
    /// Reads what there is. A file that cannot be read is an empty history: it is a convenience only.
    pub fn load(folder: &Path) -> Self {
        let path = folder.join(FILE);
        let entries = read(&path).unwrap_or_default();
        Self { at: entries.len(), path, entries, draft: String::new() }
    }

    pub fn add(&mut self, text: &str) {
        self.draft.clear();
        if !text.trim().is_empty()
            && text.len() <= ENTRY_BYTES_MAX
            && self.entries.last().is_none_or(|last| last != text)
        {
            self.entries.push(text.to_owned());
            let _ = self.write(text);
        }
        self.at = self.entries.len();
    }

    /// The entry before; `draft` is what stands in the editor now.
    pub fn older(&mut self, draft: &str) -> Option<&str> {
        if self.at == self.entries.len() {
            self.draft = draft.to_owned();
        }
        self.at = self.at.checked_sub(1)?;
        Some(&self.entries[self.at])
    }

    /// The entry after, or the draft again.
    pub fn newer(&mut self) -> Option<&str> {
        if self.at == self.entries.len() {
            return None;
        }
        self.at += 1;
        Some(self.entries.get(self.at).unwrap_or(&self.draft))
    }

    fn write(&mut self, text: &str) -> io::Result<()> {
        let too_long = fs::metadata(&self.path).is_ok_and(|meta| meta.len() > FILE_BYTES_MAX);
        if too_long || self.entries.len() > ENTRIES_MAX {
            let mut bytes = 0;
            let fits = |entry: &&String| {
                bytes += entry.len() as u64;
                bytes <= FILE_BYTES_MAX / 2
            };
            let kept = self.entries.iter().rev().take(ENTRIES_MAX / 2).take_while(fits).count();
            self.entries.drain(..self.entries.len() - kept);
            let temporary = self.path.with_extension(format!("new.{}", std::process::id()));
            let mut file = create(&temporary)?;
            for entry in &self.entries {
                writeln!(file, "{}", serde_json::to_string(entry)?)?;
            }
            return fs::rename(&temporary, &self.path);
        }
        let mut file = create(&self.path)?;
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
        file.write_all(format!("{}\n", serde_json::to_string(text)?).as_bytes())
    }
}

fn create(path: &Path) -> io::Result<fs::File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

fn read(path: &Path) -> io::Result<Vec<String>> {
    let mut text = Vec::new();
    fs::File::open(path)?.take(FILE_BYTES_MAX + ENTRY_BYTES_MAX as u64 * 8).read_to_end(&mut text)?;
    let text = String::from_utf8_lossy(&text);
    let mut entries: Vec<String> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    entries.drain(..entries.len().saturating_sub(ENTRIES_MAX));
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_outlive_the_program_and_the_draft_outlives_a_look_back() {
        let folder = tempfile::tempdir().unwrap();
        let mut history = History::load(folder.path());
        for text in ["one", "two\nlines", "two\nlines", "  "] {
            history.add(text);
        }
        let mode = fs::metadata(folder.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let mut history = History::load(folder.path());
        assert_eq!(history.older("dra"), Some("two\nlines"));
        assert_eq!(history.older("x"), Some("one"));
        assert_eq!(history.older("x"), None);
        assert_eq!(history.newer(), Some("two\nlines"));
        assert_eq!(history.newer(), Some("dra"));
        assert_eq!(history.newer(), None);
    }

    #[test]
    fn the_longest_draft_is_an_entry_and_many_of_them_drive_out_the_oldest() {
        let folder = tempfile::tempdir().unwrap();
        let mut history = History::load(folder.path());
        let long = |number: usize| format!("{number:04}{}", "\n".repeat(DRAFT_BYTES_MAX - 4));
        for number in 0..40 {
            history.add(&long(number));
        }
        assert!(fs::metadata(folder.path().join(FILE)).unwrap().len() < 2 * FILE_BYTES_MAX);
        let mut history = History::load(folder.path());
        assert!(history.older("") == Some(long(39).as_str()));
        assert!(history.older("") == Some(long(38).as_str()));
    }

    #[test]
    fn it_stays_bounded_and_survives_damage() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(FILE), b"\"ok\"\n\xff\xfe\n{}\n\"tail").unwrap();
        let mut history = History::load(folder.path());
        assert_eq!(history.entries, ["ok"]);
        for number in 0..ENTRIES_MAX + 10 {
            history.add(&format!("entry {number}"));
        }
        history.add(&"x".repeat(ENTRY_BYTES_MAX + 1));
        let history = History::load(folder.path());
        assert!(history.entries.len() <= ENTRIES_MAX, "{}", history.entries.len());
        assert_eq!(history.entries.last().map(String::as_str), Some(format!("entry {}", ENTRIES_MAX + 9).as_str()));
    }
}
