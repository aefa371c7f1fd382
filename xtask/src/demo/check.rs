//! Whether a job was done: what is so on disk afterwards, whatever the agent says of it.

use std::{fs, path::Path, process::Command};

use regex_lite::RegexBuilder;

use super::job::Check;
use crate::{places::Places, sh};

/// How the checks of a job ended: the failed ones, each with its reason. Commands run outside any sandbox,
/// so only when all that is to be unchanged (their scripts among it) was found so.
pub fn failures(places: &Places, checks: &[Check], before: &Path, after: &Path) -> Vec<String> {
    let is_command = |check: &&Check| matches!(check, Check::Command { .. });
    let failed = |check: &Check| verify(places, check, before, after).err();
    let (commands, files): (Vec<&Check>, Vec<&Check>) = checks.iter().partition(is_command);
    let failures: Vec<String> = files.into_iter().filter_map(failed).collect();
    if !failures.is_empty() {
        return failures;
    }
    commands.into_iter().filter_map(failed).collect()
}

fn verify(places: &Places, check: &Check, before: &Path, after: &Path) -> Result<(), String> {
    match check {
        Check::Contains { file, contains } => {
            let text = read(after, file)?.to_lowercase();
            let missing: Vec<&String> = contains.iter().filter(|part| !text.contains(&part.to_lowercase())).collect();
            ensure(missing.is_empty(), || format!("{file} does not contain {missing:?}"))
        }
        Check::Lacks { file, lacks } => {
            let text = read(after, file)?.to_lowercase();
            let found: Vec<&String> = lacks.iter().filter(|part| text.contains(&part.to_lowercase())).collect();
            ensure(found.is_empty(), || format!("{file} contains {found:?}"))
        }
        Check::Matches { file, matches } => {
            let pattern = RegexBuilder::new(matches).multi_line(true).build();
            let pattern = pattern.map_err(|error| format!("the check is wrong: {matches}: {error}"))?;
            ensure(pattern.is_match(&read(after, file)?), || format!("{file} does not match /{matches}/"))
        }
        Check::Equals { file, equals } => {
            ensure(read(after, file)?.trim_end() == equals.trim_end(), || format!("{file} is not {equals:?}"))
        }
        Check::Unchanged { unchanged } => {
            let same = same(&before.join(unchanged), &after.join(unchanged))?;
            ensure(same, || format!("{unchanged} was changed"))
        }
        Check::Absent { absent } => {
            ensure(after.join(absent).symlink_metadata().is_err(), || format!("{absent} is there"))
        }
        Check::Command { command } => {
            let [program, args @ ..] = command.as_slice() else { return Err("the check names no command".to_owned()) };
            let mut command: Command = sh::command(places, program);
            sh::output(command.args(args).current_dir(after)).map(drop)
        }
    }
}

fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise()) }
}

fn read(folder: &Path, file: &str) -> Result<String, String> {
    let path = folder.join(file);
    match fs::read(&path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) => Err(format!("{file}: {error}")),
    }
}

/// Whether two files or folders hold the same. What is not there is equal only to what is not there.
fn same(before: &Path, after: &Path) -> Result<bool, String> {
    let wrong = |error: std::io::Error| format!("{}: {error}", after.display());
    let (old, new) = (before.symlink_metadata(), after.symlink_metadata());
    let (Ok(old), Ok(new)) = (old, new) else {
        return Err(format!("{} was there before or is there now, but not both", after.display()));
    };
    if old.file_type() != new.file_type() {
        return Ok(false);
    }
    if old.is_symlink() {
        return Ok(fs::read_link(before).map_err(wrong)? == fs::read_link(after).map_err(wrong)?);
    }
    if old.is_file() {
        return Ok(fs::read(before).map_err(wrong)? == fs::read(after).map_err(wrong)?);
    }
    let names = |folder: &Path| -> Result<Vec<std::ffi::OsString>, String> {
        let mut names: Vec<_> = folder.read_dir().map_err(wrong)?.flatten().map(|entry| entry.file_name()).collect();
        names.sort();
        Ok(names)
    };
    let (old, new) = (names(before)?, names(after)?);
    if old != new {
        return Ok(false);
    }
    old.iter().try_fold(true, |all, name| Ok(all && same(&before.join(name), &after.join(name))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize)]
    struct Checks {
        check: Vec<Check>,
    }

    /// Failures on a workspace with `a.txt` (changed), `b/c.txt` (unchanged) and `d.txt` (new).
    fn look(name: &str, checks: &[Check]) -> Vec<String> {
        let folder = std::env::temp_dir().join(format!("xtask-check-{}-{name}", std::process::id()));
        let (before, after) = (folder.join("before"), folder.join("after"));
        for side in [&before, &after] {
            fs::create_dir_all(side.join("b")).unwrap();
            fs::write(side.join("a.txt"), side.as_os_str().as_encoded_bytes()).unwrap();
            fs::write(side.join("b/c.txt"), "port = 80\nhost = web\n").unwrap();
        }
        fs::write(after.join("d.txt"), "new").unwrap();
        let failures = failures(&Places::find().unwrap(), checks, &before, &after);
        fs::remove_dir_all(folder).unwrap();
        failures
    }

    fn parse(checks: &str) -> Vec<Check> {
        toml::from_str::<Checks>(&format!("check = [{checks}]")).unwrap().check
    }

    #[test]
    fn what_is_so_passes() {
        let checks = r#"
            { file = "b/c.txt", contains = ["PORT", "web"] },
            { file = "b/c.txt", lacks = ["8080"] },
            { file = "b/c.txt", matches = '^host\s*=\s*web$' },
            { file = "d.txt", equals = "new\n" },
            { unchanged = "b" },
            { absent = "e.txt" },
            { command = ["grep", "-q", "80", "b/c.txt"] },
        "#;
        assert_eq!(look("so", &parse(checks)), Vec::<String>::new());
    }

    #[test]
    fn what_is_not_so_fails() {
        let checks = r#"
            { file = "b/c.txt", contains = ["port", "8080"] },
            { file = "b/c.txt", lacks = ["PORT"] },
            { file = "b/c.txt", matches = '^web$' },
            { file = "b/c.txt", matches = '(' },
            { file = "d.txt", equals = "old" },
            { unchanged = "a.txt" },
            { unchanged = "d.txt" },
            { absent = "d.txt" },
            { command = ["false"] },
            { command = [] },
            { file = "none", contains = [] },
        "#;
        for check in parse(checks) {
            assert_eq!(look("not", std::slice::from_ref(&check)).len(), 1, "{check:?}");
        }
    }

    #[test]
    fn no_command_runs_where_something_was_changed() {
        let failures = look("order", &parse(r#"{ command = ["false"] }, { unchanged = "a.txt" }"#));
        assert_eq!(failures, ["a.txt was changed"]);
    }
}
