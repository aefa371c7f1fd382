//! A browser that answers as a test tells it to, over real pipes: for what no real one does on demand.

use std::{
    io::{BufRead, BufReader, PipeReader, PipeWriter, Write},
    net::TcpListener,
};

use homarus_contract::{
    egress::{EgressBounds, EgressRules, Refusal},
    guest::{Guest, GuestSpec},
    sandbox::SandboxError,
};
use serde_json::{Value, json};

use super::*;
use crate::web::fake::{Anywhere, profile, run};

/// What it answers.
pub enum Says {
    Result(Value),
    Error(&'static str),
    /// It ends, and its pipes are closed.
    End,
    /// What a page would say that shows one button and takes everything.
    Usual,
}

/// Is given the method of each question; of our own scripts instead `address`, `act`, `quiet` or `outline`.
pub type Script = Box<dyn FnMut(&str) -> Says + Send>;

/// The browsers of a process where the run of the tests has this one open.
pub async fn browsers(script: Script) -> Arc<Browsers> {
    let (for_us, to) = std::io::pipe().unwrap();
    let (from, for_them) = std::io::pipe().unwrap();
    std::thread::spawn(move || answer(for_us, for_them, script));
    let rules: Arc<dyn HostRules> = Arc::new(Anywhere);
    let browser = Browser {
        page: Page::take(to.into(), from.into()).await.unwrap(),
        shown: serde_json::from_value(outline()).unwrap(),
        rules: Arc::new(Rules::new(rules.clone(), profile())),
        way_out: Box::new(Nowhere),
        receipt: homarus_test_kit::receipt(),
        _guard: Box::new(()),
        profile: None,
    };
    let browsers = Browsers::new(Options {
        program: None,
        shelf: Shelf::new("/nowhere"),
        profile_of: Box::new(|_| Ok(None)),
        memory_bytes: 0,
        launcher: Arc::new(Nowhere),
        egress: Arc::new(Nowhere),
        rules,
    });
    browsers.slots().insert(run(), Arc::new(tokio::sync::Mutex::new(Some(browser))));
    browsers
}

fn answer(from: PipeReader, mut to: PipeWriter, mut script: Script) {
    for message in BufReader::new(from).split(0).map_while(Result::ok) {
        let message: Value = serde_json::from_slice(&message).unwrap();
        let what = what(&message);
        let mut answer = json!({"id": message["id"]});
        match script(what) {
            Says::Result(result) => answer["result"] = result,
            Says::Error(why) => answer["error"] = json!({"message": why}),
            Says::End => return,
            Says::Usual => answer["result"] = usual(what),
        }
        let mut bytes = serde_json::to_vec(&answer).unwrap();
        bytes.push(0);
        if to.write_all(&bytes).is_err() {
            return;
        }
    }
}

fn what(message: &Value) -> &str {
    let expression = message["params"]["expression"].as_str().unwrap_or_default();
    let scripts = [
        ("JSON.stringify(location", "address"),
        ("// Makes one", "act"),
        ("// Resolves when", "quiet"),
        ("// Reads a page", "outline"),
    ];
    let script = scripts.into_iter().find(|(start, _)| expression.starts_with(start));
    script.map_or(message["method"].as_str().unwrap_or_default(), |(_, what)| what)
}

fn usual(what: &str) -> Value {
    let value = |value: Value| json!({"result": {"value": value}});
    match what {
        "Target.getTargets" => json!({"targetInfos": [{"type": "page", "targetId": "t"}]}),
        "Target.attachToTarget" => json!({"sessionId": "s"}),
        "Page.createIsolatedWorld" => json!({"executionContextId": 1}),
        "address" => value(json!(outline()["url"].to_string())),
        "act" => value(json!(r#"{"x": 1, "y": 1}"#)),
        "quiet" => value(json!(true)),
        "outline" => value(json!(outline().to_string())),
        _ => json!({}),
    }
}

fn outline() -> Value {
    json!({
        "url": "https://a.example/", "title": "", "text": "[1: button \"Pay\"]", "is_cut": false,
        "elements": [{"number": 1, "role": "button", "name": "Pay"}],
    })
}

/// Starts and serves nothing.
struct Nowhere;

impl GuestLauncher for Nowhere {
    fn launch_guest(&self, _: GuestSpec) -> Result<Guest, SandboxError> {
        Err(SandboxError::Refused("there are no guests here".to_owned()))
    }
}

impl Egress for Nowhere {
    fn serve(
        &self,
        _: TcpListener,
        _: Arc<dyn EgressRules>,
        _: EgressBounds,
    ) -> std::io::Result<Box<dyn EgressHandle>> {
        Ok(Box::new(Nowhere))
    }
}

impl EgressHandle for Nowhere {
    fn take_refusals(&self) -> Vec<Refusal> {
        Vec::new()
    }

    fn bytes(&self) -> u64 {
        0
    }
}
