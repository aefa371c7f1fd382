//! Kills: real processes of Homarus die at random instants, others take over, and what the world outside saw is
//! counted. The harness is the program `torture` of test-kit; this builds it, and what it kills, and starts it.

use std::path::{Path, PathBuf};

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
        let example = &["-p", "homarus-store", "--example", "in_flight"];
        let build: &[&str] = if options.release { &["build", "--release"] } else { &["build"] };
        sh::run(&mut sh::cargo(places, &[build, example].concat()))?;
        let holder = built.join("examples/in_flight").display().to_string();
        rest.extend(["--in-flight".to_owned(), holder, "--takeover".to_owned(), runs.clone()]);
    }
    start(places, &built.join("homarus"), &rest)
}

/// The step of `cargo xtask test`.
pub fn in_test(places: &Places, homarus: &Path) -> Result<(), String> {
    match start(places, homarus, &["--kills".to_owned(), KILLS_IN_TEST.to_owned()])? {
        true => Ok(()),
        false => Err("what a kill must not do was done; see the table above".to_owned()),
    }
}

fn start(places: &Places, homarus: &Path, args: &[String]) -> Result<bool, String> {
    sh::run(&mut sh::cargo(places, &["build", "-p", "homarus-test-kit", "--bin", "torture"]))?;
    let harness: PathBuf = places.target.join("debug/torture");
    let mut command = sh::command(places, harness);
    command.arg("--homarus").arg(homarus).args(args);
    match sh::status(&mut command)?.code() {
        Some(0) => Ok(true),
        Some(1) => Ok(false),
        other => Err(format!("the torture did not come to its end: {other:?}")),
    }
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
