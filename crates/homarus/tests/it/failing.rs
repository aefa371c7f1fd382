//! A disk that fails: after an fsync that failed nothing is believed, and what was acknowledged is there; what cannot
//! be read is an error, and never taken for something that is not there.

use std::{fs, process::Command};

use homarus_contract::{
    event::Event,
    ids::StreamId,
    journal::{Append, Fence, Journal, JournalError},
};
use homarus_store::{Options, Store};
use homarus_test_kit::{RecordingDisk, Turn};
use serde_json::{Value, json};

use crate::{
    mounts::{Mounted, apart, mount_image, run, small_disk, unmount},
    program::Program,
};

const DISK_BYTES: usize = 48 << 20;
const BAD: &str = "bad-sector-here";

fn note(text: &str) -> Event {
    Event::Nudged { reason: "test".into(), text: text.into() }
}

/// A home on the disk, with a run that has ended and one that can be gone on with.
fn on_disk(folder: &std::path::Path, turns: Vec<Turn>) -> (Program, RecordingDisk, Mounted) {
    let mut program = Program::with_turns(turns);
    let (at, shown_at) = (folder.join("mounted"), folder.join("disk"));
    fs::create_dir(&shown_at).unwrap();
    small_disk(&folder.join("images"), c"size=64m,mode=700");
    let disk = RecordingDisk::mount(&shown_at, DISK_BYTES).unwrap();
    run(Command::new("mkfs.ext4").args(["-q", "-F", "-b", "4096"]).arg(disk.path()));
    mount_image(disk.path(), &at, "data=ordered");
    program.home = at.join("home");
    disk.begin();
    (program, disk, Mounted(at))
}

fn shell(command: &str) -> Turn {
    Turn::call("shell.execute", json!({ "command": command }))
}

/// The kernel reports a failed write once, and then takes the page for written.
#[test]
fn a_sync_that_failed_is_never_believed() {
    apart(|| {
        let folder = tempfile::tempdir().unwrap();
        let (program, disk, _mounted) = on_disk(folder.path(), vec![Turn::text("first")]);
        let first = program.output(&["run", "do it", "--no-tools", "--conversation", "--json"]);
        assert!(first.code == 0 || first.code == 4, "{first:?}");
        let run_id = homarus_contract::ids::RunId::parse(first.json_lines()[0]["run_id"].as_str().unwrap()).unwrap();
        let state = program.home.join("state");
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let stream: StreamId = run_id.stream();
        let mut acknowledged: Vec<(u64, String)> = Vec::new();
        let position = runtime.block_on(async {
            let store = Store::open(Options::new(&state)).unwrap();
            let mut fence = store.claim(run_id.clone()).await.unwrap();
            for round in 0..4 {
                let append = |fence: &Fence, text: &str| {
                    let mut append = Append::new(fence.clone());
                    append.push(note(text));
                    append
                };
                let text = format!("good {round} {}", "x".repeat(3000 * round));
                fence = store.append(append(&fence, &text)).await.unwrap();
                acknowledged.push((fence.seq(), text));
                disk.refuse(BAD.as_bytes());
                let failed = store.append(append(&fence, &format!("{BAD} {}", "y".repeat(9000)))).await;
                assert!(
                    matches!(&failed, Err(JournalError::Unwritable(why)) if why.contains("the disk failed")),
                    "{failed:?}"
                );
                disk.refuse(b"");
                // Whether it is there is unknown to the caller, and shows when it is read.
                fence = loop {
                    let text = format!("after {round}");
                    match store.append(append(&fence, &text)).await {
                        Ok(fence) => {
                            acknowledged.push((fence.seq(), text));
                            break fence;
                        }
                        Err(JournalError::WrongSeq { .. }) => {
                            store.release(fence.clone()).await.unwrap();
                            fence = store.claim(run_id.clone()).await.unwrap();
                        }
                        Err(error) => panic!("{error}"),
                    }
                };
            }
            assert!(disk.failed() >= 4, "the disk never failed");
            assert!(store.verify(None).unwrap().is_whole());
            disk.position()
        });
        unmount(&folder.path().join("mounted"));
        // Power is lost after the last acknowledgement.
        for seed in 0..10 {
            let image = folder.path().join("images/image");
            fs::write(&image, disk.after_power_loss(position, seed)).unwrap();
            mount_image(&image, &folder.path().join("mounted"), "data=ordered");
            let store = Store::open(Options::new(&state)).unwrap();
            assert!(store.verify(None).unwrap().is_whole(), "{seed}");
            let records = store.read(&stream, 0, 1000).unwrap();
            for (seq, text) in &acknowledged {
                assert_eq!(records[*seq as usize - 1].event, note(text), "seed {seed}: event {seq} was acknowledged");
            }
            drop(store);
            unmount(&folder.path().join("mounted"));
        }
    });
}

/// What a user sees of it, and the way on.
#[test]
fn a_run_on_a_failing_disk_stops_and_goes_on() {
    apart(|| {
        let folder = tempfile::tempdir().unwrap();
        let turns =
            vec![shell("echo one > one"), shell(&format!("echo {BAD} > two")), Turn::text("done"), Turn::text("done")];
        let (program, disk, _mounted) = on_disk(folder.path(), turns);
        disk.refuse(BAD.as_bytes());
        let stopped = program.output(&["run", "do it", "--approvals", "auto", "--json"]);
        assert_eq!(stopped.code, 1, "{stopped:?}");
        let line = stopped.stderr.lines().last().unwrap();
        let error: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {stopped:?}"));
        let error = &error["error"];
        assert_eq!(error["message"], "the journal cannot be written", "{error}");
        assert!(error["cause"].as_str().unwrap().contains("the disk failed"), "{error}");
        assert!(error["help"].as_str().unwrap().contains("runs resume"), "{error}");
        assert!(program.file("two").is_none());
        disk.refuse(b"");
        program.verify();
        let done = program.output(&["runs", "resume", "last", "--json"]);
        assert_eq!(done.code, 0, "{}", done.stderr);
        assert_eq!(program.file("one").as_deref(), Some("one\n"));
        program.verify();
        drop(program);
        unmount(&folder.path().join("mounted"));
    });
}

/// A part of the journal that the disk does not give back is told as that: by whoever reads it, and by `verify`.
#[test]
fn what_cannot_be_read_is_not_taken_for_empty() {
    apart(|| {
        let folder = tempfile::tempdir().unwrap();
        let turns =
            vec![shell(&format!("echo {BAD}; seq 1 9000; echo {BAD}")), Turn::text("first"), Turn::text("second")];
        let (program, disk, _mounted) = on_disk(folder.path(), turns);
        let first = program.output(&["run", "do it", "--approvals", "auto", "--conversation", "--json"]);
        assert!(first.code == 0 || first.code == 4, "{first:?}");
        let before = program.events().len();
        // Mounted anew, the kernel has to ask the disk.
        let at = folder.path().join("mounted");
        unmount(&at);
        mount_image(disk.path(), &at, "data=ordered");
        disk.lose(BAD.as_bytes());
        let log = program.output(&["runs", "log", "last"]);
        assert!(log.code == 1 && log.stderr.starts_with("error: the journal is damaged"), "{log:?}");
        let said = program.output(&["runs", "say", "last", "go on"]);
        assert!(said.code == 1 && said.stderr.contains("error: "), "{said:?}");
        let verified = program.output(&["runs", "verify", "last"]);
        assert!(verified.code == 1 && verified.stdout.contains("the events cannot be read: "), "{verified:?}");
        assert!(disk.failed() > 0, "the disk never failed");
        disk.lose(b"");
        unmount(&at);
        mount_image(disk.path(), &at, "data=ordered");
        program.verify();
        assert!(program.events().len() >= before, "nothing is lost");
        let said = program.output(&["runs", "say", "last", "go on", "--json"]);
        assert!(said.code == 0 || said.code == 4, "{said:?}");
        program.verify();
        drop(program);
        unmount(&at);
    });
}
