//! A line in the daily log of an agent for each piece of work that has come to its end, taken from the journal.

use homarus_agent::folder::{
    AgentFolder,
    daily::{self, Done},
};
use homarus_contract::{
    event::{Event, FinishStatus},
    ids::RunId,
    journal::Journal,
};

use crate::{conversation::current, exit, put};

/// Where requests come from a person at this machine.
const OF_A_PERSON: [&str; 2] = ["cli", "chat"];

/// After a run, or a turn of a conversation, has ended. A log that cannot be written is told of and no reason to fail.
pub fn note(journal: &dyn Journal, run: &RunId) {
    if let Err(error) = try_note(journal, run) {
        put::note(&format!("note: the daily log was not written: {error}"));
    }
}

fn try_note(journal: &dyn Journal, run: &RunId) -> Result<(), String> {
    let accepted = current(journal, run).map_err(|error| error.summary())?;
    let Some(agent) = accepted.agent.filter(|_| accepted.machine == "agent") else { return Ok(()) };
    let (Some(root), Ok(name)) = (agent.folder.parent(), agent.name.parse()) else { return Ok(()) };
    // As it is now: it may be gone, or keep no log.
    match AgentFolder::open(root, &name) {
        Ok(folder) if folder.definition.daily_log => {}
        _ => return Ok(()),
    }
    let mut inbound = accepted.inbound;
    let mut ended: Option<(FinishStatus, u64, u64)> = None;
    for record in journal.read_all(run).map_err(|error| error.to_string())? {
        match record.event {
            Event::Said { inbound: said } => inbound = said,
            Event::TurnEnded { status, .. } | Event::Finished { status, .. } => {
                ended = Some((status, record.at_ms, record.seq));
            }
            _ => {}
        }
    }
    let Some((status, at_ms, seq)) = ended else { return Ok(()) };
    let done = Done {
        at_ms,
        status: exit::status_of(status).as_str(),
        text: OF_A_PERSON.contains(&inbound.source.as_str()).then_some(inbound.text.as_str()),
        run: run.as_str(),
        seq,
    };
    daily::note(&agent.folder, &done).map(drop).map_err(|error| error.to_string())
}
