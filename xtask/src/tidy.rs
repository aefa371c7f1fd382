//! What a compiler cannot check: edges between crates, words that may stand only in one room, sizes,
//! leftovers. The rules are data (`tidy.toml`); the repository is read once, through Git.

mod manifests;
mod rules;
mod sources;

use serde::Deserialize;
use std::collections::BTreeMap;

use crate::{places::Places, sh};
use sources::Repository;

/// A rule that does not hold somewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Finding {
    /// `path` or `path:line`.
    at: String,
    what: String,
}

/// A rule, and where it does not hold.
#[derive(Debug)]
pub struct Checked {
    pub rule: String,
    findings: Vec<Finding>,
}

impl Checked {
    pub fn holds(&self) -> bool {
        self.findings.is_empty()
    }
}

/// Prints what does not hold; `Ok(true)` if everything does.
pub fn run(places: &Places) -> Result<bool, String> {
    let all = check(places)?;
    print(&all);
    Ok(all.iter().all(Checked::holds))
}

/// Checks every rule of `tidy.toml`, and that `Cargo.lock` is committed and fits.
pub fn check(places: &Places) -> Result<Vec<Checked>, String> {
    let data: Data = toml::from_str(include_str!("../tidy.toml")).map_err(|error| format!("tidy.toml: {error}"))?;
    let repository = Repository::read(places)?;
    let mut all = manifests::check(&data, &repository)?;
    all.extend(rules::check(&data, &repository)?);
    all.push(lock_file(places));
    Ok(all)
}

pub fn print(all: &[Checked]) {
    for checked in all {
        println!("{} {}", if checked.holds() { "ok  " } else { "FAIL" }, checked.rule);
        for finding in &checked.findings {
            println!("       {}: {}", finding.at, finding.what);
        }
    }
}

fn lock_file(places: &Places) -> Checked {
    let mut findings = Vec::new();
    let mut finding = |what: String| findings.push(Finding { at: "Cargo.lock".to_owned(), what });
    if !sh::succeeds(sh::command(places, "git").args(["ls-files", "--error-unmatch", "Cargo.lock"])) {
        finding("not committed".to_owned());
    }
    if let Err(error) = sh::output(&mut sh::cargo(places, &["metadata", "--locked", "--format-version=1"])) {
        finding(error);
    }
    Checked { rule: "Cargo.lock is committed and fits".to_owned(), findings }
}

/// `tidy.toml`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Data {
    edges: BTreeMap<String, Vec<String>>,
    test_edges: BTreeMap<String, Vec<String>>,
    owners: BTreeMap<String, Vec<String>>,
    unsafe_allowed: Vec<String>,
    only: Vec<Only>,
    never: Vec<Never>,
    sizes: Sizes,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Only {
    name: String,
    pattern: String,
    within: Vec<String>,
    #[serde(default)]
    except: Vec<String>,
    tests: bool,
    why: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Never {
    name: String,
    words: Vec<String>,
    files: Vec<String>,
    except: Vec<String>,
    tests: bool,
    why: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sizes {
    lines_max: usize,
    contract_lines_max: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_can_be_read() {
        let data: Data = toml::from_str(include_str!("../tidy.toml")).unwrap();
        assert!(data.edges["contract"].is_empty());
        assert!(rules::check(&data, &Repository::default()).unwrap().iter().all(Checked::holds));
    }
}
