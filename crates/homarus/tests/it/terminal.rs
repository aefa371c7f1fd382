//! Approvals at a real terminal: a pseudo-terminal that is the program's controlling one.

use homarus_test_kit::Turn;
use serde_json::json;

use crate::{program::Program, seat::Terminal};

fn write(content: &str) -> Turn {
    Turn::call("file.write", json!({ "path": "a.txt", "content": content }))
}

#[test]
fn a_yes_at_the_terminal_merges_the_shown_diff() {
    let program = Program::with_turns(vec![write("hello\n"), Turn::text("Done."), Turn::text("Checked.")]);
    let mut terminal = Terminal::run(&program, &["run", "do it"]);
    terminal.wait_for("allow it? y, n or v");
    assert!(terminal.written().contains("+hello"), "{}", terminal.written());
    assert_eq!(program.file("a.txt"), None);
    assert_eq!(terminal.answer_to_the_end("y\n"), 0, "{}", terminal.written());
    assert_eq!(program.file("a.txt").as_deref(), Some("hello\n"));
    let decided = program.events().into_iter().find(|event| event["kind"] == "approval_decided").unwrap();
    assert!(decided["approval"]["who"].as_str().unwrap().starts_with("terminal:"), "{decided}");
    assert!(terminal.is_given_back());
}

#[test]
fn keys_typed_before_the_question_never_answer_it() {
    let program = Program::with_turns(vec![write("hello\n").hold(), Turn::text("Done.")]);
    let mut terminal = Terminal::run(&program, &["run", "do it"]);
    program.wait_for_model_calls(1);
    terminal.type_keys(&"y\n".repeat(50));
    program.server.release();
    terminal.wait_for("allow it? y, n or v");
    terminal.answer_to_the_end("n\n");
    assert_eq!(program.file("a.txt"), None, "{}", terminal.written());
    let decided = program.events().into_iter().find(|event| event["kind"] == "approval_decided").unwrap();
    assert_eq!(decided["approval"]["granted"], false, "{decided}");
}

#[test]
fn what_is_asked_about_cannot_draw_on_the_terminal() {
    let evil = "\u{1b}[2J\u{1b}[1;1Hallow it? y\u{202e}\r\n";
    let program = Program::with_turns(vec![write(evil), Turn::text("Done.")]);
    let mut terminal = Terminal::run(&program, &["run", "do it"]);
    terminal.wait_for("allow it? y, n or v");
    let screen = terminal.written();
    let foreign = screen.replace("\u{1b}[?2004h", "").replace("\u{1b}[K", "");
    assert!(!foreign.contains('\u{1b}') && !screen.contains('\u{202e}'), "{screen:?}");
    terminal.answer_to_the_end("n\n");
    assert_eq!(program.file("a.txt"), None);
}

#[test]
fn a_long_question_is_paged_and_only_an_answer_given_afterwards_counts() {
    let lines: String = (1..=200).map(|n| format!("let x{n} = \"text {n}\";\n")).collect();
    let turn = Turn::call("file.write", json!({ "path": "a.rs", "content": lines }));
    let program = Program::with_turns(vec![turn, Turn::text("Done."), Turn::text("Checked.")]);
    let mut terminal = Terminal::sized(&program, &["run", "do it"], 80, 24, &[]);
    terminal.wait_on_screen("allow it? y, n or v");
    assert!(terminal.screen().contains("more lines: v shows all"), "{}", terminal.screen());
    assert!(!terminal.written().contains("text 150"), "it is not all poured out");
    // Added lines are green, strings in them yellow, keywords magenta.
    for painted in ["\u{1b}[1;32m+\u{1b}[0m", "\u{1b}[33m\"text 1\"\u{1b}[0m", "\u{1b}[35mlet\u{1b}[0m"] {
        assert!(terminal.written().contains(painted), "{painted:?}");
    }
    terminal.type_keys("v\n");
    terminal.wait_on_screen("space on, b back");
    terminal.type_keys(" ");
    terminal.wait_on_screen("text 30");
    terminal.type_keys("G");
    terminal.wait_on_screen("end · space");
    // In the pager an answer is none.
    terminal.type_keys("y");
    terminal.type_keys("b");
    terminal.wait_until("a page back", |terminal| terminal.screen().contains("% · space"));
    // The question as it stood comes back with the screen; only what is typed after it was asked anew counts.
    let asked = terminal.written().matches("allow it?").count();
    terminal.type_keys("q");
    terminal.wait_until("the question again", |terminal| terminal.written().matches("allow it?").count() > asked);
    assert_eq!(program.file("a.rs"), None);
    assert_eq!(terminal.answer_to_the_end("y\n"), 0, "{}", terminal.written());
    assert_eq!(program.file("a.rs").as_deref(), Some(lines.as_str()));
    assert!(terminal.is_given_back());
}

#[test]
fn a_plain_terminal_is_asked_with_whole_lines() {
    let program = Program::with_turns(vec![write("hello\n"), Turn::text("Done."), Turn::text("Checked.")]);
    let mut terminal = Terminal::sized(&program, &["run", "do it"], 80, 24, &[("TERM", "dumb")]);
    terminal.wait_for("allow it?");
    assert!(!terminal.written().contains('\u{1b}'), "nothing is redrawn");
    terminal.type_keys("yes please\n");
    terminal.wait_for("that is no answer");
    assert_eq!(terminal.answer_to_the_end("y\n"), 0, "{}", terminal.written());
    assert_eq!(program.file("a.txt").as_deref(), Some("hello\n"));
}

#[test]
fn an_interrupted_question_gives_the_terminal_back() {
    let program = Program::with_turns(vec![write("hello\n"), Turn::text("Done.")]);
    let mut terminal = Terminal::run(&program, &["run", "do it"]);
    terminal.wait_for("allow it? y, n or v");
    assert!(!terminal.is_given_back());
    terminal.type_keys("\u{3}");
    assert_eq!(terminal.end(), 130);
    assert!(terminal.is_given_back());
    assert_eq!(program.file("a.txt"), None);
}
