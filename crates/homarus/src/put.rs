//! Printing: JSON or text, and a reader that went away is no error.

use std::{
    fmt::Display,
    io::{self, Write},
    time::Duration,
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;

use crate::{exit::CliError, show::style::Style};

/// Prints a response as one JSON document.
pub fn json(response: &impl Serialize) -> Result<(), CliError> {
    let text = serde_json::to_string_pretty(response).map_err(CliError::failed)?;
    line(&text)
}

/// Prints a text that ends its lines itself.
pub fn text(text: &str) -> Result<(), CliError> {
    written(io::stdout().lock().write_all(text.as_bytes()))
}

/// Prints a line. `homarus ... | head` ends us quietly.
pub fn line(text: &str) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    written(writeln!(out, "{text}").and_then(|()| out.flush()))
}

fn written(result: io::Result<()>) -> Result<(), CliError> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(CliError::failed("the output cannot be written").cause(error))
        }
        _ => Ok(()),
    }
}

/// Waits this long, but not where nobody reads standard output any more; whether that is so.
pub fn is_unread(wait: Duration) -> bool {
    let out = io::stdout();
    // Nothing is asked for: that the other end is gone is told in any case.
    let mut fds = [PollFd::new(&out, PollFlags::empty())];
    let seconds = i64::try_from(wait.as_secs()).unwrap_or(i64::MAX);
    let wait = Timespec { tv_sec: seconds, tv_nsec: i64::from(wait.subsec_nanos()) };
    poll(&mut fds, Some(&wait)).is_ok_and(|ready| ready > 0)
}

/// A line on standard error. Unlike `eprintln!` it does not panic where nobody reads it any more.
pub fn aside(text: impl Display) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// A question on standard error, whose answer is typed behind it.
pub fn ask(question: &str) {
    let mut err = io::stderr();
    let _ = write!(err, "{question}").and_then(|()| err.flush());
}

/// Says something in passing to a person, beside what a script reads.
pub fn note(text: &str) {
    aside(Style::for_stderr().dim(text));
}

/// [`aside`] with a format.
macro_rules! say {
    ($($format:tt)*) => { $crate::put::aside(format_args!($($format)*)) };
}
pub(crate) use say;

/// Nano-USD as USD, without needless zeros: `0`, `0.0123`.
pub fn usd(nano: u64) -> String {
    let text = format!("{}.{:09}", nano / 1_000_000_000, nano % 1_000_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A count with commas.
pub fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1 error`, `2 errors`.
pub fn counted(value: u64, what: &str) -> String {
    format!("{} {what}{}", count(value), if value == 1 { "" } else { "s" })
}

/// A duration for people: `85 ms`, `4.2 s`, `3 min 20 s`.
pub fn duration(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
        _ => format!("{} min {} s", ms / 60_000, ms % 60_000 / 1000),
    }
}

/// Milliseconds since 1970 as UTC: `2026-11-21 04:05:06`.
pub fn time(at_ms: u64) -> String {
    i64::try_from(at_ms)
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
        .map_or_else(|| "?".to_owned(), |timestamp| timestamp.strftime("%Y-%m-%d %H:%M:%S").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_well() {
        assert_eq!(usd(0), "0");
        assert_eq!(usd(12_300_000), "0.0123");
        assert_eq!(usd(2_000_000_000), "2");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(count(999), "999");
        assert_eq!((counted(1, "error"), counted(0, "error")), ("1 error".to_owned(), "0 errors".to_owned()));
        assert_eq!(duration(4_250), "4.2 s");
        assert_eq!(time(0), "1970-01-01 00:00:00");
        assert_eq!(time(1_709_210_096_000), "2024-02-29 12:34:56");
    }
}
