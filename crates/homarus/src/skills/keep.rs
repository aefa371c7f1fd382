//! Where skills are kept, and where each was fetched from.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder},
    io::ErrorKind,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::Path,
};

use homarus_agent::skill::{self, SKILL_FILE, Skill, SkillError};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use super::{git, place::Repository};
use crate::exit::CliError;

/// It begins with a dot, so no skill can be called that.
const ORIGINS_FILE: &str = ".origins.json";

/// Which commit a skill was fetched from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    pub from: Repository,
    /// The hash of the commit, whole.
    pub commit: String,
}

/// A skill of a repository, in a folder that goes with it.
pub struct FetchedSkill {
    pub skill: Skill,
    pub origin: Origin,
    _folder: TempDir,
}

pub fn fetch(from: &Repository) -> Result<FetchedSkill, CliError> {
    let fetched = git::fetch(from)?;
    let Some(main) = fetched.files.iter().find(|file| file.path == SKILL_FILE) else {
        let inside: Vec<&str> =
            fetched.files.iter().filter_map(|file| file.path.strip_suffix("/SKILL.md")).take(20).collect();
        let help = match inside.as_slice() {
            [] => "a skill is a folder with a SKILL.md: see agentskills.io".to_owned(),
            inside => format!("name one of its folders as #REF:FOLDER; it has {}", inside.join(", ")),
        };
        return Err(CliError::usage(format!("{from} is no skill")).cause("there is no SKILL.md").help(help));
    };
    let text = String::from_utf8_lossy(&main.bytes);
    let name = skill::name_of(&text).map_err(not_a_skill)?;
    let folder = tempfile::tempdir().map_err(|error| CliError::failed("there is no room to read it").cause(error))?;
    let place = folder.path().join(name);
    git::write(&fetched.files, &place).map_err(|error| CliError::failed("it cannot be written").cause(error))?;
    let skill = Skill::open(&place).map_err(not_a_skill)?;
    Ok(FetchedSkill { skill, origin: Origin { from: from.clone(), commit: fetched.commit }, _folder: folder })
}

pub fn not_a_skill(error: SkillError) -> CliError {
    CliError::usage("this is no skill").cause(error).help("a skill is a folder with a SKILL.md: see agentskills.io")
}

/// Puts a skill in its place below `root`, and notes where it is from; `None`: from a folder of this machine.
pub fn keep(skill: &Skill, origin: Option<Origin>, root: &Path) -> Result<(), CliError> {
    copy(skill, root).map_err(|error| {
        CliError::failed(format!("{} cannot be made", root.join(&skill.name).display())).cause(error)
    })?;
    note(&skill.name, origin, root)
}

/// Where a skill was fetched from, if it was.
pub fn origin(name: &str, root: &Path) -> Result<Option<Origin>, CliError> {
    Ok(origins(root)?.remove(name))
}

pub fn note(name: &str, origin: Option<Origin>, root: &Path) -> Result<(), CliError> {
    let mut all = origins(root)?;
    let before = all.clone();
    match origin {
        Some(origin) => all.insert(name.to_owned(), origin),
        None => all.remove(name),
    };
    if all == before {
        return Ok(());
    }
    let path = root.join(ORIGINS_FILE);
    let new = root.join(".origins.new");
    let text = serde_json::to_string_pretty(&all).map_err(CliError::failed)?;
    fs::write(&new, text)
        .and_then(|()| fs::rename(&new, &path))
        .map_err(|error| CliError::failed(format!("{} cannot be written", path.display())).cause(error))
}

fn origins(root: &Path) -> Result<BTreeMap<String, Origin>, CliError> {
    let path = root.join(ORIGINS_FILE);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(CliError::failed(format!("{} cannot be read", path.display())).cause(error)),
    };
    serde_json::from_str(&text).map_err(|error| {
        CliError::failed(format!("{} is not as it was written", path.display()))
            .cause(error)
            .help("delete it: skills stay, and only where they were fetched from is forgotten")
    })
}

/// Writes what was read, not what is there by now, beside the skills, and gives it its place in one step.
fn copy(skill: &Skill, root: &Path) -> std::io::Result<()> {
    let folders = |path: &Path| DirBuilder::new().recursive(true).mode(0o700).create(path);
    folders(root)?;
    let new = root.join(format!(".new-{}", skill.name));
    let _ = fs::remove_dir_all(&new);
    for file in &skill.files {
        let path = new.join(&file.path);
        folders(path.parent().unwrap_or(&new))?;
        fs::write(&path, &file.bytes)?;
        let from = fs::metadata(skill.folder.join(&file.path))?.permissions().mode();
        fs::set_permissions(&path, fs::Permissions::from_mode(if from & 0o100 == 0 { 0o600 } else { 0o700 }))?;
    }
    let target = root.join(&skill.name);
    let old = root.join(format!(".old-{}", skill.name));
    let _ = fs::remove_dir_all(&old);
    if target.symlink_metadata().is_ok() {
        fs::rename(&target, &old)?;
    }
    fs::rename(&new, &target)?;
    let _ = fs::remove_dir_all(&old);
    Ok(())
}
