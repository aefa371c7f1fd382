//! The grammar an answer must follow, as Lark text for llguidance.
//!
//! An answer is short text, then at most one tool call, in the form the model was trained on. The
//! name of the call is one of the tools and its arguments follow that tool's schema, so a call is
//! always well-formed. Strings without a bound of their own get one: a small model that starts to
//! repeat itself would otherwise write until its tokens run out.

use homarus_contract::message::ToolDefinition;
use serde_json::{Map, Value, json};

use crate::render::{CALL_CLOSE, CALL_OPEN, call_head, json_string};

/// Bound on a string that its schema leaves open.
const STRING_CHARS_MAX: u64 = 6_000;
/// Bound on a list that its schema leaves open.
const LIST_ITEMS_MAX: u64 = 100;
/// Bounds on the text of an answer: the stretches between `<` signs, and how many of them.
const TEXT_CHARS_MAX: u32 = 2_000;
const TEXT_PARTS_MAX: u32 = 60;
/// A schema deeper than this is refused.
const SCHEMA_DEPTH_MAX: usize = 24;

/// The grammar for an answer that may call one of `tools`. Errors name the tool and what is wrong.
pub fn answer(tools: &[ToolDefinition]) -> Result<String, String> {
    let names: Vec<String> = (0..tools.len()).map(|index| format!("call_{index}")).collect();
    // No text may begin to look like a call: the words of the mark belong to the grammar alone.
    // Text comes in two lexemes because the lexer looks one byte ahead and never goes back.
    let mut lark = format!("start: text | text call | call\ntext: part{{1,{TEXT_PARTS_MAX}}}\npart: WORDS | LESS\n");
    lark.push_str(&format!("WORDS: /[^<]{{1,{TEXT_CHARS_MAX}}}/\nLESS: /<[^t]/\n"));
    lark.push_str(&format!("call: {} ( {} ) {}\n", json_string(CALL_OPEN), names.join(" | "), json_string(&format!("}}{CALL_CLOSE}"))));
    for (index, tool) in tools.iter().enumerate() {
        let schema = bounded_schema(tool)?;
        lark.push_str(&format!("call_{index}: {} args_{index}\nargs_{index}: %json {schema}\n", json_string(&call_head(&tool.name))));
    }
    Ok(lark)
}

fn bounded_schema(tool: &ToolDefinition) -> Result<Value, String> {
    let mut schema: Value =
        serde_json::from_str(&tool.schema).map_err(|error| format!("the schema of tool `{}` is not JSON: {error}", tool.name))?;
    bound(&mut schema, SCHEMA_DEPTH_MAX).map_err(|()| format!("the schema of tool `{}` is nested too deeply", tool.name))?;
    let Value::Object(object) = &mut schema else {
        return Err(format!("the schema of tool `{}` is not an object", tool.name));
    };
    // One spelling, the one Python's json module writes, which is what models have seen most.
    object.insert("x-guidance".into(), json!({"whitespace_flexible": false, "item_separator": ", ", "key_separator": ": "}));
    Ok(schema)
}

/// Puts bounds on strings and lists that have none, and closes objects that say nothing of other keys.
fn bound(schema: &mut Value, depth: usize) -> Result<(), ()> {
    let depth = depth.checked_sub(1).ok_or(())?;
    match schema {
        Value::Object(object) => {
            match object.get("type").and_then(Value::as_str) {
                Some("string") => default_to(object, "maxLength", STRING_CHARS_MAX, &["enum", "const", "pattern", "format"]),
                Some("array") => default_to(object, "maxItems", LIST_ITEMS_MAX, &[]),
                Some("object") if object.contains_key("properties") => {
                    object.entry("additionalProperties").or_insert(Value::Bool(false));
                }
                _ => {}
            }
            object.values_mut().try_for_each(|value| bound(value, depth))
        }
        Value::Array(values) => values.iter_mut().try_for_each(|value| bound(value, depth)),
        _ => Ok(()),
    }
}

fn default_to(object: &mut Map<String, Value>, key: &str, value: u64, unless: &[&str]) {
    if !unless.iter().any(|other| object.contains_key(*other)) {
        object.entry(key).or_insert(value.into());
    }
}

#[cfg(test)]
mod tests {
    use llguidance::{Matcher, ParserFactory, api::TopLevelGrammar};
    use toktrie::ApproximateTokEnv;

    use super::*;

    fn tools() -> Vec<ToolDefinition> {
        let read = r#"{"type":"object","properties":{"path":{"type":"string"},"lines":{"type":"integer","minimum":1}},"required":["path"]}"#;
        let run = r#"{"type":"object","properties":{"command":{"type":"string","maxLength":5}},"required":["command"]}"#;
        [("file.read", read), ("shell.execute", run)]
            .map(|(name, schema)| ToolDefinition { name: name.into(), description: String::new(), schema: schema.into() })
            .into()
    }

    /// Whether the grammar takes all of `answer` and may end there.
    fn accepts(answer: &str) -> bool {
        let env = ApproximateTokEnv::single_byte_env();
        let factory = ParserFactory::new_simple(&env).expect("a factory");
        let grammar = TopLevelGrammar::from_lark(super::answer(&tools()).expect("a grammar"));
        let mut matcher = Matcher::new(factory.create_parser(grammar));
        let tokens = env.tokenize_bytes(answer.as_bytes());
        let taken = matcher.try_consume_tokens(&tokens);
        assert!(!matcher.is_error() || taken.is_err(), "{:?}", matcher.get_error());
        taken.is_ok_and(|count| count == tokens.len()) && matcher.is_accepting().unwrap_or(true)
    }

    #[test]
    fn answers() {
        let check = |answer: &str, expected: bool| assert_eq!(accepts(answer), expected, "{answer}");
        check("Done: 3 < 4, and x <= y.", true);
        check("<tool_call>\n{\"name\": \"file.read\", \"arguments\": {\"path\": \"a\"}}\n</tool_call>", true);
        check("I look.\n<tool_call>\n{\"name\": \"file.read\", \"arguments\": {\"path\": \"a\", \"lines\": 3}}\n</tool_call>", true);
        check("<tool_call>\n{\"name\": \"file.read\", \"arguments\": {}}\n</tool_call>", false);
        check("<tool_call>\n{\"name\": \"file.read\", \"arguments\": {\"path\": \"a\", \"lines\": 0}}\n</tool_call>", false);
        check("<tool_call>\n{\"name\": \"file.read\", \"arguments\": {\"path\": \"a\", \"other\": 0}}\n</tool_call>", false);
        check("<tool_call>\n{\"name\": \"rm\", \"arguments\": {}}\n</tool_call>", false);
        check("<tool_call>\n{\"name\": \"shell.execute\", \"arguments\": {\"command\": \"12345\"}}\n</tool_call>", true);
        check("<tool_call>\n{\"name\": \"shell.execute\", \"arguments\": {\"command\": \"123456\"}}\n</tool_call>", false);
        check("I look.\n<tool_call>\n", false);
        check("", false);
    }

    #[test]
    fn open_strings_and_lists_are_bounded() {
        let mut schema = json!({"type": "object", "properties": {
            "a": {"type": "string"}, "b": {"type": "string", "enum": ["x"]}, "c": {"type": "array", "items": {"type": "string", "maxLength": 2}}}});
        bound(&mut schema, SCHEMA_DEPTH_MAX).expect("not deep");
        assert_eq!(schema["properties"]["a"]["maxLength"], STRING_CHARS_MAX);
        assert_eq!(schema["properties"]["b"].get("maxLength"), None);
        assert_eq!(schema["properties"]["c"]["maxItems"], LIST_ITEMS_MAX);
        assert_eq!(schema["properties"]["c"]["items"]["maxLength"], 2);
        assert_eq!(schema["additionalProperties"], false);
    }

    #[test]
    fn a_bad_schema_is_named() {
        let bad = |schema: &str| answer(&[ToolDefinition { name: "x.y".into(), description: String::new(), schema: schema.into() }]).unwrap_err();
        assert!(bad("{").contains("`x.y` is not JSON"));
        assert!(bad("3").contains("is not an object"));
        let deep = format!("{}1{}", "{\"a\":".repeat(40), "}".repeat(40));
        assert!(bad(&deep).contains("nested too deeply"));
    }
}
