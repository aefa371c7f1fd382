//! The back end: implements the ports of `contract::sandbox` with the stages and layers.

use std::{path::PathBuf, sync::Arc};

use homarus_contract::{
    BoxFuture,
    action::Tier,
    gate::{MergePermit, Permit},
    guest::{Guest, GuestLauncher, GuestSpec},
    sandbox::{
        Change, ContentSource, ExecDone, ExecSpec, LayerDiff, LayerId, MergeReport, OutputSink, Sandbox, SandboxError,
        WorkerLauncher, WorkerProcess, WorkerSpec,
    },
};

use crate::{
    backend::{Inner, layer_error, setup},
    cancel::CancelOnDrop,
    guest,
    options::Options,
    probe::{self, ProbeReport},
    spare,
    trial::Trial,
    worker,
    zygote::Zygote,
};

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
        self.inner.layers.remove_empty();
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
            let cancel = CancelOnDrop::new().map_err(setup)?;
            let signal = cancel.signal().map_err(setup)?;
            blocking(move || inner.stage(&workspace, &layer, changes, &contents, &signal)).await
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

fn fits(permit: &Permit, layer: &LayerId) -> bool {
    permit.run() == &layer.run && permit.action().is_some_and(|action| action.call == layer.call)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SandboxError> + Send + 'static,
) -> Result<T, SandboxError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(SandboxError::Setup(format!("the carrying thread ended: {error}"))),
    }
}
