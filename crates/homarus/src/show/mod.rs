//! What a person or a program sees of a run while it goes on.

pub mod beside;
pub mod diff;
pub mod human;
pub mod json;
pub mod pager;
pub mod progress;
pub mod question;
pub mod seat;
pub mod style;
pub mod styled;
pub mod syntax;
pub mod utf8;

use homarus_contract::{
    event::{Event, Record},
    ids::RunId,
};
use serde::Serialize;

/// An event as every surface prints it: a flat object with at least `run_id`, `seq` and `kind`.
#[derive(Serialize)]
pub struct EventLine<'a> {
    run_id: &'a RunId,
    seq: u64,
    at_ms: u64,
    #[serde(flatten)]
    event: &'a Event,
}

impl<'a> EventLine<'a> {
    pub fn new(run_id: &'a RunId, seq: u64, at_ms: u64, event: &'a Event) -> Self {
        Self { run_id, seq, at_ms, event }
    }

    pub fn of(run_id: &'a RunId, record: &'a Record) -> Self {
        Self::new(run_id, record.seq, record.at_ms, &record.event)
    }
}
