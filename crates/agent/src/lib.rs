//! The agent: a machine that turns a request into model calls and tool calls until it is done.
//!
//! The machine is pure: no clock, no chance, no I/O. Its whole state is the fold of a run's events, so that a run
//! goes on after a kill exactly as it would have gone on without one.

pub mod folder;
pub mod one_call;
pub mod prompt;
pub mod skill;
pub mod state;

mod next;
mod nudge;
mod order;
mod remaining;
pub mod seen;
mod turn;

use homarus_contract::{
    event::Event,
    machine::{Command, Machine},
};

pub use state::State;

/// The name of this machine in [`homarus_contract::event::Accepted::machine`].
pub const NAME: &str = "agent";

/// The machine [`NAME`], and [`one_call::MACHINE`].
#[derive(Debug, Clone, Copy, Default)]
pub struct Agent;

impl Machine for Agent {
    type State = State;

    fn knows(&self, machine: &str) -> bool {
        machine == NAME || machine == one_call::MACHINE
    }

    fn apply(&self, state: &mut State, event: &Event) {
        state.apply(event);
    }

    fn next(&self, state: &State) -> Vec<Command> {
        next::next(state)
    }
}

#[cfg(test)]
mod tests;
