//! What a run does when providers fail, with the whole program; `docs/providers.md` lists the scenarios.

use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use homarus_test_kit::{ModelServer, Script, TlsFront, Turn};
use serde_json::{Value, json};

use crate::program::{Done, Program};

/// Declares tests, and the lines of the page that name them.
macro_rules! scenarios {
    ($($test:ident: $what:literal, $body:expr;)*) => {
        const ROWS: &[(&str, &str)] = &[$(($what, stringify!($test))),*];

        $(#[test]
        fn $test() {
            let body: fn() = $body;
            body();
        })*
    };
}

scenarios! {
    next_model_with_its_own_key: "a refused key: the next model is asked at once, each with its own key, and the cost is booked to the one that served", own_keys;
    circuit_skips_in_later_steps: "a model that keeps failing is skipped in later steps, and the event says why", circuit;
    a_model_that_recovered_is_asked_again: "a model that was skipped is tried again after its pause, and serves again once it answers", recovery;
    last_model_is_asked_although_open: "the only model left is asked although its circuit is open", last_resort;
    broken_text_is_kept: "an answer that breaks off after text was shown: the text stays and the next step goes on from it", broken_text;
    call_of_a_broken_answer_runs_once: "an answer that breaks off after its tool call was complete: the call runs, once", broken_call;
    one_deadline_for_all_attempts: "no answer begins within `models.answer_s`: the run ends and says so", deadline;
    a_model_that_hangs_leaves_time_for_the_next: "the first model takes the request and never answers: the next is asked in its share of `models.answer_s`", hanging;
    a_failed_attempt_is_paid_for: "an answer came that cannot be used: what it cost is booked, and another is asked for", paid;
    a_prompt_too_long_is_not_sent: "the conversation is longer than the model may be given: nothing is sent, and the run ends and says so", too_long;
    missing_fields_are_told_to_the_model: "arguments that miss fields: the tool refuses, and the model is told", missing_fields;
    a_refusal_ends_the_run: "the model refuses, or a filter cuts its answer off: the run ends as failed, and nothing else is asked", refused;
    an_uncounted_answer_costs_its_reservation: "no word about usage: what was reserved for the answer is booked", uncounted;
    each_model_has_its_own_limits: "the next model is asked within its own limits, not those of the first", own_limits;
    tls_with_a_certificate_of_ones_own: "a server with a certificate of one's own: refused, and reached once `SSL_CERT_FILE` names it", tls;
    reasoning_survives_the_process: "sealed reasoning comes back from the journal in another process, to the same model only", reasoning;
}

const AUTO: [&str; 4] = ["run", "do it", "--approvals", "auto"];

fn configure(program: &Program, text: &str) {
    let folder = program.home.join("config");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("homarus.toml"), text).unwrap();
}

fn other(program: &Program, turns: Vec<Turn>) -> ModelServer {
    program.runtime.block_on(ModelServer::start(Script::new(turns))).unwrap()
}

/// Two providers of one's own, `first` and `second`, before anything else.
fn two(first: &ModelServer, second: &ModelServer, more: &str) -> String {
    let one = |id: &str, server: &ModelServer| {
        let (url, key) = (server.base_url(), format!("{}_KEY", id.to_uppercase()));
        format!("[[models.provider]]\nid = \"{id}\"\nkind = \"openai\"\nurl = \"{url}\"\nkey = \"{key}\"\n")
    };
    format!("models.order = [\"first/m\", \"second/m\"]\n{more}{}{}", one("first", first), one("second", second))
}

fn with_keys(mut command: Command) -> Done {
    Done::of(command.env("FIRST_KEY", "sk-first-1111").env("SECOND_KEY", "sk-second-2222").output().unwrap())
}

fn events_of(program: &Program, kind: &str) -> Vec<Value> {
    program.events().into_iter().filter(|event| event["kind"] == kind).collect()
}

fn own_keys() {
    let program = Program::with_turns(vec![Turn::status(401, &[], r#"{"error":{"message":"no"}}"#)]);
    let second = other(&program, vec![Turn::text("Done.").usage(1_000, 10, 0, 0); 3]);
    let prices = program.home.join("prices.toml");
    fs::create_dir_all(&program.home).unwrap();
    fs::write(&prices, "[[models]]\npattern = \"second/m\"\ninput = 1.0\noutput = 2.0\n").unwrap();
    let more = format!("prices.file = {:?}\n", prices.display().to_string());
    configure(&program, &two(&program.server, &second, &more));
    let done = with_keys(program.bare_command(&AUTO));
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.stderr.contains("first/m") && done.stderr.contains("check FIRST_KEY"), "{}", done.stderr);
    let failed = &events_of(&program, "model_failed")[0];
    assert_eq!((&failed["model"], &failed["class"]), (&json!("first/m"), &json!("auth")));
    for served in events_of(&program, "model_result") {
        assert_eq!((&served["served_by"], &served["cost"]), (&json!("second/m"), &json!(1_020_000)), "{served}");
    }
    let keys = |server: &ModelServer| -> Vec<String> {
        server.model_calls().iter().map(|call| call.header("authorization").unwrap().to_owned()).collect()
    };
    assert_eq!(keys(&program.server), ["Bearer sk-first-1111"]);
    assert!(keys(&second).iter().all(|key| key == "Bearer sk-second-2222"));
}

fn circuit() {
    let program = Program::with_turns(vec![Turn::status(500, &[], "{}"); 2]);
    let turns = vec![
        Turn::call("shell.execute", json!({"command": "echo hi > a.txt"})),
        Turn::text("Done."),
        Turn::text("Done."),
    ];
    let second = other(&program, turns);
    let more = "[models.failover]\nfailures = 2\nopen_s = 3600\n";
    let text = two(&program.server, &second, "");
    configure(&program, &format!("{text}{more}"));
    let done = with_keys(program.bare_command(&AUTO));
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(program.server.model_calls().len(), 2, "the circuit opened in the first step and stayed so");
    let skipped = events_of(&program, "model_skipped");
    let steps: Vec<u64> = skipped.iter().map(|event| event["step"].as_u64().unwrap()).collect();
    assert!(steps.starts_with(&[1, 2]), "{skipped:?}");
    assert_eq!(skipped[0]["model"], "first/m");
    assert!(skipped[0]["why"].as_str().unwrap().contains("failed 2 times in a row"), "{skipped:?}");
    assert!(done.stderr.contains("first/m is not asked"), "{}", done.stderr);
    assert_eq!(program.file("a.txt").as_deref(), Some("hi\n"));
    program.verify();
}

/// The command outlasts the pause, whatever else takes its time.
fn recovery() {
    let program = Program::with_turns(vec![Turn::status(503, &[], "{}"), Turn::text("Back."), Turn::text("Back.")]);
    let second = other(&program, vec![Turn::call("shell.execute", json!({"command": "sleep 1.2; echo hi > a.txt"}))]);
    let text = two(&program.server, &second, "");
    configure(&program, &format!("{text}[models.failover]\nfailures = 1\nopen_s = 1\n"));
    let done = with_keys(program.bare_command(&AUTO));
    assert_eq!(done.code, 0, "{done:?}");
    let served: Vec<Value> =
        events_of(&program, "model_result").into_iter().map(|event| event["served_by"].clone()).collect();
    assert_eq!(served[..2], [json!("second/m"), json!("first/m")], "{served:?}");
    assert_eq!(events_of(&program, "model_skipped").len(), 1);
    assert_eq!(second.model_calls().len(), 1);
}

fn last_resort() {
    let broken = || Turn::status(500, &[], "{}");
    let program = Program::with_turns(vec![broken(), broken(), Turn::text("Done."), Turn::text("Done.")]);
    let second = other(&program, vec![Turn::status(404, &[], "{}")]);
    configure(
        &program,
        &format!("{}[models.failover]\nfailures = 1\nopen_s = 3600\n", two(&program.server, &second, "")),
    );
    let done = with_keys(program.bare_command(&AUTO));
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(events_of(&program, "model_skipped").len(), 1, "first, while second had not been tried");
    assert_eq!(events_of(&program, "model_result")[0]["served_by"], "first/m");
    assert_eq!(second.model_calls().len(), 1);
}

fn broken_text() {
    let half = Turn::raw_sse(&[r#"{"choices":[{"index":0,"delta":{"content":"The first half "}}]}"#]);
    let program = Program::with_turns(vec![half, Turn::text("and the second."), Turn::text("Done.")]);
    let done = program.output(&AUTO);
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(done.stdout.matches("The first half").count(), 1, "{}", done.stdout);
    assert!(done.stdout.contains("and the second."), "{}", done.stdout);
    let broke = events_of(&program, "model_broke");
    assert_eq!((broke.len(), &broke[0]["class"]), (1, &json!("protocol")));
    let partial: Vec<Value> =
        events_of(&program, "block_done").into_iter().filter(|event| event["partial"] == true).collect();
    assert_eq!(partial[0]["block"]["text"], "The first half ");
    assert_eq!(events_of(&program, "model_result")[0]["stop"], "interrupted");
    let attempts = events_of(&program, "model_intent").into_iter().filter(|event| event["step"] == 1).count();
    assert_eq!(attempts, 1, "what was shown is not asked for again");
    let second = program.server.model_calls()[1].body["messages"].to_string();
    assert!(second.contains("The first half"), "{second}");
}

fn broken_call() {
    let arguments = json!({"command": "echo once >> count.txt"}).to_string();
    let call = json!({"index": 0, "id": "c1", "function": {"name": "shell-execute", "arguments": arguments}});
    let chunk = json!({"choices": [{"index": 0, "delta": {"tool_calls": [call]}}]}).to_string();
    let program = Program::with_turns(vec![Turn::raw_sse(&[&chunk]), Turn::text("Done."), Turn::text("Done.")]);
    let done = program.output(&AUTO);
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(program.file("count.txt").as_deref(), Some("once\n"));
    assert_eq!(events_of(&program, "model_broke").len(), 1);
    assert_eq!(events_of(&program, "act_intent").len(), 1);
    program.verify();
}

fn deadline() {
    let program = Program::with_turns(vec![Turn::stall(); 4]);
    configure(&program, "models.answer_s = 1\n");
    let done = program.output(&AUTO);
    assert_eq!(done.code, 1, "{done:?}");
    assert!(done.stderr.contains("models.answer_s"), "{}", done.stderr);
    let failed = &events_of(&program, "model_failed")[0];
    assert_eq!(failed["class"], "timeout");
    assert!(failed["wall_ms"].as_u64().unwrap() >= 900, "{failed}");
    assert_eq!(program.server.model_calls().len(), 1);
}

fn hanging() {
    let program = Program::with_turns(vec![Turn::stall(); 4]);
    let second = other(&program, vec![Turn::text("Done."); 3]);
    configure(&program, &two(&program.server, &second, "models.answer_s = 4\n"));
    let done = with_keys(program.bare_command(&AUTO));
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(events_of(&program, "model_failed")[0]["class"], "timeout");
    assert_eq!(events_of(&program, "model_result")[0]["served_by"], "second/m");
}

/// How long after each request the server saw the next one.
fn between(server: &ModelServer) -> Vec<Duration> {
    let times: Vec<Instant> = server.model_calls().iter().map(|call| call.at).collect();
    times.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

#[test]
fn the_pause_a_server_asks_for_is_waited_out() {
    let busy = Turn::status(429, &[("retry-after", "1")], "{}");
    let program = Program::with_turns(vec![busy, Turn::text("Here.")]);
    let done = program.output(&["run", "say something", "--approvals", "auto"]);
    assert_eq!((done.code, done.stdout.as_str()), (0, "Here.\n"), "{done:?}");
    assert_eq!(events_of(&program, "model_failed")[0]["retry_after_ms"], 1_000);
    let pauses = between(&program.server);
    assert!(pauses.len() == 1 && pauses[0] >= Duration::from_secs(1), "{pauses:?}");
}

#[test]
fn the_pause_grows_when_the_server_asks_for_none() {
    let busy = || Turn::status(429, &[], "{}");
    let program = Program::with_turns(vec![busy(), busy(), Turn::text("Here.")]);
    let done = program.output(&["run", "say something", "--approvals", "auto"]);
    assert_eq!((done.code, done.stdout.as_str()), (0, "Here.\n"), "{done:?}");
    let pauses = between(&program.server);
    let least = [Duration::from_millis(500), Duration::from_secs(1)];
    assert!(pauses.len() == 2 && pauses.iter().zip(least).all(|(pause, least)| *pause >= least), "{pauses:?}");
}

/// Pauses count too: the first model's last one would go beyond the time, and the second has what is left of it, once.
#[test]
fn one_deadline_for_two_models_and_their_pauses() {
    let program = Program::with_turns(vec![Turn::status(503, &[], "{}"); 8]);
    let second = other(&program, vec![Turn::stall(); 8]);
    configure(&program, &two(&program.server, &second, "models.answer_s = 3\n"));
    let began = Instant::now();
    let done = with_keys(program.bare_command(&AUTO));
    let took = began.elapsed();
    assert_eq!(done.code, 1, "{done:?}");
    assert!(done.stderr.contains("no answer began within 3 s (models.answer_s)"), "{}", done.stderr);
    assert_eq!(program.show()["status"], "failed");
    let (of_first, of_second) = (program.server.model_calls().len(), second.model_calls().len());
    assert!((1..=3).contains(&of_first) && of_second == 1, "asked {of_first} and {of_second} times");
    assert!(took >= Duration::from_secs(3) && took < Duration::from_secs(30), "{took:?}");
}

fn paid() {
    let bad = Turn::call("file.write", json!("{\"path\": oops}"));
    let good = Turn::text("Done.").usage(10, 5, 0, 0);
    let used = |program: &Program| {
        let done = program.output(&AUTO);
        assert_eq!(done.code, 0, "{done:?}");
        program.show()["budget"]["used"]["tokens"].as_u64().unwrap()
    };
    let alone = Program::with_turns(vec![good.clone(); 3]);
    let after_another = Program::with_turns(vec![bad, good.clone(), good.clone(), good]);
    let (plain, more) = (used(&alone), used(&after_another));
    assert_eq!(events_of(&after_another, "model_failed")[0]["class"], "protocol");
    assert!(more > plain + 100, "the prompt of the first attempt is booked: {plain} and {more}");
    let budget = after_another.show()["budget"].clone();
    assert_eq!(budget["reserved"]["tokens"], 0, "{budget}");
    after_another.verify();
}

fn too_long() {
    let program = Program::with_turns(vec![Turn::text("never asked for")]);
    let second = other(&program, vec![Turn::text("never asked for")]);
    let sections = two(&program.server, &second, "").replace("kind = ", "context_tokens = 5_000\nkind = ");
    configure(&program, &sections);
    let request = format!("Sort these words: {}", "words ".repeat(5_000));
    let done = with_keys(program.bare_command(&["run", &request, "--approvals", "auto"]));
    assert_eq!(done.code, 1, "{done:?}");
    assert!(done.stderr.contains("is given no more than 5000"), "{}", done.stderr);
    let failed = &events_of(&program, "model_failed")[0];
    assert_eq!(failed["class"], "context_overflow");
    assert!(events_of(&program, "model_intent").is_empty());
    assert!(program.server.requests().is_empty() && second.requests().is_empty());
}

fn refused() {
    for turn in [Turn::text("I will not.").stop("refusal"), Turn::empty().stop("refusal")] {
        let program = Program::with_turns(vec![turn, Turn::text("never asked for")]);
        let second = other(&program, vec![Turn::text("never asked for")]);
        configure(&program, &two(&program.server, &second, ""));
        let done = with_keys(program.bare_command(&AUTO));
        assert_eq!(done.code, 1, "{done:?}");
        assert!(done.stderr.contains("The model refused to answer."), "{}", done.stderr);
        assert_eq!((program.server.model_calls().len(), second.model_calls().len()), (1, 0));
        assert_eq!(program.show()["status"], "failed");
    }
}

fn uncounted() {
    let used = |turn: Turn| {
        let program = Program::with_turns(vec![turn]);
        assert_eq!(program.output(&["run", "say something", "--approvals", "auto"]).code, 0);
        let intent = events_of(&program, "model_intent")[0].clone();
        let budget = program.show()["budget"].clone();
        assert_eq!(budget["reserved"]["tokens"], 0, "{budget}");
        (budget["used"]["tokens"].as_u64().unwrap(), intent["reserved"]["tokens"].as_u64().unwrap())
    };
    let (used_counted, reserved) = used(Turn::text("Here.").usage(100, 10, 0, 0));
    assert!(used_counted == 110 && reserved > 110, "{used_counted} of {reserved}");
    let (used, reserved) = used(Turn::text("Here.").no_usage());
    assert!(used == reserved && reserved > 110, "{used} of {reserved}");
}

fn own_limits() {
    let program = Program::with_turns(vec![Turn::status(401, &[], "{}")]);
    let second = other(&program, vec![Turn::text("Done.").usage(10, 5, 0, 0)]);
    let text = two(&program.server, &second, "").replacen("kind = ", "output_tokens_max = 1_111\nkind = ", 1).replacen(
        "id = \"second\"\nkind = ",
        "id = \"second\"\noutput_tokens_max = 222\nkind = ",
        1,
    );
    configure(&program, &text);
    let done = with_keys(program.bare_command(&["run", "say something", "--approvals", "auto"]));
    assert_eq!(done.code, 0, "{done:?}");
    let asked = |server: &ModelServer| -> Vec<Value> {
        let bodies = server.model_calls().into_iter().map(|call| call.body);
        bodies.map(|body| body.get("max_completion_tokens").unwrap_or(&body["max_tokens"]).clone()).collect()
    };
    assert_eq!((asked(&program.server), asked(&second)), (vec![json!(1_111)], vec![json!(222)]));
}

fn missing_fields() {
    let program =
        Program::with_turns(vec![Turn::call("file.write", json!({})), Turn::text("I could not."), Turn::text("Done.")]);
    program.output(&AUTO);
    let second = program.server.model_calls()[1].body["messages"].clone();
    let result = second.as_array().unwrap().iter().find(|message| message["role"] == "tool").unwrap().to_string();
    assert!(result.contains("path"), "the model is told which field: {result}");
    assert!(events_of(&program, "merged").is_empty());
}

fn tls() {
    let program = Program::with_turns(vec![Turn::text("Done."), Turn::text("Done.")]);
    let front = program.runtime.block_on(TlsFront::start(program.server.address())).unwrap();
    let certificate = program.home.join("own.pem");
    fs::create_dir_all(&program.home).unwrap();
    fs::write(&certificate, front.certificate_pem()).unwrap();
    let command = || {
        let mut command = program.bare_command(&["models", "test", "openai/scripted"]);
        command.env("OPENAI_BASE_URL", front.base_url()).env("OPENAI_API_KEY", "sk-test");
        command
    };
    let refused = Done::of(command().output().unwrap());
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("SSL_CERT_FILE"), "{}", refused.stderr);
    assert!(program.server.requests().is_empty(), "nothing was sent to whom nobody trusts");
    let reached = Done::of(command().env("SSL_CERT_FILE", &certificate).output().unwrap());
    assert_eq!(reached.code, 0, "{reached:?}");
    assert_eq!(program.server.model_calls()[0].header("authorization"), Some("Bearer sk-test"));
}

fn reasoning() {
    const SEAL: &str = "c2VhbGVk";
    for (kind, provider, place) in [
        ("gemini", "gemini", "/contents/1/parts/0/thoughtSignature"),
        ("openai-responses", "own", "/input/1/encrypted_content"),
        ("anthropic", "own", "/messages/1/content/0/signature"),
    ] {
        let call = Turn::call("shell.execute", json!({"command": "echo hi > a.txt"})).thinking(SEAL);
        let program =
            Program::with_turns(vec![call, Turn::text("Done."), Turn::text("Once more."), Turn::text("Other.")]);
        let url = program.server.base_url();
        let section = |id: &str| format!("[[models.provider]]\nid = \"{id}\"\nkind = \"{kind}\"\nurl = \"{url}\"\n");
        configure(&program, &format!("{}{}", section(provider), section("another")));
        let model = format!("{provider}/scripted");
        let run = |args: &[&str]| {
            let done = Done::of(program.bare_command(args).output().unwrap());
            assert_eq!(done.code, 0, "{kind} {args:?}: {done:?}");
        };
        run(&[&AUTO[..], &["--conversation", "--model", &model]].concat());
        run(&["runs", "say", "last", "and now?"]);
        let calls = program.server.model_calls();
        for later in &calls[1..3] {
            assert_eq!(later.body.pointer(place), Some(&json!(SEAL)), "{kind}: {}", later.body);
        }
        run(&["runs", "configure", "last", "--model", "another/scripted"]);
        run(&["runs", "say", "last", "and you?"]);
        let last = program.server.model_calls().pop().unwrap().body;
        assert!(!last.to_string().contains(SEAL) && last.to_string().contains("and you?"), "{kind}: {last}");
    }
}

#[test]
fn the_page_lists_these_tests() {
    let mut table = "| what happens, and what the run does | test |\n|---|---|\n".to_owned();
    for (what, test) in ROWS {
        table += &format!("| {what} | `{test}` |\n");
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/providers.md");
    let text = fs::read_to_string(&path).unwrap();
    let (head, rest) = text.split_once("<!-- runs -->\n").unwrap();
    let (found, tail) = rest.split_once("<!-- /runs -->").unwrap();
    if found != table && std::env::var_os("UPDATE_DOCS").is_some() {
        return fs::write(&path, format!("{head}<!-- runs -->\n{table}<!-- /runs -->{tail}")).unwrap();
    }
    assert_eq!(found, table, "docs/providers.md is not what the tests say; UPDATE_DOCS=1 writes it anew");
}
