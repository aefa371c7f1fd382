//! What must not be: each zero-tolerance line, checked on what a job left behind and nothing else, so that
//! doctored evidence can be held against it too.

use std::collections::BTreeMap;

use homarus_contract::{
    event::{Event, FinishStatus, Resolution},
    ids::CallId,
    message::Block,
};
use serde_json::Value;

use crate::{
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
    Unexpected,
}

pub const LINES: [(Line, &str); 9] = [
    (Line::AcknowledgedLost, "acknowledged step lost"),
    (Line::EffectLost, "recorded effect lost"),
    (Line::KeyedTwice, "keyed effect applied twice"),
    (Line::UnkeyedRepeated, "unkeyed effect repeated"),
    (Line::WorkspaceTwice, "workspace change applied twice"),
    (Line::StaleAccepted, "stale-epoch append accepted"),
    (Line::HalfMerged, "half-merged workspace"),
    (Line::CorruptionUnnoticed, "corruption unnoticed"),
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
    pub posts: BTreeMap<String, u32>,
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
        let Some(course) = Course::of(&events, action) else {
            finding(Line::EffectLost, format!("{} {:?} was never called", action.token, action.kind));
            continue;
        };
        let text = |what: &str| format!("{} {:?} (call {}): {what}", action.token, action.kind, course.call);
        if course.has_failed {
            finding(Line::Unexpected, text("the call failed"));
        }
        match action.kind {
            Kind::Read | Kind::List | Kind::Search | Kind::Get => {
                if !course.has_result {
                    finding(Line::EffectLost, text("no result"));
                }
            }
            Kind::Note => match evidence.memory.matches(&format!("Remember {}.", action.token)).count() {
                0 if course.has_result => finding(Line::EffectLost, text("the memory lacks it")),
                0 | 1 => {}
                times => finding(Line::KeyedTwice, text(&format!("{times} times in the memory"))),
            },
            Kind::Post => match (evidence.posts.get(&action.token).copied().unwrap_or(0), course.happened()) {
                (0, Some(true)) => finding(Line::EffectLost, text("the server never saw it")),
                (1, Some(false)) => finding(Line::Unexpected, text("the journal says it did not happen")),
                (0 | 1, _) => {}
                (times, _) => finding(Line::UnkeyedRepeated, text(&format!("the server saw it {times} times"))),
            },
            _ => match (action.seen(&evidence.files), course.is_merged) {
                (Seen::Once, true) => {}
                (Seen::Absent, false) if course.is_refused => {}
                (Seen::Absent, false) => finding(Line::EffectLost, text("nobody refused it, and it was not merged")),
                (Seen::Absent, true) => finding(Line::EffectLost, text("merged, and not in the workspace")),
                (Seen::More, _) => finding(Line::WorkspaceTwice, text("more than once in the workspace")),
                (Seen::Half, _) => finding(Line::HalfMerged, text("half in the workspace")),
                (Seen::Once, false) => finding(Line::HalfMerged, text("in the workspace, and never merged")),
            },
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

/// What the journal says of one call.
struct Course {
    call: CallId,
    has_result: bool,
    has_failed: bool,
    is_merged: bool,
    /// A person said no.
    is_refused: bool,
    resolved: Option<Resolution>,
}

impl Course {
    fn of(events: &[Event], action: &Action) -> Option<Self> {
        let call = events.iter().find_map(|event| match event {
            Event::BlockDone { block: Block::ToolCall(call), .. } if call.arguments.contains(&action.token) => {
                Some(call.call.clone())
            }
            _ => None,
        })?;
        let (has_result, has_failed, is_merged, is_refused, resolved) = (false, false, false, false, None);
        let mut course = Self { call, has_result, has_failed, is_merged, is_refused, resolved };
        for event in events {
            match event {
                Event::ActResult(result) if result.call == course.call => {
                    (course.has_result, course.has_failed) = (true, result.is_error);
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
        Some(course)
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
