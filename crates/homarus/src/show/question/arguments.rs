//! The arguments of a call as they are meant, not as they were written: JSON has escapes in which any text can hide
//! from a reader.

use homarus_contract::text::{bounded, one_line};
use serde_json::Value;

use crate::show::styled::{Line, Look};

/// Values of nested arguments up to this length stand on one line.
const NESTED_CHARS_MAX: usize = 100;

/// How much is shown: of each value, so that a long one hides no other.
pub struct Room {
    pub value_bytes_max: usize,
    pub value_lines_max: usize,
    pub arguments_max: usize,
    /// How to see what is left out of a value.
    pub hint: &'static str,
}

/// A line for each argument; of a longer value further lines, each behind a bar.
pub fn lines(json: &str, room: &Room) -> Vec<Line> {
    let object = match serde_json::from_str(json) {
        Ok(Value::Object(object)) => object,
        Ok(value) => return value_lines(&text_of(&value), room),
        Err(_) => return value_lines(json, room),
    };
    let mut lines = Vec::new();
    for (name, value) in object.iter().take(room.arguments_max) {
        let name = Line::new(Look::BOLD, &format!("{}:", one_line(name, 200)));
        let text = text_of(value);
        if text.contains('\n') || text.len() > room.value_bytes_max {
            lines.push(name);
            lines.extend(value_lines(&text, room));
        } else {
            lines.push(name.and(Look::DIM, &format!(" {text}")));
        }
    }
    let left_out = object.len().saturating_sub(room.arguments_max);
    if left_out > 0 {
        lines.push(Line::plain(&format!("… {left_out} more arguments: `v` shows all")));
    }
    lines
}

fn text_of(value: &Value) -> String {
    let compact = match value {
        Value::String(text) if text.is_empty() => return "\"\"".to_owned(),
        Value::String(text) => return text.clone(),
        other => other.to_string(),
    };
    match compact.chars().count() > NESTED_CHARS_MAX {
        true => serde_json::to_string_pretty(value).unwrap_or(compact),
        false => compact,
    }
}

fn value_lines(text: &str, room: &Room) -> Vec<Line> {
    let text = bounded(text, room.value_bytes_max, room.hint);
    let shown = text.lines().take(room.value_lines_max);
    let mut lines: Vec<Line> = shown.map(|line| Line::new(Look::DIM, &format!("  │ {line}"))).collect();
    let left_out = text.lines().count().saturating_sub(lines.len());
    if left_out > 0 {
        lines.push(Line::plain(&format!("  … {left_out} more lines: `v` shows all")));
    }
    lines
}
