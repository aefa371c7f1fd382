//! Embedded models by name: each one whose weights are here can be asked, whichever is configured. The worker is a
//! stand-in that tells which weights it was given, in the sandbox of the real one.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

use crate::program::{Done, Program};

const QWEN: &str = "Qwen2.5-Coder-1.5B-Instruct-Q4_K_M.gguf";
const SMOL: &str = "SmolLM2-135M-Instruct.Q4_1.gguf";

const WORKER: &str = r#"#!/bin/sh
if [ "$1" = --version ]; then echo "homarus-local-model VERSION"; exit; fi
weights=${2##*/}
echo '{"type":"ready","model":"stand-in","context_tokens":4096}'
while read -r line; do
  id=${line#*\"id\":}; id=${id%%,*}
  case $line in *"be slow"*) [ -s "$2" ] && sleep 60;; esac
  echo "{\"type\":\"text\",\"id\":$id,\"delta\":\"answered with $weights\"}"
  echo "{\"type\":\"done\",\"id\":$id,\"stop\":\"end_turn\",\"input_tokens\":1,\"cached_tokens\":0,\"output_tokens\":1}"
done
"#;

struct Embedded {
    program: Program,
}

impl Embedded {
    fn new(version: &str) -> Self {
        let program = Program::with_turns(Vec::new());
        for folder in ["config", "models"] {
            fs::create_dir_all(program.home.join(folder)).unwrap();
        }
        let worker = program.home.parent().unwrap().join("worker");
        fs::write(&worker, WORKER.replace("VERSION", version)).unwrap();
        fs::set_permissions(&worker, fs::Permissions::from_mode(0o755)).unwrap();
        let config = format!("[models.local]\nworker = \"{}\"\n", worker.display());
        fs::write(program.home.join("config/homarus.toml"), config).unwrap();
        Self { program }
    }

    fn weights(&self, name: &str) -> PathBuf {
        self.program.home.join("models").join(name)
    }

    fn have(&self, name: &str, content: &str) {
        fs::write(self.weights(name), content).unwrap();
    }

    fn output(&self, args: &[&str]) -> Done {
        Done::of(self.program.bare_command(args).output().unwrap())
    }
}

#[test]
fn each_model_whose_weights_are_here_can_be_named() {
    let embedded = Embedded::new("0");
    embedded.have(QWEN, "weights");
    embedded.have(SMOL, "weights");
    let answer = |args: &[&str]| {
        let done = embedded.output(args);
        assert_eq!(done.code, 0, "{done:?}");
        done.stdout
    };
    assert_eq!(answer(&["run", "hi"]), format!("answered with {QWEN}\n"), "the configured one");
    assert_eq!(answer(&["run", "hi", "--model", "local/smollm2-135m"]), format!("answered with {SMOL}\n"));
    assert_eq!(embedded.program.events()[0]["models"][0], "local/smollm2-135m");
    let list = answer(&["models", "list", "--json"]);
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    let local = list["providers"].as_array().unwrap().iter().find(|row| row["provider"] == "local").unwrap();
    assert_eq!(local["models"], serde_json::json!(["qwen2.5-coder-1.5b", "smollm2-135m"]));
}

#[test]
fn what_is_not_here_is_said_with_the_command_that_fetches_it() {
    let embedded = Embedded::new("0");
    embedded.have(QWEN, "weights");
    let refused = |model: &str, part: &str| {
        let done = embedded.output(&["run", "hi", "--model", model]);
        assert_eq!(done.code, 2, "{done:?}");
        assert!(done.stderr.contains(part), "{part:?} is not in {}", done.stderr);
    };
    refused("local/smollm2-135m", "`homarus models pull smollm2-135m`");
    refused("local/smollm2-135", "did you mean `smollm2-135m`?");
    fs::remove_file(embedded.program.home.join("config/homarus.toml")).unwrap();
    refused("local/qwen2.5-coder-1.5b", "no worker");
}

#[test]
fn a_run_whose_weights_are_gone_is_left_alone_until_they_are_back() {
    let embedded = Embedded::new("0");
    embedded.have(SMOL, "weights");
    let program = &embedded.program;
    let mut command = program.bare_command(&["run", "be slow", "--model", "local/smollm2-135m", "--json"]);
    let mut running = crate::program::Running::of(command.spawn().unwrap());
    running.wait_for("model_intent");
    running.kill();
    program.wait_until_unowned();
    fs::remove_file(embedded.weights(SMOL)).unwrap();
    let done = embedded.output(&["runs", "resume", "last"]);
    assert_eq!(done.code, 2, "{done:?}");
    assert!(done.stderr.contains("homarus models pull smollm2-135m"), "{done:?}");
    assert_eq!(program.show()["status"], "running", "nothing was written to it");
    // Empty weights make the stand-in fast.
    embedded.have(SMOL, "");
    let done = embedded.output(&["runs", "resume", "last"]);
    assert_eq!((done.code, done.stdout), (0, format!("answered with {SMOL}\n")));
}

#[test]
fn the_doctor_asks_the_worker_for_its_version() {
    let severity = |embedded: &Embedded| {
        let done = embedded.output(&["doctor", "local", "--json"]);
        let found: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
        let of_version = |one: &&serde_json::Value| one["id"] == "local.version";
        found["findings"].as_array().unwrap().iter().find(of_version).unwrap()["severity"].clone()
    };
    assert_eq!(severity(&Embedded::new(env!("CARGO_PKG_VERSION"))), "ok");
    assert_eq!(severity(&Embedded::new("0.0.0-old")), "warning");
}
