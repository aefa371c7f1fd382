//! `homarus doctor`: a sound installation has no errors, and each thing that is broken is told by its id.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use homarus_test_kit::{Script, Turn};
use serde_json::Value;

use crate::program::{Done, Program};

/// An installation that has done a run.
fn used() -> Program {
    let script = Script { models: vec!["scripted-a".to_owned()], ..Script::new(vec![Turn::text("Hello.")]) };
    let program = Program::with_script(script);
    assert_eq!(program.output(&["run", "a request to look for"]).code, 0);
    program
}

fn parse(done: &Done) -> Value {
    serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{error}: {done:?}"))
}

fn doctor(mut command: Command) -> (Done, Value) {
    let done = Done::of(command.output().unwrap());
    let found = parse(&done);
    assert_eq!(done.code, i32::from(found["errors"] != 0), "{done:?}");
    (done, found)
}

fn look(program: &Program) -> Value {
    let mut command = program.command(&["doctor", "--json"]);
    // A server that was named and is dead would be an error.
    command.env_remove("OLLAMA_HOST");
    doctor(command).1
}

/// What it says of an id.
fn finding<'a>(found: &'a Value, id: &str) -> &'a Value {
    let of_id = |finding: &&Value| finding["id"] == id;
    found["findings"].as_array().unwrap().iter().find(of_id).unwrap_or_else(|| panic!("no {id} in {found:#}"))
}

#[track_caller]
fn check(found: &Value, id: &str, severity: &str, part: &str) {
    let one = finding(found, id);
    assert_eq!(one["severity"], severity, "{one:#}");
    assert!(one.to_string().contains(part), "{part:?} is not in {one:#}");
    if severity == "error" || severity == "warning" {
        assert!(one["fix"].as_str().is_some_and(|fix| !fix.is_empty()), "no fix: {one:#}");
    }
}

fn journal(program: &Program) -> PathBuf {
    program.home.join("state/journal.db")
}

/// Every file with its bytes and mode. SQLite's log and its index come and go with whoever looks.
fn snapshot(folder: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let mode = fs::symlink_metadata(&path).unwrap().permissions().mode();
        let name = entry.file_name();
        if path.is_dir() {
            files.insert(path.clone(), (mode, Vec::new()));
            files.extend(snapshot(&path));
        } else if name != "journal.db-wal" && name != "journal.db-shm" {
            files.insert(path.clone(), (mode, fs::read(&path).unwrap()));
        }
    }
    files
}

#[test]
fn a_sound_installation_has_no_errors_and_is_left_as_it_was() {
    let program = used();
    let before = snapshot(&program.home);
    let found = look(&program);
    assert_eq!((&found["ok"], &found["errors"]), (&true.into(), &0.into()), "{found:#}");
    assert_eq!(snapshot(&program.home), before);
    check(&found, "keys.OPENAI_API_KEY", "ok", "is set");
    check(&found, "servers.openai", "ok", "1 models");
    check(&found, "journal.chain", "ok", "whole");
    check(&found, "sandbox.landlock", "ok", "ABI");
    check(&found, "permissions.state", "ok", "");
    check(&found, "leftovers.runs", "ok", "");
    assert!(!found.to_string().contains("sk-test-not-a-real-key"), "{found}");

    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/doctor.md")).unwrap();
    for one in found["findings"].as_array().unwrap() {
        let id = one["id"].as_str().unwrap();
        let family = id.split('.').next().unwrap();
        let listed = page.contains(&format!("`{id}`")) || page.contains(&format!("`{family}.*`"));
        assert!(listed, "{id} is not in docs/doctor.md");
    }
    let mut quiet = program.command(&["doctor", "--quiet"]);
    assert_eq!(Done::of(quiet.env_remove("OLLAMA_HOST").output().unwrap()).stdout, "nothing is wrong\n");
}

#[test]
fn a_first_look_makes_nothing_and_says_that_there_is_no_model() {
    let program = Program::with_turns(Vec::new());
    let (done, found) = doctor(program.bare_command(&["doctor", "--json"]));
    assert_eq!(done.code, 1);
    check(&found, "models", "error", "homarus models pull");
    check(&found, "journal.open", "ok", "no journal yet");
    check(&found, "servers.openai", "info", "not set up");
    assert!(!program.home.exists(), "it made {}", program.home.display());
}

#[test]
fn some_matters_only_and_a_mistyped_one() {
    let program = used();
    let (_, found) = doctor(program.command(&["doctor", "journal", "clock", "--json"]));
    let ids: Vec<&str> = found["findings"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap()).collect();
    assert!(ids.iter().all(|id| *id == "clock" || id.starts_with("journal.")) && ids.len() >= 4, "{ids:?}");
    let done = program.output(&["doctor", "jurnal"]);
    assert!(done.code == 2 && done.stderr.contains("did you mean `journal`?"), "{done:?}");
}

#[test]
fn keys_are_judged_and_never_shown() {
    let program = Program::with_turns(Vec::new());
    let with = |key: &str| {
        let mut command = program.command(&["doctor", "--json"]);
        command.env("OPENAI_API_KEY", key);
        let (done, found) = doctor(command);
        assert!(!done.stdout.contains("sk-secret") && !done.stderr.contains("sk-secret"), "{done:?}");
        found
    };
    check(&with(" sk-secret\n"), "keys.OPENAI_API_KEY", "warning", "blanks");
    check(&with("sk-secret and more"), "keys.OPENAI_API_KEY", "error", "cannot be used");
    check(&with(""), "keys.OPENAI_API_KEY", "info", "not set");
}

#[test]
fn a_dead_server_and_a_wrong_address() {
    let program = Program::with_turns(Vec::new());
    let with = |variable: &str, value: &str| {
        let mut command = program.command(&["doctor", "--json"]);
        doctor({
            command.env(variable, value);
            command
        })
        .1
    };
    check(&with("OPENAI_BASE_URL", "http://127.0.0.1:1"), "servers.openai", "error", "does not answer");
    check(&with("OPENAI_BASE_URL", "ftp://x"), "models", "error", "OPENAI_BASE_URL");
    check(&with("HOMARUS_TEST_NOTHING", ""), "servers.ollama", "error", "OLLAMA_HOST");
}

#[test]
fn a_model_is_there_when_a_run_would_find_one() {
    let empty = Program::with_script(Script { models: Vec::new(), ..Script::new(Vec::new()) });
    let full = Program::with_script(Script { repeat_last: true, ..Script::new(vec![Turn::text("ready")]) });
    let with = |program: &Program, order: &str, envs: &[(&str, &str)]| {
        fs::create_dir_all(program.home.join("config")).unwrap();
        fs::write(program.home.join("config/homarus.toml"), format!("models.order = [{order}]\n")).unwrap();
        let mut command = program.bare_command(&["doctor", "--json"]);
        command.envs(envs.iter().copied());
        let found = doctor(command).1;
        let run = Done::of(program.bare_command(&["models", "test"]).envs(envs.iter().copied()).output().unwrap());
        assert_eq!(finding(&found, "models")["severity"] == "error", run.code == 2, "{found:#} {run:?}");
        found
    };
    let ollama = |program: &Program| program.server.base_url();
    let found = with(&empty, "", &[("OLLAMA_HOST", &ollama(&empty))]);
    check(&found, "models", "error", "Ollama has no models");
    check(&found, "servers.ollama", "warning", "no models");
    let found = with(&full, "", &[("OLLAMA_HOST", &ollama(&full))]);
    check(&found, "models", "ok", "ollama/scripted");
    let found = with(&full, "\"anthropic/x\"", &[("OLLAMA_HOST", &ollama(&full))]);
    check(&found, "models", "error", "ANTHROPIC_API_KEY is not set");
}

/// A server that answers nothing but that it knows no such page.
#[test]
fn a_server_that_lists_no_models_can_be_asked_for_one_that_is_named() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = std::io::Read::read(&mut stream, &mut [0; 4096]);
            let answer = "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            let _ = std::io::Write::write_all(&mut stream, answer.as_bytes());
        }
    });
    let program = Program::with_turns(Vec::new());
    fs::create_dir_all(program.home.join("config")).unwrap();
    fs::write(program.home.join("config/homarus.toml"), "models.order = [\"openai/x\"]\n").unwrap();
    let mut command = program.bare_command(&["doctor", "--json"]);
    command.env("OPENAI_BASE_URL", address).env_remove("OLLAMA_HOST");
    let found = doctor(command).1;
    check(&found, "servers.openai", "warning", "lists no models");
    check(&found, "models", "ok", "openai/x");
}

#[test]
fn a_damaged_database_is_found() {
    let program = used();
    let whole = fs::read(journal(&program)).unwrap();
    let place = |needle: &[u8]| whole.windows(needle.len()).rposition(|window| window == needle).unwrap();

    let mut changed = whole.clone();
    changed[place(b"a request to look for")] = b'A';
    fs::write(journal(&program), &changed).unwrap();
    check(&look(&program), "journal.chain", "error", "runs verify");

    let mut torn = whole.clone();
    for byte in torn.iter_mut().skip(4096).take(4096) {
        *byte = 0xff;
    }
    fs::write(journal(&program), &torn).unwrap();
    let found = look(&program);
    assert_eq!(found["ok"], false, "{found:#}");

    fs::write(journal(&program), "not a database, and never was one").unwrap();
    check(&look(&program), "journal.open", "error", "cannot be opened");
    fs::write(journal(&program), &whole).unwrap();
    assert_eq!(look(&program)["ok"], true, "whole again");
}

#[test]
fn exposed_folders_and_keys_are_found() {
    let program = used();
    let chmod = |path: &str, mode| {
        fs::set_permissions(program.home.join(path), fs::Permissions::from_mode(mode)).unwrap();
    };
    chmod("state", 0o755);
    check(&look(&program), "permissions.state", "warning", "chmod go=");
    chmod("state", 0o777);
    check(&look(&program), "permissions.state", "error", "others may write it");
    chmod("state", 0o700);
    chmod("state/keys/journal.key", 0o644);
    check(&look(&program), "permissions.state", "error", "chmod 600");
}

/// As an ordinary user, for whom modes count (the kernel lets root write everywhere).
#[test]
fn a_home_that_cannot_be_written_is_found() {
    let program = Program::with_turns(Vec::new());
    let folder = program.home.parent().unwrap();
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir_all(&program.home).unwrap();
    fs::set_permissions(&program.home, fs::Permissions::from_mode(0o555)).unwrap();
    // The build folder may be closed to others; this one is not.
    let exe = folder.join("homarus");
    fs::copy(env!("CARGO_BIN_EXE_homarus"), &exe).unwrap();
    let mut command = if nix::unistd::geteuid().is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&exe);
        command
    } else {
        Command::new(&exe)
    };
    command
        .args(["doctor", "permissions", "--json"])
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOMARUS_HOME", &program.home);
    let (_, found) = doctor(command);
    check(&found, "permissions.state", "error", "you may not write to");
    check(&found, "permissions.state", "error", "HOMARUS_HOME");
}

#[test]
fn a_run_that_was_cut_off_is_found() {
    let program = Program::with_turns(vec![Turn::text("never heard").hold()]);
    let mut running = program.spawn(&["run", "hi", "--json"]);
    program.wait_for_model_calls(1);
    running.kill();
    program.wait_until_unowned();
    check(&look(&program), "leftovers.runs", "warning", "runs resume");
}

#[test]
fn a_wrong_configuration_is_a_finding_and_the_other_looks_go_on() {
    let program = used();
    fs::create_dir_all(program.home.join("config")).unwrap();
    fs::write(program.home.join("config/homarus.toml"), "[budget]\nstep = 5\n").unwrap();
    let found = look(&program);
    check(&found, "config", "error", "line 2");
    check(&found, "config", "error", "did you mean `budget.steps`?");
    check(&found, "journal.chain", "ok", "");
}

#[test]
fn a_full_disk_is_found() {
    let program = Program::with_turns(Vec::new());
    fs::create_dir_all(&program.home).unwrap();
    let mut command = Command::new("unshare");
    let script = "mount -t tmpfs -o size=1m none \"$HOMARUS_HOME\" && exec \"$0\" doctor disk --json";
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script]).arg(env!("CARGO_BIN_EXE_homarus"));
    let plain = program.command(&[]);
    command.env_clear().current_dir(&program.workspace);
    for (name, value) in plain.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    let (_, found) = doctor(command);
    check(&found, "disk.state", "error", "the disk is full");
    check(&found, "disk.workspace", finding(&found, "disk.workspace")["severity"].as_str().unwrap(), "free");
}
