//! How long it takes to take over everything a crash interrupted: a process with so many runs in flight is killed,
//! and one command goes on with all of them.

use std::{
    collections::BTreeMap,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
};

use crate::{
    home::Home,
    outside::Outside,
    victim::{How, Victim, When},
};

/// What DESIGN.md wants for 10,000 runs.
const GOAL: Duration = Duration::from_secs(5);
const MEASURED_MAX: Duration = Duration::from_secs(3_600);
const AT_ONCE: &str = "16";

/// Prints one table; `Ok(false)`: a run was not taken over, or not ended.
pub async fn measure(homarus: &Path, in_flight: &Path, runs: u64) -> Result<bool, String> {
    let home = Home::new(homarus).await?;
    let (workspace, state) = (home.root().join("work"), home.state().join("state"));
    let count = runs.to_string();
    let mut command = Command::new(in_flight);
    command.arg(&state).arg(&count).arg(&workspace).arg("openai/scripted").stdin(Stdio::null()).stdout(Stdio::piped());
    let failed = |error: std::io::Error| format!("{}: {error}", in_flight.display());
    let mut holder = command.kill_on_drop(true).spawn().map_err(failed)?;
    let mut said = String::new();
    if let Some(stdout) = holder.stdout.take() {
        BufReader::new(stdout).read_line(&mut said).await.map_err(failed)?;
    }
    if said.trim() != "ready" {
        return Err(format!("{} did not hold {runs} runs", in_flight.display()));
    }
    holder.kill().await.map_err(failed)?;

    let outside = Outside::start().await.map_err(failed)?;
    let began = Instant::now();
    let args = ["runs", "resume-all", "--at-once", AT_ONCE, "--json"];
    let victim = Victim::start(home.command(&args), "runs resume-all").map_err(failed)?;
    let memory = tokio::spawn(highest_memory(victim.process()));
    let mut count = victim.count();
    let _ = count.wait_for(|lines| *lines > 0).await;
    let taken_after = began.elapsed();
    let remains = victim.see_out_within(MEASURED_MAX, When::Never, How::Everything, &outside).await;
    let ended_after = began.elapsed();
    let memory_mib = memory.await.map_err(|error| error.to_string())?;
    let line = |kind: &str| remains.lines.iter().find(|line| line["kind"] == kind).cloned().unwrap_or(Value::Null);
    let (taken, ended) = (line("all_taken_over"), line("all_ended"));
    let verified = home.ask(&["runs", "verify"]).await?.code == Some(0);
    println!("takeover of {runs} runs in flight after a kill");
    println!("  from the start of the process to all taken over   {:>7.2} s", taken_after.as_secs_f64());
    println!("  of it, claiming them                              {:>7.2} s", ms(&taken["took_ms"]));
    println!("  to all ended, {AT_ONCE} at a time                      {:>7.2} s", ended_after.as_secs_f64());
    println!("  memory of the process, at most                    {memory_mib:>7.1} MiB");
    let completed = ended["completed"].as_u64().unwrap_or(0);
    println!(
        "  taken over {}, completed {completed}, the journal is {}",
        taken["taken"],
        if verified { "whole" } else { "DAMAGED" }
    );
    let met = if taken_after <= GOAL { "met" } else { "missed" };
    println!("  the goal for 10,000 ({} s) is {met}", GOAL.as_secs());
    // For programs that read this.
    let figures = [
        ("taken_over_s", taken_after.as_secs_f64()),
        ("claimed_s", ms(&taken["took_ms"])),
        ("ended_s", ended_after.as_secs_f64()),
        ("memory_mib", memory_mib),
        ("lost", runs.saturating_sub(completed) as f64),
    ];
    println!("{}", serde_json::to_string(&BTreeMap::from(figures)).map_err(|error| error.to_string())?);
    let all = taken["taken"] == runs && completed == runs;
    if !all {
        println!("  FAILED: {}", remains.stderr.trim());
    }
    Ok(all && verified)
}

/// In MiB, by the kernel's own mark, until the process is gone.
async fn highest_memory(process: Option<u32>) -> f64 {
    const LOOK_EVERY: Duration = Duration::from_millis(50);
    let Some(process) = process else { return f64::NAN };
    let mut highest = f64::NAN;
    while let Some(kib) = highest_resident(process) {
        highest = kib / 1024.0;
        tokio::time::sleep(LOOK_EVERY).await;
    }
    highest
}

/// `None`: it has ended.
fn highest_resident(process: u32) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

fn ms(value: &Value) -> f64 {
    value.as_f64().unwrap_or(f64::NAN) / 1000.0
}
