//! What no call may see or change, where it really is: each path is followed link by link, for whoever can change a link
//! on the way decides what stands at its end.

use std::{
    ffi::OsString,
    fs,
    path::{Component, Path, PathBuf},
};

use crate::options::Options;

/// As the kernel has it.
const LINKS_MAX: usize = 40;

#[derive(Debug, Clone, Default)]
pub struct Hidden {
    /// Where the paths lead: kept out of sight. None lies in another.
    pub ends: Vec<PathBuf>,
    /// The ends, and the links that lead there: nothing of this is ever changed by a merge.
    pub fixed: Vec<PathBuf>,
}

impl Hidden {
    pub fn of(options: &Options) -> Self {
        Self::at(options.hidden.iter().chain([&options.state_dir]))
    }

    fn at<'a>(paths: impl IntoIterator<Item = &'a PathBuf>) -> Self {
        let (mut ends, mut fixed) = (Vec::new(), Vec::new());
        for path in paths {
            let (end, links) = follow(path);
            fixed.extend(links);
            ends.push(end);
        }
        let ends = outermost(ends);
        fixed.extend(ends.iter().cloned());
        Self { ends, fixed }
    }
}

/// Where a path leads, and the links on the way. What is not there yet is taken under the name it will have.
fn follow(path: &Path) -> (PathBuf, Vec<PathBuf>) {
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let (mut end, mut links) = (PathBuf::from("/"), Vec::new());
    let mut rest = parts(&whole);
    while let Some(part) = rest.pop() {
        if part == ".." {
            end.pop();
            continue;
        }
        let at = end.join(&part);
        match fs::read_link(&at) {
            Ok(target) if links.len() < LINKS_MAX => {
                if target.is_absolute() {
                    end = PathBuf::from("/");
                }
                rest.extend(parts(&target));
                links.push(at);
            }
            _ => end = at,
        }
    }
    (end, links)
}

/// The last first.
fn parts(path: &Path) -> Vec<OsString> {
    let part = |component: Component<'_>| match component {
        Component::Normal(_) | Component::ParentDir => Some(component.as_os_str().to_owned()),
        _ => None,
    };
    path.components().rev().filter_map(part).collect()
}

fn outermost(mut paths: Vec<PathBuf>) -> Vec<PathBuf> {
    // What lies in a folder follows it.
    paths.sort();
    let mut all: Vec<PathBuf> = Vec::new();
    for path in paths {
        if !all.last().is_some_and(|folder| path.starts_with(folder)) {
            all.push(path);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_are_followed_one_by_one_and_what_is_not_there_has_the_name_it_will_have() {
        let dir = tempfile::tempdir().unwrap();
        let there = fs::canonicalize(dir.path()).unwrap();
        let at = |path: &str| there.join(path);
        fs::create_dir_all(at("dotfiles/deep")).unwrap();
        for (target, link) in
            [("dotfiles", "config"), ("deep/../rules", "dotfiles/mine"), ("ring", "ring"), ("nowhere", "gone")]
        {
            symlink(target, at(link)).unwrap();
        }
        symlink(at("config/mine"), at("absolute")).unwrap();
        let check = |path: &str, end: &str, links: &[&str]| {
            let links = links.iter().map(|link| at(link)).collect();
            assert_eq!(follow(&at(path)), (at(end), links), "{path}");
        };
        check("dotfiles/deep", "dotfiles/deep", &[]);
        check("dotfiles/not/yet", "dotfiles/not/yet", &[]);
        check("config/not/yet", "dotfiles/not/yet", &["config"]);
        check("absolute", "dotfiles/rules", &["absolute", "config", "dotfiles/mine"]);
        check("gone/x", "nowhere/x", &["gone"]);
        // It leads nowhere, and ends all the same.
        assert_eq!(follow(&at("ring")).0, at("ring"));
    }

    #[test]
    fn what_lies_in_something_hidden_is_hidden_with_it() {
        let hidden = Hidden::at(&["/h/b/rules.toml", "/h/b", "/h/a", "/h/b-side", "/h/b"].map(PathBuf::from));
        assert_eq!(hidden.ends, ["/h/a", "/h/b", "/h/b-side"].map(PathBuf::from));
    }
}
