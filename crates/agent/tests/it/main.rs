//! The agent machine against histories by chance.

use std::cell::RefCell;

use homarus_agent::{Agent, one_call};
use homarus_contract::{
    event::Event,
    ids::Hash,
    machine::{Command, Machine},
    message::StopReason,
};
use homarus_test_kit::histories::{Course, accepted, live};
use proptest::{collection::vec, prelude::*, test_runner::TestRunner};

const CASES: u32 = 2_000;

/// Lives `CASES` runs; what came to pass in them altogether.
fn all(machine: &str, text: &str, conversation: bool) -> Course {
    let total = RefCell::new(Course::default());
    let mut runner = TestRunner::new(ProptestConfig { cases: CASES, failure_persistence: None, ..Default::default() });
    let lived = runner.run(&vec(any::<u8>(), 0..300), |choices| {
        let course = live(&Agent, accepted(machine, text, conversation), &choices).map_err(TestCaseError::fail)?;
        let mut total = total.borrow_mut();
        total.events += course.events;
        total.kills += course.kills;
        total.unknown += course.unknown;
        total.merges += course.merges;
        total.broken += course.broken;
        total.changes += course.changes;
        total.is_finished |= course.is_finished;
        Ok(())
    });
    if let Err(error) = lived {
        panic!("{error}");
    }
    total.into_inner()
}

/// A history that never comes to the hard parts proves nothing.
fn check(total: Course) {
    let thousand = CASES as usize / 2;
    let Course { events, kills, unknown, merges, broken, changes, is_finished } = total;
    assert!(events > 10 * thousand && kills > thousand && unknown > 50 && merges > 100 && is_finished, "{total:?}");
    assert!(broken > 100 && changes > 100, "{total:?}");
}

#[test]
fn an_agent_wants_nothing_twice_whatever_happens() {
    check(all(homarus_agent::NAME, "Do something.", false));
}

#[test]
fn a_conversation_wants_nothing_twice_whatever_happens() {
    let total = all(homarus_agent::NAME, "Do something.", true);
    check(Course { is_finished: true, ..total });
}

#[test]
fn a_call_by_hand_wants_nothing_twice_whatever_happens() {
    let total = all(one_call::MACHINE, &one_call::request("tool", "{\"n\":1}"), false);
    assert!(total.kills > 100 && total.is_finished, "{total:?}");
}

/// The same at each time, for a case of this number.
fn choices(case: u32) -> Vec<u8> {
    (0..7).flat_map(|part: u32| *Hash::of(format!("{case} {part}").as_bytes()).as_bytes()).collect()
}

/// As the agent, but these events are lost on it.
struct Forgetful(fn(&Event) -> bool);

impl Machine for Forgetful {
    type State = homarus_agent::State;

    fn knows(&self, machine: &str) -> bool {
        Agent.knows(machine)
    }

    fn apply(&self, state: &mut Self::State, event: &Event) {
        if !self.0(event) {
            Agent.apply(state, event);
        }
    }

    fn next(&self, state: &Self::State) -> Vec<Command> {
        Agent.next(state)
    }
}

/// The simple models see what a machine must not do.
#[test]
fn a_machine_that_forgets_is_found_out() {
    let check = |forgets: fn(&Event) -> bool, expected: &str| {
        let found: Vec<String> = (0..400)
            .filter_map(|case| live(&Forgetful(forgets), accepted("agent", "x", false), &choices(case)).err())
            .collect();
        assert!(found.iter().any(|error| error.contains(expected)), "{expected}: {found:?}");
    };
    check(|event| event.kind() == "act_result", "is answered, and wanted again");
    let is_broken_part = |event: &Event| matches!(event, Event::BlockDone { partial: true, .. });
    check(is_broken_part, "does not have what was answered");
    check(is_broken_part, "is asked again, and there is an answer");
    check(|event| event.kind() == "reconfigured", "is asked, and the order is");
    check(|event| event.kind() == "bound_hit", "it asks on beyond a limit");
}

/// As the agent, but an answer that broke off is a whole one to it.
struct Content;

impl Machine for Content {
    type State = homarus_agent::State;

    fn knows(&self, machine: &str) -> bool {
        Agent.knows(machine)
    }

    fn apply(&self, state: &mut Self::State, event: &Event) {
        let mut event = event.clone();
        if let Event::ModelResult { stop, .. } = &mut event {
            *stop = StopReason::EndTurn;
        }
        Agent.apply(state, &event);
    }

    fn next(&self, state: &Self::State) -> Vec<Command> {
        Agent.next(state)
    }
}

#[test]
fn a_machine_that_is_content_with_half_an_answer_is_found_out() {
    let found = (0..400).find_map(|case| live(&Content, accepted("agent", "x", false), &choices(case)).err());
    assert!(found.is_some_and(|error| error.contains("is taken for the end")));
}
