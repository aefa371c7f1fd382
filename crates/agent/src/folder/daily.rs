//! The daily log of an agent: `memory/YYYY-MM-DD.md`, a line for each piece of work it was given.
//!
//! Trusted code writes it, from the journal: when, how it ended, the beginning of what the person asked for, which run.
//! Nothing a model wrote goes in. Today's and yesterday's log are told to every run of the agent, and a sentence of a
//! web page that an answer repeats would be told with them, though nobody ever agreed to it; what is to last is
//! written by `memory.note`, through the gate. What people add to these files themselves stays as it is.

use std::{
    fs::File,
    io::{self, Read, Write},
    path::Path,
};

use homarus_contract::text::{neutralise, one_line};
use rustix::{
    fs::{self, Mode, OFlags},
    io::Errno,
};

use crate::skill;

/// The folder of the logs, in the agent's.
pub const FOLDER: &str = "memory";
/// A day's log is not written on beyond this.
const FILE_BYTES_MAX: u64 = 64 << 10;
const TEXT_CHARS_MAX: usize = 160;
const DAY_MS: u64 = 86_400_000;

/// A piece of work that has come to its end.
pub struct Done<'a> {
    /// When, in milliseconds since 1970, as the journal says.
    pub at_ms: u64,
    /// `completed`, `failed`, ...
    pub status: &'a str,
    /// What the person asked for; `None`: it did not come from a person at this machine.
    pub text: Option<&'a str>,
    pub run: &'a str,
    /// Number of the event that ended it: with the run, what tells this line from others.
    pub seq: u64,
}

/// The days whose logs are told, the older one first: dates of UTC, as all times of the journal.
pub fn days(now_ms: u64) -> [String; 2] {
    [date(now_ms.saturating_sub(DAY_MS)), date(now_ms)]
}

/// `YYYY-MM-DD` in UTC.
pub fn date(at_ms: u64) -> String {
    // Days are counted in eras of 400 years that begin on a first of March, so that a leap day is the last of its year.
    let days = at_ms / DAY_MS + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

/// Adds a line to the log of its day; `false`: it is there already, or the log is full.
pub fn note(agent: &Path, done: &Done<'_>) -> io::Result<bool> {
    let folder_flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let agent = fs::open(agent, folder_flags, Mode::empty())?;
    match fs::mkdirat(&agent, FOLDER, Mode::from_raw_mode(0o700)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    let folder = fs::openat(&agent, FOLDER, folder_flags, Mode::empty())?;
    let flags = OFlags::RDWR | OFlags::APPEND | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = fs::openat(&folder, format!("{}.md", date(done.at_ms)), flags, Mode::from_raw_mode(0o600))?;
    let mut file = File::from(file);
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("the log is not a regular file"));
    }
    // Two runs of an agent may end at once. The lock goes with the descriptor.
    file.lock()?;
    let mut bytes = Vec::new();
    (&file).take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    let mark = format!("<!-- {}:{} -->", done.run, done.seq);
    let line = line(done, &mark);
    let is_there = bytes.windows(mark.len()).any(|window| window == mark.as_bytes());
    if is_there || (bytes.len() + line.len()) as u64 > FILE_BYTES_MAX {
        return Ok(false);
    }
    let gap = if bytes.is_empty() || bytes.ends_with(b"\n") { "" } else { "\n" };
    file.write_all(format!("{gap}{line}").as_bytes())?;
    Ok(true)
}

/// The mark is a comment, and so for people only.
fn line(done: &Done<'_>, mark: &str) -> String {
    let minutes = done.at_ms % DAY_MS / 60_000;
    let text = match done.text {
        None => "(what was asked for did not come from this machine)".to_owned(),
        Some(text) if skill::looks_bad(text) => "(what was asked for may hold a secret or hidden text)".to_owned(),
        Some(text) => {
            let text = neutralise(text).replace("<!--", "").replace("-->", "");
            format!("\"{}\"", one_line(text.trim(), TEXT_CHARS_MAX))
        }
    };
    format!("- {:02}:{:02} UTC, {}: {text} (run {}) {mark}\n", minutes / 60, minutes % 60, done.status, done.run)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: u64 = 1_772_193_600_000;

    fn done<'a>(text: &'a str, seq: u64) -> Done<'a> {
        Done { at_ms: NOON, status: "completed", text: Some(text), run: "abc", seq }
    }

    #[test]
    fn dates() {
        for (at_ms, wanted) in [
            (0, "1970-01-01"),
            (DAY_MS - 1, "1970-01-01"),
            (68_169_600_000, "1972-02-29"),
            (951_782_400_000, "2000-02-29"),
            (951_868_800_000, "2000-03-01"),
            (NOON, "2026-02-27"),
            (4_107_542_400_000, "2100-03-01"),
        ] {
            assert_eq!(date(at_ms), wanted, "{at_ms}");
        }
        assert_eq!(days(951_868_800_000), ["2000-02-29", "2000-03-01"]);
    }

    #[test]
    fn a_line_is_written_once_and_what_people_wrote_stays() {
        let agent = tempfile::tempdir().unwrap();
        assert!(note(agent.path(), &done("Fix\nthe <!-- x --> parser", 7)).unwrap());
        assert!(!note(agent.path(), &done("Fix the parser", 7)).unwrap(), "the same piece of work");
        let path = agent.path().join("memory/2026-02-27.md");
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(
            text.starts_with("- 12:00 UTC, completed: \"Fix") && text.ends_with(" (run abc) <!-- abc:7 -->\n"),
            "{text}"
        );
        assert!(text.lines().count() == 1 && !text.contains("<!-- x"), "{text}");
        std::fs::write(&path, "mine, without an end").unwrap();
        assert!(note(agent.path(), &done("More", 8)).unwrap());
        assert!(std::fs::read_to_string(&path).unwrap().starts_with("mine, without an end\n- 12:00"));
        std::fs::write(&path, "x".repeat(FILE_BYTES_MAX as usize)).unwrap();
        assert!(!note(agent.path(), &done("Too much", 9)).unwrap());
    }

    #[test]
    fn secrets_hidden_orders_and_words_from_elsewhere_are_not_written() {
        let agent = tempfile::tempdir().unwrap();
        let texts = [
            "use AKIAABCDEFGHIJKLMNOP",
            "token ghp_0123456789abcdefghijklmnopqrstuvwxyz",
            "the key sk-proj-0123456789abcdefABCDEF",
            "password: hunter22",
            "a\u{200b}b",
        ];
        for (seq, text) in texts.iter().enumerate() {
            note(agent.path(), &done(text, seq as u64)).unwrap();
        }
        note(agent.path(), &Done { text: None, ..done("", 99) }).unwrap();
        let text = std::fs::read_to_string(agent.path().join("memory/2026-02-27.md")).unwrap();
        assert_eq!(text.matches("may hold a secret").count(), texts.len(), "{text}");
        assert_eq!(text.matches("did not come from this machine").count(), 1, "{text}");
        for part in ["AKIA", "ghp_", "sk-proj", "hunter22", "\u{200b}"] {
            assert!(!text.contains(part), "{part}");
        }
    }

    #[test]
    fn links_are_not_followed() {
        let (agent, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::os::unix::fs::symlink(other.path(), agent.path().join(FOLDER)).unwrap();
        assert!(note(agent.path(), &done("x", 1)).is_err());
        std::fs::remove_file(agent.path().join(FOLDER)).unwrap();
        std::fs::create_dir(agent.path().join(FOLDER)).unwrap();
        std::os::unix::fs::symlink(other.path().join("x"), agent.path().join("memory/2026-02-27.md")).unwrap();
        assert!(note(agent.path(), &done("x", 1)).is_err());
        assert_eq!(std::fs::read_dir(other.path()).unwrap().count(), 0);
    }
}
