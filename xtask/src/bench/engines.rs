//! What is measured below the program: the journal beside other durable engines, the sandbox beside bubblewrap.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde::Deserialize;

use super::{
    stats::{milliseconds, percentile},
    table::{OURS, Section},
};
use crate::{places::Places, sh, torture};

/// Packages of PyPI with their versions.
const PYPI: [&str; 3] = ["dbos==3.4.0", "langgraph==1.2.22", "langgraph-checkpoint-sqlite==3.1.2"];
const DBOS: &str = include_str!("steps_dbos.py");
const LANGGRAPH: &str = include_str!("steps_langgraph.py");
const RUNS: usize = 100;
/// Of all runs together: some seconds.
const OUR_STEPS: usize = 30_000;
const STARTS: usize = 200;
const BWRAP: &str = "bwrap, same namespaces";
const JOURNAL: &str = "homarus, journal: intent and result";

#[derive(Deserialize)]
struct Rate {
    per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
}

impl Rate {
    fn read(line: &str) -> Result<Self, String> {
        serde_json::from_str(line.trim()).map_err(|error| format!("{error}: {line}"))
    }

    fn figures(&self) -> Vec<Option<f64>> {
        vec![Some(self.per_second), Some(self.p50_ms), Some(self.p99_ms)]
    }
}

/// A process with so many runs in flight is killed, and one command takes all of them over.
pub fn takeover(places: &Places, homarus: &Path, quick: bool) -> Section {
    let runs = if quick { "1000" } else { "10000" };
    let title = format!("Takeover of {runs} runs in flight after a kill (s), by one process (MiB)");
    let columns = ["all taken over", "claiming them", "all ended", "memory", "lost"];
    let mut section = Section::new("takeover", title, &columns);
    match torture::takeover(places, homarus, runs) {
        Ok(took) => {
            let figures = [took.taken_over_s, took.claimed_s, took.ended_s, took.memory_mib, took.lost];
            section.row(OURS, figures.map(Some).to_vec());
        }
        Err(error) => section.fail(OURS, format!("{OURS}: {error}")),
    }
    section
}

/// Steps that are durable when they count, by many runs at once.
pub fn steps(places: &Places, folder: &Path, quick: bool) -> Section {
    let title = format!("Durable steps, {RUNS} runs at once, SQLite");
    let mut section = Section::new("steps", title, &["steps/s", "p50 (ms)", "p99 (ms)"]);
    match our_rate(places, &folder.join("journal"), if quick { OUR_STEPS / 10 } else { OUR_STEPS }) {
        Ok(rate) => section.row(JOURNAL, rate.figures()),
        Err(error) => section.fail(JOURNAL, format!("{JOURNAL}: {error}")),
    }
    let steps = if quick { 2 } else { 20 };
    let python = install(&places.peers().join("python"));
    for (who, script) in [("dbos", DBOS), ("langgraph, SQLite checkpointer", LANGGRAPH)] {
        let python = python.as_ref().map_err(Clone::clone);
        match python.and_then(|python| their_rate(python, script, steps, &folder.join(&who[..4]))) {
            Ok(rate) => section.row(who, rate.figures()),
            Err(error) => section.fail(who, format!("{who}: {error}")),
        }
    }
    section.note("Ours is the journal alone, without a driver: two commits a step, what is to be done and, once that is durable, what became of it. The others run their engines.");
    section
}

fn our_rate(places: &Places, folder: &Path, steps: usize) -> Result<Rate, String> {
    let mut example =
        sh::cargo(places, &["run", "--release", "--quiet", "-p", "homarus-store", "--example", "append_rate", "--"]);
    let printed = sh::output(example.arg(folder).args([RUNS.to_string(), steps.to_string()]))?;
    Rate::read(printed.lines().next().unwrap_or_default())
}

fn their_rate(python: &Path, script: &str, steps: usize, folder: &Path) -> Result<Rate, String> {
    let path = folder.join("steps.py");
    let written = fs::create_dir_all(folder).and_then(|()| fs::write(&path, script));
    written.map_err(|error| format!("{}: {error}", path.display()))?;
    let mut command = Command::new(python);
    command.arg(&path).args([RUNS.to_string(), steps.to_string()]).arg(folder).current_dir(folder).stdin(Stdio::null());
    let printed = sh::output(&mut command)?;
    Rate::read(printed.lines().last().unwrap_or_default())
}

/// The interpreter that has the packages.
fn install(folder: &Path) -> Result<std::path::PathBuf, String> {
    let (python, marker) = (folder.join("bin/python"), folder.join("installed"));
    let wanted = PYPI.join("\n");
    if fs::read_to_string(&marker).is_ok_and(|installed| installed == wanted) {
        return Ok(python);
    }
    sh::run(Command::new("python3").args(["-m", "venv"]).arg(folder).stdin(Stdio::null()))?;
    sh::run(Command::new(&python).args(["-m", "pip", "install", "--quiet"]).args(PYPI).stdin(Stdio::null()))?;
    fs::write(&marker, wanted).map_err(|error| format!("{}: {error}", marker.display()))?;
    Ok(python)
}

#[derive(Deserialize)]
struct Starts {
    start_p50_ms: f64,
    output_p50_ms: f64,
    output_p99_ms: f64,
    whole_p50_ms: f64,
}

/// From the request for a sandbox to the first byte that the program in it prints, by one clock for both; and what ours
/// says of itself.
pub fn sandbox(places: &Places, folder: &Path, quick: bool) -> Section {
    let title = "A sandbox for `/bin/echo`, from the request on (ms)";
    let columns = ["to first byte of output p50", "p99", "whole p50", "to start of the program p50"];
    let mut section = Section::new("sandbox", title, &columns);
    let count = if quick { STARTS / 10 } else { STARTS };
    for (who, pause_ms) in [(OURS, "20"), ("homarus, without a pause before", "0")] {
        let args = ["run", "--release", "--quiet", "-p", "homarus-sandbox", "--example", "start", "--"];
        let mut example = sh::cargo(places, &args);
        let printed = sh::output(example.args([&count.to_string(), pause_ms]));
        let read = |printed: String| {
            let line = printed.lines().last().unwrap_or_default().to_owned();
            serde_json::from_str::<Starts>(&line).map_err(|error| format!("{error}: {line}"))
        };
        match printed.and_then(read) {
            Ok(starts) => {
                let figures = [starts.output_p50_ms, starts.output_p99_ms, starts.whole_p50_ms, starts.start_p50_ms];
                section.row(who, figures.map(Some).to_vec());
            }
            Err(error) => section.fail(who, format!("{who}: {error}")),
        }
    }
    match bwrap(folder, count) {
        Ok((output, whole)) => {
            let (output, whole) = (milliseconds(&output), milliseconds(&whole));
            let figures = [percentile(&output, 0.5), percentile(&output, 0.99), percentile(&whole, 0.5), None];
            section.row(BWRAP, figures.to_vec());
        }
        Err(error) => section.fail(BWRAP, format!("{BWRAP}: {error}")),
    }
    section.note("Ours also has a layer over the workspace, Landlock, seccomp and limits; bwrap has only the namespaces and mounts.");
    section.note("To the start of the program: as the receipt of a call says it, up to the report of what starts the program. bwrap has nothing that says it.");
    section
}

/// `bwrap` with the namespaces that ours has and one folder that may be written; what it is to run comes after.
pub fn bubblewrap(writable: &Path) -> Result<Command, String> {
    if !sh::on_path("bwrap") {
        return Err("bwrap is not installed (Debian package bubblewrap)".to_owned());
    }
    let mut command = Command::new("bwrap");
    command.args(["--unshare-user", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"]);
    command.args(["--unshare-cgroup", "--die-with-parent", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc"]);
    command.args(["--tmpfs", "/tmp", "--bind"]).arg(writable).arg(writable).arg("--");
    Ok(command)
}

/// Until the first byte of what the program in it prints, and until it has ended.
fn bwrap(folder: &Path, count: usize) -> Result<(Vec<Duration>, Vec<Duration>), String> {
    fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let (mut printed, mut whole) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let mut command = bubblewrap(folder)?;
        command.arg("/bin/echo");
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let began = Instant::now();
        let mut child = command.spawn().map_err(|error| format!("bwrap: {error}"))?;
        let mut output = child.stdout.take().ok_or("no standard output")?;
        let mut byte = [0];
        std::io::Read::read_exact(&mut output, &mut byte).map_err(|error| format!("it printed nothing: {error}"))?;
        printed.push(began.elapsed());
        child.wait().map_err(|error| error.to_string())?;
        whole.push(began.elapsed());
    }
    Ok((printed, whole))
}
