//! Paths of a workspace that calls may not read or change, from `data/protected.txt`.

use std::sync::LazyLock;

const RULES: &str = include_str!("../data/protected.txt");

/// Out of reach when they exist, never merged; top level.
pub fn secret() -> impl Iterator<Item = &'static str> {
    of(Kind::Secret)
}

/// Readable, never changed; top level. Those under `guard` are added, where they stand at the top.
pub fn fixed() -> impl Iterator<Item = &'static str> {
    of(Kind::Startup).chain(of(Kind::Guard))
}

/// Why nothing of this kind may be put at this path, if nothing may.
pub fn refusal(path: &str, is_folder: bool) -> Option<String> {
    if must_be_folder(path) && !is_folder {
        return Some("`.git` that is not a folder can point git anywhere".to_owned());
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
}

/// Whether a thing that is not a folder may stand at this path: a `.git` that is a file or a link
/// can point at a repository with hooks anywhere.
pub fn must_be_folder(path: &str) -> bool {
    path == ".git" || path.ends_with("/.git")
}

/// Inside a repository's `.git` folder, any `hooks` folder or `config` file (of a submodule or a
/// worktree) is obeyed as well.
pub fn why_refused_in_git(path: &str) -> Option<String> {
    let mut parts = path.split('/').skip_while(|part| *part != ".git").skip(1);
    if !matches!(parts.next(), Some("modules" | "worktrees")) {
        return None;
    }
    parts
        .find(|part| matches!(*part, "hooks" | "config" | "config.worktree"))
        .map(|part| format!("`{part}` of a repository is obeyed by git"))
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
        assert!(must_be_folder("a/.git") && !must_be_folder("a/x.git"));
    }
}
