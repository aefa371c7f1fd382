//! The built program in folders of its own, with a scripted model server.

use std::{
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use homarus_test_kit::{ModelServer, Script, Turn};
use serde_json::Value;
use tokio::runtime::Runtime;

pub struct Program {
    pub home: PathBuf,
    pub workspace: PathBuf,
    pub server: ModelServer,
    pub runtime: Runtime,
    _folder: tempfile::TempDir,
}

impl Program {
    pub fn with_turns(turns: Vec<Turn>) -> Self {
        Self::with_script(Script::new(turns))
    }

    pub fn with_script(script: Script) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let workspace = folder.path().join("workspace");
        std::fs::create_dir(&workspace).unwrap();
        std::fs::write(workspace.join("seed.txt"), "seed\n").unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let server = runtime.block_on(ModelServer::start(script)).unwrap();
        Self { home: folder.path().join("home"), workspace, server, runtime, _folder: folder }
    }

    /// `homarus` in this home, with the scripted server as an OpenAI-compatible one.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = self.bare_command(args);
        command.env("OPENAI_BASE_URL", self.server.base_url()).env("OPENAI_API_KEY", "sk-test-not-a-real-key");
        command
    }

    /// The same without any model set up.
    pub fn bare_command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_homarus"));
        command
            .args(args)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", &self.home)
            .env("HOMARUS_HOME", &self.home)
            .env("OLLAMA_HOST", "127.0.0.1:1")
            .env("LANG", "C.UTF-8")
            .current_dir(&self.workspace)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub fn output(&self, args: &[&str]) -> Done {
        Done::of(self.command(args).output().unwrap())
    }

    pub fn spawn(&self, args: &[&str]) -> Running {
        Running::of(self.command(args).spawn().unwrap())
    }

    pub fn wait_for_model_calls(&self, count: usize) {
        self.runtime.block_on(self.server.wait_for_model_calls(count));
    }

    pub fn file(&self, path: &str) -> Option<String> {
        std::fs::read_to_string(self.workspace.join(path)).ok()
    }

    /// The kinds of all events of the newest run.
    pub fn kinds(&self) -> Vec<String> {
        self.events().iter().map(|event| event["kind"].as_str().unwrap().to_owned()).collect()
    }

    pub fn events(&self) -> Vec<Value> {
        let done = self.output(&["runs", "log", "last", "--json"]);
        assert_eq!(done.code, 0, "{done:?}");
        done.json_lines()
    }

    pub fn show(&self) -> Value {
        let done = self.output(&["runs", "show", "last", "--json"]);
        serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{error}: {done:?}"))
    }

    /// Waits until the newest run's driver, and with it the last of its sandboxes, is gone.
    pub fn wait_until_unowned(&self) {
        for _ in 0..1_000 {
            if self.show()["owner_alive"] == false {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("the lock of a killed driver is still held");
    }

    pub fn verify(&self) {
        let done = self.output(&["runs", "verify"]);
        assert_eq!(done.code, 0, "{done:?}");
    }
}

#[derive(Debug)]
pub struct Done {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Done {
    pub fn of(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    pub fn json_lines(&self) -> Vec<Value> {
        let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        self.stdout.lines().map(parse).collect()
    }
}

/// A program that is under way.
pub struct Running {
    pub child: Child,
    lines: BufReader<std::process::ChildStdout>,
    errors: Option<BufReader<std::process::ChildStderr>>,
}

impl Running {
    pub fn of(mut child: Child) -> Self {
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines, errors: None }
    }

    /// Reads lines of `--json` until one of this kind; the line.
    pub fn wait_for(&mut self, kind: &str) -> Value {
        loop {
            let mut line = String::new();
            let read = self.lines.read_line(&mut line).unwrap();
            assert!(read > 0, "the program ended before {kind}: {}", self.errors());
            let value: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
            if value["kind"] == kind {
                return value;
            }
        }
    }

    /// Reads standard error until a line holds this; all that was read.
    pub fn wait_for_note(&mut self, part: &str) -> String {
        let errors = self.errors.get_or_insert_with(|| BufReader::new(self.child.stderr.take().unwrap()));
        let mut text = String::new();
        while !text.contains(part) {
            let read = errors.read_line(&mut text).unwrap();
            assert!(read > 0, "the program ended without {part:?}: {text}");
        }
        text
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    /// Waits for its end; `stdout` is what had not been read yet.
    pub fn finish(&mut self) -> Done {
        let mut stdout = String::new();
        self.lines.read_to_string(&mut stdout).unwrap();
        let stderr = self.errors();
        let code = self.child.wait().unwrap().code().unwrap_or(-1);
        Done { code, stdout, stderr }
    }

    fn errors(&mut self) -> String {
        let mut text = String::new();
        if let Some(errors) = &mut self.errors {
            let _ = errors.read_to_string(&mut text);
        } else if let Some(stderr) = &mut self.child.stderr {
            let _ = stderr.read_to_string(&mut text);
        }
        text
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn is_empty(folder: &Path) -> bool {
    std::fs::read_dir(folder).map_or(true, |mut entries| entries.next().is_none())
}
