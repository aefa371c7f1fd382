//! Rules about manifests: which crate may depend on which, who owns which external crate, shared lints.

use std::collections::BTreeSet;

use super::{Checked, Data, Finding, sources::Repository};

const PREFIX: &str = "homarus-";
/// No shipped crate may use it, not even one that may use everything.
const FAKES: &str = "test-kit";

/// A crate's manifest, as far as the rules need it.
struct Manifest<'a> {
    name: &'a str,
    path: &'a str,
    table: toml::Table,
}

pub fn check(data: &Data, repository: &Repository) -> Result<Vec<Checked>, String> {
    let mut manifests = Vec::new();
    for (name, file) in repository.manifests() {
        let table = file.text.parse().map_err(|error| format!("{}: {error}", file.path))?;
        manifests.push(Manifest { name, path: &file.path, table });
    }
    let checked = |rule: &str, check: &dyn Fn(&Manifest) -> Vec<String>| {
        let findings = manifests.iter().flat_map(|manifest| {
            check(manifest).into_iter().map(|what| Finding { at: manifest.path.to_owned(), what })
        });
        Checked { rule: rule.to_owned(), findings: findings.collect() }
    };
    Ok(vec![
        checked("crates depend only on what the table of edges allows", &|manifest| edges(data, manifest)),
        checked("external crates stay with their owners", &|manifest| owners(data, manifest)),
        checked("every crate has the workspace's lints", &|manifest| lints(data, manifest)),
        checked("a folder is named like its crate", &name),
        checked("our own crates have no features", &features),
    ])
}

fn edges(data: &Data, manifest: &Manifest) -> Vec<String> {
    let Some(allowed) = data.edges.get(manifest.name) else {
        let ours = manifest.dependencies(&["dependencies", "dev-dependencies", "build-dependencies"]);
        let any = ours.iter().any(|dependency| dependency.starts_with(PREFIX));
        return match (manifest.name, any) {
            ("xtask", false) => Vec::new(),
            ("xtask", true) => vec!["xtask talks to Homarus through its command line only".to_owned()],
            _ => vec![format!("`{}` does not stand in the table of edges (xtask/tidy.toml)", manifest.name)],
        };
    };
    let for_tests = data.test_edges.get(manifest.name).or_else(|| data.test_edges.get("*"));
    let for_tests = for_tests.map(Vec::as_slice).unwrap_or_default();
    let mut wrong = Vec::new();
    for (tables, extra) in
        [(&["dependencies", "build-dependencies"][..], &[][..]), (&["dev-dependencies"][..], for_tests)]
    {
        for dependency in manifest.dependencies(tables) {
            let Some(ours) = dependency.strip_prefix(PREFIX) else { continue };
            let everything = ours != FAKES && allowed.iter().any(|name| name == "*");
            if !everything && !allowed.iter().chain(extra).any(|name| name == ours) {
                wrong.push(format!("`{}` may not depend on `{ours}`", manifest.name));
            }
        }
    }
    wrong
}

fn owners(data: &Data, manifest: &Manifest) -> Vec<String> {
    let used = manifest.dependencies(&["dependencies", "build-dependencies"]);
    let foreign = data
        .owners
        .iter()
        .filter(|(name, owners)| used.contains(name.as_str()) && !owners.iter().any(|owner| owner == manifest.name));
    foreign.map(|(name, owners)| format!("only {} may use `{name}`", owners.join(", "))).collect()
}

fn lints(data: &Data, manifest: &Manifest) -> Vec<String> {
    if data.unsafe_allowed.iter().any(|name| name == manifest.name) {
        // Its own, since one crate's lints cannot soften those of the workspace.
        let own = manifest
            .table
            .get("lints")
            .and_then(|lints| lints.get("clippy")?.get("undocumented_unsafe_blocks")?.as_str());
        return if own == Some("deny") {
            Vec::new()
        } else {
            vec!["lacks `undocumented_unsafe_blocks = \"deny\"`".to_owned()]
        };
    }
    let inherits = manifest.table.get("lints").and_then(|lints| lints.get("workspace")?.as_bool());
    if inherits == Some(true) { Vec::new() } else { vec!["lacks `[lints] workspace = true`".to_owned()] }
}

fn name(manifest: &Manifest) -> Vec<String> {
    let own = manifest.table.get("package").and_then(|package| package.get("name")?.as_str()).unwrap_or_default();
    let expected = own.strip_prefix(PREFIX).unwrap_or(own);
    if expected == manifest.name { Vec::new() } else { vec![format!("the crate `{own}` is in `{}`", manifest.name)] }
}

fn features(manifest: &Manifest) -> Vec<String> {
    let has = manifest.table.contains_key("features");
    if has {
        vec!["a feature is a second program to test; make it a crate or an option".to_owned()]
    } else {
        Vec::new()
    }
}

impl Manifest<'_> {
    /// The names of what it depends on by these tables, those for one target included.
    fn dependencies(&self, tables: &[&str]) -> BTreeSet<String> {
        let targets = self.table.get("target").and_then(toml::Value::as_table);
        let targets = targets.into_iter().flat_map(|targets| targets.values()).filter_map(toml::Value::as_table);
        let holders = std::iter::once(&self.table).chain(targets);
        let found = holders.flat_map(|holder| tables.iter().filter_map(|name| holder.get(*name)?.as_table()));
        found.flat_map(|table| table.iter().map(|(key, value)| real_name(key, value))).collect()
    }
}

/// A renamed dependency counts by its real name.
fn real_name(key: &str, value: &toml::Value) -> String {
    value.get("package").and_then(toml::Value::as_str).unwrap_or(key).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::sources::file;

    const HEAD: &str = "[lints]\nworkspace = true\n[package]\nname = \"homarus-store\"\n";

    fn findings(path: &str, text: &str) -> Vec<String> {
        let data: Data = toml::from_str(include_str!("../../tidy.toml")).unwrap();
        let repository = Repository { files: vec![file(path, text)] };
        let all = check(&data, &repository).unwrap();
        all.into_iter().flat_map(|checked| checked.findings).map(|finding| finding.what).collect()
    }

    fn store(tables: &str) -> Vec<String> {
        findings("crates/store/Cargo.toml", &format!("{HEAD}{tables}"))
    }

    #[test]
    fn allowed_edges_pass() {
        let tables = "[dependencies]\nhomarus-contract.workspace = true\nrusqlite = \"1\"\n\
                      [dev-dependencies]\nhomarus-test-kit.workspace = true\n";
        assert_eq!(store(tables), Vec::<String>::new());
    }

    #[test]
    fn other_edges_are_found_under_any_name() {
        for tables in [
            "[dependencies]\nhomarus-driver.workspace = true\n",
            "[dependencies]\nhomarus-test-kit.workspace = true\n",
            "[dependencies]\nother = { package = \"homarus-driver\", version = \"1\" }\n",
            "[dev-dependencies]\nhomarus-driver.workspace = true\n",
            "[target.'cfg(unix)'.dependencies]\nhomarus-driver.workspace = true\n",
            "[dependencies]\nreqwest = \"1\"\n",
            "[features]\nextra = []\n",
        ] {
            assert_eq!(store(tables).len(), 1, "{tables}");
        }
    }

    #[test]
    fn a_crate_that_may_say_unsafe_has_to_argue_it() {
        let head = "[package]\nname = \"homarus-attack\"\n";
        let strict = format!("{head}[lints.clippy]\nundocumented_unsafe_blocks = \"deny\"\n");
        assert_eq!(findings("crates/attack/Cargo.toml", head).len(), 1);
        assert_eq!(findings("crates/attack/Cargo.toml", &strict).len(), 0);
        assert_eq!(findings("crates/store/Cargo.toml", &strict.replace("attack", "store")).len(), 1);
    }

    #[test]
    fn the_binary_takes_everything_but_the_fakes() {
        let binary = |dependency: &str| {
            let text = format!(
                "[lints]\nworkspace = true\n[package]\nname = \"homarus\"\n[dependencies]\n{dependency} = \"1\"\n"
            );
            findings("crates/homarus/Cargo.toml", &text).len()
        };
        assert_eq!(binary("homarus-store"), 0);
        assert_eq!(binary("homarus-test-kit"), 1);
    }

    #[test]
    fn lints_names_and_strangers_are_found() {
        assert_eq!(findings("crates/store/Cargo.toml", "[package]\nname = \"homarus-store\"\n").len(), 1);
        assert_eq!(findings("crates/shop/Cargo.toml", HEAD).len(), 2);
    }
}
