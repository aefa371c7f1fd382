//! Conversations: further messages, and changes of model, agent or rules between them.

use std::{collections::BTreeSet, time::Duration};

use homarus_contract::{
    event::{Accepted, ApprovalsMode, Event, Inbound, Reconfigured, Record, WaitingOn},
    ids::{Hash, RunId},
    journal::{Append, Fence, Journal, JournalError, Request},
    model::ModelRef,
    text::one_line,
};
use homarus_workflow::undo::History;

use crate::{
    agents, choose,
    commands::run::offered,
    config::Config,
    dirs::Dirs,
    env,
    exit::CliError,
    route,
    wiring::{self, Runtime},
};

const PAGE: u32 = 1_000;
const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// How the reason of such a note begins; the undo runs it tells of follow.
const UNDONE: &str = "undone by";
const PATHS_NAMED_MAX: usize = 20;
const CLAIM_TRIES: u32 = 20;
const CLAIM_PAUSE: Duration = Duration::from_millis(50);

/// What a run is now: as it was accepted, with all that was changed since.
pub fn current(journal: &dyn Journal, run: &RunId) -> Result<Accepted, CliError> {
    let mut accepted: Option<Accepted> = None;
    let mut after = 0;
    loop {
        let page = journal.read(&run.stream(), after, PAGE)?;
        for record in &page {
            match (&record.event, &mut accepted) {
                (Event::Accepted(first), None) => accepted = Some(first.clone()),
                (Event::Reconfigured(change), Some(accepted)) => accepted.reconfigure(change),
                _ => {}
            }
        }
        match page.last() {
            Some(last) if page.len() == PAGE as usize => after = last.seq,
            _ => break,
        }
    }
    accepted.ok_or_else(|| CliError::failed(format!("run {run} has no first event")))
}

/// What the run rests on; `None` while it works or when it has finished.
pub fn rests_on(journal: &dyn Journal, run: &RunId) -> Result<Option<WaitingOn>, CliError> {
    let row = journal.run(run)?;
    let last = journal.read(&run.stream(), row.events.saturating_sub(1), 1)?;
    Ok(match last.first().map(|record| &record.event) {
        Some(Event::Waiting { on }) => Some(on.clone()),
        _ => None,
    })
}

/// What a person wants to be different; what is absent stays as it is.
#[derive(Debug, Default)]
pub struct Change {
    pub models: Vec<ModelRef>,
    pub agent: Option<String>,
    pub approvals: Option<ApprovalsMode>,
    /// Where rules come from and what they are: looked at before the configured ones, which are read anew.
    pub policy: Option<(String, String)>,
    pub who: String,
}

impl Runtime {
    /// Adds a message to a conversation that waits for one. The run is then this process's to drive.
    pub async fn say(&self, run: &RunId, source: &str, text: String) -> Result<Fence, CliError> {
        if text.trim().is_empty() || text.len() > MESSAGE_BYTES_MAX {
            return Err(CliError::usage(format!("a message must have 1 to {MESSAGE_BYTES_MAX} bytes")));
        }
        let ext_id = crate::commands::run::new_run_id()?.to_string();
        let inbound = Inbound { source: source.to_owned(), ext_id, text };
        check_waits(self.store.as_ref(), run)?;
        let mut events = undone_note(self.store.as_ref(), run)?;
        events.push(Event::Said { inbound });
        self.add(run, &WaitingOn::Message, events, Vec::new()).await
    }

    /// Changes a run, and says what is different. One that is under way is changed by its driver where its step ends:
    /// then the second is `true`.
    pub async fn reconfigure(
        &self,
        dirs: &Dirs,
        config: &Config,
        run: &RunId,
        change: Change,
    ) -> Result<(String, bool), CliError> {
        if self.store.run(run)?.status.is_final() {
            return Err(JournalError::AlreadyFinished(run.clone()).into());
        }
        let mut now = current(self.store.as_ref(), run)?;
        let mut events = left_changes(self.store.as_ref(), run)?;
        events.iter().for_each(|change| now.reconfigure(change));
        let (event, blobs) = self.worked_out(dirs, config, &now, change).await?;
        let why = event.why.clone();
        let on = match rests_on(self.store.as_ref(), run)? {
            Some(on) if !self.store.run(run)?.owner_alive => on,
            _ => {
                let request = Request::Reconfigure { change: Box::new(event) };
                self.store.leave_request(run.clone(), request, blobs).await?;
                return Ok((why, true));
            }
        };
        events.push(event);
        self.change_at_rest(run, on, events, blobs).await?;
        Ok((why, false))
    }

    /// Adds changes to a run that rests on `on`, and lets it rest on.
    pub async fn change_at_rest(
        &self,
        run: &RunId,
        on: WaitingOn,
        changes: Vec<Reconfigured>,
        blobs: Vec<Vec<u8>>,
    ) -> Result<(), CliError> {
        let events = changes.into_iter().map(Event::Reconfigured).collect();
        let fence = self.add(run, &on, events, blobs).await?;
        let mut append = Append::new(fence);
        append.push(Event::Waiting { on });
        let fence = self.store.append(append).await?;
        self.store.release(fence).await?;
        Ok(())
    }

    async fn worked_out(
        &self,
        dirs: &Dirs,
        config: &Config,
        now: &Accepted,
        change: Change,
    ) -> Result<(Reconfigured, Vec<Vec<u8>>), CliError> {
        let mut event = Reconfigured::by(change.who);
        let (mut blobs, mut why) = (Vec::new(), Vec::new());
        let mut profile = now.profile.clone();
        if let Some((name, text)) = change.policy {
            profile.rules = wiring::rules(&wiring::configured_rules(config)?, Some(&text))?;
            event.chosen_rules = Some(text);
            why.push(format!("rules of {name}"));
        }
        if let Some(mode) = change.approvals {
            profile.approvals = mode;
            why.push(format!("approvals {mode:?}").to_lowercase());
        }
        let agent = change.agent.map(|name| agents::find(dirs, &name)).transpose()?;
        if let Some(agent) = &agent {
            profile.grants = agents::grants(&config.policy.grants, Some(&agent.definition));
            profile.tier = agent.definition.tier;
            event.agent = Some(agents::reference(agent));
            why.push(format!("agent {}", agent.name));
        }
        let name = agent.as_ref().map(|agent| agent.name.as_str());
        let request = route::Request { text: &now.inbound.text, tools: true, agent: name, tags: &[] };
        let brings_models = agent.as_ref().is_some_and(|agent| !agent.definition.models.is_empty());
        if !change.models.is_empty() || brings_models {
            let choice = choose::models(&change.models, &request, agent.as_ref(), config, self).await?;
            why.push(format!("model {}", choice.names()));
            event.models = Some(choice.models);
        }
        if let Some(agent) = &agent {
            let models = event.models.as_ref().unwrap_or(&now.models);
            let tools = offered(&self.tools, Some(agent), models)?;
            let system = agents::system(Some(agent), &tools, &self.shelf, &now.workspace, &profile).0.into_bytes();
            event.system = Some(Hash::of(&system));
            blobs.push(system);
            let tools = serde_json::to_vec(&tools).map_err(CliError::failed)?;
            event.tools = Some(Hash::of(&tools));
            blobs.push(tools);
        }
        if why.is_empty() {
            return Err(CliError::usage("nothing is to be changed").help("name a model, an agent, approvals or rules"));
        }
        event.profile = (profile != now.profile).then_some(profile);
        event.why = why.join(", ");
        Ok((event, blobs))
    }

    /// Takes over a run that rests on `on`, and adds events.
    async fn add(
        &self,
        run: &RunId,
        on: &WaitingOn,
        events: Vec<Event>,
        blobs: Vec<Vec<u8>>,
    ) -> Result<Fence, CliError> {
        let fence = claim(self.store.as_ref(), run).await?;
        // Somebody else may have had it meanwhile; what stood last is just before our taking over.
        let before = self.store.read(&run.stream(), fence.seq().saturating_sub(2), 1)?;
        if !before.first().is_some_and(|record| record.event == Event::Waiting { on: on.clone() }) {
            give_back(self.store.as_ref(), fence).await?;
            return Err(in_a_turn(run));
        }
        let mut append = Append::new(fence.clone());
        append.blobs = blobs;
        append.events = events;
        match self.store.append(append).await {
            Ok(fence) => Ok(fence),
            Err(error) => {
                // As it was: it rests, and belongs to nobody.
                let mut append = Append::new(fence.clone());
                append.push(Event::Waiting { on: on.clone() });
                let fence = self.store.append(append).await.unwrap_or(fence);
                let _ = self.store.release(fence).await;
                Err(error.into())
            }
        }
    }
}

/// Changes that were left for a driver that did not come to them.
fn left_changes(journal: &dyn Journal, run: &RunId) -> Result<Vec<Reconfigured>, CliError> {
    let change = |request| match request {
        Request::Reconfigure { change } => Some(*change),
        Request::Pause { .. } => None,
    };
    Ok(journal.requests(run)?.into_iter().filter_map(change).collect())
}

/// What the model has to be told before the next message: that changes of the conversation were undone since its
/// last turn. Without it the model would go on as if they stood.
fn undone_note(journal: &dyn Journal, run: &RunId) -> Result<Vec<Event>, CliError> {
    // By what was told and not by the time of it: a clock may have been set back.
    let told: Vec<String> = journal.read_all(run)?.into_iter().filter_map(undone_before).collect();
    let is_told = |undo: &RunId| told.iter().any(|ids| ids.split(' ').any(|id| id == undo.as_str()));
    let history = History::read(journal, &journal.run(run)?.workspace)?;
    let (mut paths, mut reason) = (BTreeSet::new(), UNDONE.to_owned());
    // Also one that ended otherwise than it should may have undone a part.
    for (undo, undone) in history.undos_of(run)? {
        if !undone.is_empty() && !is_told(&undo) && journal.run(&undo)?.status.is_final() {
            reason = format!("{reason} {undo}");
            paths.extend(undone);
        }
    }
    if paths.is_empty() {
        return Ok(Vec::new());
    }
    let more = paths.len().saturating_sub(PATHS_NAMED_MAX);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let named: Vec<String> = paths.iter().take(PATHS_NAMED_MAX).map(|path| one_line(path, 200)).collect();
    let text = format!(
        "The user has undone your changes of {}{more}. They are as they were before; read them again before you change them.",
        named.join(", ")
    );
    Ok(vec![Event::Nudged { reason, text }])
}

/// The undo runs that this event tells of, if it tells of any.
fn undone_before(record: Record) -> Option<String> {
    match record.event {
        Event::Nudged { reason, .. } => reason.strip_prefix(UNDONE).map(str::to_owned),
        _ => None,
    }
}

fn check_waits(journal: &dyn Journal, run: &RunId) -> Result<(), CliError> {
    if !current(journal, run)?.conversation {
        return Err(CliError::usage(format!("run {run} is no conversation, so it takes no further messages"))
            .help("begin one with: homarus chat"));
    }
    match rests_on(journal, run)? {
        Some(WaitingOn::Message) => Ok(()),
        _ => Err(not_at_rest(journal, run)),
    }
}

fn not_at_rest(journal: &dyn Journal, run: &RunId) -> CliError {
    match journal.run(run) {
        Ok(row) if row.status.is_final() => JournalError::AlreadyFinished(run.clone()).into(),
        _ => in_a_turn(run),
    }
}

fn in_a_turn(run: &RunId) -> CliError {
    CliError::failed(format!("run {run} is in the middle of a turn"))
        .help(format!("see `homarus runs show {run}`; an interrupted turn goes on with `homarus runs resume {run}`"))
}

/// Takes a run over. The sandboxes of a driver that was killed hold its lock until they are gone, which takes a
/// moment.
pub async fn claim(journal: &dyn Journal, run: &RunId) -> Result<Fence, JournalError> {
    for _ in 1..CLAIM_TRIES {
        match journal.claim(run.clone()).await {
            Err(JournalError::Busy(_)) => tokio::time::sleep(CLAIM_PAUSE).await,
            claimed => return claimed,
        }
    }
    journal.claim(run.clone()).await
}

/// Gives back a run that was taken over and not touched: it rests on what it rested on before.
pub async fn give_back(journal: &dyn Journal, fence: Fence) -> Result<(), JournalError> {
    let run = fence.run().clone();
    let before = journal.read(&run.stream(), fence.seq().saturating_sub(2), 1)?;
    let Some(Record { event: on @ Event::Waiting { .. }, .. }) = before.into_iter().next() else {
        return journal.release(fence).await;
    };
    let mut append = Append::new(fence);
    append.push(on);
    let fence = journal.append(append).await?;
    journal.release(fence).await
}

/// Who is at this terminal, for the record.
pub fn who(source: &str) -> String {
    format!("{source}:{}", env::user())
}

#[cfg(test)]
mod tests {
    use homarus_contract::{
        event::{ActResult, FinishStatus},
        ids::CallId,
        sandbox::{Change, Entry, LayerDiff, MergeReport},
    };
    use homarus_store::{Options, Store};
    use homarus_test_kit::histories::accepted;
    use std::sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    };

    use super::*;

    const HOUR_MS: u64 = 3_600_000;

    fn run(id: &str, machine: &str, text: &str) -> Accepted {
        let mut accepted = accepted(machine, text, machine == "agent");
        accepted.run = RunId::parse(id).unwrap();
        accepted.inbound.ext_id = id.to_owned();
        (accepted.system, accepted.tools, accepted.orientation) = (Hash::of(b""), Hash::of(b""), Hash::of(b""));
        accepted
    }

    /// A run that undoes what `r1` did to `a.txt`, as the journal has it.
    fn undone(status: FinishStatus) -> Vec<Event> {
        let (call, path) = (CallId::new(1, 0), "a.txt".to_owned());
        let old = Entry::File { hash: Hash::of(b""), bytes: 0, mode: 0o644 };
        let change = Change { path: path.clone(), old, new: Entry::Absent };
        let result = ActResult {
            call: call.clone(),
            attempt: 1,
            is_error: false,
            exit: None,
            shown: Hash::of(b""),
            whole: None,
            wall_ms: 1,
            receipt: None,
            diff: LayerDiff { changes: vec![change], ..LayerDiff::default() },
            kept: Vec::new(),
        };
        let report = MergeReport { merged: vec![path], conflicts: Vec::new() };
        let finished = Event::Finished { status, summary: String::new() };
        vec![Event::ActResult(result), Event::Merged { call, report }, finished]
    }

    #[tokio::test]
    async fn what_was_undone_is_told_once_also_when_the_clock_was_set_back_before() {
        let folder = tempfile::tempdir().unwrap();
        let now = Arc::new(AtomicU64::new(10 * HOUR_MS));
        let looked_at = now.clone();
        let clock = Arc::new(move || looked_at.load(Ordering::SeqCst));
        let store = Store::open(Options { clock, ..Options::new(folder.path()) }).unwrap();
        let fence = store.accept(run("r1", "agent", "hello"), vec![Vec::new()]).await.unwrap();
        now.store(9 * HOUR_MS, Ordering::SeqCst);
        let undo = run("u1", "undo", "undo r1:0 up to c1.0");
        let mut append = Append::new(store.accept(undo, vec![Vec::new()]).await.unwrap());
        append.events = undone(FinishStatus::Completed);
        store.append(append).await.unwrap();
        let r1 = RunId::parse("r1").unwrap();
        let note = undone_note(store.as_ref(), &r1).unwrap();
        let [Event::Nudged { text, .. }] = note.as_slice() else { panic!("{note:?}") };
        assert!(text.contains("a.txt"), "{text}");
        let mut append = Append::new(fence);
        append.events = note;
        store.append(append).await.unwrap();
        assert_eq!(undone_note(store.as_ref(), &r1).unwrap(), [], "it is told once");
    }

    #[tokio::test]
    async fn what_was_undone_in_part_is_told_and_what_only_reads_like_an_undo_is_not() {
        const REQUEST: &str = "undo r1:0 up to c1.0";
        let check = async |machine: &str, status, told: bool| {
            let folder = tempfile::tempdir().unwrap();
            let store = Store::open(Options::new(folder.path())).unwrap();
            store.accept(run("r1", "agent", "hello"), vec![Vec::new()]).await.unwrap();
            let fence = store.accept(run("u1", machine, REQUEST), vec![Vec::new()]).await.unwrap();
            let mut append = Append::new(fence);
            append.events = undone(status);
            store.append(append).await.unwrap();
            let note = undone_note(store.as_ref(), &RunId::parse("r1").unwrap()).unwrap();
            assert_eq!(note.len(), usize::from(told), "{machine} {status:?}: {note:?}");
        };
        check("undo", FinishStatus::Failed, true).await;
        check("undo", FinishStatus::Cancelled, true).await;
        check("agent", FinishStatus::Completed, false).await;
    }
}
