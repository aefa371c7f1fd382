//! Globs that cost nothing until a path is held against them: a policy is read several times before the first
//! action, and most of its patterns never meet a path.

use std::sync::OnceLock;

use globset::GlobBuilder;
use regex_automata::{meta::Regex, util::syntax};

/// A glob in which `*` stays within a folder and `**` does not.
#[derive(Debug, Clone)]
pub(crate) struct Glob {
    regex: String,
    matcher: OnceLock<Option<Regex>>,
}

impl Glob {
    pub(crate) fn parse(glob: &str) -> Result<Self, String> {
        let glob = GlobBuilder::new(glob)
            .literal_separator(true)
            .build()
            .map_err(|error| format!("`{glob}` is not a path pattern: {}", error.kind()))?;
        Ok(Self { regex: glob.regex().to_owned(), matcher: OnceLock::new() })
    }

    /// `None`: it cannot be said.
    pub(crate) fn matches(&self, path: &str) -> Option<bool> {
        let matcher = self.matcher.get_or_init(|| build(&self.regex)).as_ref()?;
        Some(matcher.is_match(path.as_bytes()))
    }
}

/// Without the automaton that is worked out whole beforehand: of all patterns together that took half of the time
/// until a run's first request.
fn build(regex: &str) -> Option<Regex> {
    let syntax = syntax::Config::new().utf8(false).dot_matches_new_line(true);
    let config = Regex::config().utf8_empty(false).dfa(false).onepass(false);
    Regex::builder().syntax(syntax).configure(config).build(regex).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_and_folders() {
        for (glob, path, expected) in [
            ("**/.env", ".env", true),
            ("**/.env", "a/b/.env", true),
            ("**/.env", "a/.envrc", false),
            ("**/*.pem", "a/.pem", true),
            ("a/*", "a/b/c", false),
            ("a/**", "a/b/c", true),
            ("a/**", "a", false),
            ("a?c", "a/c", false),
            ("{a,b}/[!x]", "b/y", true),
            ("{a,b}/[!x]", "b/x", false),
            ("**", "a\nb/\u{e4}", true),
        ] {
            assert_eq!(Glob::parse(glob).unwrap().matches(path), Some(expected), "{glob} on {path:?}");
        }
    }

    #[test]
    fn the_longest_pattern_can_be_matched() {
        for part in ["?", "*", "[a-z]", "{a,b}", "**/", "\u{1f600}"] {
            let glob = Glob::parse(&part.repeat(1_000 / part.len())).unwrap();
            assert!(glob.matches("x").is_some(), "{part}");
        }
    }
}
