//! Notices when a model repeats itself without end, which small models do when decoded greedily: a phrase
//! within an answer, or the same call again and again.

use homarus_contract::message::Message;

use crate::render;

/// The longest phrase, in tokens, whose repetition is looked for.
const PERIOD_MAX: usize = 96;
/// How often a phrase must have come in a row: a short one, which may be a table's, and a long one.
const ROUNDS_MIN: usize = 5;
const ROUNDS_OF_LONG_MIN: usize = 3;
const LONG_FROM: usize = 16;
/// How many tokens that must have cost.
const TOKENS_MIN: usize = 40;

/// The token that would go on with the loop `tokens` is in, if it is in one.
pub fn next_of_loop<T: Copy + PartialEq>(tokens: &[T]) -> Option<T> {
    let longest = PERIOD_MAX.min(tokens.len() / ROUNDS_OF_LONG_MIN);
    let period = (1..=longest).find(|period| {
        let rounds = if *period < LONG_FROM { ROUNDS_MIN } else { ROUNDS_OF_LONG_MIN };
        let span = (period * rounds).max(TOKENS_MIN);
        tokens.len() >= span + period && {
            let tail = &tokens[tokens.len() - span..];
            let before = &tokens[tokens.len() - span - period..tokens.len() - period];
            tail == before
        }
    })?;
    tokens.get(tokens.len() - period).copied()
}

/// Whether a JSON text that is being written ends inside a string, where a quotation mark would end it.
pub fn ends_in_string(json: &[u8]) -> bool {
    let (mut in_string, mut escaped) = (false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ => {}
        }
    }
    in_string && !escaped
}

/// What each further time a call was made takes from the likelihood of making it once more, in logits.
const PENALTY_PER_TIME: f32 = 2.0;

/// The calls and answers of a conversation, each with how often it was made.
#[derive(Default)]
pub struct Earlier(Vec<(String, u16)>);

impl Earlier {
    pub fn of(messages: &[Message]) -> Self {
        let mut earlier = Self::default();
        for text in messages.iter().flat_map(render::calls) {
            // An answer was not good enough if the conversation went on; a call may be made again after a change.
            let weight = if text.starts_with(&render::call_head(render::ANSWER)) { 2 } else { 1 };
            match earlier.0.iter_mut().find(|(call, _)| *call == text) {
                Some((_, times)) => *times = times.saturating_add(weight),
                None => earlier.0.push((text, weight)),
            }
        }
        earlier
    }

    /// What speaks against going on with `next` when `made` is there: it would be the same call as before.
    /// Making one twice is free, since a check is made again after a change.
    pub fn penalty(&self, made: &[u8], next: &[u8]) -> f32 {
        let again = |call: &[u8]| call.strip_prefix(made).is_some_and(|rest| rest.starts_with(next));
        let times = self.0.iter().filter(|(call, _)| again(call.as_bytes())).map(|(_, times)| *times).max();
        f32::from(times.unwrap_or(0).saturating_sub(1)) * PENALTY_PER_TIME
    }
}

#[cfg(test)]
mod tests {
    use homarus_contract::{
        ids::CallId,
        message::{Block, ToolCall},
    };

    use super::*;

    #[test]
    fn a_call_is_less_likely_each_time_it_was_made() {
        let made = |path: &str| Message::Assistant {
            blocks: vec![Block::ToolCall(ToolCall {
                call: CallId::new(1, 0),
                provider_id: String::new(),
                name: "file.read".into(),
                arguments: format!("{{\"path\": \"{path}\"}}"),
            })],
        };
        let said = Message::Assistant { blocks: vec![Block::Text { text: "done".into() }] };
        let earlier = Earlier::of(&[made("a"), made("b"), made("a"), said.clone(), made("a")]);
        let penalty = |message: &Message| {
            let call = render::calls(message).remove(0);
            let (made, rest) = call.split_at(call.len() - 4);
            earlier.penalty(made.as_bytes(), &rest.as_bytes()[..2])
        };
        assert_eq!(penalty(&made("a")), 2.0 * PENALTY_PER_TIME);
        assert_eq!(penalty(&made("b")), 0.0, "once more is free");
        assert_eq!(penalty(&made("c")), 0.0);
        assert_eq!(penalty(&said), PENALTY_PER_TIME);
    }

    #[test]
    fn a_loop_is_found_and_its_next_token_named() {
        let long: Vec<u32> = (0..160).map(|n| n % 40).collect();
        assert_eq!(next_of_loop(&long), Some(0), "a long phrase three times over");
        let looped: Vec<u32> = [9, 8].into_iter().chain((0..90).map(|n| n % 7)).collect();
        assert_eq!(next_of_loop(&looped), Some(90 % 7));
        assert_eq!(next_of_loop(&vec![4; 60]), Some(4));
    }

    #[test]
    fn where_a_quotation_mark_ends_a_string() {
        let check = |json: &str, expected: bool| assert_eq!(ends_in_string(json.as_bytes()), expected, "{json}");
        check(r#"{"a": "x"#, true);
        check(r#"{"a": "x\\"#, true);
        check(r#"{"a": "x\"#, false);
        check(r#"{"a": "x\"y"#, true);
        check(r#"{"a": "x", "#, false);
        check("", false);
    }

    #[test]
    fn ordinary_repetition_is_left_alone() {
        assert_eq!(next_of_loop(&(0..300).collect::<Vec<u32>>()), None);
        assert_eq!(next_of_loop(&[4; 30]), None, "thirty blanks are not a loop");
        let table: Vec<u32> = (0..300).map(|n| if n % 10 == 9 { n } else { n % 10 }).collect();
        assert_eq!(next_of_loop(&table), None, "rows that differ in one place");
        assert_eq!(next_of_loop::<u32>(&[]), None);
    }
}
