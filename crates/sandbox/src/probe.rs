//! Proves the back end before anything relies on it: starts a whole sandbox over a workspace of its
//! own, tries from inside what must be denied, and reads the layer back.

use std::{
    collections::BTreeMap,
    fs, io,
    os::fd::OwnedFd,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use homarus_contract::{
    action::Tier,
    ids::{CallId, RunId},
    sandbox::{Entry, ExecSpec, Exit, LayerId, Limits},
};
use serde::Serialize;

use crate::{
    call::{self, Bounds, Launch},
    cgroup::Groups,
    disk::DiskBound,
    layer::{Layers, diff, remove_tree},
    options::Options,
    plan::{self, Host},
    spec::{AheadSpec, LayerSpec, Seen, StageFailure},
    stages::attempts,
    zygote::Zygote,
};

/// What the probe found. The back end may be used only if nothing failed.
#[derive(Debug, Clone, Serialize)]
pub struct ProbeReport {
    pub backend: &'static str,
    pub ok: bool,
    pub probes: Vec<ProbeLine>,
    #[serde(skip)]
    groups: Option<Groups>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProbeLine {
    pub id: String,
    pub ok: bool,
    pub detail: String,
    /// What to do about it, if it failed.
    pub fix: Option<String>,
}

impl ProbeReport {
    /// The first thing that failed.
    pub fn failure(&self) -> Option<&ProbeLine> {
        self.probes.iter().find(|line| !line.ok)
    }

    /// A report that refuses everything, for a host that must not use this back end.
    pub fn refusing(id: &str, detail: &str, fix: &str) -> Self {
        let line = ProbeLine { id: id.to_owned(), ok: false, detail: detail.to_owned(), fix: Some(fix.to_owned()) };
        Self { backend: "l1", ok: false, probes: vec![line], groups: None }
    }

    pub(crate) fn groups(&self) -> Option<Groups> {
        self.groups.clone()
    }

    fn line(&mut self, id: &str, result: Result<String, String>) {
        let (ok, detail) = match result {
            Ok(detail) => (true, detail),
            Err(detail) => (false, detail),
        };
        self.ok &= ok;
        self.probes.push(ProbeLine { id: id.to_owned(), ok, detail, fix: (!ok).then(|| fix(id).to_owned()) });
    }
}

pub fn run(options: &Options, zygote: &Zygote) -> ProbeReport {
    let groups = Groups::find();
    let mut report = ProbeReport { backend: "l1", ok: true, probes: Vec::new(), groups: Some(groups.clone()) };
    match try_all(options, zygote, &groups) {
        Ok(lines) => {
            for (id, result) in lines {
                report.line(&id, result);
            }
        }
        Err(failure) => report.line(&failure.step, Err(failure.detail)),
    }
    report
}

pub type Lines = Vec<(String, Result<String, String>)>;

fn try_all(options: &Options, zygote: &Zygote, groups: &Groups) -> Result<Lines, StageFailure> {
    let io_failed = |error: io::Error| StageFailure::new("state", error.to_string());
    fs::create_dir_all(&options.state_dir).map_err(io_failed)?;
    sweep(&options.state_dir);
    let own = format!("{PREFIX}{}-{}", std::process::id(), unique());
    let folder = options.state_dir.join(&own);
    let _cleaned = Cleaned(&folder);
    let layers = Layers::new(&folder);
    let workspace = folder.join("workspace");
    fs::create_dir_all(workspace.join("replaced")).map_err(io_failed)?;
    fs::write(workspace.join("removed"), "old").map_err(io_failed)?;
    fs::write(workspace.join("replaced/old"), "old").map_err(io_failed)?;

    // The probe's own workspace lies in the state folder, which is hidden otherwise.
    let visible = Options { state_dir: folder.join("none"), hidden: Vec::new(), ..options.clone() };
    let host = Host::look(&visible).map_err(|error| StageFailure::new("host", error.to_string()))?;
    let id = LayerId {
        run: RunId::parse("probe").map_err(|error| StageFailure::new("host", error.to_string()))?,
        call: CallId::new(0, 0),
        attempt: 1,
    };
    let owner = host.id_maps.is_some().then_some((host.uid, host.gid));
    let held = layers.hold(0o755, owner).map_err(io_failed)?;
    let spec = ExecSpec {
        layer: id,
        workspace: fs::canonicalize(&workspace).map_err(io_failed)?,
        cwd: "".into(),
        program: plan::attempts_program(),
        env: BTreeMap::new(),
        stdin: Vec::new(),
        limits: limits(),
        tier: Tier::Internal,
        read_only: false,
    };
    let began = SystemTime::now();
    let stdin = call::stdin_of(&spec.stdin).map_err(io_failed)?;
    let with = With { options, zygote, host: &host, groups, layer: Some(held.spec.clone()), ahead: None };
    let first = one(with, &spec, stdin)?;
    let mut lines = first.enforced;
    for line in first.stdout.lines() {
        let attempt: crate::stages::Attempt =
            serde_json::from_str(line).map_err(|error| StageFailure::new("denials", error.to_string()))?;
        let result = if attempt.denied { Ok(attempt.detail) } else { Err(attempt.detail) };
        lines.push((format!("denied.{}", attempt.id), result));
    }
    if first.exit == (Exit::Code { code: attempts::NO_WORKSPACE }) {
        lines.push(("overlay".to_owned(), Err(first.stderr.trim().to_owned())));
        return Ok(lines);
    }
    if first.exit != (Exit::Code { code: 0 }) && lines.iter().all(|(_, result)| result.is_ok()) {
        lines.push(("denials".to_owned(), Err(format!("the attempts ended with {:?}: {}", first.exit, first.stderr))));
    }
    lines.push(("layer".to_owned(), check_layer(&workspace, &held.spec.upper, began)));
    Ok(lines)
}

/// What one call is made with.
pub struct With<'a> {
    pub options: &'a Options,
    pub zygote: &'a Zygote,
    pub host: &'a Host,
    pub groups: &'a Groups,
    /// What it writes to; `None`: it is read-only.
    pub layer: Option<LayerSpec>,
    /// What its sandbox shows the workspace with before the call comes, if it can.
    pub ahead: Option<LayerSpec>,
}

/// One call, whole: what was enforced on it, and what became of it.
pub struct One {
    pub enforced: Lines,
    pub stdout: String,
    pub stderr: String,
    pub exit: Exit,
}

pub fn one(with: With<'_>, spec: &ExecSpec, stdin: OwnedFd) -> Result<One, StageFailure> {
    let With { options, zygote, host, groups, layer, ahead } = with;
    let failed = |step: &'static str| move |error: io::Error| StageFailure::new(step, error.to_string());
    let mut stage = host.plan(spec).map_err(|error| StageFailure::new("host", error.to_string()))?;
    let mut base = host.base();
    base.ahead = ahead.and_then(|layer| Some(AheadSpec { seen: Seen::of(&stage)?, layer }));
    if let Some(layer) = layer {
        stage = stage.over(layer);
    }
    let disk = DiskBound::of_call(&stage, options).map_err(failed("layer"))?;
    let mut running = call::start(Launch {
        zygote,
        base,
        groups: groups.create(&spec.limits).map_err(failed("limits"))?,
        lock: None,
        id_maps: host.id_maps.as_ref(),
    })?;
    running.begin(stage, stdin)?;
    let started = running.started.clone();
    let how: Vec<String> = started.limits.iter().map(|(limit, how)| format!("{limit} by {how}")).collect();
    let enforced = vec![
        ("namespaces".to_owned(), Ok(started.namespaces.join(", "))),
        ("overlay".to_owned(), Ok(format!("{} (userxattr)", started.workspace))),
        ("landlock".to_owned(), Ok(format!("ABI {}", started.landlock_abi))),
        (
            "seccomp".to_owned(),
            Ok(format!("programs {}", started.seccomp.as_deref().unwrap_or_default().get(..12).unwrap_or_default())),
        ),
        ("privileges".to_owned(), Ok("no_new_privs, all capabilities dropped".to_owned())),
        ("limits".to_owned(), Ok(how.join(", "))),
    ];
    let cancel = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC)
        .map_err(|error| failed("host")(error.into()))?;
    let bounds = Bounds {
        deadline: std::time::Instant::now() + std::time::Duration::from_millis(spec.limits.wall_ms),
        wall_ms: spec.limits.wall_ms,
        output_bytes_max: spec.limits.output_bytes_max,
        disk,
    };
    let ended = running.carry(bounds, &cancel, &(Arc::new(|_| {}) as _)).map_err(failed("host"))?;
    Ok(One {
        enforced,
        stdout: String::from_utf8_lossy(&ended.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&ended.stderr).into_owned(),
        exit: ended.exit,
    })
}

/// The attempts also write, remove and replace in the workspace; the layer must tell all of it.
fn check_layer(workspace: &Path, upper: &Path, began: SystemTime) -> Result<String, String> {
    let diff = diff::read(workspace, &[], upper, began, u64::MAX).map_err(|error| error.to_string())?;
    let has = |path: &str, wanted: fn(&Entry) -> bool| {
        diff.changes.iter().any(|change| change.path == path && wanted(&change.new))
    };
    let missing: Vec<&str> = [
        ("written", has("written", |new| matches!(new, Entry::File { .. }))),
        ("removed", has("removed", |new| *new == Entry::Absent)),
        ("replaced/old", has("replaced/old", |new| *new == Entry::Absent)),
        ("replaced/new", has("replaced/new", |new| matches!(new, Entry::File { .. }))),
    ]
    .into_iter()
    .filter_map(|(path, found)| (!found).then_some(path))
    .collect();
    let untouched = fs::read_to_string(workspace.join("removed")).is_ok_and(|text| text == "old");
    if missing.is_empty() && untouched {
        return Ok("writes, removals and replaced folders are found in the layer alone".to_owned());
    }
    Err(format!("the layer does not tell of {missing:?}; workspace untouched: {untouched}"))
}

fn limits() -> Limits {
    Limits { wall_ms: 10_000, cpu_s: 5, memory_bytes: 256 << 20, processes_max: 32, ..Limits::default() }
}

fn unique() -> u64 {
    static COUNT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}

/// How the folders of probes begin; after it comes the number of their process.
const PREFIX: &str = "probe-";
/// No probe takes this long, wherever its process runs and whatever number it has there.
const OLD: Duration = Duration::from_secs(60);

/// Removes what probes left whose process was killed meanwhile. What cannot be removed only takes up space.
fn sweep(state_dir: &Path) {
    for entry in fs::read_dir(state_dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(process) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('-').next()) else {
            continue;
        };
        let is_old =
            entry.metadata().and_then(|meta| meta.modified()).is_ok_and(|at| at.elapsed().is_ok_and(|age| age > OLD));
        if is_old && !Path::new("/proc").join(process).exists() {
            let _ = remove_tree(&entry.path());
        }
    }
}

struct Cleaned<'a>(&'a Path);

impl Drop for Cleaned<'_> {
    fn drop(&mut self) {
        let layers = Layers::new(self.0);
        if let Ok(run) = RunId::parse("probe") {
            let _ = layers.remove(&LayerId { run, call: CallId::new(0, 0), attempt: 1 });
        }
        let _ = fs::remove_dir_all(self.0);
    }
}

/// What to do about a failed probe.
fn fix(id: &str) -> &'static str {
    match id {
        "userns" => {
            "Allow user namespaces: `sysctl -w user.max_user_namespaces=15000`, on Debian also \
             `kernel.unprivileged_userns_clone=1`, on Ubuntu 24.04 and later `kernel.apparmor_restrict_unprivileged_userns=0`; \
             in a container, run it with a seccomp profile that allows `unshare`, or run Homarus on the host."
        }
        "mount" | "proc" | "pid" | "net" | "ipc" | "uts" => {
            "Namespaces and mounts are being denied, usually by a container around Homarus: run it on the host, or give the \
             container `--security-opt seccomp=unconfined --security-opt apparmor=unconfined --security-opt systempaths=unconfined`."
        }
        "overlay" | "layer" => {
            "The workspace needs overlayfs with `userxattr` (Linux 5.11 or later), and Homarus's state folder a file system \
             that can carry its upper layer (ext4, xfs, btrfs; not another overlay, NFS, or tmpfs before Linux 6.6): set \
             HOMARUS_HOME to a folder on such a disk."
        }
        "workspace" => "The workspace could not be opened as it is: check its owner and permissions.",
        "landlock" => {
            "Landlock is needed (Linux 5.13 or later): add `landlock` to the kernel's `lsm=` list and restart."
        }
        "seccomp" => "The kernel must have CONFIG_SECCOMP_FILTER.",
        "limits" => "Run as an ordinary user, or give root a writable cgroup with the memory and pids controllers.",
        "state" => "Homarus's state folder must be writable; set HOMARUS_HOME to one that is.",
        _ => "This host cannot isolate tool calls; run Homarus on another one, and please report this output.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_killed_probes_left_is_swept_and_nothing_else() {
        let state = tempfile::tempdir().unwrap();
        // No process has this number.
        let gone = u32::MAX;
        let make = |name: String, age: Duration| {
            let folder = state.path().join(name);
            fs::create_dir_all(folder.join("layers/probe")).unwrap();
            fs::File::open(&folder).unwrap().set_modified(SystemTime::now() - age).unwrap();
            folder
        };
        let left = make(format!("probe-{gone}-0"), OLD * 2);
        let others = [
            make(format!("probe-{gone}-1"), Duration::ZERO),
            make(format!("probe-{}-0", std::process::id()), OLD * 2),
            make("problems".to_owned(), OLD * 2),
        ];
        sweep(state.path());
        assert!(!left.exists());
        assert!(others.iter().all(|folder| folder.is_dir()), "{others:?}");
    }
}
