//! Memory files: what the user and the agent wrote down, packed into the system prompt up to a limit.

use std::{
    fs::{File, OpenOptions},
    io::Read,
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use homarus_contract::text::neutralise;
use rustix::fs::OFlags;

use super::daily;

/// Most bytes of all memory files in one prompt, unless the agent says otherwise.
pub const MEMORY_BYTES_DEFAULT: usize = 24 << 10;
/// An agent may not say more than this.
pub const MEMORY_BYTES_MAX: usize = 256 << 10;
/// Of one day's log.
const DAILY_BYTES_MAX: usize = 4 << 10;
/// No file is read beyond this.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// In the order they are told. `MEMORY.md` comes last, because it changes most: what is before it can be cached.
const FILES: [&str; 5] = ["IDENTITY.md", "SOUL.md", "USER.md", "AGENTS.md", "MEMORY.md"];

/// One file as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryFile {
    /// As the prompt names it.
    pub name: String,
    pub text: String,
    /// What the file says last counts most when it has to be cut.
    pub keeps_its_end: bool,
    /// It takes no more of the prompt than this, however much is left.
    pub bytes_max: usize,
}

/// The packed files, and what a person should know about the packing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory {
    pub text: String,
    /// One line for each file that was cut or could not be read.
    pub notes: Vec<String>,
}

/// The memory files of an agent's folder that have something to say.
pub fn memory_of(folder: &Path) -> (Vec<MemoryFile>, Vec<String>) {
    let (mut files, mut notes) = (Vec::new(), Vec::new());
    for name in FILES {
        // Where there is no AGENTS.md, what was written for another program counts.
        let other = name == "AGENTS.md" && !folder.join(name).exists();
        let name = if other { "CLAUDE.md" } else { name };
        match read(&folder.join(name)) {
            Ok(text) => files.extend(file(name, &text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => notes.push(format!("{name} could not be read: {error}")),
        }
    }
    (files, notes)
}

/// The logs of these days, the older first, as far as they are there.
pub fn daily_logs(folder: &Path, days: &[String]) -> Vec<MemoryFile> {
    let folder = folder.join(daily::FOLDER);
    // A link could lead anywhere.
    if !folder.symlink_metadata().is_ok_and(|found| found.is_dir()) {
        return Vec::new();
    }
    let log = |day: &String| {
        let text = read(&folder.join(format!("{day}.md"))).ok()?;
        let log = file(&format!("{}/{day}.md", daily::FOLDER), &text)?;
        Some(MemoryFile { keeps_its_end: true, bytes_max: DAILY_BYTES_MAX, ..log })
    };
    days.iter().filter_map(log).collect()
}

/// What the workspace says to every agent: its `AGENTS.md`, or `CLAUDE.md` where there is none.
/// `may_read` is asked first.
pub fn workspace_file(workspace: &Path, may_read: impl Fn(&Path) -> bool) -> Option<MemoryFile> {
    ["AGENTS.md", "CLAUDE.md"].into_iter().find_map(|name| {
        let text = read(&workspace.join(name)).ok()?;
        // The first that exists counts, also when it may not be read.
        Some(may_read(Path::new(name)).then(|| file(&format!("{name} of the workspace"), &text)))
    })??
}

fn file(name: &str, text: &str) -> Option<MemoryFile> {
    let text = without_comments(text);
    let text = neutralise(text.trim());
    (!text.is_empty()).then(|| MemoryFile {
        name: name.to_owned(),
        text,
        keeps_its_end: name == "MEMORY.md",
        bytes_max: usize::MAX,
    })
}

fn read(path: &Path) -> std::io::Result<String> {
    // A link could lead to a secret, a pipe could wait for ever.
    let carefully = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let file: File = OpenOptions::new().read(true).custom_flags(carefully).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(std::io::Error::other("it is not a file"));
    }
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// `<!-- … -->` is for people. An unclosed one is text.
fn without_comments(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(begin) = rest.find("<!--") {
        let Some(length) = rest[begin..].find("-->") else { break };
        kept.push_str(&rest[..begin]);
        rest = &rest[begin + length + 3..];
    }
    kept + rest
}

impl Memory {
    /// Packs files one after another; each may use what is left, but leaves the others a fair share.
    pub fn pack(files: &[MemoryFile], notes: Vec<String>, bytes_max: usize) -> Self {
        let mut memory = Self { text: String::new(), notes };
        let mut left = bytes_max;
        for (index, file) in files.iter().enumerate() {
            let after: usize = files[index + 1..].iter().map(|file| file.text.len().min(file.bytes_max)).sum();
            let share = (left / (files.len() - index)).max(left.saturating_sub(after));
            let shown = cut(file, share.min(file.bytes_max));
            left = left.saturating_sub(shown.len());
            memory.text.push_str(&format!("\n## {}\n\n{}\n", file.name, shown));
            let missing = file.text.len().saturating_sub(shown.len());
            if missing > 0 {
                let text = format!("{missing} of {} bytes of {} did not fit", file.text.len(), file.name);
                memory.text.push_str(&format!("[... {text} ...]\n"));
                memory.notes.push(text);
            }
        }
        memory
    }
}

fn cut(file: &MemoryFile, bytes_max: usize) -> &str {
    let text = file.text.as_str();
    if text.len() <= bytes_max {
        return text;
    }
    if file.keeps_its_end {
        &text[text.ceil_char_boundary(text.len() - bytes_max)..]
    } else {
        &text[..text.floor_char_boundary(bytes_max)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str, text: &str) -> MemoryFile {
        file(name, text).unwrap()
    }

    #[test]
    fn files_are_packed_in_order_and_comments_are_not() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("USER.md"), "<!-- about you -->\nCalls herself Ada.\n").unwrap();
        std::fs::write(folder.path().join("SOUL.md"), "Be brief.\u{202e}").unwrap();
        std::fs::write(folder.path().join("AGENTS.md"), "<!-- nothing yet -->\n").unwrap();
        let (files, notes) = memory_of(folder.path());
        let memory = Memory::pack(&files, notes, 1_000);
        assert!(memory.text.starts_with("\n## SOUL.md\n\nBe brief."), "{}", memory.text);
        assert!(memory.text.ends_with("\n## USER.md\n\nCalls herself Ada.\n"), "{}", memory.text);
        assert!(!memory.text.contains('\u{202e}'), "what cannot be seen is made visible");
        assert!(memory.notes.is_empty());
        std::fs::write(folder.path().join("CLAUDE.md"), "Use make.").unwrap();
        assert_eq!(memory_of(folder.path()).0.len(), 2, "AGENTS.md is there, if only a comment");
        std::fs::remove_file(folder.path().join("AGENTS.md")).unwrap();
        assert_eq!(memory_of(folder.path()).0.last().unwrap().name, "CLAUDE.md");
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let files = [named("AGENTS.md", &"a".repeat(1_000)), named("MEMORY.md", &("old ".repeat(300) + "new"))];
        let memory = Memory::pack(&files, Vec::new(), 400);
        assert!(memory.text.contains("[... 800 of 1000 bytes of AGENTS.md did not fit ...]"), "{}", memory.text);
        assert!(memory.text.contains("new\n[... 1003 of 1203 bytes of MEMORY.md"), "its end is kept: {}", memory.text);
        assert_eq!(memory.notes.len(), 2);
        let memory = Memory::pack(&[named("A", "äää"), named("B", "b")], Vec::new(), 4);
        assert!(memory.text.contains("\nä\n") && memory.text.contains("\nb\n"), "{}", memory.text);
    }

    #[test]
    fn links_pipes_and_forbidden_files_are_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        assert_eq!(workspace_file(root, |_| true), None);
        std::fs::write(root.join("CLAUDE.md"), "Use tabs.").unwrap();
        assert_eq!(workspace_file(root, |_| true).unwrap().text, "Use tabs.");
        assert_eq!(workspace_file(root, |_| false), None);
        std::fs::write(root.join("AGENTS.md"), "Use spaces.").unwrap();
        assert_eq!(workspace_file(root, |_| true).unwrap().text, "Use spaces.", "CLAUDE.md only where it is absent");
        assert_eq!(workspace_file(root, |path| path != "AGENTS.md"), None);
        std::fs::remove_file(root.join("AGENTS.md")).unwrap();
        std::fs::remove_file(root.join("CLAUDE.md")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", root.join("AGENTS.md")).unwrap();
        assert_eq!(workspace_file(root, |_| true), None);
        std::fs::create_dir(root.join("MEMORY.md")).unwrap();
        let (files, notes) = memory_of(root);
        assert!(files.is_empty());
        assert_eq!(notes.len(), 2, "{notes:?}");
    }
}
