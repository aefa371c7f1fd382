//! A workspace, a state folder and a probed sandbox.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use homarus_contract::{
    action::Tier,
    ids::{CallId, RunId},
    sandbox::{
        Change, ExecDone, ExecSpec, LayerDiff, LayerId, Limits, MergeReport, OutputSink, Program, Sandbox, SandboxError,
    },
};
use homarus_sandbox::{L1, Options};
use tempfile::TempDir;

use crate::gate;

/// The helper, built as an example beside the folder this test stands in.
pub fn helper() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    own.parent().and_then(Path::parent).unwrap().join("examples/sandbox-stage-helper")
}

pub struct Fixture {
    pub dir: TempDir,
    pub workspace: PathBuf,
    pub state: PathBuf,
    pub sandbox: L1,
    run: RunId,
    calls: AtomicU32,
}

/// What a script did, with its layer.
pub struct Called {
    pub done: ExecDone,
    pub layer: LayerId,
}

impl Fixture {
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    pub fn with(change: impl FnOnce(&mut Options)) -> Self {
        let dir = TempDir::new().unwrap();
        let state = dir.path().join("state");
        Self::in_folders(dir, state, change)
    }

    /// The state is kept elsewhere than beside the workspace, which stands in `dir`.
    pub fn in_folders(dir: TempDir, state: PathBuf, change: impl FnOnce(&mut Options)) -> Self {
        let workspace = dir.path().join("work");
        fs::create_dir(&workspace).unwrap();
        let mut options = Options::new(&state);
        options.exe = helper();
        change(&mut options);
        let report = L1::probe(&options);
        assert!(report.ok, "{:#?}", report.probes);
        let sandbox = L1::new(options, report).unwrap();
        Self { dir, workspace, state, sandbox, run: RunId::parse("test").unwrap(), calls: AtomicU32::new(0) }
    }

    pub fn write(&self, path: &str, text: &str) -> PathBuf {
        let path = self.workspace.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    pub fn read(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.workspace.join(path)).ok()
    }

    pub fn spec(&self, program: Program) -> ExecSpec {
        let call = CallId::new(1, self.calls.fetch_add(1, Ordering::Relaxed));
        ExecSpec {
            layer: LayerId { run: self.run.clone(), call, attempt: 1 },
            workspace: self.workspace.clone(),
            cwd: "".into(),
            program,
            env: BTreeMap::new(),
            stdin: Vec::new(),
            limits: Limits { wall_ms: 60_000, memory_bytes: 256 << 20, ..Limits::default() },
            tier: Tier::Internal,
            read_only: false,
        }
    }

    pub fn shell(&self, script: &str) -> ExecSpec {
        self.spec(Program::Command { argv: vec!["/bin/sh".into(), "-c".into(), script.into()] })
    }

    pub async fn exec_into(&self, spec: ExecSpec, sink: OutputSink) -> Result<Called, SandboxError> {
        let layer = spec.layer.clone();
        let permit = gate::permit(&layer.run, &layer.call).await;
        Ok(Called { done: self.sandbox.exec(permit, spec, sink).await?, layer })
    }

    pub async fn exec(&self, spec: ExecSpec) -> Called {
        self.exec_into(spec, Arc::new(|_| {})).await.unwrap()
    }

    pub async fn sh(&self, script: &str) -> Called {
        self.exec(self.shell(script)).await
    }

    pub async fn merge(&self, called: &Called) -> MergeReport {
        self.try_merge(called).await.unwrap()
    }

    pub async fn try_merge(&self, called: &Called) -> Result<MergeReport, SandboxError> {
        let permit = gate::merge_permit(&called.layer.run, &called.layer.call, &called.done.diff);
        self.sandbox.merge(permit, self.workspace.clone(), called.layer.clone(), called.done.diff.clone()).await
    }

    pub fn layer_exists(&self, layer: &LayerId) -> bool {
        self.state.join("layers").join(layer.run.as_str()).join(format!("{}-{}", layer.call, layer.attempt)).exists()
    }
}

/// With a folder `signal` that is bound directly, so that a test can tell a running call something.
pub fn signalling() -> Fixture {
    let fixture = Fixture::with(|options| options.cache_paths = vec!["signal".into()]);
    fs::create_dir(fixture.workspace.join("signal")).unwrap();
    fixture
}

impl Called {
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.done.stdout).into_owned()
    }

    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.done.stderr).into_owned()
    }

    pub fn change(&self, path: &str) -> &Change {
        change(&self.done.diff, path).unwrap_or_else(|| panic!("no change of {path}: {:#?}", self.done.diff))
    }

    pub fn paths(&self) -> Vec<&str> {
        self.done.diff.changes.iter().map(|change| change.path.as_str()).collect()
    }

    pub fn refused(&self, path: &str) -> bool {
        self.done.diff.refused.iter().any(|(refused, _)| refused == path)
    }
}

pub fn change<'a>(diff: &'a LayerDiff, path: &str) -> Option<&'a Change> {
    diff.changes.iter().find(|change| change.path == path)
}

/// Processes of the host whose command line holds this text.
pub fn processes_with(text: &str) -> Vec<u32> {
    let own = std::process::id();
    fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| *pid != own)
        .filter(|pid| {
            let line = fs::read(Path::new("/proc").join(pid.to_string()).join("cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).replace('\0', " ").contains(text)
        })
        .collect()
}

pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Waits until `done` or fails: a bound, not a measurement.
pub fn eventually(what: &str, done: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < until, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
