//! What one append, one folded step, one call's way through the gate and one piece of a stream cost the processor, counted by
//! callgrind: the same on every machine with the same compiler, however busy it is, so that a change for the worse is seen.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::{Command, Stdio},
};

use serde::Deserialize;

use super::table::{OURS, Section};
use crate::{places::Places, sh};

const BOUNDS: &str = include_str!("instructions.toml");
/// Each program does its work so often, and then twice as often; the difference is the work alone.
const COUNT: u64 = 200;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Bounds {
    work: Vec<Work>,
}

/// A program among the examples of a crate, which does its work as often as its first argument says; the second is a folder
/// of its own.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Work {
    name: String,
    package: String,
    example: String,
    /// What it is told besides.
    #[serde(default)]
    args: Vec<String>,
    /// Most instructions that one piece of work may take.
    at_most: u64,
}

pub struct Counted {
    pub section: Section,
    /// Works that take more than they may.
    pub exceeded: Vec<String>,
}

/// An error if it cannot be counted here.
pub fn run(places: &Places, folder: &Path) -> Result<Counted, String> {
    if !sh::on_path("valgrind") {
        return Err("valgrind is not installed (Debian package valgrind)".to_owned());
    }
    let bounds: Bounds = toml::from_str(BOUNDS).map_err(|error| format!("the bounds cannot be read: {error}"))?;
    fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut section = Section::new("instructions", "Instructions of one piece of work", &["counted", "at most"]);
    let mut exceeded = Vec::new();
    build(places, &bounds.work)?;
    for (at, work) in bounds.work.iter().enumerate() {
        let program = places.target.join("release/examples").join(&work.example);
        let once = count(&program, COUNT, &folder.join(format!("{at}-once")), &work.args)?;
        let twice = count(&program, COUNT * 2, &folder.join(format!("{at}-twice")), &work.args)?;
        let each = twice.saturating_sub(once) / COUNT;
        section.row(&work.name, vec![Some(each as f64), Some(work.at_most as f64)]);
        if each > work.at_most {
            exceeded.push(format!("{}: {each} instructions, at most {}", work.name, work.at_most));
        }
    }
    section.note(format!("{OURS}, release build; one thread after the other as callgrind runs them."));
    Ok(Counted { section, exceeded })
}

/// All at once, so that what they have in common is built once.
fn build(places: &Places, works: &[Work]) -> Result<(), String> {
    let examples: BTreeSet<(&str, &str)> =
        works.iter().map(|work| (work.package.as_str(), work.example.as_str())).collect();
    let mut args = vec!["build", "--release", "--quiet"];
    for (package, example) in examples {
        args.extend(["-p", package, "--example", example]);
    }
    sh::run(&mut sh::cargo(places, &args))
}

fn count(program: &Path, times: u64, folder: &Path, args: &[String]) -> Result<u64, String> {
    let mut valgrind = Command::new("valgrind");
    valgrind
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .arg(times.to_string())
        .arg(folder)
        .args(args);
    let done = valgrind.stdin(Stdio::null()).output().map_err(|error| format!("valgrind: {error}"))?;
    let said = String::from_utf8_lossy(&done.stderr);
    if !done.status.success() {
        return Err(format!("{}: {}\n{said}", program.display(), done.status));
    }
    collected(&said).ok_or_else(|| format!("callgrind did not say what it counted: {said}"))
}

/// The number of `==1== Collected : 123`.
fn collected(said: &str) -> Option<u64> {
    let line = said.lines().rev().find_map(|line| line.split_once("Collected :"))?;
    line.1.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_callgrind_says_is_read() {
        let said = "==7== Events    : Ir\n==7== Collected : 1234567\n==7== \n";
        assert_eq!(collected(said), Some(1_234_567));
        assert_eq!(collected("==7== nothing"), None);
    }

    #[test]
    fn each_work_is_an_example_there_is() {
        let bounds: Bounds = toml::from_str(BOUNDS).unwrap();
        assert_eq!(bounds.work.len(), 11);
        for work in bounds.work {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates");
            let name = work.package.trim_start_matches("homarus-");
            let example = folder.join(name).join("examples").join(format!("{}.rs", work.example));
            assert!(example.is_file() && work.at_most > 0, "{}", example.display());
        }
    }
}
