//! Asking the person at the terminal.
//!
//! The question is shown on, and answered from, the controlling terminal, never standard input. What
//! is shown is neutralised, so that an action cannot draw its own question. Keys typed before the
//! question stood there are thrown away; what counts as an answer is said in [`answer`].

pub mod answer;

use std::{
    io::{Read, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use crossterm::event::{self, Event as Key, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use homarus_contract::BoxFuture;
use homarus_driver::ports::{Approver, Decision, Question};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use self::answer::{Answer, Heard, Input, QUIET_MS};
use crate::{
    env,
    show::{
        pager::Pager,
        question::{self, Shown},
        seat::{self, Seat, Signals},
        style::Style,
        styled::{Line, wrap_all},
    },
};

const TICK: Duration = Duration::from_millis(50);
const LINE_BYTES_MAX: usize = 1024;

/// Who is asked.
pub enum Asking {
    /// The person at this terminal.
    Terminal,
    /// Nobody here: an answer comes by `homarus runs approve` while this process waits for it.
    OtherProcess,
    /// Nobody: the run rests until somebody answers and resumes it.
    Nobody,
}

pub struct TerminalApprover {
    asking: Asking,
}

impl TerminalApprover {
    pub fn new(asking: Asking) -> Self {
        Self { asking }
    }

    /// Whether there is a terminal to ask at.
    pub fn has_terminal() -> bool {
        seat::open().is_ok()
    }
}

impl Approver for TerminalApprover {
    fn ask(&self, question: Question) -> BoxFuture<'_, Option<Decision>> {
        match self.asking {
            Asking::Nobody => Box::pin(std::future::ready(None)),
            Asking::OtherProcess => {
                let run = question.run.clone();
                crate::put::say!("\n{}", painted(&Shown::of(&question).lines(), Style::for_stderr()));
                crate::put::say!("waiting for `homarus runs approve {run}` (or `--deny`)");
                Box::pin(std::future::pending())
            }
            Asking::Terminal => Box::pin(ask_at_terminal(question)),
        }
    }
}

/// A decision of the person at this keyboard.
pub fn decision(granted: bool, why: String) -> Decision {
    Decision { granted, who: format!("terminal:{}", env::user()), why }
}

/// A key as far as answers are concerned.
pub fn input_of(key: &KeyEvent) -> Input {
    let bare = key.modifiers.difference(KeyModifiers::SHIFT).is_empty();
    match key.code {
        KeyCode::Enter => Input::Enter,
        KeyCode::Char('j') if key.modifiers == KeyModifiers::CONTROL => Input::Enter,
        KeyCode::Backspace if bare => Input::Backspace,
        KeyCode::Char(c) if bare => Input::Char(c),
        _ => Input::Other,
    }
}

async fn ask_at_terminal(question: Question) -> Option<Decision> {
    let over = Arc::new(AtomicBool::new(false));
    let _end_with_us = EndOnDrop(over.clone());
    let answer = tokio::task::spawn_blocking(move || {
        if env::wants_plain_lines() { converse_plainly(&question, &over) } else { converse(&question, &over) }
    });
    answer.await.ok().flatten()
}

/// Tells the reading thread that its answer is not wanted any more.
struct EndOnDrop(Arc<AtomicBool>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn painted(lines: &[Line], style: Style) -> String {
    lines.iter().map(|line| line.paint(style)).collect::<Vec<_>>().join("\n")
}

/// Keys are read one by one; `None` when the terminal is gone or the answer is not wanted any more.
fn converse(question: &Question, over: &AtomicBool) -> Option<Decision> {
    let style = Style::for_terminal();
    let mut seat = Seat::take(Signals::Kept).ok()?;
    let (columns, rows) = seat.size();
    let lines = wrap_all(&Shown::in_short(question, rows.saturating_sub(6), "v").lines(), columns, 2);
    seat.write(&format!("\n{}\n", painted(&lines, style)));
    seat.drain();
    let clock = Instant::now();
    let now_ms = || clock.elapsed().as_millis() as u64;
    let mut answer = Answer::new(now_ms());
    let mut shown = Line::default();
    loop {
        let prompt = match answer.listens() {
            true => question::prompt(columns, answer.line()),
            false => Line::plain(&format!("… keys count {QUIET_MS} ms after the last one")),
        };
        if prompt != shown {
            seat.write(&format!("\r\x1b[K{}", prompt.cut(columns.saturating_sub(1)).paint(style)));
            shown = prompt;
        }
        let ready = event::poll(TICK).ok()?;
        if over.load(Ordering::Relaxed) {
            seat.write("\n");
            return None;
        }
        if !ready {
            answer.idle(now_ms());
            continue;
        }
        let heard = match event::read().ok()? {
            Key::Key(key) if key.kind == KeyEventKind::Release => continue,
            Key::Key(key) => answer.input(&input_of(&key), now_ms()),
            Key::Resize(..) => continue,
            _ => answer.input(&Input::Other, now_ms()),
        };
        let decided = match heard {
            Heard::Yes => decision(true, String::new()),
            Heard::No { why } => decision(false, why),
            Heard::View => {
                page(&mut seat, question, style, over)?;
                seat.drain();
                answer = Answer::new(now_ms());
                continue;
            }
            Heard::Taken | Heard::Elsewhere(_) => continue,
        };
        seat.write("\n");
        return Some(decided);
    }
}

/// The whole question on a screen of its own, until the reader closes it.
fn page(seat: &mut Seat, question: &Question, style: Style, over: &AtomicBool) -> Option<()> {
    let mut pager = Pager::new(question::title(question), question::all(question));
    seat.alternate(true);
    loop {
        let (columns, rows) = seat.size();
        let screen: Vec<String> = pager.screen(columns, rows).iter().map(|line| line.paint(style)).collect();
        seat.write(&format!("\x1b[H\x1b[2J{}", screen.join("\r\n")));
        while !event::poll(TICK).ok()? {
            if over.load(Ordering::Relaxed) {
                return None;
            }
        }
        if let Key::Key(key) = event::read().ok()?
            && key.kind != KeyEventKind::Release
            && !pager.key(key)
        {
            seat.alternate(false);
            return Some(());
        }
    }
}

/// For screen readers and simple terminals: whole lines, nothing redrawn.
fn converse_plainly(question: &Question, over: &AtomicBool) -> Option<Decision> {
    let mut terminal = seat::open().ok()?;
    let style = Style::for_terminal();
    write!(terminal, "\n{}\n", painted(&Shown::of(question).lines(), style)).ok()?;
    loop {
        wait_for_quiet(&mut terminal, over)?;
        write!(terminal, "  allow it? y, n or v (view all), then Enter: ").ok()?;
        terminal.flush().ok()?;
        let line = read_line(&mut terminal, over)?;
        let mut answer = Answer::new(0);
        answer.idle(QUIET_MS);
        let typed = line.chars().map(Input::Char).chain([Input::Enter]);
        let heard = typed.map(|input| answer.input(&input, QUIET_MS)).last();
        match heard {
            Some(Heard::Yes) => return Some(decision(true, String::new())),
            Some(Heard::No { why }) => return Some(decision(false, why)),
            Some(Heard::View) => writeln!(terminal, "{}", painted(&question::all(question), style)).ok()?,
            _ => writeln!(terminal, "  that is no answer").ok()?,
        }
    }
}

/// Throws away what is typed until nothing was for a while.
fn wait_for_quiet(terminal: &mut std::fs::File, over: &AtomicBool) -> Option<()> {
    let quiet = Duration::from_millis(QUIET_MS);
    let mut since = Instant::now();
    rustix::termios::tcflush(&*terminal, rustix::termios::QueueSelector::IFlush).ok()?;
    while since.elapsed() < quiet {
        if readable(terminal)? {
            rustix::termios::tcflush(&*terminal, rustix::termios::QueueSelector::IFlush).ok()?;
            since = Instant::now();
        }
        if over.load(Ordering::Relaxed) {
            return None;
        }
    }
    // A line begun in that time is not an answer either.
    rustix::termios::tcflush(&*terminal, rustix::termios::QueueSelector::IFlush).ok()?;
    Some(())
}

/// One line, or `None` when the terminal is gone or the answer is not wanted any more.
fn read_line(terminal: &mut std::fs::File, over: &AtomicBool) -> Option<String> {
    let mut line = Vec::new();
    let mut byte = [0u8; 1];
    loop {
        let ready = readable(terminal)?;
        if over.load(Ordering::Relaxed) {
            return None;
        }
        if !ready {
            continue;
        }
        match terminal.read(&mut byte).ok()? {
            0 => return None,
            _ if byte[0] == b'\n' => return Some(String::from_utf8_lossy(&line).into_owned()),
            _ if line.len() < LINE_BYTES_MAX => line.push(byte[0]),
            _ => {}
        }
    }
}

fn readable(terminal: &std::fs::File) -> Option<bool> {
    let mut fds = [PollFd::new(terminal, PollFlags::IN)];
    let tick = Timespec { tv_sec: 0, tv_nsec: i64::from(TICK.subsec_nanos()) };
    Some(poll(&mut fds, Some(&tick)).ok()? > 0)
}
