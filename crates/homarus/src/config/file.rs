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
        let cannot = |cause: String| CliError::usage(format!("{} cannot be read", path.display())).cause(cause);
        Ok(Self { path: path.to_path_buf(), text: read_text(path).map_err(cannot)? })
    }

    pub fn text(&self) -> &str {
        self.text.as_deref().unwrap_or_default()
    }

    /// Replaces the file, or makes it. What was written to it since it was read is never lost: then nothing is
    /// done and that is the error.
    pub fn replace(&self, text: &str) -> Result<(), CliError> {
        if self.try_replace(text)? {
            return Ok(());
        }
        Err(CliError::failed(format!("{} was changed by someone else meanwhile", self.path.display()))
            .help("nothing was changed; do it again"))
    }

    /// The same, where it can be read and changed again: `false` says that somebody else was faster.
    pub fn try_replace(&self, text: &str) -> Result<bool, CliError> {
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
        let folder = folder_of(&real);
        DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder).map_err(cannot)?;
        let new = Fresh::beside(&real, "new").map_err(cannot)?;
        new.fill(text, fs::metadata(&real).ok().as_ref()).map_err(cannot)?;
        let folder = File::open(folder).map_err(cannot)?;
        // From the look to the renaming no other of us may be between. The kernel lets go when the file is closed;
        // where the file system knows no locks, it has to do without.
        let _ = folder.lock();
        if Self::read(&self.path)?.text != self.text {
            return Ok(false);
        }
        new.become_file(&real).map_err(cannot)?;
        // Without it a crash could bring the old name back.
        folder.sync_all().map_err(cannot)?;
        Ok(true)
    }

    /// A copy for an editor, readable by its owner only.
    pub fn copy(&self, text: &str) -> Result<Fresh, CliError> {
        let cannot = |error: io::Error| {
            CliError::failed(format!("no file can be made beside {}", self.path.display())).cause(error)
        };
        DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder_of(&self.path)).map_err(cannot)?;
        let copy = Fresh::beside(&self.path, "edit").map_err(cannot)?;
        copy.fill(text, None).map_err(cannot)?;
        Ok(copy)
    }
}

/// The text of a file, `None` if there is no such file; else why it cannot be had.
pub fn read_text(path: &Path) -> Result<Option<String>, String> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return match broken_link(path) {
                // It was meant to be there: what it says, stricter rules say, must not be passed over.
                Some(link) => Err(format!("{} is a link to nothing", link.display())),
                None => Ok(None),
            };
        }
        Err(error) => return Err(error.to_string()),
    };
    if !file.metadata().map_err(|error| error.to_string())?.is_file() {
        return Err("it is not a file".to_owned());
    }
    let mut bytes = Vec::new();
    file.take(BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > BYTES_MAX {
        return Err("it is longer than 1 MiB".to_owned());
    }
    String::from_utf8(bytes).map(Some).map_err(|_| "it is not text in UTF-8".to_owned())
}

/// The link, of the file or of a folder above it, that leads to nothing, so that there is no such file.
fn broken_link(path: &Path) -> Option<&Path> {
    let there = path.ancestors().find(|above| above.symlink_metadata().is_ok())?;
    fs::metadata(there).is_err().then_some(there)
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
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

    /// Whether something else than this text is in it now, as far as can be told.
    pub fn differs(&self, text: &str) -> bool {
        let Ok(meta) = fs::metadata(&self.path) else { return false };
        meta.len() != text.len() as u64 || !fs::read(&self.path).is_ok_and(|bytes| bytes == text.as_bytes())
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
    fn what_several_change_at_once_all_stands() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("homarus.toml");
        let add = |name: &str| {
            for round in 0..50 {
                loop {
                    let file = UserFile::read(&path).unwrap();
                    if file.try_replace(&format!("{}{name}{round}\n", file.text())).unwrap() {
                        break;
                    }
                }
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(|| add("a"));
            add("b");
        });
        let text = fs::read_to_string(&path).unwrap();
        let lines: std::collections::BTreeSet<&str> = text.lines().collect();
        assert_eq!((text.lines().count(), lines.len()), (100, 100), "{text}");
        assert_eq!(names(folder.path()), ["homarus.toml"]);
    }

    #[test]
    fn a_link_to_nothing_is_no_absent_file() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::os::unix::fs::symlink("gone.toml", at("homarus.toml")).unwrap();
        std::os::unix::fs::symlink("gone", at("folder")).unwrap();
        std::os::unix::fs::symlink(folder.path(), at("here")).unwrap();
        for path in [at("homarus.toml"), at("here/homarus.toml"), at("folder/homarus.toml")] {
            let error = UserFile::read(&path).unwrap_err().text();
            assert!(error.contains("is a link to nothing"), "{error}");
            let unread = UserFile { path: path.clone(), text: None };
            assert!(unread.replace("new").is_err(), "{}", path.display());
        }
        assert!(fs::symlink_metadata(at("homarus.toml")).unwrap().is_symlink());
        assert_eq!(UserFile::read(&at("here/none.toml")).unwrap().text, None);
        assert_eq!(UserFile::read(&at("none/none.toml")).unwrap().text, None);
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
