//! Kills: real processes of Homarus die at random instants, others take over, and what the world outside saw is
//! counted. The harness is the program `torture` of test-kit; this builds it, and what it kills, and starts it.

use std::{path::Path, process::Command};

use serde::Deserialize;

use crate::{places::Places, sh};

/// What `cargo xtask test` kills.
const KILLS_IN_TEST: &str = "50";

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Use the release build instead of the debug one.
    release: bool,
    /// Measure how long it takes to take over so many runs, instead of killing.
    takeover: Option<String>,
    /// Handed on as they are.
    rest: Vec<String>,
}

impl Options {
    pub fn parse(args: &[&str]) -> Result<Self, String> {
        let mut options = Self::default();
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            match *arg {
                "--release" => options.release = true,
                "--keep" => options.rest.push((*arg).to_owned()),
                "--out" => {
                    let path = args.next().ok_or("`--out` wants a file")?;
                    // The harness runs in the repository; the path was meant from here.
                    let path = std::path::absolute(path).map_err(|error| format!("{path}: {error}"))?;
                    options.rest.extend(["--out".to_owned(), path.display().to_string()]);
                }
                "--kills" | "--seed" | "--at-once" | "--takeover" => {
                    let value = args.next().ok_or_else(|| format!("`{arg}` wants a number"))?;
                    value.parse::<u64>().map_err(|_| format!("`{arg}` wants a number, not `{value}`"))?;
                    match *arg {
                        "--takeover" => options.takeover = Some((*value).to_owned()),
                        _ => options.rest.extend([(*arg).to_owned(), (*value).to_owned()]),
                    }
                }
                other => return Err(format!("`torture` has no option `{other}`")),
            }
        }
        Ok(options)
    }
}

/// `Ok(false)`: something was lost, doubled, half done or went unnoticed.
pub fn run(places: &Places, options: &Options) -> Result<bool, String> {
    let build: &[&str] =
        if options.release { &["build", "--release", "-p", "homarus"] } else { &["build", "-p", "homarus"] };
    sh::run(&mut sh::cargo(places, build))?;
    let built = places.target.join(if options.release { "release" } else { "debug" });
    let mut rest = options.rest.clone();
    if let Some(runs) = &options.takeover {
        rest.extend(of_takeover(places, &built, options.release, runs)?);
    }
    start(places, &built.join("homarus"), &rest)
}

/// Arguments of the harness that has so many runs taken over.
fn of_takeover(places: &Places, built: &Path, release: bool, runs: &str) -> Result<[String; 4], String> {
    let build: &[&str] = if release { &["build", "--release"] } else { &["build"] };
    sh::run(&mut sh::cargo(places, &[build, &["-p", "homarus-store", "--example", "in_flight"]].concat()))?;
    let holder = built.join("examples/in_flight").display().to_string();
    Ok(["--in-flight".to_owned(), holder, "--takeover".to_owned(), runs.to_owned()])
}

/// What a takeover took, in seconds from the start of the process that did it.
#[derive(Debug, Deserialize)]
pub struct Takeover {
    pub taken_over_s: f64,
    pub claimed_s: f64,
    pub ended_s: f64,
    /// The most that process ever had.
    pub memory_mib: f64,
    /// Runs that did not come to their end.
    pub lost: f64,
}

/// Has so many runs taken over by this release build; an error if one of them was not.
pub fn takeover(places: &Places, homarus: &Path, runs: &str) -> Result<Takeover, String> {
    let args = of_takeover(places, &places.target.join("release"), true, runs)?;
    let said = sh::output(harness(places)?.arg("--homarus").arg(homarus).args(args))?;
    let figures =
        said.lines().rev().find(|line| line.starts_with('{')).ok_or_else(|| format!("no figures in: {said}"))?;
    serde_json::from_str(figures).map_err(|error| format!("{figures}: {error}"))
}

/// The step of `cargo xtask test`.
pub fn in_test(places: &Places, homarus: &Path) -> Result<(), String> {
    match start(places, homarus, &["--kills".to_owned(), KILLS_IN_TEST.to_owned()])? {
        true => Ok(()),
        false => Err("what a kill must not do was done; see the table above".to_owned()),
    }
}

fn start(places: &Places, homarus: &Path, args: &[String]) -> Result<bool, String> {
    let mut command = harness(places)?;
    command.arg("--homarus").arg(homarus).args(args);
    match sh::status(&mut command)?.code() {
        Some(0) => Ok(true),
        Some(1) => Ok(false),
        other => Err(format!("the torture did not come to its end: {other:?}")),
    }
}

fn harness(places: &Places) -> Result<Command, String> {
    sh::run(&mut sh::cargo(places, &["build", "-p", "homarus-test-kit", "--bin", "torture"]))?;
    Ok(sh::command(places, places.target.join("debug/torture")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_handed_on_and_strangers_refused() {
        let options = Options::parse(&["--kills", "9", "--release", "--seed", "3", "--keep"]).unwrap();
        assert!(options.release);
        assert_eq!(options.rest, ["--kills", "9", "--seed", "3", "--keep"]);
        for wrong in [&["--kills"][..], &["--kills", "many"], &["--homarus", "x"], &["--out"], &["5"]] {
            assert!(Options::parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
