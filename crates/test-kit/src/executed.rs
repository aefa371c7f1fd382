//! What a sandbox would have said.

use homarus_contract::sandbox::{ExecDone, Exit, LayerDiff, Receipt};

/// Of a call that nothing held.
pub fn receipt() -> Receipt {
    Receipt {
        backend: "none".to_owned(),
        namespaces: Vec::new(),
        workspace: "none".to_owned(),
        landlock_abi: 0,
        seccomp: None,
        no_new_privs: false,
        capabilities_dropped: false,
        limits: Default::default(),
        bounds: None,
        setup_us: 0,
    }
}

/// A call that ended so, and printed and changed this.
pub fn executed(exit: Exit, stdout: &str, stderr: &str, diff: LayerDiff) -> ExecDone {
    let (stdout, stderr) = (stdout.as_bytes().to_vec(), stderr.as_bytes().to_vec());
    ExecDone { exit, stdout, stderr, wall_ms: 1, receipt: receipt(), diff }
}
