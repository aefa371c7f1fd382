//! What a call wrote into its layer is merged or thrown away.

use homarus_contract::{
    BoxFuture,
    action::{Action, Plan},
    event::{ActResult, Event},
    gate::{Approval, GateError, Judge, Ledger},
    ids::{CallId, Hash},
    machine::{Command, Machine},
    sandbox::{LayerId, MergeReport, SandboxError},
};

use crate::{DriverError, session::Session};

/// A merge that has ended.
pub(crate) struct MergeDone {
    call: CallId,
    result: Result<MergeReport, SandboxError>,
}

/// A merge that is under way.
pub(crate) type Merging = BoxFuture<'static, MergeDone>;

impl<M: Machine, J: Judge, L: Ledger> Session<'_, M, J, L> {
    pub(crate) async fn merge_all(&mut self, settles: Vec<Command>) -> Result<(), DriverError> {
        if settles.is_empty() {
            return Ok(());
        }
        // A result must be durable before its layer is merged.
        self.flush().await?;
        for command in settles {
            if let Command::Settle { action, plan, result, approval, .. } = command {
                self.merge_now(action, *plan, *result, approval).await?;
            }
        }
        Ok(())
    }

    /// Merges and notes what came of it. The result must be durable.
    pub(crate) async fn merge_now(
        &mut self,
        action: Action,
        plan: Plan,
        result: ActResult,
        approval: Option<Approval>,
    ) -> Result<(), DriverError> {
        if let Some(merge) = self.merge_later(action, plan, result, approval)? {
            self.merged(merge.await)?;
        }
        Ok(())
    }

    /// Starts a merge. `None`: there is none, and why is noted: it is not allowed, or somebody has to be asked first.
    pub(crate) fn merge_later(
        &mut self,
        action: Action,
        plan: Plan,
        result: ActResult,
        approval: Option<Approval>,
    ) -> Result<Option<Merging>, DriverError> {
        let gate = &self.driver.options.gate;
        let permit = match gate.admit_merge(&self.run, &action, &plan, &result.diff, approval.as_ref()) {
            Ok(permit) => permit,
            Err(GateError::Journal(error)) => return Err(error.into()),
            // The rules have changed since it was allowed: by those of now its changes are shown first.
            Err(GateError::ApprovalMismatch) => {
                let hash = gate.merge_approval_hash(&self.run, &action, &plan, &result.diff);
                self.ask_about(action.call, hash);
                return Ok(None);
            }
            Err(error) => {
                self.note(Event::Discarded { call: action.call, reason: error.to_string() });
                return Ok(None);
            }
        };
        let layer = LayerId { run: self.run.clone(), call: action.call.clone(), attempt: result.attempt };
        let sandbox = self.driver.options.sandbox.clone();
        let workspace = self.accepted.workspace.clone();
        Ok(Some(Box::pin(async move {
            let result = sandbox.merge(permit, workspace, layer, result.diff).await;
            MergeDone { call: action.call, result }
        })))
    }

    pub(crate) fn merged(&mut self, done: MergeDone) -> Result<(), DriverError> {
        match done.result {
            Ok(report) => self.note(Event::Merged { call: done.call, report }),
            // The layer stays and nothing is noted: whoever goes on with the run merges it again.
            Err(SandboxError::Unmerged { cause, workspace }) => {
                return Err(DriverError::Unmerged { call: done.call, cause, workspace });
            }
            Err(error) => {
                self.note(Event::Discarded { call: done.call, reason: format!("it could not be merged: {error}") });
            }
        }
        Ok(())
    }

    /// Asks a person about the diff of a call, or acts on their answer.
    pub(crate) async fn settle_held(
        &mut self,
        action: Action,
        plan: Plan,
        result: ActResult,
        approval: Option<Approval>,
    ) -> Result<(), DriverError> {
        let hash = self.driver.options.gate.merge_approval_hash(&self.run, &action, &plan, &result.diff);
        match approval {
            Some(approval) if !approval.granted => {
                let layer = LayerId { run: self.run.clone(), call: action.call.clone(), attempt: result.attempt };
                self.note(Event::Discarded { call: action.call, reason: approval.refusal() });
                // Durable first: a kill between the two leaves at most a layer nobody uses.
                self.flush().await?;
                let _ = self.driver.options.sandbox.discard(&layer).await;
            }
            Some(approval) if approval.hash == hash => {
                self.flush().await?;
                self.merge_now(action, plan, result, Some(approval)).await?;
            }
            // Not asked yet, or the policy changed since the answer was given.
            _ => {
                self.ask_about(action.call, hash);
                self.flush().await?;
            }
        }
        Ok(())
    }

    /// Whether a person has decided about exactly these changes, or against whatever the call had to show.
    pub(crate) fn is_answer(&self, approval: &Approval, action: &Action, plan: &Plan, result: &ActResult) -> bool {
        let gate = &self.driver.options.gate;
        !approval.granted || approval.hash == gate.merge_approval_hash(&self.run, action, plan, &result.diff)
    }

    fn ask_about(&mut self, call: CallId, hash: Hash) {
        let expires_ms = self.clock_ms().saturating_add(self.driver.options.approval_ms);
        self.note(Event::ApprovalRequested { call, hash, expires_ms });
    }
}
