//! What an attack's end means: what it said of itself, how the call ended, and what the host looks like.

use homarus_contract::sandbox::{Exit, LayerDiff};
use serde::{Deserialize, Serialize};

use super::{
    catalogue::Wanted,
    inside::{Note, Outcome},
};

/// One cell of the matrix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    pub verdict: Verdict,
    /// How it was denied or held; or what got through.
    pub how: String,
    /// What the receipt, the outcome or the diff say of it; `None`: only the call itself was told.
    pub recorded: Option<String>,
    /// The same attack without the sandbox.
    pub control: ControlSeen,
    pub took_ms: u64,
    /// Every single try.
    pub tries: Vec<Note>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It failed, and the host is as before.
    Held,
    GotThrough,
    /// It says nothing: it could not be made.
    NotTried,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "seen", rename_all = "snake_case")]
pub enum ControlSeen {
    /// At least one of its tries gets through without the sandbox.
    Works {
        how: String,
    },
    /// Not even without the sandbox, for this user on this machine.
    Fails {
        how: String,
    },
    NotTried {
        why: String,
    },
}

/// What is known after an attack.
pub struct Evidence<'a> {
    pub wanted: Wanted,
    pub tries: &'a [Note],
    pub exit: Exit,
    pub stderr: &'a str,
    pub diff: &'a LayerDiff,
    /// What changed on the host, and what was heard.
    pub host: &'a [String],
}

/// Signals by which the kernel ends what passes a limit or the filter.
const SIGABRT: i32 = 6;
const SIGKILL: i32 = 9;
const SIGXCPU: i32 = 24;
const SIGXFSZ: i32 = 25;
const SIGSYS: i32 = 31;

pub fn judge(evidence: &Evidence<'_>) -> (Verdict, String) {
    if let Some(change) = evidence.host.first() {
        return (Verdict::GotThrough, format!("the host is not as before: {change}"));
    }
    let through = evidence.tries.iter().find_map(|note| match &note.outcome {
        Outcome::Through { how } => Some(format!("{}: {how}", note.what)),
        _ => None,
    });
    if let Some(how) = through {
        return (Verdict::GotThrough, how);
    }
    let untried = evidence.tries.iter().find_map(|note| match &note.outcome {
        Outcome::Untried { why } => Some(format!("{}: {why}", note.what)),
        _ => None,
    });
    if let Some(why) = untried {
        return (Verdict::NotTried, why);
    }
    let ended = format!("ended with {}", exit_text(evidence.exit));
    let complaint = || match evidence.stderr.trim() {
        "" => ended.clone(),
        said => format!("{ended}: {said}"),
    };
    if evidence.tries.is_empty() {
        return (Verdict::NotTried, complaint());
    }
    let open = matches!(evidence.tries.last().map(|note| &note.outcome), Some(Outcome::Begun));
    match (evidence.wanted, evidence.exit) {
        (Wanted::Killed, Exit::Signal { signal: SIGSYS }) if open => (Verdict::Held, "killed by seccomp".to_owned()),
        (Wanted::Killed, _) => (Verdict::GotThrough, format!("was not killed, but {ended}")),
        (Wanted::Held, exit) if is_limit(exit) => (Verdict::Held, exit_text(exit)),
        (_, Exit::Code { code: 0 }) if open => (Verdict::NotTried, "it ended in the middle".to_owned()),
        (Wanted::Refused, Exit::Code { code: 0 }) if evidence.diff.refused.is_empty() => {
            (Verdict::GotThrough, "the diff refuses nothing of it".to_owned())
        }
        (_, Exit::Code { code: 0 }) => (Verdict::Held, ways(evidence.tries, evidence.diff)),
        _ => (Verdict::NotTried, complaint()),
    }
}

/// What whoever reads the journal later can know of it.
pub fn recorded(exit: Exit, stderr: &str, diff: &LayerDiff) -> Option<String> {
    let mut found = Vec::new();
    if !matches!(exit, Exit::Code { .. }) {
        found.push(format!("exit: {}", exit_text(exit)));
    }
    let note = stderr.lines().find_map(|line| line.strip_prefix("sandbox: "));
    found.extend(note.map(|line| format!("note: {line}")));
    if !diff.refused.is_empty() {
        found.push(format!("diff: {} refused", diff.refused.len()));
    }
    (!found.is_empty()).then(|| found.join("; "))
}

fn is_limit(exit: Exit) -> bool {
    match exit {
        Exit::Signal { signal } => [SIGABRT, SIGKILL, SIGXCPU, SIGXFSZ].contains(&signal),
        Exit::TimedOut { .. } | Exit::OutputLimit { .. } => true,
        Exit::Code { .. } | Exit::Cancelled => false,
    }
}

fn exit_text(exit: Exit) -> String {
    match exit {
        Exit::Code { code } => format!("code {code}"),
        Exit::Signal { signal } => match nix::sys::signal::Signal::try_from(signal) {
            Ok(signal) => signal.as_str().to_owned(),
            Err(_) => format!("signal {signal}"),
        },
        Exit::TimedOut { wall_ms } => format!("time limit, {wall_ms} ms"),
        Exit::OutputLimit { bytes } => format!("output limit, {bytes} bytes"),
        Exit::Cancelled => "cancelled".to_owned(),
    }
}

/// The different answers, most frequent first.
fn ways(tries: &[Note], diff: &LayerDiff) -> String {
    let mut counts: Vec<(&str, u32)> = Vec::new();
    let mut count = |how| match counts.iter_mut().find(|(known, _)| *known == how) {
        Some((_, number)) => *number += 1,
        None => counts.push((how, 1)),
    };
    for note in tries {
        match &note.outcome {
            Outcome::Denied { how } => count(how.as_str()),
            Outcome::Confined { .. } => count("confined"),
            Outcome::Begun | Outcome::Through { .. } | Outcome::Untried { .. } => {}
        }
    }
    counts.sort_by_key(|(_, number)| std::cmp::Reverse(*number));
    let mut words: Vec<String> = counts
        .into_iter()
        .map(|(how, number)| if number == 1 { how.to_owned() } else { format!("{how} ×{number}") })
        .collect();
    if !diff.refused.is_empty() {
        words.push(format!("refused ×{}", diff.refused.len()));
    }
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(outcome: Outcome) -> Note {
        Note { what: "try".into(), outcome }
    }

    fn denied() -> Note {
        note(Outcome::Denied { how: "EPERM".into() })
    }

    fn check(wanted: Wanted, tries: &[Note], exit: Exit, host: &[String], expected: Verdict) {
        let evidence = Evidence { wanted, tries, exit, stderr: "", diff: &LayerDiff::default(), host };
        assert_eq!(judge(&evidence).0, expected, "{wanted:?} {tries:?} {exit:?} {host:?}");
    }

    #[test]
    fn only_what_was_seen_to_fail_is_held() {
        let done = Exit::Code { code: 0 };
        let through = note(Outcome::Through { how: "was possible".into() });
        check(Wanted::Denied, &[denied()], done, &[], Verdict::Held);
        check(Wanted::Denied, &[denied(), through.clone()], done, &[], Verdict::GotThrough);
        check(Wanted::Denied, &[denied()], done, &["a file is new".into()], Verdict::GotThrough);
        check(Wanted::Denied, &[], done, &[], Verdict::NotTried);
        check(Wanted::Denied, &[denied()], Exit::Code { code: 101 }, &[], Verdict::NotTried);
        check(Wanted::Denied, &[note(Outcome::Untried { why: "no".into() })], done, &[], Verdict::NotTried);
        check(Wanted::Refused, &[denied()], done, &[], Verdict::GotThrough);
    }

    #[test]
    fn an_end_by_the_kernel_counts_only_where_it_is_wanted() {
        let begun = note(Outcome::Begun);
        let killed = Exit::Signal { signal: SIGSYS };
        check(Wanted::Killed, std::slice::from_ref(&begun), killed, &[], Verdict::Held);
        check(Wanted::Killed, &[denied()], Exit::Code { code: 0 }, &[], Verdict::GotThrough);
        check(Wanted::Held, std::slice::from_ref(&begun), Exit::Signal { signal: SIGKILL }, &[], Verdict::Held);
        check(Wanted::Held, std::slice::from_ref(&begun), Exit::Signal { signal: 11 }, &[], Verdict::NotTried);
        check(Wanted::Held, &[begun], Exit::Code { code: 0 }, &[], Verdict::NotTried);
        check(Wanted::Denied, &[denied()], Exit::Signal { signal: SIGKILL }, &[], Verdict::NotTried);
    }

    #[test]
    fn the_journal_tells_of_ends_notes_and_refusals() {
        let none = LayerDiff::default();
        assert_eq!(recorded(Exit::Code { code: 0 }, "", &none), None);
        let killed = recorded(Exit::Signal { signal: SIGSYS }, "\nsandbox: the memory limit was reached\n", &none);
        assert_eq!(killed.unwrap(), "exit: SIGSYS; note: the memory limit was reached");
    }
}
