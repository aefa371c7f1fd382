//! Whether a user's file is right: every key known, every value of its kind, each mistake with its line.

use std::{ops::Range, path::Path};

use toml_edit::{Document, Item, TableLike, Value};

use super::{
    keys::{Key, Keys, Kind},
    limits,
};
use crate::exit::CliError;

/// A mistake in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// From 1; 0 where no place can be named.
    pub line: u32,
    pub column: u32,
    pub what: String,
    pub help: Option<String>,
}

impl Problem {
    /// As the error of a command that needs the file.
    pub fn error(&self, path: &Path, more: usize) -> CliError {
        let more = match more {
            0 => String::new(),
            more => format!(" (and {more} more: `homarus config check` lists them)"),
        };
        let place = match self.line {
            0 => path.display().to_string(),
            line => format!("{}, line {line}, column {}", path.display(), self.column),
        };
        let error = CliError::usage(format!("{}{more}", self.what)).cause(place);
        match &self.help {
            Some(help) => error.help(help.clone()),
            None => error,
        }
    }
}

/// A key that a file sets.
#[derive(Debug, Clone)]
pub struct Set {
    pub path: String,
    pub value: Value,
    pub line: u32,
    /// Where the value is written.
    pub span: Option<Range<usize>>,
    /// Inside `{ ... }`, where it has no lines of its own.
    pub inline: bool,
}

/// What a file sets, and what is wrong with it.
#[derive(Debug, Default)]
pub struct Checked {
    pub set: Vec<Set>,
    pub problems: Vec<Problem>,
}

impl Checked {
    pub fn set(&self, path: &str) -> Option<&Set> {
        self.set.iter().find(|set| set.path == path)
    }

    /// What a key has where the file does not set it.
    pub fn otherwise<'a>(&'a self, key: &'a Key) -> (&'a Value, Option<&'a Set>) {
        let followed = key.follows.as_deref().and_then(|path| self.set(path));
        (followed.map_or(&key.default, |set| &set.value), followed)
    }

    /// The value that holds, and where the file says so.
    pub fn value<'a>(&'a self, key: &'a Key) -> (&'a Value, Option<&'a Set>) {
        match self.set(&key.path) {
            Some(set) => (&set.value, Some(set)),
            None => self.otherwise(key),
        }
    }
}

/// What a file sets in which nothing is wrong.
pub fn sound(text: &str, path: &Path, keys: &Keys) -> Result<Checked, CliError> {
    let checked = check(text, keys);
    match checked.problems.as_slice() {
        [] => Ok(checked),
        [first, rest @ ..] => Err(first.error(path, rest.len())),
    }
}

pub fn check(text: &str, keys: &Keys) -> Checked {
    let mut walk = Walk { text, keys, found: Checked::default() };
    match Document::parse(text) {
        Ok(document) => walk.table(document.as_table(), "", false),
        Err(error) => walk.problem(error.span(), error.message().to_owned(), None),
    }
    walk.found
}

struct Walk<'a> {
    text: &'a str,
    keys: &'a Keys,
    found: Checked,
}

impl Walk<'_> {
    fn table(&mut self, table: &dyn TableLike, prefix: &str, inline: bool) {
        for (name, item) in table.iter() {
            let path = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") };
            let at = table.key(name).and_then(toml_edit::Key::span);
            if name.contains('.') {
                self.quoted(name, &path, at);
                continue;
            }
            let inside = inline || matches!(item, Item::Value(Value::InlineTable(_)));
            match (self.keys.find(&path).cloned(), item) {
                (Some(key), Item::Value(value)) => self.value(&key, value, at, inline),
                // `[[models.route]]` is another way to write a list of tables.
                (Some(key), Item::ArrayOfTables(list)) if matches!(key.kind, Kind::Routes | Kind::Providers) => {
                    if let Ok(value) = Item::ArrayOfTables(list.clone()).into_value() {
                        // It has no one place that could be taken away.
                        self.value(&key, &value, at, true);
                    }
                }
                (Some(key), _) => {
                    self.problem(at, format!("`{path}` is a key, not a table"), Some(format!("it takes {}", key.kind)));
                }
                (None, item) if self.keys.is_table(&path) => match item.as_table_like() {
                    Some(inner) => self.table(inner, &path, inside),
                    None => {
                        let help = format!("its keys are set one by one, for example in a section [{path}]");
                        self.problem(at, format!("`{path}` is a table, not a key"), Some(help));
                    }
                },
                (None, _) => {
                    let meant = self.keys.meant(&path).map(|meant| format!("did you mean `{meant}`?"));
                    let all = || limits::listed(&path);
                    self.problem(at, format!("unknown key `{path}`"), Some(meant.unwrap_or_else(all)));
                }
            }
        }
    }

    /// Names have no dots; those of tools are written as tables are.
    fn quoted(&mut self, name: &str, path: &str, at: Option<Range<usize>>) {
        let is_known = self.keys.find(path).is_some() || self.keys.is_table(path);
        let help = match is_known {
            true => format!("write it without quotes: {path}"),
            false => limits::listed(path),
        };
        self.problem(at, format!("unknown key {name:?}: no name has a dot in it"), Some(help));
    }

    fn value(&mut self, key: &Key, value: &Value, at: Option<Range<usize>>, inline: bool) {
        match key.kind.check(value) {
            Ok(()) => {
                let mut plain = value.clone();
                plain.decor_mut().clear();
                let line = at.as_ref().map_or(0, |at| place(self.text, at.start).0);
                let span = at.zip(value.span()).map(|(key, value)| key.start..value.end);
                self.found.set.push(Set { path: key.path.clone(), value: plain, line, span, inline });
            }
            Err((span, message)) => {
                let default = format!("the default is {}", key.default);
                self.problem(span.or(at), format!("`{}`: {message}", key.path), Some(default));
            }
        }
    }

    fn problem(&mut self, at: Option<Range<usize>>, what: String, help: Option<String>) {
        let (line, column) = at.map_or((0, 0), |at| place(self.text, at.start));
        self.found.problems.push(Problem { line, column, what, help });
    }
}

/// Line and column of a byte, from 1.
fn place(text: &str, at: usize) -> (u32, u32) {
    let before = text.get(..at.min(text.len())).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (u32::try_from(line).unwrap_or(u32::MAX), u32::try_from(column).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_file(text: &str, expected: &[(u32, u32, &str, &str)]) {
        let problems = check(text, &Keys::all().unwrap()).problems;
        assert_eq!(problems.len(), expected.len(), "{text:?}: {problems:?}");
        for (problem, (line, column, what, help)) in problems.iter().zip(expected) {
            assert_eq!((problem.line, problem.column), (*line, *column), "{text:?}: {problem:?}");
            assert!(problem.what.contains(what), "{text:?}: {problem:?}");
            assert!(problem.help.as_deref().unwrap_or("").contains(help), "{text:?}: {problem:?}");
        }
    }

    #[test]
    fn mistakes_have_their_place_and_a_way_out() {
        check_file("", &[]);
        check_file("# only words\n[budget]\nsteps = 5\n", &[]);
        check_file("budget.steps = 5", &[]);
        check_file("budget = { steps = 5, usd = 1 }", &[]);
        check_file("[budget]\nstep = 5", &[(2, 1, "unknown key `budget.step`", "did you mean `budget.steps`?")]);
        check_file("budget = { steps = 5, stepps = 6 }", &[(1, 23, "`budget.stepps`", "`budget.steps`")]);
        check_file("[bugdet]\nsteps = 5", &[(1, 2, "unknown key `bugdet`", "`budget`")]);
        check_file("[budget]\nsteps = 0", &[(2, 9, "from 1 to 100000, found 0", "the default is 60")]);
        check_file("[budget]\nsteps = \"5\"", &[(2, 9, "found a text", "60")]);
        check_file("[budget]\nusd = -1.0", &[(2, 7, "`budget.usd`", "")]);
        check_file("budget = 5", &[(1, 1, "is a table, not a key", "[budget]")]);
        check_file("[budget.steps]\nx = 1", &[(1, 9, "is a key, not a table", "whole number")]);
        check_file("[models]\norder = [\"local/x\",\n \"nonsense\"]", &[(3, 2, "PROVIDER/MODEL", "")]);
        check_file("a = 1\n[budget]\nb = 2", &[(1, 1, "`a`", "config get"), (3, 1, "`budget.b`", "")]);
        check_file("[models", &[(1, 8, "", "")]);
        check_file("[budget]\nsteps = 1\nsteps = 2", &[(3, 1, "duplicate", "")]);
        check_file("[[budget]]\nsteps = 5", &[(1, 3, "is a table, not a key", "")]);
        check_file("\"budget.steps\" = 5", &[(1, 1, "no name has a dot", "without quotes: budget.steps")]);
    }

    #[test]
    fn limits_of_one_tool() {
        check_file("[limits.tools.shell.execute]\nwall_s = 900\nmemory_mb = 8192", &[]);
        check_file("limits.tools.shell.execute.wall_s = 900", &[]);
        check_file("limits = { tools = { file.read = { wall_s = 9 } } }", &[]);
        check_file("[limits.tools]", &[]);
        let near = "did you mean `limits.tools.shell.execute`?";
        check_file("[limits.tools.shell.exec]\nwall_s = 9", &[(1, 21, "`limits.tools.shell.exec`", near)]);
        check_file("[limits.tools.memory.note]\nwall_s = 9", &[(1, 15, "`limits.tools.memory`", "are file.search, ")]);
        check_file("[limits.tools.file.read]\nwal_s = 9", &[(2, 1, "unknown key", "file.read.wall_s`?")]);
        check_file("[limits.tools.web.search]\ncpu_s = 9", &[(2, 1, "`limits.tools.web.search.cpu_s`", "")]);
        check_file("[limits.tools.file.read]\ncalls_at_once = 9", &[(2, 1, "unknown key", "")]);
        check_file(
            "[limits.tools.file.read]\nwall_s = 0",
            &[(2, 10, "from 1 to 86400, found 0", "the default is 120")],
        );
        check_file("[limits.tools.file]\nread = 5", &[(2, 1, "is a table, not a key", "[limits.tools.file.read]")]);
        let plain = "without quotes: limits.tools.shell.execute";
        check_file("[limits.tools.\"shell.execute\"]\nwall_s = 9", &[(1, 15, "\"shell.execute\"", plain)]);
        check_file("[limits.tools.\"a.b\"]\nwall_s = 9", &[(1, 15, "\"a.b\"", "are file.search, ")]);
    }

    #[test]
    fn what_a_tool_does_not_set_is_as_for_all() {
        let keys = Keys::all().unwrap();
        let key = keys.find("limits.tools.file.read.wall_s").unwrap();
        let told = |text: &str| {
            let checked = check(text, &keys);
            let (value, set) = checked.value(key);
            (value.to_string(), set.map(|set| set.line))
        };
        assert_eq!(told(""), ("120".to_owned(), None));
        assert_eq!(told("[limits]\nwall_s = 9"), ("9".to_owned(), Some(2)));
        assert_eq!(told("[limits]\nwall_s = 9\ntools.file.read.wall_s = 8"), ("8".to_owned(), Some(3)));
    }

    #[test]
    fn what_is_set_is_told_with_its_line() {
        let checked = check("# words\n[budget]\n\nsteps = 5 # few\n", &Keys::all().unwrap());
        let [set] = checked.set.as_slice() else { panic!("{checked:?}") };
        assert_eq!((set.path.as_str(), set.line, set.value.to_string().as_str()), ("budget.steps", 4, "5"));
    }
}
