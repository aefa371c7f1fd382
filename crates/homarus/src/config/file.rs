//! The user's file: read whole, and replaced in one step, so that no reader and no crash sees half of it.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, ErrorKind, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use crate::{dirs::Dirs, env, exit::CliError};

const BYTES_MAX: u64 = 1 << 20;
/// For one person's eyes: addresses and rules say something about whoever wrote them.
const MODE: u32 = 0o600;
const FOLDER_MODE: u32 = 0o700;

/// A configuration file, there or not.
#[derive(Debug, Clone)]
pub struct UserFile {
    pub path: PathBuf,
    /// `None`: there is no such file, and every default holds.
    pub text: Option<String>,
}

impl UserFile {
    /// The file that holds for these folders. One that was named and is not there is an error.
    pub fn of(dirs: &Dirs) -> Result<Self, CliError> {
        let file = Self::read(&dirs.config_file())?;
        if file.text.is_none() && env::CONFIG.is_set() {
            return Err(CliError::usage(format!("there is no configuration file {}", file.path.display()))
                .cause(format!("{} names it", env::CONFIG.name))
                .help(format!("unset {}, or make the file with `homarus config edit`", env::CONFIG.name)));
        }
        Ok(file)
    }

    pub fn read(path: &Path) -> Result<Self, CliError> {
        let cannot =
            |cause: &dyn std::fmt::Display| CliError::usage(format!("{} cannot be read", path.display())).cause(cause);
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Ok(Self { path: path.to_path_buf(), text: None });
            }
            Err(error) => return Err(cannot(&error)),
        };
        if !file.metadata().map_err(|error| cannot(&error))?.is_file() {
            return Err(cannot(&"it is not a file"));
        }
        let mut bytes = Vec::new();
        file.take(BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| cannot(&error))?;
        if bytes.len() as u64 > BYTES_MAX {
            return Err(cannot(&"it is longer than 1 MiB"));
        }
        let text = String::from_utf8(bytes).map_err(|_| cannot(&"it is not text in UTF-8"))?;
        Ok(Self { path: path.to_path_buf(), text: Some(text) })
    }

    pub fn text(&self) -> &str {
        self.text.as_deref().unwrap_or_default()
    }

    /// Replaces the file, or makes it. What was written to it since it was read is never lost: then nothing is
    /// done and that is the error.
    pub fn replace(&self, text: &str) -> Result<(), CliError> {
        let cannot = |error: io::Error| {
            CliError::failed(format!("{} cannot be written", self.path.display()))
                .cause(error)
                .help("nothing was changed; mend the folder's permissions or free some space")
        };
        // A link stays a link: what it points to is replaced.
        let real = match fs::canonicalize(&self.path) {
            Ok(real) => real,
            Err(error) if error.kind() == ErrorKind::NotFound => self.path.clone(),
            Err(error) => return Err(cannot(error)),
        };
        let folder = real.parent().unwrap_or(Path::new("."));
        DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder).map_err(cannot)?;
        let new = Fresh::beside(&real, "new").map_err(cannot)?;
        new.fill(text, fs::metadata(&real).ok().as_ref()).map_err(cannot)?;
        if Self::read(&self.path)?.text != self.text {
            return Err(CliError::failed(format!("{} was changed by someone else meanwhile", self.path.display()))
                .help("nothing was changed; do it again"));
        }
        new.become_file(&real).map_err(cannot)?;
        // Without it a crash could bring the old name back.
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(cannot)
    }

    /// A copy for an editor, readable by its owner only.
    pub fn copy(&self, text: &str) -> Result<Fresh, CliError> {
        let cannot = |error: io::Error| {
            CliError::failed(format!("no file can be made beside {}", self.path.display())).cause(error)
        };
        let folder = self.path.parent().unwrap_or(Path::new("."));
        DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder).map_err(cannot)?;
        let copy = Fresh::beside(&self.path, "edit").map_err(cannot)?;
        copy.fill(text, None).map_err(cannot)?;
        Ok(copy)
    }
}

/// A new file beside another, gone again unless it gets a name of its own.
#[derive(Debug)]
pub struct Fresh {
    pub path: PathBuf,
    kept: bool,
}

impl Fresh {
    fn beside(path: &Path, what: &str) -> io::Result<Self> {
        let mut random = [0u8; 4];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        // The ending tells editors what it is.
        let ending = path.extension().unwrap_or_default().to_string_lossy();
        let fresh = format!(".{name}-{what}-{:08x}.{ending}", u32::from_le_bytes(random));
        let path = path.with_file_name(fresh);
        OpenOptions::new().write(true).create_new(true).mode(MODE).open(&path)?;
        Ok(Self { path, kept: false })
    }

    /// Writes the text down to the disk; mode and owner as those of `like`.
    fn fill(&self, text: &str, like: Option<&fs::Metadata>) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).truncate(true).open(&self.path)?;
        file.write_all(text.as_bytes())?;
        if let Some(like) = like {
            file.set_permissions(fs::Permissions::from_mode(like.mode() & 0o777))?;
            let ours = file.metadata()?;
            if (ours.uid(), ours.gid()) != (like.uid(), like.gid()) {
                std::os::unix::fs::fchown(&file, Some(like.uid()), Some(like.gid()))?;
            }
        }
        file.sync_all()
    }

    fn become_file(mut self, path: &Path) -> io::Result<()> {
        fs::rename(&self.path, path)?;
        self.kept = true;
        Ok(())
    }

    /// Leaves it there under a name that is seen, for a person to look at; its path.
    pub fn keep(mut self) -> PathBuf {
        self.kept = true;
        let name = self.path.file_name().unwrap_or_default().to_string_lossy().replacen("-edit-", "-rejected-", 1);
        let seen = self.path.with_file_name(name.trim_start_matches('.'));
        match fs::rename(&self.path, &seen) {
            Ok(()) => seen,
            Err(_) => self.path.clone(),
        }
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        if !self.kept {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_new_file_is_for_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/homarus.toml");
        UserFile::read(&path).unwrap().replace("x").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        assert_eq!(fs::read_to_string(&path).unwrap(), "x");
    }

    #[test]
    fn mode_and_link_of_an_old_one_stay_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let (real, link) = (folder.path().join("dotfiles.toml"), folder.path().join("homarus.toml"));
        fs::write(&real, "old").unwrap();
        fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink("dotfiles.toml", &link).unwrap();
        UserFile::read(&link).unwrap().replace("new").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&real).unwrap(), "new");
        assert_eq!(fs::metadata(&real).unwrap().mode() & 0o777, 0o640);
        assert_eq!(names(folder.path()).len(), 2);
    }

    #[test]
    fn what_somebody_else_wrote_meanwhile_is_not_lost() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("homarus.toml");
        let file = UserFile::read(&path).unwrap();
        fs::write(&path, "theirs").unwrap();
        let refused = file.replace("ours").unwrap_err();
        assert!(format!("{refused:?}").contains("meanwhile"), "{refused:?}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "theirs");
        assert_eq!(names(folder.path()), ["homarus.toml"]);
    }

    #[test]
    fn what_is_no_text_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("homarus.toml");
        let refused = |part: &str| {
            let error = UserFile::read(&path).unwrap_err();
            assert!(format!("{error:?}").contains(part), "{error:?}");
        };
        fs::create_dir(&path).unwrap();
        refused("not a file");
        fs::remove_dir(&path).unwrap();
        fs::write(&path, [0xff, 0xfe]).unwrap();
        refused("UTF-8");
        fs::write(&path, vec![b'#'; (BYTES_MAX + 1) as usize]).unwrap();
        refused("1 MiB");
    }
}
