//! Every bound really ends what passes it.

use std::sync::{Arc, Mutex};

use homarus_contract::sandbox::{Exit, OutputChunk};

use crate::fixture::{Fixture, signalling};

/// Tries to write to its standard input, by its descriptor and by its name, and prints what was there.
pub const STDIN_SCRIPT: &str = "perl -e 'open G, \"+<&=0\"; sysseek G, 500 << 20, 0; print \"GOT\" if syswrite(G, \"x\"); \
                                print \"GREW\" if truncate(G, 500 << 20); print \"OPENED\" if open(F, \"+<\", \"/dev/stdin\") && syswrite(F, \"x\"); \
                                sysseek STDIN, 0, 0; sysread STDIN, $text, 100; print $text, \".\"' 2>/dev/null";

#[tokio::test]
async fn a_memory_hog_is_ended() {
    let fixture = Fixture::new();
    let mut spec = fixture.shell("perl -e '$x = \"a\" x (600 << 20); print \"GOT IT\"'");
    spec.limits.memory_bytes = 128 << 20;
    let called = fixture.exec(spec).await;
    assert!(!called.done.exit.is_success() && !called.stdout().contains("GOT IT"), "{:?}", called.done.exit);
}

#[tokio::test]
async fn many_small_processes_share_the_memory_limit() {
    let fixture = Fixture::new();
    let mut spec = fixture.shell(
        "for i in 1 2 3 4 5 6 7 8; do perl -e '$x = \"a\" x (40 << 20); sleep 20; print \"ALIVE\\n\"' & done; wait; echo done",
    );
    spec.limits.memory_bytes = 128 << 20;
    let called = fixture.exec(spec).await;
    let alive = called.stdout().matches("ALIVE").count();
    assert!(alive <= 3, "{alive} of 8 had their memory");
}

/// What is written to it would be memory that stays with the host.
#[tokio::test]
async fn standard_input_is_only_read() {
    let fixture = Fixture::new();
    let mut spec = fixture.shell(STDIN_SCRIPT);
    spec.stdin = b"given".to_vec();
    assert_eq!(fixture.exec(spec).await.stdout(), "given.");
}

#[tokio::test]
async fn scratch_space_is_bounded() {
    let fixture = Fixture::new();
    let mut spec = fixture.shell("head -c 400m /dev/zero > /tmp/big && echo POSSIBLE");
    spec.limits.memory_bytes = 128 << 20;
    assert_eq!(fixture.exec(spec).await.stdout(), "");
}

#[tokio::test]
async fn a_fork_bomb_is_bounded() {
    let fixture = Fixture::new();
    let mut spec = fixture.shell("for i in $(seq 400); do sleep 30 & done; echo ALL");
    spec.limits.processes_max = 32;
    spec.limits.wall_ms = 20_000;
    let called = fixture.exec(spec).await;
    assert!(!called.stdout().contains("ALL"), "{:?}", called.done.exit);
    assert!(called.stderr().contains("fork") || !called.done.exit.is_success());
}

#[tokio::test]
async fn a_busy_loop_runs_out_of_cpu_time() {
    let fixture = Fixture::new();
    let mut spec = fixture.shell("exec perl -e '1 while 1'");
    spec.limits.cpu_s = 1;
    assert!(matches!(fixture.exec(spec).await.done.exit, Exit::Signal { signal: 24 | 9 }));
}

#[tokio::test]
async fn the_wall_limit_ends_what_ignores_signals() {
    let fixture = Fixture::new();
    let mut spec = fixture.shell("trap '' TERM INT HUP; echo begun; while :; do sleep 1; done");
    spec.limits.wall_ms = 700;
    let called = fixture.exec(spec).await;
    assert_eq!(called.done.exit, Exit::TimedOut { wall_ms: 700 });
    assert_eq!(called.stdout(), "begun\n");
}

#[tokio::test]
async fn an_output_flood_is_cut() {
    let fixture = Fixture::new();
    let mut spec = fixture.shell("yes");
    spec.limits.output_bytes_max = 100_000;
    let called = fixture.exec(spec).await;
    assert_eq!(called.done.exit, Exit::OutputLimit { bytes: 100_000 });
    assert_eq!(called.done.stdout.len() + called.done.stderr.len(), 100_000);
    // Exactly as much as is allowed is no flood.
    let mut spec = fixture.shell("printf 12345");
    spec.limits.output_bytes_max = 5;
    assert_eq!(fixture.exec(spec).await.done.exit, Exit::Code { code: 0 });
}

#[tokio::test]
async fn files_and_descriptors_are_bounded() {
    let fixture = Fixture::new();
    let mut spec = fixture.shell("head -c 3m /dev/zero > big; echo $?; stat -c %s big; ulimit -n; ulimit -c");
    spec.limits.file_bytes_max = 1 << 20;
    spec.limits.open_files_max = 64;
    let called = fixture.exec(spec).await;
    let lines: Vec<String> = called.stdout().lines().map(str::to_owned).collect();
    assert_ne!(lines[0], "0");
    assert_eq!(lines[1..], ["1048576", "64", "0"]);
}

#[tokio::test]
async fn output_arrives_as_it_is_written() {
    let fixture = signalling();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (sink_seen, flag) = (seen.clone(), fixture.workspace.join("signal/go"));
    // The script waits for the first byte to have come out of the sandbox: were output held back
    // until its end, it would run into its wall limit.
    let mut spec = fixture.shell("echo first; while ! test -e signal/go; do sleep 0.02; done; echo second >&2");
    spec.limits.wall_ms = 20_000;
    let sink = Arc::new(move |chunk: OutputChunk| {
        std::fs::write(&flag, "").unwrap();
        sink_seen.lock().unwrap().push(chunk);
    });
    let called = fixture.exec_into(spec, sink).await.unwrap();
    assert_eq!(called.done.exit, Exit::Code { code: 0 });
    assert_eq!(
        *seen.lock().unwrap(),
        [OutputChunk::Stdout(b"first\n".to_vec()), OutputChunk::Stderr(b"second\n".to_vec())]
    );
}
