//! The embedded model's client against a fake worker on real pipes.

use std::{
    io::{BufRead, BufReader, PipeReader, PipeWriter, Write},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures_util::StreamExt;
use homarus_contract::{
    message::StopReason,
    model::{ModelErrorClass, ModelEvent, Models},
    sandbox::{SandboxError, WorkerLauncher, WorkerProcess, WorkerSpec},
    worker::{WorkerReply, WorkerRequest},
};
use homarus_models::{LocalOptions, Options, Registry, prices::Prices};
use homarus_test_kit::permit_for_model;
use homarus_vault::Vault;
use tokio::sync::watch;

use crate::support::{NoWorkers, ask, request};

/// A worker's life: reads requests, writes replies, and ends when it returns.
type Behaviour = fn(FakeWorker);

/// Launches threads in place of processes.
struct FakeLauncher {
    behaviour: Behaviour,
    launches: AtomicUsize,
    specs: Mutex<Vec<WorkerSpec>>,
    seen: Arc<Mutex<Vec<WorkerRequest>>>,
    ended: watch::Sender<usize>,
}

struct FakeWorker {
    requests: std::io::Lines<BufReader<PipeReader>>,
    replies: PipeWriter,
    seen: Arc<Mutex<Vec<WorkerRequest>>>,
}

/// Stands for the process: dropped means killed.
struct Guard(watch::Sender<usize>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.send_modify(|ended| *ended += 1);
    }
}

impl WorkerLauncher for FakeLauncher {
    fn launch(&self, spec: WorkerSpec) -> Result<WorkerProcess, SandboxError> {
        self.launches.fetch_add(1, Ordering::SeqCst);
        self.specs.lock().unwrap().push(spec);
        let (their_stdin, our_stdin) = std::io::pipe().unwrap();
        let (our_stdout, their_stdout) = std::io::pipe().unwrap();
        let worker = FakeWorker {
            requests: BufReader::new(their_stdin).lines(),
            replies: their_stdout,
            seen: self.seen.clone(),
        };
        let behaviour = self.behaviour;
        std::thread::spawn(move || behaviour(worker));
        Ok(WorkerProcess {
            stdin: our_stdin.into(),
            stdout: our_stdout.into(),
            guard: Box::new(Guard(self.ended.clone())),
        })
    }
}

impl FakeWorker {
    fn ready(&mut self) {
        self.say(&WorkerReply::Ready { model: "fake".to_owned(), context_tokens: 4096 });
    }

    fn next(&mut self) -> Option<WorkerRequest> {
        let request: WorkerRequest = serde_json::from_str(&self.requests.next()?.ok()?).unwrap();
        self.seen.lock().unwrap().push(request.clone());
        Some(request)
    }

    /// The id of the next request to generate; `None` at the end of input.
    fn next_generate(&mut self) -> Option<u64> {
        loop {
            if let WorkerRequest::Generate { id, .. } = self.next()? {
                return Some(id);
            }
        }
    }

    fn say(&mut self, reply: &WorkerReply) {
        self.say_raw(&serde_json::to_string(reply).unwrap());
    }

    fn say_raw(&mut self, line: &str) {
        // The other side may be gone: that is what some tests are about.
        let _ = writeln!(self.replies, "{line}");
    }

    fn text(&mut self, id: u64, delta: &str) {
        self.say(&WorkerReply::Text { id, delta: delta.to_owned() });
    }

    fn done(&mut self, id: u64, stop: StopReason) {
        self.say(&WorkerReply::Done { id, stop, input_tokens: 10, cached_tokens: 90, output_tokens: 5 });
    }
}

fn launcher(behaviour: Behaviour) -> Arc<FakeLauncher> {
    Arc::new(FakeLauncher {
        behaviour,
        launches: AtomicUsize::new(0),
        specs: Mutex::default(),
        seen: Arc::default(),
        ended: watch::channel(0).0,
    })
}

fn registry(launcher: Arc<dyn WorkerLauncher>, change: impl FnOnce(&mut LocalOptions)) -> Registry {
    let mut local = LocalOptions {
        worker: "/opt/local-model".into(),
        weights: "/opt/weights.gguf".into(),
        name: "fake".to_owned(),
        context_tokens: 4096,
        memory_bytes: 1 << 30,
        idle_ms: 600_000,
        silence_ms: 20_000,
    };
    change(&mut local);
    let vault = Vault::from_lookup(vec![], |_| None).unwrap();

    let options = Options { locals: vec![local], ..Options::default() };
    Registry::new(options, Arc::new(vault), launcher, Prices::default())
}

fn answers(mut worker: FakeWorker) {
    worker.ready();
    while let Some(id) = worker.next_generate() {
        worker.text(id, "I ");
        worker.text(id, "write.");
        worker.say(&WorkerReply::CallStarted { id, index: 0, name: "file.write".to_owned() });
        worker.say(&WorkerReply::CallDelta { id, index: 0, json: "{\"path\":".to_owned() });
        worker.say(&WorkerReply::CallDelta { id, index: 0, json: "\"a\"}".to_owned() });
        let arguments = "{\"path\":\"a\"}".to_owned();
        worker.say(&WorkerReply::Call { id, index: 0, name: "file.write".to_owned(), arguments });
        worker.say(&WorkerReply::Call { id, index: 1, name: "plain_name".to_owned(), arguments: "{}".to_owned() });
        worker.done(id, StopReason::ToolUse);
    }
}

#[tokio::test]
async fn it_answers_and_stays_for_the_next_request() {
    let launcher = launcher(answers);
    let registry = registry(launcher.clone(), |_| {});
    for _ in 0..3 {
        let said = ask(&registry, request("local/fake")).await;
        let (stop, usage) = said.ok();
        assert_eq!(stop, StopReason::ToolUse);
        assert_eq!((usage.input_tokens, usage.cache_read_tokens, usage.output_tokens), (Some(10), Some(90), Some(5)));
        assert_eq!(said.texts(), ["I write."]);
        assert_eq!(said.calls(), [("file.write", "{\"path\":\"a\"}"), ("plain_name", "{}")]);
        let ids = said.call_ids();
        assert_ne!(ids[0], ids[1]);
    }
    assert_eq!(launcher.launches.load(Ordering::SeqCst), 1);
    let spec = launcher.specs.lock().unwrap()[0].clone();
    assert_eq!(spec.args, ["--weights", "/opt/weights.gguf", "--context-tokens", "4096"]);
    assert_eq!(spec.readable, [std::path::PathBuf::from("/opt/weights.gguf")]);
    match &launcher.seen.lock().unwrap()[0] {
        WorkerRequest::Generate { system, tools, messages, output_tokens_max, .. } => {
            assert_eq!(
                (system.as_str(), tools.len(), messages.len(), *output_tokens_max),
                ("You are a test.", 3, 1, 512)
            );
            assert_eq!(tools[0].name, "file.write");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn nothing_is_started_before_it_is_needed() {
    let launcher = launcher(answers);
    let registry = registry(launcher.clone(), |_| {});
    assert!(registry.is_up("local").await);
    assert_eq!(registry.list("local").await.unwrap(), ["fake"]);
    let info = registry.info(&"local/fake".parse().unwrap());
    assert!(info.is_local && info.price.is_some_and(|price| price.input == 0 && price.output == 0));
    assert_eq!(ask(&registry, request("local/other")).await.error().class, ModelErrorClass::NotFound);
    assert_eq!(launcher.launches.load(Ordering::SeqCst), 0);
}

/// Each way a worker can fail, with what it does instead of answering.
#[tokio::test]
async fn whatever_happens_to_it_is_a_worker_error() {
    let cases: [(&str, Behaviour); 6] = [
        ("ends at once", |_| {}),
        ("ends when asked", |mut worker| {
            worker.ready();
            worker.next_generate();
        }),
        ("crashes within an answer", |mut worker| {
            worker.ready();
            if let Some(id) = worker.next_generate() {
                worker.text(id, "I was about t");
            }
        }),
        ("says nonsense at the start", |mut worker| worker.say_raw("llama_init: ggml error")),
        ("says nonsense within an answer", |mut worker| {
            worker.ready();
            worker.next_generate();
            worker.say_raw("{\"type\":\"text\"");
            while worker.next().is_some() {}
        }),
        ("says why it cannot start", |mut worker| {
            worker.say(&WorkerReply::Error {
                id: 0,
                class: ModelErrorClass::Worker,
                message: "no such file".to_owned(),
            });
        }),
    ];
    for (what, behaviour) in cases {
        let launcher = launcher(behaviour);
        let registry = registry(launcher.clone(), |_| {});
        for attempt in 1..=2 {
            let said = ask(&registry, request("local/fake")).await;
            assert_eq!(said.error().class, ModelErrorClass::Worker, "{what}: {:?}", said.error());
            assert_eq!(launcher.launches.load(Ordering::SeqCst), attempt, "{what}: each attempt gets a fresh worker");
            assert_eq!(*launcher.ended.borrow(), attempt, "{what}: the broken worker was not ended");
        }
    }
}

#[tokio::test]
async fn one_that_cannot_be_launched_is_a_worker_error() {
    let said = ask(&registry(Arc::new(NoWorkers), |_| {}), request("local/fake")).await;
    assert_eq!(said.error().class, ModelErrorClass::Worker);
    assert!(said.error().message.contains("no workers here"), "{}", said.error().message);
}

#[tokio::test]
async fn silence_is_bounded() {
    let cases: [(&str, Behaviour); 2] = [
        ("never ready", |mut worker| while worker.next().is_some() {}),
        ("never answers", |mut worker| {
            worker.ready();
            while worker.next().is_some() {}
        }),
    ];
    for (what, behaviour) in cases {
        let launcher = launcher(behaviour);
        let said = ask(&registry(launcher.clone(), |local| local.silence_ms = 100), request("local/fake")).await;
        assert_eq!(said.error().class, ModelErrorClass::Worker, "{what}");
        assert_eq!(*launcher.ended.borrow(), 1, "{what}");
    }
}

#[tokio::test]
async fn an_error_it_reports_leaves_it_running() {
    let launcher = launcher(|mut worker| {
        worker.ready();
        while let Some(id) = worker.next_generate() {
            let class = ModelErrorClass::ContextOverflow;
            worker.say(&WorkerReply::Error { id, class, message: "5000 tokens do not fit 4096".to_owned() });
        }
    });
    let registry = registry(launcher.clone(), |_| {});
    for _ in 0..2 {
        assert_eq!(ask(&registry, request("local/fake")).await.error().class, ModelErrorClass::ContextOverflow);
    }
    assert_eq!(launcher.launches.load(Ordering::SeqCst), 1);
}

/// Answers with its request's number, after having looked whether another came meanwhile.
fn one_at_a_time(mut worker: FakeWorker) {
    worker.ready();
    let mut open: Option<u64> = None;
    while let Some(request) = worker.next() {
        let WorkerRequest::Generate { id, .. } = request else { continue };
        assert!(open.replace(id).is_none());
        worker.text(id, &format!("answer {id}"));
        worker.done(id, StopReason::EndTurn);
        open = None;
    }
}

#[tokio::test]
async fn others_wait_in_line_and_too_many_are_turned_away() {
    let launcher = launcher(one_at_a_time);
    let registry = registry(launcher.clone(), |_| {});
    let all = futures_util::future::join_all((0..30).map(|_| ask(&registry, request("local/fake")))).await;
    let answered: Vec<&str> = all.iter().filter(|said| said.ending.is_ok()).map(|said| said.texts()[0]).collect();
    let turned_away = all
        .iter()
        .filter(|said| matches!(&said.ending, Err(error) if error.class == ModelErrorClass::Unavailable))
        .count();
    assert_eq!((answered.len(), turned_away), (17, 13));
    let expected: Vec<String> = (1..=17).map(|id| format!("answer {id}")).collect();
    assert_eq!(answered, expected);
    assert_eq!(launcher.launches.load(Ordering::SeqCst), 1);
}

/// Talks until it is cancelled, then ends properly.
fn talks_until_cancelled(mut worker: FakeWorker) {
    worker.ready();
    while let Some(request) = worker.next() {
        match request {
            WorkerRequest::Generate { id: 1, .. } => {
                worker.text(1, "on and on");
                worker.say(&WorkerReply::CallStarted { id: 1, index: 0, name: "file.write".to_owned() });
            }
            WorkerRequest::Cancel { id } => {
                worker.text(id, "late");
                worker.done(id, StopReason::Interrupted);
            }
            WorkerRequest::Generate { id, .. } => {
                worker.text(id, "fresh");
                worker.done(id, StopReason::EndTurn);
            }
        }
    }
}

#[tokio::test]
async fn dropping_the_stream_cancels_and_the_next_answer_is_clean() {
    let launcher = launcher(talks_until_cancelled);
    let registry = registry(launcher.clone(), |_| {});
    let first = request("local/fake");
    let mut stream = registry.stream(permit_for_model(&first.model.clone()), first);
    assert_eq!(stream.next().await, Some(ModelEvent::TextDelta("on and on".to_owned())));
    drop(stream);
    assert_eq!(ask(&registry, request("local/fake")).await.texts(), ["fresh"]);
    let seen = launcher.seen.lock().unwrap();
    assert!(matches!(&seen[1], WorkerRequest::Cancel { id: 1 }), "{seen:?}");
    assert_eq!(launcher.launches.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_call_that_must_not_run_cancels_the_rest() {
    let launcher = launcher(|mut worker| {
        worker.ready();
        while let Some(request) = worker.next() {
            match request {
                WorkerRequest::Generate { id, .. } => {
                    worker.say(&WorkerReply::CallStarted { id, index: 0, name: "format.disk".to_owned() });
                }
                WorkerRequest::Cancel { id } => worker.done(id, StopReason::Interrupted),
            }
        }
    });
    let registry = registry(launcher.clone(), |_| {});
    for _ in 0..2 {
        assert_eq!(ask(&registry, request("local/fake")).await.error().class, ModelErrorClass::Protocol);
    }
    let seen = launcher.seen.lock().unwrap();
    assert!(matches!(&seen[1], WorkerRequest::Cancel { id: 1 }), "{seen:?}");
    assert_eq!(launcher.launches.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn it_is_ended_when_idle_and_started_again() {
    let launcher = launcher(answers);
    let registry = registry(launcher.clone(), |local| local.idle_ms = 20);
    let mut ended = launcher.ended.subscribe();
    for count in 1..=2 {
        ask(&registry, request("local/fake")).await.ok();
        ended.wait_for(|ended| *ended == count).await.unwrap();
        assert_eq!(launcher.launches.load(Ordering::SeqCst), count);
    }
}

#[tokio::test]
async fn it_ends_with_the_registry() {
    let launcher = launcher(answers);
    let registry = registry(launcher.clone(), |_| {});
    ask(&registry, request("local/fake")).await.ok();
    drop(registry);
    assert_eq!(*launcher.ended.borrow(), 1);
}
