//! Grants: what a profile may touch at all. What no grant covers is denied before any rule is tried.

use homarus_contract::{action::Resource, ids::Hash};
use thiserror::Error;

use crate::{
    pattern::{Pattern, Target, TargetKind, kind_of},
    shell::{CommandLine, Simple},
};

const GRANTS_MAX: usize = 200;

/// The grants of a profile, such as `shell:run`, `shell:run:make *`, `file:read:./**`.
#[derive(Debug, Clone)]
pub struct Grants {
    patterns: Vec<Pattern>,
}

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum GrantError {
    #[error("the grant `{grant}` cannot be read: {message}")]
    Invalid { grant: String, message: String },
    #[error("a profile may hold at most {GRANTS_MAX} grants")]
    TooMany,
}

impl Grants {
    pub fn parse<S: AsRef<str>>(grants: &[S]) -> Result<Self, GrantError> {
        if grants.len() > GRANTS_MAX {
            return Err(GrantError::TooMany);
        }
        let parse = |grant: &S| {
            let grant = grant.as_ref();
            Pattern::parse(grant).map_err(|message| GrantError::Invalid { grant: grant.to_owned(), message })
        };
        Ok(Self { patterns: grants.iter().map(parse).collect::<Result<_, _>>()? })
    }

    /// The grants that cover a resource, or `None` where one is missing. A command line is covered
    /// when each of its commands is.
    pub fn covering(&self, resource: &Resource) -> Option<Vec<&str>> {
        let mut used: Vec<&str> = match kind_of(&resource.verb)? {
            TargetKind::Path | TargetKind::Host | TargetKind::Name => {
                let covers = |pattern: &&Pattern| pattern.matches(resource, true);
                vec![self.patterns.iter().find(covers)?.text()]
            }
            TargetKind::CommandLine => self.covering_line(resource)?,
        };
        used.dedup();
        Some(used)
    }

    /// Whether a grant names this very target, without a `*`.
    pub fn name(&self, resource: &Resource) -> bool {
        self.patterns.iter().any(|pattern| pattern.is_exact() && pattern.matches(resource, true))
    }

    /// Binds an approval to the grants it was given under.
    pub fn hash(&self) -> Hash {
        Hash::of_parts(self.patterns.iter().map(|pattern| pattern.text().as_bytes()))
    }

    fn covering_line(&self, resource: &Resource) -> Option<Vec<&str>> {
        let of_verb = || self.patterns.iter().filter(|pattern| pattern.covers_verb(&resource.verb));
        if let Some(unrestricted) = of_verb().find(|pattern| pattern.is_unrestricted()) {
            return Some(vec![unrestricted.text()]);
        }
        let line = CommandLine::parse(&resource.target);
        if line.too_complex || line.opaque.is_some() || line.commands.is_empty() {
            return None;
        }
        let mut used = Vec::new();
        for command in &line.commands {
            cover(command, &|| of_verb(), &mut used)?;
        }
        Some(used)
    }
}

/// Whether a pattern that grants something covers one command as it stands. A redirection into a file
/// must be part of the pattern: `echo *` does not cover `echo x > f`.
pub(crate) fn pattern_allows(pattern: &Pattern, command: &Simple, text: &str) -> bool {
    match pattern.target() {
        Target::Any => true,
        Target::Command(wildcard) if wildcard.is_any() => true,
        Target::Command(wildcard) => (!command.writes_by_redirect || wildcard.contains('>')) && wildcard.matches(text),
        Target::Path(_) | Target::Host(_) | Target::Name(_) => false,
    }
}

fn cover<'p, I>(command: &Simple, patterns: &dyn Fn() -> I, used: &mut Vec<&'p str>) -> Option<()>
where
    I: Iterator<Item = &'p Pattern>,
{
    let text = command.text();
    if let Some(pattern) = patterns().find(|pattern| pattern_allows(pattern, command, &text)) {
        used.push(pattern.text());
        return Some(());
    }
    if !command.transparent {
        return None;
    }
    command.inner.iter().try_for_each(|inner| cover(inner, patterns, used))
}
