//! The chat in tmux: a terminal of other people's making.

use std::process::Command;

use crate::program::Program;

pub struct Tmux {
    socket: std::path::PathBuf,
}

impl Tmux {
    pub fn start(program: &Program, columns: u16, rows: u16) -> Self {
        let tmux = Self { socket: program.home.with_file_name("tmux") };
        let (columns, rows) = (columns.to_string(), rows.to_string());
        let plain = program.command(&["chat"]);
        let mut args: Vec<String> = ["new-session", "-d", "-x", &columns, "-y", &rows].map(str::to_owned).to_vec();
        for (name, value) in plain.get_envs() {
            if let (name, Some(value)) = (name.to_string_lossy(), value) {
                args.extend(["-e".to_owned(), format!("{name}={}", value.to_string_lossy())]);
            }
        }
        // A shell that stays keeps the screen after the chat has ended.
        args.push(format!(
            "cd {}; {} chat; exec cat",
            program.workspace.display(),
            plain.get_program().to_string_lossy()
        ));
        tmux.run(&args.iter().map(String::as_str).collect::<Vec<_>>());
        tmux
    }

    pub fn run(&self, args: &[&str]) -> String {
        let done = Command::new("tmux")
            .args(["-u", "-f", "/dev/null"])
            .arg("-S")
            .arg(&self.socket)
            .args(args)
            .output()
            .unwrap();
        assert!(done.status.success(), "{args:?}: {done:?}");
        String::from_utf8_lossy(&done.stdout).into_owned()
    }

    pub fn keys(&self, keys: &[&str]) {
        self.run(&[&["send-keys"], keys].concat());
    }

    pub fn page(&self) -> String {
        self.run(&["capture-pane", "-p", "-S", "-"])
    }

    pub fn wait_for(&self, part: &str) {
        while !self.page().contains(part) {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        let _ = Command::new("tmux").arg("-S").arg(&self.socket).arg("kill-server").output();
    }
}
