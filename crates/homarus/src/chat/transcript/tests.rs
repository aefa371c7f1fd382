//! What streams and what is durable, in every order in which they may come.

use homarus_contract::{
    message::{StopReason, ToolCall, Usage},
    model::ModelErrorClass,
    sandbox::{Change, Entry, LayerDiff},
};

use super::*;

/// A transcript of which all that was printed is kept.
#[derive(Default)]
struct Seen {
    transcript: Transcript,
    lines: Vec<String>,
}

impl Seen {
    fn live(&mut self, text: &str) -> &mut Self {
        self.transcript.live(&run("r1"), &Live::Text { text: text.to_owned() });
        self.print()
    }

    fn event(&mut self, event: Event) -> &mut Self {
        self.event_of("r1", event)
    }

    fn event_of(&mut self, id: &str, event: Event) -> &mut Self {
        self.transcript.event(&run(id), &event);
        self.print()
    }

    fn note(&mut self, text: &str) -> &mut Self {
        self.transcript.note(Printed::dim(text));
        self.print()
    }

    fn print(&mut self) -> &mut Self {
        let printed = self.transcript.take();
        self.lines.extend(printed.iter().map(|printed| printed.line.text()).filter(|text| !text.is_empty()));
        self
    }

    fn ended(&mut self) -> Vec<String> {
        self.transcript.settle();
        self.print();
        std::mem::take(&mut self.lines)
    }
}

fn run(id: &str) -> RunId {
    RunId::parse(id).unwrap()
}

fn text(text: &str, partial: bool) -> Event {
    Event::BlockDone { step: 1, block: Block::Text { text: text.to_owned() }, partial }
}

fn call(index: u32) -> Event {
    let call = CallId::new(1, index);
    let (name, arguments) = ("shell.execute".to_owned(), format!(r#"{{"command":"run {index}"}}"#));
    let block = Block::ToolCall(ToolCall { call, provider_id: String::new(), name, arguments });
    Event::BlockDone { step: 1, block, partial: false }
}

fn broke() -> Event {
    let model = "a/x".parse().unwrap();
    Event::ModelBroke { step: 1, model, class: ModelErrorClass::Protocol, message: "gone".to_owned() }
}

fn closed() -> Event {
    let (usage, served_by) = (Usage::default(), "a/x".parse().unwrap());
    Event::ModelResult { step: 1, stop: StopReason::EndTurn, usage, served_by, cost: None, wall_ms: 1 }
}

fn merged() -> Event {
    let report = MergeReport { merged: vec!["a.txt".to_owned()], conflicts: Vec::new() };
    Event::Merged { call: CallId::new(1, 0), report }
}

fn result(index: u32, diff: &str) -> Event {
    let change = Change { path: "a.txt".to_owned(), old: Entry::Absent, new: Entry::Absent };
    Event::ActResult(ActResult {
        call: CallId::new(1, index),
        attempt: 1,
        is_error: false,
        exit: None,
        shown: Hash::ZERO,
        whole: None,
        wall_ms: 1,
        receipt: None,
        diff: LayerDiff { changes: vec![change], text: diff.to_owned(), ..LayerDiff::default() },
        kept: Vec::new(),
    })
}

#[test]
fn a_text_that_streamed_is_printed_once_whatever_comes_between() {
    let lines = Seen::default().live("abc").event(broke()).event(text("abc", true)).event(closed()).ended();
    assert_eq!(lines, ["abc", "! a/x broke off: gone"]);
    let lines = Seen::default().live("abc").event(merged()).event(text("abc", true)).event(closed()).ended();
    assert_eq!(lines, ["  ✓ applied a.txt", "abc"]);
    let lines = Seen::default().live("ab").event(merged()).live("c\nd").event(text("abc\nd", false)).ended();
    assert_eq!(lines, ["  ✓ applied a.txt", "abc", "d"]);
}

#[test]
fn a_text_that_did_not_stream_is_printed_when_it_is_durable() {
    let lines = Seen::default().event(text("one", false)).event(text("two", false)).event(closed()).ended();
    assert_eq!(lines, ["one", "two"]);
    let lines = Seen::default().live("of another attempt").event(closed()).event(text("two", false)).ended();
    assert_eq!(lines, ["of another attempt", "two"]);
}

#[test]
fn a_block_that_becomes_durable_late_does_not_break_the_text_after_it() {
    let mut seen = Seen::default();
    seen.live("Look.");
    seen.transcript.live(&run("r1"), &Live::CallStarted { name: "shell.execute".to_owned() });
    seen.live("```sh\n# on").event(text("Look.", false)).event(call(0)).event(result(0, ""));
    let lines = seen.live("e\n```\n").event(text("```sh\n# one\n```\n", false)).event(closed()).ended();
    let (ended, text): (Vec<String>, Vec<String>) = lines.into_iter().partition(|line| line.starts_with('●'));
    assert_eq!(text, ["Look.", "```sh", "# one", "```"]);
    assert!(ended.len() == 1 && ended[0].starts_with("● shell.execute run 0 · done"), "{ended:?}");
}

#[test]
fn a_note_does_not_end_the_code_that_streams() {
    let lines = Seen::default().live("```sh\n").note("a note").live("# x\n").ended();
    assert_eq!(lines, ["```sh", "a note", "# x"]);
}

#[test]
fn a_call_that_is_run_again_says_how_it_ended() {
    let intent = Event::ActIntent {
        call: CallId::new(1, 0),
        class: homarus_contract::action::EffectClass::Unkeyed,
        key: None,
        tier: homarus_contract::action::Tier::Internal,
        attempt: 2,
    };
    let mut seen = Seen::default();
    seen.event(call(0)).event(Event::OutcomeUnknown { call: CallId::new(1, 0) });
    let lines = seen.event(intent).event(result(0, "")).ended();
    assert!(lines.len() == 2 && lines[1].contains(" · done"), "{lines:?}");
}

#[test]
fn a_call_of_an_undo_is_not_taken_for_one_of_the_conversation() {
    let mut seen = Seen::default();
    seen.event(call(0)).event(result(0, "its own"));
    seen.event_of("u1", result(0, "the undo's")).event_of("u1", merged());
    assert_eq!(seen.transcript.calls().len(), 1);
    assert_eq!(seen.transcript.calls()[0].diff, "its own");
    assert_eq!(seen.ended().len(), 2, "how it ended, and what the undo applied");
}
