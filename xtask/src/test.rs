//! Everything that must pass, in one command: each step runs whatever became of those before it, and the
//! last line counts.

mod ignored;
mod machine;
mod python;
mod runner;
mod tally;

use std::time::{Duration, Instant};

use crate::{
    bench, bootstrap, build, demo,
    env::{
        self, HOMARUS_MODELS_DIR, HOMARUS_TEST_CLIENTS, HOMARUS_TEST_FAKELLM, HOMARUS_TEST_LOCAL_MODEL,
        HOMARUS_TEST_STUBLLM,
    },
    places::Places,
    sh, tidy, torture,
};
use runner::Runner;
use tally::Tally;

/// Model servers that tests speak to, which are not ours: packages of PyPI with their versions, each with an
/// executable of the same name, and the variable by which tests find it.
const MODEL_SERVERS: [(&str, &str, &str); 2] =
    [("fakellm", "0.3.5", HOMARUS_TEST_FAKELLM), ("stubllm", "0.1.5", HOMARUS_TEST_STUBLLM)];

/// The providers' own clients, by which our idea of their formats is checked.
const CLIENTS: [(&str, &str); 3] = [("openai", "3.54.0"), ("anthropic", "2.12.0"), ("google-genai", "3.4.0")];

const CHROMIUM: &[&str] = &["chromium", "chromium-browser"];

/// Programs that some tests use, any of each list, and the Debian package that holds them.
const USED_BY_TESTS: [(&[&str], &str); 4] =
    [(&["tmux"], "tmux"), (CHROMIUM, "chromium"), (&["mkfs.ext4"], "e2fsprogs"), (&["valgrind"], "valgrind")];

/// What a step found. A step that is one check counts as one; one that runs tests counts them.
struct Outcome {
    tally: Tally,
    /// What failed or was skipped, and why.
    notes: Vec<String>,
}

struct Step {
    name: &'static str,
    took: Duration,
    outcome: Outcome,
}

/// Runs everything; `Ok(true)` if nothing failed.
pub fn run(places: &Places) -> Result<bool, String> {
    bootstrap::run(places)?;
    for (programs, package) in USED_BY_TESTS {
        // A test that lacks one says that it was skipped.
        bootstrap::optional(places, programs, package);
    }
    machine::describe(places);
    let mut steps = Vec::new();
    let mut step = |name: &'static str, work: &mut dyn FnMut() -> Outcome| {
        println!("\n=== {name}");
        let began = Instant::now();
        let outcome = work();
        steps.push(Step { name, took: began.elapsed(), outcome });
    };

    step("format", &mut || Outcome::of(sh::run(&mut sh::cargo(places, &["fmt", "--all", "--check"]))));
    step("tidy", &mut || tidy_step(places));
    step("clippy", &mut || Outcome::of(clippy(places)));
    let mut built = None;
    step("build", &mut || Outcome::of(build::run(places).map(|done| built = Some(done))));
    step("size of the program", &mut || match &built {
        Some(built) => Outcome::of(bench::size_in_test(&built.homarus)),
        None => Outcome::skipped("the build failed"),
    });
    step("weights", &mut || match &built {
        Some(built) => Outcome::of(demo::pull_for_tests(places, built)),
        None => Outcome::skipped("the build failed"),
    });
    let mut servers = false;
    step("model servers for tests", &mut || Outcome::of(install_model_servers(places).map(|()| servers = true)));
    let mut clients = false;
    step("official clients for tests", &mut || match python::install(places, &places.clients_venv, &CLIENTS) {
        // The tests that need them then say that they were skipped.
        Err(_) if !python::registry_answers(places, &places.clients_venv) => {
            Outcome::skipped("the Python package index is out of reach")
        }
        installed => Outcome::of(installed.map(|()| clients = true)),
    });

    let runner = Runner { nextest: bootstrap::nextest(places), places };
    let prepare = |cargo: &mut std::process::Command| {
        for name in env::user_names() {
            cargo.env_remove(name);
        }
        cargo.env(HOMARUS_MODELS_DIR, &places.models);
        if let Some(built) = &built {
            cargo.env(HOMARUS_TEST_LOCAL_MODEL, &built.worker);
        }
        for (name, _, variable) in MODEL_SERVERS.iter().filter(|_| servers) {
            cargo.env(variable, places.venv.join("bin").join(name));
        }
        if clients {
            cargo.env(HOMARUS_TEST_CLIENTS, places.clients_venv.join("bin/python"));
        }
    };
    step("tests", &mut || {
        let mut outcome = runner.tests(&["--workspace", "--exclude", "homarus-local-model"], sh::cargo, &prepare);
        let ignored = ignored::below(&places.root.join("crates"));
        outcome.notes.extend(ignored.into_iter().map(|(name, reason)| format!("skipped: {name}: {reason}")));
        outcome
    });
    step("clippy of the inference worker", &mut || Outcome::of(worker_clippy(places)));
    step("tests of the inference worker", &mut || {
        // In the same profile as the build above, so that llama.cpp is compiled once.
        runner.tests(&["--release", "-p", "homarus-local-model"], build::worker_cargo, &prepare)
    });
    step("examples in the documentation", &mut || runner.doc_tests(&prepare));
    step("instructions", &mut || match sh::on_path("valgrind") {
        true => Outcome::of(bench::instructions_in_test(places)),
        false => Outcome::skipped("there is no valgrind to count with"),
    });
    step("torture", &mut || match &built {
        Some(built) => {
            let mut outcome = Outcome::of(torture::in_test(places, &built.homarus));
            if !CHROMIUM.iter().any(|name| sh::on_path(name)) {
                outcome.left_out("the browser's tools: there is no Chromium");
            }
            outcome
        }
        None => Outcome::skipped("the build failed"),
    });
    // When nothing else runs: its limits are of time too.
    step("sandbox self-test", &mut || match &built {
        Some(built) => selftest(places, built),
        None => Outcome::skipped("the build failed"),
    });
    // Last, when nothing else runs: inference has the machine to itself.
    step("demo", &mut || match &built {
        Some(built) => demo_step(places, built),
        None => Outcome::skipped("the build failed"),
    });
    Ok(summarize(&steps))
}

/// One run lints everything; the bans of `clippy.toml` hold for what is shipped and not for its tests.
fn clippy(places: &Places) -> Result<(), String> {
    let workspace = ["clippy", "--workspace", "--exclude", "homarus-local-model"];
    let all: &[&str] = &["--all-targets", "--", "-D", "warnings", "-A", "clippy::disallowed_methods"];
    let shipped: &[&str] = &["--", "-D", "warnings"];
    sh::run(&mut sh::cargo(places, &[&workspace, all].concat()))?;
    sh::run(&mut sh::cargo(places, &[&workspace, shipped].concat()))
}

/// In the profile of its build, so that llama.cpp is compiled once.
fn worker_clippy(places: &Places) -> Result<(), String> {
    let options = ["clippy", "--release", "--all-targets", "-p", "homarus-local-model", "--", "-D", "warnings"];
    sh::run(&mut build::worker_cargo(places, &options))
}

fn tidy_step(places: &Places) -> Outcome {
    let checked = match tidy::check(places) {
        Ok(checked) => checked,
        Err(message) => return Outcome::of(Err(message)),
    };
    tidy::print(&checked);
    let mut outcome = Outcome { tally: Tally::default(), notes: Vec::new() };
    for rule in &checked {
        if rule.holds() {
            outcome.tally.passed += 1;
        } else {
            outcome.tally.failed += 1;
            outcome.notes.push(format!("failed: {}", rule.rule));
        }
    }
    outcome
}

/// The shipped program attacks its own sandbox.
fn selftest(places: &Places, built: &build::Built) -> Outcome {
    let mut command = sh::command(places, &built.homarus);
    for name in env::user_names() {
        command.env_remove(name);
    }
    // It keeps a record, which is none of the user's.
    let home = std::env::temp_dir().join(format!("homarus-selftest-{}", std::process::id()));
    let outcome = Outcome::of(sh::run(command.args(["sandbox", "selftest"]).env("HOMARUS_HOME", &home)));
    // It is in the folder for temporary files, and nobody waits for an answer.
    let _ = std::fs::remove_dir_all(&home);
    outcome
}

/// The main job of the demo, done by the embedded model.
fn demo_step(places: &Places, built: &build::Built) -> Outcome {
    match demo::run_built(places, built, &demo::Options::default()) {
        Ok(true) => Outcome::of(Ok(())),
        Ok(false) => Outcome::of(Err("the job was not done".to_owned())),
        Err(message) => Outcome::of(Err(message)),
    }
}

fn install_model_servers(places: &Places) -> Result<(), String> {
    let packages = MODEL_SERVERS.map(|(name, version, _)| (name, version));
    python::install(places, &places.venv, &packages)
}

fn summarize(steps: &[Step]) -> bool {
    println!("\n=== summary");
    let mut total = Tally::default();
    for step in steps {
        let tally = &step.outcome.tally;
        println!("{:<32} {:>6.1} s   {tally}", step.name, step.took.as_secs_f64());
        for note in &step.outcome.notes {
            println!("    {note}");
        }
        total.add(tally);
    }
    println!("{total}");
    total.failed == 0
}

impl Outcome {
    /// Of a step that is one check.
    fn of(result: Result<(), String>) -> Self {
        match result {
            Ok(()) => Self { tally: Tally { passed: 1, ..Tally::default() }, notes: Vec::new() },
            Err(message) => {
                println!("{message}");
                let first = message.lines().next().unwrap_or_default();
                Self { tally: Tally { failed: 1, ..Tally::default() }, notes: vec![format!("failed: {first}")] }
            }
        }
    }

    fn skipped(why: &str) -> Self {
        println!("skipped: {why}");
        Self { tally: Tally { skipped: 1, ..Tally::default() }, notes: vec![format!("skipped: {why}")] }
    }

    /// A part of it was skipped.
    fn left_out(&mut self, why: &str) {
        self.tally.skipped += 1;
        self.notes.push(format!("skipped: {why}"));
    }
}
