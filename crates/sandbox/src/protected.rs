//! Paths of a workspace that calls may not read or change, from `data/protected.txt`.

use std::sync::LazyLock;

use homarus_contract::sandbox::Entry;

const RULES: &str = include_str!("../data/protected.txt");

/// Out of reach when they exist, never merged; top level.
pub fn secret() -> impl Iterator<Item = &'static str> {
    of(Kind::Secret)
}

/// Every protected path at the top level.
pub fn all() -> impl Iterator<Item = &'static str> {
    LIST.iter().map(|rule| rule.path)
}

/// Readable, never changed; top level. Those under `guard` are added, where they stand at the top.
pub fn fixed() -> impl Iterator<Item = &'static str> {
    of(Kind::Startup).chain(of(Kind::Guard))
}

/// What is to stand at a path, as far as that can make other programs obey it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A folder, or nothing at all.
    Folder,
    Link,
    Other,
}

impl Shape {
    pub fn of(new: &Entry) -> Self {
        match new {
            Entry::Folder { .. } | Entry::Absent => Self::Folder,
            Entry::Symlink { .. } => Self::Link,
            Entry::File { .. } => Self::Other,
        }
    }
}

/// Why nothing of this shape may be put at this path, if nothing may.
pub fn refusal(path: &str, shape: Shape) -> Option<String> {
    if must_be_folder(path) && shape != Shape::Folder {
        return Some("`.git` that is not a folder can point git anywhere".to_owned());
    }
    if shape == Shape::Link {
        if let Some(rule) = LIST.iter().find(|rule| rule.lies_below(path)) {
            return Some(format!("a link here decides what stands at `{}`", rule.path));
        }
        if within_git(path).is_some() {
            return Some("a link among a repository's own repositories can point git anywhere".to_owned());
        }
    }
    why_refused(path).or_else(|| why_refused_in_git(path))
}

/// Why a change of this path (relative to the workspace) can never be merged.
pub fn why_refused(path: &str) -> Option<String> {
    LIST.iter().find(|rule| rule.covers(path)).map(|rule| match rule.kind {
        Kind::Secret => format!("`{}` may hold secrets or is obeyed by other programs", rule.path),
        Kind::Startup | Kind::Guard => format!("`{}` is obeyed by other programs", rule.path),
    })
}

/// A folder that calls may write to directly must lie inside the workspace, and neither be nor hold nor lie in
/// what is protected. The error says what is wrong.
pub fn check_cache_path(path: &str) -> Result<(), String> {
    let wrong = |why: &str| Err(format!("the cache path {path:?} cannot be one: {why}"));
    if path.split('/').any(|part| part.is_empty() || part == "." || part == "..") || path.contains('\0') {
        return wrong("it must be a relative path without `.` and `..`");
    }
    if let Some(why) = why_refused(path).or_else(|| why_refused_in_git(path)) {
        return wrong(&why);
    }
    if path.split('/').any(|part| part == ".git") {
        return wrong("it lies in a repository's `.git`");
    }
    let below = format!("{path}/");
    match LIST.iter().find(|rule| rule.path.starts_with(&below)) {
        Some(rule) => wrong(&format!("it holds `{}`", rule.path)),
        None => Ok(()),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Secret,
    Startup,
    Guard,
}

struct Rule {
    kind: Kind,
    path: &'static str,
}

static LIST: LazyLock<Vec<Rule>> = LazyLock::new(|| RULES.lines().filter_map(parse).collect());

fn parse(line: &'static str) -> Option<Rule> {
    let (kind, path) = line.split_once(' ')?;
    let kind = match kind {
        "secret" => Kind::Secret,
        "startup" => Kind::Startup,
        "guard" => Kind::Guard,
        _ => return None,
    };
    Some(Rule { kind, path: path.trim() })
}

fn of(kind: Kind) -> impl Iterator<Item = &'static str> {
    LIST.iter().filter(move |rule| rule.kind == kind).map(|rule| rule.path)
}

impl Rule {
    fn covers(&self, path: &str) -> bool {
        let parts: Vec<&str> = path.split('/').collect();
        let wanted: Vec<&str> = self.path.split('/').collect();
        match self.kind {
            Kind::Secret | Kind::Startup => parts.starts_with(&wanted),
            Kind::Guard => parts.windows(wanted.len()).any(|window| window == wanted),
        }
    }

    /// Whether the path is that of a folder on the way to what is protected.
    fn lies_below(&self, path: &str) -> bool {
        let parts: Vec<&str> = path.split('/').collect();
        let wanted: Vec<&str> = self.path.split('/').collect();
        match self.kind {
            Kind::Secret | Kind::Startup => wanted.len() > parts.len() && wanted.starts_with(&parts),
            Kind::Guard => (1..wanted.len()).any(|length| parts.ends_with(&wanted[..length])),
        }
    }
}

/// Whether a thing that is not a folder may stand at this path: a `.git` that is a file or a link
/// can point at a repository with hooks anywhere.
pub fn must_be_folder(path: &str) -> bool {
    path == ".git" || path.ends_with("/.git")
}

/// Inside a repository's `.git` folder, any `hooks` folder or `config` file (of a submodule or a
/// worktree) is obeyed as well, and `commondir` says where else git finds them.
pub fn why_refused_in_git(path: &str) -> Option<String> {
    within_git(path)?
        .into_iter()
        .find(|part| matches!(*part, "hooks" | "config" | "config.worktree" | "commondir"))
        .map(|part| format!("`{part}` of a repository is obeyed by git"))
}

/// The parts of a path after `.git/modules` or `.git/worktrees`, if it is or lies in one of them.
fn within_git(path: &str) -> Option<Vec<&str>> {
    let parts: Vec<&str> = path.split('/').collect();
    let at = parts.windows(2).position(|pair| pair[0] == ".git" && matches!(pair[1], "modules" | "worktrees"))?;
    Some(parts[at + 2..].to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_data_file_is_a_rule_or_a_comment() {
        let lines = RULES.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).count();
        assert_eq!(lines, LIST.len());
        assert!(secret().any(|path| path == ".ssh"));
        assert!(LIST.iter().all(|rule| !rule.path.starts_with('/') && !rule.path.contains("..")));
    }

    #[test]
    fn rules_cover_what_they_name_and_no_more() {
        for (path, refused) in [
            (".ssh", true),
            (".ssh/id", true),
            (".bashrc", true),
            ("sub/.ssh/id", false),
            (".sshx", false),
            (".git/config", true),
            ("deep/sub/.git/hooks/post-commit", true),
            (".git/HEAD", false),
            ("x.git/config", false),
            (".config/gcloud/token", true),
            (".config/other", false),
        ] {
            assert_eq!(why_refused(path).is_some(), refused, "{path}");
        }
        assert!(why_refused_in_git("a/.git/modules/m/config").is_some());
        assert!(why_refused_in_git("a/config").is_none());
        assert!(why_refused_in_git(".git/refs/heads/config").is_none());
        assert!(why_refused_in_git("a/.git/worktrees/w/commondir").is_some());
        assert!(must_be_folder("a/.git") && !must_be_folder("a/x.git"));
    }

    #[test]
    fn no_link_may_stand_on_the_way_to_what_is_protected() {
        for path in [".cargo", ".config", ".local", ".local/share", ".m2", "s/.git/info", "s/.git", ".git/modules/m"] {
            assert!(refusal(path, Shape::Link).is_some(), "{path}");
            let is_git = must_be_folder(path);
            // The configuration of a kernel is a file of the name `.config`.
            assert_eq!(refusal(path, Shape::Other).is_some(), is_git, "{path}");
            assert!(refusal(path, Shape::Folder).is_none(), "{path}");
        }
        for path in ["sub/.cargo", "info", ".configure", "a/.git/refs", "link"] {
            assert!(refusal(path, Shape::Link).is_none(), "{path}");
        }
    }
}
