//! Policy files: the TOML that people write, read with every mistake named by file and line.

use std::{collections::BTreeSet, fmt};

use homarus_contract::ids::Hash;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use crate::{pattern::Pattern, suggest};

const FILE_BYTES_MAX: usize = 256 * 1024;
const RULES_MAX: usize = 1_000;
const PATTERNS_PER_RULE_MAX: usize = 200;
const REASON_CHARS_MAX: usize = 1_000;

const FILE_KEYS: &[&str] = &["default", "rule"];
const RULE_KEYS: &[&str] = &["effect", "match", "reason", "when"];
const EFFECTS: &[&str] = &["allow", "ask", "deny"];
const WHENS: &[&str] = &["before-run", "before-merge"];

/// What a rule says. Ordered by strength: of several, the greatest counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    Allow,
    Ask,
    Deny,
}

/// When an `ask` is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// After the call ran in its own layer, before that is merged: the person sees what it did.
    BeforeMerge,
    BeforeRun,
}

/// One `[[rule]]`.
#[derive(Debug, Clone)]
pub struct Rule {
    pub effect: Effect,
    /// `None`: as the class of the action suggests.
    pub when: Option<When>,
    pub patterns: Vec<RulePattern>,
    pub reason: String,
}

/// A pattern of a rule and where it stands.
#[derive(Debug, Clone)]
pub struct RulePattern {
    pub pattern: Pattern,
    /// Counts from 1.
    pub line: usize,
}

/// An ordered list of rules and what holds where none matches.
#[derive(Debug, Clone)]
pub struct Policy {
    name: String,
    default: Effect,
    rules: Vec<Rule>,
    hash: Hash,
}

/// A mistake in a policy file.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{name}:{line}: {message}")]
pub struct PolicyError {
    pub name: String,
    /// Counts from 1.
    pub line: usize,
    pub message: String,
}

impl Policy {
    /// Reads a policy file. `name` is how decisions and errors refer to it.
    pub fn parse(name: &str, text: &str) -> Result<Self, PolicyError> {
        let reader = Reader { name, text };
        if text.len() > FILE_BYTES_MAX {
            return Err(reader.error(0, format!("the file has more than {FILE_BYTES_MAX} bytes")));
        }
        let table = DeTable::parse(text)
            .map_err(|error| reader.error(error.span().map_or(0, |span| span.start), error.message().to_owned()))?;
        reader.policy(table.get_ref())
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// What holds where no rule matches.
    pub fn default_effect(&self) -> Effect {
        self.default
    }

    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Of the source text and the name: what an approval given under these rules is bound to.
    pub fn hash(&self) -> Hash {
        self.hash
    }

    /// How decisions name a rule: `rules.toml:12 deny shell:run:rm *`.
    pub(crate) fn label(&self, rule: &Rule, pattern: &RulePattern) -> String {
        format!("{}:{} {} {}", self.name, pattern.line, rule.effect, pattern.pattern.text())
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Effect::Allow => "allow",
            Effect::Ask => "ask",
            Effect::Deny => "deny",
        })
    }
}

/// Turns spans of the file into line numbers.
struct Reader<'a> {
    name: &'a str,
    text: &'a str,
}

type Table<'a> = DeTable<'a>;
type Value<'a> = Spanned<DeValue<'a>>;

impl Reader<'_> {
    fn policy(&self, table: &Table<'_>) -> Result<Policy, PolicyError> {
        self.known_keys(table, FILE_KEYS)?;
        let mut policy = Policy {
            name: self.name.to_owned(),
            default: Effect::Ask,
            rules: Vec::new(),
            hash: Hash::of_parts([self.name.as_bytes(), self.text.as_bytes()]),
        };
        if let Some(value) = get(table, "default") {
            policy.default = self.effect(value)?;
        }
        let Some(rules) = get(table, "rule") else { return Ok(policy) };
        let Some(list) = rules.get_ref().as_array() else {
            return Err(self.error(rules.span().start, "rules are written as `[[rule]]`, with two brackets".to_owned()));
        };
        if list.len() > RULES_MAX {
            return Err(self.error(rules.span().start, format!("a file may hold at most {RULES_MAX} rules")));
        }
        for value in list {
            policy.rules.push(self.rule(value)?);
        }
        Ok(policy)
    }

    fn rule(&self, value: &Value<'_>) -> Result<Rule, PolicyError> {
        let at = value.span().start;
        let table = value
            .get_ref()
            .as_table()
            .ok_or_else(|| self.error(at, "a rule is a table: `[[rule]]`, then `effect = ...`".to_owned()))?;
        self.known_keys(table, RULE_KEYS)?;
        let missing = |key: &str| self.error(at, format!("this rule has no `{key}`"));
        let effect = self.effect(get(table, "effect").ok_or_else(|| missing("effect"))?)?;
        let patterns = self.patterns(get(table, "match").ok_or_else(|| missing("match"))?)?;
        let when = get(table, "when").map(|value| self.when(value, effect)).transpose()?;
        let reason = match get(table, "reason") {
            Some(value) => self.string(value, "reason")?.chars().take(REASON_CHARS_MAX).collect(),
            None if effect == Effect::Deny => {
                return Err(self.error(at, "a `deny` needs a `reason`: people and the model are shown it".to_owned()));
            }
            None => String::new(),
        };
        Ok(Rule { effect, when, patterns, reason })
    }

    fn patterns(&self, value: &Value<'_>) -> Result<Vec<RulePattern>, PolicyError> {
        let one = |value: &Value<'_>| {
            let at = value.span().start;
            let pattern = Pattern::parse(self.string(value, "match")?).map_err(|message| self.error(at, message))?;
            Ok(RulePattern { pattern, line: self.line(at) })
        };
        let Some(list) = value.get_ref().as_array() else { return Ok(vec![one(value)?]) };
        if list.is_empty() || list.len() > PATTERNS_PER_RULE_MAX {
            let message = format!("`match` holds between 1 and {PATTERNS_PER_RULE_MAX} patterns");
            return Err(self.error(value.span().start, message));
        }
        list.iter().map(one).collect()
    }

    fn effect(&self, value: &Value<'_>) -> Result<Effect, PolicyError> {
        match self.string(value, "effect")? {
            "allow" => Ok(Effect::Allow),
            "ask" => Ok(Effect::Ask),
            "deny" => Ok(Effect::Deny),
            other => Err(self.unknown(value, "effect", other, EFFECTS)),
        }
    }

    fn when(&self, value: &Value<'_>, effect: Effect) -> Result<When, PolicyError> {
        let when = match self.string(value, "when")? {
            "before-run" => When::BeforeRun,
            "before-merge" => When::BeforeMerge,
            other => return Err(self.unknown(value, "when", other, WHENS)),
        };
        if effect == Effect::Ask {
            return Ok(when);
        }
        Err(self.error(value.span().start, format!("`when` belongs to `ask`; this rule says `{effect}`")))
    }

    fn string<'v>(&self, value: &'v Value<'_>, key: &str) -> Result<&'v str, PolicyError> {
        value.get_ref().as_str().ok_or_else(|| {
            self.error(value.span().start, format!("`{key}` takes text, not {}", value.get_ref().type_str()))
        })
    }

    fn known_keys(&self, table: &Table<'_>, known: &[&str]) -> Result<(), PolicyError> {
        let known_set: BTreeSet<&str> = known.iter().copied().collect();
        match table.keys().find(|key| !known_set.contains(key.get_ref().as_ref())) {
            Some(key) => {
                let message = format!("unknown key `{}`{}", key.get_ref(), suggest::hint(key.get_ref(), known));
                Err(self.error(key.span().start, message))
            }
            None => Ok(()),
        }
    }

    fn unknown(&self, value: &Value<'_>, what: &str, text: &str, known: &[&str]) -> PolicyError {
        self.error(value.span().start, format!("unknown {what} `{text}`{}", suggest::hint(text, known)))
    }

    fn error(&self, at: usize, message: String) -> PolicyError {
        PolicyError { name: self.name.to_owned(), line: self.line(at), message }
    }

    fn line(&self, at: usize) -> usize {
        let before = self.text.as_bytes().get(..at).unwrap_or(self.text.as_bytes());
        1 + before.iter().filter(|byte| **byte == b'\n').count()
    }
}

fn get<'t, 'i>(table: &'t Table<'i>, key: &str) -> Option<&'t Value<'i>> {
    table.iter().find(|(name, _)| name.get_ref() == key).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_error(text: &str, line: usize, words: &str) {
        let error = Policy::parse("rules.toml", text).unwrap_err();
        assert_eq!(error.line, line, "{error}");
        assert!(error.to_string().contains(words), "{error}");
        assert!(error.to_string().starts_with("rules.toml:"));
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        check_error("[[rule]]\neffect = 'alow'\nmatch = 'shell:run'", 2, "did you mean `allow`");
        check_error("[[rule]]\neffect = 'allow'\nmacth = 'shell:run'", 3, "did you mean `match`");
        check_error("\n[[rules]]\neffect = 'allow'", 2, "did you mean `rule`");
        check_error("[[rule]]\neffect = 'ask'\nmatch = ['shell:run', \n 'shel:run']", 4, "did you mean `shell:run`");
        check_error("[[rule]]\neffect = 'deny'\nmatch = 'shell:run'", 1, "needs a `reason`");
        check_error("[[rule]]\nmatch = 'shell:run'", 1, "no `effect`");
        check_error("[[rule]]\neffect = 'ask'", 1, "no `match`");
        check_error("[[rule]]\neffect = 'ask'\nmatch = []", 3, "between 1 and");
        check_error("[[rule]]\neffect = 'ask'\nmatch = 5", 3, "takes text");
        check_error("[[rule]]\neffect = 'allow'\nmatch = 'shell:run'\nwhen = 'before-run'", 4, "belongs to `ask`");
        check_error("[[rule]]\neffect = 'ask'\nmatch = 'shell:run'\nwhen = 'before'", 4, "unknown when");
        check_error("[rule]\neffect = 'ask'", 1, "two brackets");
        check_error("default = 'maybe'", 1, "unknown effect");
        check_error("\n\nthis is not toml", 3, "");
        check_error(&"#".repeat(FILE_BYTES_MAX + 1), 1, "more than");
    }

    #[test]
    fn the_default_is_to_ask_and_the_hash_is_of_the_text() {
        let empty = Policy::parse("a", "").unwrap();
        assert_eq!(empty.default_effect(), Effect::Ask);
        assert_eq!(empty.hash(), Policy::parse("a", "").unwrap().hash());
        assert_ne!(empty.hash(), Policy::parse("a", "default = 'deny'").unwrap().hash());
        assert_ne!(empty.hash(), Policy::parse("b", "").unwrap().hash());
    }
}
