//! `VERB:TARGET` patterns: the part rules and grants have in common.

use homarus_contract::action::Resource;

use crate::{
    glob::Glob,
    host::{Endpoint, HostPattern},
    path::{Place, place},
    suggest,
    wildcard::Wildcard,
};

/// What a target of a verb is, and so how it is matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetKind {
    Path,
    CommandLine,
    /// `HOST:PORT`
    Host,
    /// A name, such as an agent's.
    Name,
}

/// Every verb there is. A new verb is a row here.
pub const VERBS: &[(&str, TargetKind)] = &[
    ("file:read", TargetKind::Path),
    ("file:write", TargetKind::Path),
    ("shell:run", TargetKind::CommandLine),
    ("net:connect", TargetKind::Host),
    ("web:search", TargetKind::Host),
    ("browser:open", TargetKind::Host),
    ("browser:act", TargetKind::Host),
    ("browser:read", TargetKind::Host),
    ("memory:write", TargetKind::Name),
    ("skill:read", TargetKind::Name),
];

const PATTERN_BYTES_MAX: usize = 1_000;

/// A pattern such as `file:write:./src/**`, `shell:run:make *`, `file:*:./secrets/**`, `shell:run` or `*`.
#[derive(Debug, Clone)]
pub struct Pattern {
    text: String,
    verbs: Vec<&'static str>,
    target: Target,
}

#[derive(Debug, Clone)]
pub enum Target {
    /// No target written: whatever the verb applies to.
    Any,
    Path(PathPattern),
    Command(Wildcard),
    Host(HostPattern),
    Name(Wildcard),
}

impl Pattern {
    /// Reads a pattern. The error says what is wrong with it, without saying where it stood.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > PATTERN_BYTES_MAX {
            return Err(format!("a pattern may have at most {PATTERN_BYTES_MAX} bytes"));
        }
        if text == "*" {
            let verbs = VERBS.iter().map(|(verb, _)| *verb).collect();
            return Ok(Self { text: text.to_owned(), verbs, target: Target::Any });
        }
        let mut parts = text.splitn(3, ':');
        let (Some(noun), Some(act)) = (parts.next(), parts.next()) else {
            return Err(format!(
                "`{text}` is not a pattern; write `VERB` or `VERB:TARGET`{}",
                suggest::hint(text, &verb_names())
            ));
        };
        let known: Vec<_> = VERBS.iter().filter(|(verb, _)| verb_matches(verb, noun, act)).collect();
        let Some((_, kind)) = known.first() else {
            let verb = format!("{noun}:{act}");
            return Err(format!("unknown verb `{verb}`{}", suggest::hint(&verb, &verb_names())));
        };
        let verbs = known.iter().map(|(verb, _)| *verb).collect();
        let Some(target) = parts.next() else {
            return Ok(Self { text: text.to_owned(), verbs, target: Target::Any });
        };
        if target.trim() != target || target.is_empty() {
            return Err(format!("the target of `{text}` is empty or has spaces around it"));
        }
        if known.iter().any(|(_, other)| other != kind) {
            return Err(format!(
                "`{noun}:{act}` stands for paths, command lines and hosts at once: write one pattern for each"
            ));
        }
        let target = match kind {
            TargetKind::Path => Target::Path(PathPattern::parse(target)?),
            TargetKind::CommandLine => Target::Command(Wildcard::new(target)),
            TargetKind::Host => Target::Host(HostPattern::parse(target)?),
            TargetKind::Name => Target::Name(Wildcard::new(target)),
        };
        Ok(Self { text: text.to_owned(), verbs, target })
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    pub fn target(&self) -> &Target {
        &self.target
    }

    pub fn covers_verb(&self, verb: &str) -> bool {
        self.verbs.contains(&verb)
    }

    /// Matches whatever the verb applies to.
    pub fn is_unrestricted(&self) -> bool {
        match &self.target {
            Target::Any => true,
            Target::Command(wildcard) => wildcard.is_any(),
            Target::Path(_) | Target::Host(_) | Target::Name(_) => false,
        }
    }

    /// Names its one target itself: a host and port without a `*`.
    pub fn is_exact(&self) -> bool {
        matches!(&self.target, Target::Host(host) if host.is_exact())
    }

    /// For all verbs but those of command lines. `permissive`: the pattern grants something, so a path
    /// matches narrowly; otherwise (deny, ask) it also covers what is below a folder it names.
    pub fn matches(&self, resource: &Resource, permissive: bool) -> bool {
        self.covers_verb(&resource.verb)
            && match &self.target {
                Target::Any => true,
                Target::Path(pattern) => pattern.matches(&place(&resource.target), permissive),
                Target::Host(pattern) => {
                    // What cannot be read is what nobody may reach.
                    Endpoint::parse(&resource.target).map_or(!permissive, |endpoint| pattern.matches(&endpoint))
                }
                Target::Name(wildcard) => wildcard.matches(&resource.target),
                Target::Command(_) => false,
            }
    }
}

/// The kind of a verb; `None` if there is no such verb.
pub fn kind_of(verb: &str) -> Option<TargetKind> {
    VERBS.iter().find(|(name, _)| *name == verb).map(|(_, kind)| *kind)
}

/// A path pattern with the habits of `.gitignore`: `*` stays within a folder, `**` does not, a pattern
/// without `/` matches that name in any folder, `./` or any other `/` anchors it at the workspace.
#[derive(Debug, Clone)]
pub struct PathPattern {
    /// Written with a leading `/`: for paths outside the workspace.
    absolute: bool,
    /// Written with a leading `./`: means this workspace only.
    anchored: bool,
    glob: Glob,
    /// For `X/**`: matches `X` itself.
    folder: Option<Glob>,
}

impl PathPattern {
    fn parse(text: &str) -> Result<Self, String> {
        let absolute = text.starts_with('/');
        let anchored = text.starts_with("./");
        let bare = text.trim_start_matches("./").trim_start_matches('/').trim_end_matches('/');
        if bare.split('/').any(|part| part == "..") {
            return Err(format!("`{text}` holds `..`: write an absolute path for what is outside the workspace"));
        }
        let glob = match bare {
            "" | "." => "**".to_owned(),
            bare if !absolute && !anchored && !bare.contains('/') => format!("**/{bare}"),
            bare => bare.to_owned(),
        };
        let folder = glob.strip_suffix("/**").map(Glob::parse).transpose()?;
        Ok(Self { absolute, anchored, glob: Glob::parse(&glob)?, folder })
    }

    fn matches(&self, place: &Place, permissive: bool) -> bool {
        match place {
            Place::Inside(path) => !self.absolute && self.hits(path, permissive),
            Place::Outside(path) if self.absolute => path.starts_with('/') && self.hits(&path[1..], permissive),
            // `**/.env` denied means denied, wherever it is; but nothing outside is granted by such a pattern.
            Place::Outside(path) if !permissive && !self.anchored => {
                self.hits(path.trim_start_matches("../").trim_start_matches('/'), false)
            }
            Place::Outside(_) => false,
        }
    }

    fn hits(&self, path: &str, permissive: bool) -> bool {
        // Where it cannot be said, nothing is granted and nothing goes undenied.
        let is_hit = |glob: &Glob, path: &str| glob.matches(path).unwrap_or(!permissive);
        let hit =
            |path: &str| is_hit(&self.glob, path) || self.folder.as_ref().is_some_and(|folder| is_hit(folder, path));
        if hit(path) {
            return true;
        }
        !permissive && path.match_indices('/').any(|(at, _)| hit(&path[..at]))
    }
}

fn verb_matches(verb: &str, noun: &str, act: &str) -> bool {
    let (verb_noun, verb_act) = verb.split_once(':').unwrap_or((verb, ""));
    (noun == "*" || noun == verb_noun) && (act == "*" || act == verb_act)
}

fn verb_names() -> Vec<&'static str> {
    VERBS.iter().map(|(verb, _)| *verb).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, target: &str, permissive: bool, expected: bool) {
        let resource = Resource { verb: "file:read".to_owned(), target: target.to_owned() };
        let pattern_parsed = Pattern::parse(&format!("file:read:{pattern}")).unwrap();
        assert_eq!(pattern_parsed.matches(&resource, permissive), expected, "{pattern:?} on {target:?}");
    }

    #[test]
    fn granting_patterns_stay_in_the_workspace() {
        for inside in [".", "a", "a/b", "./a/../b", ".git/x"] {
            check("./**", inside, true, true);
        }
        for outside in ["..", "../a", "a/../../b", "/etc/passwd", "/"] {
            check("./**", outside, true, false);
            check("**", outside, true, false);
            check("*", outside, true, false);
        }
        check("/etc/**", "/etc/ssl/x", true, true);
        check("/etc/**", "etc/ssl/x", true, false);
        check("/etc/**", "/etc/../root/x", true, false);
    }

    #[test]
    fn names_folders_and_anchors() {
        check("*.md", "docs/a.md", true, true);
        check("./*.md", "docs/a.md", true, false);
        check("./*.md", "a.md", true, true);
        check("./docs/**", "docs", true, true);
        check("./docs/**", "docs/a/b", true, true);
        check("docs/*", "docs/a/b", true, false);
        check("./docs", "docs/a", true, false);
        check("./docs", "docs/a", false, true);
        check("secrets", "a/secrets/b", false, true);
        check("./secrets/**", "a/../secrets/b", false, true);
        check("**/.env", ".env", false, true);
        check(".env", "../other/.env", false, true);
        check(".env", "/root/.env", false, true);
    }

    #[test]
    fn wrong_patterns_say_why() {
        for (text, words) in [
            ("file:raed:./x", "did you mean `file:read`"),
            ("shell:runs", "did you mean `shell:run`"),
            ("rm *", "write `VERB` or `VERB:TARGET`"),
            ("*:*:x", "at once"),
            ("net:conect:x:1", "did you mean `net:connect`"),
            ("net:connect:example.org", "port is missing"),
            ("file:read:", "empty"),
            ("file:read:../x", "absolute path"),
            ("file:read:a[", "not a path pattern"),
        ] {
            let error = Pattern::parse(text).unwrap_err();
            assert!(error.contains(words), "{text:?}: {error}");
        }
    }
}
