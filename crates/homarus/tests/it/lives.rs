//! A run that lives several lives: each life is a driver of its own, ended by a kill at an exact
//! commit, and the next one takes over. Journal, gate, guard, tools and sandbox are the real ones;
//! only the model is scripted.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt, stream};
use homarus_agent::Agent;
use homarus_contract::{
    BoxFuture, BoxStream,
    action::{Action, EffectClass, Plan, Resource, Tier},
    budget::Budget,
    event::{Accepted, AgentRef, ApprovalsMode, Event, Inbound, Profile, Record, Resolution},
    gate::{Gate, Permit},
    ids::{CallId, Hash, RunId},
    journal::{Append, Fence, Journal, JournalError},
    machine::Machine,
    message::{Message, StopReason, ToolDefinition, Usage},
    model::{ModelError, ModelErrorClass, ModelEvent, ModelInfo, ModelRef, ModelRequest, Models, Price, ProviderBlock},
    sandbox::{CallLimits, LayerDiff, LayerId, OutputSink},
    tool::{Tool, ToolContext, ToolError, ToolOutput},
};
use homarus_driver::{
    Control, Driver, Ended, Options,
    ports::{Approver, Decision, Live, Observer, Question},
};
use homarus_guard::Guard;
use homarus_sandbox::L1;
use homarus_store::Store;
use homarus_workflow::undo::{Target, Undo, WorkspaceUndo};

use crate::{
    fatal::{FatalModels, FatalSandbox, FatalTool, Fate, Point},
    mortal::Mortal,
};

/// What an outside world saw: effects by idempotency key or by call, and questions to the model.
#[derive(Default)]
pub struct Outside {
    pub unkeyed: AtomicU32,
    pub keyed: Mutex<BTreeMap<String, u32>>,
    /// How often the model was asked, by the number of answers it had given before.
    pub asked: Mutex<BTreeMap<usize, u32>>,
}

/// An answer that begins with this text fails when it is asked for first.
pub const FAILS_FIRST: &str = "That took two attempts.";

pub struct World {
    pub state: PathBuf,
    pub workspace: PathBuf,
    pub outside: Arc<Outside>,
    answers: Vec<Vec<ProviderBlock>>,
    rules: String,
    granted: bool,
    answered: bool,
    pub approval_ms: u64,
    /// How long the person at the keyboard thinks before each answer.
    pub thinks: Duration,
    pub wall_ms_max: u64,
    /// The clock on the wall, for driver and journal.
    pub clock: Arc<dyn Fn() -> u64 + Send + Sync>,
    /// Runs that undo others.
    undos: Mutex<BTreeMap<RunId, Target>>,
    /// A tool the driver has and the run is not offered.
    withheld: Option<&'static str>,
    pub agent: Option<AgentRef>,
    /// The request, if the run is one call by hand.
    call: Option<String>,
    _folder: tempfile::TempDir,
}

/// How a life is ended from outside.
#[derive(Debug, Clone, Copy)]
pub enum Kill {
    Never,
    /// Right after so many commits.
    Commits(u32),
    /// When it comes to this moment so many times.
    At(Point, u32),
}

/// How a life ended.
#[derive(Debug)]
pub enum Death {
    /// The run came to rest by itself.
    Rested(Ended),
    Killed,
}

impl World {
    pub fn new(answers: Vec<Vec<ProviderBlock>>, rules: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let workspace = folder.path().join("workspace");
        std::fs::create_dir(&workspace).unwrap();
        std::fs::write(workspace.join("seed.txt"), "seed\n").unwrap();
        Self {
            state: folder.path().join("state"),
            workspace: workspace.canonicalize().unwrap(),
            outside: Arc::new(Outside::default()),
            answers,
            rules: rules.to_owned(),
            granted: true,
            answered: true,
            approval_ms: 600_000,
            thinks: Duration::ZERO,
            wall_ms_max: Budget::default().wall_ms_max,
            clock: Arc::new(|| 1_000_000),
            undos: Mutex::default(),
            withheld: None,
            agent: None,
            call: None,
            _folder: folder,
        }
    }

    /// The person at the keyboard says no to everything.
    pub fn refusing(mut self) -> Self {
        self.granted = false;
        self
    }

    /// The person at the keyboard never answers.
    pub fn silent(mut self) -> Self {
        self.answered = false;
        self
    }

    /// From the next life on.
    pub fn under(mut self, rules: &str) -> Self {
        self.rules = rules.to_owned();
        self
    }

    pub fn withholding(mut self, tool: &'static str) -> Self {
        self.withheld = Some(tool);
        self
    }

    /// Makes `run` one that undoes all of another, when it is first lived.
    pub fn undoing(&self, run: &RunId, undone: &RunId) {
        let target = Target { run: undone.clone(), step: 0, last: CallId::new(99, 0) };
        self.undos.lock().unwrap().insert(run.clone(), target);
    }

    /// The run is one call by hand, without a model.
    pub fn of_call(tool: &str, arguments: &str, rules: &str) -> Self {
        Self { call: Some(homarus_agent::one_call::request(tool, arguments)), ..Self::new(Vec::new(), rules) }
    }

    /// The run is one of an agent with a folder of its own.
    pub fn of_agent(mut self) -> Self {
        let folder = self._folder.path().join("agent");
        std::fs::create_dir(&folder).unwrap();
        self.agent = Some(AgentRef { name: "tester".to_owned(), folder });
        self
    }

    /// One life: starts the run (or takes it over) and drives it until it rests or `kill_after`
    /// commits were made. Everything of this life is gone when it returns.
    pub fn live(&self, run: &RunId, kill_after: Option<u32>) -> Death {
        self.live_until(run, kill_after.map_or(Kill::Never, Kill::Commits))
    }

    pub fn live_until(&self, run: &RunId, kill: Kill) -> Death {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        // Dropping the runtime waits for blocking work that a kill would have ended half way.
        runtime.block_on(self.life(run, kill))
    }

    /// Lives until the run rests without being killed.
    pub fn live_to_the_end(&self, run: &RunId) -> Ended {
        match self.live(run, None) {
            Death::Rested(ended) => ended,
            Death::Killed => unreachable!("nobody kills this life"),
        }
    }

    pub fn records(&self, run: &RunId) -> Vec<Record> {
        self.store().read(&run.stream(), 0, 10_000).unwrap()
    }

    pub fn store(&self) -> Arc<Store> {
        Store::open_read_only(homarus_store::Options::new(&self.state)).unwrap()
    }

    pub fn file(&self, path: &str) -> Option<String> {
        std::fs::read_to_string(self.workspace.join(path)).ok()
    }

    /// Decides an unknown outcome, as `runs resolve` does.
    pub fn resolve(&self, run: &RunId, decision: Resolution) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let store = Store::open(homarus_store::Options::new(&self.state)).unwrap();
            let call = self
                .records(run)
                .iter()
                .rev()
                .find_map(|record| match &record.event {
                    Event::OutcomeUnknown { call } => Some(call.clone()),
                    _ => None,
                })
                .expect("an unknown outcome");
            let mut append = Append::new(store.claim(run.clone()).await.unwrap());
            append.push(Event::Resolved { call, decision, who: "test".to_owned() });
            let fence = Journal::append(store.as_ref(), append).await.unwrap();
            store.release(fence).await.unwrap();
        });
    }

    /// Ends a run that nobody drives, as `runs cancel` does.
    pub fn cancel(&self, run: &RunId) -> Ended {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let store = Store::open(homarus_store::Options::new(&self.state)).unwrap();
            let fate = Fate::new(None);
            let journal = Arc::new(Mortal::new(store.clone(), None, fate.clone()));
            let fence = take_over(&store, run).await;
            let driver = self.driver(Agent, &store, journal, run, &fate);
            driver.cancel(fence, &Control::default()).await.expect("cancels")
        })
    }

    async fn life(&self, run: &RunId, kill: Kill) -> Death {
        let clock = self.clock.clone();
        let options = homarus_store::Options { clock, ..homarus_store::Options::new(&self.state) };
        let store = Store::open(options).unwrap();
        let (commits, end) = match kill {
            Kill::Never => (None, None),
            Kill::Commits(commits) => (Some(commits), None),
            Kill::At(point, times) => (None, Some((point, times))),
        };
        let fate = Fate::new(end);
        let journal = Arc::new(Mortal::new(store.clone(), commits, fate.clone()));
        let fence = match store.run(run) {
            Ok(_) => Ok(take_over(&store, run).await),
            Err(_) => self.accept(journal.as_ref(), run).await,
        };
        let Ok(fence) = fence else { return Death::Killed };
        if self.undos.lock().unwrap().contains_key(run) {
            return drive(&self.driver(Undo, &store, journal.clone(), run, &fate), &journal, fence, &fate).await;
        }
        drive(&self.driver(Agent, &store, journal.clone(), run, &fate), &journal, fence, &fate).await
    }

    async fn accept(&self, journal: &Mortal, run: &RunId) -> Result<Fence, ()> {
        let mut definitions = homarus_tools::offered(&self.tools(journal.inner.clone()), self.agent.as_ref(), false);
        definitions.retain(|tool| self.withheld != Some(tool.name.as_str()));
        let tools = serde_json::to_vec(&definitions).unwrap();
        let (system, orientation) = (b"system".to_vec(), Vec::new());
        let undo = self.undos.lock().unwrap().get(run).map(ToString::to_string);
        let machine = match (&undo, &self.call) {
            (Some(_), _) => homarus_workflow::undo::NAME,
            (None, Some(_)) => homarus_agent::one_call::MACHINE,
            (None, None) => homarus_agent::NAME,
        };
        let text = undo.or(self.call.clone()).unwrap_or_else(|| "do it".to_owned());
        let accepted = Accepted {
            run: run.clone(),
            inbound: Inbound { source: "test".to_owned(), ext_id: run.to_string(), text },
            machine: machine.to_owned(),
            workspace: self.workspace.clone(),
            agent: self.agent.clone(),
            models: if self.call.is_some() { Vec::new() } else { vec!["test/scripted".parse().unwrap()] },
            models_why: String::new(),
            answer_ms_max: 900_000,
            profile: self.profile(),
            budget: Budget { steps_max: 40, wall_ms_max: self.wall_ms_max, ..Budget::default() },
            chosen: None,
            conversation: false,
            system: Hash::of(&system),
            tools: Hash::of(&tools),
            orientation: Hash::of(&orientation),
            homarus_version: "test".to_owned(),
        };
        let fence = journal.accept(accepted, vec![system, tools, orientation]);
        tokio::select! {
            biased;
            () = journal.dead.notified() => Err(()),
            fence = fence => Ok(fence.expect("accepted")),
        }
    }

    fn profile(&self) -> Profile {
        let grants = ["file:read:./**", "file:write:./**", "shell:run", "memory:write"];
        Profile {
            grants: grants.into_iter().map(str::to_owned).collect(),
            rules: self.rules.clone(),
            approvals: ApprovalsMode::Ask,
            tier: Tier::Internal,
        }
    }

    fn tools(&self, journal: Arc<dyn Journal>) -> Vec<Arc<dyn Tool>> {
        let vault = homarus_vault::Vault::from_lookup(Vec::new(), |_| None).unwrap();
        let mut tools = homarus_tools::all(homarus_tools::Options {
            outbound: Arc::new(vault),
            host_rules: Arc::new(homarus_guard::Hosts),
            search: None,
            browsers: None,
            skills: Arc::new(homarus_agent::skill::Shelf::default()),
        });
        tools.push(Arc::new(WorkspaceUndo::new(journal)));
        for class in [EffectClass::Unkeyed, EffectClass::Keyed] {
            tools.push(Arc::new(Effect { class, outside: self.outside.clone() }));
        }
        tools
    }

    fn driver<M: Machine>(
        &self,
        machine: M,
        store: &Arc<Store>,
        journal: Arc<Mortal>,
        run: &RunId,
        fate: &Arc<Fate>,
    ) -> Driver<M, Arc<Guard>, Arc<Mortal>> {
        let guard = Arc::new(Guard::new("test", |_: &ModelRef| true));
        guard.register(run, &self.profile(), &Budget::default()).expect("the rules are valid");
        let mut options = homarus_sandbox::Options::new(&self.state);
        options.driver_lock = store.driver_lock().map(|file| Arc::new(file.try_clone().unwrap()));
        options.hidden = vec![self.state.clone()];
        options.exe = PathBuf::from(env!("CARGO_BIN_EXE_homarus"));
        let report = L1::probe(&options);
        let inner = L1::new(options, report).expect("the sandbox is available");
        let sandbox = FatalSandbox { inner, fate: fate.clone(), layers: self.state.join("layers") };
        let fatal = |inner| -> Arc<dyn Tool> { Arc::new(FatalTool { inner, fate: fate.clone() }) };
        let scripted = Scripted { answers: self.answers.clone(), outside: self.outside.clone() };
        Driver::new(Options {
            machine,
            gate: Gate::new(guard, journal.clone()),
            journal,
            models: Arc::new(FatalModels { inner: scripted, fate: fate.clone() }),
            tools: self.tools(store.clone()).into_iter().map(fatal).collect(),
            sandbox: Arc::new(sandbox),
            observer: Arc::new(Silent),
            approver: Arc::new(Person { granted: self.granted, answers: self.answered, thinks: self.thinks }),
            limits: CallLimits::default(),
            calls_at_once: 4,
            clock: self.clock.clone(),
            steady_clock: Arc::new(|| 1_000),
            approval_ms: self.approval_ms,
            output_tokens_max: 1_000,
        })
    }
}

async fn drive<M: Machine>(
    driver: &Driver<M, Arc<Guard>, Arc<Mortal>>,
    journal: &Mortal,
    fence: Fence,
    fate: &Fate,
) -> Death {
    tokio::select! {
        biased;
        () = journal.dead.notified() => Death::Killed,
        () = fate.dead.notified() => Death::Killed,
        ended = async { driver.drive(fence, &Control::default()).await } => Death::Rested(ended.expect("drives")),
    }
}

pub fn text(text: &str) -> ProviderBlock {
    ProviderBlock::Text(text.to_owned())
}

pub fn call(name: &str, arguments: &str) -> ProviderBlock {
    ProviderBlock::ToolCall { provider_id: "p1".to_owned(), name: name.to_owned(), arguments: arguments.to_owned() }
}

/// The lock of a dead driver is free when the last of its sandboxes is gone, which takes a moment.
async fn take_over(store: &Store, run: &RunId) -> Fence {
    for _ in 0..1_000 {
        match store.claim(run.clone()).await {
            Err(JournalError::Busy(_)) => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
            claimed => return claimed.expect("the owner is dead"),
        }
    }
    panic!("the lock of a dead driver is still held")
}

/// A model whose n-th answer is written down; it counts how often it was asked for each.
struct Scripted {
    answers: Vec<Vec<ProviderBlock>>,
    outside: Arc<Outside>,
}

impl Models for Scripted {
    fn stream(&self, _permit: Permit, request: ModelRequest) -> BoxStream<ModelEvent> {
        let given = request.messages.iter().filter(|message| matches!(***message, Message::Assistant { .. })).count();
        *self.outside.asked.lock().unwrap().entry(given).or_default() += 1;
        let blocks = self.answers.get(given).cloned().unwrap_or_else(|| vec![text("All done.")]);
        let uses_tools = blocks.iter().any(|block| matches!(block, ProviderBlock::ToolCall { .. }));
        let stop = if uses_tools { StopReason::ToolUse } else { StopReason::EndTurn };
        let usage = Usage { input_tokens: Some(10), output_tokens: Some(5), ..Usage::default() };
        let is_first = self.outside.asked.lock().unwrap()[&given] == 1;
        if is_first && blocks.first() == Some(&text(FAILS_FIRST)) {
            let (class, message) = (ModelErrorClass::Network, "no connection".to_owned());
            let error = ModelError { class, message, raw: String::new(), retry_after_ms: Some(1) };
            return stream::iter([ModelEvent::Failed(error)]).boxed();
        }
        let mut events: Vec<ModelEvent> = blocks.into_iter().map(ModelEvent::BlockDone).collect();
        events.push(ModelEvent::Done { stop, usage });
        stream::iter(events).boxed()
    }

    fn info(&self, _model: &ModelRef) -> ModelInfo {
        let price = Some(Price { input: 1, output: 1, cache_read: 0, cache_write: 0 });
        ModelInfo { context_tokens: 100_000, prompt_tokens_max: None, output_tokens_max: 1_000, price, is_local: false }
    }
}

/// A tool with an effect on the world outside.
struct Effect {
    class: EffectClass,
    outside: Arc<Outside>,
}

impl Tool for Effect {
    fn definition(&self) -> ToolDefinition {
        let name = if self.class == EffectClass::Keyed { "effect.keyed" } else { "effect.unkeyed" };
        let schema = r#"{"type":"object","properties":{}}"#.to_owned();
        ToolDefinition { name: name.to_owned(), description: "Has an effect.".to_owned(), schema }
    }

    fn class(&self) -> EffectClass {
        self.class
    }

    fn limits(&self) -> String {
        String::new()
    }

    fn plan(&self, _context: &ToolContext, _action: &Action) -> Result<Plan, ToolError> {
        let resources = vec![Resource { verb: "shell:run".to_owned(), target: "an-effect".to_owned() }];
        Ok(Plan { summary: "an effect".to_owned(), resources, class: self.class, diff: None })
    }

    fn run(
        &self,
        permit: Permit,
        _context: ToolContext,
        layer: LayerId,
        _output: OutputSink,
    ) -> BoxFuture<'_, Result<ToolOutput, ToolError>> {
        Box::pin(async move {
            match self.class {
                EffectClass::Keyed => {
                    // The key of a call is the same on every attempt.
                    let key = format!("{}-{}", permit.run(), layer.call);
                    *self.outside.keyed.lock().unwrap().entry(key).or_default() += 1;
                }
                _ => {
                    self.outside.unkeyed.fetch_add(1, Ordering::SeqCst);
                }
            }
            Ok(ToolOutput {
                text: "done".to_owned(),
                is_error: false,
                exit: None,
                whole: Vec::new(),
                wall_ms: 0,
                receipt: None,
                diff: LayerDiff::default(),
            })
        })
    }
}

struct Silent;

impl Observer for Silent {
    fn event(&self, _run: &RunId, _seq: u64, _at_ms: u64, _event: &Event) {}
    fn live(&self, _run: &RunId, _seq: u64, _offset: u64, _live: &Live) {}
}

struct Person {
    granted: bool,
    /// Or thinks for ever.
    answers: bool,
    thinks: Duration,
}

impl Approver for Person {
    fn ask(&self, _question: Question) -> BoxFuture<'_, Option<Decision>> {
        if !self.answers {
            return Box::pin(std::future::pending());
        }
        let decision = Decision { granted: self.granted, who: "test".to_owned(), why: "because".to_owned() };
        let thinks = self.thinks;
        Box::pin(async move {
            if !thinks.is_zero() {
                tokio::time::sleep(thinks).await;
            }
            Some(decision)
        })
    }
}
