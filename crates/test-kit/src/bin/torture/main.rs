//! `torture`: kills real processes of Homarus at random instants and takes their runs over until they end, while the
//! world outside counts. Started by `cargo xtask torture`; only the model is scripted.
//!
//! Reading order: `job` (what runs do), `life` (how they are killed and gone on with), `judge` (what must not be),
//! `leftovers` (what must not stay), `doctored` (whether the judge would see it).

mod browsing;
mod chance;
mod doctored;
mod home;
mod job;
mod judge;
mod leftovers;
mod life;
mod outside;
mod report;
mod takeover;
mod tree;
mod victim;

use std::{
    path::PathBuf,
    process::ExitCode,
    sync::atomic::{AtomicU32, Ordering},
    time::Instant,
};

use futures_util::StreamExt;

use crate::{
    chance::Chance,
    home::Home,
    job::Job,
    judge::{Finding, Line, RunLog},
    life::{Course, Life},
    report::Report,
};

const USAGE: &str = "usage: torture --homarus FILE [--kills N] [--seed S] [--at-once N] [--out FILE] [--keep]
       torture --homarus FILE --in-flight FILE --takeover RUNS";
/// Jobs that share one state folder, so that it stays small.
const JOBS_PER_HOME: u32 = 24;
const KILLS_PER_JOB_MIN: u64 = 3;

struct Options {
    homarus: PathBuf,
    kills: u32,
    seed: u64,
    at_once: usize,
    out: Option<PathBuf>,
    keep: bool,
    /// Whether there is a browser to kill.
    browses: bool,
    /// Measure a takeover of so many runs instead, which this program holds in flight.
    takeover: Option<(PathBuf, u64)>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let done = match parse(std::env::args().skip(1)) {
        Ok(Options { homarus, takeover: Some((in_flight, runs)), .. }) => {
            takeover::measure(&homarus, &in_flight, runs).await
        }
        Ok(options) => torture(&options).await,
        Err(message) => Err(format!("{message}\n{USAGE}")),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("torture: {message}");
            ExitCode::from(2)
        }
    }
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options {
        homarus: PathBuf::new(),
        kills: 50,
        seed: 1,
        at_once: 3,
        out: None,
        keep: false,
        browses: home::has_browser(),
        takeover: None,
    };
    let (mut in_flight, mut runs) = (None, None);
    while let Some(name) = args.next() {
        if name == "--keep" {
            options.keep = true;
            continue;
        }
        let value = args.next().ok_or_else(|| format!("{name} wants a value"))?;
        let number = || value.parse::<u64>().map_err(|_| format!("{name} wants a number, not {value:?}"));
        match name.as_str() {
            "--homarus" => options.homarus = PathBuf::from(&value),
            "--kills" => options.kills = u32::try_from(number()?).map_err(|_| "too many kills".to_owned())?,
            "--seed" => options.seed = number()?,
            "--at-once" => options.at_once = number()?.clamp(1, 64) as usize,
            "--in-flight" => in_flight = Some(PathBuf::from(&value)),
            "--takeover" => runs = Some(number()?),
            "--out" => options.out = Some(PathBuf::from(&value)),
            _ => return Err(format!("there is no option {name}")),
        }
    }
    options.takeover = match (in_flight, runs) {
        (Some(in_flight), Some(runs)) => Some((in_flight, runs)),
        (None, None) => None,
        _ => return Err("--takeover and --in-flight belong together".to_owned()),
    };
    if !options.homarus.is_file() {
        return Err("--homarus must name the program".to_owned());
    }
    Ok(options)
}

async fn torture(options: &Options) -> Result<bool, String> {
    let began = Instant::now();
    let mut report = Report { seed: options.seed, browses: options.browses, ..Report::default() };
    leftovers::adopt().map_err(|error| format!("orphans cannot be watched: {error}"))?;
    let mut first = 1;
    while report.kills < options.kills || first == 1 {
        let home = Home::furnished(&options.homarus).await?;
        first = batch(options, &home, first, &mut report).await?;
        if options.keep || !report.findings.is_empty() {
            eprintln!("kept: {}", home.keep().display());
        }
        if !report.findings.is_empty() {
            break;
        }
    }
    report.took = began.elapsed();
    report.findings.extend(judge::uncalled(&report.tools, &report.calls, options.browses));
    let text = report.to_string();
    print!("{text}");
    if let Some(out) = &options.out {
        std::fs::write(out, &text).map_err(|error| format!("{}: {error}", out.display()))?;
    }
    Ok(report.is_clean())
}

/// Some jobs in one home; the number of the next job.
async fn batch(options: &Options, home: &Home, first: u32, report: &mut Report) -> Result<u32, String> {
    let killed = AtomicU32::new(report.kills);
    let started = AtomicU32::new(first);
    let enough = || first != started.load(Ordering::Relaxed) && killed.load(Ordering::Relaxed) >= options.kills;
    let numbers = (first..first + JOBS_PER_HOME).take_while(|_| !enough());
    let lives = futures_util::stream::iter(numbers).map(|number| {
        started.fetch_add(1, Ordering::Relaxed);
        let killed = &killed;
        async move {
            let mut chance = Chance::fork(options.seed, u64::from(number));
            let job = Job::new(number, &mut chance, number == first, options.browses);
            let left = options.kills.saturating_sub(killed.load(Ordering::Relaxed));
            let kills = left.min((KILLS_PER_JOB_MIN + chance.below(6)) as u32);
            let course = Life::new(home, &job, chance, kills).live().await;
            if let Ok(course) = &course {
                killed.fetch_add(course.kills, Ordering::Relaxed);
                eprintln!("job {number}: {} kills, {} processes", course.kills, course.remains.len());
            }
            (number, course)
        }
    });
    let courses: Vec<(u32, Result<Course, String>)> = lives.buffer_unordered(options.at_once).collect().await;
    judge_all(home, courses, report).await?;
    let finding = |text| Finding { line: Line::LeftBehind, run: "all".to_owned(), text };
    report.findings.extend(leftovers::of(home).await?.into_iter().map(finding));
    Ok(started.load(Ordering::Relaxed))
}

async fn judge_all(
    home: &Home,
    courses: Vec<(u32, Result<Course, String>)>,
    report: &mut Report,
) -> Result<(), String> {
    let mut good = Vec::new();
    for (number, course) in courses {
        report.jobs += 1;
        match course {
            Ok(course) => good.push(course),
            Err(text) => {
                report.findings.push(Finding { line: Line::Unexpected, run: format!("job {number}"), text });
            }
        }
    }
    // A process may have settled runs of other jobs in passing.
    let remains: Vec<_> = good.iter().flat_map(|course| course.remains.iter().cloned()).collect();
    for course in &mut good {
        report.kills += course.kills;
        report.unknown += course.unknown;
        report.fights += course.fights;
        report.findings.append(&mut course.findings);
        for (at, times) in &course.fell {
            *report.fell.entry(at.clone()).or_default() += times;
        }
        let logs: Vec<&RunLog> = std::iter::once(&course.evidence.main).chain(&course.evidence.undos).collect();
        for log in logs {
            report.events += log.lines.len() as u64;
            for call in log.lines.iter().filter(|line| line["kind"] == "judged") {
                let tool = call["action"]["tool"].as_str().unwrap_or_default();
                *report.calls.entry(tool.to_owned()).or_default() += 1;
            }
            report.resumed += log.lines.iter().filter(|line| line["kind"] == "taken_over").count() as u32;
            report.findings.extend(judge::printed(log, &remains));
        }
        report.findings.extend(judge::effects(&course.evidence));
    }
    report.effects += home.outside.effects().values().map(|times| u64::from(*times)).sum::<u64>();
    if report.tools.is_empty() {
        let list = home.json(&["tools", "list", "--json"]).await?;
        let tools = list["tools"].as_array().cloned().unwrap_or_default();
        report.tools = tools.iter().filter_map(|tool| tool["name"].as_str().map(str::to_owned)).collect();
    }
    let verified = home.ask(&["runs", "verify"]).await?;
    if verified.code != Some(0) {
        let run = "all".to_owned();
        report.findings.push(Finding { line: Line::Unexpected, run, text: format!("verify: {}", verified.stdout) });
    }
    // The judge itself, held against what it must not let pass.
    let every = good.iter().find(|course| course.evidence.job.has_every_kind() && !course.evidence.undone.is_empty());
    if let Some(course) = every.filter(|_| report.doctored.is_empty()) {
        let found = doctored::check(&course.evidence, &remains);
        report.doctored.extend(found.into_iter().map(|(what, _, found)| (what, found)));
    }
    if let Some(course) = good.first() {
        let found = doctored::corruption_is_found(home, &course.evidence.job.told()).await?;
        if !found {
            let text = "bytes of an event were changed, and verify found the journal whole".to_owned();
            report.findings.push(Finding {
                line: Line::CorruptionUnnoticed,
                run: course.evidence.main.run.clone(),
                text,
            });
        }
    }
    Ok(())
}
