//! A journal in a folder of its own, and short ways to fill it.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use homarus_contract::{
    budget::{Amount, Budget},
    event::{Accepted, ApprovalsMode, Event, FinishStatus, Inbound, Pause, Profile, WaitingOn},
    ids::{Hash, RunId},
    journal::{Append, Fence, Journal},
    message::{StopReason, Usage},
    model::ModelRef,
};
use homarus_store::{Options, Store};
use rusqlite::Connection;
use tempfile::TempDir;

pub const NAMES: [&[u8]; 3] = [b"system", b"tools", b"orientation"];

pub struct World {
    pub dir: TempDir,
    pub store: Arc<Store>,
}

impl World {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        Self { dir, store }
    }

    /// Another driver on the same folder.
    pub fn other(&self) -> Arc<Store> {
        open(self.dir.path())
    }

    pub async fn run(&self, name: &str) -> Fence {
        accept(&self.store, name).await
    }

    /// The database itself, for looking and for tampering.
    pub fn sql(&self) -> Connection {
        let connection = Connection::open(self.dir.path().join("journal.db")).unwrap();
        connection.pragma_update(None, "foreign_keys", false).unwrap();
        connection
    }

    /// The projections as text.
    pub fn projections(&self) -> Vec<String> {
        let connection = self.sql();
        let mut lines = Vec::new();
        for table in ["runs", "budgets", "inbox"] {
            let mut statement = connection.prepare(&format!("SELECT * FROM {table} ORDER BY 1, 2")).unwrap();
            let columns = statement.column_count();
            let mut rows = statement.query([]).unwrap();
            while let Some(row) = rows.next().unwrap() {
                let cells: Vec<String> = (0..columns).map(|at| format!("{:?}", row.get_ref(at).unwrap())).collect();
                lines.push(format!("{table}: {}", cells.join(", ")));
            }
        }
        lines
    }
}

/// A clock that moves by one with each look, so that no two events are of the same time.
pub fn options(dir: &Path) -> Options {
    let now = AtomicU64::new(1_000);
    Options { clock: Arc::new(move || now.fetch_add(1, Ordering::SeqCst)), ..Options::new(dir) }
}

pub fn open(dir: &Path) -> Arc<Store> {
    Store::open(options(dir)).unwrap()
}

pub fn run_id(name: &str) -> RunId {
    RunId::parse(name).unwrap()
}

pub fn accepted(name: &str) -> Accepted {
    Accepted {
        run: run_id(name),
        inbound: Inbound { source: "cli".into(), ext_id: format!("ext-{name}"), text: format!("do {name}") },
        machine: "agent".into(),
        workspace: "/home/user/project".into(),
        agent: None,
        models: vec![model()],
        models_why: String::new(),
        answer_ms_max: 900_000,
        profile: Profile {
            grants: vec!["shell:run".into()],
            rules: String::new(),
            approvals: ApprovalsMode::Ask,
            tier: homarus_contract::action::Tier::Internal,
        },
        budget: Budget { cost_max: Some(1_000), tokens_max: 500, steps_max: 3, wall_ms_max: 60_000 },
        chosen: None,
        conversation: false,
        system: Hash::of(NAMES[0]),
        tools: Hash::of(NAMES[1]),
        orientation: Hash::of(NAMES[2]),
        homarus_version: "0.1.0".into(),
    }
}

pub fn blobs() -> Vec<Vec<u8>> {
    NAMES.map(<[u8]>::to_vec).to_vec()
}

pub async fn accept(store: &Store, name: &str) -> Fence {
    store.accept(accepted(name), blobs()).await.unwrap()
}

pub async fn push(store: &Store, fence: Fence, events: Vec<Event>) -> Fence {
    store.append(with(fence, events)).await.unwrap()
}

pub fn with(fence: Fence, events: Vec<Event>) -> Append {
    let mut append = Append::new(fence);
    append.events = events;
    append
}

pub fn model() -> ModelRef {
    ModelRef { provider: "fake".into(), model: "one".into() }
}

pub fn note(text: &str) -> Event {
    Event::Nudged { reason: "test".into(), text: text.into() }
}

pub fn paused() -> Event {
    Event::Waiting { on: WaitingOn::Resume(Pause::default()) }
}

pub fn finished() -> Event {
    Event::Finished { status: FinishStatus::Completed, summary: "done".into() }
}

pub fn answered(cost: Option<u64>, tokens: Option<u64>) -> Event {
    Event::ModelResult {
        step: 1,
        stop: StopReason::EndTurn,
        usage: Usage { input_tokens: tokens, ..Usage::default() },
        served_by: model(),
        cost,
        wall_ms: 1,
    }
}

pub fn amount(cost: u64, tokens: u64, steps: u32) -> Amount {
    Amount { cost, tokens, steps }
}
