//! Rules about text: words and patterns in their rooms, module docs, sizes, re-exports.

use regex_lite::Regex;

use super::{
    Checked, Data, Finding, Never, Only,
    sources::{File, Repository},
};

pub fn check(data: &Data, repository: &Repository) -> Result<Vec<Checked>, String> {
    let mut all = Vec::new();
    for rule in &data.only {
        let pattern = Regex::new(&rule.pattern).map_err(|error| format!("tidy.toml: {}: {error}", rule.name))?;
        let findings = repository.rust().flat_map(|file| only(rule, &pattern, file)).collect();
        all.push(Checked { rule: rule.name.clone(), findings });
    }
    for rule in &data.never {
        let findings = repository.files.iter().flat_map(|file| never(rule, file)).collect();
        all.push(Checked { rule: rule.name.clone(), findings });
    }
    let sources = || repository.rust().filter(|file| file.is_source());
    let checked = |rule: &str, findings: Vec<Finding>| Checked { rule: rule.to_owned(), findings };
    all.push(checked("a crate does not pass on another's names", sources().flat_map(re_exports).collect()));
    all.push(checked("each file says what its room is for", sources().filter_map(module_doc).collect()));
    let long = sources().filter_map(|file| too_long(file, data.sizes.lines_max));
    all.push(checked("no file is two rooms", long.chain(contract_size(data, repository)).collect()));
    Ok(all)
}

fn only(rule: &Only, pattern: &Regex, file: &File) -> Vec<Finding> {
    let within = file.crate_name().is_some_and(|name| rule.within.iter().any(|own| own == name));
    if within || rule.except.contains(&file.path) {
        return Vec::new();
    }
    let found = file.code(rule.tests).filter(|(_, line)| pattern.is_match(line));
    found.map(|(number, line)| at(file, number, format!("{}: {}", line.trim(), rule.why))).collect()
}

fn never(rule: &Never, file: &File) -> Vec<Finding> {
    let concerned = rule.files.iter().any(|end| file.path.ends_with(end.as_str())) && !rule.except.contains(&file.path);
    if !concerned {
        return Vec::new();
    }
    let word = |line: &str| rule.words.iter().find(|word| stands_in(line, word));
    let found = file.lines(rule.tests).filter_map(|(number, line)| Some((number, word(line)?)));
    found.map(|(number, word)| at(file, number, format!("`{word}`: {}", rule.why))).collect()
}

/// Whether the word stands there by itself, and not at the end of a longer one.
fn stands_in(line: &str, word: &str) -> bool {
    let part_of_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '}');
    line.match_indices(word).any(|(start, _)| {
        let after = line[start + word.len()..].chars().next();
        let open_end = word.ends_with(|c: char| !c.is_alphanumeric());
        !line[..start].ends_with(part_of_word) && (open_end || !after.is_some_and(char::is_alphanumeric))
    })
}

fn re_exports(file: &File) -> Vec<Finding> {
    let outside = |path: &str| {
        let first = path.trim_start_matches("::").split([':', ';', ' ', '{']).next().unwrap_or_default();
        let module = |line: &str| {
            let line = line.trim();
            let rest = line.strip_prefix("pub ").unwrap_or(line).strip_prefix("mod ");
            rest.is_some_and(|rest| rest.trim_end_matches([';', ' ', '{']) == first)
        };
        !matches!(first, "crate" | "self" | "super") && !file.text.lines().any(module)
    };
    let uses =
        file.code(false).filter_map(|(number, line)| Some((number, line.trim_start().strip_prefix("pub use ")?)));
    let found = uses.filter(|(_, path)| outside(path));
    found.map(|(number, path)| at(file, number, format!("`pub use {path}`"))).collect()
}

fn module_doc(file: &File) -> Option<Finding> {
    let said = file.text.lines().find(|line| !line.trim().is_empty()).is_some_and(|line| line.starts_with("//! "));
    (!said).then(|| at(file, 1, "does not begin with `//! ` and what it is for".to_owned()))
}

fn too_long(file: &File, lines_max: usize) -> Option<Finding> {
    let lines = file.text.lines().count();
    (lines > lines_max).then(|| at(file, lines, format!("{lines} lines; at most {lines_max}")))
}

fn contract_size(data: &Data, repository: &Repository) -> Option<Finding> {
    let own = repository.rust().filter(|file| file.crate_name() == Some("contract"));
    let lines: usize = own.map(|file| file.text.lines().count()).sum();
    let lines_max = data.sizes.contract_lines_max;
    (lines > lines_max)
        .then(|| Finding { at: "crates/contract".to_owned(), what: format!("{lines} lines; at most {lines_max}") })
}

fn at(file: &File, line: usize, what: String) -> Finding {
    Finding { at: format!("{}:{line}", file.path), what }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::sources::file;

    /// How many findings these lines give as the source of a crate.
    fn count(crate_name: &str, text: &str) -> usize {
        let data: Data = toml::from_str(include_str!("../../tidy.toml")).unwrap();
        let path = format!("crates/{crate_name}/src/lib.rs");
        let repository = Repository { files: vec![file(&path, &format!("//! What it is for.\n{text}\n"))] };
        check(&data, &repository).unwrap().iter().map(|checked| checked.findings.len()).sum()
    }

    #[test]
    fn rules_find_what_they_are_for() {
        let check = |crate_name: &str, text: &str, expected: usize| {
            assert_eq!(count(crate_name, text), expected, "{crate_name}: {text}");
        };
        check("driver", "let gate = Gate::new(judge, ledger);", 1);
        check("driver", "let gate = Gate::<J, L>::new(judge, ledger);", 1);
        check("driver", "let gate = FloodGate::new();", 0);
        check("driver", "// Gate::new is called elsewhere", 0);
        check("homarus", "let gate = Gate::new(judge, ledger);", 0);
        check("driver", "#[cfg(test)]\nmod tests { fn f() { Gate::new(judge, ledger); } }", 1);

        check("driver", "fn f(value: serde_json::Value) {}", 1);
        check("driver", "use serde_json::{Map, Value};", 1);
        check("models", "fn f(value: serde_json::Value) {}", 0);
        check("driver", "#[cfg(test)]\nmod tests { fn f(value: serde_json::Value) {} }", 0);

        check("store", "pub use homarus_contract::ids::RunId;", 1);
        check("store", "pub use serde_json;", 1);
        check("store", "mod rows;\npub use rows::Row;\npub use self::rows::Other;", 0);

        let later = ["TO", "DO"].concat();
        check("store", &format!("// {later}: more"), 1);
        check("store", &format!("// {later}S and MASTO{later} are words"), 0);
        let home = ["/ro", "ot/.ssh"].concat();
        check("store", &format!("let a = \"{home}\";"), 1);
        check("store", &format!("let a = \"a{home}\";"), 0);
        check("store", &format!("#[cfg(test)]\nmod tests {{\nlet a = \"{home}\";\n}}"), 0);

        check("store", &"\n".repeat(599), 1);
        check("store", &"\n".repeat(598), 0);
    }

    #[test]
    fn a_file_without_a_doc_is_found() {
        assert!(module_doc(&file("crates/a/src/b.rs", "use std::fmt;\n")).is_some());
        assert!(module_doc(&file("crates/a/src/b.rs", "\n//! For b.\n")).is_none());
    }
}
