//! The browser through the whole program, against sites of the tests' own. Needs Chromium (Debian: `chromium`);
//! without it these tests say that they were skipped.

mod attacks;
mod uses;

use std::path::Path;

use homarus_test_kit::Turn;
use serde_json::{Value, json};

use crate::{
    program::Program,
    site::{Site, page},
};

fn is_missing() -> bool {
    let missing = !["chromium", "chromium-browser"].iter().any(|name| Path::new("/usr/bin").join(name).is_file());
    if missing {
        println!("skipped: there is no Chromium");
    }
    missing
}

fn open(url: &str) -> Turn {
    Turn::call("browser.open", json!({"url": url}))
}

fn act(arguments: Value) -> Turn {
    Turn::call("browser.act", arguments)
}

fn read() -> Turn {
    Turn::call("browser.read", json!({}))
}

/// Rules that allow the browser, on these sites.
fn rules(sites: &[&Site]) -> String {
    let hosts: Vec<String> = sites.iter().map(|site| format!("\"net:connect:{}\"", site.address)).collect();
    format!(
        "[[rule]]\neffect = \"allow\"\nmatch = [\"browser:*\"{}{}]\n",
        if hosts.is_empty() { "" } else { ", " },
        hosts.join(", ")
    )
}

/// A program whose model makes these calls and then ends.
fn program(mut turns: Vec<Turn>, rules: &str) -> Program {
    turns.push(Turn::text("Done."));
    let program = Program::with_turns(turns);
    std::fs::write(rules_file(&program), rules).unwrap();
    program
}

fn rules_file(program: &Program) -> String {
    program.home.parent().unwrap().join("rules.toml").to_str().unwrap().to_owned()
}

fn configure(program: &Program, text: &str) {
    std::fs::create_dir_all(program.home.join("config")).unwrap();
    std::fs::write(program.home.join("config/homarus.toml"), text).unwrap();
}

/// Runs it; what the model was told of each call.
fn run(program: &Program) -> Vec<String> {
    program.output(&["run", "do it", "--policy", &rules_file(program), "--approvals", "deny"]);
    told(program)
}

fn told(program: &Program) -> Vec<String> {
    let calls = program.server.model_calls();
    let messages = calls.last().unwrap().body["messages"].as_array().unwrap().clone();
    let tools = messages.iter().filter(|message| message["role"] == "tool");
    tools.map(|message| message["content"].as_str().unwrap().to_owned()).collect()
}

fn asked(turns: Vec<Turn>, sites: &[&Site]) -> Vec<String> {
    run(&program(turns, &rules(sites)))
}

/// What stands between the marks.
fn content(told: &str) -> &str {
    let (_, rest) = told.split_once("<<<outside ").unwrap_or_else(|| panic!("no page: {told}"));
    let (mark, rest) = rest.split_once('\n').unwrap();
    rest.strip_suffix(&format!("\noutside {mark}>>>\n")).unwrap_or_else(|| panic!("no end: {told}"))
}

fn html(body: &str) -> Vec<u8> {
    page("text/html; charset=utf-8", &format!("<!doctype html><title>T</title><body>{body}"))
}

fn path(line: &str) -> &str {
    line.split(' ').nth(1).unwrap_or_default()
}
