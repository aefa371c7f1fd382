//! What a dead driver left open, found from the journal alone.

use homarus_contract::{
    budget::{Amount, BudgetChange},
    event::{Event, Record},
    gate::{Judge, Ledger},
    machine::Machine,
    message::{StopReason, Usage},
    model::ModelRef,
    sandbox::LayerId,
};

use crate::session::Session;

/// A model intent without a result.
pub(crate) struct OpenStep {
    step: u32,
    model: ModelRef,
    reserved: Amount,
}

pub(crate) fn open_step(records: &[Record]) -> Option<OpenStep> {
    let mut open: Option<OpenStep> = None;
    for record in records {
        match &record.event {
            Event::ModelIntent { step, model, reserved, .. } => {
                open = Some(OpenStep { step: *step, model: model.clone(), reserved: *reserved });
            }
            Event::ModelResult { .. } | Event::ModelFailed { .. } => open = None,
            _ => {}
        }
    }
    open
}

impl<M: Machine, J: Judge, L: Ledger> Session<'_, M, J, L> {
    /// Closes an answer that was cut off: what had arrived is kept, and its reservation counts as
    /// spent. The machine asks again if nothing had arrived.
    pub(crate) fn close_open_step(&mut self) {
        let Some(open) = self.open.take() else { return };
        self.note_budget(BudgetChange::Settle { reserved: open.reserved, used: open.reserved });
        self.note(Event::ModelResult {
            step: open.step,
            stop: StopReason::Interrupted,
            usage: Usage::default(),
            served_by: open.model,
            cost: None,
            wall_ms: 0,
        });
    }

    /// Throws away the layers of calls that were cut short. A layer that cannot be removed now only
    /// takes up space: no later attempt uses its name.
    pub(crate) async fn discard_open_layers(&mut self) {
        for (call, attempt) in self.calls.cut_short() {
            let layer = LayerId { run: self.run.clone(), call, attempt };
            let _ = self.driver.options.sandbox.discard(&layer).await;
        }
    }
}
