//! Running a tool call: plan, gate, run, result.

use std::sync::Arc;

use homarus_contract::{
    BoxFuture,
    action::{Action, EffectClass},
    event::{ActResult, Event},
    gate::{Admission, Approval, Judge, Ledger, Permit, Verdict, Wish},
    ids::CallId,
    machine::Machine,
    sandbox::{LayerDiff, LayerId, OutputChunk, OutputSink},
    tool::{Tool, ToolContext, ToolError, ToolOutput},
};

use crate::{
    DriverError,
    batch::{Batch, Touches},
    journal_error,
    ports::Live,
    session::Session,
};

/// What became of the wish to start a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// It runs, or the journal says why it does not.
    Done,
    /// It may run when what runs now has ended.
    NotYet,
}

/// A call that has ended.
pub(crate) struct ActDone {
    call: CallId,
    attempt: u32,
    result: Result<ToolOutput, ToolError>,
    /// Contents of the files it changed, as far as they are kept.
    kept: Vec<Vec<u8>>,
    /// From the start of the call to its end, set-up included.
    wall_ms: u64,
}

impl<M: Machine, J: Judge, L: Ledger> Session<'_, M, J, L> {
    /// Plans a call, passes it through the gate, and lets it run with those of the batch.
    pub(crate) async fn start_act(
        &mut self,
        action: Action,
        attempt: u32,
        approval: Option<Approval>,
        batch: &mut Batch,
    ) -> Result<Start, DriverError> {
        // What was not offered to this run is not there for it, whatever this program has.
        let mut names: Vec<&str> = self.prompt.tools.iter().map(|tool| tool.name.as_str()).collect();
        let offered = names.contains(&action.tool.as_str());
        let Some(tool) = self.driver.tools.get(&action.tool).filter(|_| offered).cloned() else {
            names.sort_unstable();
            if !batch.is_empty() {
                return Ok(Start::NotYet); // Results are noted in order.
            }
            let text = format!("There is no tool {:?}. The tools are: {}.", action.tool, names.join(", "));
            self.refuse(&action.call, attempt, &text);
            return Ok(Start::Done);
        };
        let context = ToolContext {
            run: self.run.clone(),
            workspace: self.accepted.workspace.clone(),
            agent: self.accepted.agent.clone(),
            limits: self.driver.options.limits.of(&action.tool),
            profile: self.accepted.profile.clone(),
            sandbox: self.driver.options.sandbox.clone(),
        };
        let plan = match tool.plan(&context, &action) {
            Ok(plan) => plan,
            Err(_) if !batch.is_empty() => return Ok(Start::NotYet),
            Err(error) => {
                self.refuse(&action.call, attempt, &error.to_string());
                return Ok(Start::Done);
            }
        };
        let touches = Touches::of(&plan);
        let is_alone = approval.is_some()
            || !matches!(plan.class, EffectClass::Read | EffectClass::Workspace)
            || self.driver.options.gate.verdict(&self.run, &action, &plan) != Verdict::Allow;
        if !batch.is_empty() && (is_alone || !batch.may_join(&touches)) {
            return Ok(Start::NotYet);
        }
        let wish = Wish {
            plan,
            attempt,
            tier: context.profile.tier,
            approval,
            approval_expires_ms: self.clock_ms().saturating_add(self.driver.options.approval_ms),
            action,
        };
        let call = wish.action.call.clone();
        let admission = self.driver.options.gate.admit(self.append(), wish).await.map_err(journal_error)?;
        match admission {
            Admission::Permitted { permit, fence, .. } => {
                self.committed(fence)?;
                let act = self.start(tool, permit, context, call.clone(), attempt);
                batch.push(call, touches, is_alone, act);
                Ok(Start::Done)
            }
            Admission::NeedsApproval { fence, .. } | Admission::Denied { fence, .. } => {
                self.committed(fence)?;
                Ok(Start::Done)
            }
        }
    }

    fn start(
        &mut self,
        tool: Arc<dyn Tool>,
        permit: Permit,
        context: ToolContext,
        call: CallId,
        attempt: u32,
    ) -> BoxFuture<'static, ActDone> {
        let layer = LayerId { run: self.run.clone(), call: call.clone(), attempt };
        let clock = self.driver.options.steady_clock.clone();
        let output = self.output_sink(call.clone());
        let (sandbox, workspace) = (context.sandbox.clone(), context.workspace.clone());
        Box::pin(async move {
            let started_ms = clock();
            let result = tool.run(permit, context, layer.clone(), output).await;
            let wall_ms = clock().saturating_sub(started_ms);
            let kept = match &result {
                Ok(output) if !output.diff.changes.is_empty() => {
                    // Without them its changes are merged all the same, and cannot be undone.
                    sandbox.contents(workspace, layer, output.diff.clone()).await.unwrap_or_default()
                }
                _ => Vec::new(),
            };
            ActDone { call, attempt, result, kept, wall_ms }
        })
    }

    /// Live output goes to the observer from whatever thread it arrives on.
    fn output_sink(&self, call: CallId) -> OutputSink {
        let observer = self.driver.options.observer.clone();
        let run = self.run.clone();
        let seq = self.fence().seq();
        let offset = std::sync::atomic::AtomicU64::new(0);
        Arc::new(move |chunk: OutputChunk| {
            let offset = offset.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            observer.live(&run, seq, offset, &Live::Output { call: call.clone(), chunk });
        })
    }

    pub(crate) fn act_done(&mut self, done: ActDone) {
        let ActDone { call, attempt, result, kept, wall_ms } = done;
        match result {
            Ok(output) => {
                let kept = kept.into_iter().map(|content| self.note_blob(content)).collect();
                let shown = self.note_blob(output.text.into_bytes());
                let whole = (!output.whole.is_empty()).then(|| self.note_blob(output.whole));
                self.note(Event::ActResult(ActResult {
                    call,
                    attempt,
                    is_error: output.is_error,
                    exit: output.exit,
                    shown,
                    whole,
                    wall_ms,
                    receipt: output.receipt,
                    diff: output.diff,
                    kept,
                }));
            }
            Err(ToolError::Unavailable(trouble)) => {
                if !self.is_begun_anew(&call) {
                    self.refuse(&call, attempt, &trouble);
                }
                self.trouble = Some(trouble);
            }
            Err(error) => self.refuse(&call, attempt, &error.to_string()),
        }
    }

    /// Whether a call that could not be made stays without a result, as after a kill: whoever goes on with the run makes it
    /// then, and no model is asked in between. Not where an intent alone means that it may have happened, and not where
    /// the call is all there is: then its failure is the end.
    fn is_begun_anew(&self, call: &CallId) -> bool {
        let class = self.calls.get(call).and_then(|view| view.class);
        let is_repeated = matches!(class, Some(EffectClass::Read | EffectClass::Workspace | EffectClass::Keyed));
        is_repeated && !self.accepted.models.is_empty()
    }

    /// Records that a call was not made, in words the model can act on.
    fn refuse(&mut self, call: &CallId, attempt: u32, text: &str) {
        let shown = self.note_blob(text.as_bytes().to_vec());
        self.note(Event::ActResult(ActResult {
            call: call.clone(),
            attempt,
            is_error: true,
            exit: None,
            shown,
            whole: None,
            wall_ms: 0,
            receipt: None,
            diff: LayerDiff::default(),
            kept: Vec::new(),
        }));
    }
}
