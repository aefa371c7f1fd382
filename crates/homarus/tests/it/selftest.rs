//! What a self-test of the sandbox came to is kept, and the doctor tells it.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use crate::program::{Done, Program};

fn program() -> Program {
    Program::with_turns(Vec::new())
}

fn folder(program: &Program) -> PathBuf {
    program.home.join("state/selftest")
}

/// Severity and words of each finding.
fn doctor(program: &Program) -> Vec<(String, String)> {
    let done = program.output(&["doctor", "selftest", "--json"]);
    let found: Value = serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{error}: {done:?}"));
    let findings = found["findings"].as_array().unwrap();
    assert_eq!(done.code, i32::from(findings.iter().any(|finding| finding["severity"] == "error")), "{found:#}");
    findings
        .iter()
        .map(|one| (format!("{} {}", one["id"], one["severity"]).replace('"', ""), one.to_string()))
        .collect()
}

#[track_caller]
fn check(program: &Program, expected: &[(&str, &str)]) {
    let found = doctor(program);
    let heads: Vec<&str> = found.iter().map(|(head, _)| head.as_str()).collect();
    assert_eq!(heads, expected.iter().map(|(head, _)| *head).collect::<Vec<_>>(), "{found:#?}");
    for ((_, text), (_, part)) in found.iter().zip(expected) {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
}

fn change(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut record: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    change(&mut record);
    fs::write(path, record.to_string()).unwrap();
}

#[test]
fn a_whole_self_test_is_kept_and_the_doctor_tells_it() {
    let program = program();
    check(&program, &[("selftest.whole info", "was not attacked here yet")]);
    let done = program.output(&["sandbox", "selftest", "--no-controls", "--json"]);
    assert_eq!(done.code, 0, "{done:?}");
    let said: Value = serde_json::from_str(&done.stdout).unwrap();
    let path = folder(&program).join("whole-000001.json");
    assert_eq!(said["record"], path.to_str().unwrap());
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(&folder(&program))), (0o600, 0o700));
    let kept: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert_eq!(kept["outcome"]["attacks"], said["attacks"]);
    assert_eq!(kept["outcome"]["users"], said["users"]);
    assert_eq!(kept["kernel"], fs::read_to_string("/proc/sys/kernel/osrelease").unwrap().trim());
    assert!(kept["program"].as_str().unwrap().starts_with(env!("CARGO_PKG_VERSION")), "{}", kept["program"]);
    check(&program, &[("selftest.whole ok", &format!("{} attacks held", said["held"]))]);

    change(&path, |record| record["kernel"] = json!("1.2.3-older"));
    check(&program, &[("selftest.whole info", "since then the kernel was changed from 1.2.3-older to")]);
    change(&path, |record| {
        record["outcome"]["ok"] = json!(false);
        record["outcome"]["got_through"] = json!(1);
        let result = &mut record["outcome"]["attacks"][0]["results"][0];
        result["verdict"] = json!("got_through");
        result["how"] = json!("it \u{1b}[31mwas written");
    });
    let first = said["attacks"][0]["id"].as_str().unwrap();
    check(&program, &[("selftest.whole error", &format!("{first} as"))]);
    let told = program.output(&["doctor", "selftest"]);
    assert!(told.stdout.contains("1 attack got through") && !told.stdout.contains('\u{1b}'), "{told:?}");
    fs::write(&path, "{\"at_ms\": 17").unwrap();
    check(&program, &[("selftest.whole info", "cannot be read")]);
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    check(&program, &[("selftest.whole info", "it is not a file")]);
}

#[test]
fn a_self_test_of_some_attacks_is_no_whole_one() {
    let program = program();
    let done = program.output(&["sandbox", "selftest", "write.dot-dot", "machine.no-landlock"]);
    let path = folder(&program).join("part-000001.json");
    let last = done.stdout.lines().last().unwrap_or_default();
    assert_eq!((done.code, last), (0, format!("recorded in {}", path.display()).as_str()), "{done:?}");
    let kept: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert_eq!(kept["asked"]["only"], json!(["write.dot-dot", "machine.no-landlock"]));
    check(&program, &[("selftest.whole info", "not attacked here yet"), ("selftest.part ok", "held")]);
}

#[test]
fn what_else_is_open_is_not_written_to_outside_the_sandbox_either() {
    let program = program();
    let path = program.workspace.join("log");
    fs::write(&path, "of the user's shell").unwrap();
    let file = fs::File::options().append(true).open(&path).unwrap();
    // As a shell, or `flock`, leaves it to every program that it starts.
    nix::fcntl::fcntl(&file, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty())).unwrap();
    let done = program.output(&["sandbox", "selftest", "write.descriptor", "--json"]);
    let said: Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!((done.code, &said["ok"]), (0, &json!(true)), "{done:?}");
    assert!(done.stdout.contains("works"), "the attack outside was made: {}", done.stdout);
    assert_eq!(fs::read_to_string(&path).unwrap(), "of the user's shell");
}

#[test]
fn where_nothing_can_be_written_it_is_made_all_the_same() {
    let program = program();
    let args = ["sandbox", "selftest", "write.dot-dot", "--json"];
    let said = |done: Done, why: &str| {
        assert!(done.stderr.contains("this self-test is not recorded: ") && done.stderr.contains(why), "{done:?}");
        let said: Value = serde_json::from_str(&done.stdout).unwrap();
        assert_eq!((done.code, &said["ok"], &said["record"]), (0, &json!(true), &Value::Null));
    };
    let mut command = program.command(&args);
    said(Done::of(command.env("HOMARUS_HOME", "/dev/null/x").output().unwrap()), "cannot be written");
    if nix::unistd::geteuid().is_root() {
        fs::create_dir_all(&program.home).unwrap();
        chown(&program.home, Some(65_534), Some(65_534)).unwrap();
        said(program.output(&args), "belongs to user 65534");
        assert_eq!(fs::read_dir(&program.home).unwrap().count(), 0);
    }
}
