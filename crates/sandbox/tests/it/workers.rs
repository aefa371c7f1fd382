//! Workers: confined, long-lived, gone when dropped.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Write},
};

use homarus_contract::sandbox::{WorkerLauncher, WorkerSpec};

use crate::fixture::{Fixture, helper, processes_with};

#[tokio::test]
async fn a_worker_sees_only_what_it_was_given_and_ends_when_dropped() {
    let fixture = Fixture::new();
    let weights = fixture.dir.path().join("weights");
    let private = fixture.dir.path().join("private");
    fs::write(&weights, "12345").unwrap();
    fs::write(&private, "x").unwrap();
    let spec = WorkerSpec {
        program: helper(),
        args: vec!["pipe-worker".into()],
        readable: vec![weights.clone()],
        memory_bytes: 512 << 20,
    };
    let worker = fixture.sandbox.launch(spec).unwrap();
    let mut stdin = File::from(worker.stdin);
    let mut stdout = BufReader::new(File::from(worker.stdout));
    let mut ask = |path: &str| {
        writeln!(stdin, "{path}").unwrap();
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        line
    };
    assert_eq!(ask(weights.to_str().unwrap()), "5 bytes\n");
    for hidden in
        [private.to_str().unwrap(), "/etc/shadow", fixture.workspace.to_str().unwrap(), "/root/.cargo", "/home"]
    {
        assert!(ask(hidden).starts_with("error"), "{hidden}");
    }
    assert_eq!(processes_with("pipe-worker").len(), 1);
    drop(worker.guard);
    assert_eq!(processes_with("pipe-worker").len(), 0);
}
