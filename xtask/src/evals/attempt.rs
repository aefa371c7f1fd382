//! One engine at one job: a copy of the workspace, the engine's own process until it ends or its time is over, and
//! then a look at the disk. Whatever it says of itself does not count.

use std::{
    fs::{self, File},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde::Deserialize;

use super::{engines::Installed, front::Counts, model::Model};
use crate::{
    demo::{check, job::Job, session},
    places::Places,
    sh,
};

const LOOK_EVERY: Duration = Duration::from_millis(50);
const REASON_CHARS_MAX: usize = 160;

/// What became of it.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Why it does not count as done; `None`: it is done.
    pub failure: Option<String>,
    pub counts: Counts,
    pub wall: Duration,
}

impl Outcome {
    pub fn is_done(&self) -> bool {
        self.failure.is_none()
    }
}

/// Lets the engine do the job in `folder`, where its workspace, its output and the log of its requests are afterwards.
pub fn run(
    places: &Places,
    engine: &Installed,
    model: &Model,
    job: &Job,
    folder: &Path,
    time_max: Duration,
) -> Result<Outcome, String> {
    let workspace = folder.join("workspace");
    session::copy(&job.workspace(), &workspace)?;
    let seat = model.seat(job, &folder.join("requests.jsonl"))?;
    if !engine.engine.asks_the_front() {
        // Two copies of the weights at once would cost each other memory and cache.
        model.rest();
    }
    let command = engine.job(job.prompt.trim(), &workspace, seat.base_url())?;
    let began = Instant::now();
    let ended = finish(start(command, folder)?, time_max);
    let wall = began.elapsed();
    let mut counts = seat.close();
    if !engine.engine.asks_the_front() {
        counts = own_counts(&engine.own_figures()?)?;
    }
    let failures = check::failures(places, &job.check, &job.workspace(), &workspace);
    Ok(Outcome { failure: failure(ended?, &failures, &counts, time_max), counts, wall })
}

/// `None` when it is done: in time, and so on disk. How the engine ended is told only where it is not.
fn failure(status: Option<ExitStatus>, failures: &[String], counts: &Counts, time_max: Duration) -> Option<String> {
    let Some(status) = status else { return Some(format!("not done in {} minutes", time_max.as_secs() / 60)) };
    let first = failures.first()?;
    let mut reason: String = first.lines().next().unwrap_or_default().chars().take(REASON_CHARS_MAX).collect();
    if !status.success() {
        reason.push_str(&format!("; it ended with {status}"));
    }
    if let Some(trouble) = counts.troubles.last() {
        reason.push_str(&format!("; the model server said: {trouble}"));
    }
    Some(reason)
}

fn start(command: Command, folder: &Path) -> Result<Child, String> {
    // It ends when we are ended, however that happens, and leads a group that can be ended as one.
    let mut outer = Command::new("setpriv");
    outer.args(["--pdeathsig", "KILL"]).arg(command.get_program()).args(command.get_args()).env_clear();
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            outer.env(name, value);
        }
    }
    if let Some(workspace) = command.get_current_dir() {
        outer.current_dir(workspace);
    }
    let file = |name: &str| {
        let path = folder.join(name);
        File::create(&path).map_err(|error| format!("{}: {error}", path.display()))
    };
    outer.stdin(Stdio::null()).stdout(file("stdout.txt")?).stderr(file("stderr.txt")?).process_group(0);
    outer.spawn().map_err(|error| format!("setpriv cannot be started: {error}"))
}

/// How it ended; `None`: its time was over, and it was ended.
fn finish(mut child: Child, time_max: Duration) -> Result<Option<ExitStatus>, String> {
    let deadline = Instant::now() + time_max;
    let status = loop {
        match child.try_wait().map_err(|error| error.to_string())? {
            Some(status) => break Some(status),
            None if Instant::now() > deadline => break None,
            None => thread::sleep(LOOK_EVERY),
        }
    };
    // Also what it left behind: a shell that goes on would work in the next job's time.
    let group = format!("-{}", child.id());
    sh::succeeds(Command::new("kill").args(["-KILL", "--", &group]));
    if status.is_none() {
        child.wait().map_err(|error| error.to_string())?;
    }
    Ok(status)
}

/// What `homarus runs show --json` says, as far as it is counted.
fn own_counts(text: &str) -> Result<Counts, String> {
    #[derive(Deserialize)]
    struct Run {
        steps: u64,
        input_tokens: u64,
        cached_tokens: u64,
        output_tokens: u64,
    }
    let run: Run = serde_json::from_str(text).map_err(|error| format!("`homarus runs show`: {error}"))?;
    Ok(Counts {
        requests: run.steps,
        input_tokens: run.input_tokens + run.cached_tokens,
        computed_tokens: run.input_tokens,
        output_tokens: run.output_tokens,
        ..Counts::default()
    })
}

/// Makes an empty folder.
pub fn fresh(folder: &Path) -> Result<(), String> {
    fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn started(line: &str, folder: &Path) -> Child {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", line]).env("PATH", "/usr/bin:/bin").current_dir(folder);
        start(command, folder).unwrap()
    }

    #[test]
    fn what_does_not_end_in_time_is_ended_with_all_it_started() {
        let folder = std::env::temp_dir().join(format!("xtask-attempt-{}", std::process::id()));
        fresh(&folder).unwrap();
        let ended = finish(started("exit 3", &folder), Duration::from_secs(600)).unwrap();
        assert_eq!(ended.and_then(|status| status.code()), Some(3));

        let pipe = folder.join("pipe");
        assert!(sh::succeeds(Command::new("mkfifo").arg(&pipe)));
        let slow = started("exec 3> pipe; sleep 100000 & wait", &folder);
        let mut held = File::open(&pipe).unwrap();
        assert_eq!(finish(slow, Duration::ZERO).unwrap(), None);
        // Ends only when nobody is left who could write.
        assert_eq!(held.read_to_end(&mut Vec::new()).unwrap(), 0);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn only_what_is_on_disk_in_time_counts() {
        let status = |code: i32| Some(std::os::unix::process::ExitStatusExt::from_raw(code << 8));
        let time_max = Duration::from_secs(600);
        let mut counts = Counts::default();
        assert_eq!(failure(status(1), &[], &counts, time_max), None, "done is done, however it ended");
        assert_eq!(failure(None, &[], &counts, time_max).as_deref(), Some("not done in 10 minutes"));
        counts.troubles.push("too long".into());
        let reason = failure(status(1), &["a.txt is missing\nmore".into()], &counts, time_max).unwrap();
        assert!(reason.starts_with("a.txt is missing; it ended with exit status: 1"), "{reason}");
        assert!(reason.ends_with("said: too long"), "{reason}");
    }

    #[test]
    fn own_figures_are_read() {
        let text = r#"{"run":"r","steps":3,"input_tokens":10,"cached_tokens":20,"output_tokens":4,"other":null}"#;
        let counts = own_counts(text).unwrap();
        assert_eq!((counts.requests, counts.input_tokens, counts.computed_tokens), (3, 30, 10));
        assert!(own_counts("no run").is_err());
    }
}
