//! One column of the matrix: a process of its own that drives sandboxes as one user and is itself under attack. It
//! tells its parent, a line of JSON at a time, what became of each attack.

use std::{
    fs,
    io::{self, Read},
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    time::{Instant, SystemTime},
};

use homarus_contract::{
    action::Tier,
    ids::{CallId, RunId},
    sandbox::{ExecSpec, Exit, LayerDiff, LayerId, Limits, Program},
};
use serde::{Deserialize, Serialize};

use super::{
    catalogue::{self, Attack, Scene, Wanted},
    control,
    host::{Snapshot, processes_of},
    inside::{self, Note, Outcome},
    judge::{Cell, Evidence, Verdict, judge, recorded},
    machine,
    world::{Ears, World},
};
use crate::{
    call,
    cgroup::Groups,
    layer::{Layers, diff, merge},
    plan::Host,
    probe::{self, With},
    zygote::Zygote,
};

/// What the parent asks for, on standard input.
#[derive(Debug, Serialize, Deserialize)]
pub struct Ask {
    /// An empty folder that belongs to this user.
    pub folder: PathBuf,
    pub token: String,
    /// Which lines of the matrix, by their ids.
    pub lines: Vec<String>,
    pub controls: bool,
}

/// What the column says, on standard output.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Said {
    Began(String),
    Line(String, Box<Cell>),
}

pub fn main() -> i32 {
    let mut text = String::new();
    let ask: Ask = match io::stdin().read_to_string(&mut text).map(|_| serde_json::from_str(&text)) {
        Ok(Ok(ask)) => ask,
        Ok(Err(error)) => return failed(&error),
        Err(error) => return failed(&error),
    };
    match run(&ask) {
        Ok(()) => 0,
        Err(error) => failed(&error),
    }
}

fn failed(error: &dyn std::error::Error) -> i32 {
    eprintln!("{error}");
    1
}

fn run(ask: &Ask) -> io::Result<()> {
    let groups = Groups::find();
    let ears = Ears::open(&ask.token)?;
    let exe = fs::canonicalize("/proc/self/exe")?;
    for id in &ask.lines {
        say(&Said::Began(id.clone()))?;
        let began = Instant::now();
        let mut cell = match (catalogue::find(id), machine::find(id)) {
            (Some(attack), _) => {
                // Most calls find a sandbox that shows all already; the first one, and some others, do not.
                let tried = |ahead| Trial { ask, groups: &groups, ears: &ears, exe: &exe, attack, ahead }.run();
                let first = tried(true)?;
                if first.verdict == Verdict::Held { tried(false)? } else { first }
            }
            (None, Some(condition)) => machine::judge(condition, ask, &groups)?,
            (None, None) => return Err(io::Error::other(format!("there is no attack `{id}`"))),
        };
        cell.took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        say(&Said::Line(id.clone(), Box::new(cell)))?;
    }
    Ok(())
}

fn say(said: &Said) -> io::Result<()> {
    use io::Write;
    let mut line = serde_json::to_vec(said)?;
    line.push(b'\n');
    io::stdout().write_all(&line)
}

/// One attack on one world.
pub struct Trial<'a> {
    pub ask: &'a Ask,
    pub groups: &'a Groups,
    pub ears: &'a Ears,
    pub exe: &'a Path,
    pub attack: &'a Attack,
    /// Whether the sandbox shows what the call sees before it comes, where that is possible.
    pub ahead: bool,
}

/// What the call left.
struct After {
    exit: Exit,
    stderr: String,
    tries: Vec<Note>,
    diff: LayerDiff,
}

impl Trial<'_> {
    fn run(&self) -> io::Result<Cell> {
        let control = control::run(self)?;
        let world = World::make(&self.ask.folder.join("world"))?;
        let token = format!("{}-inside", self.ask.token);
        self.ears.heard(&world);
        let before = Snapshot::take(&world, self.groups, &token);
        let after = match self.attack_in(&world, &token) {
            Ok(after) => after,
            Err(why) => return Ok(not_tried(why, control)),
        };
        let mut host = before.changes(&Snapshot::take(&world, self.groups, &token));
        host.extend(self.ears.heard(&world));
        host.extend(world.armed());
        host.extend(self.merged(&world, &after)?);
        for (pid, _) in processes_of(&token) {
            // It got out, and is ours: the report says so, and it must not stay.
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
        let evidence = Evidence {
            wanted: self.attack.wanted,
            tries: &after.tries,
            exit: after.exit,
            stderr: &after.stderr,
            diff: &after.diff,
            host: &host,
        };
        let (verdict, how) = judge(&evidence);
        let recorded = recorded(after.exit, &after.stderr, &after.diff);
        Ok(Cell { verdict, how, recorded, control, took_ms: 0, tries: after.tries })
    }

    /// The error says why it could not be tried.
    fn attack_in(&self, world: &World, token: &str) -> Result<After, String> {
        let text = |error: io::Error| error.to_string();
        let limits = self.limits();
        let options = world.options(self.exe, self.attack.scene);
        let host = Host::look(&options).map_err(text)?;
        let place = world.place(self.attack, token, self.ears, &limits).map_err(text)?;
        let id = layer_id()?;
        let read_only = self.attack.scene == Scene::ReadOnly;
        let layers = Layers::new(&options.state_dir);
        let owner = host.id_maps.is_some().then_some((host.uid, host.gid));
        let held = layers.hold(0o755, owner).map_err(text)?;
        let layer = (!read_only).then(|| held.spec.clone());
        let spec = ExecSpec {
            layer: id.clone(),
            workspace: fs::canonicalize(world.workspace()).map_err(text)?,
            cwd: "".into(),
            // As a command, which is what a model can have run; our own functions may do a little more.
            program: Program::Command { argv: inside::command(&place).map_err(text)? },
            env: Default::default(),
            stdin: Vec::new(),
            limits,
            tier: Tier::Internal,
            read_only,
        };
        let careless = match self.attack.scene {
            Scene::Careless => world.careless().map_err(text)?,
            _ => Vec::new(),
        };
        let (stdin, terminal) = self.stdin().map_err(text)?;
        let began = SystemTime::now();
        // A new one each time: it inherits what the host is careless with.
        let zygote = Zygote::new(self.exe);
        let with = With {
            options: &options,
            zygote: &zygote,
            host: &host,
            groups: self.groups,
            layer: layer.clone(),
            ahead: self.ahead.then(|| held.spec.clone()),
        };
        let done = probe::one(with, &spec, stdin).map_err(|failure| format!("{}: {}", failure.step, failure.detail))?;
        drop((careless, terminal));
        let diff = match &layer {
            Some(layer) => {
                diff::read(&spec.workspace, &[], &layer.upper, began, options.layer_bytes_max).map_err(text)?
            }
            None => LayerDiff::default(),
        };
        if !diff.is_empty() {
            layers.put(held, &id).map_err(text)?;
        }
        Ok(After { exit: done.exit, stderr: done.stderr, tries: notes(&done.stdout), diff })
    }

    pub fn limits(&self) -> Limits {
        let mut limits = Limits {
            wall_ms: 20_000,
            cpu_s: 10,
            memory_bytes: 256 << 20,
            processes_max: 64,
            open_files_max: 256,
            file_bytes_max: 256 << 20,
            output_bytes_max: 4 << 20,
        };
        (self.attack.bound)(&mut limits);
        limits
    }

    /// Standard input, and what must stay open for it.
    pub fn stdin(&self) -> io::Result<(OwnedFd, Option<OwnedFd>)> {
        if self.attack.scene != Scene::Terminal {
            return Ok((call::stdin_of(b"")?, None));
        }
        let pair = nix::pty::openpty(None, None)?;
        Ok((pair.slave, Some(pair.master.as_fd().try_clone_to_owned()?)))
    }

    /// Merges what may be merged, as would happen next, and says what then is as it must not be.
    fn merged(&self, world: &World, after: &After) -> io::Result<Vec<String>> {
        if after.diff.is_empty() {
            return Ok(Vec::new());
        }
        let beside = |world: &World| -> Vec<(String, String)> {
            let workspace = world.workspace().display().to_string();
            let state = world.state().display().to_string();
            let mut seen = world.look();
            seen.retain(|(path, _)| !path.starts_with(&workspace) && !path.starts_with(&state));
            seen.sort();
            seen
        };
        let before = beside(world);
        let layers = Layers::new(&world.state());
        let id = layer_id().map_err(io::Error::other)?;
        let workspace = fs::canonicalize(world.workspace())?;
        if let Err(error) = merge::run(&workspace, &[], &layers.upper(&id), &layers.conflicts(&id), &after.diff) {
            return Ok(vec![format!("the layer could not be merged: {error:?}")]);
        }
        let mut wrong = Vec::new();
        if beside(world) != before {
            wrong.push("the merge changed something beside the workspace".to_owned());
        }
        for (path, what) in world.look() {
            let mode = what.split(' ').nth(1).and_then(|text| u32::from_str_radix(text, 8).ok()).unwrap_or(0);
            if mode & 0o6000 != 0 {
                wrong.push(format!("{path} was merged with mode {mode:o}"));
            }
        }
        if self.attack.wanted == Wanted::Refused {
            // Attacks of this kind name the paths they made.
            let made = after.tries.iter().filter(|note| matches!(note.outcome, Outcome::Confined { .. }));
            let there = made.filter(|note| fs::symlink_metadata(workspace.join(&note.what)).is_ok());
            wrong.extend(there.map(|note| format!("{} was merged", note.what)));
        }
        Ok(wrong)
    }
}

/// The lines an attack printed. What is no note is not one of ours, and proves nothing.
pub fn notes(stdout: &str) -> Vec<Note> {
    stdout.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn layer_id() -> Result<LayerId, String> {
    let run = RunId::parse("selftest").map_err(|error| error.to_string())?;
    Ok(LayerId { run, call: CallId::new(0, 0), attempt: 1 })
}

fn not_tried(why: String, control: super::judge::ControlSeen) -> Cell {
    Cell { verdict: Verdict::NotTried, how: why, recorded: None, control, took_ms: 0, tries: Vec::new() }
}
