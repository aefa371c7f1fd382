//! A question to a person: the action, why it is asked about, and its exact diff.

mod arguments;
mod paths;

use homarus_contract::text::{bounded, one_line};
use homarus_driver::ports::Question;

use self::arguments::Room;
use super::{
    diff,
    human::main_argument,
    styled::{Colour, Line, Look},
};

/// Of a diff this much is shown without being asked for more.
const SHOWN_BYTES_MAX: usize = 12_000;
/// And so much of arguments.
const SHORT: Room =
    Room { value_bytes_max: 4_000, value_lines_max: 12, arguments_max: 20, hint: "`v` shows all of it" };
/// Bounds for the pager.
const ALL_BYTES_MAX: usize = 4 << 20;
const ALL: Room =
    Room { value_bytes_max: ALL_BYTES_MAX, value_lines_max: usize::MAX, arguments_max: usize::MAX, hint: "" };
const ALL_REFUSED_CHARS_MAX: usize = 8_000;

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
        } else {
            let mut arguments = arguments::lines(arguments, &SHORT);
            let only = if arguments.len() == 1 { arguments.pop() } else { None };
            head.push(only.into_iter().fold(Line::plain(&format!("  {tool} ")), joined));
            head.extend(arguments.into_iter().map(|line| joined(Line::plain("  "), line)));
        }
        head.push(Line::plain(&format!("  why asked: {}", one_line(&question.reason, 300))));
        let mut lines = Vec::new();
        let shown = diff.map(|text| bounded(text, SHOWN_BYTES_MAX, "`v` shows all of it")).unwrap_or_default();
        if let Some(text) = diff {
            head.push(heading(question, text));
            lines.extend(diff::lines(&shown));
        }
        if let Some(diff) = &question.diff {
            head.extend(paths::in_short(diff, &shown));
            head.extend(paths::refused_in_short(diff));
        }
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
    if let Some(diff) = &question.diff {
        lines.extend(paths::all(diff));
        lines.extend(paths::refused(diff, ALL_REFUSED_CHARS_MAX));
    }
    if let Some(text) = diff_of(question) {
        lines.push(heading(question, text));
        lines.extend(diff::lines(&bounded(text, ALL_BYTES_MAX, "")));
    }
    lines.push(Line::default());
    lines.push(Line::new(Look::BOLD, &format!("arguments of {tool}:")));
    lines.extend(arguments::lines(&question.action.arguments, &ALL));
    lines
}

fn diff_of(question: &Question) -> Option<&str> {
    let diff = question.diff.as_ref().map(|diff| diff.text.as_str()).or(question.plan.diff.as_deref());
    diff.filter(|diff| !diff.is_empty())
}

fn heading(question: &Question, diff: &str) -> Line {
    let what = if question.diff.is_some() { "what it did, not applied yet:" } else { "what it would do:" };
    let line = Line::plain(&format!("  {what}"));
    match diff::counts(diff) {
        // It is about no files.
        (0, 0) => line,
        (added, removed) => {
            line.and(Look::of(Colour::Green), &format!(" +{added}")).and(Look::of(Colour::Red), &format!(" -{removed}"))
        }
    }
}

fn joined(mut line: Line, more: Line) -> Line {
    line.append(more);
    line
}

#[cfg(test)]
mod tests {
    use homarus_contract::{
        action::{Action, EffectClass, Plan},
        ids::{CallId, Hash, RunId},
        sandbox::{Change, Entry, LayerDiff},
    };

    use super::*;

    fn question(arguments: &str, diff: Option<LayerDiff>) -> Question {
        let call = CallId::new(1, 0);
        Question {
            run: RunId::parse("r1").unwrap(),
            call: call.clone(),
            action: Action { call, tool: "shell.execute".to_owned(), arguments: arguments.to_owned() },
            plan: Plan { summary: "run x".into(), resources: Vec::new(), class: EffectClass::Workspace, diff: None },
            reason: "it is a command".to_owned(),
            diff,
            hash: Hash::ZERO,
            expires_ms: 0,
        }
    }

    fn change(path: &str) -> Change {
        let new = Entry::File { hash: Hash::ZERO, bytes: 12, mode: 0o755 };
        Change { path: path.to_owned(), old: Entry::Absent, new }
    }

    fn texts(lines: &[Line]) -> Vec<String> {
        lines.iter().map(Line::text).collect()
    }

    const FIRST_ONLY: &str = "--- /dev/null\n+++ b/a.txt\n@@ -0,0 +1 @@\n+x\n";

    #[test]
    fn every_changed_path_is_named_also_where_the_text_stops_before_it() {
        let changes = vec![change("a.txt"), change("b.sh")];
        let diff = LayerDiff { changes, text: FIRST_ONLY.to_owned(), ..LayerDiff::default() };
        let question = question("{}", Some(diff));
        let shown = texts(&Shown::in_short(&question, 10, "v").lines());
        let named = "  2 paths changed: b.sh (not in the diff), a.txt";
        assert!(shown.iter().any(|line| line == named), "{shown:#?}");
        let all = texts(&all(&question));
        assert!(all.iter().any(|line| line == "  a.txt: nothing -> file of 12 bytes, mode 755"), "{all:#?}");
        assert!(all.iter().any(|line| line.starts_with("  b.sh (not in the diff): nothing")), "{all:#?}");
    }

    #[test]
    fn a_text_that_pretends_to_show_a_path_after_its_cut_is_not_believed() {
        let cut = "[... the diff is cut here: 1 of 3 changed paths are shown ...]\n";
        let text = format!("link: nothing -> link to x\n+++ b/evil.sh\n{cut}");
        let changes = vec![change("link"), change("evil.sh"), change("\u{1b}[2J")];
        let question = question("{}", Some(LayerDiff { changes, text, ..LayerDiff::default() }));
        let shown = texts(&Shown::of(&question).head);
        let named = "  3 paths changed: evil.sh (not in the diff), ␛[2J (not in the diff), link";
        assert!(shown.iter().any(|line| line == named), "{shown:#?}");
    }

    #[test]
    fn what_leaves_no_text_is_named_all_the_same() {
        let diff = LayerDiff { changes: vec![change("empty")], ..LayerDiff::default() };
        let shown = texts(&Shown::of(&question("{}", Some(diff))).lines());
        assert!(shown.iter().any(|line| line == "  1 path changed: empty (not in the diff)"), "{shown:#?}");
        let diff = LayerDiff { changes: vec![change("a.txt")], text: FIRST_ONLY.to_owned(), ..LayerDiff::default() };
        let shown = texts(&Shown::of(&question("{}", Some(diff))).lines());
        assert!(!shown.iter().any(|line| line.contains("changed")), "the text shows all there is: {shown:#?}");
    }

    #[test]
    fn thousands_of_paths_leave_the_question_readable_and_are_all_in_the_pager() {
        let paths = |name: &str| (0..10_000).map(|n| format!("{name}{n}")).collect::<Vec<_>>();
        let changes = paths("made").iter().map(|path| change(path)).collect();
        let refused = paths("device").into_iter().map(|path| (path, "a device".to_owned())).collect();
        let question = question("{}", Some(LayerDiff { changes, refused, text: String::new() }));
        let head = texts(&Shown::of(&question).head);
        assert!(head.len() < 30, "{}", head.len());
        assert!(head.iter().any(|line| line.ends_with("and 9980 more: `v` names all")), "{head:#?}");
        assert!(head.iter().any(|line| line.contains("9990 more")), "{head:#?}");
        assert!(head.iter().all(|line| line.chars().count() < 1_500));
        let all = texts(&all(&question));
        for path in ["  made9999 ", "device9999: a device"] {
            assert!(all.iter().any(|line| line.contains(path)), "{path}");
        }
    }

    #[test]
    fn arguments_are_shown_as_they_are_meant() {
        let json =
            r#"{"url":"https://x.test","body":"\u0073ecret\nurl: https://other.test\u001b[2J","n":[1,"\u0041"]}"#;
        for lines in [Shown::of(&question(json, None)).head, all(&question(json, None))] {
            let shown: Vec<String> = texts(&lines).iter().map(|line| line.trim_start().to_owned()).collect();
            let expected =
                ["url: https://x.test", "body:", "│ secret", "│ url: https://other.test␛[2J", r#"n: [1,"A"]"#];
            let from = shown.iter().position(|line| line == expected[0]).unwrap_or_else(|| panic!("{shown:#?}"));
            assert_eq!(shown[from..from + expected.len()], expected, "{shown:#?}");
        }
        let shown = texts(&Shown::of(&question(r#"{"command":"l\u0073"}"#, None)).head);
        assert!(shown.contains(&"  shell.execute command: ls".to_owned()), "{shown:#?}");
        let shown = texts(&Shown::of(&question(r#""l\u0073""#, None)).head);
        assert!(shown.contains(&"  shell.execute   │ ls".to_owned()), "{shown:#?}");
        let shown = texts(&Shown::of(&question("{no json", None)).head);
        assert!(shown.iter().any(|line| line.contains("{no json")), "{shown:#?}");
    }

    #[test]
    fn a_long_argument_hides_no_other() {
        let decoy = "x\\n".repeat(100_000);
        let json = format!(r#"{{"decoy":"{decoy}","wide":"{}","url":"https://evil.test"}}"#, "y".repeat(100_000));
        let question = question(&json, None);
        let head = texts(&Shown::of(&question).head);
        assert!(head.contains(&"  url: https://evil.test".to_owned()) && head.len() < 30, "{head:#?}");
        assert!(head.iter().any(|line| line.contains("more lines: `v` shows all")), "{head:#?}");
        assert!(all(&question).len() > 100_000);
        let many: Vec<String> = (0..1_000).map(|n| format!(r#""a{n}":1"#)).collect();
        let head = texts(&Shown::of(&super::tests::question(&format!("{{{}}}", many.join(",")), None)).head);
        assert!(head.len() < 30 && head.iter().any(|line| line.contains("980 more arguments")), "{head:#?}");
    }
}
