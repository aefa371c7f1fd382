//! Every key of the configuration: its place, type, bounds, default and what it is for.
//!
//! The shipped default names the keys, their defaults and their descriptions; the type follows from the
//! default. Only what a default cannot say, bounds and the meaning of texts, is declared here.

use std::{fmt, ops::Range};

use homarus_contract::model::ModelRef;
use toml_edit::{DocumentMut, Item, Table, Value};

use super::{DEFAULT, limits};
use crate::{exit::CliError, nearest::nearest, providers::Own, route::Route};

#[derive(Debug, Clone)]
pub struct Key {
    /// Its tables and its name, with dots between: `budget.steps`.
    pub path: String,
    pub kind: Kind,
    pub default: Value,
    /// The comment above it in the default.
    pub about: String,
    /// The key whose value holds where this one is not set.
    pub follows: Option<String>,
}

/// What a value may be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    Flag,
    Whole {
        min: i64,
        max: i64,
    },
    Amount {
        min: f64,
        max: f64,
    },
    Text,
    /// An http(s) address, or nothing.
    Address,
    Texts,
    /// `PROVIDER/MODEL` texts.
    Models,
    /// Rules of [`crate::route`].
    Routes,
    /// Providers of one's own: [`crate::providers`].
    Providers,
    /// Folders of the workspace that calls write to directly.
    CachePaths,
    /// The name of a browser's profile, or nothing.
    BrowserProfile,
    /// What an agent may touch, as in `shell:run:make *`.
    Grants,
}

/// What the defaults cannot say. A number without bounds of its own is refused by a test.
const KINDS: &[(&str, Kind)] = &[
    ("models.order", Kind::Models),
    ("models.output_tokens_max", whole(1, 1_000_000)),
    ("models.answer_s", whole(1, DAY_S)),
    ("models.route", Kind::Routes),
    ("models.provider", Kind::Providers),
    ("models.failover.failures", whole(1, 100)),
    ("models.failover.open_s", whole(1, DAY_S)),
    ("models.local.context_tokens", whole(512, 131_072)),
    ("models.local.idle_s", whole(1, DAY_S)),
    ("models.local.memory_mb", whole(64, TIB_MB)),
    ("budget.usd", Kind::Amount { min: 0.0, max: 1_000_000.0 }),
    ("budget.tokens", whole(1, 1_000_000_000_000)),
    ("budget.steps", whole(1, 100_000)),
    ("budget.wall_s", whole(1, YEAR_S)),
    ("limits.wall_s", whole(1, DAY_S)),
    ("limits.cpu_s", whole(1, DAY_S)),
    ("limits.memory_mb", whole(16, TIB_MB)),
    ("limits.processes", whole(1, 4_194_304)),
    ("limits.open_files", whole(16, 1_048_576)),
    ("limits.file_mb", whole(1, TIB_MB)),
    ("limits.output_mb", whole(1, 1_024)),
    ("limits.calls_at_once", whole(1, 16)),
    ("sandbox.cache_paths", Kind::CachePaths),
    ("undo.file_mb", whole(1, 256)),
    ("undo.call_mb", whole(1, 1_024)),
    ("runs.keep_days", whole(0, 36_500)),
    ("policy.grants", Kind::Grants),
    ("approvals.expire_s", whole(1, YEAR_S)),
    ("search.url", Kind::Address),
    ("browser.profile", Kind::BrowserProfile),
    ("browser.memory_mb", whole(256, TIB_MB)),
];

const DAY_S: i64 = 86_400;
const YEAR_S: i64 = 31_536_000;
const TIB_MB: i64 = 1_048_576;

const fn whole(min: i64, max: i64) -> Kind {
    Kind::Whole { min, max }
}

/// All keys, in the order of the default; after them those of single tools.
#[derive(Debug)]
pub struct Keys(Vec<Key>);

impl Keys {
    pub fn all() -> Result<Self, CliError> {
        let document: DocumentMut = DEFAULT
            .parse()
            .map_err(|error| CliError::failed("the built-in configuration cannot be read").cause(error))?;
        let mut keys = Vec::new();
        collect(document.as_table(), "", &mut keys);
        keys.extend(limits::of_tools(&keys));
        Ok(Self(keys))
    }

    /// Those of the default.
    pub fn iter(&self) -> impl Iterator<Item = &Key> {
        self.0.iter().filter(|key| key.follows.is_none())
    }

    /// Those of single tools.
    pub fn of_tools(&self) -> impl Iterator<Item = &Key> {
        self.0.iter().filter(|key| key.follows.is_some())
    }

    pub fn find(&self, path: &str) -> Option<&Key> {
        self.0.iter().find(|key| key.path == path)
    }

    /// Whether it is a table of keys.
    pub fn is_table(&self, path: &str) -> bool {
        self.0.iter().any(|key| key.is_in(path))
    }

    /// The key or table that was probably meant.
    pub fn meant(&self, path: &str) -> Option<&str> {
        if limits::are_of_tools(path) {
            return self.meant_of_tools(path);
        }
        let name = path.rsplit('.').next().unwrap_or(path);
        let whole = || nearest(path, self.iter().map(|key| key.path.as_str()));
        // The right name in the wrong table, if there is only one such name.
        let mut same = self.iter().filter(|key| key.name() == name).map(|key| key.path.as_str());
        let elsewhere = match (same.next(), same.next()) {
            (Some(only), None) => Some(only),
            _ => None,
        };
        elsewhere.or_else(whole).or_else(|| nearest(path, self.tables()))
    }

    pub(super) fn tables(&self) -> impl Iterator<Item = &str> {
        self.0.iter().flat_map(|key| key.path.match_indices('.').map(|(end, _)| &key.path[..end]))
    }
}

impl Key {
    pub fn name(&self) -> &str {
        self.path.rsplit('.').next().unwrap_or(&self.path)
    }

    pub fn is_in(&self, table: &str) -> bool {
        self.path.strip_prefix(table).is_some_and(|rest| rest.starts_with('.'))
    }
}

impl Kind {
    /// What a value lacks to be of this kind, and where in the text that is.
    pub fn check(self, value: &Value) -> Result<(), (Option<Range<usize>>, String)> {
        let wrong = |value: &Value, found: &str| Err((value.span(), format!("expected {self}, found {found}")));
        match (self, value) {
            (Self::Flag, Value::Boolean(_)) | (Self::Text, Value::String(_)) => Ok(()),
            (Self::Address | Self::BrowserProfile, Value::String(text)) => {
                self.check_text(text.value()).map_err(|message| (value.span(), message))
            }
            (Self::Whole { min, max }, Value::Integer(number)) => {
                let number = *number.value();
                if (min..=max).contains(&number) { Ok(()) } else { wrong(value, &number.to_string()) }
            }
            (Self::Amount { min, max }, Value::Integer(_) | Value::Float(_)) => {
                let number = value.as_float().or(value.as_integer().map(|number| number as f64)).unwrap_or(f64::NAN);
                if (min..=max).contains(&number) { Ok(()) } else { wrong(value, &number.to_string()) }
            }
            (Self::Texts | Self::Models | Self::CachePaths | Self::Grants, Value::Array(list)) => {
                for item in list {
                    let Some(text) = item.as_str() else { return wrong(item, what_is(item)) };
                    self.check_text(text).map_err(|message| (item.span(), message))?;
                }
                Ok(())
            }
            (Self::Routes, Value::Array(list)) => {
                list.iter().try_for_each(|rule| check_route(rule).map_err(|message| (rule.span(), message)))
            }
            (Self::Providers, Value::Array(list)) => {
                let mut taken = Vec::new();
                list.iter().try_for_each(|one| check_provider(one, &mut taken).map_err(|message| (one.span(), message)))
            }
            (_, other) => wrong(other, what_is(other)),
        }
    }

    fn check_text(self, text: &str) -> Result<(), String> {
        match self {
            Self::Models => text.parse::<ModelRef>().map(drop).map_err(|error| error.to_string()),
            Self::Grants => homarus_policy::Grants::parse(&[text]).map(drop).map_err(|error| error.to_string()),
            Self::CachePaths => homarus_sandbox::check_cache_path(text),
            Self::BrowserProfile if text.is_empty() => Ok(()),
            Self::BrowserProfile => homarus_tools::browser::ProfileName::parse(text).map(drop),
            Self::Address => homarus_tools::web_search::instance(text).map(drop),
            _ => Ok(()),
        }
    }

    /// A value from the words of a command line.
    pub fn parse(self, words: &[String]) -> Result<Value, String> {
        let whole = words.join(" ");
        let not = || format!("expected {self}, found `{whole}`");
        let value = match (self, words) {
            (Self::Texts | Self::Models | Self::CachePaths | Self::Grants | Self::Routes | Self::Providers, [one])
                if one.trim_start().starts_with('[') =>
            {
                one.parse::<Value>().map_err(|_| not())?
            }
            (Self::Texts | Self::Models | Self::CachePaths | Self::Grants, _) => {
                Value::from_iter(words.iter().map(String::as_str))
            }
            (Self::Text | Self::Address | Self::BrowserProfile, [one]) => Value::from(one.as_str()),
            (Self::Flag | Self::Whole { .. } | Self::Amount { .. }, [one]) => {
                one.trim().parse::<Value>().map_err(|_| not())?
            }
            _ => return Err(format!("expected {self}, found {} words", words.len())),
        };
        match self.check(&value) {
            Ok(()) => Ok(value),
            // The value alone has no place worth naming.
            Err((_, message)) => Err(message),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => write!(f, "true or false"),
            Self::Whole { min, max } => write!(f, "a whole number from {min} to {max}"),
            Self::Amount { min, max } => write!(f, "a number from {min} to {max}"),
            Self::Text => write!(f, "a text"),
            Self::Address => write!(f, "an address such as http://127.0.0.1:8888, or an empty text"),
            Self::BrowserProfile => write!(f, "a name of small letters, digits, `-` and `_`, or an empty text"),
            Self::Texts => write!(f, "a list of texts"),
            Self::Models => write!(f, "a list of PROVIDER/MODEL texts"),
            Self::CachePaths => write!(f, "a list of folders of the workspace, such as \"target\""),
            Self::Routes => write!(f, "a list of rules such as {{ models = [\"local/NAME\"], words_max = 20 }}"),
            Self::Providers => write!(f, "a list of providers such as {{ id = \"work\", kind = \"openai\" }}"),
            Self::Grants => write!(f, "a list of grants such as \"shell:run:make *\""),
        }
    }
}

/// An entry of a list of tables.
fn entry<T: serde::de::DeserializeOwned>(value: &Value, what: &str) -> Result<T, String> {
    let Value::InlineTable(table) = value else { return Err(format!("expected {what}, found {}", what_is(value))) };
    let mut plain = table.clone();
    plain.decor_mut().clear();
    toml::from_str(&plain.into_table().to_string()).map_err(|error| error.message().to_owned())
}

/// What it is called is `taken` from then on.
fn check_provider(value: &Value, taken: &mut Vec<String>) -> Result<(), String> {
    let own: Own = entry(value, "a provider")?;
    own.check()?;
    if taken.iter().any(|id| id == own.id()) {
        return Err(format!("two are called {}; give each an `id` of its own", own.id()));
    }
    taken.push(own.id().to_owned());
    Ok(())
}

fn check_route(rule: &Value) -> Result<(), String> {
    let route: Route = entry(rule, "a rule")?;
    if route.models.is_empty() { Err("the rule names no models".to_owned()) } else { Ok(()) }
}

fn what_is(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "a text",
        Value::Integer(_) => "a whole number",
        Value::Float(_) => "a number",
        Value::Boolean(_) => "true or false",
        Value::Datetime(_) => "a date",
        Value::Array(_) => "a list",
        Value::InlineTable(_) => "a table",
    }
}

fn collect(table: &Table, prefix: &str, keys: &mut Vec<Key>) {
    for (name, item) in table.iter() {
        let path = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") };
        match item {
            Item::Table(inner) => collect(inner, &path, keys),
            Item::Value(value) => {
                let about = table.key(name).map(|key| comment(key.leaf_decor().prefix())).unwrap_or_default();
                let mut default = value.clone();
                default.decor_mut().clear();
                keys.push(Key { kind: kind_of(&path, value), path, default, about, follows: None });
            }
            Item::None | Item::ArrayOfTables(_) => {}
        }
    }
}

fn kind_of(path: &str, default: &Value) -> Kind {
    let declared = KINDS.iter().find(|(declared, _)| *declared == path).map(|(_, kind)| *kind);
    declared.unwrap_or(match default {
        Value::Boolean(_) => Kind::Flag,
        Value::Integer(_) => whole(i64::MIN, i64::MAX),
        Value::Float(_) => Kind::Amount { min: f64::MIN, max: f64::MAX },
        Value::Array(_) => Kind::Texts,
        _ => Kind::Text,
    })
}

/// The text of the comment lines above a key.
fn comment(prefix: Option<&toml_edit::RawString>) -> String {
    let text = prefix.and_then(|prefix| prefix.as_str()).unwrap_or_default();
    let block = text.rsplit("\n\n").next().unwrap_or(text);
    let lines = block.lines().filter_map(|line| line.trim().strip_prefix('#')).map(str::trim);
    lines.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_says_what_it_is_for_and_every_number_has_bounds() {
        let keys = Keys::all().unwrap();
        for key in keys.iter() {
            assert!(!key.about.is_empty(), "{} has no comment in homarus.toml", key.path);
            assert_eq!(key.kind.check(&key.default), Ok(()), "{}: the default", key.path);
            if let Kind::Whole { max, .. } = key.kind {
                assert_ne!(max, i64::MAX, "{} has no bounds", key.path);
            }
            if let Kind::Amount { max, .. } = key.kind {
                assert!(max < f64::MAX, "{} has no bounds", key.path);
            }
        }
        for (path, _) in KINDS {
            assert!(keys.find(path).is_some(), "{path} is not in homarus.toml");
        }
    }

    #[test]
    fn what_was_meant() {
        let keys = Keys::all().unwrap();
        let check = |typed: &str, meant: Option<&str>| assert_eq!(keys.meant(typed), meant, "{typed}");
        check("budget.step", Some("budget.steps"));
        check("steps", Some("budget.steps"));
        check("limits.steps", Some("budget.steps"));
        check("model.local.name", Some("models.local.name"));
        check("budgets", Some("budget"));
        check("temperature", None);
        check("limits.cpu", Some("limits.cpu_s"));
        check("cpu_s", Some("limits.cpu_s"));
    }

    #[test]
    fn words_become_values() {
        let check = |path: &str, words: &[&str], expected: Result<&str, &str>| {
            let kind = Keys::all().unwrap().find(path).unwrap().kind;
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            match (kind.parse(&words), expected) {
                (Ok(value), Ok(text)) => assert_eq!(value.to_string().trim(), text, "{path} {words:?}"),
                (Err(message), Err(part)) => assert!(message.contains(part), "{path} {words:?}: {message}"),
                (result, expected) => panic!("{path} {words:?}: {result:?} is not {expected:?}"),
            }
        };
        check("budget.steps", &["5"], Ok("5"));
        check("budget.steps", &["0"], Err("from 1 to 100000, found 0"));
        check("budget.steps", &["many"], Err("found `many`"));
        check("budget.steps", &["1", "2"], Err("2 words"));
        check("budget.steps", &["1.5"], Err("found a number"));
        check("budget.usd", &["1.5"], Ok("1.5"));
        check("budget.usd", &["2"], Ok("2"));
        check("budget.usd", &["nan"], Err("found NaN"));
        check("budget.usd", &["-1"], Err("from 0"));
        check("models.local.name", &["true"], Ok("\"true\""));
        check("models.local.name", &["a \"b\""], Ok("'a \"b\"'"));
        check("models.order", &["openai/a", "local/b"], Ok("[\"openai/a\", \"local/b\"]"));
        check("models.order", &["[\"openai/a\"]"], Ok("[\"openai/a\"]"));
        check("models.order", &["[]"], Ok("[]"));
        check("models.order", &["nonsense"], Err("PROVIDER/MODEL"));
        check("models.order", &["[1]"], Err("found a whole number"));
        check("policy.grants", &["everything"], Err("cannot be read"));
        check("models.route", &["[{ models = [\"local/x\"] }]"], Ok("[{ models = [\"local/x\"] }]"));
        check("models.route", &["[{ models = [] }]"], Err("names no models"));
        check("models.route", &["x"], Err("list of rules"));
    }
}
