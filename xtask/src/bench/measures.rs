//! What is measured of each program: one function a table.

use std::{path::Path, time::Duration};

use super::{
    clients::{Client, Kind},
    floor, job,
    server::{ModelServer, Task},
    stats::{median, milliseconds, percentile},
    table::Section,
};

/// Calls of the long run, in which growth is looked for.
const LONG_CALLS: usize = 200;
/// Calls of each of several runs at once.
const SHORT_CALLS: usize = 20;
/// Calls of the run whose model takes its time, and what it takes.
const THINKING_CALLS: usize = 50;
const THINK: Duration = Duration::from_millis(100);
/// Calls around the 20th and the last 20 of the long run are compared.
const EARLY: std::ops::Range<usize> = 10..30;
const LATE: std::ops::Range<usize> = LONG_CALLS - 20..LONG_CALLS;
const MEBIBYTE: f64 = (1 << 20) as f64;
/// Of the memory that is free, what the others may take: the machine must not swap.
const MEMORY_SHARE: f64 = 0.7;

pub struct Bench<'a> {
    pub clients: &'a [Client],
    pub server: &'a ModelServer,
    pub folder: &'a Path,
    /// A tenth of the work, to see whether it works at all.
    pub quick: bool,
}

impl Bench<'_> {
    fn times(&self, count: usize) -> usize {
        if self.quick { (count / 10).max(2) } else { count }
    }

    /// `--version`, and for ours a listing of the journal.
    pub fn start_up(&self) -> Section {
        let mut section = Section::new("start-up", "From start to end of a small command (ms)", &["p50", "max"]);
        for client in self.clients.iter().filter(|client| client.kind != (Kind::Codex { sandboxed: true })) {
            let count = self.times(if client.kind == Kind::Homarus { 50 } else { 10 });
            let mut commands = vec![(client.name().to_owned(), vec!["--version"])];
            if client.kind == Kind::Homarus {
                commands.push((format!("{} runs list", client.name()), vec!["runs", "list"]));
            }
            for (who, args) in commands {
                match job::whole(count, || client.command(&args)) {
                    Ok(times) => {
                        let times = milliseconds(&times);
                        section.row(who, vec![median(&times), percentile(&times, 1.0)]);
                    }
                    Err(error) => section.fail(&who, error),
                }
            }
        }
        section
    }

    /// From start to the first request, and the memory of a run of one call.
    pub fn first_request(&self) -> Section {
        let title = "A run of one shell call: start to the first request (ms), memory (MiB)";
        let mut section = Section::new("first-request", title, &["to first request p50", "max", "memory"]);
        for client in self.clients {
            let count = self.times(if client.kind == Kind::Homarus { 20 } else { 5 });
            let (mut times, mut memory) = (Vec::new(), Vec::new());
            for number in 0..=count {
                let folder = self.folder.join(format!("first-{}-{number}", slug(client)));
                match job::one(client, self.server, &task(1), &folder) {
                    // The first one warms the page cache.
                    Ok(job) if number > 0 => {
                        times.extend(job.to_first_request());
                        memory.push(job.seen.memory_bytes as f64 / MEBIBYTE);
                    }
                    Ok(_) => {}
                    Err(error) => {
                        section.fail(client.name(), error);
                        break;
                    }
                }
            }
            let times = milliseconds(&times);
            section.row(client.name(), vec![median(&times), percentile(&times, 1.0), median(&memory)]);
        }
        section.note(
            "Memory: the highest resident size of the program, and of each process it started its share (PSS) when it asks for its last answer.",
        );
        section
    }

    /// From an answer to the next request, in one long run.
    pub fn gap(&self) -> Section {
        let title =
            format!("From an answer to the next request, around one shell call (ms; {LONG_CALLS} calls, one run)");
        let columns = ["p50", "p99", "around call 20", "last 20 calls", "growth"];
        let mut section = Section::new("gap", title, &columns);
        self.gaps(&mut section, &task(LONG_CALLS), |gaps| {
            let around = |range: std::ops::Range<usize>| gaps.get(range).and_then(median);
            let (early, late) = (around(EARLY), around(LATE));
            let growth = early.zip(late).map(|(early, late)| late / early);
            vec![median(gaps), percentile(gaps, 0.99), early, late, growth]
        });
        section
    }

    /// The same with answers that take as long as a fast model's: the machine has come to rest in between, and who prepares
    /// something for the next call has had the time for it.
    pub fn gap_thinking(&self) -> Section {
        let calls = self.times(THINKING_CALLS);
        let title = format!("The same with {} ms for each answer ({calls} calls; ms)", THINK.as_millis());
        let mut section = Section::new("gap-thinking", title, &["p50", "p99"]);
        let task = Task { think: THINK, ..task(calls) };
        self.gaps(&mut section, &task, |gaps| vec![median(gaps), percentile(gaps, 0.99)]);
        section
    }

    /// One run of each program, then of the least that can be.
    fn gaps(&self, section: &mut Section, task: &Task, figures: impl Fn(&[f64]) -> Vec<Option<f64>>) {
        for client in self.clients {
            let folder = self.folder.join(format!("{}-{}", section.id, slug(client)));
            match job::one(client, self.server, task, &folder) {
                Ok(job) => section.row(client.name(), figures(&milliseconds(&job.seen.gaps()))),
                Err(error) => section.fail(client.name(), error),
            }
        }
        for (name, parts) in floor::ALL {
            let folder = self.folder.join(format!("{}-floor", section.id));
            match floor::run(self.server, task, parts, &folder) {
                Ok(seen) => section.row(name, figures(&milliseconds(&seen.gaps()))),
                Err(error) => section.note(format!("{name}: {error}")),
            }
        }
    }

    /// The same with several runs at once, each a process of its own.
    pub fn gap_at_once(&self, id: &'static str, count: usize, first: Option<&Section>) -> Section {
        let title = format!("The same with {count} runs at once, each a process ({SHORT_CALLS} calls each; ms)");
        let mut section = Section::new(id, title, &["p50", "p99", "all done after (s)"]);
        for client in self.clients {
            let each = first.and_then(|section| section.figure(client.name(), "memory"));
            let free = available_bytes() as f64 / MEBIBYTE * MEMORY_SHARE;
            if let Some(each) = each.filter(|each| each * count as f64 > free) {
                section.note(format!(
                    "{}: not run, {count} of it would need {:.0} MiB and {free:.0} MiB may be used",
                    client.name(),
                    each * count as f64
                ));
                continue;
            }
            let folder = self.folder.join(format!("{id}-{}", slug(client)));
            let began = std::time::Instant::now();
            match job::at_once(client, self.server, &task(SHORT_CALLS), count, &folder) {
                Ok(jobs) => {
                    let gaps: Vec<Duration> = jobs.iter().flat_map(|job| job.seen.gaps()).collect();
                    let gaps = milliseconds(&gaps);
                    let took = began.elapsed().as_secs_f64();
                    section.row(client.name(), vec![median(&gaps), percentile(&gaps, 0.99), Some(took)]);
                }
                Err(error) => section.fail(client.name(), error),
            }
        }
        section
    }

    /// From a complete call in the stream to the first byte of its output on the screen.
    pub fn first_output(&self) -> Section {
        let mut section =
            Section::new("first-output", "From a complete call to the first byte of its output (ms)", &["p50", "p99"]);
        // The command is shown as well: what it prints must not stand in it.
        let command = "printf 'out%s\\n' put-{}-; sleep 0.05".to_owned();
        let task = Task { calls: self.times(50), command, think: Duration::ZERO };
        for client in self.clients.iter().filter(|client| client.kind == Kind::Homarus) {
            let folder = self.folder.join(format!("output-{}", slug(client)));
            match job::one(client, self.server, &task, &folder) {
                Ok(job) => {
                    let shown = |number: usize| {
                        let text = format!("output-{}-", number + 1);
                        let at = job.lines.iter().find(|(_, line)| line.contains(&text))?.0;
                        Some(at.saturating_duration_since(*job.seen.answered.get(number)?))
                    };
                    let times: Vec<Duration> = (0..task.calls).filter_map(shown).collect();
                    if times.len() < task.calls {
                        let note = format!("{} of {} outputs were shown", times.len(), task.calls);
                        section.fail(client.name(), note);
                    }
                    let times = milliseconds(&times);
                    section.row(client.name(), vec![median(&times), percentile(&times, 0.99)]);
                }
                Err(error) => section.fail(client.name(), error),
            }
        }
        section
    }
}

fn task(calls: usize) -> Task {
    Task { calls, command: "echo {}".to_owned(), think: Duration::ZERO }
}

fn slug(client: &Client) -> String {
    client.name().chars().filter(char::is_ascii_alphanumeric).collect()
}

fn available_bytes() -> u64 {
    let info = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = info.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
}
