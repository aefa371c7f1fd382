//! Room on the disks that Homarus writes to.

use std::{
    io,
    path::{Path, PathBuf},
};

use homarus_api::doctor::Finding;

use super::{Because, Patient, error, info, ok, warning};

const MIB: u64 = 1 << 20;
/// Below this nothing can be relied on: a journal entry may not fit.
const BYTES_MIN: u64 = 64 * MIB;
/// Below this it will not last long.
const BYTES_LOW: u64 = 1024 * MIB;
const FILES_LOW: u64 = 10_000;

/// What a file system has left.
#[derive(Debug, Clone, Copy)]
pub struct Space {
    /// Bytes an ordinary user may still write.
    pub bytes: u64,
    /// Files that may still be made; `None`: it does not count them.
    pub files: Option<u64>,
    pub read_only: bool,
}

/// Asks the file system.
pub fn space(path: &Path) -> io::Result<Space> {
    let found = rustix::fs::statvfs(path)?;
    Ok(Space {
        bytes: found.f_bavail.saturating_mul(found.f_frsize),
        files: (found.f_files > 0).then_some(found.f_favail),
        read_only: found.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY),
    })
}

pub fn check(patient: &Patient<'_>, space: impl Fn(&Path) -> io::Result<Space>) -> Vec<Finding> {
    let mut places = vec![("disk.state", patient.dirs.state.clone()), ("disk.models", patient.dirs.models.clone())];
    match crate::dirs::workspace(None) {
        Ok(workspace) => places.push(("disk.workspace", workspace)),
        Err(_) => return vec![error("disk.workspace", "this folder is not there any more").fix("`cd` to another one")],
    }
    places.into_iter().map(|(id, path)| one(id, &path, &space)).collect()
}

fn one(id: &str, path: &Path, space: &impl Fn(&Path) -> io::Result<Space>) -> Finding {
    let there = existing(path);
    let found = match space(&there) {
        Ok(found) => found,
        Err(failure) => {
            return error(id, &format!("nothing can be found out about {}", there.display())).because(failure);
        }
    };
    let shown = there.display();
    let room = format!("{} MB are free in {shown}", found.bytes / 1_000_000);
    if found.read_only {
        // A workspace may well be looked at only.
        let what = format!("{shown} cannot be written: it is mounted read-only");
        return if id == "disk.workspace" {
            info(id, &what)
        } else {
            error(id, &what).fix("mount it for writing, or set HOMARUS_HOME to another folder")
        };
    }
    if found.bytes < BYTES_MIN {
        return error(id, &format!("the disk is full: {room}")).fix("free some space");
    }
    if let Some(files) = found.files.filter(|files| *files < FILES_LOW) {
        return warning(id, &format!("only {files} more files can be made in {shown}"))
            .fix("remove files that are not needed");
    }
    if found.bytes < BYTES_LOW {
        return warning(id, &format!("the disk is nearly full: {room}")).fix("free some space");
    }
    ok(id, &room)
}

/// The folder itself, or the one it would be made in.
fn existing(path: &Path) -> PathBuf {
    path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/")).to_path_buf()
}

#[cfg(test)]
mod tests {
    use homarus_api::doctor::Severity;

    use super::super::{severity, with_patient};
    use super::*;

    #[test]
    fn full_disks_are_told() {
        let check_space = |found: io::Result<Space>, state: Severity, workspace: Severity| {
            let answer = |_: &Path| match &found {
                Ok(found) => Ok(*found),
                Err(failure) => Err(io::Error::from(failure.kind())),
            };
            with_patient("", |patient| {
                let findings = check(patient, answer);
                assert_eq!(severity(&findings, "disk.state"), Some(state), "{findings:?}");
                assert_eq!(severity(&findings, "disk.workspace"), Some(workspace), "{findings:?}");
            });
        };
        let free = |bytes, files, read_only| Ok(Space { bytes, files, read_only });
        check_space(free(10 << 30, Some(1_000_000), false), Severity::Ok, Severity::Ok);
        check_space(free(10 << 30, None, false), Severity::Ok, Severity::Ok);
        check_space(free(500 * MIB, None, false), Severity::Warning, Severity::Warning);
        check_space(free(MIB, None, false), Severity::Error, Severity::Error);
        check_space(free(10 << 30, Some(3), false), Severity::Warning, Severity::Warning);
        check_space(free(10 << 30, None, true), Severity::Error, Severity::Info);
        check_space(Err(io::ErrorKind::PermissionDenied.into()), Severity::Error, Severity::Error);
    }

    #[test]
    fn a_real_file_system_answers() {
        assert!(space(Path::new("/")).unwrap().bytes > 0);
        assert_eq!(existing(Path::new("/no/such/folder")), Path::new("/"));
    }
}
