//! What a call wrote into its layer is merged or thrown away.

use homarus_contract::{
    BoxFuture,
    action::{Action, Plan},
    event::{ActResult, Event},
    gate::{Approval, GateError, Judge, Ledger},
    ids::CallId,
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

    /// Starts a merge. `None`: the gate refused it; the layer is to be thrown away, and is noted so.
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
                let reason = match approval.why.as_str() {
                    "" => format!("{} said no", approval.who),
                    why => format!("{} said no: {why}", approval.who),
                };
                self.note(Event::Discarded { call: action.call, reason });
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
                let expires_ms = self.clock_ms().saturating_add(self.driver.options.approval_ms);
                self.note(Event::ApprovalRequested { call: action.call, hash, expires_ms });
                self.flush().await?;
            }
        }
        Ok(())
    }
}
