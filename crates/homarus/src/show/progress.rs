//! How far long work is: a bar on a terminal; elsewhere, and with `ACCESSIBLE`, a line now and then.

use std::{
    io::{self, IsTerminal, Write},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};

use super::style::Style;

/// Plain lines are this far apart.
const STEP_PERCENT: u64 = 10;
const REDRAW: Duration = Duration::from_millis(200);

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Bytes,
    Packages,
    Attacks,
}

pub enum Progress {
    Bar(ProgressBar),
    Lines(Lines<io::Stderr>),
    Silent,
}

impl Progress {
    /// `quiet`: says nothing, for a command whose reader is a program.
    pub fn new(what: &str, length: u64, unit: Unit, quiet: bool) -> Self {
        if quiet {
            return Self::Silent;
        }
        if Style::for_stderr().is_plain() || !io::stderr().is_terminal() {
            return Self::Lines(Lines::new(what, length, unit, io::stderr()));
        }
        let counted = match unit {
            Unit::Bytes => "{bytes} of {total_bytes}, {eta} left",
            Unit::Packages => "{pos} of {len} packages",
            Unit::Attacks => "{pos} of {len}",
        };
        let bar = ProgressBar::new(length).with_message(what.to_owned());
        bar.enable_steady_tick(REDRAW);
        Self::Bar(match ProgressStyle::with_template(&format!("{{msg}} {{wide_bar}} {counted}")) {
            Ok(style) => bar.with_style(style),
            Err(_) => bar,
        })
    }

    pub fn set(&mut self, position: u64) {
        match self {
            Self::Bar(bar) => bar.set_position(position),
            Self::Lines(lines) => lines.set(position),
            Self::Silent => {}
        }
    }

    pub fn finish(self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

/// The plain mode.
pub struct Lines<W> {
    what: String,
    length: u64,
    unit: Unit,
    /// The next share, in percent, that is worth a line.
    next: u64,
    out: W,
}

impl<W: Write> Lines<W> {
    fn new(what: &str, length: u64, unit: Unit, out: W) -> Self {
        Self { what: what.to_owned(), length, unit, next: 0, out }
    }

    fn set(&mut self, position: u64) {
        let share = (u128::from(position) * 100 / u128::from(self.length.max(1))).min(100) as u64;
        if share < self.next {
            return;
        }
        self.next = (share / STEP_PERCENT + 1) * STEP_PERCENT;
        let (done, all, unit) = match self.unit {
            Unit::Bytes => (position / 1_000_000, self.length / 1_000_000, "MB"),
            Unit::Packages => (position, self.length, "packages"),
            Unit::Attacks => (position, self.length, "tried"),
        };
        // Where nobody reads it, nobody misses it.
        let _ = writeln!(self.out, "{}: {done} of {all} {unit}, {share} %", self.what);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_now_and_then_and_never_two_for_one_share() {
        let mut lines = Lines::new("x", 22, Unit::Packages, Vec::new());
        (0..=22).for_each(|position| lines.set(position));
        lines.set(22);
        let text = String::from_utf8(lines.out).unwrap();
        assert_eq!(text.lines().next(), Some("x: 0 of 22 packages, 0 %"));
        assert_eq!(text.lines().last(), Some("x: 22 of 22 packages, 100 %"));
        assert_eq!(text.lines().count(), 11, "{text}");

        let mut lines = Lines::new("x", 1_000_000_000, Unit::Bytes, Vec::new());
        (0..=10_000).for_each(|step| lines.set(step * 100_000));
        let text = String::from_utf8(lines.out).unwrap();
        assert_eq!(text.lines().count(), 11, "{text}");
        assert!(text.contains("x: 500 of 1000 MB, 50 %\n"), "{text}");
    }

    #[test]
    fn nothing_to_do_is_no_division() {
        let mut lines = Lines::new("x", 0, Unit::Bytes, Vec::new());
        lines.set(5);
        assert!(String::from_utf8(lines.out).unwrap().contains("100 %"));
    }
}
