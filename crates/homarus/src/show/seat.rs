//! The terminal, taken over for single keys and always given back: at the end, on an error, on a panic,
//! and before the process leaves at once.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    sync::atomic::{AtomicBool, Ordering},
};

use crossterm::terminal::{disable_raw_mode, enable_raw_mode};
use rustix::termios::{
    LocalModes, OptionalActions, OutputModes, QueueSelector, tcflush, tcgetattr, tcgetwinsize, tcsetattr,
};

/// Whether this process holds the terminal now; at most one seat is taken at a time.
static TAKEN: AtomicBool = AtomicBool::new(false);
static ALTERNATE: AtomicBool = AtomicBool::new(false);

const PASTE_ON: &str = "\x1b[?2004h";
const PASTE_OFF: &str = "\x1b[?2004l";
const CURSOR_ON: &str = "\x1b[?25h";
const ALTERNATE_ON: &str = "\x1b[?1049h";
const ALTERNATE_OFF: &str = "\x1b[?1049l";

/// What Ctrl-C and Ctrl-Z do while the seat is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signals {
    /// What they always do.
    Kept,
    /// They are keys like others.
    Keys,
}

pub struct Seat {
    tty: File,
    signals: Signals,
}

impl Seat {
    /// Keys arrive singly and unechoed from here on, and pasted text arrives marked as such.
    pub fn take(signals: Signals) -> io::Result<Self> {
        let mut seat = Self { tty: open()?, signals };
        if TAKEN.swap(true, Ordering::SeqCst) {
            return Err(io::Error::other("the terminal is in use by another part of this program"));
        }
        seat.enter().inspect_err(|_| give_back())?;
        Ok(seat)
    }

    /// Columns and rows.
    pub fn size(&self) -> (usize, usize) {
        match tcgetwinsize(&self.tty) {
            Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col.into(), size.ws_row.into()),
            _ => (80, 24),
        }
    }

    /// What cannot be written is lost; the journal has it.
    pub fn write(&mut self, text: &str) {
        let _ = self.tty.write_all(text.as_bytes()).and_then(|()| self.tty.flush());
    }

    /// Throws away what was typed and not read yet.
    pub fn drain(&self) {
        let _ = tcflush(&self.tty, QueueSelector::IFlush);
    }

    /// Shows another screen for a while, or goes back to the one with the scrollback.
    pub fn alternate(&mut self, on: bool) {
        if ALTERNATE.swap(on, Ordering::SeqCst) != on {
            self.write(if on { ALTERNATE_ON } else { ALTERNATE_OFF });
        }
    }

    /// Gives the terminal back, stops this process as Ctrl-Z does, and takes the terminal again when
    /// somebody lets it go on.
    pub fn suspend(&mut self) -> io::Result<()> {
        give_back();
        let stopped = nix::sys::signal::raise(nix::sys::signal::Signal::SIGTSTP);
        TAKEN.store(true, Ordering::SeqCst);
        self.enter()?;
        stopped.map_err(io::Error::from)
    }

    fn enter(&mut self) -> io::Result<()> {
        enable_raw_mode()?;
        let mut modes = tcgetattr(&self.tty)?;
        // Output keeps its line ends, so that what others print in between reads well.
        modes.output_modes |= OutputModes::OPOST | OutputModes::ONLCR;
        if self.signals == Signals::Kept {
            modes.local_modes |= LocalModes::ISIG;
        }
        tcsetattr(&self.tty, OptionalActions::Now, &modes)?;
        self.write(PASTE_ON);
        Ok(())
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        give_back();
    }
}

/// Gives the terminal back if it is taken.
pub fn give_back() {
    if !TAKEN.swap(false, Ordering::SeqCst) {
        return;
    }
    if let Ok(mut tty) = open() {
        let leave = if ALTERNATE.swap(false, Ordering::SeqCst) { ALTERNATE_OFF } else { "" };
        let _ = write!(tty, "{leave}{PASTE_OFF}{CURSOR_ON}").and_then(|()| tty.flush());
    }
    let _ = disable_raw_mode();
}

/// The controlling terminal, whatever standard input and output are.
pub fn open() -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open("/dev/tty")
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        io::Read,
        process::{Command, Stdio},
    };

    use nix::{
        pty::openpty,
        sys::termios::{LocalFlags, tcgetattr},
    };

    use super::*;

    #[test]
    #[ignore = "started by the test below, at a terminal of its own"]
    fn takes_the_seat_and_panics() {
        let mut seat = Seat::take(Signals::Keys).unwrap();
        seat.alternate(true);
        panic!("on purpose");
    }

    #[test]
    fn a_panic_gives_the_terminal_back() {
        let pty = openpty(None, None).unwrap();
        let (mut keyboard, seat) = (File::from(pty.master), File::from(pty.slave));
        let before = tcgetattr(&seat).unwrap();
        let mut child = Command::new("setsid")
            .args(["--ctty", "--wait"])
            .arg(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "show::seat::tests::takes_the_seat_and_panics", "--nocapture"])
            .stdin(seat.try_clone().unwrap())
            .stdout(Stdio::from(seat.try_clone().unwrap()))
            .stderr(seat.try_clone().unwrap())
            .spawn()
            .unwrap();
        assert!(!child.wait().unwrap().success());
        assert_eq!(tcgetattr(&seat).unwrap().local_flags, before.local_flags);
        assert!(before.local_flags.contains(LocalFlags::ICANON | LocalFlags::ECHO));
        drop(seat);
        let mut written = Vec::new();
        // The end of a pseudo-terminal is an error; what was read until then is there.
        let _ = keyboard.read_to_end(&mut written);
        let written = String::from_utf8_lossy(&written);
        let at = |part: &str| written.rfind(part).unwrap_or_else(|| panic!("{part:?} is missing: {written}"));
        assert!(at("on purpose") > at(ALTERNATE_ON), "{written}");
        assert!(at(PASTE_OFF) > at(PASTE_ON) && at(ALTERNATE_OFF) > at(ALTERNATE_ON), "{written}");
    }
}
