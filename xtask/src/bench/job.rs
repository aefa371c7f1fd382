//! One job of one program, measured from outside.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Child, Command, Stdio},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::{
    clients::Client,
    server::{ModelServer, Seat, Seen, Task},
};

/// A program that takes longer for its job is ended.
const JOB_MAX: Duration = Duration::from_secs(300);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Of what a failed program printed, shown with the error.
const ERROR_CHARS_MAX: usize = 600;

#[derive(Debug)]
pub struct Job {
    pub started: Instant,
    pub seen: Seen,
    /// What it printed, line by line.
    pub lines: Vec<(Instant, String)>,
}

impl Job {
    pub fn to_first_request(&self) -> Option<Duration> {
        Some(self.seen.asked.first()?.saturating_duration_since(self.started))
    }
}

/// A job under way.
struct Running {
    child: Child,
    started: Instant,
    seat: Seat,
    /// Of standard output and standard error.
    lines: Vec<JoinHandle<Vec<(Instant, String)>>>,
    calls: usize,
}

/// So many jobs of the program at the same time, each in a folder of its own below `folder`.
pub fn at_once(
    client: &Client,
    server: &ModelServer,
    task: &Task,
    count: usize,
    folder: &Path,
) -> Result<Vec<Job>, String> {
    let mut running = Vec::new();
    for number in 0..count {
        running.push(start(client, server, task, &folder.join(number.to_string()))?);
    }
    running.into_iter().map(|job| finish(job).map_err(|error| format!("{}: {error}", client.name()))).collect()
}

pub fn one(client: &Client, server: &ModelServer, task: &Task, folder: &Path) -> Result<Job, String> {
    at_once(client, server, task, 1, folder)?.pop().ok_or_else(|| "no job".to_owned())
}

/// From the start of a command to its end, several times; an error if it fails.
pub fn whole(count: usize, mut command: impl FnMut() -> Command) -> Result<Vec<Duration>, String> {
    let once = |mut command: Command| {
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let started = Instant::now();
        let status = command.status().map_err(|error| format!("{command:?}: {error}"))?;
        let took = started.elapsed();
        if status.success() { Ok(took) } else { Err(format!("{:?}: {status}", command.get_program())) }
    };
    // The first one warms the page cache.
    once(command())?;
    (0..count).map(|_| once(command())).collect()
}

fn start(client: &Client, server: &ModelServer, task: &Task, folder: &Path) -> Result<Running, String> {
    let workspace = folder.join("workspace");
    fs::create_dir_all(&workspace).map_err(|error| format!("{}: {error}", folder.display()))?;
    let seat = server.seat(task.clone());
    let mut command = client.job(&seat, &workspace);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let started = Instant::now();
    let mut child = command.spawn().map_err(|error| format!("{}: {error}", client.program.display()))?;
    seat.belongs_to(child.id());
    let output: [Option<Box<dyn Read + Send>>; 2] = [
        child.stdout.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>),
        child.stderr.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>),
    ];
    let lines = output.into_iter().flatten().map(|pipe| thread::spawn(move || lines(pipe))).collect();
    Ok(Running { child, started, seat, lines, calls: task.calls })
}

fn lines(pipe: impl Read) -> Vec<(Instant, String)> {
    let mut pipe = BufReader::new(pipe);
    let mut lines = Vec::new();
    let mut line = Vec::new();
    while pipe.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
        lines.push((Instant::now(), String::from_utf8_lossy(&line).into_owned()));
        line.clear();
    }
    lines
}

fn finish(mut job: Running) -> Result<Job, String> {
    let status = loop {
        match job.child.try_wait().map_err(|error| error.to_string())? {
            Some(status) => break status,
            None if job.started.elapsed() > JOB_MAX => {
                job.child.kill().map_err(|error| error.to_string())?;
                break job.child.wait().map_err(|error| error.to_string())?;
            }
            None => thread::sleep(LOOK_EVERY),
        }
    };
    let mut lines = Vec::new();
    for pipe in job.lines {
        lines.extend(pipe.join().map_err(|_| "its output could not be read")?);
    }
    lines.sort_by_key(|(at, _)| *at);
    let seen = job.seat.seen();
    let asked = seen.asked.len();
    if let Some(trouble) = seen.trouble {
        return Err(trouble);
    }
    if !status.success() || asked < job.calls + 1 {
        let all: String = lines.into_iter().map(|(_, line)| line).collect();
        let skipped = all.chars().count().saturating_sub(ERROR_CHARS_MAX);
        let end: String = all.chars().skip(skipped).collect();
        return Err(format!("{status} after {asked} of {} requests; it printed at last: {end}", job.calls + 1));
    }
    Ok(Job { started: job.started, seen, lines })
}
