//! The agent machine against histories by chance.

use std::cell::RefCell;

use homarus_agent::{Agent, one_call};
use homarus_contract::machine::{Command, Machine};
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
    let Course { events, kills, unknown, merges, is_finished } = total;
    assert!(events > 10 * thousand && kills > thousand && unknown > 50 && merges > 100 && is_finished, "{total:?}");
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

/// The simple model sees what a machine must not do.
#[test]
fn a_machine_that_forgets_is_found_out() {
    /// As the agent, but what a call gave is lost on it.
    struct Forgetful;
    impl Machine for Forgetful {
        type State = homarus_agent::State;

        fn knows(&self, machine: &str) -> bool {
            Agent.knows(machine)
        }

        fn apply(&self, state: &mut Self::State, event: &homarus_contract::event::Event) {
            if event.kind() != "act_result" {
                Agent.apply(state, event);
            }
        }

        fn next(&self, state: &Self::State) -> Vec<Command> {
            Agent.next(state)
        }
    }
    let choices: Vec<u8> = (0..200).map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let found = (0..50).find_map(|skip| live(&Forgetful, accepted("agent", "x", false), &choices[skip..]).err());
    let found = found.expect("a call is wanted again");
    assert!(found.contains("is answered, and wanted again"), "{found}");
}
