//! What models behind compatible servers reasoned, in the two forms such servers send it in and want it back: as text in
//! `reasoning_content` (DeepSeek, Kimi, and who else serves such models), or as a list in `reasoning_details`, parts of
//! which are sealed (OpenRouter). Several refuse an answer with calls that has lost it.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::turns::Part;

/// Fields of an assistant message. Only what a server sent goes back to it.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Reasoning {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    reasoning_content: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    reasoning_details: Vec<Value>,
}

impl Reasoning {
    /// What was recorded with an answer of the past. What another format recorded says nothing here.
    pub(crate) fn of(parts: &[Part]) -> Self {
        let mut whole = Self::default();
        for part in parts {
            if let Part::Thought(json) = part {
                let Self { reasoning_content, reasoning_details } = serde_json::from_str(json).unwrap_or_default();
                whole.take_in(Some(reasoning_content), Some(reasoning_details));
            }
        }
        whole
    }

    /// Takes in a piece of the stream.
    pub(crate) fn take_in(&mut self, content: Option<String>, details: Option<Vec<Value>>) {
        self.reasoning_content.push_str(&content.unwrap_or_default());
        for piece in details.into_iter().flatten() {
            match (self.reasoning_details.last_mut(), piece) {
                (Some(Value::Object(last)), Value::Object(piece)) if goes_on(last, &piece) => join(last, piece),
                (_, piece) => self.reasoning_details.push(piece),
            }
        }
    }

    /// What has come so far, as it is recorded; nothing is left.
    pub(crate) fn take(&mut self) -> Option<String> {
        let taken = std::mem::take(self);
        (taken != Self::default()).then(|| serde_json::to_string(&taken).ok()).flatten()
    }
}

/// The fields of which a piece holds a part.
const TEXTS: [&str; 2] = ["text", "summary"];

/// Whether a piece is more of the same entry: text comes in many, what is sealed in one.
fn goes_on(last: &Map<String, Value>, piece: &Map<String, Value>) -> bool {
    let is_same = |field: &str| last.get(field) == piece.get(field);
    let is_text = TEXTS.iter().any(|field| last.get(*field).is_some_and(Value::is_string));
    is_text && is_same("type") && is_same("index")
}

fn join(last: &mut Map<String, Value>, piece: Map<String, Value>) {
    for (field, value) in piece {
        match (last.get_mut(&field), value) {
            (Some(Value::String(text)), Value::String(more)) if TEXTS.contains(&field.as_str()) => text.push_str(&more),
            (_, Value::Null) => {}
            (_, value) => {
                last.insert(field, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pieces_make_up_whole_entries() {
        let mut reasoning = Reasoning::default();
        let text = |text: &str| json!({"type": "reasoning.text", "index": 0, "text": text, "signature": null});
        for pieces in [
            json!([text("I "), text("weigh")]),
            json!([{"type": "reasoning.text", "index": 0, "text": " it.", "signature": "s"}]),
            json!([{"type": "reasoning.encrypted", "index": 0, "data": "x"}]),
            json!([{"type": "reasoning.encrypted", "index": 0, "data": "y"}]),
        ] {
            reasoning.take_in(None, serde_json::from_value(pieces).unwrap());
        }
        reasoning.take_in(Some("hm".to_owned()), None);
        let recorded = reasoning.take().unwrap();
        assert_eq!(reasoning.take(), None);
        let expected = json!({"reasoning_content": "hm", "reasoning_details": [
            {"type": "reasoning.text", "index": 0, "text": "I weigh it.", "signature": "s"},
            {"type": "reasoning.encrypted", "index": 0, "data": "x"},
            {"type": "reasoning.encrypted", "index": 0, "data": "y"},
        ]});
        assert_eq!(serde_json::from_str::<Value>(&recorded).unwrap(), expected);
        let again = Reasoning::of(&[Part::Thought(recorded), Part::Text("x".to_owned())]);
        assert_eq!(serde_json::to_value(again).unwrap(), expected);
        let foreign = Part::Thought(r#"{"type": "thinking", "signature": "s"}"#.to_owned());
        assert_eq!(Reasoning::of(&[foreign]), Reasoning::default());
    }
}
