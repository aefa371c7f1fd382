//! The same attack without the sandbox, where that is harmless: a test that cannot fail is noticed by it.

use std::{
    fs::File,
    io::{self, Read, Seek},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use rustix::fs::{MemfdFlags, memfd_create};

use super::{
    catalogue::{Control, Scene},
    column::{Trial, notes},
    host::processes_of,
    inside::{self, Outcome},
    judge::ControlSeen,
    world::World,
};

const TIME_MAX: Duration = Duration::from_secs(20);
/// More than any attack prints of itself.
const OUTPUT_BYTES_MAX: u64 = 1 << 20;

pub fn run(trial: &Trial<'_>) -> io::Result<ControlSeen> {
    let lab = match trial.attack.control {
        Control::Not(why) => return Ok(ControlSeen::NotTried { why: why.to_owned() }),
        _ if !trial.ask.controls => return Ok(ControlSeen::NotTried { why: "not asked for".to_owned() }),
        Control::Lab => true,
        Control::Plain => false,
    };
    let world = World::make(&trial.ask.folder.join("control"))?;
    let token = format!("{}-control", trial.ask.token);
    let mut place = world.place(trial.attack, &token, trial.ears, &trial.limits())?;
    place.lab = lab;
    place.control = true;
    let careless = match trial.attack.scene {
        Scene::Careless => world.careless()?,
        _ => Vec::new(),
    };
    let (stdin, terminal) = trial.stdin()?;
    // A file, not a pipe: nobody reads while it runs.
    let mut output = File::from(memfd_create("output", MemfdFlags::CLOEXEC)?);
    let mut child = Command::new("/proc/self/exe")
        .args(inside::arguments(&place)?)
        .env_clear()
        .env("HOMARUS_SELFTEST", "control")
        .current_dir(world.workspace())
        .stdin(Stdio::from(stdin))
        .stdout(Stdio::from(output.try_clone()?))
        .stderr(Stdio::null())
        .spawn()?;
    let until = Instant::now() + TIME_MAX;
    while child.try_wait()?.is_none() {
        if Instant::now() > until {
            child.kill()?;
            child.wait()?;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    drop((careless, terminal));
    let left = end_all(&token);
    let mut text = String::new();
    output.rewind()?;
    output.take(OUTPUT_BYTES_MAX).read_to_string(&mut text)?;
    let tries = notes(&text);
    let worked = tries.iter().find_map(|note| match &note.outcome {
        Outcome::Through { how } | Outcome::Confined { how } => Some(format!("{}: {how}", note.what)),
        _ => None,
    });
    let heard = trial.ears.heard(&world);
    Ok(match (worked, heard.first(), left) {
        (Some(how), ..) => ControlSeen::Works { how },
        (None, Some(how), _) => ControlSeen::Works { how: how.clone() },
        (None, None, 0) => ControlSeen::Fails { how: why(&tries) },
        (None, None, left) => ControlSeen::Works { how: format!("{left} processes were left") },
    })
}

fn why(tries: &[inside::Note]) -> String {
    let found = tries.iter().find_map(|note| match &note.outcome {
        Outcome::Denied { how } => Some(format!("{}: {how}", note.what)),
        Outcome::Untried { why } => Some(format!("{}: {why}", note.what)),
        _ => None,
    });
    found.unwrap_or_else(|| "it said nothing".to_owned())
}

/// Ends what a control left running, and waits for it to be gone. How many there were.
fn end_all(token: &str) -> usize {
    let left = processes_of(token);
    for (pid, _) in &left {
        // One that has just ended by itself is no matter.
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(*pid), nix::sys::signal::Signal::SIGKILL);
    }
    let until = Instant::now() + Duration::from_secs(5);
    while !processes_of(token).is_empty() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(2));
    }
    left.len()
}
