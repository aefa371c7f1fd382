//! The machine against hand-written histories: no driver, no journal, no model.

use homarus_contract::{
    action::{Action, EffectClass, Plan, Resource, Tier},
    budget::{Amount, Budget},
    event::{
        Accepted, ActResult, ApprovalsMode, Event, FinishStatus, Inbound, Judgement, Profile, PromptParts, Resolution,
        WaitingOn,
    },
    gate::{Approval, Verdict},
    ids::{CallId, Hash, RunId},
    machine::{Command, Machine},
    message::{Block, StopReason, ToolCall, Usage},
    model::{ModelErrorClass, ModelRef},
    sandbox::{Change, Entry, LayerDiff, MergeReport},
};

use crate::{Agent, State};

mod nudges;

struct History {
    state: State,
}

impl History {
    fn new() -> Self {
        let mut history = Self { state: State::default() };
        history.add(Event::Accepted(accepted()));
        history
    }

    fn add(&mut self, event: Event) -> &mut Self {
        Agent.apply(&mut self.state, &event);
        self
    }

    fn next(&self) -> Vec<Command> {
        let commands = Agent.next(&self.state);
        assert_eq!(commands, Agent.next(&self.state), "the same state gives the same answer");
        commands
    }

    fn only(&self) -> Command {
        let mut commands = self.next();
        assert_eq!(commands.len(), 1, "{commands:?}");
        commands.remove(0)
    }

    fn intent(&mut self, step: u32, attempt: u32) -> &mut Self {
        let (prompt, reserved) = (PromptParts::default(), Amount::default());
        self.add(Event::ModelIntent { step, attempt, prompt, model: model("a/x"), reserved })
    }

    fn text(&mut self, step: u32, text: &str) -> &mut Self {
        self.add(Event::BlockDone { step, block: Block::Text { text: text.to_owned() }, partial: false })
    }

    fn call(&mut self, step: u32, index: u32, name: &str) -> &mut Self {
        let call = CallId::new(step, index);
        let (provider_id, arguments) = (format!("id-{call}"), "{}".to_owned());
        let block = Block::ToolCall(ToolCall { call, provider_id, name: name.to_owned(), arguments });
        self.add(Event::BlockDone { step, block, partial: false })
    }

    fn closed(&mut self, step: u32, stop: StopReason) -> &mut Self {
        let (usage, served_by) = (Usage::default(), model("a/x"));
        self.add(Event::ModelResult { step, stop, usage, served_by, cost: Some(0), wall_ms: 10 })
    }

    fn judged(&mut self, step: u32, index: u32, class: EffectClass, verdict: Verdict) -> &mut Self {
        let call = CallId::new(step, index);
        let action = Action { call, tool: "t".to_owned(), arguments: "{}".to_owned() };
        let resources = vec![Resource { verb: "shell:run".to_owned(), target: "x".to_owned() }];
        let plan = Plan { summary: "x".to_owned(), resources, class, diff: None };
        let judgement = Judgement {
            verdict,
            rule: "r".to_owned(),
            reason: "because".to_owned(),
            policy_hash: Hash::ZERO,
            capability: None,
            tainted: false,
        };
        self.add(Event::Judged { action, plan, judgement })
    }

    fn started(&mut self, step: u32, index: u32, class: EffectClass, attempt: u32) -> &mut Self {
        let call = CallId::new(step, index);
        self.add(Event::ActIntent { call, class, key: None, tier: Tier::Internal, attempt })
    }

    fn result(&mut self, step: u32, index: u32, changed: bool) -> &mut Self {
        self.ended(step, index, changed, false)
    }

    fn ended(&mut self, step: u32, index: u32, changed: bool, is_error: bool) -> &mut Self {
        let file = Entry::File { hash: Hash::ZERO, bytes: 1, mode: 0o644 };
        self.ended_with(step, index, changed.then_some(("a", file)), is_error)
    }

    /// What stands at the path now, where nothing was before.
    fn ended_with(&mut self, step: u32, index: u32, changed: Option<(&str, Entry)>, is_error: bool) -> &mut Self {
        let change = |(path, new): (&str, Entry)| Change { path: path.to_owned(), old: Entry::Absent, new };
        let changes = changed.map(change).into_iter().collect();
        self.add(Event::ActResult(ActResult {
            kept: Vec::new(),
            call: CallId::new(step, index),
            attempt: 1,
            is_error,
            exit: None,
            shown: Hash::ZERO,
            whole: None,
            wall_ms: 5,
            receipt: None,
            diff: LayerDiff { changes, ..LayerDiff::default() },
        }))
    }

    fn failed(&mut self, model_name: &str, class: ModelErrorClass, retry_after_ms: Option<u64>) -> &mut Self {
        let message = "no".to_owned();
        self.add(Event::ModelFailed { step: 1, model: model(model_name), class, message, retry_after_ms, wall_ms: 20 })
    }
}

pub(crate) fn model(text: &str) -> ModelRef {
    text.parse().unwrap()
}

pub(crate) fn accepted() -> Accepted {
    Accepted {
        run: RunId::parse("r1").unwrap(),
        inbound: Inbound { source: "test".to_owned(), ext_id: "1".to_owned(), text: "do it".to_owned() },
        machine: "agent".to_owned(),
        workspace: "/w".into(),
        agent: None,
        models: vec![model("a/x"), model("b/y")],
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
        conversation: false,
        system: Hash::ZERO,
        tools: Hash::ZERO,
        orientation: Hash::ZERO,
        homarus_version: "0".to_owned(),
    }
}

fn status_of(command: &Command) -> Option<FinishStatus> {
    match command {
        Command::Finish { status, .. } => Some(*status),
        _ => None,
    }
}

fn asks(command: &Command) -> Option<(u32, u32, String, u64)> {
    match command {
        Command::CallModel { step, attempt, model, backoff_ms, .. } => {
            Some((*step, *attempt, model.to_string(), *backoff_ms))
        }
        _ => None,
    }
}

fn call_of(command: &Command) -> Option<(String, u32)> {
    match command {
        Command::Act { action, attempt, .. } => Some((action.call.to_string(), *attempt)),
        _ => None,
    }
}

#[test]
fn a_text_answer_ends_the_run() {
    let mut history = History::new();
    assert_eq!(asks(&history.only()), Some((1, 1, "a/x".to_owned(), 0)));
    history.intent(1, 1).text(1, "done").closed(1, StopReason::EndTurn);
    assert_eq!(history.only(), Command::Finish { status: FinishStatus::Completed, summary: "done".to_owned() });
}

#[test]
fn a_call_is_run_settled_and_told() {
    let mut history = History::new();
    history.intent(1, 1).call(1, 0, "shell.execute");
    assert_eq!(call_of(&history.only()), Some(("c1.0".to_owned(), 1)), "it may start while the answer streams");
    history.judged(1, 0, EffectClass::Workspace, Verdict::Allow).started(1, 0, EffectClass::Workspace, 1);
    history.closed(1, StopReason::ToolUse).result(1, 0, true);
    let commands = history.next();
    assert!(matches!(&commands[0], Command::Settle { hold: false, .. }), "{commands:?}");
    assert_eq!(asks(&commands[1]), Some((2, 1, "a/x".to_owned(), 0)), "the model is asked while the merge goes on");
    history.add(Event::Merged { call: CallId::new(1, 0), report: MergeReport::default() });
    let Command::CallModel { messages, .. } = history.only() else { panic!("asks") };
    assert_eq!(messages.len(), 3, "request, answer, result");
}

#[test]
fn a_second_call_waits_for_the_merge_of_the_first() {
    let mut history = History::new();
    history.intent(1, 1).call(1, 0, "a").call(1, 1, "b").closed(1, StopReason::ToolUse);
    history.judged(1, 0, EffectClass::Workspace, Verdict::Allow).started(1, 0, EffectClass::Workspace, 1);
    history.result(1, 0, true);
    let commands = history.next();
    assert!(matches!(&commands[0], Command::Settle { hold: false, .. }));
    assert_eq!(call_of(&commands[1]), Some(("c1.1".to_owned(), 1)));
}

#[test]
fn a_held_diff_waits_for_its_answer_and_a_no_throws_it_away() {
    let mut history = History::new();
    history.intent(1, 1).call(1, 0, "a").closed(1, StopReason::ToolUse);
    history.judged(1, 0, EffectClass::Workspace, Verdict::AskBeforeMerge).started(1, 0, EffectClass::Workspace, 1);
    history.result(1, 0, true);
    assert!(matches!(history.only(), Command::Settle { hold: true, approval: None, .. }));
    let call = CallId::new(1, 0);
    history.add(Event::ApprovalRequested { call: call.clone(), hash: Hash::ZERO, expires_ms: 1 });
    assert_eq!(history.only(), Command::Wait { on: WaitingOn::Approval { call: call.clone() } });
    let approval = Approval { hash: Hash::ZERO, granted: false, who: "p".to_owned(), why: "no".to_owned() };
    history.add(Event::ApprovalDecided { call: call.clone(), approval: approval.clone() });
    assert!(matches!(history.only(), Command::Settle { hold: true, approval: Some(given), .. } if given == approval));
    history.add(Event::Discarded { call, reason: "p said no".to_owned() });
    assert_eq!(asks(&history.only()), Some((2, 1, "a/x".to_owned(), 0)));
}

#[test]
fn after_a_kill_each_class_goes_on_as_the_protocol_says() {
    for class in [EffectClass::Read, EffectClass::Keyed, EffectClass::Workspace] {
        let mut history = History::new();
        history.intent(1, 1).call(1, 0, "a").closed(1, StopReason::ToolUse);
        history.judged(1, 0, class, Verdict::Allow).started(1, 0, class, 1);
        assert_eq!(call_of(&history.only()), Some(("c1.0".to_owned(), 2)), "{class:?} runs again");
    }
    let mut history = History::new();
    history.intent(1, 1).call(1, 0, "a").closed(1, StopReason::ToolUse);
    history.judged(1, 0, EffectClass::Unkeyed, Verdict::Allow).started(1, 0, EffectClass::Unkeyed, 1);
    let call = CallId::new(1, 0);
    assert_eq!(history.only(), Command::MarkUnknown { call: call.clone() });
    history.add(Event::OutcomeUnknown { call: call.clone() });
    assert_eq!(history.only(), Command::Wait { on: WaitingOn::Resolution { call: call.clone() } });
    for (decision, again) in [(Resolution::Repeat, true), (Resolution::Done, false), (Resolution::Failed, false)] {
        let mut resolved = History { state: history.state.clone() };
        resolved.add(Event::Resolved { call: call.clone(), decision, who: "p".to_owned() });
        assert_eq!(call_of(&resolved.only()).is_some(), again, "{decision:?}");
    }
}

#[test]
fn an_answer_of_which_nothing_arrived_is_asked_for_again() {
    let mut history = History::new();
    history.intent(1, 1).closed(1, StopReason::Interrupted);
    assert_eq!(asks(&history.only()), Some((1, 2, "a/x".to_owned(), 0)));
}

#[test]
fn a_cut_off_answer_is_kept_and_gone_on_from() {
    let mut history = History::new();
    history.intent(1, 1).text(1, "half").closed(1, StopReason::Interrupted);
    let Command::Nudge { reason, text } = history.only() else { panic!("nudges") };
    history.add(Event::Nudged { reason, text });
    let Command::CallModel { step: 2, messages, .. } = history.only() else { panic!("a new step") };
    assert_eq!(messages.len(), 3, "request, half an answer, nudge");
}

#[test]
fn failures_back_off_then_move_to_the_next_model() {
    use ModelErrorClass::{Auth, BadRequest, RateLimited, Unavailable};
    let mut history = History::new();
    history.intent(1, 1).failed("a/x", Unavailable, None);
    assert_eq!(asks(&history.only()), Some((1, 2, "a/x".to_owned(), 500)));
    history.intent(1, 2).failed("a/x", RateLimited, Some(7_000));
    assert_eq!(asks(&history.only()), Some((1, 3, "a/x".to_owned(), 7_000)), "Retry-After is honoured");
    history.intent(1, 3).failed("a/x", Unavailable, None).intent(1, 4).failed("a/x", Unavailable, None);
    assert_eq!(asks(&history.only()), Some((1, 5, "b/y".to_owned(), 0)));
    history.intent(1, 5).failed("b/y", Auth, None);
    assert_eq!(status_of(&history.only()), Some(FinishStatus::Failed));

    let mut history = History::new();
    history.intent(1, 1).failed("a/x", Auth, None);
    assert_eq!(asks(&history.only()), Some((1, 2, "b/y".to_owned(), 0)), "a refused key is not tried again");

    let mut history = History::new();
    history.intent(1, 1).failed("a/x", BadRequest, None);
    assert_eq!(status_of(&history.only()), Some(FinishStatus::Failed), "a wrong request is wrong everywhere");
}

#[test]
fn limits_and_denials_end_the_run() {
    let mut history = History::new();
    history.add(Event::BoundHit { bound: "steps".to_owned(), limit: 3 });
    assert_eq!(status_of(&history.only()), Some(FinishStatus::OutOfBudget));

    let mut history = History::new();
    for step in 1..=5 {
        history.intent(step, 1).call(step, 0, &format!("t{step}")).closed(step, StopReason::ToolUse);
        history.judged(step, 0, EffectClass::Workspace, Verdict::Deny);
        history.add(Event::Denied { call: CallId::new(step, 0), reason: "no".to_owned() });
    }
    assert_eq!(status_of(&history.only()), Some(FinishStatus::Denied));
}

#[test]
fn a_run_that_was_only_denied_did_not_do_its_job() {
    let mut history = History::new();
    history.intent(1, 1).call(1, 0, "a").closed(1, StopReason::ToolUse);
    history.judged(1, 0, EffectClass::Workspace, Verdict::Deny);
    history.add(Event::Denied { call: CallId::new(1, 0), reason: "no".to_owned() });
    history.intent(2, 1).text(2, "I could not.").closed(2, StopReason::EndTurn);
    assert_eq!(status_of(&history.only()), Some(FinishStatus::Denied));
}

#[test]
fn the_same_call_over_and_over_is_pointed_out() {
    let mut history = History::new();
    for step in 1..=2 {
        history.intent(step, 1).call(step, 0, "same").closed(step, StopReason::ToolUse);
        history.judged(step, 0, EffectClass::Read, Verdict::Allow).started(step, 0, EffectClass::Read, 1);
        history.result(step, 0, false);
    }
    assert!(matches!(history.only(), Command::Nudge { reason, .. } if reason == "repeat"));
}

#[test]
fn a_writer_that_does_not_check_is_told_to_once() {
    let mut history = History::new();
    history.intent(1, 1).call(1, 0, "file.write").closed(1, StopReason::ToolUse);
    history.judged(1, 0, EffectClass::Workspace, Verdict::Allow).started(1, 0, EffectClass::Workspace, 1);
    history.result(1, 0, true).add(Event::Merged { call: CallId::new(1, 0), report: MergeReport::default() });
    history.intent(2, 1).text(2, "done").closed(2, StopReason::EndTurn);
    let Command::Nudge { reason, text } = history.only() else { panic!("nudges") };
    history.add(Event::Nudged { reason, text });
    history.intent(3, 1).text(3, "it is right").closed(3, StopReason::EndTurn);
    assert_eq!(status_of(&history.only()), Some(FinishStatus::Completed));
}

#[test]
fn a_merge_that_was_cut_off_is_done_by_the_next_driver() {
    let mut history = History::new();
    history.intent(1, 1).call(1, 0, "file.write").closed(1, StopReason::ToolUse);
    history.judged(1, 0, EffectClass::Workspace, Verdict::Allow).started(1, 0, EffectClass::Workspace, 1);
    history.result(1, 0, true);
    // The model is asked again while the merge goes on; the kill comes before `Merged`.
    history.intent(2, 1).text(2, "done").closed(2, StopReason::EndTurn);
    assert!(matches!(&history.next()[0], Command::Settle { hold: false, .. }));
    history.add(Event::Merged { call: CallId::new(1, 0), report: MergeReport::default() });
    assert!(matches!(history.only(), Command::Nudge { reason, .. } if reason == "check"));
}

#[test]
fn a_model_the_gate_refuses_is_not_wished_for_again() {
    let mut history = History::new();
    history.failed("a/x", ModelErrorClass::Denied, None);
    assert_eq!(asks(&history.only()), Some((1, 1, "b/y".to_owned(), 0)));
    history.failed("b/y", ModelErrorClass::Denied, None);
    assert_eq!(status_of(&history.only()), Some(FinishStatus::Denied));
}

#[test]
fn an_agent_that_stops_early_is_told_what_is_missing() {
    let mut history = History { state: State::default() };
    let mut accepted = accepted();
    accepted.inbound.text = "Check it with `sh check.sh` and write the result to report.md.".to_owned();
    history.add(Event::Accepted(accepted)).intent(1, 1).text(1, "done").closed(1, StopReason::EndTurn);
    let Command::Nudge { reason, text } = history.only() else { panic!("nudges") };
    assert_eq!(reason, "missing");
    assert!(text.contains("`sh check.sh`") && text.contains("report.md"), "{text}");
}

/// A conversation with one question.
fn conversation() -> History {
    let mut history = History { state: State::default() };
    history.add(Event::Accepted(Accepted { conversation: true, ..accepted() }));
    history
}

fn said(text: &str) -> Event {
    let inbound = Inbound { source: "cli".to_owned(), ext_id: text.to_owned(), text: text.to_owned() };
    Event::Said { inbound }
}

#[test]
fn a_turn_ends_and_the_next_message_begins_another() {
    let mut history = conversation();
    history.intent(1, 1).text(1, "An answer.").closed(1, StopReason::EndTurn);
    let Command::EndTurn { status: FinishStatus::Completed, summary } = history.only() else { panic!() };
    assert_eq!(summary, "An answer.");
    history.add(Event::TurnEnded { status: FinishStatus::Completed, summary });
    assert_eq!(history.only(), Command::Wait { on: WaitingOn::Message });
    history.add(Event::Waiting { on: WaitingOn::Message }).add(said("and now?"));
    let Command::CallModel { step: 2, messages, .. } = history.only() else { panic!() };
    assert_eq!(messages.len(), 3, "{messages:?}");
}

#[test]
fn a_failure_ends_the_turn_and_an_empty_budget_the_run() {
    let mut history = conversation();
    let failed = |step| Event::ModelFailed {
        step,
        model: model("a/x"),
        class: ModelErrorClass::BadRequest,
        message: "no".to_owned(),
        retry_after_ms: None,
        wall_ms: 0,
    };
    history.intent(1, 1).add(failed(1));
    let Command::EndTurn { status: FinishStatus::Failed, summary } = history.only() else { panic!() };
    history.add(Event::TurnEnded { status: FinishStatus::Failed, summary }).add(said("again"));
    let Command::CallModel { step: 2, attempt: 1, .. } = history.only() else { panic!("{:?}", history.only()) };
    history.add(Event::BoundHit { bound: "steps".to_owned(), limit: 1 });
    let Command::Finish { status: FinishStatus::OutOfBudget, .. } = history.only() else { panic!() };
}

#[test]
fn an_answer_with_too_many_calls_ends_the_turn_and_not_the_conversation() {
    let too_many = Event::BoundHit { bound: "calls_per_answer".to_owned(), limit: 32 };
    let mut history = conversation();
    history.intent(1, 1).text(1, "Many.").add(too_many.clone()).closed(1, StopReason::Interrupted);
    let Command::EndTurn { status: FinishStatus::Failed, summary } = history.only() else { panic!() };
    assert!(summary.contains("calls_per_answer (32)"), "{summary}");
    history.add(Event::TurnEnded { status: FinishStatus::Failed, summary }).add(said("one by one"));
    assert_eq!(asks(&history.only()), Some((2, 1, "a/x".to_owned(), 0)));

    let mut history = History::new();
    history.intent(1, 1).text(1, "Many.").add(too_many).closed(1, StopReason::Interrupted);
    assert_eq!(status_of(&history.only()), Some(FinishStatus::OutOfBudget), "a run has nobody to say what now");
}

#[test]
fn stopping_a_turn_lets_its_calls_go_but_not_one_that_may_have_happened() {
    let unkeyed = |attempt| Event::ActIntent {
        call: CallId::new(1, 0),
        class: EffectClass::Unkeyed,
        key: None,
        tier: Tier::Internal,
        attempt,
    };
    let stopped = Event::TurnEnded { status: FinishStatus::Cancelled, summary: String::new() };

    let mut history = conversation();
    history.intent(1, 1).call(1, 0, "shell.execute").call(1, 1, "file.read").closed(1, StopReason::ToolUse);
    history.add(stopped.clone());
    assert_eq!(history.only(), Command::Wait { on: WaitingOn::Message });
    history.add(said("do something else"));
    let Command::CallModel { messages, .. } = history.only() else { panic!() };
    assert_eq!(messages.len(), 5, "the answer, both calls' outcomes, and the message: {messages:?}");

    let mut history = conversation();
    history.intent(1, 1).call(1, 0, "net.send").closed(1, StopReason::ToolUse);
    history.judged(1, 0, EffectClass::Unkeyed, Verdict::Allow).add(unkeyed(1)).add(stopped);
    assert_eq!(history.only(), Command::MarkUnknown { call: CallId::new(1, 0) });
}

#[test]
fn what_was_denied_is_not_asked_for_again() {
    let mut history = History { state: State::default() };
    let mut request = accepted();
    request.inbound.text = "Write the number to out.txt.".to_owned();
    history.add(Event::Accepted(request));
    let call = CallId::new(1, 0);
    let arguments = "{\"path\":\"out.txt\",\"content\":\"1\"}".to_owned();
    let name = "file.write".to_owned();
    let block = Block::ToolCall(ToolCall { call: call.clone(), provider_id: "p".to_owned(), name, arguments });
    history.intent(1, 1).add(Event::BlockDone { step: 1, block, partial: false }).closed(1, StopReason::ToolUse);
    history.judged(1, 0, EffectClass::Workspace, Verdict::Deny);
    history.add(Event::Denied { call, reason: "approvals are off".to_owned() });
    history.intent(2, 1).text(2, "I may not write it.").closed(2, StopReason::EndTurn);
    let Command::Finish { status: FinishStatus::Denied, .. } = history.only() else { panic!("{:?}", history.only()) };
}
