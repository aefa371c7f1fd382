//! The conversation in the shape all HTTP providers demand: every tool call is answered, right after
//! the message that made it, and the last word is not the model's.
//!
//! Journals hold less regular conversations: an answer that was interrupted between two calls, a
//! message of a person that came before a result. Providers refuse those, so they are put right here.

use std::{collections::HashSet, sync::Arc};

use homarus_contract::{
    message::{Block, Message},
    model::ModelRef,
};

/// What stands for the result of a call that has none.
const NO_RESULT: &str = "This call was not run: the answer was interrupted before it could be.";
/// What stands where the conversation would begin with the model's own words.
const BEGINNING_LOST: &str = "[The beginning of this conversation was left out.]";
/// What is asked where the conversation would end with the model's own words.
const GO_ON: &str = "Your last message was interrupted. Go on from there.";

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    User {
        text: String,
    },
    /// In the order it was said. At least one part is no thought.
    Assistant(Vec<Part>),
    /// Results of the calls of the turn before, in the order of those calls.
    Results(Vec<CallResult>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    Text(String),
    Call(Call),
    /// Reasoning of the very model that is asked now.
    Thought(String),
}

/// For formats in which a thought stands before what it led to: one at the end led to nothing.
pub(crate) fn without_last_thoughts(mut parts: Vec<Part>) -> Vec<Part> {
    while matches!(parts.last(), Some(Part::Thought(_))) {
        parts.pop();
    }
    parts
}

/// The texts of an answer, then its calls, for formats that keep no order between them.
pub(crate) fn texts_and_calls(parts: Vec<Part>) -> (Vec<String>, Vec<Call>) {
    let (mut texts, mut calls) = (Vec::new(), Vec::new());
    for part in parts {
        match part {
            Part::Text(text) => texts.push(text),
            Part::Call(call) => calls.push(call),
            Part::Thought(_) => {}
        }
    }
    (texts, calls)
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Call {
    /// Unique in the conversation, `[A-Za-z0-9_-]{1,64}`.
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) arguments: String,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct CallResult {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) text: String,
    pub(crate) is_error: bool,
}

/// `model` is the one that is asked: what others thought is left out, since it could not read it.
pub(crate) fn turns(messages: &[Arc<Message>], model: &ModelRef) -> Vec<Turn> {
    let mut turns = Vec::new();
    let mut used_ids = HashSet::new();
    let mut at = 0;
    while at < messages.len() {
        match messages[at].as_ref() {
            Message::User { text } => {
                turns.push(Turn::User { text: text.clone() });
                at += 1;
            }
            // Its call is not in the conversation any more, or it answers twice.
            Message::ToolResult { text, .. } => {
                turns.push(Turn::User { text: format!("[result of an earlier tool call]\n{text}") });
                at += 1;
            }
            Message::Assistant { blocks } => {
                at += 1;
                let end = messages[at..]
                    .iter()
                    .position(|message| matches!(message.as_ref(), Message::Assistant { .. }))
                    .map_or(messages.len(), |offset| at + offset);
                assistant(blocks, &messages[at..end], model, &mut used_ids, &mut turns);
                at = end;
            }
        }
    }
    if matches!(turns.first(), Some(Turn::Assistant(_))) {
        turns.insert(0, Turn::User { text: BEGINNING_LOST.to_owned() });
    }
    if matches!(turns.last(), None | Some(Turn::Assistant(_))) {
        turns.push(Turn::User { text: GO_ON.to_owned() });
    }
    turns
}

/// One answer and what follows it up to the next: its results first, in order, then the rest.
fn assistant(
    blocks: &[Block],
    following: &[Arc<Message>],
    model: &ModelRef,
    used_ids: &mut HashSet<String>,
    turns: &mut Vec<Turn>,
) {
    let mut parts = Vec::new();
    let mut results = Vec::new();
    let mut taken = HashSet::new();
    for block in blocks {
        match block {
            Block::Text { text: piece } if piece.trim().is_empty() => {}
            Block::Text { text } => parts.push(Part::Text(text.clone())),
            Block::Thought(thought) if thought.model == *model => parts.push(Part::Thought(thought.json.clone())),
            Block::Thought(_) => {}
            Block::ToolCall(call) => {
                let id = usable_id(&call.provider_id, call.call.as_str(), used_ids);
                let found = following.iter().enumerate().find_map(|(index, message)| match message.as_ref() {
                    Message::ToolResult { call: answered, text, is_error } if *answered == call.call => {
                        Some((index, text.clone(), *is_error))
                    }
                    _ => None,
                });
                let (text, is_error) = match found {
                    Some((index, text, is_error)) => {
                        taken.insert(index);
                        (text, is_error)
                    }
                    None => (NO_RESULT.to_owned(), true),
                };
                results.push(CallResult { id: id.clone(), name: call.name.clone(), text, is_error });
                parts.push(Part::Call(Call { id, name: call.name.clone(), arguments: call.arguments.clone() }));
            }
        }
    }
    if parts.iter().any(|part| !matches!(part, Part::Thought(_))) {
        turns.push(Turn::Assistant(parts));
    }
    if !results.is_empty() {
        turns.push(Turn::Results(results));
    }
    for (index, message) in following.iter().enumerate() {
        match message.as_ref() {
            Message::User { text } => turns.push(Turn::User { text: text.clone() }),
            Message::ToolResult { text, .. } if !taken.contains(&index) => {
                turns.push(Turn::User { text: format!("[result of an earlier tool call]\n{text}") });
            }
            _ => {}
        }
    }
}

/// The provider's id if every provider takes it and it is not used yet (after a failover the next
/// provider is shown ids the first one made), else one made of ours.
fn usable_id(provider_id: &str, call: &str, used: &mut HashSet<String>) -> String {
    let legal = (1..=64).contains(&provider_id.len())
        && provider_id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    if legal && used.insert(provider_id.to_owned()) {
        return provider_id.to_owned();
    }
    let base = format!("call_{}", call.replace('.', "_"));
    let mut id = base.clone();
    let mut counter = 1;
    while !used.insert(id.clone()) {
        counter += 1;
        id = format!("{base}_{counter}");
    }
    id
}

#[cfg(test)]
mod tests {
    use homarus_contract::{
        ids::CallId,
        message::{Thought, ToolCall},
    };

    use super::*;

    fn user(text: &str) -> Arc<Message> {
        Arc::new(Message::User { text: text.to_owned() })
    }

    fn call(index: u32, id: &str) -> Block {
        Block::ToolCall(ToolCall {
            call: CallId::new(1, index),
            provider_id: id.to_owned(),
            name: "file.read".to_owned(),
            arguments: "{}".to_owned(),
        })
    }

    fn result(index: u32, text: &str) -> Arc<Message> {
        Arc::new(Message::ToolResult { call: CallId::new(1, index), text: text.to_owned(), is_error: false })
    }

    fn assistant(blocks: Vec<Block>) -> Arc<Message> {
        Arc::new(Message::Assistant { blocks })
    }

    fn turns_of(messages: &[Arc<Message>]) -> Vec<Turn> {
        turns(messages, &"p/own".parse().unwrap())
    }

    fn thought(model: &str) -> Block {
        Block::Thought(Thought { model: model.parse().unwrap(), json: format!("{{\"of\":\"{model}\"}}") })
    }

    fn results_of(turn: &Turn) -> Vec<(&str, &str, bool)> {
        match turn {
            Turn::Results(results) => results.iter().map(|r| (r.id.as_str(), r.text.as_str(), r.is_error)).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn results_come_first_and_in_the_order_of_the_calls() {
        let turns = turns_of(&[
            user("go"),
            assistant(vec![call(0, "a"), call(1, "b")]),
            user("hurry"),
            result(1, "two"),
            result(0, "one"),
        ]);
        assert_eq!(results_of(&turns[2]), [("a", "one", false), ("b", "two", false)]);
        assert_eq!(turns[3], Turn::User { text: "hurry".to_owned() });
    }

    #[test]
    fn a_call_without_result_gets_one_that_says_so() {
        let turns = turns_of(&[user("go"), assistant(vec![Block::Text { text: "I wi".to_owned() }, call(0, "a")])]);
        assert_eq!(results_of(&turns[2]), [("a", NO_RESULT, true)]);
        assert_eq!(turns.len(), 3);
    }

    #[test]
    fn the_last_word_is_not_the_models() {
        let turns = turns_of(&[user("go"), assistant(vec![Block::Text { text: "I wi".to_owned() }])]);
        assert_eq!(turns.last(), Some(&Turn::User { text: GO_ON.to_owned() }));
    }

    #[test]
    fn ids_of_other_providers_and_repeated_ones_are_replaced() {
        let turns = turns_of(&[
            user("go"),
            assistant(vec![call(0, "fine-1"), call(1, "fine-1"), call(2, "bad id/é"), call(3, "")]),
        ]);
        let ids: Vec<&str> = results_of(&turns[2]).into_iter().map(|(id, ..)| id).collect();
        assert_eq!(ids, ["fine-1", "call_c1_1", "call_c1_2", "call_c1_3"]);
    }

    #[test]
    fn a_result_without_call_is_kept_as_text() {
        let turns = turns_of(&[user("go"), result(7, "lost")]);
        assert_eq!(turns[1], Turn::User { text: "[result of an earlier tool call]\nlost".to_owned() });
    }

    #[test]
    fn thoughts_go_back_in_their_place_and_only_to_the_model_they_came_from() {
        let text = || Block::Text { text: "I look.".to_owned() };
        let turns = turns_of(&[
            user("go"),
            assistant(vec![
                thought("p/own"),
                thought("p/other"),
                text(),
                thought("p/own"),
                call(0, "a"),
                thought("p/own"),
            ]),
            result(0, "one"),
            assistant(vec![thought("p/own")]),
        ]);
        let Turn::Assistant(parts) = &turns[1] else { panic!("{turns:?}") };
        let kinds: Vec<&str> = parts
            .iter()
            .map(|part| match part {
                Part::Thought(json) if json.contains("p/own") => "own",
                Part::Thought(_) => "other",
                Part::Text(_) => "text",
                Part::Call(_) => "call",
            })
            .collect();
        assert_eq!(kinds, ["own", "text", "own", "call", "own"], "and nothing but thoughts is no answer");
        assert_eq!(without_last_thoughts(parts.clone()), parts[..4]);
        assert_eq!(turns.len(), 3);
    }
}
