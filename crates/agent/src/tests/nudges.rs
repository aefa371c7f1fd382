//! What a model is told that looks for something, or whose change failed.

use super::*;

/// A run with this request.
fn run(text: &str) -> History {
    let mut history = History { state: State::default() };
    let mut request = accepted();
    request.inbound.text = text.to_owned();
    history.add(Event::Accepted(request));
    history
}

/// One step with one call, which ended well or not, and what the model is told then.
fn step(history: &mut History, step: u32, tool: &str, arguments: &str, is_error: bool) {
    let class = if tool == "file.read" { EffectClass::Read } else { EffectClass::Workspace };
    let (name, arguments) = (tool.to_owned(), arguments.to_owned());
    let call = ToolCall { call: CallId::new(step, 0), provider_id: "p".to_owned(), name, arguments };
    let block = Block::ToolCall(call);
    history.intent(step, 1).add(Event::BlockDone { step, block, partial: false }).closed(step, StopReason::ToolUse);
    history.judged(step, 0, class, Verdict::Allow).started(step, 0, class, 1).ended(step, 0, false, is_error);
}

fn take_nudges(history: &mut History) -> Vec<String> {
    let mut reasons = Vec::new();
    while let Command::Nudge { reason, text } = history.only() {
        reasons.push(reason.clone());
        history.add(Event::Nudged { reason, text });
    }
    reasons
}

#[test]
fn after_the_first_look_the_file_to_write_is_named_once() {
    let mut history = run("Look at a.log and write the number to count.txt.");
    step(&mut history, 1, "file.read", "{\"path\":\"a.log\"}", false);
    let Command::Nudge { text, .. } = history.only() else { panic!("nudges") };
    assert!(text.contains("write count.txt with file.write"), "{text}");
    assert_eq!(take_nudges(&mut history), ["aim"]);
    step(&mut history, 2, "file.read", "{\"path\":\"b.log\"}", false);
    assert_eq!(take_nudges(&mut history), Vec::<String>::new());

    let mut history = run("Correct a.log and run `sh check.sh`.");
    step(&mut history, 1, "file.read", "{\"path\":\"a.log\"}", false);
    assert_eq!(take_nudges(&mut history), Vec::<String>::new(), "no file is to be written");
}

/// One step that changes a file, and the change is merged. An empty text stands for a file that is not there.
fn change(history: &mut History, number: u32, path: &str, new: &str) {
    let file = Entry::File { hash: Hash::of(new.as_bytes()), bytes: new.len() as u64, mode: 0o644 };
    let entry = if new.is_empty() { Entry::Absent } else { file };
    let arguments = format!("{{\"path\":\"{path}\",\"new\":\"{new}\"}}");
    let call = CallId::new(number, 0);
    let tool_call = ToolCall { call: call.clone(), provider_id: "p".into(), name: "file.edit".into(), arguments };
    history.intent(number, 1);
    history.add(Event::BlockDone { step: number, block: Block::ToolCall(tool_call), partial: false });
    history.closed(number, StopReason::ToolUse).judged(number, 0, EffectClass::Workspace, Verdict::Allow);
    history.started(number, 0, EffectClass::Workspace, 1).ended_with(number, 0, Some((path, entry)), false);
    history.add(Event::Merged { call, report: MergeReport::default() });
}

#[test]
fn a_run_that_goes_in_circles_is_told_and_then_ended() {
    let mut history = run("Make the test pass.");
    let mut reasons = Vec::new();
    for number in 1..=10 {
        change(&mut history, number, "a.rs", if number % 2 == 0 { "x" } else { "y" });
        reasons.extend(take_nudges(&mut history));
        assert!(matches!(history.only(), Command::CallModel { .. }));
    }
    assert_eq!(reasons, ["circle"; 3]);
    change(&mut history, 11, "a.rs", "y");
    let Command::Finish { status, summary } = history.only() else { panic!("goes on") };
    assert_eq!(status, FinishStatus::Failed);
    assert!(summary.contains("file.edit was made 6 times"), "{summary}");
}

#[test]
fn a_change_of_what_is_to_be_kept_is_pointed_out_twice() {
    let mut history = run("Save mail.ini as mail.json. Keep mail.ini.");
    change(&mut history, 1, "mail.ini", "a");
    let Command::Nudge { text, .. } = history.only() else { panic!("nudges") };
    assert!(text.contains("mail.ini was changed, and the task says: \"Keep mail.ini.\""), "{text}");
    assert_eq!(take_nudges(&mut history), ["kept"]);
    change(&mut history, 2, "mail.json", "b");
    assert_eq!(take_nudges(&mut history), ["remaining"], "what was changed before is not told again");
    change(&mut history, 3, "mail.ini", "");
    assert_eq!(take_nudges(&mut history), Vec::<String>::new(), "it is as it was");
    change(&mut history, 4, "mail.ini", "c");
    assert_eq!(take_nudges(&mut history), ["kept"]);
    change(&mut history, 5, "mail.ini", "d");
    assert_eq!(take_nudges(&mut history), Vec::<String>::new());

    let mut history = run("Set x in conf/schema.toml. Keep a.toml.");
    change(&mut history, 1, "conf/schema.toml", "x");
    assert_eq!(take_nudges(&mut history), Vec::<String>::new());
}

#[test]
fn a_change_that_failed_is_insisted_on_only_while_something_is_left() {
    let edit = "{\"path\":\"a.conf\",\"old\":\"x\",\"new\":\"y\"}";
    let told = |text: &str, writes: bool| {
        let mut history = run(text);
        step(&mut history, 1, "file.edit", edit, true);
        take_nudges(&mut history);
        if writes {
            step(&mut history, 2, "file.write", "{\"path\":\"old.txt\",\"content\":\"x\"}", false);
            take_nudges(&mut history);
        }
        history.intent(3, 1).text(3, "done").closed(3, StopReason::EndTurn);
        let Command::Nudge { reason, text } = history.only() else { panic!("nudges") };
        assert_eq!(reason, "unchanged");
        history.add(Event::Nudged { reason, text: text.clone() });
        history.intent(4, 1).text(4, "done").closed(4, StopReason::EndTurn);
        (text, take_nudges(&mut history).len())
    };
    let (text, _) = told("Set x to y in a.conf.", false);
    assert!(text.contains("You are not done"), "{text}");
    let (text, _) = told("Set x to y in a.conf and write what it was to old.txt.", false);
    assert!(text.contains("You are not done"), "{text}");
    let (text, more) = told("Find x in a.conf and write it to old.txt.", true);
    assert!(text.contains("Does the task ask for it?"), "{text}");
    assert_eq!(more, 0, "asked once");
}
