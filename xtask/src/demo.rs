//! The demo: an agent on the embedded model does a real job before your eyes, and what it did is checked on
//! disk. Jobs are folders of `demo/jobs`; Homarus is used through its command line, as a user would.

pub mod check;
mod cli;
pub mod job;
mod journal;
pub mod session;
mod show;

use std::path::{Path, PathBuf};

use crate::{
    bootstrap,
    build::{self, Built},
    places::Places,
};
use cli::Homarus;
use job::Job;
use session::Done;

const MODEL: &str = "qwen2.5-coder-1.5b";
/// Small and fast: for tests of everything around a model.
const PLUMBING_MODEL: &str = "smollm2-135m";
/// How many of all the jobs must be done: the model is a small one.
const DONE_MIN_OF_TEN: usize = 8;

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Options {
    all: bool,
    job: Option<String>,
    keep: bool,
}

impl Options {
    pub fn parse(args: &[&str]) -> Result<Self, String> {
        let mut options = Self::default();
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            match *arg {
                "--all" => options.all = true,
                "--keep" => options.keep = true,
                "--job" => options.job = Some((*args.next().ok_or("--job needs a name")?).to_owned()),
                other => return Err(format!("`demo` has no option `{other}`; it has --all, --job NAME and --keep")),
            }
        }
        if options.all && options.job.is_some() { Err("choose --all or --job".to_owned()) } else { Ok(options) }
    }
}

/// `Ok(true)`: the job was really done.
pub fn run(places: &Places, options: &Options) -> Result<bool, String> {
    bootstrap::run(places)?;
    let built = build::run(places)?;
    pull(places, &built)?;
    run_built(places, &built, options)
}

/// Fetches the weights of the demo's model; does nothing when they are there.
pub fn pull(places: &Places, built: &Built) -> Result<(), String> {
    pull_all(places, built, &[MODEL])
}

/// Fetches the weights that tests need.
pub fn pull_for_tests(places: &Places, built: &Built) -> Result<(), String> {
    pull_all(places, built, &[MODEL, PLUMBING_MODEL])
}

fn pull_all(places: &Places, built: &Built, models: &[&str]) -> Result<(), String> {
    let folder = Folder::make("pull")?;
    let homarus = Homarus::new(places, built, folder.path.join("home"));
    let result = models.iter().try_for_each(|model| homarus.pull(model));
    folder.remove();
    result
}

/// As [`run`], with what is built already and weights that are there.
pub fn run_built(places: &Places, built: &Built, options: &Options) -> Result<bool, String> {
    let jobs = Job::all(&places.root.join("demo/jobs"))?;
    if options.all {
        return all(places, built, &jobs, options.keep);
    }
    let job = match &options.job {
        Some(name) => jobs.iter().find(|job| job.name == *name).ok_or_else(|| unknown(name, &jobs))?,
        None => jobs.iter().find(|job| job.main).ok_or("no job of demo/jobs is marked as the main one")?,
    };
    let folder = Folder::make(&job.name)?;
    let homarus = Homarus::new(places, built, folder.path.join("home"));
    let done = session::run(places, &homarus, job, &folder.path.join("workspace"), &format!("local/{MODEL}"), true)?;
    show::journal_commands(&homarus, &done);
    println!("the workspace and the journal stay in {} until you delete it", folder.path.display());
    Ok(done.really())
}

fn all(places: &Places, built: &Built, jobs: &[Job], keep: bool) -> Result<bool, String> {
    let mut results: Vec<(&Job, Done)> = Vec::new();
    for (index, job) in jobs.iter().enumerate() {
        println!("\n[{}/{}] {}: {}", index + 1, jobs.len(), job.name, job.title);
        let folder = Folder::make(&job.name)?;
        let homarus = Homarus::new(places, built, folder.path.join("home"));
        let model = format!("local/{MODEL}");
        let done = session::run(places, &homarus, job, &folder.path.join("workspace"), &model, false)
            .unwrap_or_else(|message| Done { failures: vec![message], ..Done::default() });
        if keep {
            println!("  kept in {}", folder.path.display());
        } else {
            folder.remove();
        }
        results.push((job, done));
    }
    show::table(&results);
    let done = results.iter().filter(|(_, done)| done.really()).count();
    println!("{done} of {} done", results.len());
    Ok(!results.is_empty() && done * 10 >= results.len() * DONE_MIN_OF_TEN)
}

fn unknown(name: &str, jobs: &[Job]) -> String {
    let names: Vec<&str> = jobs.iter().map(|job| job.name.as_str()).collect();
    format!("there is no job `{name}`; there are {}", names.join(", "))
}

/// A temporary folder of one job: its workspace, and a Homarus home of its own.
struct Folder {
    path: PathBuf,
}

impl Folder {
    fn make(name: &str) -> Result<Self, String> {
        let path = std::env::temp_dir().join(format!("homarus-demo-{}", std::process::id())).join(name);
        std::fs::create_dir_all(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self { path })
    }

    /// Best effort: what stays behind is in the folder for temporary files.
    fn remove(self) {
        let _ = std::fs::remove_dir_all(&self.path);
        // Only when it was the last of this process.
        let _ = std::fs::remove_dir(self.path.parent().unwrap_or(Path::new("")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options() {
        assert_eq!(Options::parse(&[]), Ok(Options::default()));
        assert_eq!(Options::parse(&["--all", "--keep"]), Ok(Options { all: true, keep: true, job: None }));
        assert_eq!(Options::parse(&["--job", "x"]).unwrap().job.as_deref(), Some("x"));
        for bad in [&["--job"][..], &["--al"], &["--all", "--job", "x"]] {
            assert!(Options::parse(bad).is_err(), "{bad:?}");
        }
    }
}
