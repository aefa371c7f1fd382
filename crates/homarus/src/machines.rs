//! All machines as one: a run's first event says which of them folds it.

use homarus_agent::Agent;
use homarus_contract::{
    event::Event,
    machine::{Command, Machine},
};
use homarus_workflow::undo::Undo;

#[derive(Debug, Clone, Copy, Default)]
pub struct Machines;

#[derive(Debug, Clone, Default)]
pub enum State {
    /// Before the first event.
    #[default]
    Empty,
    Agent(Box<homarus_agent::State>),
    Undo(Box<homarus_workflow::undo::State>),
}

impl Machine for Machines {
    type State = State;

    fn knows(&self, machine: &str) -> bool {
        Agent.knows(machine) || Undo.knows(machine)
    }

    fn apply(&self, state: &mut State, event: &Event) {
        if let (State::Empty, Event::Accepted(accepted)) = (&state, event) {
            if Undo.knows(&accepted.machine) {
                *state = State::Undo(Box::default());
            } else if Agent.knows(&accepted.machine) {
                *state = State::Agent(Box::default());
            }
        }
        match state {
            State::Empty => {}
            State::Agent(state) => Agent.apply(state, event),
            State::Undo(state) => Undo.apply(state, event),
        }
    }

    fn next(&self, state: &State) -> Vec<Command> {
        match state {
            State::Empty => Vec::new(),
            State::Agent(state) => Agent.next(state),
            State::Undo(state) => Undo.next(state),
        }
    }
}
