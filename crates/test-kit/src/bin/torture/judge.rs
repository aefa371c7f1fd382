//! What must not be: each zero-tolerance line, checked on what a job left behind and nothing else, so that
//! doctored evidence can be held against it too.

use std::collections::BTreeMap;

use homarus_contract::{
    event::{Event, FinishStatus, Resolution},
    ids::CallId,
    message::{Block, ToolCall},
};
use serde_json::Value;

use crate::{
    browsing,
    job::{Action, Job, Kind, Seen},
    tree::Tree,
    victim::Remains,
};

/// The lines of the table where anything but zero fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Line {
    AcknowledgedLost,
    EffectLost,
    KeyedTwice,
    UnkeyedRepeated,
    WorkspaceTwice,
    StaleAccepted,
    HalfMerged,
    CorruptionUnnoticed,
    LeftBehind,
    Unexpected,
}

pub const LINES: [(Line, &str); 10] = [
    (Line::AcknowledgedLost, "acknowledged step lost"),
    (Line::EffectLost, "recorded effect lost"),
    (Line::KeyedTwice, "keyed effect applied twice"),
    (Line::UnkeyedRepeated, "unkeyed effect repeated"),
    (Line::WorkspaceTwice, "workspace change applied twice"),
    (Line::StaleAccepted, "stale-epoch append accepted"),
    (Line::HalfMerged, "half-merged workspace"),
    (Line::CorruptionUnnoticed, "corruption unnoticed"),
    (Line::LeftBehind, "process or file left behind"),
    (Line::Unexpected, "anything else unexpected"),
];

#[derive(Debug, Clone)]
pub struct Finding {
    pub line: Line,
    pub run: String,
    pub text: String,
}

/// What one run left in the journal.
#[derive(Debug, Clone, Default)]
pub struct RunLog {
    pub run: String,
    pub lines: Vec<Value>,
}

/// What a job left behind.
#[derive(Debug, Clone)]
pub struct Evidence {
    pub job: Job,
    pub main: RunLog,
    pub memory: String,
    /// What the server outside counted: tokens that were posted, pages that were opened.
    pub outside: BTreeMap<String, u32>,
    pub files: Tree,
    /// After each undo: what should be there, and what is.
    pub undone: Vec<(Tree, Tree)>,
    /// Runs that undo it.
    pub undos: Vec<RunLog>,
}

/// Every event a process printed as durable is in the journal, exactly as it was printed; and none of them came after
/// another process had taken the run over.
pub fn printed(log: &RunLog, remains: &[Remains]) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut finding = |line, text: String| found.push(Finding { line, run: log.run.clone(), text });
    let by_seq: BTreeMap<u64, &Value> = log.lines.iter().map(|line| (seq_of(line), line)).collect();
    for (index, line) in log.lines.iter().enumerate() {
        if seq_of(line) != index as u64 + 1 {
            finding(Line::AcknowledgedLost, format!("event {} of the journal is numbered {}", index + 1, seq_of(line)));
        }
    }
    let mut printers: BTreeMap<u64, usize> = BTreeMap::new();
    for (process, one) in remains.iter().enumerate() {
        let mut owned: Option<u64> = None;
        for line in one.events_of(&log.run) {
            let seq = seq_of(line);
            if by_seq.get(&seq) != Some(&line) {
                let text =
                    format!("`{}` printed event {seq} ({}), the journal has another or none", one.what, line["kind"]);
                finding(Line::AcknowledgedLost, text);
            }
            let taken = by_seq.range(..=seq).rev().find(|(_, line)| is_taking(line)).map_or(0, |(seq, _)| *seq);
            if *owned.get_or_insert(taken) != taken {
                let text = format!("`{}` appended event {seq} after event {taken} took the run from it", one.what);
                finding(Line::StaleAccepted, text);
            }
            if *printers.entry(seq).or_insert(process) != process {
                finding(Line::StaleAccepted, format!("two processes say that event {seq} is theirs"));
            }
        }
    }
    found
}

/// Every tool there is was called, but those of a browser that is not there.
pub fn uncalled(tools: &[String], calls: &BTreeMap<String, u32>, browses: bool) -> Vec<Finding> {
    let is_wanted = |tool: &&String| browses || !tool.starts_with("browser.");
    let missing = tools.iter().filter(is_wanted).filter(|tool| !calls.contains_key(*tool));
    let text = |tool: &String| format!("the tool {tool} was never called");
    missing.map(|tool| Finding { line: Line::Unexpected, run: "all".to_owned(), text: text(tool) }).collect()
}

/// What the calls did, held against what the journal says they did.
pub fn effects(evidence: &Evidence) -> Vec<Finding> {
    let run = &evidence.main.run;
    let mut found = Vec::new();
    let events: Vec<Event> =
        evidence.main.lines.iter().filter_map(|line| serde_json::from_value(line.clone()).ok()).collect();
    let mut finding = |line, text: String| found.push(Finding { line, run: run.clone(), text });
    if events.len() != evidence.main.lines.len() {
        finding(Line::Unexpected, "the journal has events that cannot be read".to_owned());
    }
    match events.last() {
        Some(Event::Finished { status: FinishStatus::Completed | FinishStatus::Denied, .. }) => {}
        Some(Event::Waiting { .. }) if evidence.job.turns.len() > 1 => {}
        last => finding(Line::EffectLost, format!("the run did not end well: {:?}", last.map(Event::kind))),
    }
    for action in evidence.job.actions() {
        for (line, what) in of_action(evidence, &events, action) {
            finding(line, format!("{} {:?} {what}", action.token, action.kind));
        }
    }
    for (number, (wanted, is)) in evidence.undone.iter().enumerate() {
        let paths = is.differs(wanted);
        if !paths.is_empty() {
            finding(Line::HalfMerged, format!("after undo {} these are not as they should be: {paths:?}", number + 1));
        }
    }
    found
}

/// What is wrong with what one action did.
fn of_action(evidence: &Evidence, events: &[Event], action: &Action) -> Vec<(Line, String)> {
    let mut found = Vec::new();
    let pages = Course::of(events, &browsing::page(action), |_| true);
    let mark = action.mark();
    let mut courses = match action.kind {
        Kind::Open => Vec::new(),
        _ => Course::of(events, &mark, |arguments| browsing::key(arguments).is_none()),
    };
    if action.is_on_page() {
        // One that found no page did nothing, and was made again.
        courses.retain(|course| !course.is_unmade);
    }
    for course in pages.iter().chain(&courses).filter(|course| course.has_failed) {
        found.push((Line::Unexpected, format!("(call {}): the call failed", course.call)));
    }
    for page in &pages {
        let key = browsing::key(&page.arguments).unwrap_or_default();
        let text = |what: &str| format!("(call {}): {what}", page.call);
        found.extend(counted(evidence, key, page.happened()).map(|(line, what)| (line, text(&what))));
    }
    let Some(course) = courses.first() else {
        if action.kind != Kind::Open || pages.is_empty() {
            found.push((Line::EffectLost, "was never called".to_owned()));
        }
        return found;
    };
    let text = |what: &str| format!("(call {}): {what}", course.call);
    if courses.len() > 1 && action.is_on_page() {
        found.push((Line::Unexpected, text("it was made, and called again")));
    }
    match action.kind {
        Kind::Read | Kind::List | Kind::Search | Kind::Get | Kind::WebSearch | Kind::Skill | Kind::Look => {
            if !course.has_result {
                found.push((Line::EffectLost, text("no result")));
            }
        }
        Kind::Note => match evidence.memory.matches(&format!("Remember {}.", action.token)).count() {
            0 if course.has_result => found.push((Line::EffectLost, text("the memory lacks it"))),
            0 | 1 => {}
            times => found.push((Line::KeyedTwice, text(&format!("{times} times in the memory")))),
        },
        Kind::Open => {}
        Kind::Post | Kind::Click => {
            let wrong = counted(evidence, &action.token, course.happened());
            found.extend(wrong.map(|(line, what)| (line, text(&what))));
        }
        Kind::Append | Kind::Many | Kind::Write | Kind::Edit | Kind::HeldWrite | Kind::HeldShell | Kind::Picture => {
            let (line, what) = match (action.seen(&evidence.files), course.is_merged) {
                (Seen::Once, true) => return found,
                (Seen::Absent, false) if course.is_refused => return found,
                (Seen::Absent, false) => (Line::EffectLost, "nobody refused it, and it was not merged"),
                (Seen::Absent, true) => (Line::EffectLost, "merged, and not in the workspace"),
                (Seen::More, _) => (Line::WorkspaceTwice, "more than once in the workspace"),
                (Seen::Half, _) => (Line::HalfMerged, "half in the workspace"),
                (Seen::Once, false) => (Line::HalfMerged, "in the workspace, and never merged"),
            };
            found.push((line, text(what)));
        }
    }
    found
}

/// An unkeyed effect, as the server outside counted it and as the journal says.
fn counted(evidence: &Evidence, effect: &str, happened: Option<bool>) -> Option<(Line, String)> {
    match (evidence.outside.get(effect).copied().unwrap_or(0), happened) {
        (0, Some(true)) => Some((Line::EffectLost, "the server never saw it".to_owned())),
        (1, Some(false)) => Some((Line::Unexpected, "the journal says it did not happen".to_owned())),
        (0 | 1, _) => None,
        (times, _) => Some((Line::UnkeyedRepeated, format!("the server saw it {times} times"))),
    }
}

/// What the journal says of one call.
struct Course {
    call: CallId,
    arguments: String,
    /// The latest attempt that was let through.
    intended: Option<u32>,
    has_result: bool,
    has_failed: bool,
    /// It failed before anything was begun.
    is_unmade: bool,
    is_merged: bool,
    /// A person said no.
    is_refused: bool,
    resolved: Option<Resolution>,
}

impl Course {
    /// The calls with this in their arguments.
    fn of(events: &[Event], mark: &str, is_wanted: impl Fn(&str) -> bool) -> Vec<Self> {
        let calls = events.iter().filter_map(|event| match event {
            Event::BlockDone { block: Block::ToolCall(call), .. } => Some(call),
            _ => None,
        });
        let wanted = calls.filter(|call| call.arguments.contains(mark) && is_wanted(&call.arguments));
        wanted.map(|call| Self::read(events, call)).collect()
    }

    fn read(events: &[Event], call: &ToolCall) -> Self {
        let (call, arguments) = (call.call.clone(), call.arguments.clone());
        let (has_result, has_failed, is_unmade, is_merged, is_refused) = (false, false, false, false, false);
        let (intended, resolved) = (None, None);
        let mut course =
            Self { call, arguments, intended, has_result, has_failed, is_unmade, is_merged, is_refused, resolved };
        for event in events {
            match event {
                Event::ActIntent { call, attempt, .. } if *call == course.call => course.intended = Some(*attempt),
                Event::ActResult(result) if result.call == course.call => {
                    (course.has_result, course.has_failed) = (true, result.is_error);
                    course.is_unmade = result.is_error && course.intended != Some(result.attempt);
                }
                Event::Merged { call, report } if *call == course.call => {
                    course.is_merged = report.conflicts.is_empty();
                }
                Event::ApprovalDecided { call, approval } if *call == course.call => {
                    course.is_refused = !approval.granted;
                }
                Event::Resolved { call, decision, .. } if *call == course.call => course.resolved = Some(*decision),
                _ => {}
            }
        }
        course
    }

    /// Whether an effect outside happened, as far as the journal says so.
    fn happened(&self) -> Option<bool> {
        match (self.has_result, self.resolved) {
            (true, _) => (!self.has_failed).then_some(true),
            (false, Some(Resolution::Done)) => Some(true),
            (false, Some(Resolution::Failed)) => Some(false),
            _ => None,
        }
    }
}

impl Remains {
    /// What it printed as durable of this run.
    pub fn events_of<'a>(&'a self, run: &'a str) -> impl Iterator<Item = &'a Value> {
        self.lines.iter().filter(move |line| line["run_id"] == *run && is_event(line))
    }
}

pub fn seq_of(line: &Value) -> u64 {
    line["seq"].as_u64().unwrap_or(0)
}

/// Live lines have an offset, and lines about a whole run have no time.
fn is_event(line: &Value) -> bool {
    line["offset"].is_null() && line["kind"] != "run_ended" && line["at_ms"].is_u64() && !line["kind"].is_null()
}

fn is_taking(line: &Value) -> bool {
    line["kind"] == "taken_over"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_that_nobody_called_is_a_finding() {
        let tools = ["file.read", "browser.act", "new.tool"].map(str::to_owned);
        let calls = BTreeMap::from([("file.read".to_owned(), 3)]);
        let texts =
            |browses| uncalled(&tools, &calls, browses).into_iter().map(|finding| finding.text).collect::<Vec<_>>();
        assert_eq!(texts(false), ["the tool new.tool was never called"]);
        assert_eq!(texts(true).len(), 2);
    }
}
