//! Our figures beside our goals, and beside those of other programs on the same work in the same run.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{bootstrap, places::Places, sh};

pub mod clients;
mod engines;
mod floor;
mod instructions;
mod job;
mod measures;
mod memory;
pub mod server;
mod stats;
mod table;
mod wire;

use measures::Bench;
use table::{Goals, Section, Verdict};

const GOALS: &str = include_str!("bench/goals.toml");
const SECTIONS: [&str; 12] = [
    "size",
    "start-up",
    "first-request",
    "gap",
    "gap-thinking",
    "gap-32",
    "gap-100",
    "first-output",
    "steps",
    "sandbox",
    "takeover",
    "instructions",
];

#[derive(Debug, Default)]
pub struct Options {
    /// Only these tables; all if empty.
    only: Vec<String>,
    quick: bool,
    out: Option<PathBuf>,
}

impl Options {
    pub fn parse(args: &[&str]) -> Result<Self, String> {
        let mut options = Self::default();
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let mut value = || args.next().copied().ok_or_else(|| format!("`{arg}` needs a value"));
            match *arg {
                "--quick" => options.quick = true,
                "--only" => options.only = value()?.split(',').map(str::to_owned).collect(),
                "--out" => options.out = Some(PathBuf::from(value()?)),
                other => return Err(format!("`bench` takes no option `{other}`")),
            }
        }
        match options.only.iter().find(|name| !SECTIONS.contains(&name.as_str())) {
            Some(name) => Err(format!("there is no table `{name}`, only: {}", SECTIONS.join(", "))),
            None => Ok(options),
        }
    }

    fn wants(&self, section: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|name| name == section)
    }
}

/// Measures and prints; `Ok(false)` if a goal is missed, or something of ours could not be measured.
pub fn run(places: &Places, options: &Options) -> Result<bool, String> {
    let goals = goals()?;
    sh::run(&mut sh::cargo(places, &["build", "--release", "-p", "homarus"]))?;
    let homarus = places.target.join("release/homarus");
    let folder = std::env::temp_dir().join(format!("homarus-bench-{}", std::process::id()));
    let cleanup = Cleanup(folder.clone());
    bootstrap::optional(places, &["bwrap"], "bubblewrap");
    bootstrap::optional(places, &["valgrind"], "valgrind");
    let (clients, notes) = clients::all(places, &homarus, &folder.join("homes"))?;
    let server = server::ModelServer::start()?;
    let bench = Bench { clients: &clients, server: &server, folder: &folder, quick: options.quick };
    machine(&clients);
    for note in notes {
        println!("not measured: {note}");
    }
    let mut sections: Vec<Section> = Vec::new();
    for id in SECTIONS.into_iter().filter(|id| options.wants(id)) {
        let first = sections.iter().find(|section| section.id == "first-request");
        let section = match id {
            "size" => size(&homarus),
            "start-up" => bench.start_up(),
            "first-request" => bench.first_request(),
            "gap" => bench.gap(),
            "gap-thinking" => bench.gap_thinking(),
            "gap-32" => bench.gap_at_once("gap-32", 32, first),
            "gap-100" => bench.gap_at_once("gap-100", 100, first),
            "first-output" => bench.first_output(),
            "steps" => engines::steps(places, &folder, options.quick),
            "sandbox" => engines::sandbox(places, &folder, options.quick),
            "takeover" => engines::takeover(places, &homarus, options.quick),
            _ => instructions(places, &folder),
        };
        println!("\n{}", section.to_markdown(&goals));
        sections.push(section);
    }
    drop(cleanup);
    if let Some(out) = &options.out {
        let tables: Vec<_> = sections.iter().map(Section::to_json).collect();
        let text = serde_json::Value::Array(tables).to_string();
        fs::write(out, text + "\n").map_err(|error| format!("{}: {error}", out.display()))?;
    }
    Ok(verdicts(&goals, &sections, options))
}

fn goals() -> Result<Goals, String> {
    toml::from_str(GOALS).map_err(|error| format!("the goals cannot be read: {error}"))
}

/// What a program must not be larger than, for the tests.
pub fn size_in_test(homarus: &Path) -> Result<(), String> {
    let (goals, sections) = (goals()?, [size(homarus)]);
    match goals.goal.iter().map(|goal| goal.judge(&sections)).find(|(_, verdict)| *verdict != Verdict::NotMeasured) {
        Some((text, Verdict::Met)) => {
            println!("{text}");
            Ok(())
        }
        Some((text, _)) => Err(text),
        None => Err(format!("{} cannot be looked at", homarus.display())),
    }
}

fn verdicts(goals: &Goals, sections: &[Section], options: &Options) -> bool {
    println!("## Goals\n");
    let mut counts = [0; 3];
    for (text, verdict) in goals.goal.iter().map(|goal| goal.judge(sections)) {
        let (at, mark) = match verdict {
            Verdict::Met => (0, "met"),
            Verdict::Missed => (1, "MISSED"),
            Verdict::NotMeasured => (2, "not measured"),
        };
        counts[at] += 1;
        if verdict != Verdict::NotMeasured || options.only.is_empty() {
            println!("- {mark}: {text}");
        }
    }
    let [met, missed, unmeasured] = counts;
    println!("\n{met} goals met, {missed} missed, {unmeasured} not measured");
    let failed: Vec<&str> = sections.iter().filter(|section| !section.is_whole()).map(|section| section.id).collect();
    if !failed.is_empty() {
        println!("FAILED, see the notes below the table: {}", failed.join(", "));
    }
    missed == 0 && failed.is_empty()
}

/// What the figures were measured on, and of what.
fn machine(clients: &[clients::Client]) {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    println!("machine: {} × {cores}", model.trim_start_matches([' ', '\t', ':']));
    for client in clients {
        let version = sh::output(&mut client.command(&["--version"])).unwrap_or_else(|error| error);
        println!("{}: {}", client.name(), version.lines().next().unwrap_or_default().trim());
    }
}

/// The bounds on instructions alone, for the tests.
pub fn instructions_in_test(places: &Places) -> Result<(), String> {
    let folder = std::env::temp_dir().join(format!("homarus-instructions-{}", std::process::id()));
    let _cleanup = Cleanup(folder.clone());
    let counted = instructions::run(places, &folder)?;
    println!("{}", counted.section.to_markdown(&goals()?));
    if counted.exceeded.is_empty() { Ok(()) } else { Err(counted.exceeded.join("; ")) }
}

fn instructions(places: &Places, folder: &Path) -> Section {
    match instructions::run(places, &folder.join("instructions")) {
        Ok(mut counted) => {
            for exceeded in &counted.exceeded {
                counted.section.fail(table::OURS, format!("more than it may be: {exceeded}"));
            }
            counted.section
        }
        Err(error) => {
            let mut section =
                Section::new("instructions", "Instructions of one piece of work", &["counted", "at most"]);
            section.fail(table::OURS, error);
            section
        }
    }
}

fn size(homarus: &Path) -> Section {
    let mut section = Section::new("size", "The program without its workers (MB)", &["size"]);
    let bytes = fs::metadata(homarus).map(|metadata| metadata.len() as f64 / 1e6).ok();
    section.row(table::OURS, vec![bytes]);
    section
}

/// Removes what a bench leaves, whatever became of it.
struct Cleanup(PathBuf);

impl Drop for Cleanup {
    fn drop(&mut self) {
        // It is in the folder for temporary files, and nobody waits for an answer.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_goal_is_of_a_table_there_is() {
        let goals: Goals = toml::from_str(GOALS).unwrap();
        assert!(goals.goal.len() >= 10);
        for goal in &goals.goal {
            let (text, verdict) = goal.judge(&[]);
            assert_eq!(verdict, Verdict::NotMeasured);
            assert!(SECTIONS.iter().any(|id| text.starts_with(&format!("{id},"))), "{text}");
        }
    }

    #[test]
    fn a_table_that_is_not_there_is_named() {
        assert!(Options::parse(&["--only", "gap,gab"]).unwrap_err().contains("`gab`"));
        assert!(Options::parse(&["--out"]).unwrap_err().contains("needs a value"));
        let options = Options::parse(&["--quick", "--only", "gap"]).unwrap();
        assert!(options.quick && options.wants("gap") && !options.wants("size"));
    }
}
