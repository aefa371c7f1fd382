//! Where the rooms are put together: the only place that knows them all.

mod drive;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use homarus_agent::{folder::AgentFolder, skill::Shelf};
use homarus_api::sandbox::{ProbeCheck, ProbeResponse};
use homarus_contract::{
    action::Tier,
    event::{ApprovalsMode, Profile},
    gate::Gate,
    ids::RunId,
    journal::{Fence, Journal, JournalError},
    model::ModelRef,
    outbound::Outbound,
    tool::{ReadRules, SkillShelf, Tool},
};
use homarus_driver::{
    Control, Driver, Ended,
    ports::{Approver, Observer},
};
use homarus_guard::{Guard, Hosts, Readable};
use homarus_models::{Registry, prices::Prices};
use homarus_sandbox::{L1, ProbeReport};
use homarus_store::Store;
use homarus_tools::browser::Browsers;
use homarus_workflow::undo::WorkspaceUndo;

use crate::{
    agents, browser, choose,
    config::Config,
    conversation,
    dirs::Dirs,
    exit::CliError,
    machines::Machines,
    providers::{self, Provider},
    put,
    show::{human::Human, json::JsonLines},
};

/// Text of small files that is packed into the first message.
const PACKED_BYTES_MAX: usize = 6_000;
/// Orphans that one command settles in passing.
const ORPHANS_MAX: usize = 100;
/// Events that are shown at once beside those a driver shows.
const SHOWN_EVENTS_MAX: u32 = 100;

/// Everything a command needs to drive runs.
pub struct Runtime {
    pub store: Arc<Store>,
    pub models: Arc<Registry>,
    pub driver: Driver<Machines, Arc<Guard>, Arc<Store>>,
    /// All there are; what a run is offered of them is in its first event.
    pub tools: Vec<Arc<dyn Tool>>,
    pub shelf: Arc<Shelf>,
    /// Whether embedded models could be run, had they weights.
    pub has_worker: bool,
    pub providers: Vec<Provider>,
    guard: Arc<Guard>,
    sandbox: L1,
    observer: Arc<dyn Observer>,
    approver: Arc<dyn Approver>,
    browsers: Arc<Browsers>,
}

impl Drop for Runtime {
    fn drop(&mut self) {
        // The sandbox that stands ready for the next call is not needed any more.
        self.sandbox.close();
    }
}

impl Runtime {
    pub fn build(
        dirs: &Dirs,
        config: &Config,
        observer: impl FnOnce(&Arc<Store>) -> Arc<dyn Observer>,
        approver: impl Approver + 'static,
    ) -> Result<Arc<Self>, CliError> {
        let store = Store::open(homarus_store::Options::new(&dirs.state))?;
        let observer = observer(&store);
        Ok(Arc::new(Self::on(store, observer, Arc::new(approver), dirs, config)?))
    }

    /// The same journal and the same people, with another configuration.
    pub fn renewed(&self, dirs: &Dirs, config: &Config) -> Result<Self, CliError> {
        Self::on(self.store.clone(), self.observer.clone(), self.approver.clone(), dirs, config)
    }

    fn on(
        store: Arc<Store>,
        observer: Arc<dyn Observer>,
        approver: Arc<dyn Approver>,
        dirs: &Dirs,
        config: &Config,
    ) -> Result<Self, CliError> {
        let shelf = Arc::new(shelf(dirs)?);
        let mut options = sandbox_options(dirs, config, Some(&store))?;
        // Scripts of a skill can be run; nobody can write them.
        options.readable.extend(shelf.offered(None).iter().map(|one| one.skill.folder.clone()));
        // Until a call needs it, the sandbox is tried out beside everything else.
        let sandbox = L1::start(options)?;
        let shared = Arc::new(sandbox.clone());
        let (options, vault) = choose::options(dirs, config)?;
        let prices = prices(config)?;
        let vault = Arc::new(vault);
        let browsers = browser::browsers(dirs, config, vault.clone(), shared.clone())?;
        let tools = tools(config, vault.clone(), shelf.clone(), browsers.clone())?;
        let models = Arc::new(Registry::new(options, vault, shared.clone(), prices));
        let priced = models.clone();
        let guard = Arc::new(Guard::new("rules", move |model: &ModelRef| choose::price_known(priced.as_ref(), model)));
        let mut all = tools.clone();
        all.push(Arc::new(WorkspaceUndo::new(store.clone())));
        let driver = Driver::new(homarus_driver::Options {
            machine: Machines,
            gate: Gate::new(guard.clone(), store.clone()),
            journal: store.clone(),
            models: models.clone(),
            tools: all,
            sandbox: shared,
            observer: observer.clone(),
            approver: approver.clone(),
            limits: config.limits(),
            calls_at_once: config.calls_at_once(),
            clock: Arc::new(now_ms),
            steady_clock: Arc::new(steady_ms()),
            approval_ms: config.approvals.expire_s.saturating_mul(1000),
            output_tokens_max: config.models.output_tokens_max,
        });
        let has_worker = choose::worker(&config.models.local).is_some_and(|worker| worker.is_file());
        let providers = providers::all(config)?;
        Ok(Self {
            store,
            models,
            driver,
            tools,
            shelf,
            has_worker,
            providers,
            guard,
            sandbox,
            browsers,
            observer,
            approver,
        })
    }

    /// Tells the guard what a run may do, as its events say.
    pub fn register(&self, run: &RunId) -> Result<(), CliError> {
        let accepted = conversation::current(self.store.as_ref(), run)?;
        self.guard
            .register(run, &accepted.profile, &accepted.budget)
            .map_err(|error| CliError::usage(format!("the policy of run {run} is not valid")).cause(error))
    }

    /// Brings runs of dead drivers to rest: nothing of them stays half done. They are not gone on
    /// with, because that could cost money nobody asked to spend now. What is wrong with one of them, or with its
    /// workspace, keeps nobody else from working.
    pub async fn settle_orphans(&self) -> Result<(), CliError> {
        for run in self.store.orphans()?.into_iter().take(ORPHANS_MAX) {
            let settled = match self.store.claim(run.clone()).await {
                Ok(fence) => self.settle(&run, fence).await,
                // Another process was faster.
                Err(JournalError::Busy(_) | JournalError::AlreadyFinished(_)) => continue,
                Err(error @ JournalError::Unwritable(_)) => return Err(error.into()),
                Err(error) => Err(error.into()),
            };
            match settled {
                Ok(Ended::Finished { .. }) => put::say!("run {run} was interrupted earlier, and is over now"),
                Ok(_) => put::say!("run {run} was interrupted earlier; go on with: homarus runs resume {run}"),
                Err(error) => put::note(&format!(
                    "note: run {run} was interrupted earlier, and cannot be brought to rest: {}",
                    error.short()
                )),
            }
        }
        Ok(())
    }

    async fn settle(&self, run: &RunId, fence: Fence) -> Result<Ended, CliError> {
        if let Err(error) = self.register(run) {
            self.store.release(fence).await?;
            return Err(error);
        }
        Ok(self.driver.settle(fence, &Control::default()).await?)
    }

    /// Shows what was added to a run after event `seq` by other hands than its driver's.
    pub fn show_since(&self, run: &RunId, seq: u64) -> Result<(), CliError> {
        for record in self.store.read(&run.stream(), seq, SHOWN_EVENTS_MAX)? {
            self.observer.event(run, record.seq, record.at_ms, &record.event);
        }
        Ok(())
    }
}

pub fn observer(json: bool, store: &Arc<Store>) -> Arc<dyn Observer> {
    if json { Arc::new(JsonLines::default()) } else { Arc::new(Human::new(Some(store.clone()))) }
}

/// The store, to change something; made if there is none yet.
pub fn open() -> Result<Arc<Store>, CliError> {
    Ok(Store::open(homarus_store::Options::new(Dirs::from_env()?.state))?)
}

/// The journal, to read; `None` if there is none yet.
pub fn open_read_only() -> Result<Option<Arc<Store>>, CliError> {
    open_read_only_in(&Dirs::from_env()?)
}

pub fn open_read_only_in(dirs: &Dirs) -> Result<Option<Arc<Store>>, CliError> {
    match Store::open_read_only(homarus_store::Options::new(&dirs.state)) {
        Ok(store) => Ok(Some(store)),
        Err(homarus_store::StoreError::NoJournal(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

pub fn read_journal() -> Result<Arc<Store>, CliError> {
    open_read_only()?
        .ok_or_else(|| CliError::failed("there are no runs yet").help("start one with: homarus run \"PROMPT\""))
}

/// What a run may do: the rules of its own first, then the configured or built-in ones.
pub fn profile(
    config: &Config,
    agent: Option<&AgentFolder>,
    own: Option<String>,
    approvals: ApprovalsMode,
) -> Result<Profile, CliError> {
    let rules = rules(&configured_rules(config)?, own.as_deref())?;
    let definition = agent.map(|agent| &agent.definition);
    let grants = agents::grants(&config.policy.grants, definition);
    homarus_policy::Grants::parse(&grants).map_err(|error| CliError::usage(format!("the grants: {error}")))?;
    Ok(Profile { grants, rules, approvals, tier: definition.map_or(Tier::Internal, |definition| definition.tier) })
}

/// The configured rules, or the built-in ones, as their source text.
pub fn configured_rules(config: &Config) -> Result<String, CliError> {
    Ok(config.policy.rules()?.unwrap_or_else(|| homarus_policy::DEFAULT_POLICY.to_owned()))
}

/// The rules of a run: those of its own first, then the configured ones.
pub fn rules(configured: &str, own: Option<&str>) -> Result<String, CliError> {
    let wrong = |error: &dyn std::fmt::Display| CliError::usage("the policy is not valid").cause(error);
    let rules = match own {
        None => configured.to_owned(),
        Some(own) => stack(own, configured).map_err(|error| wrong(&error))?,
    };
    homarus_policy::Policy::parse("policy", &rules).map_err(|error| wrong(&error))?;
    Ok(rules)
}

/// One policy of two: the rules of `own` are tried before those of `base`, and its default counts.
fn stack(own: &str, base: &str) -> Result<String, toml::de::Error> {
    let (own, mut all): (toml::Table, toml::Table) = (own.parse()?, base.parse()?);
    for (key, value) in own {
        match (all.get_mut(&key), value) {
            (Some(toml::Value::Array(rules)), toml::Value::Array(mut first)) => {
                first.append(rules);
                *rules = first;
            }
            (_, value) => {
                all.insert(key, value);
            }
        }
    }
    Ok(all.to_string())
}

/// What the workspace looks like, for the first message: names and sizes, and the small text files the
/// rules let the agent read without asking; nothing of what is `hidden` from every call.
pub fn orientation(workspace: &Path, profile: &Profile, hidden: &[PathBuf]) -> String {
    let Ok(rules) = Readable::of(profile) else { return String::new() };
    let listing = homarus_tools::listing(workspace, &rules);
    let hidden: Vec<PathBuf> = hidden.iter().filter_map(|path| path.canonicalize().ok()).collect();
    let is_hidden = |path: &str| hidden.iter().any(|hidden| workspace.join(path).starts_with(hidden));
    let mut files = homarus_tools::small_files(workspace, PACKED_BYTES_MAX, &rules);
    files.retain(|(path, _)| !is_hidden(path));
    homarus_agent::prompt::orientation(&listing, &files)
}

pub fn probe() -> Result<ProbeResponse, CliError> {
    let dirs = Dirs::from_env()?;
    let config = Config::load(&dirs)?;
    let (_, report) = try_sandbox(&dirs, &config)?;
    Ok(ProbeResponse {
        backend: report.backend.to_owned(),
        ok: report.ok,
        checks: report
            .probes
            .into_iter()
            .map(|check| ProbeCheck { id: check.id, ok: check.ok, detail: check.detail, fix: check.fix })
            .collect(),
    })
}

/// Tries the sandbox out and leaves nothing behind: where there is no state folder yet, none is made.
pub fn try_sandbox(dirs: &Dirs, config: &Config) -> Result<(homarus_sandbox::Options, ProbeReport), CliError> {
    let mut options = sandbox_options(dirs, config, None)?;
    let passing;
    if !dirs.state.exists() {
        passing = tempfile::tempdir()
            .map_err(|error| CliError::failed("there is no folder to try the sandbox in").cause(error))?;
        options.state_dir = passing.path().to_path_buf();
    }
    let report = L1::probe(&options);
    options.state_dir.clone_from(&dirs.state);
    Ok((options, report))
}

/// How the sandbox is set up; `store`: whose runs it works for.
pub fn sandbox_options(
    dirs: &Dirs,
    config: &Config,
    store: Option<&Arc<Store>>,
) -> Result<homarus_sandbox::Options, CliError> {
    let lock = match store.and_then(|store| store.driver_lock()) {
        None => None,
        Some(file) => {
            let file = file
                .try_clone()
                .map_err(|error| CliError::failed("the driver lock cannot be passed on").cause(error))?;
            Some(Arc::new(file))
        }
    };
    let mut options = homarus_sandbox::Options::new(&dirs.state);
    options.driver_lock = lock;
    options.hidden = dirs.hidden(config);
    options.readable.clone_from(&config.sandbox.readable);
    options.cache_paths.clone_from(&config.sandbox.cache_paths);
    options.keep = config.undo.keep();
    Ok(options)
}

/// The user's skills, looked through.
pub fn shelf(dirs: &Dirs) -> Result<Shelf, CliError> {
    Shelf::open(&dirs.skills).map_err(|error| CliError::failed("the skills cannot be read").cause(error))
}

/// The built-in tools, as this configuration makes them.
pub fn tools(
    config: &Config,
    outbound: Arc<dyn Outbound>,
    skills: Arc<dyn SkillShelf>,
    browsers: Arc<Browsers>,
) -> Result<Vec<Arc<dyn Tool>>, CliError> {
    let search = homarus_tools::web_search::instance(&config.search.url)
        .map_err(|error| CliError::usage("search.url in the configuration is no address").cause(error))?;
    Ok(homarus_tools::all(homarus_tools::Options {
        outbound,
        host_rules: Arc::new(Hosts),
        search,
        skills,
        browsers: Some(browsers),
    }))
}

pub fn prices(config: &Config) -> Result<Prices, CliError> {
    let wrong = |error: &dyn std::fmt::Display| CliError::usage("the price file is not valid").cause(error);
    let mut prices = Prices::built_in().map_err(|error| wrong(&error))?;
    if let Some(text) = config.prices.read()? {
        prices.merge(&text).map_err(|error| wrong(&error))?;
    }
    Ok(prices)
}

/// Runs a future on a small runtime of its own.
pub fn block_on<F: Future>(future: F) -> Result<F::Output, CliError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| CliError::failed("the runtime cannot start").cause(error))?;
    let output = runtime.block_on(future);
    // A thread that still reads the terminal must not keep the process alive.
    runtime.shutdown_timeout(Duration::from_millis(200));
    Ok(output)
}

/// A clock that never jumps: milliseconds since this call.
fn steady_ms() -> impl Fn() -> u64 + Send + Sync {
    let began = Instant::now();
    move || u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// Milliseconds since 1970, by the wall clock.
pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
