//! Whether state and configuration belong to the user, and to nobody else.

use std::{
    fs::{self, Metadata},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use homarus_api::doctor::Finding;
use rustix::fs::Access;

use super::{Because, Patient, error, ok, warning};

const LOOKED_AT_MAX: usize = 1_000;
const LISTED_MAX: usize = 5;

pub fn check(patient: &Patient<'_>) -> Vec<Finding> {
    let uid = rustix::process::geteuid().as_raw();
    let mut config = vec![patient.dirs.config.clone(), patient.dirs.config_file()];
    config.extend(patient.config.obeyed().cloned());
    vec![
        judge("permissions.state", &state(&patient.dirs.state), uid, Secrecy::Private),
        judge("permissions.config", &config, uid, Secrecy::Unwritable),
        judge("permissions.models", std::slice::from_ref(&patient.dirs.models), uid, Secrecy::Readable),
    ]
}

#[derive(Clone, Copy, PartialEq)]
enum Secrecy {
    /// Others may not even read it: keys, prompts and outputs are in it.
    Private,
    /// Others may not write it: it says what is allowed.
    Unwritable,
    /// The same, and only pulling writes it.
    Readable,
}

impl Secrecy {
    fn access(self) -> (Access, &'static str) {
        match self {
            Self::Readable => (Access::READ_OK | Access::EXEC_OK, "read"),
            Self::Private | Self::Unwritable => (Access::WRITE_OK | Access::EXEC_OK, "write to"),
        }
    }

    /// What is only read may be the system's.
    fn is_own(self, meta: &Metadata, uid: u32) -> bool {
        meta.uid() == uid || (self != Self::Private && meta.uid() == 0)
    }
}

/// A path, and what is there. A link is what it leads to.
struct There<'a> {
    path: &'a PathBuf,
    meta: Metadata,
    /// What stands in a folder that nobody else may enter is out of reach; this may stand elsewhere.
    is_elsewhere: bool,
}

impl<'a> There<'a> {
    fn look(path: &'a PathBuf, folder: &Path) -> Option<Self> {
        let is_link = fs::symlink_metadata(path).ok()?.is_symlink();
        let is_elsewhere = path != folder && (is_link || !path.starts_with(folder));
        Some(Self { path, meta: fs::metadata(path).ok()?, is_elsewhere })
    }
}

/// The folder, what stands in it, and its keys and locks. Layers are as the calls made them.
fn state(folder: &Path) -> Vec<PathBuf> {
    let inside = |folder: &Path| {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten().take(LOOKED_AT_MAX);
        entries.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let mut paths = vec![folder.to_path_buf()];
    paths.extend(inside(folder));
    paths.extend(inside(&folder.join("keys")));
    paths.extend(inside(&folder.join("drivers")));
    paths
}

fn judge(id: &str, paths: &[PathBuf], uid: u32, secrecy: Secrecy) -> Finding {
    let Some(folder) = paths.first() else { return ok(id, "there is nothing yet") };
    if let Err(cause) = usable(folder, secrecy) {
        return error(id, &format!("{} cannot be used", folder.display()))
            .because(cause)
            .fix("mend the permissions, or set HOMARUS_HOME to another folder");
    }
    let there: Vec<There<'_>> = paths.iter().filter_map(|path| There::look(path, folder)).collect();
    if there.is_empty() {
        return ok(id, "there is nothing yet, and it can be made");
    }
    let list = |wrong: Vec<&PathBuf>| {
        let listed: Vec<String> = wrong.iter().take(LISTED_MAX).map(|path| path.display().to_string()).collect();
        let more = wrong.len().saturating_sub(LISTED_MAX);
        listed.join(", ") + &if more > 0 { format!(" and {more} more") } else { String::new() }
    };
    let which = |wrong: &dyn Fn(&There<'_>) -> bool| -> Vec<&PathBuf> {
        there.iter().filter(|there| wrong(there)).map(|there| there.path).collect()
    };
    let shown = folder.display();
    let foreign = which(&|there| !secrecy.is_own(&there.meta, uid));
    if !foreign.is_empty() {
        return error(id, "something in it belongs to another user")
            .because(list(foreign))
            .fix(format!("`sudo chown -R $(id -u):$(id -g) {shown}`; was Homarus started with sudo once?"));
    }
    let closed = there.first().is_some_and(|first| first.path == folder && first.meta.mode() & 0o077 == 0);
    let writable = which(&|there| there.meta.mode() & 0o022 != 0 && (!closed || there.is_elsewhere));
    if !writable.is_empty() {
        let fix = format!("`chmod go-w {}`", list(writable.clone()).replace(", ", " "));
        return error(id, "others may write it").because(list(writable)).fix(fix);
    }
    if secrecy == Secrecy::Private && !closed {
        return warning(id, "others may look into it").because(&shown).fix(format!("`chmod go= {shown}`"));
    }
    let exposed = which(&|there| there.meta.is_file() && there.meta.mode() & 0o077 != 0);
    let keys: Vec<&PathBuf> =
        exposed.into_iter().filter(|path| path.extension().is_some_and(|ext| ext == "key")).collect();
    if secrecy == Secrecy::Private && !keys.is_empty() {
        return error(id, "the signing key can be read by others, so the journal is not opened")
            .because(list(keys))
            .fix(format!("`chmod 600 {shown}/keys/journal.key`"));
    }
    match secrecy {
        Secrecy::Readable => ok(id, &format!("{shown} can be read, and others may not write it")),
        Secrecy::Private | Secrecy::Unwritable => ok(id, &format!("{shown} is yours alone")),
    }
}

/// Whether it can be used as it has to be, or else made.
fn usable(folder: &Path, secrecy: Secrecy) -> Result<(), String> {
    let there = folder.ancestors().find(|path| fs::symlink_metadata(path).is_ok()).unwrap_or(Path::new("/"));
    if !there.is_dir() {
        return Err(format!("{} is not a folder", there.display()));
    }
    let secrecy = if there == folder { secrecy } else { Secrecy::Unwritable };
    let (access, word) = secrecy.access();
    rustix::fs::access(there, access).map_err(|error| format!("you may not {word} {}: {error}", there.display()))
}

#[cfg(test)]
mod tests {
    use std::{fs::Permissions, os::unix::fs::PermissionsExt};

    use homarus_api::doctor::Severity;

    use super::super::{severity, with_patient};
    use super::*;

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn what_others_may_read_or_write_is_told() {
        with_patient("", |patient| {
            let look = || severity(&check(patient), "permissions.state").unwrap();
            assert_eq!(look(), Severity::Ok, "nothing there");
            let state = &patient.dirs.state;
            fs::create_dir_all(state.join("keys")).unwrap();
            fs::write(state.join("keys/journal.key"), "k").unwrap();
            let modes = |folder, keys, key| {
                chmod(state, folder);
                chmod(&state.join("keys"), keys);
                chmod(&state.join("keys/journal.key"), key);
            };
            modes(0o700, 0o700, 0o600);
            assert_eq!(look(), Severity::Ok);
            modes(0o755, 0o700, 0o600);
            assert_eq!(look(), Severity::Warning, "the folder can be listed");
            modes(0o755, 0o777, 0o600);
            assert_eq!(look(), Severity::Error, "a folder others may write");
            modes(0o700, 0o777, 0o600);
            assert_eq!(look(), Severity::Ok, "nobody else gets to it");
            modes(0o700, 0o700, 0o644);
            assert_eq!(look(), Severity::Error, "the key is exposed");
        });
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_told() {
        let found = judge("permissions.state", &[PathBuf::from("/dev/null/state")], 0, Secrecy::Private);
        assert_eq!(found.severity, Severity::Error);
        assert!(found.cause.unwrap().contains("/dev/null is not a folder"));
    }

    #[test]
    fn what_belongs_to_another_user_is_told() {
        with_patient("", |patient| {
            fs::create_dir_all(&patient.dirs.state).unwrap();
            let me = fs::metadata(&patient.dirs.state).unwrap().uid();
            let found = judge("permissions.state", &state(&patient.dirs.state), me + 1, Secrecy::Private);
            assert_eq!(found.severity, Severity::Error);
            assert!(found.fix.unwrap().contains("chown"));
        });
    }

    #[test]
    fn a_configuration_others_may_write_is_told() {
        with_patient("", |patient| {
            let folder = &patient.dirs.config;
            fs::create_dir_all(folder).unwrap();
            let file = folder.join("homarus.toml");
            fs::write(&file, "").unwrap();
            let paths = [folder.clone(), file.clone()];
            let me = fs::metadata(folder).unwrap().uid();
            let look = || judge("permissions.config", &paths, me, Secrecy::Unwritable).severity;
            chmod(folder, 0o755);
            chmod(&file, 0o644);
            assert_eq!(look(), Severity::Ok, "it may be read");
            chmod(&file, 0o666);
            assert_eq!(look(), Severity::Error);
            // What a link leads to is what counts, also out of a folder that is closed.
            let real = patient.dirs.agents.clone();
            fs::rename(&file, &real).unwrap();
            std::os::unix::fs::symlink(&real, &file).unwrap();
            assert_eq!(look(), Severity::Error);
            chmod(folder, 0o700);
            assert_eq!(look(), Severity::Error);
            chmod(&real, 0o644);
            assert_eq!(look(), Severity::Ok);
        });
    }

    #[test]
    fn weights_that_somebody_shares_need_only_be_read() {
        with_patient("", |patient| {
            let folder = &patient.dirs.models;
            fs::create_dir_all(folder).unwrap();
            let me = fs::metadata(folder).unwrap().uid();
            let look = |uid, secrecy| judge("permissions.models", std::slice::from_ref(folder), uid, secrecy).severity;
            chmod(folder, 0o555);
            assert_eq!(look(me, Secrecy::Readable), Severity::Ok);
            chmod(folder, 0o777);
            assert_eq!(look(me, Secrecy::Readable), Severity::Error);
            let root = fs::metadata("/usr").unwrap();
            assert!(root.uid() == 0 && Secrecy::Readable.is_own(&root, 1) && !Secrecy::Private.is_own(&root, 1));
        });
        assert_eq!(Secrecy::Readable.access().0, Access::READ_OK | Access::EXEC_OK);
    }
}
