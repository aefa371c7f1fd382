//! `homarus config`: values and where they come from, changes that keep what is there, mistakes with their line.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use crate::program::{Done, Program};

struct Fixture {
    program: Program,
}

impl Fixture {
    fn new(text: Option<&str>) -> Self {
        let program = Program::with_turns(Vec::new());
        let fixture = Self { program };
        if let Some(text) = text {
            fs::create_dir_all(fixture.file().parent().unwrap()).unwrap();
            fs::write(fixture.file(), text).unwrap();
        }
        fixture
    }

    fn file(&self) -> PathBuf {
        self.program.home.join("config/homarus.toml")
    }

    fn text(&self) -> String {
        fs::read_to_string(self.file()).unwrap()
    }

    fn config(&self, args: &[&str]) -> Done {
        self.program.output(&[&["config"], args].concat())
    }

    /// `config edit` with this shell command as the editor; `$1` is the file.
    fn edit(&self, editor: &str) -> Done {
        let script = self.program.home.parent().unwrap().join("editor.sh");
        fs::write(&script, editor).unwrap();
        let mut command = self.program.command(&["config", "edit"]);
        command.env("EDITOR", format!("sh '{}'", script.display()));
        Done::of(command.output().unwrap())
    }
}

#[test]
fn a_value_is_set_told_with_its_line_and_taken_back() {
    let fixture = Fixture::new(Some("# mine\n[budget]\nusd = 1.5 # little\n"));
    let done = fixture.config(&["set", "budget.steps", "7"]);
    assert_eq!((done.code, done.stdout.as_str()), (0, "budget.steps = 7 (was 60)\n"), "{done:?}");
    assert_eq!(fixture.text(), "# mine\n[budget]\nusd = 1.5 # little\nsteps = 7\n");
    assert_eq!(fixture.config(&["get", "budget.steps"]).stdout, "7\n");

    let get = |key: &str| {
        let done = fixture.config(&["get", key, "--json"]);
        let got: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
        let setting = got["settings"][0].clone();
        (setting["value"].clone(), setting["source"].clone(), setting["line"].clone())
    };
    assert_eq!(get("budget.steps"), (7.into(), "file".into(), 4.into()));
    assert_eq!(get("budget.tokens"), (2_000_000.into(), "default".into(), serde_json::Value::Null));

    assert!(fixture.config(&["set", "budget.steps", "7"]).stdout.contains("already"));
    assert_eq!(fixture.config(&["set", "budget.steps", "--default"]).code, 0);
    assert_eq!(fixture.text(), "# mine\n[budget]\nusd = 1.5 # little\n");
    assert_eq!(fixture.config(&["set", "models.order", "openai/a", "local/b"]).code, 0);
    assert_eq!(fixture.config(&["get", "models.order"]).stdout, "openai/a\nlocal/b\n");
}

#[test]
fn limits_of_one_tool_are_set_told_and_taken_back() {
    let fixture = Fixture::new(Some("[limits]\nwall_s = 60\n"));
    let key = "limits.tools.shell.execute.wall_s";
    assert_eq!(fixture.config(&["get", key]).stdout, "60\n", "as for every call");
    let done = fixture.config(&["set", key, "900"]);
    assert_eq!(
        (done.code, done.stdout.as_str()),
        (0, "limits.tools.shell.execute.wall_s = 900 (was 60)\n"),
        "{done:?}"
    );
    assert_eq!(fixture.text(), "[limits]\nwall_s = 60\n\n[limits.tools.shell.execute]\nwall_s = 900\n");
    assert_eq!(fixture.config(&["get", key]).stdout, "900\n");
    let lines = |args: &[&str]| fixture.config(args).stdout.lines().filter(|line| line.contains("tools.")).count();
    assert_eq!((lines(&["get"]), lines(&["get", "limits"])), (1, 1), "only what is set");
    assert_eq!(lines(&["get", "limits.tools.shell.execute"]), 7);
    assert_eq!(fixture.config(&["check"]).code, 0);
    let done = fixture.config(&["set", key, "--default"]);
    assert_eq!(done.stdout, "limits.tools.shell.execute.wall_s = 60, the default (was 900)\n");
    assert_eq!(lines(&["get"]), 0);
    let wrong = |key: &str, parts: &[&str]| {
        let done = fixture.config(&["set", key, "9"]);
        assert_eq!(done.code, 2, "{done:?}");
        assert!(parts.iter().all(|part| done.stderr.contains(part)), "{done:?}");
    };
    wrong("limits.tools.shell.exec.wall_s", &["unknown key", "`limits.tools.shell.execute.wall_s`"]);
    wrong("limits.tools.shell.execute.wal_s", &["unknown key", "`limits.tools.shell.execute.wall_s`"]);
    wrong("limits.tools.memory.note.wall_s", &["unknown key", "the tools that have limits are file.search, "]);
    wrong("limits.tools.shell.execute", &["is a table, not a key"]);
}

#[test]
fn what_is_set_holds_in_the_next_command() {
    let fixture = Fixture::new(None);
    assert_eq!(fixture.config(&["set", "models.local.name", "smollm2-135m"]).code, 0);
    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(fixture.file()), mode(fixture.program.home.join("config"))), (0o600, 0o700));
    // Its folder cannot be made, so nothing is fetched: only the name matters here.
    let mut pull = fixture.program.command(&["models", "pull"]);
    let done = Done::of(pull.env("HOMARUS_MODELS_DIR", "/dev/null/x").output().unwrap());
    assert!(done.code == 1 && done.stderr.contains("smollm2-135m"), "{done:?}");
}

/// What fetches weights gets no keys, and does not stand in the folder of the user: `python3 -m pip` would run a `pip.py` in it.
#[test]
fn fetching_weights_runs_nothing_of_the_workspace_and_sees_no_key() {
    let fixture = Fixture::new(None);
    let programs = fixture.program.home.join("programs");
    fs::create_dir_all(&programs).unwrap();
    for name in ["python3", "curl"] {
        let script = format!("#!/bin/sh\n{{ pwd; env; }} > \"$HOME/{name}.seen\"\nexit 1\n");
        fs::write(programs.join(name), script).unwrap();
        fs::set_permissions(programs.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let mut pull = fixture.program.command(&["models", "pull", "smollm2-135m"]);
    pull.env("PATH", format!("{}:/usr/bin:/bin", programs.display())).env("PIP_RETRIES", "1");
    let done = Done::of(pull.output().unwrap());
    assert_eq!(done.code, 1, "{done:?}");
    let seen = fs::read_to_string(fixture.program.home.join("python3.seen")).unwrap();
    let (folder, variables) = seen.split_once('\n').unwrap();
    assert!(
        folder.ends_with("smollm2-135m.parts") && !Path::new(folder).starts_with(&fixture.program.workspace),
        "{folder}"
    );
    assert!(!variables.contains("sk-test") && !variables.contains("OPENAI"), "{variables}");
    assert!(variables.contains("PIP_RETRIES=1"), "how packages are found is known: {variables}");
    if let Ok(seen) = fs::read_to_string(fixture.program.home.join("curl.seen")) {
        assert!(!seen.contains("sk-test"), "{seen}");
    }
}

#[test]
fn a_wrong_change_changes_nothing_and_says_what_is_right() {
    let fixture = Fixture::new(Some("[budget]\nsteps = 7\n"));
    let check = |args: &[&str], parts: &[&str]| {
        let done = fixture.config(args);
        assert_eq!(done.code, 2, "{args:?}: {done:?}");
        for part in parts {
            assert!(done.stderr.contains(part), "{args:?}: {part:?} is not in {}", done.stderr);
        }
        assert_eq!(fixture.text(), "[budget]\nsteps = 7\n");
    };
    check(&["set", "budget.step", "5"], &["error: unknown key `budget.step`", "help: did you mean `budget.steps`?"]);
    check(&["set", "budget", "5"], &["`budget` is a table, not a key"]);
    check(&["set", "budget.steps", "few"], &["expected a whole number from 1 to 100000, found `few`", "default is 60"]);
    check(&["set", "budget.steps", "0"], &["found 0"]);
    check(&["set", "budget.steps"], &["VALUE"]);
    check(&["set", "budget.steps", "5", "--default"], &["cannot be used with"]);
    check(&["set", "budget.usd", "-1"], &["a number from 0"]);
    check(&["set", "models.order", "nonsense"], &["PROVIDER/MODEL"]);
    check(&["set", "policy.grants", "everything"], &["the grant `everything` cannot be read"]);
    check(&["get", "bugdet"], &["did you mean `budget`?"]);
}

#[test]
fn a_mistyped_key_in_the_file_is_an_error_of_every_command_that_reads_it() {
    let fixture = Fixture::new(Some("[budget]\nusd = 1.0\nstep = 5\n\n[limits]\nwall_s = \"long\"\n"));
    for args in [&["run", "hi"][..], &["models", "list"], &["config", "get"], &["config", "set", "budget.usd", "2"]] {
        let done = fixture.program.output(args);
        assert_eq!(done.code, 2, "{args:?}: {done:?}");
        let lines: Vec<&str> = done.stderr.lines().collect();
        let [error, cause, help] = lines.as_slice() else { panic!("{args:?}: {done:?}") };
        assert!(error.starts_with("error: unknown key `budget.step` (and 1 more"), "{error}");
        assert!(cause.starts_with("cause: ") && cause.ends_with("homarus.toml, line 3, column 1"), "{cause}");
        assert_eq!(*help, "help: did you mean `budget.steps`?");
    }
    let done = fixture.config(&["check", "--json"]);
    assert_eq!(done.code, 2, "{done:?}");
    let checked: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
    let place =
        |index: usize| (checked["problems"][index]["line"].as_u64(), checked["problems"][index]["column"].as_u64());
    assert_eq!((place(0), place(1)), ((Some(3), Some(1)), (Some(6), Some(10))), "{checked}");
}

#[test]
fn a_check_looks_into_the_files_that_are_named() {
    let fixture = Fixture::new(None);
    let workspace = &fixture.program.workspace;
    let file = workspace.join("other.toml");
    let check = |text: &str, code: i32, part: &str| {
        fs::write(&file, text).unwrap();
        let done = fixture.config(&["check", "other.toml"]);
        assert_eq!(done.code, code, "{text}: {done:?}");
        assert!(done.stdout.contains(part), "{text}: {done:?}");
    };
    fs::write(workspace.join("rules.toml"), "[[rule]]\neffect = \"maybe\"\n").unwrap();
    check("", 0, "is right");
    check("[policy]\nfile = \"rules.toml\"\n", 2, "the policy is not valid");
    check("[policy]\nfile = \"gone.toml\"\n", 2, "gone.toml");
    check("[prices]\nfile = \"rules.toml\"\n", 2, "price file");
    check("[models.local]\nname = \"qwen2.5-coder\"\n", 2, "qwen2.5-coder-1.5b");
    check("[models.local]\nworker = \"/no/such/worker\"\n", 2, "models.local.worker");
    check("[sandbox]\nreadable = [\"/usr\"]\n", 0, "is right");
    let in_home = format!("help: write one from the root on, as {}/.rustup", fixture.program.home.display());
    check("[sandbox]\nreadable = [\"/usr\", \"~/.rustup\"]\n", 2, &in_home);
    check("[sandbox]\nreadable = [\"/usr/no-such-lib\"]\n", 2, "`sandbox.readable` names /usr/no-such-lib");
    check("[browser]\nprogram = \"/no/such/chromium\"\n", 2, "`browser.program` names /no/such/chromium");
    let provider = "[[models.provider]]\nid = \"w\"\nkind = \"openai\"\n";
    check(provider, 0, "is right");
    check(&format!("{provider}{provider}"), 2, "two are called w");
    check("\"\\u001b[2J\" = 1\n", 2, "unknown key `␛[2J`");
    assert!(!fixture.config(&["check", "other.toml"]).stdout.contains('\x1b'));
    assert_eq!(fixture.config(&["check", "none.toml"]).code, 2);
    assert_eq!(fixture.config(&["check"]).code, 0, "no file of one's own is right");
}

#[test]
fn an_edit_counts_only_when_it_is_right() {
    let fixture = Fixture::new(Some("# mine\n[budget]\nsteps = 7\n"));
    let done = fixture.edit("sed -i s/7/8/ \"$1\"");
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(fixture.text(), "# mine\n[budget]\nsteps = 8\n");

    let done = fixture.edit("sed -i s/steps/stepps/ \"$1\"");
    assert_eq!(done.code, 2, "{done:?}");
    assert!(done.stderr.contains("cause: line 3: unknown key `budget.stepps`"), "{done:?}");
    assert_eq!(fixture.text(), "# mine\n[budget]\nsteps = 8\n", "the old one stays");
    let kept = done.stderr.trim_end().rsplit(' ').next().unwrap();
    assert_eq!(fs::read_to_string(kept).unwrap(), "# mine\n[budget]\nstepps = 8\n");
    fs::remove_file(kept).unwrap();

    assert!(fixture.edit("true").stdout.contains("stays as it was"));
    assert_eq!(fixture.edit("exit 3").code, 1, "an editor that fails changes nothing");
    assert_eq!(fixture.edit("rm \"$1\"").code, 1);
    let done = fixture.edit(&format!("echo '# theirs' >> '{}'; sed -i s/8/9/ \"$1\"", fixture.file().display()));
    assert!(done.code == 1 && done.stderr.contains("meanwhile"), "{done:?}");
    assert_eq!(fixture.text(), "# mine\n[budget]\nsteps = 8\n# theirs\n");
}

#[test]
fn what_was_typed_is_kept_whatever_fails() {
    const BEFORE: &str = "# mine\n";
    let fixture = Fixture::new(Some(BEFORE));
    let folder = fixture.file().parent().unwrap().to_owned();
    let check = |editor: &str, code: i32, part: &str| {
        let done = fixture.edit(editor);
        assert_eq!(done.code, code, "{editor}: {done:?}");
        assert!(done.stderr.contains(part), "{editor}: {done:?}");
        assert_eq!(fixture.text(), BEFORE, "{editor}: the old one stays");
        let kept =
            done.stderr.trim_end().rsplit_once("what you wrote is kept in ").map(|(_, path)| PathBuf::from(path));
        if let Some(kept) = &kept {
            assert!(fs::read(kept).unwrap().len() > BEFORE.len(), "{editor}: {done:?}");
            assert_eq!(kept.parent(), Some(folder.as_path()));
            fs::remove_file(kept).unwrap();
        }
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "{editor}: nothing else lies about");
        kept.is_some()
    };
    assert!(check("printf '\\377' >> \"$1\"", 2, "UTF-8"));
    assert!(check("head -c 1100000 /dev/zero | tr '\\0' '#' >> \"$1\"", 2, "1 MiB"));
    assert!(check("echo '# typed' >> \"$1\"; exit 3", 1, "did not do its work"));
    assert!(check("echo '# typed' >> \"$1\"; kill -9 $$", 1, "did not do its work"));
    assert!(check("echo 'models.provider = 1' >> \"$1\"", 2, "is not right"));
    assert!(!check("exit 3", 1, "nothing was changed"), "there is nothing to keep");
}

#[test]
fn keys_that_are_set_at_once_all_stand() {
    let fixture = Fixture::new(None);
    for round in 1..=50 {
        let value = round.to_string();
        let set = |key: &str| fixture.program.command(&["config", "set", key, &value]).spawn().unwrap();
        for child in [set("budget.steps"), set("limits.cpu_s")] {
            let done = Done::of(child.wait_with_output().unwrap());
            assert_eq!(done.code, 0, "{done:?}");
        }
        let text = fixture.text();
        assert!(text.contains(&format!("steps = {round}\n")) && text.contains(&format!("cpu_s = {round}\n")), "{text}");
    }
}

#[test]
fn a_file_that_is_a_link_to_nothing_is_not_passed_over() {
    let fixture = Fixture::new(Some(""));
    fs::remove_file(fixture.file()).unwrap();
    std::os::unix::fs::symlink("gone.toml", fixture.file()).unwrap();
    for args in [&["run", "hi"][..], &["config", "set", "budget.steps", "7"], &["config", "get"], &["config", "edit"]] {
        let done = fixture.program.output(args);
        assert_eq!(done.code, 2, "{args:?}: {done:?}");
        assert!(done.stderr.contains("homarus.toml is a link to nothing"), "{args:?}: {done:?}");
    }
    assert!(fixture.file().symlink_metadata().unwrap().is_symlink(), "it stays");
    assert_eq!(fixture.program.server.model_calls().len(), 0);
    assert_eq!(fixture.config(&["set", "budget.steps", "7"]).code, 2);
    fs::write(fixture.file().with_file_name("gone.toml"), "").unwrap();
    assert_eq!(fixture.config(&["set", "budget.steps", "7"]).code, 0);
    assert!(fixture.file().symlink_metadata().unwrap().is_symlink());
}

#[test]
fn a_first_edit_begins_with_the_commented_default() {
    let fixture = Fixture::new(None);
    assert_eq!(fixture.edit("true").code, 0);
    assert!(!fixture.file().exists(), "without a change there is no file");
    let done = fixture.edit("sed -i 's/^# steps = 60/steps = 9/' \"$1\"");
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(fixture.config(&["get", "budget.steps"]).stdout, "9\n");
    assert!(fixture.text().contains("# The embedded model"), "the comments are there to read");
}

#[test]
fn a_file_that_was_named_must_be_there() {
    let fixture = Fixture::new(None);
    let with = |args: &[&str]| {
        let mut command = fixture.program.command(args);
        Done::of(command.env("HOMARUS_CONFIG", fixture.program.home.join("mine.toml")).output().unwrap())
    };
    let done = with(&["models", "list"]);
    assert_eq!(done.code, 2, "{done:?}");
    assert!(done.stderr.contains("cause: HOMARUS_CONFIG names it"), "{done:?}");
    assert_eq!(with(&["config", "set", "budget.steps", "7"]).code, 0);
    assert_eq!(with(&["config", "get", "budget.steps"]).stdout, "7\n");
}

#[test]
fn what_cannot_be_written_or_read_is_said() {
    let fixture = Fixture::new(None);
    fs::create_dir_all(&fixture.program.home).unwrap();
    fs::write(fixture.program.home.join("config"), "a file where a folder should be").unwrap();
    let done = fixture.config(&["set", "budget.steps", "7"]);
    assert!(done.code != 0 && done.stderr.contains("homarus.toml cannot be read"), "{done:?}");
    fs::remove_file(fixture.program.home.join("config")).unwrap();
    fs::create_dir_all(fixture.file()).unwrap();
    let done = fixture.config(&["get"]);
    assert!(done.code == 2 && done.stderr.contains("not a file"), "{done:?}");
}
