//! The embedded model, end to end: the real worker with real weights, in its sandbox.
//!
//! `HOMARUS_TEST_LOCAL_MODEL` names the worker and `HOMARUS_MODELS_DIR` the folder of the weights
//! (`cargo xtask test` sets both); elsewhere these tests say that they were skipped.

use std::path::Path;

use crate::program::Program;

#[test]
fn embedded_model_answers_through_its_sandboxed_worker() {
    let (Ok(worker), Ok(models)) = (std::env::var("HOMARUS_TEST_LOCAL_MODEL"), std::env::var("HOMARUS_MODELS_DIR"))
    else {
        println!("skipped: HOMARUS_TEST_LOCAL_MODEL or HOMARUS_MODELS_DIR is not set");
        return;
    };
    assert!(Path::new(&worker).is_file(), "{worker}");
    let program = Program::with_turns(Vec::new());
    std::fs::create_dir_all(program.home.join("config")).unwrap();
    let config = format!("[models.local]\nworker = \"{worker}\"\n");
    std::fs::write(program.home.join("config/homarus.toml"), config).unwrap();
    let mut command = program.bare_command(&["models", "test", "--json"]);
    let output = command.env("HOMARUS_MODELS_DIR", models).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let test: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(test["model"], "local/qwen2.5-coder-1.5b", "chosen because nothing else is set up");
    assert!(test["answer"].as_str().unwrap().to_lowercase().contains("ready"), "{test}");
    assert!(test["output_tokens"].as_u64().unwrap() > 0, "{test}");
    program.verify();
}
