//! `homarus chat` at a real terminal, in tmux, and without one.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use homarus_test_kit::{Script, Turn};
use nix::sys::signal::{Signal, kill};
use serde_json::{Value, json};

use crate::{program::Program, seat::Terminal, tmux::Tmux};

const READY: &str = "/help · ";
const LISTENS: &str = "allow it? y";

fn write(path: &str, content: &str) -> Turn {
    Turn::call("file.write", json!({ "path": path, "content": content }))
}

fn shell(command: &str) -> Turn {
    Turn::call("shell.execute", json!({ "command": command }))
}

fn chat(program: &Program, args: &[&str]) -> Terminal {
    let mut terminal = Terminal::run(program, &[&["chat"], args].concat());
    terminal.wait_on_screen(READY);
    terminal
}

/// Types a message, sends it and waits until the agent rests again.
fn say(terminal: &mut Terminal, text: &str, answered_by: &str) {
    terminal.type_keys(&format!("{text}\r"));
    terminal.wait_until(answered_by, |terminal| terminal.page().contains(answered_by));
    terminal.wait_on_screen(READY);
}

/// What the user said, as the model was told with its call of this number.
fn said(program: &Program, call: usize) -> Vec<String> {
    let calls = program.server.model_calls();
    let messages = calls[call].body["messages"].as_array().unwrap();
    let users = messages.iter().filter(|message| message["role"] == "user");
    users.map(|message| message["content"].as_str().unwrap_or_default().to_owned()).collect()
}

#[test]
fn answers_stream_into_the_scrollback_and_calls_are_folded() {
    let program = Program::with_turns(vec![
        Turn::text("# Look\n\nI **look** at `it`.\n\n- one\n")
            .and_call("shell.execute", json!({ "command": "echo first-line; echo second-line" })),
        Turn::text("All done."),
    ]);
    let mut terminal = chat(&program, &["--approvals", "auto"]);
    say(&mut terminal, "do it", "All done.");
    let page = terminal.page();
    for part in
        ["› do it", "Look\n", "I look at it.", "• one", "● shell.execute echo first-line; echo second-line · exit 0 · "]
    {
        assert!(page.contains(part), "{part:?} is missing:\n{page}");
    }
    assert!(!page.contains("\nsecond-line"), "the output is folded:\n{page}");
    terminal.type_keys("\x0f");
    terminal.wait_on_screen("\nsecond-line");
    assert!(!terminal.screen().contains("All done."), "the pager has a screen of its own");
    terminal.type_keys("q");
    terminal.wait_on_screen("All done.");
    assert_eq!(terminal.page().matches("All done.").count(), 1, "{}", terminal.page());
    assert_eq!(terminal.page().matches(READY).count(), 1, "no old prompt is left:\n{}", terminal.page());
    terminal.type_keys("/quit\r");
    assert_eq!(terminal.end(), 0);
    assert!(terminal.is_given_back());
    assert!(terminal.page().contains("go on with: homarus chat 0"), "{}", terminal.page());
    program.verify();
}

#[test]
fn drafts_have_lines_words_history_and_wide_characters() {
    let program = Program::with_turns(vec![Turn::text("One."), Turn::text("Two."), Turn::text("Three.")]);
    let mut terminal = chat(&program, &[]);
    // A word cut and put back, a new line by Ctrl-J and one by Alt-Enter, a wide character removed.
    say(&mut terminal, "first wrong\x17line\nsecond漢字\x7f\x1b\rthird\x01\x1b[C\x1b[C\x1b[3~", "One.");
    assert!(said(&program, 0)[0].ends_with("first line\nsecond漢\nthrd"), "{:?}", said(&program, 0));
    // Pasted lines stay lines, pasted escapes do nothing, and a paste sends nothing.
    say(&mut terminal, "\x1b[200~pasted\n/quit\r\x1b[2Jtext\x1b[201~", "Two.");
    assert_eq!(said(&program, 1)[1], "pasted\n/quit\n[2Jtext");
    // Up leads through the lines of the draft to what was said before.
    say(&mut terminal, "\x1b[A\x1b[A\x1b[A\x1b[A\x1b[A again", "Three.");
    assert!(said(&program, 2)[2].contains("again") && said(&program, 2)[2].contains("first line"));
    terminal.type_keys("\x04");
    assert_eq!(terminal.end(), 0);
    let history = program.home.join("state/chat_history.jsonl");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&history).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(std::fs::read_to_string(&history).unwrap().lines().count(), 3);
}

#[test]
fn escape_stops_the_turn_and_what_was_typed_meanwhile_is_the_next_draft() {
    let program = Program::with_turns(vec![shell("echo started; sleep 600"), Turn::text("Here I am.")]);
    let mut terminal = chat(&program, &["--approvals", "auto"]);
    terminal.type_keys("wait long\r");
    terminal.wait_on_screen("│ started");
    terminal.type_keys("and then\rthis");
    terminal.wait_on_screen("  this");
    assert_eq!(program.server.model_calls().len(), 1, "nothing that was typed ahead is sent by itself");
    terminal.type_keys("\x1b");
    terminal.wait_until("the stop", |terminal| terminal.page().contains("■ stopped"));
    terminal.wait_on_screen(READY);
    assert!(terminal.screen().contains("› and then"), "{}", terminal.screen());
    say(&mut terminal, "", "Here I am.");
    assert_eq!(said(&program, 1)[1], "and then\nthis");
    program.verify();
}

#[test]
fn a_draft_is_kept_when_the_chat_is_ended_from_outside() {
    let program = Program::with_turns(vec![Turn::text("never heard").hold()]);
    let mut terminal = chat(&program, &[]);
    terminal.type_keys("first\r");
    program.wait_for_model_calls(1);
    terminal.type_keys("half a thought");
    terminal.wait_on_screen("half a thought");
    kill(terminal.program_pid(), Signal::SIGTERM).unwrap();
    terminal.end();
    assert!(terminal.page().contains("what you had typed is kept"), "{}", terminal.page());
    let mut terminal = chat(&program, &["last"]);
    terminal.type_keys("\x1b[A");
    terminal.wait_on_screen("› half a thought");
}

#[test]
fn of_fifty_approvals_buffered_input_gives_none() {
    const QUESTIONS: usize = 50;
    let ahead = [
        "y\r",
        "y\n",
        "yes\r",
        "\r",
        "y",
        "\x1b[200~y\r\x1b[201~",
        "\x1b[A\x1b[By\r",
        "y\ry\ry\ry\r",
        "Y\r\ny\r\n",
        "/approve\r",
        "v\rq",
        " y \r",
    ];
    let mut turns: Vec<Turn> = (0..QUESTIONS).map(|n| write(&format!("f{n}.txt"), "x\n").hold()).collect();
    turns.push(Turn::text("I give up."));
    let program = Program::with_script(Script { repeat_last: true, ..Script::new(turns) });
    let mut terminal = chat(&program, &[]);
    terminal.type_keys("write them\r");
    for number in 0..QUESTIONS {
        program.wait_for_model_calls(number + 1);
        terminal.type_keys(ahead[number % ahead.len()]);
        program.server.release();
        let title = format!("? approval write f{number}.txt");
        terminal.wait_until(&title, |terminal| terminal.page().contains(&title));
        // And once more in the instant the question appears.
        terminal.type_keys(ahead[(number + 5) % ahead.len()]);
        terminal.wait_on_screen(LISTENS);
        assert_eq!(program.file(&format!("f{number}.txt")), None, "{}", terminal.page());
        terminal.type_keys("n\r");
        terminal.wait_until("the refusal", |terminal| terminal.page().matches("✗ not applied: ").count() > number);
    }
    terminal.wait_until("the end", |terminal| terminal.page().contains("I give up."));
    let decided: Vec<Value> =
        program.events().into_iter().filter(|event| event["kind"] == "approval_decided").collect();
    assert_eq!(decided.len(), QUESTIONS);
    let granted = decided.iter().filter(|event| event["approval"]["granted"] == true).count();
    assert_eq!(granted, 0, "buffered input approved {granted} of {QUESTIONS}");
}

#[test]
fn a_message_begun_over_a_question_goes_into_the_draft_and_a_deliberate_yes_counts() {
    let program = Program::with_turns(vec![
        write("a.txt", "hello\n"),
        shell("cat a.txt"),
        Turn::text("Done."),
        Turn::text("Fine."),
    ]);
    let mut terminal = chat(&program, &[]);
    terminal.type_keys("do it\r");
    terminal.wait_on_screen(LISTENS);
    assert!(terminal.screen().contains("+hello"), "{}", terminal.screen());
    terminal.type_keys("yes, but mind the gap");
    terminal.wait_on_screen("› yes, but mind the gap");
    terminal.wait_on_screen(LISTENS);
    assert_eq!(program.file("a.txt"), None);
    terminal.type_keys("y\r");
    terminal.wait_until("the merge", |terminal| terminal.page().contains("✓ applied a.txt +1 -0"));
    terminal.wait_on_screen(READY);
    assert_eq!(program.file("a.txt").as_deref(), Some("hello\n"));
    assert!(terminal.screen().contains("› yes, but mind the gap"), "the draft is kept: {}", terminal.screen());
    say(&mut terminal, "", "Fine.");
    assert_eq!(said(&program, 3).last().map(String::as_str), Some("yes, but mind the gap"));
}

#[test]
fn killed_in_a_turn_it_goes_on_with_all_that_was_said() {
    let program = Program::with_turns(vec![Turn::text("One."), Turn::text("never heard").hold(), Turn::text("Three.")]);
    let mut terminal = chat(&program, &[]);
    say(&mut terminal, "first", "One.");
    terminal.type_keys("second\r");
    program.wait_for_model_calls(2);
    kill(terminal.program_pid(), Signal::SIGKILL).unwrap();
    terminal.child.wait().unwrap();
    program.wait_until_unowned();
    let mut terminal = chat(&program, &["last"]);
    let page = terminal.page();
    for part in ["› first", "One.", "› second", "the last turn was cut off"] {
        assert!(page.contains(part), "{part:?} is missing:\n{page}");
    }
    assert_eq!(program.server.model_calls().len(), 2, "nothing is asked before the user says so");
    say(&mut terminal, "third", "Three.");
    let all = said(&program, 2);
    assert!(all[0].ends_with("first"), "{all:?}");
    assert_eq!(all[1..], ["second", "third"]);
    program.verify();
}

#[test]
fn killed_over_a_question_it_is_asked_again() {
    let program = Program::with_turns(vec![write("a.txt", "x\n"), shell("cat a.txt"), Turn::text("Done.")]);
    let mut terminal = chat(&program, &[]);
    terminal.type_keys("do it\r");
    terminal.wait_on_screen(LISTENS);
    kill(terminal.program_pid(), Signal::SIGKILL).unwrap();
    terminal.child.wait().unwrap();
    program.wait_until_unowned();
    let mut terminal = Terminal::run(&program, &["chat", "last"]);
    terminal.wait_on_screen(LISTENS);
    assert!(terminal.page().contains("? approval write a.txt"), "{}", terminal.page());
    terminal.type_keys("y\r");
    terminal.wait_until("the answer", |terminal| terminal.page().contains("Done."));
    assert_eq!(program.file("a.txt").as_deref(), Some("x\n"));
    program.verify();
}

#[test]
fn left_over_a_question_it_is_asked_again_and_escape_lets_the_change_go() {
    let program = Program::with_turns(vec![write("a.txt", "x\n"), Turn::text("Later.")]);
    let mut terminal = chat(&program, &[]);
    terminal.type_keys("do it\r");
    terminal.wait_on_screen(LISTENS);
    terminal.type_keys("\x03");
    assert_eq!(terminal.end(), 130);
    let mut terminal = Terminal::run(&program, &["chat", "last"]);
    terminal.wait_on_screen(LISTENS);
    terminal.type_keys("\x1b");
    terminal.wait_until("the stop", |terminal| terminal.page().contains("■ stopped"));
    terminal.wait_on_screen(READY);
    say(&mut terminal, "then not", "Later.");
    assert_eq!(program.file("a.txt"), None);
    assert!(!program.kinds().contains(&"approval_decided".to_owned()));
    program.verify();
}

#[test]
fn the_terminal_is_given_back_however_it_ends() {
    for how in ["\x03", "TERM", "reload", "pager"] {
        let program = Program::with_turns(vec![Turn::text("never heard").hold()]);
        let mut terminal = chat(&program, &[]);
        terminal.type_keys("wait\r");
        program.wait_for_model_calls(1);
        assert!(!terminal.is_given_back(), "{how}: it was never taken");
        let pid = terminal.program_pid();
        match how {
            "TERM" => kill(pid, Signal::SIGTERM).unwrap(),
            "reload" => {
                kill(pid, Signal::SIGHUP).unwrap();
                terminal.wait_on_screen("the configuration was read again");
                assert!(!terminal.is_given_back(), "the chat goes on");
                kill(pid, Signal::SIGTERM).unwrap();
            }
            "pager" => {
                terminal.type_keys("/help\r");
                kill(pid, Signal::SIGTERM).unwrap();
            }
            keys => terminal.type_keys(keys),
        }
        assert_eq!(terminal.end(), 130, "{how}: {}", terminal.page());
        assert!(terminal.is_given_back(), "{how}: {:?}", terminal.written());
        assert_eq!(program.show()["status"], "paused", "{how}");
    }
}

#[test]
fn resizing_leaves_one_prompt_and_no_torn_lines() {
    let program = Program::with_turns(vec![
        Turn::text(
            "A paragraph that is long enough to be broken into several rows on any of the terminals that it is shown on here, and a bit more.",
        ),
        Turn::text("Another."),
    ]);
    let mut terminal = Terminal::sized(&program, &["chat"], 120, 40, &[]);
    terminal.wait_on_screen(READY);
    say(&mut terminal, "say much", "bit more.");
    terminal.type_keys("a draft that is longer than forty columns are wide");
    terminal.wait_on_screen("columns are wide");
    for (columns, rows) in [(40, 20), (120, 40), (80, 24), (20, 6), (80, 24)] {
        terminal.resize(columns, rows);
        terminal.wait_on_screen("wide");
    }
    say(&mut terminal, "!", "Another.");
    let page = terminal.page();
    assert_eq!(page.matches("Another.").count(), 1, "{page}");
    assert!(said(&program, 1)[1].ends_with("columns are wide!"));
    terminal.type_keys("/quit\r");
    assert_eq!(terminal.end(), 0);
}

#[test]
fn commands_work_and_a_slip_is_pointed_out() {
    let script = Script {
        models: vec!["first".to_owned(), "second".to_owned()],
        ..Script::new(vec![write("a.txt", "x\n"), shell("cat a.txt"), Turn::text("One."), Turn::text("Two.")])
    };
    let program = Program::with_script(script);
    assert_eq!(program.output(&["agents", "create", "helper"]).code, 0);
    let mut terminal = chat(&program, &["--approvals", "auto"]);
    say(&mut terminal, "do it", "One.");
    say(&mut terminal, "/cots", "did you mean /cost?");
    say(&mut terminal, "/cost", "3 steps · 2 calls");
    say(&mut terminal, "/diff", "changed by this conversation +1 -0");
    say(&mut terminal, "/model nonsense", "names no model");
    say(&mut terminal, "/model openai/second", "· model openai/second");
    say(&mut terminal, "/agent nobody", "there is no agent nobody");
    say(&mut terminal, "/agent helper", "· agent helper");
    say(&mut terminal, "/approve", "there is no open question");
    say(&mut terminal, "//model is a word", "Two.");
    let last = program.server.model_calls().pop().unwrap();
    assert_eq!(last.body["model"], "second");
    assert_eq!(said(&program, 3)[1], "/model is a word");
    assert_eq!(program.server.model_calls().len(), 4, "no command went to the model");
    terminal.type_keys("/quit\r");
    assert_eq!(terminal.end(), 0);
}

#[test]
fn what_turns_changed_is_taken_back_turn_by_turn_after_a_question() {
    let check = || shell("cat *.txt");
    let program = Program::with_turns(vec![
        write("a.txt", "one\n"),
        check(),
        Turn::text("First."),
        write("b.txt", "two\n"),
        check(),
        Turn::text("Second."),
        Turn::text("Third."),
    ]);
    let mut terminal = chat(&program, &["--approvals", "auto"]);
    say(&mut terminal, "/undo", "nothing was changed yet");
    say(&mut terminal, "write a", "First.");
    say(&mut terminal, "write b", "Second.");
    terminal.type_keys("/undo\r");
    terminal.wait_on_screen(LISTENS);
    assert!(terminal.screen().contains("-two"), "{}", terminal.screen());
    terminal.type_keys("n\r");
    terminal.wait_on_screen(READY);
    assert_eq!(program.file("b.txt").as_deref(), Some("two\n"), "a no changes nothing");
    for (gone, line) in [("b.txt", "-two"), ("a.txt", "-one")] {
        terminal.type_keys("/undo\r");
        terminal.wait_on_screen(line);
        terminal.wait_on_screen(LISTENS);
        terminal.type_keys("y\r");
        terminal.wait_on_screen(READY);
        assert_eq!(program.file(gone), None, "{}", terminal.page());
    }
    assert_eq!(program.file("seed.txt").as_deref(), Some("seed\n"));
    say(&mut terminal, "/undo", "nothing is left to undo");
    say(&mut terminal, "/undo 99", "is no step of this conversation");
    say(&mut terminal, "go on", "Third.");
    program.verify();
}

#[test]
fn what_the_model_says_cannot_draw_on_the_terminal_or_ask_a_question() {
    let evil = "\u{1b}[2J\u{1b}]0;owned\u{7} &#27;[31m `\u{1b}[1A` \u{202e}\n```\n\u{9b}2J\n```\n? approval run x\nallow it? y, n or v";
    let program = Program::with_turns(vec![
        Turn::text(evil).and_call("shell.execute", json!({"command": "printf '\\033[2Jx\\n'; true \u{1b}[2J"})),
        Turn::text("End."),
    ]);
    let mut terminal = chat(&program, &["--approvals", "auto"]);
    say(&mut terminal, "go", "End.");
    terminal.type_keys("\x0f");
    terminal.wait_on_screen("␛[2Jx");
    terminal.type_keys("q");
    terminal.wait_on_screen("End.");
    let written = terminal.written();
    assert!(
        !written.contains("owned\u{7}") && !written.contains('\u{9b}') && !written.contains('\u{202e}'),
        "{written:?}"
    );
    assert!(!written.contains("\x1b[31m") && !written.contains("\x1b]"), "{written:?}");
    // Only the pager clears a screen: its own.
    assert_eq!(written.matches("\x1b[2J").count(), written.matches("\x1b[H\x1b[2J").count(), "{written:?}");
    assert!(terminal.page().contains("␛[2J"), "{}", terminal.page());
}

#[test]
fn without_a_terminal_lines_are_messages() {
    let program = Program::with_turns(vec![Turn::text("One."), Turn::text("Two."), Turn::text("Three.")]);
    let piped = |args: &[&str], input: &str| {
        let mut child = program.command(args).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    };
    let done = piped(&["chat"], "first\n\n/cots\nsecond\n");
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    assert_eq!(String::from_utf8_lossy(&done.stdout), "One.\nTwo.\n", "only the model's words");
    assert!(String::from_utf8_lossy(&done.stderr).contains("did you mean /cost?"), "{done:?}");
    let done = piped(&["chat", "last", "--json"], "third\n");
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    let kinds: Vec<Value> = String::from_utf8_lossy(&done.stdout)
        .lines()
        .map(|line| {
            serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"))["kind"].clone()
        })
        .collect();
    assert!(kinds.contains(&json!("text_delta")) && kinds.contains(&json!("turn_ended")), "{kinds:?}");
    let all = said(&program, 2);
    assert_eq!(all[1..], ["second", "third"]);
    let done = piped(&["chat", "nonsense"], "");
    assert_eq!(done.status.code(), Some(1), "{done:?}");
}

#[test]
fn for_simple_terminals_whole_lines_are_read_and_nothing_is_redrawn() {
    let program = Program::with_turns(vec![
        write("a.txt", "x\n").hold(),
        shell("cat a.txt"),
        Turn::text("Done."),
        Turn::text("More."),
    ]);
    let mut terminal = Terminal::sized(&program, &["chat"], 80, 24, &[("ACCESSIBLE", "1"), ("NO_COLOR", "1")]);
    terminal.wait_for("you: ");
    terminal.type_keys("do it\n");
    program.wait_for_model_calls(1);
    terminal.type_keys("y\ny\n");
    program.server.release();
    terminal.wait_for("allow it?");
    assert_eq!(program.file("a.txt"), None);
    terminal.type_keys("y\n");
    terminal.wait_for("Done.");
    assert_eq!(program.file("a.txt").as_deref(), Some("x\n"));
    terminal.wait_until("the next prompt", |terminal| terminal.written().matches("you: ").count() == 2);
    terminal.type_keys("more\n");
    terminal.wait_for("More.");
    terminal.type_keys("/quit\n");
    assert_eq!(terminal.end(), 0);
    assert!(!terminal.written().contains('\u{1b}'), "{:?}", terminal.written());
}

/// The same program in another terminal than our own, which scrolls, wraps and reflows by itself.
#[test]
fn in_tmux_the_scrollback_holds_the_whole_conversation_once() {
    if Command::new("tmux").arg("-V").output().is_err() {
        println!("skipped: tmux is not installed");
        return;
    }
    let long: String = (1..=60).map(|n| format!("- point {n} of the long answer\n")).collect();
    let program =
        Program::with_turns(vec![Turn::text(&long), write("a.txt", "x\n"), shell("cat a.txt"), Turn::text("Done.")]);
    let tmux = Tmux::start(&program, 80, 24);
    tmux.wait_for(READY);
    tmux.keys(&["tell me", "Enter"]);
    tmux.wait_for("tokens · cost unknown");
    // The line at the bottom is drawn anew after the bill.
    tmux.wait_for(READY);
    let page = tmux.page();
    for n in 1..=60 {
        assert_eq!(page.matches(&format!("• point {n} of")).count(), 1, "{n}:\n{page}");
    }
    assert_eq!(page.matches(READY).count(), 1, "{page}");
    tmux.run(&["resize-window", "-x", "40", "-y", "20"]);
    tmux.keys(&["write it", "Enter"]);
    tmux.wait_for("allow it?");
    tmux.keys(&["y"]);
    tmux.wait_for("then Enter: y");
    tmux.keys(&["Enter"]);
    tmux.wait_for("Done.");
    assert_eq!(program.file("a.txt").as_deref(), Some("x\n"));
    tmux.keys(&["C-d"]);
    tmux.wait_for("go on with: homarus chat");
}
