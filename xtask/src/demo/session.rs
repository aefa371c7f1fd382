//! One job from its start to its check: a copy of its workspace, a run, the answers a person would give,
//! and then a look at the disk.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use super::{
    check,
    cli::{Homarus, Question, RunDetail},
    job::Job,
    journal::{self, Verdicts},
    show,
};
use crate::places::Places;

const POLL: Duration = Duration::from_millis(400);
/// How long a cancelled run may take to close its journal.
const CANCEL: Duration = Duration::from_secs(20);

/// What became of a job.
#[derive(Debug, Default)]
pub struct Done {
    pub detail: RunDetail,
    pub verdicts: Verdicts,
    pub wall: Duration,
    /// Why it does not count as done.
    pub failures: Vec<String>,
}

impl Done {
    pub fn really(&self) -> bool {
        self.failures.is_empty()
    }
}

/// Does a job in a new folder. `aloud`: with Homarus's own words, the diff and the figures; otherwise with a line
/// for each call.
pub fn run(
    places: &Places,
    homarus: &Homarus,
    job: &Job,
    workspace: &Path,
    model: &str,
    aloud: bool,
) -> Result<Done, String> {
    copy(&job.workspace(), workspace)?;
    if aloud {
        show::opening(job, workspace);
    }
    let began = Instant::now();
    let mut child = start(homarus, job, workspace, model, aloud)?;
    let reader = (!aloud).then(|| child.stdout.take()).flatten().map(|pipe| {
        thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                if let Some(told) = journal::progress(&line) {
                    println!("  {told}");
                }
            }
        })
    });
    let mut failures = follow(homarus, job, &mut child, aloud)?;
    if let Some(reader) = reader {
        let _ = reader.join();
    }
    let detail = homarus.show().unwrap_or_default();
    let mut done = Done { wall: began.elapsed(), ..Done::default() };
    match homarus.log(&detail.run).and_then(|log| Verdicts::of(&log)) {
        Ok(verdicts) => done.verdicts = verdicts,
        Err(message) => failures.push(message),
    }
    if let Err(message) = homarus.verify(&detail.run) {
        failures.push(message);
    }
    failures.extend(check::failures(places, &job.check, &job.workspace(), workspace));
    failures.extend(short_of(done.verdicts, job));
    done.detail = detail;
    done.failures = failures;
    if aloud {
        show::diff(places, &job.workspace(), workspace);
        show::closing(&done);
    } else {
        done.failures.iter().for_each(|failure| println!("  not done: {failure}"));
    }
    Ok(done)
}

fn start(homarus: &Homarus, job: &Job, workspace: &Path, model: &str, aloud: bool) -> Result<Child, String> {
    let mut command: Command =
        homarus.long_command(["run", "--model", model, "--approvals", "ask", "--approvals-from", "cli"]);
    command.arg("--workspace").arg(workspace);
    if let Some(rules) = &job.rules {
        let path = homarus.home().join("job-rules.toml");
        let written = fs::create_dir_all(homarus.home()).and_then(|()| fs::write(&path, rules));
        written.map_err(|error| format!("{}: {error}", path.display()))?;
        command.arg("--policy").arg(path);
    }
    if aloud {
        command.arg(&job.prompt);
    } else {
        command.arg("--json").arg(&job.prompt).stdout(Stdio::piped()).stderr(Stdio::null());
    }
    command.spawn().map_err(|error| format!("{}: {error}", homarus.program().display()))
}

/// Waits for the run to end and answers what it asks; what went wrong with it.
fn follow(homarus: &Homarus, job: &Job, child: &mut Child, aloud: bool) -> Result<Vec<String>, String> {
    let deadline = Instant::now() + Duration::from_secs(job.timeout_s);
    let mut answered: Vec<Question> = Vec::new();
    loop {
        if let Some(status) = child.try_wait().map_err(|error| error.to_string())? {
            let wrong = (!status.success()).then(|| format!("`homarus run` ended with {status}"));
            return Ok(wrong.into_iter().collect());
        }
        if Instant::now() > deadline {
            end(homarus, child);
            return Ok(vec![format!("it took longer than {} s", job.timeout_s)]);
        }
        if let Some(detail) = homarus.show()
            && let Some(question) = detail.question.filter(|question| !answered.contains(question))
        {
            show::question(&question, &detail.run, aloud);
            match homarus.approve(&detail.run, &question, "the demo agrees") {
                Ok(()) => answered.push(question),
                // It may have ended in the same moment: the next look tells.
                Err(message) => println!("{message}"),
            }
        }
        thread::sleep(POLL);
    }
}

/// Asks the run to end, and ends it if it does not.
fn end(homarus: &Homarus, child: &mut Child) {
    if let Err(message) = homarus.cancel() {
        println!("{message}");
    }
    let deadline = Instant::now() + CANCEL;
    while Instant::now() < deadline {
        if let Ok(Some(_)) = child.try_wait() {
            return;
        }
        thread::sleep(POLL);
    }
    let _ = child.kill();
    let _ = child.wait();
}

/// What the job promises to show and did not.
fn short_of(verdicts: Verdicts, job: &Job) -> Vec<String> {
    let promises = [("approved", verdicts.approved, job.approved_min), ("denied", verdicts.denied, job.denied_min)];
    let short = promises.iter().filter(|(_, seen, wanted)| seen < wanted);
    short.map(|(what, seen, wanted)| format!("{seen} calls were {what}; the job needs {wanted}")).collect()
}

/// Copies a folder: files with their modes, and links as links.
pub fn copy(from: &Path, to: &Path) -> Result<(), String> {
    let wrong = |error: std::io::Error| format!("{} -> {}: {error}", from.display(), to.display());
    fs::create_dir_all(to).map_err(wrong)?;
    for entry in from.read_dir().map_err(wrong)? {
        let entry = entry.map_err(wrong)?;
        let (kind, target) = (entry.file_type().map_err(wrong)?, to.join(entry.file_name()));
        if kind.is_dir() {
            copy(&entry.path(), &target)?;
        } else if kind.is_symlink() {
            let link = fs::read_link(entry.path()).map_err(wrong)?;
            std::os::unix::fs::symlink(link, target).map_err(wrong)?;
        } else {
            fs::copy(entry.path(), target).map_err(wrong)?;
        }
    }
    Ok(())
}
