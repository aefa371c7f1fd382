//! What is left once all runs of a home have ended: no process of theirs may live on, and nothing they made outside of
//! its folders, or for the moment, may stay.

use std::{collections::BTreeSet, fs, io, time::Duration};

use rustix::process::{getpid, set_child_subreaper};

use crate::{home::Home, victim::descendants};

/// What was killed may take so long to be gone: a browser is many processes.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(20);
const SHOWN_CHARS_MAX: usize = 200;

/// Whoever loses its parent becomes a child of this process, and so is not lost from sight.
pub fn adopt() -> io::Result<()> {
    Ok(set_child_subreaper(Some(getpid()))?)
}

/// Each thing that is left. Nothing of the home may be under way.
pub async fn of(home: &Home) -> Result<Vec<String>, String> {
    let profiles = home.json(&["browser", "profiles", "--json"]).await?;
    let held = profiles["profiles"].as_array().into_iter().flatten().filter(|profile| profile["in_use"] != false);
    let mut left: Vec<String> = held.map(|profile| format!("a browser's profile is held: {profile}")).collect();
    left.extend(of_system(home).await.map_err(|error| format!("what is left cannot be seen: {error}"))?);
    Ok(left)
}

async fn of_system(home: &Home) -> io::Result<Vec<String>> {
    let mut waited = Duration::ZERO;
    while !alive().is_empty() && waited < PATIENCE {
        tokio::time::sleep(PAUSE).await;
        waited += PAUSE;
    }
    let mut left: Vec<String> = alive().iter().map(|id| format!("the process {id} lives on: {}", shown(*id))).collect();
    for entry in fs::read_dir(home.temporary())? {
        left.push(format!("in the folder for temporary files: {}", entry?.path().display()));
    }
    let root = home.root().display().to_string();
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    left.extend(mounts.lines().filter(|line| line.contains(&root)).map(|line| format!("mounted: {line}")));
    Ok(left)
}

/// Processes below this one. One that has ended stays in the table until this one has.
fn alive() -> BTreeSet<u32> {
    descendants(std::process::id()).into_iter().filter(|id| !is_over(*id)).collect()
}

fn is_over(id: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    // The name, in parentheses, may hold anything.
    stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['Z', 'X']))
}

fn shown(id: u32) -> String {
    let line = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
    let text = String::from_utf8_lossy(&line).replace('\0', " ");
    text.chars().take(SHOWN_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_process_whose_parent_is_dead_is_seen_until_it_ends() {
        adopt().unwrap();
        let mut parent = Command::new("sh").args(["-c", "sleep 30 >/dev/null 2>&1 & echo $!"]).output().unwrap();
        assert!(parent.status.success());
        parent.stdout.retain(u8::is_ascii_digit);
        let orphan: u32 = String::from_utf8(parent.stdout).unwrap().parse().unwrap();
        // Until it has become another program it is still the shell.
        while !shown(orphan).starts_with("sleep 30") {
            assert!(alive().contains(&orphan));
            std::thread::sleep(PAUSE);
        }
        assert!(alive().contains(&orphan));
        let killed = Command::new("kill").args(["-9", &orphan.to_string()]).status().unwrap();
        assert!(killed.success());
        while alive().contains(&orphan) {
            std::thread::sleep(PAUSE);
        }
    }
}
