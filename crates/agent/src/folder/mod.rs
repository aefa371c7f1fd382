//! Agents as folders: a definition and the files an agent is made of, read into its system prompt.
//!
//! Reading them is the only I/O of this crate; the machine itself does none.

pub mod daily;

mod definition;
mod memory;
mod template;

use std::{
    fmt,
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    str::FromStr,
};

use thiserror::Error;

pub use definition::{DEFINITION_FILE, Definition, Limits};
pub use memory::{MEMORY_BYTES_DEFAULT, MEMORY_BYTES_MAX, Memory, MemoryFile, daily_logs, memory_of, workspace_file};
pub use template::{TEMPLATES, Template, template};

const AGENTS_MAX: usize = 1_000;

/// The name of an agent and of its folder: 1 to 64 small letters, digits and hyphens.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct AgentName(String);

impl AgentName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AgentName {
    type Err = FolderError;
    fn from_str(text: &str) -> Result<Self, FolderError> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let fits = (1..=64).contains(&text.len()) && text.chars().all(allowed) && !text.starts_with('-');
        if fits { Ok(Self(text.to_owned())) } else { Err(FolderError::Name(text.chars().take(80).collect())) }
    }
}

impl fmt::Display for AgentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[derive(Debug, Error)]
pub enum FolderError {
    #[error("{0:?} is no name for an agent: use 1 to 64 small letters, digits and hyphens")]
    Name(String),
    #[error("there is no agent {0}")]
    NoSuchAgent(AgentName),
    #[error("there is an agent {0} already")]
    Exists(AgentName),
    #[error("{path} is not valid: {reason}")]
    Invalid { path: PathBuf, reason: String },
    #[error("{path}: {error}")]
    Io { path: PathBuf, error: io::Error },
}

impl FolderError {
    fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |error| Self::Io { path, error }
    }
}

/// The folder of one agent, with its definition read.
#[derive(Debug, Clone)]
pub struct AgentFolder {
    pub name: AgentName,
    pub path: PathBuf,
    pub definition: Definition,
}

impl AgentFolder {
    pub fn open(agents: &Path, name: &AgentName) -> Result<Self, FolderError> {
        let path = agents.join(name.as_str());
        // A link would let a folder elsewhere be deleted or written under an agent's name.
        if !path.symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
            return Err(FolderError::NoSuchAgent(name.clone()));
        }
        let definition = Definition::read(&path.join(DEFINITION_FILE))?;
        Ok(Self { name: name.clone(), path, definition })
    }

    /// Makes the folder of a new agent. Nothing is left behind if that fails half-way.
    pub fn create(agents: &Path, name: &AgentName, template: &Template) -> Result<Self, FolderError> {
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700).create(agents).map_err(FolderError::io(agents))?;
        let path = agents.join(name.as_str());
        if path.symlink_metadata().is_ok() {
            return Err(FolderError::Exists(name.clone()));
        }
        let new = agents.join(format!(".new-{name}"));
        let _ = fs::remove_dir_all(&new);
        DirBuilder::new().mode(0o700).create(&new).map_err(FolderError::io(&new))?;
        for (file, text) in template.files() {
            let file = new.join(file);
            fs::write(&file, text).map_err(FolderError::io(&file))?;
        }
        fs::rename(&new, &path).map_err(FolderError::io(&path))?;
        Self::open(agents, name)
    }

    /// Whether it is to be offered no tools at all.
    pub fn has_no_tools(&self) -> bool {
        self.definition.tools.as_ref().is_some_and(Vec::is_empty)
    }

    pub fn delete(self) -> Result<(), FolderError> {
        fs::remove_dir_all(&self.path).map_err(FolderError::io(&self.path))
    }
}

/// The names of all agents, sorted.
pub fn names(agents: &Path) -> Result<Vec<AgentName>, FolderError> {
    let entries = match fs::read_dir(agents) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(FolderError::io(agents)(error)),
    };
    let mut names: Vec<AgentName> = entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .take(AGENTS_MAX)
        .collect();
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain() {
        for good in ["a", "my-agent-2"] {
            assert!(good.parse::<AgentName>().is_ok(), "{good}");
        }
        for bad in ["", "-a", "A", "a/b", "..", "a b", &"x".repeat(65)] {
            assert!(bad.parse::<AgentName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn agents_are_made_listed_and_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let agents = folder.path().join("agents");
        assert!(names(&agents).unwrap().is_empty());
        for template in TEMPLATES {
            let name: AgentName = template.name.parse().unwrap();
            let made = AgentFolder::create(&agents, &name, template).unwrap();
            assert!(!made.definition.description.is_empty(), "{name}");
        }
        assert_eq!(names(&agents).unwrap().len(), TEMPLATES.len());
        let name: AgentName = "coder".parse().unwrap();
        let again = AgentFolder::create(&agents, &name, &TEMPLATES[0]);
        assert!(matches!(again, Err(FolderError::Exists(_))));
        AgentFolder::open(&agents, &name).unwrap().delete().unwrap();
        assert!(matches!(AgentFolder::open(&agents, &name), Err(FolderError::NoSuchAgent(_))));
        std::os::unix::fs::symlink(folder.path(), agents.join("coder")).unwrap();
        assert!(AgentFolder::open(&agents, &name).is_err(), "a link is no agent");
    }
}
