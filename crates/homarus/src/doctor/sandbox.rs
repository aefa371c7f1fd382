//! Whether this machine can enforce what the sandbox promises, each promise tried out.

use std::sync::Arc;

use homarus_api::doctor::Finding;
use homarus_contract::sandbox::WorkerLauncher;
use homarus_sandbox::L1;

use super::{Because, Patient, error, of_error, ok};
use crate::wiring;

/// Also the sandbox itself, if it may be used.
pub fn check(patient: &Patient<'_>) -> (Vec<Finding>, Option<Arc<dyn WorkerLauncher>>) {
    let (options, report) = match wiring::try_sandbox(patient.dirs, patient.config) {
        Ok(tried) => tried,
        Err(failure) => return (vec![of_error("sandbox.setup", failure)], None),
    };
    let findings = report
        .probes
        .iter()
        .map(|probe| {
            let id = format!("sandbox.{}", probe.id);
            if probe.ok {
                return ok(&id, &probe.detail);
            }
            let found = error(&id, "the sandbox cannot do this, so no call may run").because(&probe.detail);
            Finding { fix: probe.fix.clone(), ..found }
        })
        .collect();
    let launcher = L1::new(options, report).ok().map(|sandbox| Arc::new(sandbox) as Arc<dyn WorkerLauncher>);
    (findings, launcher)
}
