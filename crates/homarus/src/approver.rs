//! Asking the person at the terminal.
//!
//! The question is read and written through `/dev/tty`, never through standard input. What is shown
//! is neutralised, so that an action cannot draw its own question. Keys typed before the question
//! stood there are thrown away.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use homarus_contract::{
    BoxFuture,
    text::{bounded, neutralise, one_line},
};
use homarus_driver::ports::{Approver, Decision, Question};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    termios::{QueueSelector, tcflush},
};

use crate::{env, show::style::Style};

const SHOWN_BYTES_MAX: usize = 12_000;

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
        open_terminal().is_some()
    }
}

impl Approver for TerminalApprover {
    fn ask(&self, question: Question) -> BoxFuture<'_, Option<Decision>> {
        match self.asking {
            Asking::Nobody => Box::pin(std::future::ready(None)),
            Asking::OtherProcess => {
                let run = question.run.clone();
                crate::put::say!("{}", render(&question, Style::for_stderr()));
                crate::put::say!("waiting for `homarus runs approve {run}` (or `--deny`)");
                Box::pin(std::future::pending())
            }
            Asking::Terminal => Box::pin(ask_at_terminal(question)),
        }
    }
}

/// The question as it is shown: the action and its exact diff.
pub fn render(question: &Question, style: Style) -> String {
    let mut text = format!(
        "\n{} {}\n  {} {}\n  why asked: {}\n",
        style.yellow("? approval"),
        style.bold(&one_line(&question.plan.summary, 400)),
        one_line(&question.action.tool, 64),
        style.dim(&neutralise(&bounded(&question.action.arguments, SHOWN_BYTES_MAX, ""))),
        one_line(&question.reason, 300),
    );
    let diff = question.diff.as_ref().map(|diff| diff.text.as_str()).or(question.plan.diff.as_deref());
    if let Some(diff) = diff.filter(|diff| !diff.is_empty()) {
        let heading = if question.diff.is_some() { "what it did, not applied yet:" } else { "what it would do:" };
        let shown = neutralise(&bounded(diff, SHOWN_BYTES_MAX, "`v` shows all of it"));
        text.push_str(&format!("  {heading}\n{}\n", style.diff(&shown)));
    }
    for (path, reason) in question.diff.iter().flat_map(|diff| &diff.refused) {
        text.push_str(&format!("  {} {}\n", style.red("never applied:"), one_line(&format!("{path}: {reason}"), 300)));
    }
    text
}

async fn ask_at_terminal(question: Question) -> Option<Decision> {
    let over = Arc::new(AtomicBool::new(false));
    let _end_with_us = EndOnDrop(over.clone());
    let answer = tokio::task::spawn_blocking(move || converse(&question, &over)).await;
    answer.ok().flatten()
}

/// Tells the reading thread that its answer is not wanted any more.
struct EndOnDrop(Arc<AtomicBool>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn converse(question: &Question, over: &AtomicBool) -> Option<Decision> {
    let mut terminal = open_terminal()?;
    let style = Style::for_stderr();
    write!(terminal, "{}", render(question, style)).ok()?;
    loop {
        write!(terminal, "  allow it? [y]es, [n]o, [v]iew all: ").ok()?;
        terminal.flush().ok()?;
        // Only keys typed from here on count: the question stands.
        tcflush(&terminal, QueueSelector::IFlush).ok()?;
        let line = read_line(&mut terminal, over)?;
        let (word, why) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
        let granted = match word.to_lowercase().as_str() {
            "y" | "yes" => true,
            "n" | "no" => false,
            "v" | "view" => {
                let diff = question.diff.as_ref().map(|diff| diff.text.as_str()).or(question.plan.diff.as_deref());
                let all = format!("{}\n{}", question.action.arguments, diff.unwrap_or_default());
                writeln!(terminal, "{}", style.diff(&neutralise(&all))).ok()?;
                continue;
            }
            _ => continue,
        };
        return Some(Decision { granted, who: format!("terminal:{}", env::user()), why: why.trim().to_owned() });
    }
}

fn open_terminal() -> Option<File> {
    OpenOptions::new().read(true).write(true).open("/dev/tty").ok()
}

/// One line, or `None` when the terminal is gone or the answer is not wanted any more.
fn read_line(terminal: &mut File, over: &AtomicBool) -> Option<String> {
    let mut line = Vec::new();
    let mut byte = [0u8; 1];
    loop {
        let mut fds = [PollFd::new(terminal, PollFlags::IN)];
        let tick = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
        let ready = poll(&mut fds, Some(&tick)).ok()?;
        if over.load(Ordering::Relaxed) {
            return None;
        }
        if ready == 0 {
            continue;
        }
        match terminal.read(&mut byte).ok()? {
            0 => return None,
            _ if byte[0] == b'\n' => return Some(String::from_utf8_lossy(&line).into_owned()),
            _ if line.len() < 1024 => line.push(byte[0]),
            _ => {}
        }
    }
}
