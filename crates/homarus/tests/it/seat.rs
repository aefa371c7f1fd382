//! A pseudo-terminal that is the program's controlling one, with its screen and scrollback emulated.

use std::{
    fs::File,
    io::{Read, Write},
    num::NonZero,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use nix::{
    fcntl::{FcntlArg, FdFlag, fcntl},
    pty::{Winsize, openpty},
    sys::termios::{LocalFlags, tcgetattr},
};

use crate::program::Program;

const SCROLLBACK_ROWS: usize = 5_000;

pub struct Terminal {
    pub child: Child,
    pub keyboard: File,
    raw: Arc<Mutex<Vec<u8>>>,
    emulated: Arc<Mutex<vt100::Parser>>,
}

impl Terminal {
    pub fn run(program: &Program, args: &[&str]) -> Self {
        Self::sized(program, args, 80, 24, &[("NO_COLOR", "1")])
    }

    pub fn sized(program: &Program, args: &[&str], columns: u16, rows: u16, env: &[(&str, &str)]) -> Self {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(Some(&size), None).unwrap();
        // The program must not hold its own terminal open: it would never learn that it is gone.
        for end in [&pty.master, &pty.slave] {
            fcntl(end, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).unwrap();
        }
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
        command.env("TERM", "xterm-256color").envs(env.iter().copied()).current_dir(&program.workspace);
        command.stdin(seat.try_clone().unwrap()).stdout(Stdio::from(seat.try_clone().unwrap())).stderr(seat);
        let child = command.spawn().unwrap();
        let raw = Arc::new(Mutex::new(Vec::new()));
        let emulated = Arc::new(Mutex::new(vt100::Parser::new(some(rows), some(columns), SCROLLBACK_ROWS)));
        let (mut reader, seen, drawn) = (keyboard.try_clone().unwrap(), raw.clone(), emulated.clone());
        std::thread::spawn(move || {
            let mut buffer = [0u8; 4096];
            while let Ok(read) = reader.read(&mut buffer) {
                if read == 0 {
                    break;
                }
                seen.lock().unwrap().extend_from_slice(&buffer[..read]);
                drawn.lock().unwrap().process(&buffer[..read]);
            }
        });
        Self { child, keyboard, raw, emulated }
    }

    pub fn type_keys(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Everything that was ever written.
    pub fn written(&self) -> String {
        String::from_utf8_lossy(&self.raw.lock().unwrap()).into_owned()
    }

    /// What stands on the screen now.
    pub fn screen(&self) -> String {
        self.emulated.lock().unwrap().screen().contents()
    }

    /// The scrollback and the screen.
    pub fn page(&self) -> String {
        let mut parser = self.emulated.lock().unwrap();
        let (rows, _) = parser.screen().size();
        parser.screen_mut().set_scrollback(SCROLLBACK_ROWS);
        let mut back = parser.screen().scrollback();
        let mut page = Vec::new();
        // The oldest rows first, a screen at a time.
        loop {
            parser.screen_mut().set_scrollback(back);
            let shown = parser.screen().rows(0, u16::MAX).collect::<Vec<_>>();
            if back == 0 {
                page.extend(shown);
                break;
            }
            let fresh = back.min(usize::from(rows.get()));
            page.extend(shown.into_iter().take(fresh));
            back -= fresh;
        }
        page.join("\n")
    }

    pub fn wait_for(&mut self, part: &str) {
        self.wait_until(&format!("{part:?}"), |terminal| terminal.written().contains(part));
    }

    pub fn wait_on_screen(&mut self, part: &str) {
        self.wait_until(&format!("{part:?} on the screen"), |terminal| terminal.screen().contains(part));
    }

    pub fn wait_until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        while !holds(self) {
            if let Some(status) = self.child.try_wait().unwrap() {
                // What it wrote last may not have been read yet.
                std::thread::sleep(Duration::from_millis(200));
                assert!(holds(self), "ended with {status} without {what}: {}", self.written());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn resize(&mut self, columns: u16, rows: u16) {
        // First the screen: what the program draws at its new size must find it so.
        self.emulated.lock().unwrap().screen_mut().set_size(some(rows), some(columns));
        rustix::termios::tcsetwinsize(
            &self.keyboard,
            rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 },
        )
        .unwrap();
    }

    /// Types an answer until the program has ended, with pauses: without them none would count.
    pub fn answer_to_the_end(&mut self, keys: &str) -> i32 {
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code().unwrap_or(-1);
            }
            let _ = self.keyboard.write_all(keys.as_bytes());
            std::thread::sleep(Duration::from_secs(1));
        }
    }

    pub fn end(&mut self) -> i32 {
        let code = self.child.wait().unwrap().code().unwrap_or(-1);
        std::thread::sleep(Duration::from_millis(100));
        code
    }

    /// The id of the program itself: of the child, or of the child's first child if `setsid` had to fork.
    pub fn program_pid(&self) -> nix::unistd::Pid {
        let id = self.child.id();
        let program = std::fs::read_link(format!("/proc/{id}/exe")).unwrap();
        if program.file_name() == Path::new(env!("CARGO_BIN_EXE_homarus")).file_name() {
            return nix::unistd::Pid::from_raw(id.cast_signed());
        }
        let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
        let first = children.split_whitespace().next().map_or(id, |text| text.parse().unwrap());
        nix::unistd::Pid::from_raw(first as i32)
    }

    /// Whether lines are edited and echoed as a shell expects it, and no mode of ours is left on.
    pub fn is_given_back(&self) -> bool {
        let modes = tcgetattr(&self.keyboard).unwrap().local_flags;
        let written = self.written();
        let last = |on: &str, off: &str| written.rfind(off) >= written.rfind(on);
        modes.contains(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG)
            && last("\x1b[?2004h", "\x1b[?2004l")
            && last("\x1b[?25l", "\x1b[?25h")
            && last("\x1b[?1049h", "\x1b[?1049l")
    }
}

fn some(size: u16) -> NonZero<u16> {
    NonZero::new(size).unwrap()
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
