//! Protected paths that are somewhere else in the workspace, because a link of its owner's leads there: `.config`
//! that is a link to `dotfiles/config`. What programs obey is then there, whether it exists yet or not. And what of
//! Homarus itself lies in the workspace, such as its configuration.

use std::path::{Component, Path, PathBuf};

use super::beneath::{Root, join};
use crate::protected::{self, Shape};

/// As the kernel has it.
const LINKS_MAX: usize = 40;

#[derive(Debug, Default)]
pub struct Linked(Vec<Place>);

#[derive(Debug)]
struct Place {
    /// Where the links lead, relative to the workspace.
    path: String,
    why: String,
}

impl Linked {
    /// `at`: the workspace's path, which absolute links begin with. `own`: paths of Homarus itself, without links.
    pub fn of(workspace: &Root, at: &Path, own: &[PathBuf]) -> Self {
        let there = protected::all().filter(|path| path.split('/').next().is_some_and(|name| workspace.has(name)));
        let linked = there.filter_map(|from| {
            let why = format!("`{from}`, which is protected, is a link that leads here");
            Some(Place { path: led(workspace, at, from)?, why })
        });
        let own = own.iter().filter_map(|path| {
            let path = path.strip_prefix(at).ok()?.to_str()?.to_owned();
            Some(Place { path, why: "it is of Homarus itself, which only you change".to_owned() })
        });
        Self(linked.chain(own).collect())
    }

    /// Why nothing of this shape may be put at this path, if it may not for the sake of these places.
    pub fn refusal(&self, path: &str, shape: Shape) -> Option<String> {
        let is_below = |path: &str, folder: &str| path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'));
        let place = self.0.iter().find(|place| {
            path == place.path || is_below(path, &place.path) || (shape == Shape::Link && is_below(&place.path, path))
        })?;
        Some(place.why.clone())
    }
}

/// Where a path leads, if there is a link on it and it stays in the workspace. What is not there yet is taken as it is named.
fn led(workspace: &Root, at: &Path, path: &str) -> Option<String> {
    let mut links = 0;
    let mut done: Vec<String> = Vec::new();
    let mut rest: Vec<String> = path.rsplit('/').map(str::to_owned).collect();
    while let Some(part) = rest.pop() {
        if part == ".." {
            // No link is left in what is done.
            done.pop()?;
            continue;
        }
        let now = join(&done.join("/"), &part);
        let target = workspace.place(&now).ok().flatten().and_then(|place| place.link_target().ok().flatten());
        let Some(target) = target else {
            done.push(part);
            continue;
        };
        links += 1;
        if links > LINKS_MAX {
            return None;
        }
        let target = Path::new(&target);
        let relative = if target.is_absolute() {
            done.clear();
            target.strip_prefix(at).ok()?
        } else {
            target
        };
        for component in relative.components().rev() {
            match component {
                Component::Normal(name) => rest.push(name.to_str()?.to_owned()),
                Component::ParentDir => rest.push("..".to_owned()),
                _ => {}
            }
        }
    }
    (links > 0 && !done.is_empty()).then(|| done.join("/"))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn what_a_link_leads_to_is_protected_where_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path);
        fs::create_dir_all(at("dotfiles/config")).unwrap();
        fs::create_dir_all(at(".local/share")).unwrap();
        for (target, path) in [
            ("dotfiles/config", ".config"),
            ("dotfiles/../cargo-too", ".cargo"),
            ("./dotfiles/bashrc", ".bashrc"),
            ("../bin", ".local/bin"),
            ("../outside", ".ssh"),
            (".zshrc", ".zshrc"),
            (".", ".gnupg"),
        ] {
            symlink(target, at(path)).unwrap();
        }
        symlink(at("absolute"), at(".profile")).unwrap();
        let linked = Linked::of(&Root::open(folder.path()).unwrap(), folder.path(), &[]);
        for (path, refused) in [
            ("dotfiles/config/git/config", true),
            ("dotfiles/config/git", true),
            ("dotfiles/config/other", false),
            ("dotfiles/config", false),
            ("dotfiles/bashrc", true),
            ("cargo-too/config.toml", true),
            ("cargo-too/registry", false),
            ("bin/program", true),
            (".local/share/bin", false),
            ("absolute", true),
            ("outside", false),
        ] {
            assert_eq!(linked.refusal(path, Shape::Other).is_some(), refused, "{path}");
        }
        assert!(linked.refusal("dotfiles", Shape::Link).is_some());
        assert!(linked.refusal("dotfiles/config", Shape::Link).is_some());
        assert!(linked.refusal("src", Shape::Link).is_none());
    }

    #[test]
    fn what_is_of_homarus_itself_is_protected_there_or_not() {
        let folder = tempfile::tempdir().unwrap();
        let own = ["home/config", "h.toml"].map(|path| folder.path().join(path));
        let linked = Linked::of(&Root::open(folder.path()).unwrap(), folder.path(), &own);
        for (path, shape, refused) in [
            ("h.toml", Shape::Other, true),
            ("h.toml", Shape::Link, true),
            ("h.toml/x", Shape::Other, true),
            ("home/config/homarus.toml", Shape::Other, true),
            ("home/config", Shape::Folder, true),
            ("home", Shape::Link, true),
            ("home", Shape::Folder, false),
            ("home/other", Shape::Other, false),
            ("h.toml.bak", Shape::Other, false),
        ] {
            assert_eq!(linked.refusal(path, shape).is_some(), refused, "{path} {shape:?}");
        }
    }
}
