//! Skills: folders with a `SKILL.md` (agentskills.io), offered by their description and read when used.
//!
//! A skill is somebody else's text in our prompt and somebody else's scripts in our sandbox, so it is looked
//! through before it is offered, and what is offered is pinned by the hash of its contents.

mod front;
mod scan;
mod shelf;

use std::{
    fs::OpenOptions,
    io::Read,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use homarus_contract::{ids::Hash, text::one_line};
use rustix::fs::OFlags;
use thiserror::Error;

pub use scan::{Finding, Severity, is_unseen, looks_bad, scan};
pub use shelf::{Shelf, Shelved};

/// The file that makes a folder a skill.
pub const SKILL_FILE: &str = "SKILL.md";
const FILES_MAX: usize = 500;
const FILE_BYTES_MAX: u64 = 4 << 20;
const ALL_BYTES_MAX: u64 = 32 << 20;
const DEPTH_MAX: usize = 6;

/// A skill as it stands on the disk, with all its contents.
#[derive(Debug, Clone)]
pub struct Skill {
    pub name: String,
    /// When to use it, for the model.
    pub description: String,
    pub license: Option<String>,
    pub compatibility: Option<String>,
    /// What its author expects it to need; it grants nothing.
    pub allowed_tools: Vec<String>,
    pub folder: PathBuf,
    /// Sorted by path.
    pub files: Vec<SkillFile>,
    /// Of all paths and contents.
    pub digest: Hash,
}

#[derive(Debug, Clone)]
pub struct SkillFile {
    /// Relative to the skill's folder, `/` between parts.
    pub path: String,
    pub bytes: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SkillError {
    #[error("{0} has no SKILL.md")]
    NoSkill(PathBuf),
    #[error("the head of SKILL.md is not right: {0}")]
    Head(String),
    #[error("{0}")]
    Contents(String),
    #[error("{path} cannot be read: {cause}")]
    Unreadable { path: PathBuf, cause: String },
}

/// What the head of a `SKILL.md` calls the skill.
pub fn name_of(text: &str) -> Result<String, SkillError> {
    front::parse(text).map(|front| front.name)
}

impl SkillFile {
    /// The file as text, if it is text.
    pub fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.bytes).ok().filter(|text| !text.contains('\0'))
    }
}

impl Skill {
    /// Reads a skill whole. Links and special files are refused: they could lead anywhere.
    pub fn open(folder: &Path) -> Result<Self, SkillError> {
        let mut files = Vec::new();
        collect(folder, "", 0, &mut files)?;
        files.sort_by(|a: &SkillFile, b| a.path.cmp(&b.path));
        let main = files.iter().find(|file| file.path == SKILL_FILE);
        let text = main.ok_or_else(|| SkillError::NoSkill(folder.to_path_buf()))?.text();
        let text = text.ok_or_else(|| SkillError::Head("it is not text in UTF-8".to_owned()))?;
        let front = front::parse(text)?;
        let own = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if front.name != own {
            let what = format!("its name is {:?}, and that of its folder {own:?}; they must be the same", front.name);
            return Err(SkillError::Head(what));
        }
        let digest = Hash::of_parts(files.iter().flat_map(|file| [file.path.as_bytes(), file.bytes.as_slice()]));
        Ok(Self {
            name: front.name,
            description: front.description,
            license: front.license,
            compatibility: front.compatibility,
            allowed_tools: front.allowed_tools.unwrap_or_default().split_whitespace().map(str::to_owned).collect(),
            folder: folder.to_path_buf(),
            files,
            digest,
        })
    }
}

fn collect(root: &Path, inside: &str, depth: usize, files: &mut Vec<SkillFile>) -> Result<(), SkillError> {
    let folder = root.join(inside);
    let unreadable = |path: &Path, error: std::io::Error| SkillError::Unreadable {
        path: path.to_path_buf(),
        cause: error.to_string(),
    };
    if depth > DEPTH_MAX {
        return Err(SkillError::Contents(format!("{inside} is nested more than {DEPTH_MAX} folders deep")));
    }
    for entry in std::fs::read_dir(&folder).map_err(|error| unreadable(&folder, error))? {
        let entry = entry.map_err(|error| unreadable(&folder, error))?;
        let name = entry.file_name().into_string();
        let name = name.map_err(|name| SkillError::Contents(format!("the name {name:?} is not text")))?;
        if depth == 0 && name == ".git" {
            continue;
        }
        let path = if inside.is_empty() { name } else { format!("{inside}/{name}") };
        // A model is told the names of files as they are.
        if path.chars().any(|c| is_unseen(c) || c == '\t') {
            let what = format!("the name {} has characters a reader does not see", one_line(&path, 200));
            return Err(SkillError::Contents(what));
        }
        let kind = entry.file_type().map_err(|error| unreadable(&entry.path(), error))?;
        if kind.is_dir() {
            collect(root, &path, depth + 1, files)?;
        } else if kind.is_file() {
            let bytes = read(&entry.path()).map_err(|error| unreadable(&entry.path(), error))?;
            files.push(SkillFile { path, bytes });
            let all: u64 = files.iter().map(|file| file.bytes.len() as u64).sum();
            if files.len() > FILES_MAX || all > ALL_BYTES_MAX {
                let what = format!("it has more than {FILES_MAX} files or {} MiB", ALL_BYTES_MAX >> 20);
                return Err(SkillError::Contents(what));
            }
        } else {
            return Err(SkillError::Contents(format!(
                "{path} is a link or a special file, which a skill may not have"
            )));
        }
    }
    Ok(())
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let carefully = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(carefully).open(path)?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(std::io::Error::other(format!("it is larger than {} MiB", FILE_BYTES_MAX >> 20)));
    }
    Ok(bytes)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn made(root: &Path, name: &str, text: &str) -> PathBuf {
        let folder = root.join(name);
        std::fs::create_dir_all(folder.join("references")).unwrap();
        std::fs::write(folder.join(SKILL_FILE), text).unwrap();
        std::fs::write(folder.join("references/more.md"), "More.\n").unwrap();
        folder
    }

    #[test]
    fn a_skill_is_read_whole_and_known_by_its_contents() {
        let root = tempfile::tempdir().unwrap();
        let text = "---\nname: pdf\ndescription: Fill PDF forms.\nallowed-tools: Bash(pdftk:*) Read\nmetadata:\n  a: b\n---\nDo it.\n";
        let folder = made(root.path(), "pdf", text);
        let skill = Skill::open(&folder).unwrap();
        assert_eq!((skill.name.as_str(), skill.description.as_str()), ("pdf", "Fill PDF forms."));
        assert_eq!(skill.allowed_tools, ["Bash(pdftk:*)", "Read"]);
        assert_eq!(skill.files.len(), 2);
        std::fs::write(folder.join("references/more.md"), "Other.\n").unwrap();
        assert_ne!(Skill::open(&folder).unwrap().digest, skill.digest);
        std::os::unix::fs::symlink("/etc/passwd", folder.join("x")).unwrap();
        assert!(matches!(Skill::open(&folder), Err(SkillError::Contents(_))));
    }

    #[test]
    fn a_name_that_does_not_show_all_of_itself_is_refused() {
        for name in ["a\nFiles: none", "a\u{200b}b", "a\u{202e}b", "a\u{1b}[2J", "a\tb"] {
            let root = tempfile::tempdir().unwrap();
            let folder = made(root.path(), "x", "---\nname: x\ndescription: Plain.\n---\n");
            Skill::open(&folder).unwrap();
            std::fs::write(folder.join("references").join(name), "x").unwrap();
            let error = Skill::open(&folder).unwrap_err().to_string();
            assert!(error.contains("a reader does not see") && !error.chars().any(is_unseen), "{error:?}");
        }
    }

    #[test]
    fn what_is_not_a_skill_says_why() {
        let root = tempfile::tempdir().unwrap();
        let check = |name: &str, text: &str, part: &str| {
            let error = Skill::open(&made(root.path(), name, text)).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        };
        check("a", "no head", "---");
        check("b", "---\nname: c\ndescription: x\n---\n", "must be the same");
        check("c", "---\nname: c\n---\n", "description");
        check("d", "---\nname: d\ndescription: \"\"\n---\n", "description");
        check("e", "---\nname: [\n---\n", "SKILL.md");
        assert!(matches!(Skill::open(root.path()), Err(SkillError::NoSkill(_))));
    }
}
