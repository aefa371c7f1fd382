//! `homarus skills add`

use std::{
    fs::{self, DirBuilder},
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
};

use homarus_agent::skill::{Skill, SkillError};

use crate::{dirs::Dirs, exit::CliError, skills, wiring};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A folder with a SKILL.md; its contents are copied
    folder: PathBuf,
    /// Replace a skill of the same name
    #[arg(long)]
    replace: bool,
    /// Print the response as JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    pub fn execute(self) -> Result<u8, CliError> {
        let dirs = Dirs::from_env()?;
        // Its own name, not `.`.
        let folder = self
            .folder
            .canonicalize()
            .map_err(|error| CliError::usage(format!("{} cannot be read", self.folder.display())).cause(error))?;
        let skill = Skill::open(&folder).map_err(not_a_skill)?;
        let target = dirs.skills.join(&skill.name);
        if target.symlink_metadata().is_ok() && !self.replace {
            return Err(CliError::usage(format!("there is a skill {} already", skill.name))
                .help("give --replace, or delete it with `homarus skills remove`"));
        }
        copy(&skill, &dirs.skills)
            .map_err(|error| CliError::failed(format!("{} cannot be made", target.display())).cause(error))?;
        let shelf = wiring::shelf(&dirs)?;
        skills::put(skills::find(&shelf, &skill.name)?, self.json)?;
        Ok(0)
    }
}

fn not_a_skill(error: SkillError) -> CliError {
    CliError::usage("this is no skill").cause(error).help("a skill is a folder with a SKILL.md: see agentskills.io")
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
