//! The self-test itself: that nothing gets through, and that it would be noticed if something did.

use std::collections::BTreeMap;

use homarus_sandbox::selftest::{self, Cell, ControlSeen, Options, Report, SelftestError, Verdict};

use crate::fixture::helper;

fn run(only: &[&str]) -> Result<Report, SelftestError> {
    let options = Options {
        exe: helper(),
        folder: std::env::temp_dir(),
        only: only.iter().map(|id| (*id).to_owned()).collect(),
        controls: true,
    };
    selftest::run(&options, &mut |_, _| {})
}

/// Attacks that any user can make on any machine of ours: were they to fail outside too, they would prove nothing.
const WORK_FOR_EVERYBODY: [&str; 27] = [
    "write.outside",
    "write.dot-dot",
    "write.symlink",
    "write.hardlink",
    "write.rename",
    "write.swap",
    "write.proc-root",
    "write.descriptor",
    "write.new-protected",
    "write.old-protected",
    "write.mounts",
    "layer.leave",
    "layer.set-user-id-in-cache",
    "read.state",
    "read.workspace",
    "read.environments",
    "process.trace",
    "process.memory",
    "process.background",
    "process.daemon",
    "namespace.clone3",
    "mount.mount",
    "socket.abstract",
    "socket.path",
    "socket.workspace",
    "socket.cache",
    "network.loopback",
];

#[test]
fn nothing_gets_through_and_the_tests_can_fail() {
    let before = leftovers();
    let report = run(&[]).unwrap();
    assert_eq!(report.users.len(), if crate::fixture::is_root() { 2 } else { 1 });
    let wrong: Vec<String> = report
        .lines
        .iter()
        .flat_map(|line| line.cells.iter().zip(&report.users).map(move |(cell, user)| (line.id, user, cell)))
        .filter(|(_, _, cell)| cell.verdict != Verdict::Held)
        .map(|(id, user, cell)| format!("{id} as {user}: {:?} {}", cell.verdict, cell.how))
        .collect();
    assert!(wrong.is_empty() && report.ok(), "{wrong:#?}");

    let lines: BTreeMap<&str, &[Cell]> = report.lines.iter().map(|line| (line.id, line.cells.as_slice())).collect();
    for id in WORK_FOR_EVERYBODY {
        for cell in lines[id] {
            assert!(matches!(cell.control, ControlSeen::Works { .. }), "{id}: {:?}", cell.control);
        }
    }
    // What the journal could tell of it later.
    for (id, expected) in [
        ("abi.x32", "exit: SIGSYS"),
        ("limit.memory-of-many", "memory limit"),
        ("limit.disk", "write to the disk"),
        ("limit.output", "output limit"),
        ("limit.time", "time limit"),
        ("write.new-protected", "refused"),
        ("layer.set-user-id", "refused"),
    ] {
        for cell in lines.get(id).copied().unwrap_or_default() {
            let recorded = cell.recorded.as_deref().unwrap_or_default();
            assert!(recorded.contains(expected), "{id}: {recorded:?}");
        }
    }
    assert_eq!(leftovers(), before);
}

/// Folders of self-tests of this process.
fn leftovers() -> usize {
    let own = format!("homarus-selftest-{}-", std::process::id());
    let entries = std::fs::read_dir(std::env::temp_dir()).unwrap().flatten();
    entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(&own)).count()
}

#[test]
fn an_unknown_attack_is_an_error() {
    assert!(matches!(run(&["write.outside", "no-such"]), Err(SelftestError::Unknown(name)) if name == "no-such"));
}

/// A driver that dies under an attack was hit by it: here, by a program that is no stage.
#[test]
fn a_column_that_ends_early_is_not_taken_for_a_success() {
    let options = Options {
        exe: "/bin/false".into(),
        folder: std::env::temp_dir(),
        only: vec!["write.outside".into()],
        controls: false,
    };
    let report = selftest::run(&options, &mut |_, _| {}).unwrap();
    assert!(!report.ok());
    assert_eq!(report.count(Verdict::Held), 0);
}
