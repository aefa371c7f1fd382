//! Histories by chance: a driver without journal, model or sandbox that does what a machine wants, lets chance decide
//! what comes of it, and dies whenever chance says so. What the machine wants is held against two much simpler
//! models: [`Calls`] knows only what may be wanted of a call after what has happened to it, [`Answers`] only what may
//! be asked after what was answered.

mod answers;
mod calls;

use homarus_contract::{
    action::{Action, EffectClass, Plan, Tier},
    budget::{Amount, Budget},
    event::{
        Accepted, ActResult, Event, FinishStatus, Inbound, Judgement, PromptParts, Reconfigured, Record, Resolution,
        WaitingOn,
    },
    gate::{Approval, Verdict},
    ids::{CallId, DriverId, Hash, StreamId},
    machine::{Command, Machine},
    message::{Block, StopReason, ToolCall, Usage},
    model::{ModelErrorClass, ModelRef},
    sandbox::{Change, Entry, LayerDiff, MergeReport},
};

use answers::Answers;
use calls::Calls;

const EVENTS_MAX: usize = 400;
const MESSAGES_MAX: usize = 3;

/// How a history ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Course {
    pub events: usize,
    pub kills: usize,
    pub unknown: usize,
    pub merges: usize,
    /// Answers that broke off.
    pub broken: usize,
    pub changes: usize,
    pub is_finished: bool,
}

/// Lives one run of this machine, as `choices` decide; when they are used up, everything goes well until the end.
/// The error says what the machine wanted that it must not want.
pub fn live<M: Machine>(machine: &M, accepted: Accepted, choices: &[u8]) -> Result<Course, String> {
    let mut life = Life {
        machine,
        state: M::State::default(),
        records: Vec::new(),
        calls: Calls::default(),
        answers: Answers::default(),
        choices: choices.iter(),
        course: Course::default(),
        open: None,
        messages: 1,
        conversation: accepted.conversation,
    };
    life.add(Event::Accepted(accepted))?;
    while life.records.len() < EVENTS_MAX {
        let commands = life.wanted()?;
        if life.course.is_finished {
            if commands.is_empty() {
                return Ok(life.course);
            }
            return Err(format!("a finished run wants {commands:?}"));
        }
        if life.chance(12) {
            life.die()?;
            continue;
        }
        if life.conversation && life.chance(4) {
            life.stop_turn()?;
            continue;
        }
        if life.chance(4) {
            life.reconfigure(commands)?;
            continue;
        }
        let Some(command) = commands.into_iter().next() else {
            return Err("a run that has not finished wants nothing".to_owned());
        };
        if !life.follow(command)? {
            return Ok(life.course);
        }
        life.course.events = life.records.len();
    }
    Ok(life.course)
}

struct Life<'a, M: Machine> {
    machine: &'a M,
    state: M::State,
    records: Vec<Record>,
    calls: Calls,
    answers: Answers,
    choices: std::slice::Iter<'a, u8>,
    course: Course,
    /// A model intent without a result.
    open: Option<(u32, ModelRef)>,
    messages: usize,
    conversation: bool,
}

impl<M: Machine> Life<'_, M> {
    /// What the machine wants, checked: it is the same however often it is asked and however the state was come by.
    fn wanted(&self) -> Result<Vec<Command>, String> {
        let commands = self.machine.next(&self.state);
        if commands != self.machine.next(&self.state) {
            return Err("asked twice, it wants different things".to_owned());
        }
        let folded = self.machine.fold(&self.records);
        if commands != self.machine.next(&folded) {
            return Err("folded anew, it wants something else".to_owned());
        }
        self.calls.check(&commands)?;
        self.answers.check(&commands)?;
        Ok(commands)
    }

    fn add(&mut self, event: Event) -> Result<(), String> {
        self.calls.apply(&event)?;
        self.answers.apply(&event)?;
        match &event {
            Event::ModelIntent { step, model, .. } => self.open = Some((*step, model.clone())),
            Event::ModelResult { .. } | Event::ModelFailed { .. } => self.open = None,
            Event::OutcomeUnknown { .. } => self.course.unknown += 1,
            Event::Merged { .. } => self.course.merges += 1,
            Event::ModelBroke { .. } => self.course.broken += 1,
            Event::Reconfigured(_) => self.course.changes += 1,
            Event::Finished { .. } => self.course.is_finished = true,
            _ => {}
        }
        self.machine.apply(&mut self.state, &event);
        let seq = self.records.len() as u64 + 1;
        let record = Record { stream: StreamId::system(), seq, at_ms: 0, epoch: 1, hash: Hash::ZERO, event };
        self.records.push(record);
        Ok(())
    }

    /// Another driver takes over: an open answer is closed, calls without a result stay as they are.
    fn die(&mut self) -> Result<(), String> {
        self.course.kills += 1;
        self.add(Event::TakenOver { driver: DriverId::generate([7; 8]) })?;
        match self.open.take() {
            Some((step, model)) => self.close(step, model, StopReason::Interrupted),
            None => Ok(()),
        }
    }

    /// The user stops the turn, with whatever is under way.
    fn stop_turn(&mut self) -> Result<(), String> {
        if let Some((step, model)) = self.open.take() {
            self.close(step, model, StopReason::Interrupted)?;
        }
        self.add(Event::TurnEnded { status: FinishStatus::Cancelled, summary: "Stopped.".to_owned() })
    }

    /// Between two steps a person has left a change. What was agreed to is merged first.
    fn reconfigure(&mut self, commands: Vec<Command>) -> Result<(), String> {
        for command in commands {
            if matches!(command, Command::Settle { hold: false, .. }) {
                self.follow(command)?;
            }
        }
        let mut change = Reconfigured::by("test".to_owned());
        let model = |provider: &str, model: &str| ModelRef { provider: provider.to_owned(), model: model.to_owned() };
        change.models = match self.below(4) {
            0 => None,
            1 => Some(vec![model("c", "z")]),
            2 => Some(vec![model("b", "y"), model("c", "z")]),
            _ => Some(vec![model("c", "z"), model("a", "x")]),
        };
        if self.chance(50) {
            change.budget = Some(Budget { steps_max: 1 + self.below(12) as u32, ..Budget::default() });
        }
        self.add(Event::Reconfigured(change))?;
        self.answers.check_current(Accepted::current(&self.records).as_ref())
    }

    /// `false`: the run rests for good.
    fn follow(&mut self, command: Command) -> Result<bool, String> {
        match command {
            // Whether a circuit is open is chance to a machine; the last model left is asked all the same.
            Command::CallModel { step, model, is_last_resort: false, .. } if self.chance(10) => {
                self.add(Event::ModelSkipped { step, model, why: "it failed".to_owned(), retry_in_ms: 1 })?;
            }
            Command::CallModel { step, attempt, model, .. } => self.ask(step, attempt, model)?,
            Command::Act { action, attempt, approval } => self.act(action, attempt, approval)?,
            Command::Settle { action, result, hold, approval, .. } => self.settle(action, &result, hold, approval)?,
            Command::MarkUnknown { call } => self.add(Event::OutcomeUnknown { call })?,
            Command::Nudge { reason, text } => self.add(Event::Nudged { reason, text })?,
            Command::EndTurn { status, summary } => self.add(Event::TurnEnded { status, summary })?,
            Command::Finish { status, summary } => self.add(Event::Finished { status, summary })?,
            Command::Wait { on } => return self.wait(on),
        }
        Ok(true)
    }

    fn ask(&mut self, step: u32, attempt: u32, model: ModelRef) -> Result<(), String> {
        if let Some(limit) = self.answers.steps_are_up() {
            return self.add(Event::BoundHit { bound: "steps".to_owned(), limit });
        }
        if self.chance(2) {
            return self.add(Event::BoundHit { bound: "tokens".to_owned(), limit: 2_000_000 });
        }
        let prompt = PromptParts::default();
        self.add(Event::ModelIntent { step, attempt, prompt, model: model.clone(), reserved: Amount::default() })?;
        if self.chance(8) {
            let classes = [ModelErrorClass::Network, ModelErrorClass::Auth, ModelErrorClass::BadRequest];
            let class = classes[self.below(3)];
            let (message, retry_after_ms, wall_ms) = ("no".to_owned(), None, self.below(1_000) as u64);
            return self.add(Event::ModelFailed { step, model, class, message, retry_after_ms, wall_ms });
        }
        // Without further choices the model says that it is done.
        let calls = self.below(4) as u32;
        for index in 0..calls {
            let call = CallId::new(step, index);
            let (provider_id, arguments) = (format!("p{call}"), format!("{{\"n\":{}}}", self.below(3)));
            let block = Block::ToolCall(ToolCall { call, provider_id, name: "tool".to_owned(), arguments });
            self.add(Event::BlockDone { step, block, partial: false })?;
            if self.chance(12) {
                return self.die();
            }
            // A call may start while the answer still streams.
            let first = self.wanted()?.into_iter().next();
            if self.chance(30)
                && let Some(command @ Command::Act { .. }) = first
            {
                self.follow(command)?;
                if self.open.is_none() {
                    return Ok(()); // It died with the call, and the answer with it.
                }
            }
        }
        let is_said = self.chance(70);
        if is_said {
            let block = Block::Text { text: "I say something.".to_owned() };
            self.add(Event::BlockDone { step, block, partial: false })?;
        }
        if self.chance(12) {
            return self.break_off(step, model, calls > 0 || is_said);
        }
        let stops = [StopReason::EndTurn, StopReason::ToolUse, StopReason::MaxTokens, StopReason::Refusal];
        let stop = stops[self.below(stops.len())];
        self.close(step, model, stop)
    }

    /// As the driver writes it: that it broke off, what was shown of the block it was in, and its end. One of which
    /// nothing was shown has failed.
    fn break_off(&mut self, step: u32, model: ModelRef, has_blocks: bool) -> Result<(), String> {
        let (class, message) = (ModelErrorClass::Protocol, "gone".to_owned());
        self.add(Event::ModelBroke { step, model: model.clone(), class, message })?;
        if !has_blocks || self.chance(60) {
            let block = Block::Text { text: "I say someth".to_owned() };
            self.add(Event::BlockDone { step, block, partial: true })?;
        }
        self.close(step, model, StopReason::Interrupted)
    }

    fn close(&mut self, step: u32, served_by: ModelRef, stop: StopReason) -> Result<(), String> {
        self.add(Event::ModelResult { step, stop, usage: Usage::default(), served_by, cost: None, wall_ms: 0 })
    }

    fn act(&mut self, action: Action, attempt: u32, approval: Option<Approval>) -> Result<(), String> {
        let call = action.call.clone();
        if self.chance(5) {
            return self.add(Event::ActResult(result(call, attempt, true, false)));
        }
        // What a call is does not change from one attempt to the next.
        let class = [EffectClass::Workspace, EffectClass::Read, EffectClass::Keyed, EffectClass::Unkeyed];
        let class = class[(Hash::of(action.arguments.as_bytes()).as_bytes()[0] as usize + self.calls.salt(&call)) % 4];
        let verdicts = [Verdict::Allow, Verdict::AskBeforeMerge, Verdict::AskBeforeRun, Verdict::Deny];
        let verdict = match (self.below(8), class) {
            (1, EffectClass::Workspace) => verdicts[1],
            (2, _) => verdicts[2],
            (3, _) => verdicts[3],
            _ => verdicts[0],
        };
        let plan = Plan { summary: "x".to_owned(), resources: Vec::new(), class, diff: None };
        self.add(Event::Judged { action, plan, judgement: judgement(verdict) })?;
        match (verdict, &approval) {
            (Verdict::Deny, _) => return self.add(Event::Denied { call, reason: "no".to_owned() }),
            (Verdict::AskBeforeRun, Some(approval)) if !approval.granted => {
                return self.add(Event::Denied { call, reason: "they said no".to_owned() });
            }
            (Verdict::AskBeforeRun, None) => {
                return self.add(Event::ApprovalRequested { call, hash: Hash::ZERO, expires_ms: 0 });
            }
            _ => {}
        }
        self.add(Event::ActIntent { call: call.clone(), class, key: None, tier: Tier::Internal, attempt })?;
        if self.chance(15) {
            return self.die();
        }
        let is_error = self.chance(20);
        let changes = class == EffectClass::Workspace && !self.chance(30);
        self.add(Event::ActResult(result(call, attempt, is_error, changes)))
    }

    fn settle(
        &mut self,
        action: Action,
        result: &ActResult,
        hold: bool,
        approval: Option<Approval>,
    ) -> Result<(), String> {
        let call = action.call;
        match approval {
            None if hold => self.add(Event::ApprovalRequested { call, hash: result.diff.hash(), expires_ms: 0 }),
            Some(approval) if hold && !approval.granted => {
                self.add(Event::Discarded { call, reason: "they said no".to_owned() })
            }
            _ if self.chance(5) => self.add(Event::Discarded { call, reason: "it could not be merged".to_owned() }),
            _ => {
                let merged = result.diff.changes.iter().map(|change| change.path.clone()).collect();
                self.add(Event::Merged { call, report: MergeReport { merged, conflicts: Vec::new() } })
            }
        }
    }

    fn wait(&mut self, on: WaitingOn) -> Result<bool, String> {
        self.add(Event::Waiting { on: on.clone() })?;
        if self.chance(20) {
            self.die()?;
            return Ok(true);
        }
        match on {
            WaitingOn::Approval { call } => {
                let granted = !self.chance(40);
                let approval = Approval { hash: Hash::ZERO, granted, who: "test".to_owned(), why: String::new() };
                self.add(Event::ApprovalDecided { call, approval })?;
            }
            WaitingOn::Resolution { call } => {
                let decisions = [Resolution::Done, Resolution::Failed, Resolution::Repeat];
                let decision = decisions[self.below(3)];
                self.add(Event::Resolved { call, decision, who: "test".to_owned() })?;
            }
            WaitingOn::Message => {
                if self.messages >= MESSAGES_MAX {
                    return Ok(false);
                }
                self.messages += 1;
                let ext_id = self.messages.to_string();
                let inbound = Inbound { source: "test".to_owned(), ext_id, text: "And now?".to_owned() };
                self.add(Event::TakenOver { driver: DriverId::generate([8; 8]) })?;
                self.add(Event::Said { inbound })?;
            }
            WaitingOn::Resume(_) => {}
        }
        Ok(true)
    }

    /// The next choice, below `end`; 0 when there are none left.
    fn below(&mut self, end: usize) -> usize {
        self.choices.next().map_or(0, |choice| usize::from(*choice) % end)
    }

    fn chance(&mut self, percent: u8) -> bool {
        self.choices.next().is_some_and(|choice| u16::from(*choice) * 100 < u16::from(percent) * 256)
    }
}

fn judgement(verdict: Verdict) -> Judgement {
    Judgement {
        verdict,
        rule: "chance".to_owned(),
        reason: "because".to_owned(),
        policy_hash: Hash::ZERO,
        capability: None,
        tainted: false,
    }
}

fn result(call: CallId, attempt: u32, is_error: bool, changes: bool) -> ActResult {
    let path = format!("{call}.txt");
    let change = Change { path, old: Entry::Absent, new: Entry::File { hash: Hash::ZERO, bytes: 0, mode: 0o644 } };
    let changes = if changes { vec![change] } else { Vec::new() };
    ActResult {
        call,
        attempt,
        is_error,
        exit: None,
        shown: Hash::of(b"shown"),
        whole: None,
        wall_ms: 1,
        receipt: None,
        diff: LayerDiff { changes, ..LayerDiff::default() },
        kept: Vec::new(),
    }
}

/// A run of this machine with nothing special about it.
pub fn accepted(machine: &str, text: &str, conversation: bool) -> Accepted {
    use homarus_contract::{
        event::{ApprovalsMode, Profile},
        ids::RunId,
    };
    let run = RunId::generate(0, [0; 5]);
    Accepted {
        inbound: Inbound { source: "test".to_owned(), ext_id: run.to_string(), text: text.to_owned() },
        run,
        machine: machine.to_owned(),
        workspace: "/nowhere".into(),
        agent: None,
        models: vec![
            ModelRef { provider: "a".to_owned(), model: "x".to_owned() },
            ModelRef { provider: "b".to_owned(), model: "y".to_owned() },
        ],
        models_why: String::new(),
        answer_ms_max: 900_000,
        profile: Profile {
            grants: Vec::new(),
            rules: String::new(),
            approvals: ApprovalsMode::Ask,
            tier: Tier::Internal,
        },
        budget: Budget::default(),
        chosen: None,
        conversation,
        system: Hash::ZERO,
        tools: Hash::ZERO,
        orientation: Hash::ZERO,
        homarus_version: "test".to_owned(),
    }
}
