//! Approvals at a real terminal: a pseudo-terminal that is the program's controlling one.

use std::{
    fs::File,
    io::{Read, Write},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use homarus_test_kit::Turn;
use nix::pty::openpty;
use serde_json::json;

use crate::program::Program;

struct Terminal {
    child: Child,
    keyboard: File,
    screen: Arc<Mutex<String>>,
}

impl Terminal {
    fn run(program: &Program, args: &[&str]) -> Self {
        let pty = openpty(None, None).unwrap();
        let keyboard = File::from(pty.master);
        let seat = File::from(pty.slave);
        let plain = program.command(args);
        let mut command = Command::new("setsid");
        command.args(["--ctty", "--wait"]).arg(plain.get_program()).args(plain.get_args()).env_clear();
        for (name, value) in plain.get_envs() {
            if let Some(value) = value {
                command.env(name, value);
            }
        }
        command.env("NO_COLOR", "1").current_dir(&program.workspace);
        command.stdin(seat.try_clone().unwrap()).stdout(Stdio::from(seat.try_clone().unwrap())).stderr(seat);
        let child = command.spawn().unwrap();
        let screen = Arc::new(Mutex::new(String::new()));
        let (mut reader, seen) = (keyboard.try_clone().unwrap(), screen.clone());
        std::thread::spawn(move || {
            let mut buffer = [0u8; 4096];
            while let Ok(read) = reader.read(&mut buffer) {
                if read == 0 {
                    break;
                }
                seen.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..read]));
            }
        });
        Self { child, keyboard, screen }
    }

    fn type_keys(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    fn wait_for(&mut self, part: &str) {
        while !self.screen().contains(part) {
            assert!(self.child.try_wait().unwrap().is_none(), "ended without {part:?}: {}", self.screen());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Types an answer until the program has ended: one typed in the instant between the question
    /// and its being ready for keys is thrown away, as it should be.
    fn answer_to_the_end(&mut self, keys: &str) -> i32 {
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code().unwrap_or(-1);
            }
            let _ = self.keyboard.write_all(keys.as_bytes());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn screen(&self) -> String {
        self.screen.lock().unwrap().clone()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn write(content: &str) -> Turn {
    Turn::call("file.write", json!({ "path": "a.txt", "content": content }))
}

#[test]
fn a_yes_at_the_terminal_merges_the_shown_diff() {
    let program = Program::with_turns(vec![write("hello\n"), Turn::text("Done."), Turn::text("Checked.")]);
    let mut terminal = Terminal::run(&program, &["run", "do it"]);
    terminal.wait_for("allow it?");
    assert!(terminal.screen().contains("+hello"), "{}", terminal.screen());
    assert_eq!(program.file("a.txt"), None);
    assert_eq!(terminal.answer_to_the_end("y\n"), 0, "{}", terminal.screen());
    assert_eq!(program.file("a.txt").as_deref(), Some("hello\n"));
    let decided = program.events().into_iter().find(|event| event["kind"] == "approval_decided").unwrap();
    assert!(decided["approval"]["who"].as_str().unwrap().starts_with("terminal:"), "{decided}");
}

#[test]
fn keys_typed_before_the_question_never_answer_it() {
    let program = Program::with_turns(vec![write("hello\n").hold(), Turn::text("Done.")]);
    let mut terminal = Terminal::run(&program, &["run", "do it"]);
    program.wait_for_model_calls(1);
    terminal.type_keys(&"y\n".repeat(50));
    program.server.release();
    terminal.wait_for("allow it?");
    terminal.answer_to_the_end("n\n");
    assert_eq!(program.file("a.txt"), None, "{}", terminal.screen());
    let decided = program.events().into_iter().find(|event| event["kind"] == "approval_decided").unwrap();
    assert_eq!(decided["approval"]["granted"], false, "{decided}");
}

#[test]
fn what_is_asked_about_cannot_draw_on_the_terminal() {
    let evil = "\u{1b}[2J\u{1b}[1;1Hallow it? y\u{202e}\r\n";
    let program = Program::with_turns(vec![write(evil), Turn::text("Done.")]);
    let mut terminal = Terminal::run(&program, &["run", "do it"]);
    terminal.wait_for("[y]es");
    let screen = terminal.screen();
    assert!(!screen.contains('\u{1b}') && !screen.contains('\u{202e}'), "{screen:?}");
    terminal.answer_to_the_end("n\n");
    assert_eq!(program.file("a.txt"), None);
}
