//! A question to a person: the action, why it is asked about, and its exact diff.

use homarus_contract::text::{bounded, one_line};
use homarus_driver::ports::Question;

use super::{
    diff,
    human::main_argument,
    styled::{Colour, Line, Look},
    syntax::Syntax,
};

/// Arguments up to this length are shown as they are.
const ARGUMENTS_CHARS_MAX: usize = 300;
/// Of longer ones and of diffs this much is shown without being asked for more.
const SHOWN_BYTES_MAX: usize = 12_000;
/// A bound for the pager.
const ALL_BYTES_MAX: usize = 4 << 20;

/// What is asked: one line.
pub fn title(question: &Question) -> Line {
    Line::new(Look { bold: true, ..Look::of(Colour::Yellow) }, "? approval ")
        .and(Look::BOLD, &one_line(&question.plan.summary, 400))
}

/// A question, its long parts cut in the middle: what it is about, and the diff.
pub struct Shown {
    pub head: Vec<Line>,
    pub diff: Vec<Line>,
}

impl Shown {
    pub fn of(question: &Question) -> Self {
        let mut head = vec![title(question)];
        let diff = diff_of(question);
        let tool = one_line(&question.action.tool, 64);
        let arguments = &question.action.arguments;
        if diff.is_some() && tool.starts_with("file.") {
            // The diff is what it does, to the letter.
            head.push(Line::plain(&format!("  {tool} ")).and(Look::DIM, &main_argument(arguments)));
        } else if arguments.chars().count() <= ARGUMENTS_CHARS_MAX {
            head.push(Line::plain(&format!("  {tool} ")).and(Look::DIM, arguments));
        } else {
            head.push(Line::plain(&format!("  {tool}")));
            let shown = bounded(arguments, SHOWN_BYTES_MAX, "`v` shows all of it");
            head.extend(shown.lines().map(|text| Line::new(Look::DIM, &format!("  {text}"))));
        }
        head.push(Line::plain(&format!("  why asked: {}", one_line(&question.reason, 300))));
        let mut lines = Vec::new();
        if let Some(text) = diff {
            head.push(heading(question, text));
            lines.extend(diff::lines(&bounded(text, SHOWN_BYTES_MAX, "`v` shows all of it")));
        }
        head.extend(refused(question));
        Self { head, diff: lines }
    }

    /// With at most so many lines of the diff; `how` says how to see the rest.
    pub fn in_short(question: &Question, rows_max: usize, how: &str) -> Self {
        let mut shown = Self::of(question);
        let room = rows_max.saturating_sub(shown.head.len()).max(3);
        let left_out = shown.diff.len().saturating_sub(room);
        if left_out > 1 {
            shown.diff.truncate(room);
            shown.diff.push(Line::new(Look::DIM, &format!("  … {left_out} more lines: {how} shows all")));
        }
        shown
    }

    pub fn lines(self) -> Vec<Line> {
        self.head.into_iter().chain(self.diff).collect()
    }
}

/// What the keys do, and what was typed so far.
pub fn prompt(columns: usize, typed: &str) -> Line {
    let keys = if columns < 60 { "y/n/v, then Enter: " } else { "y, n or v (view all), then Enter: " };
    Line::new(Look { bold: true, ..Look::of(Colour::Yellow) }, "allow it? ")
        .and(Look::PLAIN, keys)
        .and(Look::BOLD, typed)
}

/// Everything, for the pager.
pub fn all(question: &Question) -> Vec<Line> {
    let tool = one_line(&question.action.tool, 64);
    let mut lines = vec![Line::plain(&format!("why asked: {}", one_line(&question.reason, 2000)))];
    if let Some(text) = diff_of(question) {
        lines.push(heading(question, text));
        lines.extend(diff::lines(&bounded(text, ALL_BYTES_MAX, "")));
    }
    lines.extend(refused(question));
    lines.push(Line::default());
    lines.push(Line::new(Look::BOLD, &format!("arguments of {tool}:")));
    let json = bounded(&question.action.arguments, ALL_BYTES_MAX, "");
    for text in json.lines() {
        let mut line = Line::default();
        Syntax::of("json").paint(&mut line, text, Look::PLAIN);
        lines.push(line);
    }
    lines
}

fn diff_of(question: &Question) -> Option<&str> {
    let diff = question.diff.as_ref().map(|diff| diff.text.as_str()).or(question.plan.diff.as_deref());
    diff.filter(|diff| !diff.is_empty())
}

fn heading(question: &Question, diff: &str) -> Line {
    let what = if question.diff.is_some() { "what it did, not applied yet:" } else { "what it would do:" };
    let (added, removed) = diff::counts(diff);
    Line::plain(&format!("  {what} "))
        .and(Look::of(Colour::Green), &format!("+{added}"))
        .and(Look::of(Colour::Red), &format!(" -{removed}"))
}

fn refused(question: &Question) -> impl Iterator<Item = Line> {
    let refused = question.diff.iter().flat_map(|diff| &diff.refused);
    refused.map(|(path, reason)| {
        Line::new(Look::of(Colour::Red), "  never applied: ")
            .and(Look::PLAIN, &one_line(&format!("{path}: {reason}"), 300))
    })
}
