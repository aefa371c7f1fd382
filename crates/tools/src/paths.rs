//! Paths as models write them, made relative to the workspace.

use std::path::{Component, Path, PathBuf};

use homarus_contract::{action::Resource, tool::ToolError};

/// A path relative to the workspace, without `.` and `..`; empty is the workspace itself.
pub fn relative(workspace: &Path, given: &str) -> Result<PathBuf, ToolError> {
    let outside = || {
        ToolError::BadArguments(format!(
            "{given:?} is outside the workspace. Use a path relative to the workspace, for example notes.txt"
        ))
    };
    if given.contains('\0') || given.len() > 4096 {
        return Err(ToolError::BadArguments("The path is too long or holds a zero byte.".to_owned()));
    }
    let path = Path::new(given.trim());
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

/// The path as rules see it: `./a/b`, or `.` for the workspace itself.
pub fn resource(verb: &str, relative: &Path) -> Resource {
    let target = if relative.as_os_str().is_empty() { ".".to_owned() } else { format!("./{}", relative.display()) };
    Resource { verb: verb.to_owned(), target }
}

/// The path as people and models see it.
pub fn shown(relative: &Path) -> String {
    if relative.as_os_str().is_empty() { ".".to_owned() } else { relative.display().to_string() }
}

/// Existing names that are like a missing one, best first, at most three.
pub fn like(root: &Path, missing: &Path) -> Vec<String> {
    let Some(wanted) = missing.file_name().map(|name| name.to_string_lossy().to_lowercase()) else { return Vec::new() };
    let walk = ignore::WalkBuilder::new(root).hidden(false).follow_links(false).max_depth(Some(6)).build();
    let mut near: Vec<(usize, String)> = walk
        .flatten()
        .take(2_000)
        .filter(|entry| entry.file_type().is_some_and(|kind| kind.is_file()))
        .filter_map(|entry| {
            let relative = entry.path().strip_prefix(root).ok()?.to_path_buf();
            let name = relative.file_name()?.to_string_lossy().to_lowercase();
            let distance = distance(&wanted, &name);
            (distance <= wanted.len().max(3) / 2).then(|| (distance, relative.display().to_string()))
        })
        .collect();
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
        for bad in ["..", "a/../../b", "/etc/passwd", "/ww/a", "a\0b"] {
            assert!(relative(workspace, bad).is_err(), "{bad:?}");
        }
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
