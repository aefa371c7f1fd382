//! The turns of a conversation: what a further message and the end of a turn do to the state.

use std::sync::Arc;

use homarus_contract::{action::EffectClass, machine::PromptMessage, message::Message};

use crate::{
    next::OF_ONE_ANSWER,
    seen::Seen,
    state::{State, Step},
};

impl State {
    /// A further message: what the turn before had seen and was told of does not count for this one.
    pub(crate) fn said(&mut self, text: &str) {
        self.flush_step();
        // A step that failed, or was stopped before its answer began, is not gone on with.
        if !self.step.is_told {
            self.step = Step { number: self.step.number, is_told: true, ..Step::default() };
        }
        self.messages.push(PromptMessage::Ready(Arc::new(Message::User { text: text.to_owned() })));
        self.request = text.to_owned();
        self.seen = Seen::default();
        self.nudges.clear();
        self.waiting = None;
        self.turn_over = false;
        self.bound.take_if(|(bound, _)| bound == OF_ONE_ANSWER);
    }

    /// Calls without an outcome get none any more, but for those of which nobody knows whether they happened.
    pub(crate) fn end_turn(&mut self) {
        self.turn_over = true;
        for call in &mut self.step.calls {
            let may_have_happened = call.intent.is_some_and(|intent| intent.class == EffectClass::Unkeyed);
            if !call.is_answered() && !may_have_happened {
                call.is_stopped = true;
                call.asked = None;
            }
        }
    }
}
