//! What may be asked of a model, and how a run may end, by what has been answered: a model much simpler than any machine.

use std::collections::BTreeSet;

use homarus_contract::{
    budget::Budget,
    event::{Accepted, Event, FinishStatus},
    machine::{Command, PromptMessage},
    message::{Block, Message, StopReason},
    model::ModelRef,
};

#[derive(Debug, Default)]
pub struct Answers {
    /// As the last reconfiguration has them.
    models: Vec<ModelRef>,
    budget: Budget,
    /// The answer that is on its way: its step, and what of it came.
    open: Option<(u32, Vec<Block>)>,
    /// Those that ended, whole or not.
    ended: Vec<(u32, Vec<Block>)>,
    /// The last of them broke off.
    is_cut_off: bool,
    /// Steps in which a model of the order failed or was left out.
    troubled: BTreeSet<u32>,
    /// The limit that was reached.
    bound: Option<u64>,
}

impl Answers {
    /// The limit on answers, if it is reached.
    pub fn steps_are_up(&self) -> Option<u64> {
        (self.ended.len() >= self.budget.steps_max as usize).then(|| u64::from(self.budget.steps_max))
    }

    /// Takes an event in; an error if no driver writes it here.
    pub fn apply(&mut self, event: &Event) -> Result<(), String> {
        match event {
            Event::Accepted(accepted) => (self.models, self.budget) = (accepted.models.clone(), accepted.budget),
            Event::Reconfigured(change) => {
                if self.open.is_some() {
                    return Err("it is reconfigured in the middle of an answer".to_owned());
                }
                if let Some(models) = &change.models {
                    self.models.clone_from(models);
                }
                self.budget = change.budget.unwrap_or(self.budget);
            }
            Event::ModelIntent { step, .. } => self.open = Some((*step, Vec::new())),
            Event::BlockDone { step, block, .. } => match &mut self.open {
                Some((open, blocks)) if open == step => blocks.push(block.clone()),
                _ => return Err(format!("a block of step {step}, of which no answer is on its way")),
            },
            Event::ModelFailed { step, .. } | Event::ModelSkipped { step, .. } => {
                self.open = None;
                self.troubled.insert(*step);
            }
            Event::ModelResult { step, stop, .. } => {
                let Some((_, blocks)) = self.open.take() else {
                    return Err(format!("an end of step {step}, of which no answer is on its way"));
                };
                let is_cut_off = *stop == StopReason::Interrupted;
                // Of which nothing came, it is as if it had not been asked for.
                if !blocks.is_empty() || !is_cut_off {
                    self.ended.push((*step, blocks));
                    self.is_cut_off = is_cut_off;
                }
            }
            Event::BoundHit { limit, .. } => self.bound = Some(*limit),
            _ => {}
        }
        Ok(())
    }

    /// An error if one of these must not be wanted now.
    pub fn check(&self, commands: &[Command]) -> Result<(), String> {
        commands.iter().try_for_each(|command| match command {
            Command::CallModel { step, model, messages, .. } => self.check_question(*step, model, messages),
            Command::EndTurn { status, summary } | Command::Finish { status, summary } => {
                self.check_end(*status, summary)
            }
            _ => Ok(()),
        })
    }

    fn check_question(&self, step: u32, model: &ModelRef, messages: &[PromptMessage]) -> Result<(), String> {
        if self.bound.is_some() {
            return Err("it asks on beyond a limit".to_owned());
        }
        if self.ended.iter().any(|(ended, _)| *ended == step) {
            return Err(format!("step {step} is asked again, and there is an answer"));
        }
        let may_be_any = self.troubled.contains(&step);
        let fits = if may_be_any { self.models.contains(model) } else { self.models.first() == Some(model) };
        if !fits {
            return Err(format!("{model} is asked, and the order is {:?}", self.models));
        }
        let told = messages.iter().filter_map(|message| match message {
            PromptMessage::Ready(message) => match message.as_ref() {
                Message::Assistant { blocks } => Some(blocks),
                _ => None,
            },
            _ => None,
        });
        let came = self.ended.iter().map(|(_, blocks)| blocks).filter(|blocks| !blocks.is_empty());
        if told.eq(came) { Ok(()) } else { Err(format!("the prompt of step {step} does not have what was answered")) }
    }

    fn check_end(&self, status: FinishStatus, summary: &str) -> Result<(), String> {
        let says_limit = || self.bound.is_some_and(|limit| summary.contains(&format!("({limit})")));
        match status {
            FinishStatus::Completed if self.is_cut_off => {
                Err("an answer that broke off is taken for the end".to_owned())
            }
            FinishStatus::OutOfBudget if !says_limit() => Err(format!("no limit was reached that says: {summary}")),
            _ => Ok(()),
        }
    }

    /// An error if this is not how the run is now: models and limits are those of its last change.
    pub fn check_current(&self, now: Option<&Accepted>) -> Result<(), String> {
        match now {
            Some(now) if now.models == self.models && now.budget == self.budget => Ok(()),
            _ => Err(format!("it is {now:?}, and its last change says {:?}, {:?}", self.models, self.budget)),
        }
    }
}
