//! What the back end is made of, and how a call goes through it.

use std::{
    io,
    os::fd::OwnedFd,
    path::Path,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use homarus_contract::{
    ids::Hash,
    sandbox::{
        Change, ContentSource, ExecDone, ExecSpec, LayerDiff, LayerId, Limits, MergeReport, OutputChunk, OutputSink,
        Receipt, SandboxError,
    },
};

use crate::{
    ahead::{Ahead, Guess, Look},
    call::{self, Bounds, Ended, Launch, Running},
    disk::DiskBound,
    handoff,
    layer::{Layers, diff, held::Held, keep, merge, stage},
    options::Options,
    plan::Host,
    protected::check_cache_path,
    spare::{self, Leftover, Spare},
    spec::{CallSpec, StageFailure, Started, Step},
    trial::Trial,
    zygote::Zygote,
};

/// What programs say of EOVERFLOW: an ordinary user's sandbox has no number for the owner or group
/// of a file, so the overlay cannot copy it up.
const FOREIGN_OWNER: &[u8] = b"Value too large for defined data type";
const FOREIGN_OWNER_NOTE: &[u8] = b"\nsandbox: a file of another user or group cannot be changed in the sandbox; \
    give it your own group (`chgrp`) or run Homarus as its owner\n";

#[derive(Debug)]
pub struct Inner {
    options: Options,
    pub trial: Trial,
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

    /// Gives a planned call to the sandbox that stands ready, if that shows nothing yet, or to a new one.
    pub fn launch(&self, call: CallSpec, stdin: OwnedFd) -> Result<Running, SandboxError> {
        let ready = self.spare.slot.take(None);
        self.launch_in(ready.map(|ready| ready.running), call, stdin).map(|(running, _)| running)
    }

    /// `false`: the one that stood ready could not take it.
    fn launch_in(
        &self,
        ready: Option<Running>,
        call: CallSpec,
        stdin: OwnedFd,
    ) -> Result<(Running, bool), SandboxError> {
        let failed = |failure: StageFailure| SandboxError::Setup(format!("{}: {}", failure.step, failure.detail));
        let Some(mut ready) = ready else { return Ok((self.launch_new(call, stdin).map_err(failed)?, true)) };
        let again = stdin.try_clone().map_err(setup)?;
        // One that has waited may have died meanwhile, or see an older mount table.
        let Err(first) = ready.begin(call.clone(), again) else { return Ok((ready, true)) };
        drop(ready);
        let running = self.launch_new(call.again().map_err(setup)?, stdin).map_err(|failure| {
            let detail = format!("{}; before that, {}: {}", failure.detail, first.step, first.detail);
            failed(StageFailure::new(&failure.step, detail))
        })?;
        Ok((running, false))
    }

    fn launch_new(&self, call: CallSpec, stdin: OwnedFd) -> Result<Running, StageFailure> {
        let mut running = self.start(None)?;
        running.begin(call, stdin)?;
        Ok(running)
    }

    /// A sandbox that waits for its call, and shows already what that is likely to see.
    pub fn start(&self, ahead: Option<&Ahead>) -> Result<Running, StageFailure> {
        let mut base = self.host.base();
        base.ahead = ahead.map(Ahead::spec);
        call::start(Launch {
            zygote: &self.zygote,
            base,
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
        let mut plan = self.host.plan(spec)?;
        let look = self.look(&workspace)?;
        let guess = Guess::from(&plan, look);
        let (mut held, mut running) = (None, None);
        if let Some(ready) = self.spare.slot.take(guess.as_ref()) {
            (running, held) = (Some(ready.running), ready.ahead.map(Ahead::into_layer));
        }
        let shows_ahead = held.is_some();
        if !spec.read_only {
            let layer = match held.take() {
                Some(held) => held,
                None => look.layer(&self.layers).map_err(layer_error)?,
            };
            plan = plan.over(layer.spec.clone());
            held = Some(layer);
        }
        let layer = held.as_ref().filter(|_| !spec.read_only);
        let disk = DiskBound::of_call(&plan, &self.options).map_err(layer_error)?;
        let stdin = call::stdin_of(&spec.stdin).map_err(setup)?;
        let (mut running, has_served) = self.launch_in(running, plan, stdin)?;
        if let Some(guess) = guess.as_ref().filter(|_| shows_ahead) {
            self.spare.tried(guess, has_served);
        }
        let receipt = receipt(&running.started, asked.elapsed())?;
        let bounds = Bounds {
            deadline: asked + Duration::from_millis(spec.limits.wall_ms),
            wall_ms: spec.limits.wall_ms,
            output_bytes_max: spec.limits.output_bytes_max,
            disk,
        };
        let mut ended = running.carry(bounds, cancel, output).map_err(setup)?;
        self.note_foreign_owner(&mut ended, output);
        let diff = match layer {
            None => LayerDiff::default(),
            Some(layer) => {
                let bytes_max = self.options.layer_bytes_max;
                diff::read(&workspace, &self.host.hidden.fixed, &layer.spec.upper, began, bytes_max)
                    .map_err(layer_error)?
            }
        };
        if let Some(layer) = held.take_if(|_| !diff.is_empty()) {
            self.put(layer, &spec.layer, cancel)?;
        }
        // The next call will find a sandbox ready; nobody waits for this, nor for what is left to clear away.
        spare::prepare(self, guess);
        spare::put_away(self, Box::new(Leftover { ended: running, layer: held }));
        if diff.is_empty() {
            self.spare.prepare_now();
        }
        let wall_ms = u64::try_from(asked.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(ExecDone { exit: ended.exit, stdout: ended.stdout, stderr: ended.stderr, wall_ms, receipt, diff })
    }

    /// Makes a layer its call's. Whoever waited for that may have gone meanwhile, and thrown away what was there then: what
    /// comes later nobody would.
    fn put(&self, layer: Held, id: &LayerId, cancel: &OwnedFd) -> Result<(), SandboxError> {
        self.layers.put(layer, id).map_err(layer_error)?;
        if handoff::readable(cancel, Duration::ZERO).map_err(setup)? {
            self.layers.remove(id).map_err(layer_error)?;
            return Err(SandboxError::Layer("nobody waits for the call any more".to_owned()));
        }
        Ok(())
    }

    fn look(&self, workspace: &Path) -> Result<Look, SandboxError> {
        Look::of(workspace, self.host.id_maps.is_some()).map_err(setup)
    }

    fn note_foreign_owner(&self, ended: &mut Ended, output: &OutputSink) {
        if self.host.id_maps.is_none() && ended.stderr.windows(FOREIGN_OWNER.len()).any(|text| text == FOREIGN_OWNER) {
            ended.stderr.extend_from_slice(FOREIGN_OWNER_NOTE);
            output(OutputChunk::Stderr(FOREIGN_OWNER_NOTE.to_vec()));
        }
    }

    pub fn contents(&self, workspace: &Path, layer: &LayerId, diff: &LayerDiff) -> Result<Vec<Vec<u8>>, SandboxError> {
        let workspace = self.host.workspace(workspace)?;
        keep::contents(&workspace, &self.layers.upper(layer), diff, &self.options.keep).map_err(layer_error)
    }

    pub fn stage(
        &self,
        workspace: &Path,
        id: &LayerId,
        changes: Vec<Change>,
        contents: &ContentSource,
        cancel: &OwnedFd,
    ) -> Result<LayerDiff, SandboxError> {
        let workspace = self.host.workspace(workspace)?;
        let layer = self.look(&workspace)?.layer(&self.layers).map_err(layer_error)?;
        let diff = stage::write(&workspace, &self.host.hidden.fixed, &layer.spec.upper, changes, contents)
            .map_err(layer_error)?;
        if !diff.is_empty() {
            self.put(layer, id, cancel)?;
        }
        Ok(diff)
    }

    pub fn merge(&self, workspace: &Path, layer: &LayerId, diff: &LayerDiff) -> Result<MergeReport, SandboxError> {
        let workspace = self.host.workspace(workspace)?;
        let (own, kept) = (&self.host.hidden.fixed, self.layers.conflicts(layer));
        let report = merge::run(&workspace, own, &self.layers.upper(layer), &kept, diff).map_err(merge_error)?;
        // All is merged: a layer that cannot be removed only takes up space.
        let _ = self.layers.remove(layer);
        Ok(report)
    }
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
        bounds: Some(started.bounds),
        setup_us: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
    })
}

pub fn setup(error: io::Error) -> SandboxError {
    SandboxError::Setup(error.to_string())
}

pub fn layer_error(error: io::Error) -> SandboxError {
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
