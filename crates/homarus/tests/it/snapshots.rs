//! What the program prints, word for word: help, errors with their exit codes, first steps. The cases are in `tests/cmd`;
//! `TRYCMD=overwrite cargo test -p homarus snapshots` writes what is printed now, to be looked at before it is committed.

use std::path::Path;

/// Runs the commands of a file in a home of its own, with these variables.
fn check(file: &str, variables: &[(&str, &str)]) {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    let cases = trycmd::TestCases::new();
    cases.register_bin("homarus", Path::new(env!("CARGO_BIN_EXE_homarus")));
    // Whatever is set where the tests run: what is empty counts as not set.
    for name in ["ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", "OPENAI_API_KEY", "OPENAI_BASE_URL", "HOMARUS_CONFIG"] {
        cases.env(name, "");
    }
    for name in ["HOMARUS_MODELS_DIR", "ACCESSIBLE", "CLICOLOR_FORCE", "VISUAL", "EDITOR"] {
        cases.env(name, "");
    }
    cases.env("HOMARUS_HOME", home.to_str().unwrap());
    cases.env("OLLAMA_HOST", "127.0.0.1:1");
    // The width that help is laid out for.
    cases.env("COLUMNS", "100");
    for (name, value) in variables {
        cases.env(*name, *value);
    }
    cases.insert_var("[HOME]", home.display().to_string()).unwrap();
    cases.case(format!("tests/cmd/{file}.trycmd"));
    cases.run();
}

#[test]
fn snapshots_of_help() {
    check("help", &[]);
}

#[test]
fn snapshots_of_errors() {
    check("errors", &[]);
}

#[test]
fn snapshots_before_the_first_run() {
    check("empty", &[]);
}

#[test]
fn snapshots_of_the_configuration() {
    check("config", &[("HOMARUS_CONFIG", "homarus.toml")]);
}
