//! Permits for tests, from the gate of `test-kit`.

use homarus_contract::{
    action::Action,
    gate::{MergePermit, Permit},
    ids::{CallId, RunId},
    sandbox::LayerDiff,
};
use homarus_test_kit::{merge_permit_for, permit::permit_for_in};

fn action(call: &CallId) -> Action {
    Action { call: call.clone(), tool: "test".into(), arguments: "{}".into() }
}

pub async fn permit(run: &RunId, call: &CallId) -> Permit {
    permit_for_in(run, action(call))
}

pub fn merge_permit(run: &RunId, call: &CallId, diff: &LayerDiff) -> MergePermit {
    merge_permit_for(run, &action(call), diff)
}
