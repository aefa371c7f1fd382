//! Twenty small jobs, each with a checker, done by Homarus and by other engines with the same model behind the same
//! model server: how many are done, in how many steps, with how many tokens, in what time.
//!
//! Ten of the jobs are the demo's, on which Homarus was tuned; the other ten (`evals/jobs`) are held out: texts that
//! the model sees are tuned on `evals/practice` and on the demo's alone.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    bench::{
        clients::{self, Kind},
        server::ModelServer,
    },
    bootstrap, build,
    demo::{self, job::Job},
    places::Places,
    sh,
};

mod attempt;
mod engines;
mod front;
mod model;
mod table;
mod wire;
mod worker;

use attempt::Outcome;
use engines::{CONTEXT_TOKENS, Engine, Installed, MODEL};
use front::Front;
use model::Model;
use table::Table;
use worker::Worker;

const MINUTES_MAX_DEFAULT: u64 = 15;
const MINUTES_MAX_MAX: u64 = 240;
/// With `--quick`, one job of so many.
const QUICK_EVERY: usize = 5;

#[derive(Debug, PartialEq, Eq)]
pub struct Options {
    engines: Vec<Engine>,
    /// Only these jobs; all, if there are none.
    names: Vec<String>,
    /// Only so many jobs, from the first.
    jobs_max: Option<usize>,
    quick: bool,
    practice: bool,
    /// A script answers in the model's place.
    scripted: bool,
    minutes_max: u64,
    out: Option<PathBuf>,
    keep: bool,
}

impl Options {
    pub fn parse(args: &[&str]) -> Result<Self, String> {
        let mut options = Self {
            engines: engines::DEFAULT.to_vec(),
            names: Vec::new(),
            jobs_max: None,
            quick: false,
            practice: false,
            scripted: false,
            minutes_max: MINUTES_MAX_DEFAULT,
            out: None,
            keep: false,
        };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let mut value = || args.next().copied().ok_or_else(|| format!("`{arg}` needs a value"));
            match *arg {
                "--only" => options.engines = engines(value()?)?,
                "--job" => options.names.extend(value()?.split(',').map(str::to_owned)),
                "--jobs" => options.jobs_max = Some(number(arg, value()?, usize::MAX as u64)? as usize),
                "--quick" => options.quick = true,
                "--practice" => options.practice = true,
                "--scripted" => options.scripted = true,
                "--minutes-max" => options.minutes_max = number(arg, value()?, MINUTES_MAX_MAX)?,
                "--out" => options.out = Some(PathBuf::from(value()?)),
                "--keep" => options.keep = true,
                other => return Err(format!("`evals` takes no option `{other}`")),
            }
        }
        if options.scripted && !options.engines.iter().all(|engine| engine.asks_the_front()) {
            return Err("an engine with a model of its own cannot be --scripted".to_owned());
        }
        let chosen = [!options.names.is_empty(), options.jobs_max.is_some(), options.quick];
        match chosen.iter().filter(|chosen| **chosen).count() {
            0 | 1 => Ok(options),
            _ => Err("choose one of --job, --jobs and --quick".to_owned()),
        }
    }

    fn choose(&self, jobs: Vec<Job>) -> Result<Vec<Job>, String> {
        if let Some(name) = self.names.iter().find(|name| !jobs.iter().any(|job| job.name == **name)) {
            let names: Vec<&str> = jobs.iter().map(|job| job.name.as_str()).collect();
            return Err(format!("there is no job `{name}`; there are {}", names.join(", ")));
        }
        if !self.names.is_empty() {
            return Ok(jobs.into_iter().filter(|job| self.names.contains(&job.name)).collect());
        }
        let every = if self.quick { QUICK_EVERY } else { 1 };
        Ok(jobs.into_iter().step_by(every).take(self.jobs_max.unwrap_or(usize::MAX)).collect())
    }
}

/// Those named, each once.
fn engines(names: &str) -> Result<Vec<Engine>, String> {
    let mut engines = Vec::new();
    for name in names.split(',') {
        let engine = engine(name)?;
        if !engines.contains(&engine) {
            engines.push(engine);
        }
    }
    Ok(engines)
}

fn engine(name: &str) -> Result<Engine, String> {
    let known = || engines::ALL.map(Engine::name).join(", ");
    Engine::named(name).ok_or_else(|| format!("there is no engine `{name}`, only: {}", known()))
}

fn number(option: &str, value: &str, most: u64) -> Result<u64, String> {
    let parsed = value.parse().ok().filter(|number| (1..=most).contains(number));
    parsed.ok_or_else(|| format!("`{option}` needs a number from 1 to {most}, not `{value}`"))
}

/// `Ok(true)` if Homarus did more of the jobs than each other engine that was measured; with a script, if every engine
/// did every job.
pub fn run(places: &Places, options: &Options) -> Result<bool, String> {
    let jobs = options.choose(jobs(places, options.practice)?)?;
    bootstrap::run(places)?;
    let (homarus, model) = if options.scripted { scripted(places)? } else { embedded(places)? };
    let folder = std::env::temp_dir().join(format!("homarus-evals-{}", std::process::id()));
    let homes = folder.join("homes");
    let installed = install(places, &homarus, &options.engines, &homes);
    let result = installed.and_then(|installed| measure(places, &installed, &model, &jobs, options, &folder));
    if options.keep {
        println!("workspaces, outputs and requests are kept in {}", folder.display());
    } else {
        // It is in the folder for temporary files, and nobody waits for an answer.
        let _ = fs::remove_dir_all(&folder);
    }
    let table = result?;
    println!("\n{}\n{}", table.to_markdown(), table.reasons());
    if let Some(out) = &options.out {
        let text = table.to_json().to_string() + "\n";
        fs::write(out, text).map_err(|error| format!("{}: {error}", out.display()))?;
    }
    Ok(if options.scripted { table.is_all_done() } else { table.homarus_leads() })
}

/// The twenty, or those for practice.
fn jobs(places: &Places, practice: bool) -> Result<Vec<Job>, String> {
    if practice {
        return Job::all(&places.root.join("evals/practice"));
    }
    let mut jobs = Job::all(&places.root.join("demo/jobs"))?;
    jobs.extend(Job::all(&places.root.join("evals/jobs"))?);
    Ok(jobs)
}

/// Our program and the embedded model.
fn embedded(places: &Places) -> Result<(PathBuf, Model), String> {
    let built = build::run(places)?;
    demo::pull(places, &built)?;
    let weights = weights(places)?;
    // It needs no watching: it ends when its input does.
    let start = move || {
        let mut command = std::process::Command::new(&built.worker);
        command.arg("--weights").arg(&weights).args(["--context-tokens", &CONTEXT_TOKENS.to_string()]);
        Worker::start(command)
    };
    Ok((built.homarus, Model::Embedded(Front::start(MODEL, Box::new(start))?)))
}

/// Our program, and a script in the model's place.
fn scripted(places: &Places) -> Result<(PathBuf, Model), String> {
    sh::run(&mut sh::cargo(places, &["build", "--release", "-p", "homarus"]))?;
    Ok((places.target.join("release/homarus"), Model::Scripted(ModelServer::start()?)))
}

/// Engine by engine, so that what each keeps from request to request (the beginning of its prompts in the model's
/// cache) is there as it would be in its daily use.
fn measure(
    places: &Places,
    installed: &[Installed],
    model: &Model,
    jobs: &[Job],
    options: &Options,
    folder: &Path,
) -> Result<Table, String> {
    let names: Vec<String> = jobs.iter().map(|job| job.name.clone()).collect();
    let mut table = Table::new(options.engines.clone(), names);
    let time_max = Duration::from_secs(options.minutes_max * 60);
    for (column, engine) in installed.iter().enumerate() {
        println!("\n{}: {}", engine.engine.name(), engine.version());
        for (row, job) in jobs.iter().enumerate() {
            let own = folder.join(engine.engine.name()).join(&job.name);
            attempt::fresh(&own)?;
            let outcome = attempt::run(places, engine, model, job, &own, time_max)
                .unwrap_or_else(|message| Outcome { failure: Some(message), ..Outcome::default() });
            println!("  {}: {}", job.name, table::cell(&outcome));
            if let Some(failure) = &outcome.failure {
                println!("    {failure}");
            }
            table.set(row, column, outcome);
        }
    }
    Ok(table)
}

fn install(places: &Places, homarus: &Path, wanted: &[Engine], homes: &Path) -> Result<Vec<Installed>, String> {
    let (mut peers, notes) = match wanted.iter().any(|engine| engine.is_theirs()) {
        true => clients::all(places, homarus, homes)?,
        false => (Vec::new(), Vec::new()),
    };
    wanted
        .iter()
        .map(|engine| {
            let kind = match engine {
                Engine::Homarus | Engine::Embedded => return Installed::ours(*engine, places, homarus, homes),
                Engine::OpenCode => Kind::OpenCode,
                Engine::Goose => Kind::Goose,
            };
            let missing = || format!("{} cannot be measured: {}", engine.name(), notes.join("; "));
            let at = peers.iter().position(|client| client.kind == kind).ok_or_else(missing)?;
            Ok(Installed::theirs(*engine, peers.swap_remove(at), places))
        })
        .collect()
}

/// The file that `homarus models pull` fetched.
fn weights(places: &Places) -> Result<PathBuf, String> {
    let wrong = |error: std::io::Error| format!("{}: {error}", places.models.display());
    let names = places.models.read_dir().map_err(wrong)?.flatten().map(|entry| entry.path());
    let plain = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        name.starts_with(MODEL) && name.ends_with(".gguf")
    };
    names
        .into_iter()
        .find(|path| plain(path))
        .ok_or_else(|| format!("no weights of {MODEL} in {}", places.models.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        bench::clients::Client,
        demo::{check, session},
    };

    #[test]
    fn options() {
        let parsed =
            Options::parse(&["--only", "goose,homarus,goose", "--jobs", "2", "--minutes-max", "3", "--keep"]).unwrap();
        assert_eq!(parsed.engines, [Engine::Goose, Engine::Homarus]);
        assert_eq!((parsed.jobs_max, parsed.minutes_max, parsed.keep), (Some(2), 3, true));
        for bad in
            [&["--only", "gose"][..], &["--jobs", "0"], &["--minutes-max"], &["--all"], &["--quick", "--job", "x"]]
        {
            assert!(Options::parse(bad).is_err(), "{bad:?}");
        }
        assert!(Options::parse(&["--scripted", "--quick"]).unwrap().scripted);
        assert!(Options::parse(&["--scripted", "--only", "homarus,embedded"]).is_err(), "its model is its own");
    }

    #[test]
    fn there_are_twenty_jobs_and_ten_for_practice() {
        let places = Places::find().unwrap();
        let all = jobs(&places, false).unwrap();
        assert_eq!(all.len(), 20);
        let names: std::collections::BTreeSet<&str> = all.iter().map(|job| job.name.as_str()).collect();
        assert_eq!(names.len(), 20, "one name is one job");
        assert_eq!(jobs(&places, true).unwrap().len(), 10);
        let chosen = |args: &[&str]| Options::parse(args).unwrap().choose(jobs(&places, false).unwrap());
        assert_eq!(chosen(&["--quick"]).unwrap().len(), 4);
        assert_eq!(chosen(&["--jobs", "3"]).unwrap().len(), 3);
        assert_eq!(chosen(&["--job", "18-fix-total"]).unwrap().len(), 1);
        assert_eq!(chosen(&["--job", "18-fix-total,01-triage", "--job", "02-port-mismatch"]).unwrap().len(), 3);
        assert!(chosen(&["--job", "01-triage,18"]).is_err_and(|error| error.contains("no job `18`; there are")));
    }

    /// The twenty and those for practice.
    fn every(places: &Places) -> Vec<Job> {
        [false, true].into_iter().flat_map(|practice| jobs(places, practice).unwrap()).collect()
    }

    /// A checker that anything satisfies, or nothing, would say nothing of an engine.
    #[test]
    fn no_job_is_done_before_it_is_begun_and_its_solution_does_it() {
        let places = Places::find().unwrap();
        let folder = std::env::temp_dir().join(format!("xtask-evals-{}", std::process::id()));
        for job in &every(&places) {
            let workspace = folder.join(&job.name);
            session::copy(&job.workspace(), &workspace).unwrap();
            let failures = |workspace: &Path| check::failures(&places, &job.check, &job.workspace(), workspace);
            assert!(!failures(&workspace).is_empty(), "{}", job.name);
            session::copy(&model::solution(job), &workspace).unwrap();
            assert_eq!(failures(&workspace), Vec::<String>::new(), "{}", job.name);
        }
        fs::remove_dir_all(folder).unwrap();
    }

    /// With an engine that does nothing, so that its folder is afterwards what it got.
    #[test]
    fn no_engine_gets_a_solution() {
        let places = Places::find().unwrap();
        let folder = std::env::temp_dir().join(format!("xtask-evals-idle-{}", std::process::id()));
        let client = Client { kind: Kind::Goose, program: PathBuf::from("/bin/true"), home: folder.join("home") };
        let idle = Installed::theirs(Engine::Goose, client, &places);
        let model = Model::Scripted(ModelServer::start().unwrap());
        for job in &every(&places) {
            let own = folder.join(&job.name);
            attempt::fresh(&own).unwrap();
            let outcome = attempt::run(&places, &idle, &model, job, &own, Duration::from_secs(600)).unwrap();
            assert!(!outcome.is_done(), "{}: nobody did it", job.name);
            let got: Vec<PathBuf> = model::files(&own).unwrap();
            for name in ["solution", "job.toml"] {
                let has = |path: &PathBuf| path.strip_prefix(&own).unwrap().iter().any(|part| part == name);
                assert!(!got.iter().any(has), "{}: {name} among {got:?}", job.name);
            }
            for right in model::files(&model::solution(job)).unwrap() {
                let text = fs::read(&right).unwrap();
                let same = got.iter().find(|path| fs::read(path).unwrap() == text);
                assert_eq!(same, None, "{}: as in {}", job.name, right.display());
            }
        }
        fs::remove_dir_all(folder).unwrap();
    }
}
