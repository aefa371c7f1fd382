//! What the demo prints around a run. Text that an agent wrote is shown without control characters.

use std::path::Path;

use super::{
    cli::{Homarus, Question},
    job::Job,
    session::Done,
};
use crate::{places::Places, sh};

pub fn opening(job: &Job, workspace: &Path) {
    println!("=== {}\n", job.title);
    println!("workspace  {}", workspace.display());
    println!("asked      {}\n", job.prompt.trim().replace('\n', "\n           "));
}

/// A question, and that the demo says yes. A run that speaks for itself has shown the question already.
pub fn question(question: &Question, run: &str, shown: bool) {
    if !shown {
        println!("  approval asked   {} ({})", plain(&question.summary), plain(&question.reason));
        println!("  approved         by the demo");
        return;
    }
    println!("\n--- the demo answers for you");
    println!("    {} ({})", plain(&question.summary), plain(&question.reason));
    if let Some(diff) = &question.diff {
        diff.lines().for_each(|line| println!("    {}", plain(line)));
    }
    println!("    homarus runs approve {run} {}\n", question.call);
}

/// What is different on disk.
pub fn diff(places: &Places, before: &Path, after: &Path) {
    println!("\n=== what changed on disk");
    let mut diff = sh::command(places, "diff");
    diff.args(["--recursive", "--unified", "--new-file", "--no-dereference"]).args([before, after]);
    let text = match diff.output() {
        Ok(output) => String::from_utf8_lossy(&output.stdout).into_owned(),
        Err(error) => format!("`diff` cannot be started: {error}"),
    };
    let (before, after) = (before.display().to_string(), after.display().to_string());
    for line in text.lines().filter(|line| !line.starts_with("diff ")) {
        println!("{}", plain(&line.replace(&before, "before").replace(&after, "after")));
    }
    if text.is_empty() {
        println!("nothing");
    }
}

pub fn closing(done: &Done) {
    let detail = &done.detail;
    println!("\n=== figures");
    println!("run        {}", detail.run);
    println!("status     {}", detail.status);
    println!("said       {}", plain(detail.summary.as_deref().unwrap_or("nothing")));
    println!("steps      {}", detail.steps);
    let verdicts = done.verdicts;
    println!("calls      {} made, {} approved, {} denied by policy", detail.calls, verdicts.approved, verdicts.denied);
    let (input, cached, output) = (detail.input_tokens, detail.cached_tokens, detail.output_tokens);
    println!("tokens     {input} read, {cached} kept from the turn before, {output} written");
    println!(
        "cost       {}",
        detail.cost_usd.as_ref().map_or_else(|| "unknown".to_owned(), |usd| format!("{usd} USD"))
    );
    println!("wall time  {:.1} s", done.wall.as_secs_f64());
    println!();
    for failure in &done.failures {
        println!("not done: {}", failure.trim_end());
    }
    println!("{}", if done.really() { "done, and checked on disk" } else { "NOT done" });
}

/// How to look at what happened, once the demo is over.
pub fn journal_commands(homarus: &Homarus, done: &Done) {
    println!("\nsee for yourself:");
    println!("  export HOMARUS_HOME={}", homarus.home().display());
    for command in ["log", "show", "verify"] {
        println!("  {} runs {command} {}", homarus.program().display(), done.detail.run);
    }
}

pub fn table(results: &[(&Job, Done)]) {
    println!("\n{:<24} {:<5} {:>6} {:>6} {:>9} {:>8} {:>8}", "job", "done", "steps", "calls", "tokens", "cost", "wall");
    for (job, done) in results {
        let detail = &done.detail;
        println!(
            "{:<24} {:<5} {:>6} {:>6} {:>9} {:>8} {:>6.0} s",
            job.name,
            if done.really() { "yes" } else { "NO" },
            detail.steps,
            detail.calls,
            detail.input_tokens + detail.cached_tokens + detail.output_tokens,
            detail.cost_usd.as_deref().unwrap_or("?"),
            done.wall.as_secs_f64(),
        );
        for failure in &done.failures {
            println!("    {}", plain(failure.lines().next().unwrap_or_default()));
        }
    }
}

fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_taken_out() {
        assert_eq!(plain("a\u{1b}[2Jb\tc\u{9b}"), "a\u{fffd}[2Jb\tc\u{fffd}");
    }
}
