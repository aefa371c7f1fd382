//! The configuration and the rules it names lie in the workspace: no call reads or changes them, and no file of the
//! workspace takes their place.

use homarus_test_kit::{Script, Turn};
use serde_json::json;

use crate::program::{Done, Program};

const SECRET: &str = "# word-of-the-configuration\n";
const NOT_B: &str =
    "default = \"allow\"\n[[rule]]\neffect = \"deny\"\nmatch = \"file:write:./b.txt\"\nreason = \"not this one\"\n";

fn shell(command: &str) -> Turn {
    Turn::call("shell.execute", json!({ "command": command }))
}

fn file(program: &Program, path: &str, text: &str) {
    let path = program.workspace.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

/// With every yes there is, and the configuration in the workspace.
fn run(program: &Program) -> Done {
    let mut command = program.command(&["run", "do it", "--approvals", "auto"]);
    Done::of(command.env("HOMARUS_CONFIG", "h.toml").output().unwrap())
}

#[test]
fn no_call_reads_or_changes_what_the_next_run_obeys() {
    let attacks = [
        "cat h.toml rules.toml real.toml prices.toml",
        "echo '[policy]' > h.toml; rm rules.toml; echo > rules.toml; mv seed.txt prices.toml; true",
        "rm real.toml; ln -sf seed.txt real.toml; echo > other.toml; mv other.toml h.toml; true",
    ];
    let mut turns: Vec<Turn> = attacks.iter().map(|attack| shell(attack)).collect();
    turns.push(Turn::call("file.read", json!({ "path": "h.toml" })));
    turns.push(Turn::call("file.write", json!({ "path": "rules.toml", "content": "default = \"allow\"\n" })));
    turns.push(Turn::call("file.write", json!({ "path": "fine.txt", "content": "fine\n" })));
    turns.push(Turn::text("Done."));
    let program = Program::with_script(Script { repeat_last: true, ..Script::new(turns) });
    let rules = format!("{SECRET}default = \"allow\"\n");
    file(&program, "real.toml", &rules);
    std::os::unix::fs::symlink("real.toml", program.workspace.join("rules.toml")).unwrap();
    let config = format!("{SECRET}policy.file = \"rules.toml\"\nprices.file = \"prices.toml\"\n");
    file(&program, "h.toml", &config);
    file(&program, "prices.toml", SECRET);
    // What could not be done is asked for again; how it ends is no matter here.
    let done = run(&program);
    assert!(program.kinds().contains(&"finished".to_owned()), "{done:?}");
    let content = |path| program.file(path);
    assert_eq!(content("h.toml"), Some(config));
    assert_eq!((content("rules.toml"), content("real.toml")), (Some(rules.clone()), Some(rules)));
    assert!(program.workspace.join("rules.toml").is_symlink());
    assert_eq!(content("prices.toml").as_deref(), Some(SECRET));
    assert_eq!(content("fine.txt").as_deref(), Some("fine\n"));
    let heard: String = program.server.model_calls().iter().map(|call| call.body.to_string()).collect();
    assert!(!heard.contains("word-of-the-configuration"), "the model was told: {heard}");
    assert!(heard.contains("seed"), "the rest of the workspace was shown");
}

#[test]
fn a_configuration_that_is_not_there_yet_is_not_made_by_a_call() {
    let program = Program::with_turns(vec![
        shell("mkdir -p home/config; echo 'budget.steps = 1' > home/config/homarus.toml; echo fine > fine.txt"),
        Turn::text("Done."),
        Turn::text("Done."),
    ]);
    let home = program.workspace.join("home");
    let mut command = program.command(&["run", "do it", "--approvals", "auto"]);
    let done = Done::of(command.env("HOMARUS_HOME", &home).output().unwrap());
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(program.file("fine.txt").as_deref(), Some("fine\n"), "{done:?}");
    assert!(!home.join("config").exists());
}

#[test]
fn what_is_in_homes_of_homarus_is_not_packed_into_the_first_question() {
    let program = Program::with_script(Script { repeat_last: true, ..Script::new(vec![Turn::text("Hello.")]) });
    let home = program.workspace.join("home");
    for _ in 0..2 {
        let mut command = program.command(&["run", "hello"]);
        Done::of(command.env("HOMARUS_HOME", &home).output().unwrap());
    }
    let key = std::fs::read_to_string(home.join("state/keys/journal.key")).unwrap();
    let heard: String = program.server.model_calls().iter().map(|call| call.body.to_string()).collect();
    assert!(heard.contains("seed.txt") && !heard.contains(key.trim()), "the key that signs the journal was told");
}

/// A repository brings a file of the name that its user's configuration has.
#[test]
fn a_workspace_brings_no_rules_of_its_own() {
    let program = Program::with_turns(vec![
        Turn::call("file.write", json!({ "path": "b.txt", "content": "x\n" })),
        Turn::text("Done."),
        Turn::text("Done."),
    ]);
    let config = program.home.join("config");
    std::fs::create_dir_all(&config).unwrap();
    std::fs::write(config.join("homarus.toml"), "[policy]\nfile = \"rules.toml\"\n").unwrap();
    file(&program, "rules.toml", "default = \"allow\"\n");
    let args = ["run", "do it", "--approvals", "auto"];
    let done = program.output(&args);
    assert_eq!(done.code, 2, "the rules are not where they should be: {done:?}");
    assert!(done.stderr.contains("config/rules.toml"), "{done:?}");
    std::fs::write(config.join("rules.toml"), NOT_B).unwrap();
    program.output(&args);
    assert_eq!(program.file("b.txt"), None, "{:?}", program.kinds());
}
