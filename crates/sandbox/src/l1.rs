//! The back end: implements the ports of `contract::sandbox` with the stages and layers.

use std::{
    fs, io,
    os::{fd::OwnedFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use homarus_contract::{
    BoxFuture,
    action::Tier,
    gate::{MergePermit, Permit},
    guest::{Guest, GuestLauncher, GuestSpec},
    ids::Hash,
    sandbox::{
        Change, ContentSource, ExecDone, ExecSpec, LayerDiff, LayerId, Limits, MergeReport, OutputChunk, OutputSink,
        Receipt, Sandbox, SandboxError, WorkerLauncher, WorkerProcess, WorkerSpec,
    },
};

use crate::{
    call::{self, Bounds, Launch, Running},
    cancel::CancelOnDrop,
    disk::DiskBound,
    guest,
    layer::{Layers, diff, keep, merge, stage},
    options::Options,
    plan::Host,
    probe::{self, ProbeReport},
    protected::check_cache_path,
    spare::{self, Leftover, Spare},
    spec::{CallSpec, LayerSpec, StageFailure, Started, Step},
    trial::Trial,
    worker,
    zygote::Zygote,
};

/// What programs say of EOVERFLOW: an ordinary user's sandbox has no number for the owner or group
/// of a file, so the overlay cannot copy it up.
const FOREIGN_OWNER: &[u8] = b"Value too large for defined data type";
const FOREIGN_OWNER_NOTE: &[u8] = b"\nsandbox: a file of another user or group cannot be changed in the sandbox; \
    give it your own group (`chgrp`) or run Homarus as its owner\n";

/// The L1 sandbox: our own namespaces, overlay, Landlock, seccomp and limits.
#[derive(Debug, Clone)]
pub struct L1 {
    inner: Arc<Inner>,
}

impl L1 {
    /// Really starts a sandbox and tries to break out of it. Some twenty milliseconds; blocks.
    pub fn probe(options: &Options) -> ProbeReport {
        probe::run(options, &Zygote::new(&options.exe))
    }

    /// With a report that failed, every call is refused with its reason and fix.
    pub fn new(options: Options, report: ProbeReport) -> Result<Self, SandboxError> {
        Ok(Self { inner: Arc::new(Inner::new(options, |_, _| Trial::ended(report))?) })
    }

    /// Probes the host on a thread of its own; the first call waits for the end of that.
    pub fn start(options: Options) -> Result<Self, SandboxError> {
        Ok(Self { inner: Arc::new(Inner::new(options, Trial::start)?) })
    }

    /// Ends the sandbox that stands ready for the next call, if one does. To be called before the
    /// process ends; without it, that sandbox still ends, and leaves an empty control group that the
    /// next start removes. Blocks for some milliseconds.
    pub fn close(&self) {
        // The probe must not be cut off either: it cleans up behind itself.
        self.inner.trial.report();
        self.inner.spare.close();
        self.inner.zygote.close();
    }
}

impl Sandbox for L1 {
    fn exec(
        &self,
        permit: Permit,
        spec: ExecSpec,
        output: OutputSink,
    ) -> BoxFuture<'_, Result<ExecDone, SandboxError>> {
        let inner = self.inner.clone();
        Box::pin(async move {
            if !fits(&permit, &spec.layer) {
                return Err(SandboxError::Refused("the permit is for another call".into()));
            }
            if spec.tier > Tier::Internal {
                return Err(SandboxError::Unavailable {
                    reason: format!("the tier {:?} needs more isolation than l1 gives", spec.tier),
                    fix: "no stronger back end was found here; lower the tier only if you trust the tool".into(),
                });
            }
            let cancel = CancelOnDrop::new().map_err(setup)?;
            let signal = cancel.signal().map_err(setup)?;
            blocking(move || inner.exec(&spec, &output, &signal)).await
        })
    }

    fn merge(
        &self,
        permit: MergePermit,
        workspace: PathBuf,
        layer: LayerId,
        diff: LayerDiff,
    ) -> BoxFuture<'_, Result<MergeReport, SandboxError>> {
        let inner = self.inner.clone();
        Box::pin(async move {
            if permit.run() != &layer.run || permit.call() != &layer.call || permit.diff() != &diff.hash() {
                return Err(SandboxError::Refused("the permit is for another call or diff".into()));
            }
            blocking(move || inner.merge(&workspace, &layer, &diff)).await
        })
    }

    fn contents(
        &self,
        workspace: PathBuf,
        layer: LayerId,
        diff: LayerDiff,
    ) -> BoxFuture<'_, Result<Vec<Vec<u8>>, SandboxError>> {
        let inner = self.inner.clone();
        Box::pin(blocking(move || inner.contents(&workspace, &layer, &diff)))
    }

    fn stage(
        &self,
        permit: Permit,
        workspace: PathBuf,
        layer: LayerId,
        changes: Vec<Change>,
        contents: ContentSource,
    ) -> BoxFuture<'_, Result<LayerDiff, SandboxError>> {
        let inner = self.inner.clone();
        Box::pin(async move {
            if !fits(&permit, &layer) {
                return Err(SandboxError::Refused("the permit is for another call".into()));
            }
            blocking(move || inner.stage(&workspace, &layer, changes, &contents)).await
        })
    }

    fn discard(&self, layer: &LayerId) -> BoxFuture<'_, Result<(), SandboxError>> {
        let (inner, layer) = (self.inner.clone(), layer.clone());
        Box::pin(blocking(move || inner.layers.remove(&layer).map_err(layer_error)))
    }

    fn prepare_next(&self) {
        spare::now(&self.inner.spare);
    }
}

impl WorkerLauncher for L1 {
    fn launch(&self, spec: WorkerSpec) -> Result<WorkerProcess, SandboxError> {
        worker::launch(&self.inner, spec)
    }
}

impl GuestLauncher for L1 {
    fn launch_guest(&self, spec: GuestSpec) -> Result<Guest, SandboxError> {
        guest::launch(&self.inner, &spec)
    }
}

#[derive(Debug)]
pub(crate) struct Inner {
    options: Options,
    trial: Trial,
    pub host: Host,
    pub layers: Layers,
    pub spare: Spare,
    pub zygote: Arc<Zygote>,
}

impl Inner {
    pub fn new(options: Options, trial: impl FnOnce(&Options, &Arc<Zygote>) -> Trial) -> Result<Self, SandboxError> {
        options.cache_paths.iter().try_for_each(|path| check_cache_path(path)).map_err(SandboxError::Refused)?;
        let host = Host::look(&options).map_err(setup)?;
        let layers = Layers::new(&options.state_dir);
        layers.sweep();
        let zygote = Arc::new(Zygote::new(&options.exe));
        // Last: what has begun is waited for when this is closed.
        let trial = trial(&options, &zygote);
        Ok(Self { options, trial, host, layers, spare: Spare::default(), zygote })
    }

    pub fn available(&self) -> Result<(), SandboxError> {
        match self.trial.report().failure() {
            None => Ok(()),
            Some(line) => Err(SandboxError::Unavailable {
                reason: format!("{}: {}", line.id, line.detail),
                fix: line.fix.clone().unwrap_or_default(),
            }),
        }
    }

    /// Gives a planned call to the sandbox that stands ready, or to a new one.
    pub fn launch(&self, call: CallSpec, stdin: OwnedFd) -> Result<Running, SandboxError> {
        let failed = |failure: StageFailure| SandboxError::Setup(format!("{}: {}", failure.step, failure.detail));
        if let Some(mut ready) = self.spare.take() {
            let again = stdin.try_clone().map_err(setup)?;
            // One that has waited may have died meanwhile, or see an older mount table.
            match ready.begin(call.clone(), again) {
                Ok(()) => return Ok(ready),
                Err(first) => {
                    drop(ready);
                    let retried = self.launch_new(call.again().map_err(setup)?, stdin);
                    return retried.map_err(|failure| {
                        let detail = format!("{}; before that, {}: {}", failure.detail, first.step, first.detail);
                        failed(StageFailure::new(&failure.step, detail))
                    });
                }
            }
        }
        self.launch_new(call, stdin).map_err(failed)
    }

    fn launch_new(&self, call: CallSpec, stdin: OwnedFd) -> Result<Running, StageFailure> {
        let mut running = self.start()?;
        running.begin(call, stdin)?;
        Ok(running)
    }

    /// A sandbox that waits for its call.
    pub fn start(&self) -> Result<Running, StageFailure> {
        call::start(Launch {
            zygote: &self.zygote,
            base: self.host.base(),
            groups: self.trial.groups().create(&Limits::default()).step("limits", "create")?,
            lock: self.options.driver_lock.as_deref(),
            id_maps: self.host.id_maps.as_ref(),
        })
    }

    /// Runs one call to its end, on the calling thread.
    pub fn exec(
        self: &Arc<Self>,
        spec: &ExecSpec,
        output: &OutputSink,
        cancel: &OwnedFd,
    ) -> Result<ExecDone, SandboxError> {
        let asked = Instant::now();
        self.available()?;
        let workspace = self.host.workspace(&spec.workspace)?;
        if !workspace.join(&spec.cwd).is_dir() {
            return Err(SandboxError::Refused(format!("there is no folder `{}` in the workspace", spec.cwd.display())));
        }
        let began = SystemTime::now();
        let layer = if spec.read_only { None } else { Some(self.create_layer(&spec.layer, &workspace)?) };
        let (done, ended) = match self.exec_in(spec, &workspace, layer.as_ref(), began, asked, output, cancel) {
            Ok(result) => result,
            Err(error) => {
                if layer.is_some() {
                    // What cannot be removed only takes up space; why the call failed is what is to be told.
                    let _ = self.layers.remove(&spec.layer);
                }
                return Err(error);
            }
        };
        let unused = layer.is_some() && done.diff.is_empty();
        // The call has run, and its result counts: a layer that cannot be set aside only takes up space.
        let layer = unused.then(|| self.layers.set_aside(&spec.layer)).and_then(Result::ok);
        // The next call will find a sandbox ready; nobody waits for this, nor for what is left to clear away.
        spare::prepare(self);
        spare::put_away(self, Box::new(Leftover { ended, layer }));
        Ok(done)
    }

    fn create_layer(&self, id: &LayerId, workspace: &Path) -> Result<LayerSpec, SandboxError> {
        let meta = fs::metadata(workspace).map_err(setup)?;
        let owner = self.host.id_maps.is_some().then_some((meta.uid(), meta.gid()));
        self.layers.create(id, meta.mode(), owner).map_err(layer_error)
    }

    #[allow(clippy::too_many_arguments, reason = "the second half of exec, which is its only caller")]
    fn exec_in(
        self: &Arc<Self>,
        spec: &ExecSpec,
        workspace: &Path,
        layer: Option<&LayerSpec>,
        began: SystemTime,
        asked: Instant,
        output: &OutputSink,
        cancel: &OwnedFd,
    ) -> Result<(ExecDone, Running), SandboxError> {
        let plan = self.host.plan(spec, layer.cloned())?;
        let stdin = call::stdin_of(&spec.stdin).map_err(setup)?;
        let (bytes_max, files_max) = (self.options.layer_bytes_max, self.options.layer_files_max);
        let disk = layer.map(|layer| DiskBound::new(&layer.upper, bytes_max, files_max)).transpose();
        let disk = disk.map_err(layer_error)?;
        let mut running = self.launch(plan, stdin)?;
        let receipt = receipt(&running.started, asked.elapsed())?;
        let bounds = Bounds {
            deadline: asked + Duration::from_millis(spec.limits.wall_ms),
            wall_ms: spec.limits.wall_ms,
            output_bytes_max: spec.limits.output_bytes_max,
            disk,
        };
        let mut ended = running.carry(bounds, cancel, output).map_err(setup)?;
        if self.host.id_maps.is_none() && ended.stderr.windows(FOREIGN_OWNER.len()).any(|text| text == FOREIGN_OWNER) {
            ended.stderr.extend_from_slice(FOREIGN_OWNER_NOTE);
            output(OutputChunk::Stderr(FOREIGN_OWNER_NOTE.to_vec()));
        }
        let diff = match layer {
            None => LayerDiff::default(),
            Some(layer) => diff::read(workspace, &layer.upper, began, bytes_max).map_err(layer_error)?,
        };
        let wall_ms = u64::try_from(asked.elapsed().as_millis()).unwrap_or(u64::MAX);
        let done = ExecDone { exit: ended.exit, stdout: ended.stdout, stderr: ended.stderr, wall_ms, receipt, diff };
        Ok((done, running))
    }

    fn contents(&self, workspace: &Path, layer: &LayerId, diff: &LayerDiff) -> Result<Vec<Vec<u8>>, SandboxError> {
        let workspace = self.host.workspace(workspace)?;
        keep::contents(&workspace, &self.layers.upper(layer), diff, &self.options.keep).map_err(layer_error)
    }

    fn stage(
        &self,
        workspace: &Path,
        id: &LayerId,
        changes: Vec<Change>,
        contents: &ContentSource,
    ) -> Result<LayerDiff, SandboxError> {
        let workspace = self.host.workspace(workspace)?;
        let layer = self.create_layer(id, &workspace)?;
        let diff = stage::write(&workspace, &layer.upper, changes, contents).map_err(layer_error)?;
        if diff.is_empty() {
            self.layers.remove(id).map_err(layer_error)?;
        }
        Ok(diff)
    }

    fn merge(&self, workspace: &Path, layer: &LayerId, diff: &LayerDiff) -> Result<MergeReport, SandboxError> {
        let workspace = self.host.workspace(workspace)?;
        let report = merge::run(&workspace, &self.layers.upper(layer), &self.layers.conflicts(layer), diff)
            .map_err(merge_error)?;
        // All is merged: a layer that cannot be removed only takes up space.
        let _ = self.layers.remove(layer);
        Ok(report)
    }
}

fn fits(permit: &Permit, layer: &LayerId) -> bool {
    permit.run() == &layer.run && permit.action().is_some_and(|action| action.call == layer.call)
}

pub fn receipt(started: &Started, took: Duration) -> Result<Receipt, SandboxError> {
    let seccomp = started.seccomp.as_deref().map(str::parse::<Hash>).transpose();
    let mut limits = started.limits.clone();
    for name in ["wall", "output"] {
        limits.insert(name.to_owned(), "host".to_owned());
    }
    let mut namespaces = started.namespaces.clone();
    namespaces.sort();
    Ok(Receipt {
        backend: "l1".to_owned(),
        namespaces,
        workspace: started.workspace.clone(),
        landlock_abi: started.landlock_abi,
        seccomp: seccomp.map_err(|error| SandboxError::Setup(error.to_string()))?,
        no_new_privs: started.no_new_privs,
        capabilities_dropped: started.capabilities_dropped,
        limits,
        setup_us: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
    })
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SandboxError> + Send + 'static,
) -> Result<T, SandboxError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(SandboxError::Setup(format!("the carrying thread ended: {error}"))),
    }
}

fn setup(error: io::Error) -> SandboxError {
    SandboxError::Setup(error.to_string())
}

fn layer_error(error: io::Error) -> SandboxError {
    SandboxError::Layer(error.to_string())
}

/// What the disk refuses is tried again when the run goes on; what can never be merged is not.
fn merge_error(failed: merge::Failed) -> SandboxError {
    match failed {
        merge::Failed::Untouched(error) if !is_of_the_disk(&error) => layer_error(error),
        merge::Failed::Untouched(error) => {
            SandboxError::Unmerged { cause: error.to_string(), workspace: "nothing in it was changed".to_owned() }
        }
        merge::Failed::Halfway(error) => SandboxError::Unmerged {
            cause: error.to_string(),
            workspace: "some of the changes are in it, the others wait in the call's layer".to_owned(),
        },
    }
}

fn is_of_the_disk(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let disk = [Errno::NOSPC, Errno::DQUOT, Errno::IO, Errno::ROFS, Errno::NFILE, Errno::MFILE, Errno::NOMEM];
    disk.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}
