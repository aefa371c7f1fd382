//! `homarus` as its users run it: jobs, exit codes, approvals, kills, limits, errors.

use homarus_test_kit::{Script, Turn};
use nix::sys::signal::Signal;
use serde_json::json;

use crate::program::{Program, is_empty};

fn write(path: &str, content: &str) -> Turn {
    Turn::call("file.write", json!({ "path": path, "content": content }))
}

fn shell(command: &str) -> Turn {
    Turn::call("shell.execute", json!({ "command": command }))
}

const AUTO: [&str; 2] = ["--approvals", "auto"];

fn run<'a>(extra: &[&'a str]) -> Vec<&'a str> {
    [&["run", "do it"], extra].concat()
}

#[test]
fn a_job_is_done_and_every_line_of_json_says_where_it_belongs() {
    let program = Program::with_turns(vec![
        Turn::text("I look. ").and_call("file.read", json!({"path": "seed.txt"})),
        write("out/a.txt", "alpha\n"),
        shell("cat out/a.txt; echo to-stderr >&2; ls"),
        Turn::text("Done."),
    ]);
    let done = program.output(&run(&[AUTO[0], AUTO[1], "--json"]));
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(program.file("out/a.txt").as_deref(), Some("alpha\n"));
    let lines = done.json_lines();
    for line in &lines {
        assert!(line["run_id"].is_string() && line["seq"].is_u64() && line["kind"].is_string(), "{line}");
    }
    let end = lines.last().unwrap();
    assert_eq!((end["kind"].as_str(), end["status"].as_str()), (Some("run_ended"), Some("completed")), "{end}");
    assert_eq!(end["summary"], "Done.");
    assert!(lines.iter().any(|line| line["kind"] == "tool_stdout" && line["text"].as_str().unwrap().contains("alpha")));
    assert!(lines.iter().any(|line| line["kind"] == "text_delta"));
    let receipt = &program.events().into_iter().rfind(|event| event["kind"] == "act_result").unwrap()["receipt"];
    assert_eq!(receipt["backend"], "l1", "{receipt}");
    assert_eq!(receipt["no_new_privs"], true);
    assert!(receipt["seccomp"].is_string() && receipt["landlock_abi"].as_u64().unwrap() > 0, "{receipt}");
    program.verify();
}

#[test]
fn people_see_text_calls_output_exit_codes_and_the_bill() {
    let program = Program::with_turns(vec![
        shell("echo visible-output; exit 3"),
        Turn::text("It failed."),
        Turn::text("It is meant to."),
    ]);
    let done = program.output(&run(&AUTO));
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(done.stdout, "It failed.\nIt is meant to.\n", "only the model's words are on standard output");
    for part in [
        "model openai/",
        "OPENAI_BASE_URL",
        "▸ shell.execute echo visible-output",
        "│ visible-output",
        "exit 3",
        "» You are not done",
        "3 steps",
        "run 0",
    ] {
        assert!(done.stderr.contains(part), "{part:?} is missing: {}", done.stderr);
    }
}

#[test]
fn without_a_terminal_what_is_asked_about_is_denied() {
    let program = Program::with_turns(vec![write("a.txt", "x"), Turn::text("I could not.")]);
    let done = program.output(&run(&[]));
    assert_eq!(done.code, 3, "{done:?}");
    assert_eq!(program.file("a.txt"), None);
    assert!(program.kinds().contains(&"denied".to_owned()));
}

#[test]
fn a_question_waits_and_is_answered_from_another_process() {
    for (flag, code, content) in [(None, 0, Some("x\n")), (Some("--deny"), 0, None)] {
        let program = Program::with_turns(vec![write("a.txt", "x\n"), shell("true"), Turn::text("Done.")]);
        let mut running = program.spawn(&run(&["--approvals-from", "cli", "--json"]));
        running.wait_for("waiting");
        assert_eq!(program.file("a.txt"), None, "nothing is merged before the answer");
        let question = program.show()["question"].clone();
        assert!(question["diff"].as_str().unwrap().contains("+x"), "{question}");
        let mut args = vec!["runs", "approve", "last", "--why", "looks fine"];
        args.extend(flag);
        assert_eq!(program.output(&args).code, 0);
        let done = running.finish();
        assert_eq!(done.code, code, "{done:?}");
        assert_eq!(program.file("a.txt").as_deref(), content);
        let decided = program.events().into_iter().find(|event| event["kind"] == "approval_decided").unwrap();
        assert!(decided["approval"]["who"].as_str().unwrap().starts_with("cli:"), "{decided}");
        assert_eq!(decided["approval"]["why"], "looks fine");
    }
}

#[test]
fn a_question_nobody_can_answer_here_is_left_open_and_gone_on_with() {
    let program = Program::with_turns(vec![write("a.txt", "x\n"), Turn::text("Done."), Turn::text("Checked.")]);
    let done = program.output(&run(&["--approvals", "ask"]));
    assert_eq!(done.code, 4, "{done:?}");
    assert_eq!(program.show()["status"], "waiting");
    assert_eq!(program.output(&["runs", "approve", "last"]).code, 0);
    let done = program.output(&["runs", "resume", "last"]);
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(program.file("a.txt").as_deref(), Some("x\n"));
    assert_eq!(program.output(&["runs", "approve", "last"]).code, 1, "there is no question any more");
}

#[test]
fn killed_while_the_model_thinks_nothing_recorded_is_asked_again() {
    let program = Program::with_turns(vec![
        write("a.txt", "x\n"),
        Turn::text("never heard").hold(),
        shell("cat a.txt"),
        Turn::text("Done."),
    ]);
    let mut running = program.spawn(&run(&[AUTO[0], AUTO[1], "--json"]));
    program.wait_for_model_calls(2);
    running.kill();
    program.wait_until_unowned();
    let done = program.output(&["runs", "resume", "last"]);
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(program.server.model_calls().len(), 4, "the first answer was recorded, the second was asked again");
    assert_eq!(program.file("a.txt").as_deref(), Some("x\n"));
    assert!(program.kinds().contains(&"taken_over".to_owned()));
    assert!(is_empty(&program.home.join("state/layers")) || leftover_layers(&program) == 0, "no layer is left behind");
    program.verify();
}

fn leftover_layers(program: &Program) -> usize {
    let layers = program.home.join("state/layers");
    let runs = std::fs::read_dir(layers).unwrap();
    runs.flatten().filter(|run| !is_empty(&run.path())).count()
}

#[test]
fn killed_while_a_command_runs_its_layer_is_thrown_away_and_it_runs_again() {
    let program = Program::with_turns(vec![
        // The first attempt leaves its mark in a layer that is thrown away, so the second waits too,
        // unless the go-ahead is there.
        shell("echo started; while [ ! -e go ]; do sleep 0.05; done; echo once >> seed.txt"),
        Turn::text("Done."),
        Turn::text("Checked."),
    ]);
    let mut running = program.spawn(&run(&[AUTO[0], AUTO[1], "--json"]));
    running.wait_for("tool_stdout");
    running.kill();
    program.wait_until_unowned();
    assert_eq!(program.file("seed.txt").as_deref(), Some("seed\n"));
    std::fs::write(program.workspace.join("go"), "").unwrap();
    let done = program.output(&["runs", "resume", "last"]);
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(program.file("seed.txt").as_deref(), Some("seed\nonce\n"));
}

#[test]
fn a_later_run_settles_a_dead_one_in_passing() {
    let program =
        Program::with_turns(vec![Turn::text("never heard").hold(), Turn::text("Hello."), Turn::text("Resumed.")]);
    let mut running = program.spawn(&run(&["--json"]));
    program.wait_for_model_calls(1);
    running.kill();
    program.wait_until_unowned();
    let done = program.output(&["run", "another"]);
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.stderr.contains("was interrupted earlier"), "{}", done.stderr);
    let list: serde_json::Value = serde_json::from_str(&program.output(&["runs", "list", "--json"]).stdout).unwrap();
    let dead = &list["runs"][1];
    assert_eq!(dead["status"], "paused", "{list}");
    let done = program.output(&["runs", "resume", dead["run"].as_str().unwrap()]);
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(done.stdout, "Resumed.\n");
}

#[test]
fn ctrl_c_finishes_the_journal_and_leaves_a_run_that_resumes() {
    let program = Program::with_turns(vec![Turn::text("never heard").hold(), Turn::text("Done.")]);
    let mut running = program.spawn(&run(&["--json"]));
    program.wait_for_model_calls(1);
    running.signal(Signal::SIGINT);
    let done = running.finish();
    assert_eq!(done.code, 130, "{done:?}");
    assert_eq!(program.show()["status"], "paused");
    let done = program.output(&["runs", "resume", "last"]);
    assert_eq!((done.code, done.stdout.as_str()), (0, "Done.\n"), "{done:?}");
    program.verify();
}

#[test]
fn a_run_is_cancelled_from_another_process() {
    let program = Program::with_turns(vec![Turn::text("never heard").hold()]);
    let mut running = program.spawn(&run(&["--json"]));
    program.wait_for_model_calls(1);
    assert_eq!(program.output(&["runs", "cancel", "last"]).code, 0);
    assert_eq!(running.finish().code, 130);
    assert_eq!(program.show()["status"], "cancelled");
    assert_eq!(program.output(&["runs", "resume", "last"]).code, 1, "a finished run does not go on");
}

#[test]
fn limits_end_a_run_and_an_unknown_price_is_no_price() {
    let turns = || (0..5).map(|n| shell(&format!("echo {n}"))).collect();
    let program = Program::with_turns(turns());
    let done = program.output(&run(&[AUTO[0], AUTO[1], "--steps-max", "2"]));
    assert_eq!(done.code, 3, "{done:?}");
    assert_eq!(program.server.model_calls().len(), 2);
    assert!(program.kinds().contains(&"bound_hit".to_owned()));
    assert!(done.stderr.contains("cost unknown"), "never 0: {}", done.stderr);

    let program = Program::with_turns(turns());
    let done = program.output(&run(&["--budget-usd", "1"]));
    assert_eq!(done.code, 3, "{done:?}");
    assert_eq!(program.server.model_calls().len(), 0, "refused before it is asked");
    assert!(done.stderr.contains("price"), "{}", done.stderr);
}

#[test]
fn the_next_model_is_asked_when_one_is_down() {
    let program = Program::with_turns(vec![Turn::text("Hello from the second.")]);
    let mut command = program.command(&["run", "hi", "--model", "ollama/gone", "--model", "openai/scripted", "--json"]);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let failed: Vec<_> = program.events().into_iter().filter(|event| event["kind"] == "model_failed").collect();
    assert_eq!(failed.len(), 4, "each attempt is an event");
    assert!(failed.iter().all(|event| event["model"] == "ollama/gone" && event["class"] == "network"), "{failed:?}");
}

#[test]
fn a_retryable_failure_is_tried_again_and_a_wrong_key_is_not() {
    let busy = Turn::status(429, &[("retry-after", "0")], r#"{"error":{"message":"slow down"}}"#);
    let program = Program::with_turns(vec![busy, Turn::text("Hello.")]);
    let done = program.output(&run(&[]));
    assert_eq!((done.code, done.stdout.as_str()), (0, "Hello.\n"), "{done:?}");

    let refused = Turn::status(401, &[], r#"{"error":{"message":"bad key"}}"#);
    let program = Program::with_turns(vec![refused, Turn::text("never")]);
    let done = program.output(&run(&[]));
    assert_eq!(done.code, 1, "{done:?}");
    assert_eq!(program.server.model_calls().len(), 1);
    assert!(!done.stderr.contains("sk-test"), "{}", done.stderr);
}

#[test]
fn what_was_shown_is_never_replaced() {
    let program = Program::with_turns(vec![
        Turn::text("The first half of an answer that breaks off in the middle").cut_after(900),
        Turn::text(" and the second."),
    ]);
    let done = program.output(&run(&[]));
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.stdout.starts_with("The first half"), "{done:?}");
    let kinds = program.kinds();
    assert!(kinds.contains(&"nudged".to_owned()), "{kinds:?}");
    assert!(program.events().iter().any(|event| event["kind"] == "block_done" && event["partial"] == true));
}

#[test]
fn a_command_sees_no_secret_of_the_host() {
    let program = Program::with_turns(vec![
        shell("env; id; ls -la / /root /home; cat /proc/1/environ | tr '\\0' '\\n'; cat /etc/shadow; ls ~; true"),
        Turn::text("Done."),
    ]);
    std::fs::create_dir_all(program.home.join(".ssh")).unwrap();
    std::fs::write(program.home.join(".ssh/id_ed25519"), "PRIVATE").unwrap();
    let done = program.output(&run(&AUTO));
    assert_eq!(done.code, 0, "{done:?}");
    let log = program.output(&["runs", "log", "last", "--output"]).stdout;
    assert!(!log.contains("sk-test-not-a-real-key") && !log.contains("OPENAI_"), "{log}");
    assert!(!log.contains("root:$") && !log.contains("PRIVATE"), "{log}");
}

#[test]
fn wrong_usage_says_what_to_do() {
    let program = Program::with_turns(Vec::new());
    let check = |args: &[&str], code: i32, part: &str| {
        let done = program.output(args);
        assert_eq!(done.code, code, "{args:?}: {done:?}");
        assert!(done.stderr.contains(part), "{args:?}: {part:?} is not in {}", done.stderr);
    };
    check(&["run", "  "], 2, "prompt is empty");
    check(&["run", "hi", "--workspace", "/no/such/folder"], 2, "cannot be used");
    check(&["run", "hi", "--workspace", "seed.txt"], 2, "not a folder");
    check(&["run", "hi", "--model", "nonsense"], 2, "PROVIDER/MODEL");
    check(&["run", "hi", "--model", "nobody/x"], 2, "there is no provider");
    check(&["run", "hi", "--budget-usd", "-1"], 2, "");
    check(&["run", "hi", "--steps-max", "0"], 2, "");
    check(&["run", "hi", "--policy", "seed.txt"], 2, "policy");
    check(&["runs", "shw"], 2, "similar");
    check(&["runs", "show", "nope"], 1, "there is no run");
    check(&["models", "pull", "nope"], 2, "known are");
    check(&["frobnicate"], 2, "");
    let done = program.output(&["--version"]);
    assert!(done.code == 0 && done.stdout.starts_with("homarus 0."), "{done:?}");

    let mut none = program.bare_command(&["run", "hi"]);
    let output = none.output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("no model to ask"), "{output:?}");
}

#[test]
fn a_prompt_comes_from_standard_input() {
    use std::io::Write;
    let program = Program::with_turns(vec![Turn::text("Hello.")]);
    let mut command = program.command(&["run", "-"]);
    let mut child = command.stdin(std::process::Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"from a pipe\n").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let body = program.server.model_calls()[0].body.to_string();
    assert!(body.contains("from a pipe"), "{body}");
}

#[test]
fn rules_of_a_run_deny_and_the_run_goes_on() {
    let program = Program::with_turns(vec![
        shell("./restart.sh now"),
        write("a.txt", "x\n"),
        shell("cat a.txt"),
        Turn::text("Done."),
    ]);
    let rules =
        "[[rule]]\neffect = \"deny\"\nmatch = \"shell:run:./restart.sh*\"\nreason = \"restarts are for people\"\n";
    std::fs::write(program.home.parent().unwrap().join("rules.toml"), rules).unwrap();
    let path = program.home.parent().unwrap().join("rules.toml");
    let done = program.output(&run(&[AUTO[0], AUTO[1], "--policy", path.to_str().unwrap()]));
    assert_eq!(done.code, 0, "{done:?}");
    let denied = program.events().into_iter().find(|event| event["kind"] == "denied").unwrap();
    assert!(denied["reason"].as_str().unwrap().contains("restarts are for people"), "{denied}");
    assert_eq!(program.show()["denied"], 1);
}

#[test]
fn providers_are_listed_and_tested() {
    let script = Script { models: vec!["scripted-a".to_owned()], ..Script::new(vec![Turn::text("ready")]) };
    let program = Program::with_script(script);
    let done = program.output(&["models", "list", "--json"]);
    let list: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
    let openai = list["providers"].as_array().unwrap().iter().find(|row| row["provider"] == "openai").unwrap();
    assert_eq!((openai["ready"].as_bool(), openai["models"][0].as_str()), (Some(true), Some("scripted-a")));
    let done = program.output(&["models", "test", "--json"]);
    assert_eq!(done.code, 0, "{done:?}");
    let test: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!((test["model"].as_str(), test["answer"].as_str()), (Some("openai/scripted-a"), Some("ready")));
}

#[test]
fn an_error_is_json_where_json_was_asked_for_and_standard_output_stays_clean() {
    let program = Program::with_turns(Vec::new());
    for args in [&["runs", "show", "nope", "--json"][..], &["runs", "shw", "--json"], &["config", "get", "x", "--json"]]
    {
        let done = program.output(args);
        assert_eq!(done.stdout, "", "{args:?}");
        let said: serde_json::Value =
            serde_json::from_str(&done.stderr).unwrap_or_else(|error| panic!("{error}: {done:?}"));
        assert_eq!(said["error"]["exit_code"], done.code, "{said}");
        assert!(!said["error"]["message"].as_str().unwrap().is_empty(), "{said}");
    }
}

/// A pipe whose reader has gone away, as with `homarus ... | head -1`.
#[test]
fn a_reader_that_goes_away_is_no_error_and_no_panic() {
    let program = Program::with_turns(vec![Turn::text("Hello.")]);
    let closed = || std::process::Stdio::from(std::io::pipe().unwrap().1);
    let commands: [&[&str]; 7] = [
        &["run", "hi"],
        &["runs", "list"],
        &["runs", "log", "last"],
        &["config", "get"],
        &["config", "get", "budget.steps"],
        &["--help"],
        &["runs"],
    ];
    for args in commands {
        let status = program.command(args).stdout(closed()).stderr(closed()).status().unwrap();
        let expected = if args == ["runs"] { 2 } else { 0 };
        assert_eq!(status.code(), Some(expected), "{args:?}: 101 would be a panic");
    }
    let status = program.command(&["runs", "shw"]).stdout(closed()).stderr(closed()).status().unwrap();
    assert_eq!(status.code(), Some(2));
}

#[test]
fn without_a_home_folder_the_error_says_what_to_set() {
    let program = Program::with_turns(Vec::new());
    let mut command = program.bare_command(&["runs", "list"]);
    let done = crate::program::Done::of(command.env_remove("HOME").env_remove("HOMARUS_HOME").output().unwrap());
    assert_eq!(done.code, 2, "{done:?}");
    assert!(done.stderr.contains("help: set HOMARUS_HOME"), "{done:?}");
}

#[test]
fn completion_scripts_are_shell() {
    let program = Program::with_turns(Vec::new());
    let script = program.output(&["completions", "bash"]).stdout;
    let path = program.home.parent().unwrap().join("completions.bash");
    std::fs::write(&path, &script).unwrap();
    let check = std::process::Command::new("bash").arg("-n").arg(&path).output().unwrap();
    assert!(check.status.success(), "{check:?}");
    // As bash calls it: the words so far, and the one that is typed.
    let ask = format!(
        "source {}; COMP_WORDS=(homarus runs res); COMP_CWORD=2; _homarus homarus res runs; echo \"${{COMPREPLY[*]}}\"",
        path.display()
    );
    let asked = std::process::Command::new("bash").args(["-c", &ask]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&asked.stdout).trim(), "resume resume-all resolve", "{asked:?}");
    assert_eq!(program.output(&["completions", "tcsh"]).code, 2);
}

#[test]
fn manual_pages_can_be_read() {
    let program = Program::with_turns(Vec::new());
    let folder = program.home.parent().unwrap().join("man/man1");
    let done = program.output(&["man", folder.to_str().unwrap(), "--json"]);
    assert_eq!(done.code, 0, "{done:?}");
    let pages: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
    assert!(pages["pages"].as_array().unwrap().len() > 20, "{pages}");
    for page in pages["pages"].as_array().unwrap() {
        let path = page["path"].as_str().unwrap();
        let text = std::fs::read_to_string(path).unwrap();
        assert!(text.contains(".SH NAME") && text.contains(".SH SYNOPSIS"), "{path}");
        // Where there is a formatter it has nothing to complain of.
        if let Ok(checked) = std::process::Command::new("groff").args(["-man", "-Tutf8", "-ww", "-z", path]).output() {
            assert!(checked.status.success() && checked.stderr.is_empty(), "{path}: {checked:?}");
        }
    }
    assert!(program.output(&["man"]).stdout.contains(".TH homarus 1"));
    let done = program.output(&["man", "/proc/nowhere"]);
    assert!(done.code == 1 && done.stderr.contains("cause:"), "{done:?}");
}

/// What a screen reader would spell out, a colour, or a moved cursor.
fn has_signs(text: &str) -> bool {
    text.chars().any(|c| !c.is_ascii() || (c.is_ascii_control() && c != '\n' && c != '\t'))
}

#[test]
fn with_accessible_there_are_words_instead_of_signs() {
    let turns = || {
        vec![
            shell("echo visible; false"),
            shell("./restart.sh"),
            write("a.txt", "x\n"),
            Turn::text("Done."),
            Turn::text("It is meant to fail."),
        ]
    };
    let said = |accessible: bool| {
        let program = Program::with_turns(turns());
        let mut said = String::new();
        let commands: [&[&str]; 5] = [
            &["run", "do it", "--approvals", "auto"],
            &["runs", "verify"],
            &["models", "list"],
            &["sandbox", "probe"],
            &["doctor"],
        ];
        for args in commands {
            let mut command = program.command(args);
            if accessible {
                command.env("ACCESSIBLE", "1");
            }
            let done = crate::program::Done::of(command.output().unwrap());
            assert!(done.stdout.len() + done.stderr.len() > 0, "{args:?}");
            said += &(done.stdout + &done.stderr);
        }
        said
    };
    let plain = said(true);
    assert!(!has_signs(&plain), "{plain}");
    for word in ["call: shell.execute", "ok: applied a.txt", "ok: whole", "visible"] {
        assert!(plain.contains(word), "{word:?} is not in {plain}");
    }
    assert!(has_signs(&said(false)), "the test would see signs");
}

#[test]
fn colours_follow_the_usual_variables() {
    let program = Program::with_turns(Vec::new());
    let colours = |variables: &[(&str, &str)]| {
        let mut command = program.command(&["runs", "show", "nope"]);
        command.envs(variables.iter().copied());
        String::from_utf8_lossy(&command.output().unwrap().stderr).contains('\x1b')
    };
    assert!(!colours(&[]), "standard error is no terminal");
    assert!(colours(&[("CLICOLOR_FORCE", "1")]));
    assert!(!colours(&[("CLICOLOR_FORCE", "0")]));
    assert!(!colours(&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]));
}
