//! Machines that lack something the sandbox needs: made so for one child, which then probes. The probe must name
//! what is missing and say what to do, or get by as the design says.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use nix::sched::CloneFlags;
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use seccompiler::{TargetArch, apply_filter, compile_from_json};
use serde::{Deserialize, Serialize};

use super::{
    column::Ask,
    host::Snapshot,
    inside::{Note, Outcome},
    judge::{Cell, ControlSeen, Verdict},
    world::World,
};
use crate::{L1, Options, cgroup::Groups, stages::MARKER};

/// Something a machine may lack.
pub struct Condition {
    pub id: &'static str,
    pub about: &'static str,
    make: fn(&Path) -> io::Result<()>,
    answer: Answer,
}

/// What the probe must answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// Refused, and this check names it.
    Refused(&'static str),
    /// Available, with limits that need no control group.
    WithoutGroups,
}

pub fn all() -> &'static [Condition] {
    &[
        Condition {
            id: "machine.no-user-namespaces",
            about: "unprivileged user namespaces are switched off",
            make: no_user_namespaces,
            answer: Answer::Refused("userns"),
        },
        Condition {
            id: "machine.no-landlock",
            about: "the kernel has no Landlock",
            make: no_landlock,
            answer: Answer::Refused("landlock"),
        },
        Condition {
            id: "machine.no-seccomp",
            about: "the kernel has no seccomp filters",
            make: no_seccomp,
            answer: Answer::Refused("seccomp"),
        },
        Condition {
            id: "machine.no-overlay",
            about: "the state's disk cannot carry an overlay's layer",
            make: no_overlay,
            answer: Answer::Refused("overlay"),
        },
        Condition {
            id: "machine.no-control-groups",
            about: "there are no control groups to use",
            make: no_control_groups,
            answer: Answer::WithoutGroups,
        },
    ]
}

pub fn find(id: &str) -> Option<&'static Condition> {
    all().iter().find(|condition| condition.id == id)
}

#[derive(Debug, Serialize, Deserialize)]
struct Probed {
    ok: bool,
    lines: Vec<(String, bool, String, Option<String>)>,
}

/// Probes in a child for which the condition holds, and in one for which it does not.
pub fn judge(condition: &Condition, ask: &Ask, groups: &Groups) -> io::Result<Cell> {
    let token = format!("{}-machine", ask.token);
    let normal = probe_in(ask, "none", &token)?;
    let control = match normal.lines.iter().find(|line| !line.1) {
        None => ControlSeen::Works { how: "the probe passes".to_owned() },
        Some((id, _, detail, _)) => ControlSeen::Fails { how: format!("{id}: {detail}") },
    };
    let (probed, changes) = watched(ask, groups, &token, || probe_in(ask, condition.id, &token))?;
    let (mut verdict, mut how, tries) = match probed {
        Err(error) => (Verdict::NotTried, error.to_string(), Vec::new()),
        Ok(probed) => {
            let (verdict, how) = condition.answer.check(&probed);
            let tries = probed
                .lines
                .into_iter()
                .filter(|line| !line.1)
                .map(|(id, _, detail, _)| Note { what: id, outcome: Outcome::Denied { how: detail } });
            (verdict, how, tries.collect())
        }
    };
    if let Some(change) = changes.first() {
        (verdict, how) = (Verdict::GotThrough, format!("the host is not as before: {change}"));
    }
    let recorded = (verdict == Verdict::Held).then(|| "probe".to_owned());
    Ok(Cell { verdict, how, recorded, control, took_ms: 0, tries })
}

/// Does it, and says what of the host is not as it was.
fn watched<T>(ask: &Ask, groups: &Groups, token: &str, act: impl FnOnce() -> T) -> io::Result<(T, Vec<String>)> {
    let world = World::make(&ask.folder.join("world"))?;
    let before = Snapshot::take(&world, groups, token);
    let done = act();
    Ok((done, before.changes(&Snapshot::take(&world, groups, token))))
}

impl Answer {
    fn check(self, probed: &Probed) -> (Verdict, String) {
        let failed = probed.lines.iter().find(|line| !line.1);
        match (self, failed) {
            (Answer::Refused(wanted), Some((id, _, detail, fix))) => {
                let named = id == wanted || (wanted == "overlay" && id == "layer");
                match fix {
                    Some(_) if named => (Verdict::Held, format!("refused: {id}: {detail}")),
                    Some(_) => (Verdict::NotTried, format!("refused, but for {id}: {detail}")),
                    None => (Verdict::GotThrough, format!("{id} failed and nobody is told what to do")),
                }
            }
            (Answer::Refused(_), None) => (Verdict::GotThrough, "the probe passes".to_owned()),
            (Answer::WithoutGroups, Some((id, _, detail, _))) => (Verdict::NotTried, format!("{id}: {detail}")),
            (Answer::WithoutGroups, None) => {
                let how = probed.lines.iter().find(|line| line.0 == "limits").map(|line| line.2.clone());
                match how.unwrap_or_default() {
                    how if how.contains("cgroup") => (Verdict::NotTried, format!("control groups were used: {how}")),
                    how if how.contains("memory") && how.contains("processes") => (Verdict::Held, how),
                    how => (Verdict::GotThrough, format!("not everything is bounded: {how}")),
                }
            }
        }
    }
}

/// The token marks the child's command line, by which what it leaves is found.
fn probe_in(ask: &Ask, condition: &str, token: &str) -> io::Result<Probed> {
    let output = Command::new("/proc/self/exe")
        .args([MARKER, "selftest-machine", condition, token])
        .env_clear()
        .current_dir(&ask.folder)
        .stdin(Stdio::null())
        .output()?;
    serde_json::from_slice(&output.stdout)
        .map_err(|_| io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

/// The child: makes it so, probes, and prints what was found.
pub fn main() -> i32 {
    match probe_here(&std::env::args().nth(3).unwrap_or_default()) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("the condition could not be made: {error}");
            1
        }
    }
}

fn probe_here(condition: &str) -> io::Result<()> {
    let state = std::env::current_dir()?.join("machine");
    fs::create_dir_all(&state)?;
    let cleaned = Cleaned(state.clone());
    if let Some(condition) = find(condition) {
        (condition.make)(&state)?;
    }
    let report = L1::probe(&Options::new(state));
    let lines = report.probes.into_iter().map(|line| (line.id, line.ok, line.detail, line.fix)).collect();
    println!("{}", serde_json::to_string(&Probed { ok: report.ok, lines })?);
    drop(cleaned);
    Ok(())
}

struct Cleaned(PathBuf);

impl Drop for Cleaned {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A user namespace of our own, in which its switches are ours.
fn enter(more: CloneFlags) -> io::Result<()> {
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    nix::sched::unshare(CloneFlags::CLONE_NEWUSER | more)?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
    fs::write("/proc/self/gid_map", format!("0 {gid} 1"))
}

fn enter_mounts() -> io::Result<()> {
    enter(CloneFlags::CLONE_NEWNS)?;
    Ok(mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?)
}

fn no_user_namespaces(_: &Path) -> io::Result<()> {
    enter(CloneFlags::empty())?;
    fs::write("/proc/sys/user/max_user_namespaces", "0")
}

fn no_landlock(_: &Path) -> io::Result<()> {
    without_call(r#"{ "syscall": "landlock_create_ruleset" }"#)
}

fn no_seccomp(_: &Path) -> io::Result<()> {
    // 22: PR_SET_SECCOMP, the older way to the same.
    without_call(
        r#"{ "syscall": "seccomp" },
           { "syscall": "prctl", "args": [{ "index": 0, "type": "dword", "op": "eq", "val": 22 }] }"#,
    )
}

/// The kernel answers as one that was built without it.
fn without_call(calls: &str) -> io::Result<()> {
    let text = format!(
        r#"{{ "without": {{ "mismatch_action": "allow", "match_action": {{ "errno": 38 }}, "filter": [{calls}] }} }}"#
    );
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(io::Error::other)?;
    let programs = compile_from_json(text.as_bytes(), arch).map_err(io::Error::other)?;
    rustix::thread::set_no_new_privs(true)?;
    programs.values().try_for_each(|program| apply_filter(program).map_err(io::Error::other))
}

/// This file system has no extended attributes, in which an overlay keeps what it must remember.
fn no_overlay(state: &Path) -> io::Result<()> {
    enter_mounts()?;
    Ok(mount("plain", state, "ramfs", MountFlags::empty(), None)?)
}

fn no_control_groups(_: &Path) -> io::Result<()> {
    enter_mounts()?;
    if Path::new("/sys/fs/cgroup").is_dir() {
        mount("nothing", "/sys/fs/cgroup", "tmpfs", MountFlags::empty(), None)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probed(lines: &[(&str, bool, Option<&str>)]) -> Probed {
        let lines = lines.iter().map(|(id, ok, fix)| {
            ((*id).to_owned(), *ok, "memory by rlimit, processes by pid_max".to_owned(), fix.map(str::to_owned))
        });
        Probed { ok: true, lines: lines.collect() }
    }

    #[test]
    fn what_changes_on_the_host_meanwhile_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let ask = Ask { folder: folder.path().into(), token: "none".into(), lines: Vec::new(), controls: false };
        let change = |act: &dyn Fn()| watched(&ask, &Groups::None, "no process has this", act).unwrap().1;
        assert_eq!(change(&|| ()), [] as [String; 0]);
        let [told] =
            change(&|| fs::write(folder.path().join("world/outside/canary"), "x").unwrap()).try_into().unwrap();
        assert!(told.contains("outside/canary was"), "{told}");
    }

    #[test]
    fn only_the_right_refusal_with_advice_counts() {
        let refused = Answer::Refused("landlock");
        assert_eq!(refused.check(&probed(&[("landlock", false, Some("do"))])).0, Verdict::Held);
        assert_eq!(refused.check(&probed(&[("landlock", false, None)])).0, Verdict::GotThrough);
        assert_eq!(refused.check(&probed(&[("mount", false, Some("do"))])).0, Verdict::NotTried);
        assert_eq!(refused.check(&probed(&[("landlock", true, None)])).0, Verdict::GotThrough);
        assert_eq!(Answer::WithoutGroups.check(&probed(&[("limits", true, None)])).0, Verdict::Held);
        assert_eq!(Answer::WithoutGroups.check(&probed(&[("other", true, None)])).0, Verdict::GotThrough);
    }
}
