//! Paths as models write them, made relative to the workspace.

use std::{
    ops::ControlFlow,
    path::{Component, Path, PathBuf},
};

use homarus_contract::{action::Resource, tool::ToolError};
use rustix::fs::FileType;

use crate::walk::{self, Bounds, Start};

/// A path relative to the workspace, without `.` and `..`; empty is the workspace itself.
pub fn relative(workspace: &Path, given: &str) -> Result<PathBuf, ToolError> {
    let outside = || {
        ToolError::BadArguments(format!(
            "{given:?} is outside the workspace. Use a path relative to the workspace, for example notes.txt"
        ))
    };
    let trimmed = given.trim();
    if given.len() > 4096 {
        return Err(ToolError::BadArguments("The path is too long.".to_owned()));
    }
    // What is judged, shown and written is one line.
    if trimmed.contains(char::is_control) {
        return Err(ToolError::BadArguments(
            "The path holds a control character, such as a line end or a tab. Use a command for a file of that name."
                .to_owned(),
        ));
    }
    let path = Path::new(trimmed);
    let path = match path.strip_prefix(workspace) {
        Ok(inside) => inside,
        Err(_) if path.is_absolute() => return Err(outside()),
        Err(_) => path,
    };
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(part) => clean.push(part),
            Component::CurDir => {}
            Component::ParentDir => {
                if !clean.pop() {
                    return Err(outside());
                }
            }
            Component::RootDir | Component::Prefix(_) => return Err(outside()),
        }
    }
    Ok(clean)
}

/// What rules see of a file call: the path as given (`./a/b`, `.` for the workspace itself) and, where
/// links lead elsewhere, the path they lead to. A link out of the workspace is refused.
pub fn resources(workspace: &Path, verb: &str, relative: &Path) -> Result<Vec<Resource>, ToolError> {
    let mut all = vec![resource(verb, relative)];
    let real = real_path(workspace, relative).map_err(ToolError::BadArguments)?;
    if real != relative {
        all.push(resource(verb, &real));
    }
    Ok(all)
}

fn resource(verb: &str, relative: &Path) -> Resource {
    let target = if relative.as_os_str().is_empty() { ".".to_owned() } else { format!("./{}", relative.display()) };
    Resource { verb: verb.to_owned(), target }
}

/// Where a relative path leads when links are followed, again relative.
fn real_path(workspace: &Path, relative: &Path) -> Result<PathBuf, String> {
    let name = shown(relative);
    let root = workspace.canonicalize().map_err(|error| format!("The workspace cannot be read: {error}"))?;
    let mut existing = root.join(relative);
    let mut missing: Vec<PathBuf> = Vec::new();
    let real = loop {
        match existing.canonicalize() {
            Ok(real) => break real,
            // Where a link to nothing would lead is not known, so it is not followed.
            Err(_) if existing.symlink_metadata().is_ok_and(|meta| meta.is_symlink()) => {
                return Err(format!("{name} is a broken link. Use another path."));
            }
            Err(_) => {
                missing.extend(existing.file_name().map(PathBuf::from));
                if !existing.pop() {
                    return Err(format!("{name} cannot be found."));
                }
            }
        }
    };
    let real = missing.iter().rev().fold(real, |path, part| path.join(part));
    let inside = real.strip_prefix(&root);
    inside.map(Path::to_path_buf).map_err(|_| format!("{name} leads out of the workspace through a link."))
}

/// Names that may hold secrets: passed over where many files are read at once, so that a rule can
/// decide when one is asked for by its name.
pub fn may_hold_secrets(relative: &Path) -> bool {
    const SHARED: [&str; 3] = [".env.example", ".env.sample", ".env.template"];
    const FOLDERS: [&str; 6] = [".ssh", ".aws", ".gnupg", ".kube", ".azure", ".docker"];
    const NAMES: [&str; 10] = [
        ".env",
        ".envrc",
        ".netrc",
        ".pgpass",
        ".npmrc",
        ".pypirc",
        ".git-credentials",
        "id_rsa",
        "id_ed25519",
        "id_ecdsa",
    ];
    let in_folder = relative.components().any(|part| FOLDERS.iter().any(|folder| part.as_os_str() == *folder));
    let name = relative.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let environment = name.starts_with(".env.") && !SHARED.contains(&name.as_str());
    in_folder || environment || NAMES.contains(&name.as_str()) || name.ends_with(".pem")
}

/// The path as people and models see it.
pub fn shown(relative: &Path) -> String {
    if relative.as_os_str().is_empty() { ".".to_owned() } else { relative.display().to_string() }
}

/// Existing names that are like a missing one, best first, at most three.
pub fn like(root: &Path, missing: &Path) -> Vec<String> {
    let Some(wanted) = missing.file_name().map(|name| name.to_string_lossy().to_lowercase()) else { return Vec::new() };
    let bounds = Bounds { depth_max: 6, entries_max: 2_000, comparisons_max: 1_000_000, dotted: true };
    let mut near: Vec<(usize, String)> = Vec::new();
    let walked = root.canonicalize().and_then(|root| {
        walk::walk(&root, &Start::of(&root, Path::new(""))?, &bounds, &mut |entry| {
            let is_file = entry.kind == FileType::RegularFile && entry.left_out.is_none();
            let name = entry.path.file_name().filter(|_| is_file).map(|name| name.to_string_lossy().to_lowercase());
            let far = name.map(|name| distance(&wanted, &name));
            near.extend(far.filter(|far| *far <= wanted.len().max(3) / 2).map(|far| (far, entry.shown())));
            ControlFlow::Continue(())
        })
    });
    if walked.is_err() {
        return Vec::new();
    }
    near.sort();
    near.into_iter().take(3).map(|(_, path)| path).collect()
}

/// Levenshtein distance, of short names.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().take(64).enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let swapped = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = swapped.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_inside() {
        let workspace = Path::new("/w");
        let ok = |given: &str, expected: &str| {
            assert_eq!(relative(workspace, given).unwrap(), PathBuf::from(expected), "{given}");
        };
        ok("a/b.txt", "a/b.txt");
        ok("./a/../b", "b");
        ok("/w/a", "a");
        ok(".", "");
        ok("", "");
        ok(" notes.txt\n", "notes.txt");
        ok("Übersicht 1.txt", "Übersicht 1.txt");
        for bad in ["..", "a/../../b", "/etc/passwd", "/ww/a", "a\0b", "a\nb", "a\tb", "a\u{1b}[2Jb", "a\u{85}b"] {
            assert!(relative(workspace, bad).is_err(), "{bad:?}");
        }
        assert!(relative(workspace, "my\ndocs/a.png").unwrap_err().to_string().contains("control character"));
    }

    #[test]
    fn links_are_named_by_where_they_lead() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        std::fs::create_dir(root.join("real")).unwrap();
        std::fs::write(root.join("real/.env"), "x").unwrap();
        std::os::unix::fs::symlink("real/.env", root.join("notes.txt")).unwrap();
        std::os::unix::fs::symlink("/etc", root.join("etc")).unwrap();
        std::os::unix::fs::symlink("/nowhere/x", root.join("broken")).unwrap();
        let targets = |path: &str| -> Vec<String> {
            let resources = resources(root, "file:read", Path::new(path)).unwrap();
            resources.into_iter().map(|resource| resource.target).collect()
        };
        assert_eq!(targets("notes.txt"), ["./notes.txt", "./real/.env"]);
        assert_eq!(targets("real/new"), ["./real/new"]);
        assert_eq!(targets(""), ["."]);
        for bad in ["etc/passwd", "etc", "broken"] {
            assert!(resources(root, "file:read", Path::new(bad)).is_err(), "{bad}");
        }
        assert!(may_hold_secrets(Path::new("a/.env")) && may_hold_secrets(Path::new(".ssh/config")));
        assert!(!may_hold_secrets(Path::new(".env.example")) && !may_hold_secrets(Path::new("environment.md")));
    }

    #[test]
    fn similar_names_are_found() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("conf")).unwrap();
        std::fs::write(folder.path().join("conf/payments.toml"), "").unwrap();
        std::fs::write(folder.path().join("zzz"), "").unwrap();
        assert_eq!(like(folder.path(), Path::new("config/payment.toml")), ["conf/payments.toml"]);
    }
}
